//! Sources that put the tree into their frames (R13): nothing is lost, doubled or out of order for it.

use std::{collections::BTreeSet, time::Duration};

use arborcast::engine::NextHops;
use arborcast_protocol::{id::Class, path::Scope};
use arborcast_tests::sim::{
    self, World,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

/// Each `every`-th member, the first among them, puts the tree into its frames.
pub(super) fn in_band(mut setup: Setup, every: usize) -> Setup {
    for member in setup.members.iter_mut().step_by(every) {
        member.next_hops = NextHops::InBand;
        member.scope = Scope::Tree;
    }
    setup
}

fn publish(setup: &mut Setup, node: usize, at: Duration, count: u32, bytes: usize) {
    setup.script.push((at, Act::Publish { node, count, bytes, class: Class::Reliable }));
}

#[test]
fn r13_each_frame_crosses_each_edge_of_its_tree_once() {
    for every in [1, 3] {
        let mut setup = in_band(plan::calm(3, Shape::Random(4), 12), every);
        for link in &mut setup.links {
            link.rate = 12_500_000;
        }
        for node in 0..12 {
            let at = Duration::from_secs(12) + Duration::from_millis(node as u64 * 40);
            publish(&mut setup, node, at, 1, 10 * 64 * 1024);
            publish(&mut setup, node, at, 20, 100);
        }
        // That each frame crosses each edge exactly once is checked in calm worlds.
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        if every == 1 {
            assert_eq!(summary.in_band, summary.frames, "{summary:?}");
        } else {
            assert!((1..summary.frames).contains(&summary.in_band), "{summary:?}");
        }
    }
}

#[test]
fn r13_nothing_is_lost_or_doubled_among_members_that_come_and_go() {
    let most = std::env::var("ARBORCAST_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..most.unwrap_or(8) {
        for every in [1, 2] {
            let setup = in_band(plan::churn(seed, 30), every);
            let summary = sim::replayed(&setup)
                .unwrap_or_else(|failure| panic!("every {every}. in band: {failure:?}"));
            assert!(summary.in_band > 0 && summary.owed > 100, "seed {seed}: {summary:?}");
        }
    }
}

/// A stream of large and small messages while a member joins, another leaves and a channel becomes
/// bad, so that the tree moves.
fn stream(seed: u64, next_hops: NextHops) -> (World, u64) {
    let mut setup = plan::calm(seed, Shape::Full, 8);
    setup.calm = false;
    setup.rest = Duration::from_secs(40);
    for link in &mut setup.links {
        link.rate = 12_500_000;
    }
    for member in &mut setup.members {
        member.next_hops = next_hops;
    }
    setup.script.retain(|(_, act)| !matches!(act, Act::Start(7)));
    setup.script.push((Duration::from_millis(12_200), Act::Start(7)));
    setup.script.push((Duration::from_millis(13_500), Act::Leave(6)));
    if let Some(leaver) = setup.members.get_mut(6) {
        leaver.stays = false;
    }
    for link in 0..4 {
        let at = Duration::from_millis(12_500 + 700 * link as u64);
        setup.script.push((at, Act::Delay(link, Duration::from_millis(400))));
    }
    for node in 0..6 {
        publish(&mut setup, node, Duration::from_secs(12), 1, 50 * 64 * 1024);
        for at in (12_000..17_000).step_by(50) {
            publish(&mut setup, node, Duration::from_millis(at + node as u64), 1, 80);
        }
    }
    let mut world = World::new(&setup, true);
    world.run_for(Duration::from_secs(12));
    let before = world.invariants.epochs.count;
    world.run_for(setup.rest.saturating_sub(Duration::from_secs(12)));
    let arrived = world.run_until(Duration::from_secs(60), |world| {
        world.model.missing().next().is_none() && world.disagreement().is_none()
    });
    assert!(arrived, "{:?}\n{}", world.violation(), world.legible(60).join("\n"));
    let changes = world.invariants.epochs.count - before;
    (world, changes)
}

#[test]
fn r13_a_join_and_changes_of_the_tree_in_mid_stream_are_no_other_than_in_manner_three() {
    for seed in 0..4 {
        let mut owed = BTreeSet::new();
        for next_hops in [NextHops::Subscribe, NextHops::InBand] {
            let (world, changes) = stream(seed, next_hops);
            assert!(changes >= 3, "the tree moves: {changes}");
            assert_eq!(world.in_band() > 0, next_hops == NextHops::InBand);
            owed.insert(world.model.owed());
        }
        // Six sources to six other members that stay.
        assert_eq!(owed, BTreeSet::from([6 * 6]), "seed {seed}");
    }
}
