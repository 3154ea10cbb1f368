//! A part of the session out of reach of the rest: short, and nothing is lost; long, and what is lost
//! is reported, never passed over in silence.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::{Link, Shape},
    plan,
    setup::{Act, Setup},
};

/// Two cliques of five, joined by one link, which breaks at 14 s for `time`.
fn split(seed: u64, time: Duration) -> Setup {
    let mut setup = plan::calm(seed, Shape::Cliques(5), 10);
    setup.calm = false;
    let bridge = setup.links.iter().position(|Link { a, b, .. }| *a < 5 && *b >= 5);
    let bridge = bridge.expect("two cliques are joined");
    setup.script.push((Duration::from_secs(14), Act::Break(bridge, time)));
    for node in 0..10 {
        for at in (12_000..20_000).step_by(500) {
            let at = Duration::from_millis(at + node as u64 * 17);
            let class = Class::Reliable;
            setup.script.push((at, Act::Publish { node, count: 1, bytes: 120, class }));
        }
    }
    // And once more when all are together again.
    let after = Duration::from_secs(20) + time;
    for node in 0..10 {
        let class = Class::Reliable;
        setup.script.push((after, Act::Publish { node, count: 1, bytes: 120, class }));
    }
    setup.rest = after + Duration::from_secs(2);
    setup
}

#[test]
fn nothing_is_lost_when_two_halves_are_apart_for_a_short_time() {
    for seed in 0..4 {
        let setup = split(seed, Duration::from_secs(12));
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.losses, 0);
        assert!(summary.messages >= 10 * 9 * 17, "{summary:?}");
    }
}

#[test]
fn after_a_long_time_apart_each_half_gets_from_history_what_the_other_said() {
    for seed in 0..4 {
        // Each half becomes a group of its own after 30 s, and its stores are empty then: its receipts
        // are about itself alone.
        let mut setup = split(seed, Duration::from_secs(60));
        for member in &mut setup.members {
            member.stays = false;
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.losses, 0);
        assert_eq!(summary.messages, (10 * 17 + summary.fresh) * 9, "{summary:?}");
    }
}

#[test]
fn after_a_long_time_apart_without_history_what_is_lost_is_told() {
    for seed in 0..4 {
        let mut setup = split(seed, Duration::from_secs(60));
        setup.history_bytes = 0;
        // Nobody is owed what the other half sent after it gave up waiting. Still nothing may come
        // twice or out of order, nor be left out in silence.
        for member in &mut setup.members {
            member.stays = false;
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(summary.losses > 0, "{summary:?}");
    }
}
