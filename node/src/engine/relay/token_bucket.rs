//! How often a neighbour may ask for what costs something: a token bucket, kept by virtual scheduling (the
//! generic cell rate algorithm, ITU-T I.371).

use std::time::{Duration, Instant};

/// So many at once, and so many a second after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) per_s: u32,
}

/// What is left of a [`Rate`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    /// When it is full again.
    full: Instant,
}

impl TokenBucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let gap = Duration::from_secs(1) / rate.per_s.max(1);
        let full = self.full.max(now) + gap;
        let is_there = full <= now + gap * rate.burst;
        if is_there {
            self.full = full;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn a_burst_at_once_and_then_the_rate() {
        let rate = Rate { burst: 10, per_s: 2 };
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        let mut taken = |at_ms| {
            (0..100).filter(|_| bucket.take(rate, start + Duration::from_millis(at_ms))).count()
        };
        assert_eq!(taken(0), 10);
        assert_eq!(taken(499), 0);
        assert_eq!(taken(500), 1);
        assert_eq!(taken(3_000), 5);
        assert_eq!(taken(60_000), 10, "it holds no more");
    }
}
