//! Near members are made known to each other.

use super::*;

const MEMBERS_HERE: u64 = 40;

/// On a line, a millisecond apart, each with a channel to some others.
fn on_a_line() -> World {
    let step = |a: u64, by: u64| (a + by - 1) % MEMBERS_HERE + 1;
    let links: Vec<(u64, u64)> = (1..=MEMBERS_HERE)
        .flat_map(|a| [7, 11, 13, 18].map(|by| (a.min(step(a, by)), a.max(step(a, by)))))
        .collect();
    let mut world =
        World::configured(Config { lease_ms: 3_600_000, ..at_once() }, MEMBERS_HERE, &links);
    for _ in 0..20 {
        for (a, b) in &links {
            world.report_qos(*a, *b, b - a, 0);
        }
    }
    world
}

fn told(world: &mut World, n: u64) -> Vec<u64> {
    let candidates = world.renew(n, true).0.unwrap().candidates;
    candidates.iter().map(|contact| world.names[&contact.member]).collect()
}

#[test]
fn members_are_told_of_near_ones_that_they_have_no_channel_with_ever_less_often() {
    let mut world = on_a_line();
    world.until(10_000);
    let near = told(&mut world, 20);
    assert!(!near.is_empty() && near.iter().all(|other| (14..=26).contains(other)), "{near:?}");
    assert_eq!(told(&mut world, 20), [0; 0]);
    let mut times = Vec::new();
    for second in 11..600 {
        world.until(second * 1_000);
        if !told(&mut world, 20).is_empty() {
            times.push(second - 10);
        }
    }
    assert_eq!(times, [5, 15, 35, 75, 155, 315]);
}

#[test]
fn who_has_channels_with_all_who_are_near_is_told_of_nobody() {
    let mut world = on_a_line();
    world.until(10_000);
    let near = told(&mut world, 20);
    let adjacency = up(&near);
    world.report(20, adjacency);
    world.until(20_000);
    assert_eq!(told(&mut world, 20), [0; 0]);
}
