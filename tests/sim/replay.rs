//! A seed is exact: the same world, the same course, down to the last happening.

use arborcast_tests::sim::{self, plan};

use super::in_band::in_band;

#[test]
fn two_runs_of_one_seed_give_the_same_trace() {
    for seed in [3, 1_000_003] {
        let setup = plan::churn(seed, 30);
        let (first, second) = (sim::run(&setup), sim::run(&setup));
        match (first, second) {
            (Ok(first), Ok(second)) => assert_eq!(first, second),
            (Err(first), Err(second)) => assert_eq!(first.violation, second.violation),
            (first, second) => panic!("{first:?}, then {second:?}"),
        }
    }
}

#[test]
fn two_seeds_give_two_traces() {
    let hash = |seed| sim::run(&plan::churn(seed, 12)).map(|summary| summary.hash).ok();
    assert_ne!(hash(1), hash(2));
}

/// Runs the world of `ARBORCAST_SEED`, if that is set. With `ARBORCAST_IN_BAND`, that one of so many
/// members puts the tree into its frames.
#[test]
fn one_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(seed) = number("ARBORCAST_SEED") else { return };
    let members = number("ARBORCAST_MEMBERS").and_then(|members| usize::try_from(members).ok());
    let mut setup = plan::churn(seed, members.unwrap_or_else(|| plan::size(seed)));
    if let Some(every) = number("ARBORCAST_IN_BAND").and_then(|every| usize::try_from(every).ok()) {
        setup = in_band(setup, every.max(1));
    }
    let summary = sim::replayed(&setup).expect("the world of this seed comes to its end");
    assert!(summary.happenings > 0, "{summary:?}");
}
