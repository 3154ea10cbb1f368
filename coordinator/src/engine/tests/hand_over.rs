//! Relays that leave hand over first.

use super::*;

/// 2 joins 1, 3 and 4, which have poorer channels with each other.
pub(super) fn around_two() -> World {
    let mut world = World::carrying(4, &[(1, 2), (2, 3), (2, 4), (1, 3), (3, 4), (1, 4)]);
    for (a, b) in [(1, 3), (3, 4), (1, 4)] {
        world.report_qos(a, b, 40, 0);
    }
    world.until(3_000);
    world.all_carry();
    world.until(3_200);
    assert_eq!(world.tree().1, [(1, 2), (2, 3), (2, 4)]);
    world
}

/// Edges of 2.
fn of_two(edges: &[(u64, u64)]) -> usize {
    edges.iter().filter(|(a, b)| *a == 2 || *b == 2).count()
}

#[test]
fn a_relay_goes_once_the_edges_that_replace_its_own_carry() {
    let mut world = around_two();
    assert!(!world.try_leave(2).0);
    world.until(3_300);
    let (_, edges) = world.tree();
    assert_eq!(of_two(&edges), 1, "a leaf: {edges:?}");
    assert_eq!(of_two(&world.overlap()), 2, "its old edges stay in use");
    assert!(!world.try_leave(2).0, "they do");
    world.all_carry();
    world.until(3_600);
    assert_eq!(world.overlap(), []);
    assert!(world.try_leave(2).0);
    world.until(3_900);
    let (_, edges) = world.tree();
    assert_eq!((edges.len(), of_two(&edges)), (2, 0), "{edges:?}");
    assert_eq!(world.overlap(), [], "nobody has to wait for another edge");
}

#[test]
fn a_relay_that_nobody_can_replace_goes_at_once() {
    let mut world = World::carrying(3, &[(1, 2), (2, 3)]);
    assert!(!world.try_leave(2).0);
    let soon = world.now_ms + 100;
    world.until(soon);
    assert!(world.try_leave(2).0);
}

#[test]
fn a_relay_is_kept_for_two_seconds_at_most() {
    let mut world = around_two();
    let began = world.now_ms;
    assert!(!world.try_leave(2).0);
    world.until(began + 1_900);
    assert!(!world.try_leave(2).0, "the new edges do not carry");
    world.until(began + 2_000);
    assert!(world.try_leave(2).0);
}

#[test]
fn all_may_leave_together() {
    let mut world = around_two();
    let mut rest: Vec<u64> = (1..=4).collect();
    for _ in 0..20 {
        rest.retain(|n| !world.try_leave(*n).0);
        world.until(world.now_ms + 100);
    }
    assert_eq!(rest, [0; 0]);
}
