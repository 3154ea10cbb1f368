//! Heavy probes: on a channel in use an echo with some weight follows a light one at times. What it
//! takes longer says how wide the channel is (the idea of variable packet size probing, Jacobson's
//! pathchar, 1997), so that a channel that gets narrow is noticed at once though nothing moves on it
//! that would suffer yet. Trains say it better, and cost too much to be sent so often.

use std::time::{Duration, Instant};

/// The heavy probes of one channel.
#[derive(Debug)]
pub(super) struct Heavy {
    /// Which is under way, and what the light one before it took.
    under_way: Option<(u64, Duration)>,
    /// When the next is due.
    at: Instant,
    /// Still to be sent one after the other, because one was strange.
    left: u32,
}

impl Heavy {
    pub(super) const fn new(now: Instant) -> Self {
        Self { under_way: None, at: now, left: 0 }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.under_way.is_none() && self.at <= now
    }

    /// One is sent, of which there is one each `period` else. A light one just took `light`.
    pub(super) fn on_sent(&mut self, serial: u64, light: Duration, period: Duration, now: Instant) {
        self.under_way = Some((serial, light));
        self.left = self.left.saturating_sub(1);
        self.at = if self.left > 0 { now } else { now + period };
    }

    /// The outcome of a probe: what the light one took before it, if it is the heavy one.
    pub(super) fn on_probed(&mut self, serial: u64) -> Option<Duration> {
        self.under_way.take_if(|(other, _)| *other == serial).map(|(_, light)| light)
    }

    /// One was strange. True if now more follow.
    pub(super) fn check(&mut self, now: Instant) -> bool {
        let is_new = self.left == 0;
        if is_new {
            self.left = CHECK;
            self.at = now;
        }
        is_new
    }

    /// Whether more are to follow at once.
    pub(super) const fn is_checking(&self) -> bool {
        self.left > 0
    }

    /// What was strange is known now.
    pub(super) const fn end_check(&mut self) {
        self.left = 0;
    }
}

/// Bytes of one. On 2 Mbit/s they take 8 ms; one in four seconds is 4 kbit/s.
pub(super) const BYTES: u32 = 2 * 1024;

/// One follows so many periods of probes after the other.
pub(super) const EACH: u32 = 2;

/// After a strange one so many more at once: twice as many as have to agree, see
/// [`crate::engine::quality`].
const CHECK: u32 = 16;
