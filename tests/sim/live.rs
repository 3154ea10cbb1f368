//! Class live (R16) beside reliable messages: in order and never doubled whatever happens, complete where
//! nothing breaks, and in nobody's way.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self, World,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

/// All are in the tree by then.
const BEGIN: u64 = 14_000;

/// Between two live messages of a source, in milliseconds. The simulated edges have four frames under way
/// at a time, so on a slow channel no more would go than some fifty in a second, of all sources.
const PERIOD: usize = 200;

/// Each source sends live messages, and now and then a reliable one.
fn talk(setup: &mut Setup, sources: &[usize], from_ms: u64, to_ms: u64) {
    for link in &mut setup.links {
        // Wide enough for all of it.
        link.rate = 12_500_000;
    }
    for source in sources {
        for (nth, at) in (from_ms..to_ms).step_by(PERIOD).enumerate() {
            let at = Duration::from_millis(at + *source as u64);
            let publish = |count, bytes, class| Act::Publish { node: *source, count, bytes, class };
            setup.script.push((at, publish(1, 1_000, Class::Live)));
            if nth % 5 == 0 {
                setup.script.push((at, publish(2, 300, Class::Reliable)));
            }
        }
    }
}

/// Runs a world, and asserts that each member got all that each source sent live.
fn assert_complete(setup: &Setup, nodes: usize, sources: &[usize]) {
    let mut world = World::new(setup, false);
    world.run_for(setup.rest);
    assert_eq!(world.violation(), None);
    for node in 0..nodes {
        for source in sources.iter().filter(|source| **source != node) {
            let (got, sent) = world.live(node, *source);
            let skipped = world.stats(node).map(|stats| stats.relay.live_skipped);
            assert!(sent > 0);
            assert_eq!(got, sent, "n{node} of n{source}, seed {}, {skipped:?}", setup.seed);
        }
    }
}

#[test]
fn r16_r17_while_nothing_changes_each_live_frame_crosses_each_edge_once_and_all_get_all() {
    for (seed, shape) in [(1, Shape::Line), (2, Shape::Star), (3, Shape::Random(4))] {
        let mut setup = plan::calm(seed, shape, 12);
        talk(&mut setup, &[0, 5, 7], BEGIN, BEGIN + 5_000);
        setup.rest = Duration::from_secs(25);
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.losses, 0);
        assert_complete(&setup, 12, &[0, 5, 7]);
    }
}

#[test]
fn r3_r16_all_live_messages_arrive_while_the_tree_moves_to_better_channels() {
    for seed in 0..4 {
        let mut setup = plan::calm(seed, Shape::Random(4), 16);
        setup.calm = false;
        let links = setup.links.len();
        for step in 0..20_usize {
            let at = Duration::from_millis(BEGIN + step as u64 * 1_000);
            let link = (step * 7 + usize::try_from(seed).unwrap_or(0)) % links;
            let delay = Duration::from_millis(if step % 3 == 0 { 2 } else { 60 });
            setup.script.push((at, Act::Delay(link, delay)));
        }
        talk(&mut setup, &[0, 3, 9, 15], BEGIN, BEGIN + 22_000);
        setup.rest = Duration::from_secs(45);
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.losses, 0);
        assert_complete(&setup, 16, &[0, 3, 9, 15]);
        let mut world = World::new(&setup, false);
        world.run_for(setup.rest);
        let overlaps = world.trees().filter(|tree| tree.overlap().len() > 0).count();
        assert!(overlaps > 0, "seed {seed}: the tree did not move");
    }
}

#[test]
fn r16_among_members_that_come_go_and_die_live_messages_are_in_order_and_reliable_ones_complete() {
    for seed in 0..12 {
        let mut setup = plan::churn(seed, 20);
        let end = u64::try_from(setup.rest.as_millis()).unwrap_or(u64::MAX);
        talk(&mut setup, &[0, 4, 11], BEGIN, end);
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}
