//! Going on after the coordinator was started anew.
//!
//! The members hold a tree of the term before and go on using it. The coordinator knows nobody, and
//! they come back one after the other. A tree of those alone who are back would cut the others off:
//! nobody would keep for them what is sent meanwhile. So the tree of before stays in force until all
//! are back, as far as those who are back can tell, or had a lease's time for it and have stopped coming.

use std::time::Instant;

use super::Session;
use crate::engine::context::{Context, ms};

/// As long as members come back, so many leases may pass.
const LEASES: u32 = 4;

impl Session {
    /// A member has come back with a tree that was not made since this session is known: of an earlier
    /// term, whatever number it had, for the file with the terms may be lost. The next one is given as long as
    /// lies between two attempts.
    pub(super) fn resume(&mut self, context: &Context, now: Instant) {
        if self.published.is_some() || (self.resumed.is_some() && self.resuming.is_none()) {
            return;
        }
        let (lease, next) = (ms(context.config.lease_ms), ms(context.config.resume_ms));
        let first = *self.resumed.get_or_insert(now);
        self.resuming = Some((first + lease).max(now + next).min(first + lease * LEASES));
    }

    /// Until when the tree of before stays in force at most; `None` once it does not. Not before all who
    /// wait to be let in are.
    pub(super) fn is_resuming(&mut self, context: &Context, now: Instant) -> Option<Instant> {
        let until =
            self.resuming.map(|until| context.admits_until.map_or(until, |last| until.max(last)));
        let until = until.filter(|until| now < *until);
        let is_whole = self.resumed.is_some() && self.topology.is_whole();
        self.resuming = until.filter(|_| !is_whole);
        self.resuming
    }
}
