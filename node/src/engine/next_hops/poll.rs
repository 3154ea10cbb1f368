//! Manner 1: asking at intervals (R10). How long they are follows from how often the tree changes
//! (patent: the frequency "may be automatically adjusted based on whether a network topology of a
//! service frequently changes", for example every 30 s).

use std::time::{Duration, Instant};

use crate::engine::{config::LONGEST, desk::Desk};

/// The period of one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    period: Duration,
    shortest: Duration,
    longest: Duration,
}

impl Pace {
    /// Begins with `period`, and stays from a sixth to four times of it: 5 s to 2 min by default.
    pub(super) fn new(period: Duration) -> Self {
        let longest = period.saturating_mul(LONGER).min(LONGEST);
        Self { period, shortest: (period / SHORTER).max(SHORTEST).min(longest), longest }
    }

    /// An answer brought a tree that was new, or not: half the period, or half as much again.
    pub(super) fn adapt(&mut self, new: bool) {
        let period = if new { self.period / 2 } else { self.period.saturating_mul(3) / 2 };
        self.period = period.clamp(self.shortest, self.longest);
    }

    /// This member's own channels changed: the tree is likely to.
    pub(super) const fn hasten(&mut self) {
        self.period = self.shortest;
    }

    /// The time to the next query: the period less up to a quarter, so that members do not ask in
    /// step, though one change of the tree shortens the periods of all at once.
    pub(super) fn wait(&self, desk: &mut Desk) -> Duration {
        self.period.saturating_sub(desk.jitter(self.period / 4))
    }
}

/// The shortest period is this part of the one to begin with.
const SHORTER: u32 = 6;

/// The longest is so many times the one to begin with.
const LONGER: u32 = 4;

/// No period is shorter.
const SHORTEST: Duration = Duration::from_millis(500);

/// No hint makes a member that asks by itself ask more often than this. A hint is worth one query
/// to each member that it reaches, so all together ask at most so often for one session.
pub(super) const SPACING: Duration = Duration::from_secs(1);

/// The earliest that a hint leads to a query where `asked` was the last.
pub(super) fn spaced(at: Instant, asked: Option<Instant>) -> Instant {
    asked.map_or(at, |asked| at.max(asked + SPACING))
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing;
    use proptest::prelude::*;

    use super::*;

    fn desk(seed: u8) -> Desk {
        let (me, coordinator) = (testing::member(1), testing::coordinator());
        Desk::new(me, testing::incarnation(1), testing::session(0), coordinator, [seed; 32])
    }

    #[test]
    fn r10_the_period_is_halved_by_what_is_new_and_grows_by_half_without() {
        let mut pace = Pace::new(Duration::from_secs(30));
        let mut periods = Vec::new();
        for new in [true, true, true, false, false, false, false, false, false, false, false] {
            pace.adapt(new);
            periods.push(pace.period.as_millis());
        }
        let expected =
            [15_000, 7_500, 5_000, 7_500, 11_250, 16_875, 25_312, 37_968, 56_953, 85_429, 120_000];
        assert_eq!(periods, expected);
        pace.hasten();
        assert_eq!(pace.period, Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn r10_the_period_stays_within_its_bounds_and_jitter_within_a_quarter(
            period in 1_u64..200_000,
            steps in prop::collection::vec(0_u8..3, 0..80),
            seed: u8,
        ) {
            let period = Duration::from_secs(period).min(LONGEST);
            let mut pace = Pace::new(period);
            let mut desk = desk(seed);
            for step in steps {
                match step {
                    0 => pace.adapt(true),
                    1 => pace.adapt(false),
                    _ => pace.hasten(),
                }
                let least = (period / 6).max(SHORTEST).min(LONGEST);
                let most = (period * 4).min(LONGEST);
                prop_assert!(pace.period >= least && pace.period <= most);
                let wait = pace.wait(&mut desk);
                prop_assert!(wait <= pace.period && wait >= pace.period * 3 / 4);
            }
        }
    }

    #[test]
    fn r10_members_with_the_same_period_do_not_ask_in_step() {
        let pace = Pace::new(Duration::from_secs(30));
        let mut waits: Vec<Duration> = (0..100).map(|seed| pace.wait(&mut desk(seed))).collect();
        waits.sort_unstable();
        waits.dedup();
        assert_eq!(waits.len(), 100);
        let (first, last) = (waits[0], waits[99]);
        assert!(last > first + Duration::from_secs(6), "from {first:?} to {last:?}");
    }
}
