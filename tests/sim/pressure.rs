//! More than fits: small stores, slow applications, thin links. The sources are held back, and nothing
//! is lost nor over its bound.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

fn world(seed: u64) -> Setup {
    let mut setup = plan::calm(seed, Shape::Random(4), 10);
    for node in 0..10 {
        let at = Duration::from_millis(14_000 + node as u64 * 100);
        let class = Class::Reliable;
        setup.script.push((at, Act::Publish { node, count: 3, bytes: 300_000, class }));
        setup.script.push((at, Act::Publish { node, count: 50, bytes: 1_000, class }));
    }
    // Who has no room drops frames and asks for them again.
    setup.calm = false;
    setup.rest = Duration::from_secs(120);
    setup
}

#[test]
fn small_stores_hold_the_sources_back() {
    for seed in 0..3 {
        let mut setup = world(seed);
        setup.store_bytes = 512 * 1024;
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.messages, 10 * 9 * 53 + fresh(&summary, 10));
    }
}

#[test]
fn a_slow_application_holds_the_sources_back() {
    for seed in 0..3 {
        let mut setup = world(seed);
        setup.store_bytes = 1024 * 1024;
        // It takes what others would not wait for.
        setup.slow_ms = 0;
        for member in setup.members.iter_mut().take(2) {
            member.slow = Some(Duration::from_millis(50));
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.messages, 10 * 9 * 53 + fresh(&summary, 10));
    }
}

#[test]
fn thin_links_carry_everything_in_the_end() {
    for seed in 0..3 {
        let mut setup = world(seed);
        for link in &mut setup.links {
            link.rate = 500_000;
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.messages, 10 * 9 * 53 + fresh(&summary, 10));
    }
}

/// What the last messages of each run add, with which the world shows that it still works.
fn fresh(summary: &sim::Summary, nodes: u64) -> u64 {
    summary.fresh * (nodes - 1)
}
