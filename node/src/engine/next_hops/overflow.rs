//! Manner 2: asking when the group data that waits to be passed on overflows its buffer (R11). The
//! buffer itself is the relay's, see `relay/hold.rs`.

use std::time::{Duration, Instant};

use crate::engine::desk::Desk;

/// What comes of an overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Overflown {
    /// The data waits for the answer to a query, but no longer than this.
    Ask(Instant),
    /// It is passed on by what is known: that is as new as can be, or nobody can be asked.
    Known,
}

/// How long the answer to a query counts as the newest there is, so that members do not ask for each
/// buffer however seldom the tree changes: from a tenth of a second, twice as long after each answer
/// that brought nothing new. Peers that have a newer tree say so meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    lasts: Duration,
    /// The same, a little different for each member and each time, so that they do not ask in step.
    this_time: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { lasts: SHORTEST, this_time: SHORTEST }
    }
}

impl Freshness {
    /// An answer brought a tree that was new, or not.
    pub(super) fn adapt(&mut self, new: bool, desk: &mut Desk) {
        self.lasts = if new { SHORTEST } else { (self.lasts * 2).min(LONGEST) };
        self.this_time = desk.about(self.lasts);
    }

    /// Whether data that overflows now is to wait for an answer. `asked` is when the last query was
    /// sent, and `is_open` whether its answer has not come yet.
    pub(super) fn judge(self, asked: Option<Instant>, is_open: bool, now: Instant) -> Overflown {
        match asked {
            // What it brings is the newest there is.
            Some(asked) if is_open && now < asked + ANSWER => Overflown::Ask(asked + ANSWER),
            Some(_) if is_open => Overflown::Known,
            Some(asked) if now < asked + self.this_time => Overflown::Known,
            Some(_) | None => Overflown::Ask(now + ANSWER),
        }
    }
}

/// A member asks at most ten times a second, however much data there is: a fifth of what a coordinator
/// grants each peer by default.
const SHORTEST: Duration = Duration::from_millis(100);

/// Where the tree stays as it is, once in two seconds.
const LONGEST: Duration = Duration::from_secs(2);

/// Data waits no longer for an answer: then what is known has to do, as when the query fails.
const ANSWER: Duration = Duration::from_secs(1);
