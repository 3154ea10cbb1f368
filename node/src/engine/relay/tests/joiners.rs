//! Members that come in while everybody talks.

use std::time::Duration;

use arborcast_protocol::id::SeqNo;
use rand::RngExt;

use super::{
    super::Config,
    trees::talk,
    world::{World, random_tree, seeds},
};

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
