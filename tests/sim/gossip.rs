//! Pushes only make it faster: without any of them everybody still comes to hold the newest tree.

use std::time::Duration;

use arborcast_protocol::{id::Class, path::Scope};
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Gossip, Setup},
};

fn world(seed: u64) -> Setup {
    let mut setup = plan::calm(seed, Shape::Random(4), 16);
    setup.calm = false;
    for node in 0..16 {
        let publish = Act::Publish { node, count: 2, bytes: 200, class: Class::Reliable };
        setup.script.push((Duration::from_secs(15), publish));
    }
    setup
}

#[test]
fn all_pushes_lost() {
    for seed in 0..4 {
        let mut setup = world(seed);
        setup.gossip = Gossip { lost: 1_000, doubled: 0, delay: Duration::from_millis(1) };
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

#[test]
fn pushes_doubled_late_and_out_of_order() {
    for seed in 0..4 {
        let mut setup = world(seed);
        setup.gossip = Gossip { lost: 200, doubled: 800, delay: Duration::from_secs(3) };
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

#[test]
fn members_that_follow_their_neighbours_alone() {
    for seed in 0..4 {
        let mut setup = world(seed);
        for member in setup.members.iter_mut().step_by(2) {
            member.scope = Scope::Neighbours;
        }
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}
