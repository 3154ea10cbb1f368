//! Short trains of bytes that show how wide a channel is: which one is under way, and when the next may
//! be.
//!
//! A measurement takes two trains, one right after the other. The first opens the congestion window,
//! the second is timed by its receiver, so that no buffer on this side counts as bandwidth. One is
//! under way at a time in a node, and none while live data moves, which it would disturb and be
//! disturbed by.

use std::time::{Duration, Instant};

use arborcast_protocol::id::MemberId;

use super::{desk::Desk, event::Output};

/// What a train is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// To open the way.
    Warm,
    /// To be timed.
    Measure,
}

/// The trains of one node.
#[derive(Debug)]
pub(super) struct Trains {
    /// At most one.
    under_way: Option<(MemberId, u64, Step)>,
    /// None begins before; unset as long as none was sent.
    not_before: Option<Instant>,
    /// What all edges had carried at some time, to see whether data moves.
    looked: Option<(u64, Instant)>,
}

impl Trains {
    pub(super) const fn new() -> Self {
        Self { under_way: None, not_before: None, looked: None }
    }

    pub(super) fn is_under_way(&self, peer: MemberId) -> bool {
        self.under_way.is_some_and(|(other, ..)| other == peer)
    }

    /// The channel with `peer` is gone or another one.
    pub(super) fn forget(&mut self, peer: MemberId) {
        if self.is_under_way(peer) {
            self.under_way = None;
        }
    }

    /// When the train that is due at `at` can begin; `None` while one is under way.
    pub(super) fn after(&self, at: Instant) -> Option<Instant> {
        self.under_way.is_none().then(|| self.not_before.map_or(at, |other| at.max(other)))
    }

    /// Whether next to nothing has moved in the last seconds. If that is not known, the next look will
    /// tell.
    pub(super) fn is_quiet(&mut self, moved: u64, now: Instant) -> bool {
        let (before, at) = *self.looked.get_or_insert((moved, now));
        let time = now.saturating_duration_since(at);
        if time < LOOK {
            self.not_before = Some(at + LOOK);
            return false;
        }
        let quiet = time <= LOOK * 2 && moved.saturating_sub(before) <= QUIET;
        if quiet {
            self.looked = None;
        } else {
            self.looked = Some((moved, now));
            self.not_before = Some(now + LOOK);
        }
        quiet
    }

    /// A train may soon be due: looks from now on, unless it does already.
    pub(super) fn look(&mut self, moved: u64, now: Instant) {
        if self.looked.is_none_or(|(_, at)| now.saturating_duration_since(at) >= LOOK) {
            self.looked = Some((moved, now));
        }
    }

    /// The next train need not wait until long after the last one: it matters what it tells.
    pub(super) const fn hurry(&mut self) {
        self.not_before = None;
    }

    pub(super) fn send(&mut self, peer: MemberId, serial: u64, step: Step, desk: &mut Desk) {
        self.under_way = Some((peer, serial, step));
        desk.stats.trains += 1;
        desk.put(Output::Probe { peer, serial, train: BYTES });
    }

    /// The outcome of a probe: which step of the measurement it ends, if it is one of a train.
    pub(super) fn on_probed(
        &mut self,
        peer: MemberId,
        serial: u64,
        now: Instant,
        desk: &mut Desk,
    ) -> Option<Step> {
        let (_, _, step) =
            self.under_way.take_if(|(to, number, _)| (*to, *number) == (peer, serial))?;
        self.not_before = Some(now + desk.about(GAP));
        Some(step)
    }
}

/// Of one train. At 10 Mbit/s it takes 26 ms; at 100 kbit/s, and no slower, both trains come within the
/// time that a probe may take.
const BYTES: u32 = 32 * 1024;

/// Between two measurements of one node, whichever channels they are of.
const GAP: Duration = Duration::from_secs(5);

/// How long to look whether data moves...
const LOOK: Duration = Duration::from_secs(2);

/// ...and how many bytes do not count: chat.
const QUIET: u64 = 32 * 1024;
