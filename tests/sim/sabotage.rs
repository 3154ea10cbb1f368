//! The worlds find bugs: each of these was put into the relays on purpose, and some world of few
//! members shows it.

use arborcast::engine::relay::Sabotage;
use arborcast_tests::sim::{self, plan, setup::Setup};

/// Worlds that are tried before a bug counts as one that they cannot show.
const WORLDS: u64 = 2_000;

fn find(bug: Sabotage) {
    let found = (0..WORLDS).find_map(|seed| {
        let setup = plan::churn(seed, plan::size(seed));
        let failure = sim::run(&Setup { bug: Some(bug), ..setup.clone() }).err()?;
        // It is the bug's doing.
        sim::run(&setup).ok().map(|_| failure)
    });
    let failure = found.unwrap_or_else(|| panic!("{WORLDS} worlds do not show {bug:?}"));
    println!("{bug:?}: {failure:?}");
}

#[test]
fn worlds_find_that_late_frames_count_as_repeated() {
    find(Sabotage::LateIsRepeated);
}

#[test]
fn worlds_find_that_relays_keep_nothing_for_others() {
    find(Sabotage::OwnIsEnough);
}

#[test]
fn worlds_find_that_joiners_take_over_the_floors_of_joiners() {
    find(Sabotage::AnybodyIsSettled);
}
