//! Manner 3: subscribing once, and following the updates (R12). Manner 4 learns likewise.

use std::time::Instant;

/// The subscription of one member.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Subscription {
    /// Not subscribed; the subscription will also bring the newest state.
    at: Option<Instant>,
}

impl Subscription {
    /// When to subscribe; `None` if that was done.
    pub(super) const fn at(self) -> Option<Instant> {
        self.at
    }

    /// It is to be made, again if there was one before.
    pub(super) const fn make(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// It stands, or cannot be made now.
    pub(super) const fn done(&mut self) {
        self.at = None;
    }
}
