//! How many requests one peer may make, and what else is bounded for each: a token bucket each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Token buckets by peer, or by whatever else `K` names. Bounded: the one that has been quiet for longest is forgotten first,
/// which can only be to its advantage.
#[derive(Debug)]
pub(crate) struct Rate<K> {
    per_token: Duration,
    burst: u32,
    peers: usize,
    buckets: BTreeMap<K, Bucket>,
    by_use: BTreeSet<(Instant, K)>,
}

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// Up to when tokens have been paid in.
    paid: Instant,
    used: Instant,
}

impl<K: Copy + Ord> Rate<K> {
    /// `per_s` and `burst` in requests, `peers` in buckets.
    pub(crate) fn new(per_s: u32, burst: u32, peers: usize) -> Self {
        Self {
            per_token: Duration::from_secs(1) / per_s.max(1),
            burst: burst.max(1),
            peers: peers.max(1),
            buckets: BTreeMap::new(),
            by_use: BTreeSet::new(),
        }
    }

    /// Takes one token of `peer`; false if it has none left.
    pub(crate) fn take(&mut self, peer: K, now: Instant) -> bool {
        if self.buckets.len() >= self.peers
            && !self.buckets.contains_key(&peer)
            && let Some((_, quiet)) = self.by_use.pop_first()
        {
            self.buckets.remove(&quiet);
        }
        let bucket =
            self.buckets.entry(peer).or_insert(Bucket { tokens: self.burst, paid: now, used: now });
        self.by_use.remove(&(bucket.used, peer));
        bucket.used = now;
        self.by_use.insert((now, peer));
        let waited = now.saturating_duration_since(bucket.paid).as_nanos();
        let due = waited / self.per_token.as_nanos().max(1);
        match u32::try_from(due) {
            Ok(due) if due < self.burst - bucket.tokens.min(self.burst) => {
                bucket.tokens += due;
                bucket.paid += self.per_token * due;
            }
            Ok(_) | Err(_) => {
                bucket.tokens = self.burst;
                bucket.paid = now;
            }
        }
        match bucket.tokens.checked_sub(1) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::{id::MemberId, testing::member};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(10, 3, 2);
        let granted = |rate: &mut Rate<MemberId>, n, at| {
            (0..10).filter(|_| rate.take(member(n), start + Duration::from_millis(at))).count()
        };
        assert_eq!(granted(&mut rate, 1, 0), 3);
        assert_eq!(granted(&mut rate, 1, 150), 1);
        assert_eq!(granted(&mut rate, 1, 200), 1);
        assert_eq!(granted(&mut rate, 2, 200), 3);
        assert_eq!(granted(&mut rate, 1, 100_000), 3);
        // A third peer takes the place of the one that was quiet for longest.
        assert_eq!(granted(&mut rate, 3, 100_000), 3);
        assert_eq!(rate.buckets.len(), 2);
        assert!(!rate.buckets.contains_key(&member(2)));
    }
}
