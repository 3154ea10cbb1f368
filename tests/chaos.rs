//! Random worlds in which members come, go and die, links break and change, pushes get lost and the
//! coordinator restarts: no message is lost, doubled or out of order at anybody who stays.
//!
//! `ARBORCAST_SEEDS` and `ARBORCAST_MEMBERS` set how many worlds of which size they are.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use arborcast_tests::{
    sim::{self, plan},
    slot,
};

/// Worlds of 5 to 60 nodes. `ARBORCAST_SEEDS` sets another number: a night of them, or a few.
const WORLDS: u64 = 1_000;

/// Large worlds: what shows only where much happens at once.
const LARGE: u64 = 4;

/// Nodes of each.
const MANY: usize = 100;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Pairs of a source and a receiver to whom something is owed.
#[derive(Default)]
struct Owed {
    /// Of what is for all...
    all: usize,
    /// ...and of what is for one alone.
    alone: usize,
}

impl Owed {
    fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.alone += other.alone;
    }
}

/// Runs the worlds of so many seeds, on all processors, each with as many nodes as `size` gives for its
/// seed.
fn run(worlds: u64, size: fn(u64) -> usize) {
    let members = from_environment("ARBORCAST_MEMBERS").and_then(|n| usize::try_from(n).ok());
    let next = AtomicU64::new(0);
    let sums = Mutex::new((Owed::default(), Owed::default()));
    let failures = Mutex::new(Vec::new());
    let work = || {
        slot::give_way();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= worlds {
                break;
            }
            let nodes = members.unwrap_or_else(|| size(seed));
            let (owed, least) = match world(seed, nodes) {
                Ok(both) => both,
                Err(failure) => {
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    continue;
                }
            };
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums.0.add(&owed);
            sums.1.add(&least);
        }
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    // A panic of one of them is one of the test.
    thread::scope(|scope| (0..processors).for_each(|_| _ = scope.spawn(work)));
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = failures.first() {
        let seeds: Vec<String> = failures
            .iter()
            .map(|failure| format!("seed {}: {}", failure.seed, failure.violation))
            .collect();
        panic!(
            "{first:?}\nto see it again: ARBORCAST_SEED={} ARBORCAST_MEMBERS=(as many nodes) \
             cargo test -p arborcast-tests sim::replay::one_seed -- --nocapture\nall seeds that \
             failed:\n{}",
            first.seed,
            seeds.join("\n")
        );
    }
    let (owed, least) = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(owed.all >= least.all, "{} of what was for all, not {}", owed.all, least.all);
    assert!(owed.alone >= least.alone, "{} of what was for one, not {}", owed.alone, least.alone);
}

/// Runs the world of a seed: what was owed there, and what is to be at least, on average.
fn world(seed: u64, nodes: usize) -> Result<(Owed, Owed), Box<sim::Failure>> {
    let summary = sim::replayed(&plan::churn(seed, nodes))?;
    // Two thirds stay, and each of them sends something while most others are there; each third message
    // is for one alone.
    let staying = nodes * 2 / 3;
    let least = Owed { all: staying * staying / 2, alone: staying / 3 };
    Ok((Owed { all: summary.owed, alone: summary.owed_alone }, least))
}

#[test]
fn nothing_is_lost_in_a_thousand_worlds() {
    run(from_environment("ARBORCAST_SEEDS").unwrap_or(WORLDS), plan::size);
}

#[test]
fn nothing_is_lost_among_many() {
    run(LARGE, |_| MANY);
}
