//! Who is named as the one that keeps others waiting.

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::testing::member;

use super::{super::Config, world::World};

const SECOND: Duration = Duration::from_secs(1);

/// Three in a row with small stores, who look who keeps them waiting.
fn row(seed: u64) -> World {
    let mut world = World::new(seed);
    for node in 0..3 {
        world.add(node, Config { store_bytes: 512 * 1024, ..Config::default() });
        world.settle(node);
    }
    world.link(0, 1);
    world.link(1, 2);
    world.roster(&[0, 1, 2]);
    world.hear_news();
    for (node, beside) in [(0, vec![1]), (1, vec![0, 2]), (2, vec![1])] {
        let relay = &mut world.node(node).relay;
        relay.ask_who_is_slow(SECOND * 2);
        relay.set_neighbours(beside.into_iter().map(member).collect());
    }
    world
}

fn flood(world: &mut World) {
    for _ in 0..20 {
        world.publish(0, 60_000);
    }
}

fn named(world: &mut World) -> Vec<BTreeSet<u64>> {
    let number = |id: &_| (0..3).find(|n| member(*n) == *id).expect("one of the three");
    (0..3).map(|node| world.node(node).relay.slow().iter().map(number).collect()).collect()
}

fn sets(named: [&[u64]; 3]) -> Vec<BTreeSet<u64>> {
    named.iter().map(|names| names.iter().copied().collect()).collect()
}

#[test]
fn names_lead_to_an_application_that_takes_nothing_until_it_does() {
    let mut world = row(1);
    world.node(2).pulls = false;
    flood(&mut world);
    world.run(SECOND / 2);
    assert_eq!(named(&mut world), sets([&[], &[], &[]]), "a burst is nobody's fault");
    world.run(SECOND * 3);
    assert_eq!(named(&mut world), sets([&[1], &[2], &[2]]));
    assert!(!world.node(2).relay.can_take());
    world.node(2).pulls = true;
    world.run(SECOND);
    assert_eq!(named(&mut world), sets([&[], &[], &[]]), "it is taken back");
    assert!(world.node(2).relay.can_take());
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn names_lead_to_a_neighbour_that_is_gone() {
    let mut world = row(2);
    world.run(SECOND / 5);
    world.node(2).stopped = true;
    flood(&mut world);
    world.run(SECOND * 3);
    let [first, second, _] = named(&mut world).try_into().expect("three");
    assert_eq!((first, second), (BTreeSet::from([1]), BTreeSet::from([2])));
}

#[test]
fn nobody_is_named_while_all_goes_well() {
    let mut world = row(3);
    for _ in 0..10 {
        flood(&mut world);
        world.run(SECOND / 2);
        assert_eq!(named(&mut world), sets([&[], &[], &[]]));
    }
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn nobody_is_named_where_nobody_wants_to_know() {
    let mut world = row(4);
    (0..3).for_each(|node| world.node(node).relay.ask_who_is_slow(Duration::ZERO));
    world.node(2).pulls = false;
    flood(&mut world);
    world.run(SECOND * 5);
    assert_eq!(named(&mut world), sets([&[], &[], &[]]));
}
