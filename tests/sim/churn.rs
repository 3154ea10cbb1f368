//! Many worlds in which members come, go and die, links break and change, pushes get lost and the
//! coordinator restarts: no message is lost, doubled or out of order at anybody who stays.

use arborcast_tests::sim::{self, plan};

/// Large worlds, over all tests here: what shows only where much happens at once.
const LARGE: u64 = 200;

/// Nodes of each.
const MEMBERS: u64 = 100;

/// Small worlds: many, for what is rare.
const SMALL: u64 = 100;

/// Nodes of each.
const FEW: u64 = 30;

/// The tests that share the worlds, so that they run side by side.
const SHARES: u64 = 4;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn share(n: u64, worlds: u64, members: u64) {
    let worlds = from_environment("ARBORCAST_SEEDS", worlds);
    for seed in (0..worlds).filter(|seed| seed % SHARES == n) {
        let nodes = usize::try_from(members).unwrap_or(usize::MAX);
        match sim::replayed(&plan::churn(seed, nodes)) {
            Ok(summary) => {
                // Two thirds stay, and each of them sends something while most others are there.
                let staying = nodes * 2 / 3;
                assert!(summary.owed > staying * staying / 2, "seed {seed}: {summary:?}");
                // Each third message is for one alone.
                assert!(summary.owed_alone > staying / 3, "seed {seed}: {summary:?}");
            }
            Err(failure) => panic!(
                "{failure:?}\nto see it again: ARBORCAST_SEED={seed} ARBORCAST_MEMBERS={members} \
                 cargo nextest run -p arborcast-tests --test sim replay::one_seed --no-capture"
            ),
        }
    }
}

macro_rules! shares {
    ($($large:ident $small:ident: $n:literal)*) => {$(
        #[test]
        fn $large() {
            share($n, LARGE, from_environment("ARBORCAST_MEMBERS", MEMBERS));
        }

        #[test]
        fn $small() {
            share($n, SMALL, FEW);
        }
    )*};
}

shares! {
    nothing_is_lost_among_many_0 nothing_is_lost_among_few_0: 0
    nothing_is_lost_among_many_1 nothing_is_lost_among_few_1: 1
    nothing_is_lost_among_many_2 nothing_is_lost_among_few_2: 2
    nothing_is_lost_among_many_3 nothing_is_lost_among_few_3: 3
}
