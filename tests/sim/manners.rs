//! Worlds in which members learn their next hops in other manners than by subscribing, all in one or
//! mixed: members join, links change and members die in mid-stream, and everything still comes once
//! and in order. That counters agree with the manner of each member is an invariant of all worlds.

use std::time::Duration;

use arborcast::engine::NextHops;
use arborcast_protocol::{id::Class, path::Scope};
use arborcast_tests::sim::{
    self, Summary,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

const NODES: usize = 12;

/// A message of each node that is there every 300 ms, from second 6 to second 20.
fn stream(setup: &mut Setup) {
    for node in 0..setup.members.len() {
        for at in (6_000..20_000).step_by(300) {
            let at = Duration::from_millis(at + node as u64 * 23);
            let class = Class::Reliable;
            setup.script.push((at, Act::Publish { node, count: 1, bytes: 80, class }));
        }
    }
}

/// Two join in mid-stream, links become slow or break so that the tree changes, one dies.
fn eventful(seed: u64) -> Setup {
    let mut setup = plan::calm(seed, Shape::Random(5), NODES);
    setup.calm = false;
    setup.script.clear();
    setup.gossip.lost = 100;
    for node in 0..NODES {
        let at = if node < NODES - 3 { 0 } else { 8_000 + node as u64 * 300 };
        setup.script.push((Duration::from_millis(at), Act::Start(node)));
    }
    for (number, at) in (9_000..17_000).step_by(1_000).enumerate() {
        let link = number * 7 % setup.links.len();
        let act = if number % 2 == 0 || setup.links[link].backbone {
            Act::Delay(link, Duration::from_millis(250))
        } else {
            Act::Break(link, Duration::from_secs(2))
        };
        setup.script.push((Duration::from_millis(at), act));
    }
    // One more, beside all that hold the rest together.
    let guest = setup.members.len();
    for peer in 0..3 {
        setup.links.push(sim::graph::Link { a: peer, b: guest, backbone: false, ..setup.links[0] });
    }
    let member = sim::setup::Member { stays: false, ..setup.members[0] };
    setup.members.push(member);
    setup.script.push((Duration::from_secs(7), Act::Start(guest)));
    setup.script.push((Duration::from_secs(14), Act::Kill(guest)));
    stream(&mut setup);
    setup.rest = Duration::from_secs(25);
    setup
}

fn run(setup: &Setup) -> Summary {
    let summary = sim::replayed(setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(summary.messages > 4_000 && summary.trees > 5, "{summary:?}");
    summary
}

#[test]
fn r10_members_that_poll_follow_a_tree_that_changes_in_mid_stream() {
    for seed in 0..4 {
        let manner = run(&eventful(seed).in_manners(&[NextHops::Poll])).manner;
        assert_eq!((manner.subscribes, manner.overflows), (0, 0), "{manner:?}");
        assert!(manner.queries > NODES as u64, "{manner:?}");
    }
}

#[test]
fn r11_members_that_ask_on_overflow_follow_a_tree_that_changes_in_mid_stream() {
    for seed in 0..4 {
        let manner = run(&eventful(seed).in_manners(&[NextHops::Overflow])).manner;
        assert_eq!(manner.subscribes, 0, "{manner:?}");
        // All have something to pass on for fourteen seconds, at least three times a second.
        assert!(manner.overflows > 14 * 3 * (NODES as u64 - 4), "{manner:?}");
        assert!(manner.queries > manner.overflows / 2, "{manner:?}");
    }
}

#[test]
fn r11_large_messages_overflow_the_buffer_before_their_time() {
    let mut setup = plan::calm(3, Shape::Random(3), 6).in_manners(&[NextHops::Overflow]);
    for link in &mut setup.links {
        link.rate = 12_500_000;
    }
    for node in 0..6 {
        let class = Class::Reliable;
        let publish = Act::Publish { node, count: 1, bytes: 4 << 20, class };
        setup.script.push((Duration::from_secs(12), publish));
    }
    let manner = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}")).manner;
    assert_eq!(manner.subscribes, 0, "{manner:?}");
    // 24 MiB pass each of the six within a few seconds. More comes while an answer is awaited.
    assert!(manner.overflows > 6 * 24, "{manner:?}");
}

#[test]
fn r12_members_that_subscribe_hardly_ever_ask() {
    for seed in 0..2 {
        let mut setup = eventful(seed).in_manners(&[NextHops::Subscribe]);
        setup.gossip.lost = 0;
        setup.poll = Duration::from_secs(3_600);
        let manner = run(&setup).manner;
        assert_eq!(manner.overflows, 0, "{manner:?}");
        assert_eq!(manner.subscribes, NODES as u64 + 1, "{manner:?}");
    }
}

#[test]
fn r10_r11_r12_all_manners_get_along_with_each_other() {
    for seed in 0..6 {
        let mut setup = eventful(seed).in_manners(&NextHops::ALL);
        if seed % 2 == 1 {
            for member in setup.members.iter_mut().step_by(3) {
                member.scope = Scope::Neighbours;
            }
        }
        let manner = run(&setup).manner;
        assert!(manner.subscribes >= NODES as u64 / 2 && manner.overflows > 100, "{manner:?}");
    }
}

#[test]
fn r10_r11_r12_all_manners_survive_churn() {
    for seed in 100..104 {
        let setup = plan::churn(seed, 24).in_manners(&NextHops::ALL);
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

#[test]
fn r10_r11_a_calm_group_crosses_each_edge_once_in_every_manner() {
    for manner in NextHops::ALL {
        let mut setup = plan::calm(7, Shape::Cliques(4), 10).in_manners(&[manner]);
        for node in 0..10 {
            let class = Class::Reliable;
            let at = Duration::from_secs(14);
            setup.script.push((at, Act::Publish { node, count: 5, bytes: 300, class }));
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.owed, 10 * 9, "{manner:?}: {summary:?}");
    }
}
