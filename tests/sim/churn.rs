//! Many worlds in which members come, go and die, links break and change, and pushes get lost: no
//! message is lost, doubled or out of order at anybody who stays.

use arborcast_tests::sim::{self, plan};

/// Worlds in all, over all tests here.
const SEEDS: u64 = 200;

/// Nodes of each.
const MEMBERS: usize = 100;

/// The tests that share the worlds, so that they run side by side.
const SHARES: u64 = 8;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn share(n: u64) {
    let seeds = from_environment("ARBORCAST_SEEDS", SEEDS);
    let members = from_environment("ARBORCAST_MEMBERS", MEMBERS as u64);
    let members = usize::try_from(members).unwrap_or(MEMBERS);
    for seed in (0..seeds).filter(|seed| seed % SHARES == n) {
        if let Err(failure) = sim::replayed(&plan::churn(seed, members)) {
            panic!(
                "{failure:?}\nto see it again: ARBORCAST_SEED={seed} ARBORCAST_MEMBERS={members} \
                 cargo nextest run -p arborcast-tests --test sim replay::one_seed --no-capture"
            );
        }
    }
}

macro_rules! shares {
    ($($name:ident: $n:literal)*) => {$(
        #[test]
        fn $name() {
            share($n);
        }
    )*};
}

shares! {
    nothing_is_lost_0: 0
    nothing_is_lost_1: 1
    nothing_is_lost_2: 2
    nothing_is_lost_3: 3
    nothing_is_lost_4: 4
    nothing_is_lost_5: 5
    nothing_is_lost_6: 6
    nothing_is_lost_7: 7
}
