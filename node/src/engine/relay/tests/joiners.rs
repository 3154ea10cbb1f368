//! Members that come in while everybody talks.

use std::time::Duration;

use arborcast_protocol::id::SeqNo;
use rand::RngExt;

use super::{
    super::Config,
    trees::talk,
    world::{World, random_tree, seeds},
};
use crate::engine::event::Event;

#[test]
fn a_joiner_hears_everything_from_some_message_on() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let first = world.rng.random_range(1..5);
        let tree = random_tree(&mut world.rng, first);
        let mut world = World::with(5000 + seed, first, &tree);
        let mut n = first;
        for _ in 0..4 {
            talk(&mut world, n, 15);
            let time = world.rng.random_range(0..20_000);
            world.run(Duration::from_micros(time));
            world.add(n, Config::default());
            let at = world.rng.random_range(0..n);
            world.link(at, n);
            n += 1;
            let time = world.rng.random_range(0..20_000);
            world.run(Duration::from_micros(time));
            world.roster(&(0..n).collect::<Vec<_>>());
        }
        talk(&mut world, n, 15);
        world.run(Duration::from_secs(20));
        for id in first..n {
            let node = world.node(id);
            assert!(node.relay.is_settled());
            assert_eq!(node.lost, [], "node {id}, seed {seed}");
            let (me, got, before) = (node.member, node.got.clone(), node.missed.clone());
            for source in world.nodes.values().map(|node| node.member).filter(|id| *id != me) {
                let all: Vec<SeqNo> = world
                    .published
                    .keys()
                    .filter(|(from, _)| *from == source)
                    .map(|(_, s)| *s)
                    .collect();
                let heard = got.get(&source).cloned().unwrap_or_default();
                assert!(all.ends_with(&heard), "node {id} hears without a gap (seed {seed})");
                let missed = &all[..all.len() - heard.len()];
                for seq in missed {
                    assert!(
                        before.contains(&(source, *seq)),
                        "node {id} missed {seq} that was sent when it was there (seed {seed})"
                    );
                }
            }
        }
        world.assert_complete(&(0..first).collect::<Vec<_>>());
    }
}

#[test]
fn a_member_behind_a_new_joiner_gets_from_it_what_the_joiner_itself_was_not_owed() {
    // 2 is slow to get what 0 says; its only edge breaks, and all it has then is a fresh joiner.
    let mut world = World::with(6, 3, &[(0, 1), (1, 2)]);
    world.run(Duration::from_millis(100));
    world.cut(1, 2);
    for _ in 0..30 {
        world.publish(0, 1000);
    }
    world.run(Duration::from_millis(500));
    world.add(3, Config::default());
    world.link(1, 3);
    world.run(Duration::from_millis(500));
    world.roster(&[0, 1, 2, 3]);
    world.link(3, 2);
    world.run(Duration::from_secs(5));
    world.assert_complete(&[0, 1, 2]);
    assert_eq!(world.node(3).lost, []);
}

#[test]
fn two_that_are_not_settled_wait_for_one_that_is() {
    let mut world = World::new(7);
    for node in 0..3 {
        world.add(node, Config::default());
    }
    world.link(0, 1);
    world.publish(0, 10);
    world.run(Duration::from_secs(20));
    assert!(world.node(0).got.is_empty() && world.node(1).got.is_empty());
    assert!(world.node(0).dead.is_empty(), "waiting is no fault");
    world.settle(2);
    world.link(1, 2);
    world.roster(&[0, 1, 2]);
    world.run(Duration::from_secs(2));
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn a_member_that_missed_the_last_message_is_told_although_the_source_says_no_more() {
    let mut met = [0; 2];
    for seed in seeds(40) {
        let links = [(0, 1), (1 - seed % 2, 2), (2, 3)];
        let mut world = World::with_past(seed, 4, &links, 0);
        world.publish(0, 100);
        world.run(Duration::from_secs(1));
        // 3 is cut off and out of the roster, so 2 lets go of what 0 says then; 3 is back before the
        // others do, one of them at least.
        world.cut(2, 3);
        world.roster(&[0, 1, 2]);
        world.hear_news();
        world.publish(0, 100);
        let kept = |world: &World, node| world.nodes[&node].relay.stats().store_bytes > 0;
        assert!(world.run_until(|world| kept(world, 0) && kept(world, 2)));
        assert!(world.run_until(|world| !kept(world, 2)));
        match [0, 1].map(|node| kept(&world, node)) {
            [true, _] => met[0] += 1,
            [false, true] => met[1] += 1,
            [false, false] => continue,
        }
        world.link(2, 3);
        world.roster(&[0, 1, 2, 3]);
        world.hear_news();
        world.run(Duration::from_secs(60));
        let lost = &world.node(3).lost;
        let [Event::Lost { from, to, .. }] = lost.as_slice() else {
            panic!("one loss: {lost:?} (seed {seed})")
        };
        assert_eq!((*from, *to), (SeqNo(2), SeqNo(2)));
        for node in 0..4 {
            assert!(!kept(&world, node), "node {node} keeps something (seed {seed})");
        }
    }
    assert!(met.iter().all(|met| *met > 0), "{met:?}: each case comes in some world");
}
