//! Short trains of bytes that show how wide a channel is: which one is under way, and when the next may be.
//!
//! A measurement takes two trains, one right after the other. The first opens the congestion window, the second
//! is timed by its receiver, so that no buffer on this side counts as bandwidth. One is under way at a time in
//! a node.

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
#[derive(Debug, Default)]
pub(super) struct Trains {
    /// At most one.
    under_way: Option<(MemberId, u64, Step)>,
    /// None begins before; unset as long as none was sent.
    not_before: Option<Instant>,
}

impl Trains {
    pub(super) fn is_under_way(&self, peer: MemberId) -> bool {
        self.under_way.is_some_and(|(other, ..)| other == peer)
    }

    /// The channel with `peer` is gone or another one.
    pub(super) fn forget(&mut self, peer: MemberId) {
        if self.is_under_way(peer) {
            self.under_way = None;
        }
    }

    /// When one that is wanted then can be sent.
    pub(super) fn after(&self, wanted: Instant) -> Option<Instant> {
        if self.under_way.is_some() {
            return None;
        }
        Some(self.not_before.map_or(wanted, |not_before| wanted.max(not_before)))
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

/// Of one train. At 10 Mbit/s it takes 26 ms; at 100 kbit/s, and no slower, both trains come within the time that
/// a probe may take.
const BYTES: u32 = 32 * 1024;

/// Between two measurements of one node, whichever channels they are of.
const GAP: Duration = Duration::from_secs(2);
