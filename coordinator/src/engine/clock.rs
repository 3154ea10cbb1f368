//! The engine's time. It stands still while the coordinator does: stopped, asleep, starved. So whatever
//! was due to happen unless somebody spoke up waits until the coordinator can hear again.

use std::time::{Duration, Instant};

/// With sessions to hold, the engine is called at least this often, so that a longer silence is its own.
pub(crate) const PULSE: Duration = Duration::from_secs(1);

/// Two calls further apart than this, and the coordinator stood still between them.
pub(crate) const PAUSE: Duration = Duration::from_secs(3);

/// What is read within this time after a pause may have been said during it.
pub(crate) const STALE: Duration = Duration::from_secs(1);

/// Turns the driver's time into the engine's.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The last call, in the driver's time.
    called: Instant,
    /// By how much the engine's time is behind the driver's: the sum of all pauses.
    behind: Duration,
    /// The end of the last pause, in the engine's time.
    woke: Option<Instant>,
}

/// What a call finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// The engine's time.
    pub(crate) now: Instant,
    /// How long the coordinator stood still just before.
    pub(crate) pause: Option<Duration>,
}

impl Clock {
    /// Both times are `now`.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { called: now, behind: Duration::ZERO, woke: None }
    }

    /// The engine is called at `now`. `was_awaited` says that it asked for a call after [`PULSE`].
    pub(crate) fn turn(&mut self, now: Instant, was_awaited: bool) -> Turn {
        let gap = now.saturating_duration_since(self.called);
        self.called = self.called.max(now);
        let pause = (was_awaited && gap > PAUSE).then(|| gap.saturating_sub(PULSE));
        self.behind += pause.unwrap_or_default();
        let now = self.own(now);
        if pause.is_some() {
            self.woke = Some(now);
        }
        Turn { now, pause }
    }

    /// Whether what is read at `now`, in the engine's time, may date from a pause.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        self.woke.is_some_and(|woke| now < woke + STALE)
    }

    /// By how much the engine's time is behind.
    pub(crate) const fn behind(&self) -> Duration {
        self.behind
    }

    /// When to call at the latest, in the driver's time, if `due` is in the engine's.
    pub(crate) fn latest(&self, due: Instant) -> Instant {
        (due + self.behind).min(self.called + PULSE)
    }

    fn own(&self, now: Instant) -> Instant {
        // The sum of gaps between calls is at most the time from the first one.
        now.checked_sub(self.behind).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn time_stands_still_in_a_pause_and_only_there() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut clock = Clock::new(start);
        assert_eq!(clock.turn(at(100), false), Turn { now: at(100), pause: None });
        assert_eq!(clock.turn(at(103), true), Turn { now: at(103), pause: None });
        assert!(!clock.is_stale(at(103)));
        let pause = Some(Duration::from_secs(29));
        assert_eq!(clock.turn(at(133), true), Turn { now: at(104), pause });
        assert!(clock.is_stale(at(104)));
        assert_eq!(clock.turn(at(134), true), Turn { now: at(105), pause: None });
        assert!(!clock.is_stale(at(105)));
        assert_eq!(clock.latest(at(120)), at(135), "within a pulse");
        assert_eq!(clock.turn(at(133), true).now, at(104), "time never goes back further");
    }
}
