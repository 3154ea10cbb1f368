//! Trees that stay as they are: everything arrives once, and crosses each edge once.

use std::{collections::BTreeSet, time::Duration};

use rand::RngExt;

use super::world::{World, random_tree, seeds};

/// Some messages from everybody to everybody, of all sizes.
pub(super) fn talk(world: &mut World, nodes: u64, messages: usize) {
    for _ in 0..messages {
        let node = world.rng.random_range(0..nodes);
        let len = match world.rng.random_range(0..12) {
            0 => world.rng.random_range(60_000..200_000),
            1 => world.rng.random_range(1_000..60_000),
            _ => world.rng.random_range(0..200),
        };
        world.publish(node, len);
    }
}

fn assert_each_frame_crossed_each_edge_once(world: &World) {
    let all: BTreeSet<_> =
        world.links.iter().flat_map(|link| link.crossed.iter().flatten().copied()).collect();
    for link in &world.links {
        let [there, back] = &link.crossed;
        assert!(there.is_disjoint(back), "a frame went back where it came from");
        assert_eq!(there.len() + back.len(), all.len(), "a frame missed an edge");
    }
    for node in world.nodes.values() {
        assert_eq!(node.relay.stats().total.duplicates, 0);
        assert_eq!(node.relay.stats().total.asked, 0);
    }
}

#[test]
fn r17_on_a_line_each_frame_crosses_each_edge_once() {
    let mut world = World::with(1, 4, &[(0, 1), (1, 2), (2, 3)]);
    talk(&mut world, 4, 40);
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2, 3]);
    assert_each_frame_crossed_each_edge_once(&world);
}

#[test]
fn r17_on_a_star_each_frame_crosses_each_edge_once() {
    let mut world = World::with(2, 6, &[(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    talk(&mut world, 6, 60);
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2, 3, 4, 5]);
    assert_each_frame_crossed_each_edge_once(&world);
}

#[test]
fn r17_on_random_trees_each_frame_crosses_each_edge_once() {
    for seed in seeds(20) {
        let mut world = World::new(seed);
        let n = world.rng.random_range(1..9);
        let tree = random_tree(&mut world.rng, n);
        let mut world = World::with(seed, n, &tree);
        for _ in 0..3 {
            talk(&mut world, n, 15);
            world.run(Duration::from_millis(50));
        }
        world.run(Duration::from_secs(3));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
        assert_each_frame_crossed_each_edge_once(&world);
    }
}
