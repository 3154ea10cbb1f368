//! The worlds find bugs: each of these was put into the relays on purpose, and this world shows it. A
//! change of the wire may move what happens: then a wider search gives a new one,
//! `ARBORCAST_SEARCH=2000 cargo test -p arborcast-tests --no-default-features --features sabotage
//! sabotage::`.

use std::time::Duration;

use arborcast::engine::relay::Sabotage;
use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Asserts that the world of a seed shows a bug; `ARBORCAST_SEARCH` says in how many others to look for
/// it too.
fn finds(bug: Sabotage, seed: u64, world: impl Fn(u64) -> Setup) {
    let shows = |seed: &u64| {
        let setup = world(*seed);
        let with = sim::run(&Setup { bug: Some(bug), ..setup.clone() });
        // It is the bug's doing.
        with.is_err() && sim::run(&setup).is_ok()
    };
    let search = std::env::var("ARBORCAST_SEARCH").ok().and_then(|text| text.parse().ok());
    let found: Vec<u64> = (0..search.unwrap_or(0)).filter(shows).collect();
    println!("{bug:?} is shown by the worlds {found:?}");
    assert!(shows(&seed), "the world of seed {seed} does not show {bug:?} any more");
}

fn churn(seed: u64) -> Setup {
    plan::churn(seed, plan::size(seed))
}

/// A few members that talk all the time, and many that come one soon after the other, far apart: some
/// of them hear of each other before they hear of anybody who was there.
fn joins(seed: u64) -> Setup {
    const STAYING: usize = 3;
    const NODES: usize = 16;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut setup = plan::calm(seed, Shape::Random(2), NODES);
    setup.calm = false;
    for link in &mut setup.links {
        link.delay = Duration::from_millis(rng.random_range(1..200));
    }
    setup.script.retain(|(_, act)| !matches!(act, Act::Start(node) if *node >= STAYING));
    for node in STAYING..NODES {
        let at = Duration::from_millis(rng.random_range(8_000..16_000));
        setup.script.push((at, Act::Start(node)));
    }
    for node in 0..NODES {
        for at in (3_000..18_000).step_by(150) {
            let at = Duration::from_millis(at + node as u64 * 7);
            let class = Class::Reliable;
            setup.script.push((at, Act::Publish { node, count: 1, bytes: 80, class }));
        }
    }
    setup
}

#[test]
fn worlds_find_that_late_frames_count_as_repeated() {
    finds(Sabotage::LateIsRepeated, 92, churn);
}

#[test]
fn worlds_find_that_relays_keep_nothing_for_others() {
    finds(Sabotage::OwnIsEnough, 0, churn);
}

#[test]
fn worlds_find_that_joiners_take_over_the_floors_of_joiners() {
    finds(Sabotage::AnybodyIsSettled, 17, joins);
}
