//! Trees that change while everybody talks: nothing is lost, nothing comes twice, nothing is kept.

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::{id::SeqNo, testing};
use rand::{RngExt, seq::IndexedRandom};

use super::{
    trees::talk,
    world::{World, random_tree, seeds},
};
use crate::engine::event::{EdgeId, Event};

/// The nodes on the side of `start`.
fn part(world: &World, start: u64) -> BTreeSet<u64> {
    let mut part = BTreeSet::from([start]);
    loop {
        let before = part.len();
        for link in &world.links {
            let [(a, _), (b, _)] = link.ends;
            if part.contains(&a) || part.contains(&b) {
                part.extend([a, b]);
            }
        }
        if part.len() == before {
            return part;
        }
    }
}

/// Joins all parts by random links.
pub(super) fn reconnect(world: &mut World) {
    let nodes: Vec<u64> = world.nodes.keys().copied().collect();
    loop {
        let inside: Vec<u64> = part(world, nodes[0]).into_iter().collect();
        let outside: Vec<u64> = nodes.iter().filter(|n| !inside.contains(n)).copied().collect();
        if outside.is_empty() {
            return;
        }
        let a = *inside.choose(&mut world.rng).expect("not empty");
        let b = *outside.choose(&mut world.rng).expect("not empty");
        world.link(a, b);
    }
}

fn pause(world: &mut World, most_ms: u64) {
    let time = world.rng.random_range(0..most_ms * 1000);
    world.run(Duration::from_micros(time));
}

/// A link breaks with all that is under way on it; some time later the parts are joined anew.
fn break_and_mend(world: &mut World) {
    let index = world.rng.random_range(0..world.links.len());
    let [(a, _), (b, _)] = world.links[index].ends;
    world.cut(a, b);
    pause(world, 30);
    reconnect(world);
}

/// A new link comes beside the old path, then a link of the cycle is retired.
fn make_before_break(world: &mut World) {
    let nodes: Vec<u64> = world.nodes.keys().copied().collect();
    let (a, b) = (
        *nodes.choose(&mut world.rng).expect("some"),
        *nodes.choose(&mut world.rng).expect("some"),
    );
    let joined = |world: &World, a, b| {
        world.links.iter().any(|link| {
            let [(x, _), (y, _)] = link.ends;
            (x, y) == (a, b) || (x, y) == (b, a)
        })
    };
    if a == b || joined(world, a, b) {
        return;
    }
    world.link(a, b);
    pause(world, 30);
    // Any link but the new one without which all are still joined.
    for index in 0..world.links.len() - 1 {
        let removed = world.links.remove(index);
        let whole = part(world, nodes[0]).len() == nodes.len();
        let [(x, _), (y, _)] = removed.ends;
        world.links.insert(index, removed);
        if whole {
            world.retire(x, y);
            break;
        }
    }
    // Until the retired one is closed.
    world.run(Duration::from_millis(2100));
    assert_eq!(world.links.len(), nodes.len() - 1, "a tree again");
}

#[test]
fn r8_r17_nothing_is_lost_when_links_break_and_others_take_over() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let n = world.rng.random_range(2..8);
        let tree = random_tree(&mut world.rng, n);
        let mut world = World::with(1000 + seed, n, &tree);
        for _ in 0..8 {
            talk(&mut world, n, 10);
            pause(&mut world, 20);
            break_and_mend(&mut world);
        }
        world.run(Duration::from_secs(20));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn r8_r17_nothing_is_lost_when_the_tree_moves() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let n = world.rng.random_range(3..8);
        let tree = random_tree(&mut world.rng, n);
        let mut world = World::with(2000 + seed, n, &tree);
        for _ in 0..6 {
            talk(&mut world, n, 10);
            pause(&mut world, 20);
            make_before_break(&mut world);
        }
        world.run(Duration::from_secs(20));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn receipts_go_on_in_a_cycle_when_one_of_its_edges_is_set_aside() {
    let mut world = World::with(5, 3, &[(0, 1), (1, 2)]);
    world.run(Duration::from_millis(100));
    world.link(0, 2);
    let now = world.now;
    for (node, edge) in world.links[2].ends {
        world.node(node).relay.set_aside(edge, true, now);
    }
    talk(&mut world, 3, 20);
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn r3_while_a_new_edge_is_up_but_never_carries_all_goes_on_over_the_old_one() {
    let mut world = World::with(6, 4, &[(0, 1), (1, 2), (2, 3)]);
    world.run(Duration::from_millis(100));
    // 0-3 is to replace 1-2: its ends have it up, and nothing ever comes on it.
    let now = world.now;
    for (node, peer) in [(0, 3), (3, 0)] {
        let (edge, peer) = (EdgeId(1_000 + node), world.node(peer).member);
        let relay = &mut world.node(node).relay;
        relay.edge_up(edge, peer, now);
        relay.set_aside(edge, true, now);
    }
    for _ in 0..10 {
        talk(&mut world, 4, 10);
        world.run(Duration::from_millis(300));
    }
    world.assert_complete(&[0, 1, 2, 3]);
    // Without the old edges in the way the new one counts like any other, and holds release.
    let now = world.now;
    for node in [0, 3] {
        world.node(node).relay.set_aside(EdgeId(1_000 + node), false, now);
    }
    talk(&mut world, 1, 1);
    world.run(Duration::from_millis(300));
    let sent = world.published.keys().filter(|(source, _)| *source == world.nodes[&0].member);
    let last = sent.map(|(_, seq)| *seq).max().expect("0 has sent");
    assert!(world.nodes[&0].receipt < last, "an edge that is not set aside has a say");
}

#[test]
fn survivors_of_a_death_agree_on_what_the_dead_one_said() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let n = world.rng.random_range(3..8);
        let tree = random_tree(&mut world.rng, n);
        let mut world = World::with(3000 + seed, n, &tree);
        talk(&mut world, n, 60);
        pause(&mut world, 20);
        let dead = world.rng.random_range(0..n);
        world.kill(dead);
        pause(&mut world, 20);
        reconnect(&mut world);
        let living: Vec<u64> = world.nodes.keys().copied().collect();
        world.roster(&living);
        for node in &living {
            world.publish(*node, 100);
        }
        world.run(Duration::from_secs(200));
        let said = testing::member(dead);
        let heard: Vec<Option<Vec<SeqNo>>> =
            living.iter().map(|node| world.node(*node).got.get(&said).cloned()).collect();
        for (node, other) in living.iter().zip(&heard) {
            assert_eq!(other, &heard[0], "node {node} and node {} (seed {seed})", living[0]);
        }
        // What the dead one had queued is gone with it; all else is complete.
        world.published.retain(|(source, _), _| *source != said);
        for node in &living {
            world.node(*node).got.remove(&said);
            world
                .node(*node)
                .lost
                .retain(|lost| !matches!(lost, Event::Lost { flow, .. } if flow.source == said));
        }
        world.assert_complete(&living);
    }
}

#[test]
fn parts_that_went_on_without_each_other_report_what_they_missed() {
    for seed in seeds(20) {
        assert!(meet_again(seed, 0), "this is about losses");
    }
}

/// Two parts go on without each other and meet again: each member gets everything or is told that it
/// lost it. `history_bytes` are kept of what all of a part have. True if anything was lost.
pub(super) fn meet_again(seed: u64, history_bytes: u64) -> bool {
    let mut world = World::with_past(4000 + seed, 4, &[(0, 1), (1, 2), (2, 3)], history_bytes);
    talk(&mut world, 4, 20);
    world.run(Duration::from_secs(2));
    world.cut(1, 2);
    talk(&mut world, 4, 10);
    pause(&mut world, 20);
    world.roster(&[0, 1]);
    world.hear_news();
    world.roster(&[2, 3]);
    talk(&mut world, 4, 20);
    world.run(Duration::from_secs(3));
    world.link(1, 2);
    world.roster(&[0, 1, 2, 3]);
    talk(&mut world, 4, 10);
    world.run(Duration::from_secs(10));
    for node in 0..4 {
        // One more from everybody, so that everybody sees where the others are.
        world.publish(node, 10);
    }
    world.run(Duration::from_secs(10));
    world.assert_empty();
    let mut lost_any = false;
    for (id, node) in &world.nodes {
        for source in world.nodes.values().filter(|other| other.member != node.member) {
            let mut numbers: BTreeSet<SeqNo> = BTreeSet::new();
            for seq in node.got.get(&source.member).into_iter().flatten() {
                assert!(numbers.insert(*seq), "{seq} twice");
            }
            for lost in &node.lost {
                if let Event::Lost { flow, from, to, .. } = lost
                    && flow.source == source.member
                {
                    lost_any = true;
                    for seq in from.0..=to.0 {
                        assert!(numbers.insert(SeqNo(seq)), "{seq} delivered and lost");
                    }
                }
            }
            let sent: BTreeSet<SeqNo> = world
                .published
                .keys()
                .filter(|(from, _)| *from == source.member)
                .map(|(_, seq)| *seq)
                .collect();
            assert_eq!(numbers, sent, "node {id} knows of everything (seed {seed})");
        }
    }
    lost_any
}

#[test]
fn whatever_happens_the_rest_of_the_members_lose_nothing() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let n = world.rng.random_range(2..6);
        let tree = random_tree(&mut world.rng, n);
        let mut world = World::with(6000 + seed, n, &tree);
        let mut last = n;
        // Members 0 and 1 stay; what they say must come through to each other.
        for _ in 0..12 {
            let nodes: Vec<u64> = world.nodes.keys().copied().collect();
            for _ in 0..6 {
                let node = *nodes.choose(&mut world.rng).expect("some");
                let len = if world.rng.random_range(0..8) == 0 { 150_000 } else { 100 };
                world.publish(node, len);
            }
            pause(&mut world, 20);
            match world.rng.random_range(0..5) {
                0 if !world.links.is_empty() => break_and_mend(&mut world),
                1 => make_before_break(&mut world),
                2 if nodes.len() > 2 => {
                    let others: Vec<u64> = nodes.iter().filter(|n| **n > 1).copied().collect();
                    let dead = *others.choose(&mut world.rng).expect("more than two");
                    world.kill(dead);
                    pause(&mut world, 20);
                    reconnect(&mut world);
                    world.roster(&world.nodes.keys().copied().collect::<Vec<_>>());
                }
                3 => {
                    world.add(last, super::super::Config::default());
                    let at = *nodes.choose(&mut world.rng).expect("some");
                    world.link(at, last);
                    last += 1;
                    pause(&mut world, 20);
                    world.roster(&world.nodes.keys().copied().collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        let nodes: Vec<u64> = world.nodes.keys().copied().collect();
        for node in nodes {
            world.publish(node, 10);
        }
        world.run(Duration::from_secs(200));
        let members = [testing::member(0), testing::member(1)];
        for (id, node) in &world.nodes {
            for (source, got) in &node.got {
                let sent = world.published.keys().filter(|(from, _)| from == source);
                let sent: Vec<SeqNo> = sent.map(|(_, seq)| *seq).collect();
                if world.nodes.values().any(|node| node.member == *source) {
                    assert!(sent.ends_with(got), "node {id}, seed {seed}");
                }
                if *id < 2 && members.contains(source) {
                    assert_eq!(*got, sent, "node {id}, seed {seed}");
                }
            }
            for lost in &node.lost {
                let Event::Lost { flow, .. } = lost else { panic!("only losses are kept") };
                let gone = world.nodes.values().all(|node| node.member != flow.source);
                assert!(gone, "node {id} lost something of a living source: {lost:?}, seed {seed}");
            }
        }
        world.assert_empty();
    }
}
