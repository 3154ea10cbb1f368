//! Live frames that wait for one edge, and what both ends say of those that do not come.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::Passed,
    frame::Frame,
    id::{Flow, FrameNo},
};

use super::super::{config::LIVE_FLOWS_TOLD, stats::Stats};

/// While both wait, so many bytes of live frames go for each byte of others.
const SHARE: u64 = 3;

/// Frames that go within this time are looked at as one, when they are under way.
const TOGETHER: Duration = Duration::from_millis(10);

/// What has been under way for longer than it may be by this is not waited for.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// Looks at what is under way that are kept; beyond it frames are taken together.
const UNDER_WAY: usize = 256;

/// One edge as live frames see it.
#[derive(Debug, Default)]
pub(in super::super) struct LiveQueue {
    /// The other end takes live frames.
    pub(in super::super) takes: bool,
    /// Some came from the other end: it is told how many frames came.
    pub(in super::super) came: bool,
    /// With the time since when it waits, oldest first.
    waiting: VecDeque<(Instant, Frame)>,
    bytes: u64,
    /// The other end is to be told that nothing up to here comes any more.
    owed: BTreeMap<Flow, FrameNo>,
    /// The same as told by the other end. At most one for each flow that is known here.
    passed: BTreeMap<Flow, FrameNo>,
    /// How many frames of all kinds had gone, and when, oldest first.
    under_way: VecDeque<(u64, Instant)>,
    /// The other end says what came.
    acknowledges: bool,
    /// Bytes of live frames that went before others that waited, less what those got for it.
    ahead: u64,
}

impl LiveQueue {
    /// Puts a frame at the end; the oldest give way so that there are at most `most` bytes.
    pub(super) fn put(&mut self, frame: Frame, most: u64, now: Instant, stats: &mut Stats) {
        let bytes = frame.len() as u64;
        self.bytes += bytes;
        stats.live_queue_bytes += bytes;
        self.waiting.push_back((now, frame));
        while self.bytes > most && self.waiting.len() > 1 {
            self.drop_first(stats);
        }
    }

    /// Drops what has waited for too long.
    pub(super) fn expire(&mut self, playout: Duration, now: Instant, stats: &mut Stats) {
        while self.waiting.front().is_some_and(|(since, _)| *since + playout <= now) {
            self.drop_first(stats);
        }
    }

    /// The other end has a frame: it sent it.
    pub(super) fn has(&mut self, flow: &Flow, number: FrameNo, stats: &mut Stats) {
        let is = |frame: &Frame| frame.header().number == number && frame.header().flow() == *flow;
        if let Some(at) = self.waiting.iter().position(|(_, frame)| is(frame))
            && let Some((_, frame)) = self.waiting.remove(at)
        {
            self.freed(&frame, stats);
        }
    }

    /// The edge is gone: everything that waits is dropped.
    pub(in super::super) fn clear(&mut self, stats: &mut Stats) {
        while !self.waiting.is_empty() {
            self.drop_first(stats);
        }
    }

    /// When something has waited for too long.
    pub(in super::super) fn due(&self, playout: Duration) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| *since + playout)
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether frames that went less than `recently` ago may still be under way.
    pub(super) fn is_under_way(&self, recently: Duration, now: Instant) -> bool {
        self.under_way.back().is_some_and(|(_, at)| *at + recently > now)
    }

    /// The next frame, if it may go. `other` is the length of a frame of other kind that waits;
    /// `patience` how long frames may be under way before the rest waits here, where the old can give
    /// way to the new, and not in buffers of the system, where they cannot.
    pub(super) fn pop(
        &mut self,
        other: Option<u64>,
        patience: Duration,
        now: Instant,
        stats: &mut Stats,
    ) -> Option<Frame> {
        // Then the edge is dead, or it did arrive and was not counted.
        while self.under_way.front().is_some_and(|(_, at)| *at + patience + FORGOTTEN <= now) {
            self.under_way.pop_front();
        }
        let late = self.under_way.front().is_some_and(|(_, at)| *at + patience <= now);
        if late && self.acknowledges {
            return None;
        }
        if other.is_some_and(|bytes| self.ahead >= bytes.saturating_mul(SHARE)) {
            return None;
        }
        let (_, frame) = self.waiting.pop_front()?;
        self.freed(&frame, stats);
        self.ahead = other.map_or(0, |_| self.ahead.saturating_add(frame.len() as u64));
        Some(frame)
    }

    /// A live frame has gone, and with it `sent` frames of all kinds.
    pub(super) fn went(&mut self, sent: u64, now: Instant) {
        let full = self.under_way.len() >= UNDER_WAY;
        match self.under_way.back_mut() {
            Some((last, at)) if full || *at + TOGETHER > now => *last = sent,
            Some(_) | None => self.under_way.push_back((sent, now)),
        }
    }

    /// A frame of other kind goes.
    pub(in super::super) const fn other_went(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_sub(bytes.saturating_mul(SHARE));
    }

    /// So many frames of all kinds have come to the other end.
    pub(in super::super) fn arrived(&mut self, received: u64) {
        self.acknowledges = true;
        while self.under_way.front().is_some_and(|(sent, _)| *sent <= received) {
            self.under_way.pop_front();
        }
    }

    /// The other end is to be told that nothing up to a number comes on this edge.
    pub(super) fn owe(&mut self, flow: Flow, up_to: FrameNo) {
        let owed = self.owed.entry(flow).or_default();
        *owed = (*owed).max(up_to);
    }

    /// What to tell next.
    pub(in super::super) fn pull_passed(&mut self) -> Option<Vec<Passed>> {
        let mut passed = Vec::new();
        while passed.len() < LIVE_FLOWS_TOLD
            && let Some((flow, up_to)) = self.owed.pop_first()
        {
            passed.push(Passed { flow, up_to });
        }
        (!passed.is_empty()).then_some(passed)
    }

    /// The other end says so.
    pub(super) fn learn(&mut self, told: Passed) {
        let passed = self.passed.entry(told.flow).or_default();
        *passed = (*passed).max(told.up_to);
    }

    /// Nothing up to here comes from the other end.
    pub(super) fn passed(&self, flow: &Flow) -> FrameNo {
        self.passed.get(flow).copied().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, flow: &Flow) {
        self.owed.remove(flow);
        self.passed.remove(flow);
    }

    fn drop_first(&mut self, stats: &mut Stats) {
        let Some((_, frame)) = self.waiting.pop_front() else { return };
        self.freed(&frame, stats);
        stats.live_dropped += 1;
        self.owe(frame.header().flow(), frame.header().number);
    }

    fn freed(&mut self, frame: &Frame, stats: &mut Stats) {
        let bytes = frame.len() as u64;
        self.bytes -= bytes;
        stats.live_queue_bytes -= bytes;
    }
}
