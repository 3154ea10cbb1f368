//! How late this node is at times, because its machine is busy or was asleep. What a timer is late by an echo
//! may be late by as well, and that is no fault of the channel's.

use std::time::{Duration, Instant};

/// The worst of the last few seconds.
#[derive(Debug)]
pub(super) struct Lag {
    worst: Duration,
    at: Instant,
}

impl Lag {
    pub(super) const fn new(now: Instant) -> Self {
        Self { worst: Duration::ZERO, at: now }
    }

    /// A timer that was to ring at `due` rings.
    pub(super) fn rang(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        if late >= self.worst || now >= self.at + KEPT {
            (self.worst, self.at) = (late, now);
        }
    }

    /// Zero for what is nothing.
    pub(super) fn worst(&self) -> Duration {
        if self.worst < NOTHING { Duration::ZERO } else { self.worst }
    }
}

/// So late are timers of machines that have nothing to do.
const NOTHING: Duration = Duration::from_millis(3);

/// For how long a late timer is remembered.
const KEPT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_the_last_few_seconds_counts() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut lag = Lag::new(start);
        lag.rang(at(100), at(130));
        lag.rang(at(200), at(201));
        assert_eq!(lag.worst(), Duration::from_millis(30));
        lag.rang(at(5_130), at(5_132));
        assert_eq!(lag.worst(), Duration::ZERO);
    }
}
