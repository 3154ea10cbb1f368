//! One live flow as it is handed out: in order, across holes that are waited for no longer than one
//! playout bound, and whatever comes later than that not at all.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    frame::{Content, Frame, Header},
    id::{FrameNo, SeqNo, ServiceId},
};
use bytes::Bytes;

use super::super::{
    assemble::{Added, Assembly, Run},
    config::LIVE_MESSAGE,
    flow::sane,
    stats::Stats,
};
use crate::engine::event::EdgeId;

/// A message for the application.
type Message = (SeqNo, ServiceId, Bytes);

/// A live flow of another source.
///
/// What came is either up to `done` or in `waiting`, so that is all there is to tell duplicates by; the
/// bound on what waits bounds it.
#[derive(Debug)]
pub(super) struct LiveFlow {
    /// Everything up to here was handed out or passed over.
    done: FrameNo,
    /// Above that.
    waiting: BTreeMap<FrameNo, Waiting>,
    /// What waits and the pieces of the message that is begun, in bytes.
    bytes: u64,
    /// Of the frame `done`, with its length.
    run: Option<(Run, u64)>,
    assembly: Option<Assembly>,
    /// The last message that was handed out.
    last: SeqNo,
    /// When frames last came on each edge. Forgotten after two playout bounds.
    feeders: BTreeMap<EdgeId, Instant>,
    /// When it is looked at, if a hole is waited for.
    pub(super) due: Option<Instant>,
    /// When something last came.
    pub(super) active_at: Instant,
}

#[derive(Debug)]
struct Waiting {
    header: Header,
    payload: Bytes,
    /// As a frame.
    bytes: u64,
    since: Instant,
}

impl LiveFlow {
    /// Begins with the frame `first`, whatever was before.
    pub(super) fn new(first: FrameNo, now: Instant) -> Self {
        Self {
            done: sane(FrameNo(first.0.saturating_sub(1))),
            waiting: BTreeMap::new(),
            bytes: 0,
            run: None,
            assembly: None,
            last: SeqNo(0),
            feeders: BTreeMap::new(),
            due: None,
            active_at: now,
        }
    }

    /// The highest number that came.
    pub(super) fn top(&self) -> FrameNo {
        self.waiting.last_key_value().map_or(self.done, |(number, _)| *number)
    }

    /// A frame comes on an edge, new or not.
    pub(super) fn fed(&mut self, edge: EdgeId, playout: Duration, now: Instant) {
        self.active_at = now;
        self.feeders.retain(|_, at| *at + playout * 2 > now);
        self.feeders.insert(edge, now);
    }

    /// The edges on which frames came lately.
    pub(super) fn feeders(&self) -> impl Iterator<Item = EdgeId> + '_ {
        self.feeders.keys().copied()
    }

    /// Takes a frame. False if it was there, or is too late.
    pub(super) fn offer(
        &mut self,
        frame: &Frame,
        payload: Bytes,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        let header = frame.header().clone();
        let number = header.number;
        if number <= self.done || self.waiting.contains_key(&number) {
            return false;
        }
        let bytes = frame.len() as u64;
        self.waiting.insert(number, Waiting { header, payload, bytes, since: now });
        self.hold(bytes, stats);
        true
    }

    /// Lets the oldest give way until it holds at most so many bytes.
    pub(super) fn shrink(&mut self, most: u64, stats: &mut Stats) {
        while self.bytes > most {
            let Some((number, waiting)) = self.waiting.pop_first() else {
                self.drop_assembly(stats);
                if let Some((_, bytes)) = self.run.take_if(|_| self.bytes > most) {
                    self.free(bytes, stats);
                    stats.live_skipped += 1;
                }
                return;
            };
            self.free(waiting.bytes, stats);
            self.pass(number, stats);
            self.done = number;
        }
    }

    /// What it holds for the application, in bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self, stats: &mut Stats) {
        self.free(self.bytes, stats);
        self.waiting.clear();
        self.run = None;
        self.assembly = None;
    }

    /// Whether [`Self::next`] has something to do. Nobody will bring what is missing up to `passed`.
    pub(super) fn is_ready(&self, passed: FrameNo, playout: Duration, now: Instant) -> bool {
        self.run.is_some() || self.waits_until(passed, playout).is_some_and(|at| at <= now)
    }

    /// When what waits is handed out at the latest, if a hole is before it; long ago if none is.
    pub(super) fn waits_until(&self, passed: FrameNo, playout: Duration) -> Option<Instant> {
        let (number, first) = self.waiting.first_key_value()?;
        let hole = *number > self.done.next() && *number > passed.next();
        Some(if hole { first.since + playout } else { first.since })
    }

    /// The next message.
    pub(super) fn next(
        &mut self,
        passed: FrameNo,
        playout: Duration,
        now: Instant,
        stats: &mut Stats,
    ) -> Option<Message> {
        loop {
            if let Some((run, bytes)) = &mut self.run {
                let (message, bytes) = (run.next(), *bytes);
                if run.is_done() || message.is_none() {
                    self.run = None;
                    self.free(bytes, stats);
                }
                if let Some(message) = message {
                    self.last = message.0;
                    return Some(message);
                }
                continue;
            }
            if !self.is_ready(passed, playout, now) {
                return None;
            }
            let (number, Waiting { header, payload, bytes, since }) = self.waiting.pop_first()?;
            self.pass(FrameNo(number.0.saturating_sub(1)), stats);
            self.done = FrameNo(number.0.saturating_sub(1));
            // The application is slow; or a source that numbers messages twice.
            if since + playout * 2 <= now || header.first_seq <= self.last {
                self.free(bytes, stats);
                self.pass(number, stats);
                self.done = number;
                continue;
            }
            self.done = number;
            match header.content {
                Content::Messages { count } => {
                    if let Some(run) = Run::open(&header, count, payload) {
                        self.run = Some((run, bytes));
                    } else {
                        self.free(bytes, stats);
                        stats.live_skipped += 1;
                    }
                }
                Content::Piece { index, of, bytes: whole } => {
                    self.free(bytes, stats);
                    if let Some(message) = self.add(&header, (index, of, whole), payload, stats) {
                        return Some(message);
                    }
                }
            }
        }
    }

    fn add(
        &mut self,
        header: &Header,
        piece @ (index, of, whole): (u32, u32, u64),
        payload: Bytes,
        stats: &mut Stats,
    ) -> Option<Message> {
        if index == 0 {
            self.drop_assembly(stats);
            if whole > LIVE_MESSAGE {
                stats.live_skipped += 1;
                return None;
            }
            self.assembly = Some(Assembly::new(header, of, whole));
        }
        // The rest of a message of which a piece is lost.
        let mut assembly = self.assembly.take()?;
        self.free(assembly.held(), stats);
        match assembly.add(header, piece, payload) {
            Added::Incomplete => {
                self.hold(assembly.held(), stats);
                self.assembly = Some(assembly);
                None
            }
            Added::Complete(message) => {
                self.last = header.first_seq;
                Some((header.first_seq, header.service, message))
            }
            Added::Inconsistent => {
                stats.live_skipped += 1;
                None
            }
        }
    }

    /// What is missing up to `up_to` is not waited for any longer, and what was begun is not whole
    /// without it.
    fn pass(&mut self, up_to: FrameNo, stats: &mut Stats) {
        let passed = up_to.0.saturating_sub(self.done.0);
        if passed > 0 {
            stats.live_skipped = stats.live_skipped.saturating_add(passed);
            self.drop_assembly(stats);
        }
    }

    fn drop_assembly(&mut self, stats: &mut Stats) {
        if let Some(assembly) = self.assembly.take() {
            self.free(assembly.held(), stats);
        }
    }

    fn hold(&mut self, bytes: u64, stats: &mut Stats) {
        self.bytes += bytes;
        stats.live_undelivered_bytes += bytes;
    }

    fn free(&mut self, bytes: u64, stats: &mut Stats) {
        self.bytes -= bytes;
        stats.live_undelivered_bytes -= bytes;
    }
}
