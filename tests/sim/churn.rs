//! Many worlds in which members come, go and die, links break and change, pushes get lost and the
//! coordinator restarts: no message is lost, doubled or out of order at anybody who stays.

use arborcast_tests::sim::{self, plan};

/// Worlds of 5 to 60 nodes, over all tests here. `ARBORCAST_SEEDS` sets another number: a night of
/// them, or a few.
const WORLDS: u64 = 1_000;

/// Large worlds, over all tests here: what shows only where much happens at once.
const LARGE: u64 = 16;

/// Nodes of each.
const MANY: usize = 100;

/// The tests that share the worlds, so that they run side by side.
const SHARES: u64 = 4;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the `n`-th share of the worlds, each with as many nodes as `size` gives for its seed.
fn share(n: u64, worlds: u64, size: impl Fn(u64) -> usize) {
    let members = from_environment("ARBORCAST_MEMBERS").and_then(|n| usize::try_from(n).ok());
    let (mut owed, mut owed_alone, mut least, mut least_alone) = (0, 0, 0, 0);
    for seed in (0..worlds).filter(|seed| seed % SHARES == n) {
        let nodes = members.unwrap_or_else(|| size(seed));
        match sim::replayed(&plan::churn(seed, nodes)) {
            Ok(summary) => {
                owed += summary.owed;
                owed_alone += summary.owed_alone;
                // Two thirds stay, and each of them sends something while most others are there; each
                // third message is for one alone.
                let staying = nodes * 2 / 3;
                least += staying * staying / 2;
                least_alone += staying / 3;
            }
            Err(failure) => panic!(
                "{failure:?}\nto see it again: ARBORCAST_SEED={seed} ARBORCAST_MEMBERS={nodes} \
                 cargo nextest run -p arborcast-tests --test sim replay::one_seed --no-capture"
            ),
        }
    }
    assert!(owed >= least, "{owed} pairs of a source and a receiver, not {least}");
    assert!(owed_alone >= least_alone, "{owed_alone} of what was for one, not {least_alone}");
}

macro_rules! shares {
    ($($large:ident $small:ident: $n:literal)*) => {$(
        #[test]
        fn $large() {
            share($n, LARGE, |_| MANY);
        }

        #[test]
        fn $small() {
            share($n, from_environment("ARBORCAST_SEEDS").unwrap_or(WORLDS), plan::size);
        }
    )*};
}

shares! {
    nothing_is_lost_among_many_0 nothing_is_lost_in_a_thousand_worlds_0: 0
    nothing_is_lost_among_many_1 nothing_is_lost_in_a_thousand_worlds_1: 1
    nothing_is_lost_among_many_2 nothing_is_lost_in_a_thousand_worlds_2: 2
    nothing_is_lost_among_many_3 nothing_is_lost_in_a_thousand_worlds_3: 3
}
