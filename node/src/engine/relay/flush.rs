//! The end of a source's flow, shown to whoever missed it.
//!
//! A gap is given up only when a genuine frame after it has come, else any neighbour could end a flow
//! by lying about how far it goes. So a member that misses the *last* frames of a source, because all
//! its neighbours let go of them while it was out of the roster, would wait for the next message, and
//! all others would keep those frames for it. A source that has nothing more to send, and whose frames
//! are not all confirmed, therefore sends one without messages, less and less often: what RFC 3208
//! (section 5.1) calls a heartbeat, and RFC 5740 (section 5.1) a flush.

use std::time::{Duration, Instant};

use super::Relay;

/// How much rarer frames without messages become, at most.
const RARER: u32 = 16;

/// When the next frame without messages is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flush {
    /// `None` while everything is confirmed.
    at: Option<Instant>,
    /// From the last frame, or the last look, to that.
    wait: Duration,
}

impl Flush {
    /// When to look.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.at
    }
}

impl Relay {
    /// A frame of this node's own, for all, was made, or receipts of them have changed: somebody may
    /// have come back who lacks what was let go here already. `messages`: the frame holds some.
    pub(super) fn await_confirmation(&mut self, messages: bool, now: Instant) {
        if messages || self.flush.at.is_none() {
            let wait = self.config.flush_delay;
            self.flush = Flush { at: Some(now + self.apart(wait)), wait };
        }
    }

    /// A wait, up to a quarter longer. Of each source by another part, for one receiver that is gone keeps
    /// all of them waiting at once.
    fn apart(&self, wait: Duration) -> Duration {
        let [part, ..] = *self.own.source.as_bytes();
        wait + wait * u32::from(part) / 1024
    }

    /// Sends a frame without messages if it is time and everything else was sent.
    pub(super) fn on_flush_due(&mut self, now: Instant) {
        if self.flush.at.is_none_or(|at| at > now) {
            return;
        }
        // Without receipts of all, nobody can tell who lacks something from who was not heard yet.
        if let Some(stable) = self.stable(&self.own) {
            if stable >= self.publisher.last(&self.own) {
                self.flush.at = None;
                return;
            }
            let (stored, window) = (self.own_bytes(), self.window());
            if self.publisher.flush(stored, window) {
                self.flush.wait = (self.flush.wait * 2).min(self.config.flush_delay * RARER);
            }
        }
        self.flush.at = Some(now + self.apart(self.flush.wait));
    }
}
