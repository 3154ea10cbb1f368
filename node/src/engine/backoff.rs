//! Waits that double, with jitter, for whatever failed.

use std::time::Duration;

use super::desk::Desk;

/// How long to wait before the next try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    floor: Duration,
    ceiling: Duration,
    tries: u32,
}

impl Backoff {
    /// For requests to the coordinator: 200 ms to 5 s. A restarted coordinator is back within
    /// seconds, and thousands of members must not ask it all at once.
    pub(super) const COORDINATOR: Self =
        Self::new(Duration::from_millis(200), Duration::from_secs(5));

    /// For edges: 100 ms to 2 s. A missing edge cuts the tree, and one attempt costs one stream.
    pub(super) const EDGE: Self = Self::new(Duration::from_millis(100), Duration::from_secs(2));

    /// For dials: 1 s to 60 s. A member behind a NAT may become reachable later, seldom soon.
    pub(super) const DIAL: Self = Self::new(Duration::from_secs(1), Duration::from_secs(60));

    /// For coming back after being detached: 2 s to 5 minutes. Each return that does not last keeps the
    /// others waiting once more.
    pub(super) const DETACHED: Self = Self::new(Duration::from_secs(2), Duration::from_secs(300));

    const fn new(floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling, tries: 0 }
    }

    /// The next wait: between a half and the whole of floor · 2^tries, at most of the ceiling.
    pub(super) fn next(&mut self, desk: &mut Desk) -> Duration {
        let whole = self.floor.saturating_mul(1 << self.tries.min(DOUBLINGS)).min(self.ceiling);
        self.tries = self.tries.saturating_add(1);
        whole / 2 + desk.jitter(whole / 2)
    }

    /// How often it failed since it last went well.
    pub(super) const fn tries(&self) -> u32 {
        self.tries
    }

    /// It went well.
    pub(super) const fn reset(&mut self) {
        self.tries = 0;
    }
}

/// More doublings than any ceiling here allows.
const DOUBLINGS: u32 = 16;
