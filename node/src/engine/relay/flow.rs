//! What this node has of one flow, and of the flows it has forgotten.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use arborcast_protocol::{
    frame::Frame,
    id::{Flow, FrameNo, SeqNo},
    numbers::NumberSet,
};
use bytes::Bytes;

use super::{config::TOMBSTONES, delivery::Delivery, stats::Stats, store::Store};

/// One flow at this node.
///
/// `released ≤ has.floor()`; the store holds what was received above `released`; `delivery` holds
/// the payloads above its cursor.
#[derive(Clone, Debug)]
pub(super) struct FlowState {
    /// Received, or given up. What is in here is a duplicate when it comes (R8).
    pub(super) has: NumberSet,
    /// The highest number known to exist.
    pub(super) top: FrameNo,
    /// The highest number of a genuine frame, though there may have been no room for it.
    pub(super) seen: FrameNo,
    /// Everything up to here is *stable*: all present members have it, so nobody will need it from
    /// this node.
    pub(super) released: FrameNo,
    /// Up to here all had everything when this node came: to it this is history, and nobody waits for it
    /// here.
    pub(super) past: FrameNo,
    pub(super) store: Store,
    pub(super) delivery: Delivery,
    /// It is handed out here. Not so what is for another member alone: that is carried.
    pub(super) delivers: bool,
    /// When something last happened in the flow.
    pub(super) active_at: Instant,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Inserted {
    /// It lay below the highest number held.
    pub(super) repair: bool,
    /// Bytes it takes in the store.
    pub(super) bytes: u64,
}

impl FlowState {
    /// A flow of which nothing is needed up to `released` and nothing is delivered up to `cursor`.
    pub(super) fn new(released: FrameNo, cursor: FrameNo, now: Instant) -> Self {
        let released = sane(released.min(cursor));
        Self {
            has: NumberSet::up_to(released),
            top: released,
            seen: released,
            released,
            past: released,
            store: Store::default(),
            delivery: Delivery::after(sane(cursor)),
            delivers: true,
            active_at: now,
        }
    }

    /// A flow that was forgotten and lives again.
    pub(super) fn revived(stone: Tombstone, now: Instant) -> Self {
        let delivery = Delivery::resuming(stone.floor, stone.expect);
        Self { delivery, ..Self::new(stone.floor, stone.floor, now) }
    }

    /// A flow for another member alone, of which nothing is needed up to `done`.
    pub(super) fn carried(done: FrameNo, now: Instant) -> Self {
        Self { delivers: false, ..Self::new(done, done, now) }
    }

    /// Takes a frame that is not in `has`.
    pub(super) fn insert(&mut self, frame: Frame, payload: Bytes, stats: &mut Stats) -> Inserted {
        let header = frame.header().clone();
        let number = header.number;
        let repair = number < self.has.top();
        self.has.insert(number);
        self.saw(number);
        if self.delivers {
            self.delivery.offer(header, payload, stats);
        }
        let bytes = self.store.insert(frame);
        stats.store_bytes += bytes;
        Inserted { repair, bytes }
    }

    /// A genuine frame came.
    pub(super) fn saw(&mut self, number: FrameNo) {
        self.seen = self.seen.max(number);
        self.top = self.top.max(number);
    }

    /// Somebody says that numbers up to `top` exist.
    pub(super) fn raise_top(&mut self, top: FrameNo) {
        self.top = self.top.max(sane(top));
    }

    /// All present members have everything up to `stable`. Gives the frames that are let go of; `None`
    /// if that is no news.
    pub(super) fn release(&mut self, stable: FrameNo, stats: &mut Stats) -> Option<Vec<Frame>> {
        if stable <= self.released {
            return None;
        }
        self.released = stable;
        self.has.raise_floor(stable);
        self.top = self.top.max(stable);
        let before = self.store.bytes();
        let frames = self.store.release(stable);
        stats.store_bytes -= before - self.store.bytes();
        Some(frames)
    }

    /// This node keeps nothing up to here: what is stable, and what was given up below all that
    /// is kept.
    pub(super) fn kept_above(&self) -> FrameNo {
        let floor = self.has.floor();
        let first = self.store.first().map(|number| FrameNo(number.0.saturating_sub(1)));
        first.map_or(floor, |first| first.min(floor)).max(self.released)
    }

    /// Whether something up to the highest number known is still missing.
    pub(super) fn has_hole(&self) -> bool {
        self.has.floor() < self.top
    }

    /// Whether the flow holds nothing that anybody waits for.
    pub(super) fn is_idle(&self) -> bool {
        self.store.is_empty() && self.is_over_here()
    }

    /// Whether all of it that came was handed out here. Others may still need what is stored.
    pub(super) fn is_over_here(&self) -> bool {
        !self.delivers || !self.delivery.is_ready(&self.has)
    }
}

/// A number that can have a next one. Numbers of real frames are always below the greatest; what
/// peers claim need not be.
pub(super) fn sane(number: FrameNo) -> FrameNo {
    number.min(FrameNo(u64::MAX - 2))
}

/// Floors of flows that were forgotten, so that frames of theirs that come again are not new. At
/// most [`TOMBSTONES`], the oldest give way.
#[derive(Clone, Debug, Default)]
pub(super) struct Tombstones {
    stones: BTreeMap<Flow, Tombstone>,
    order: VecDeque<Flow>,
}

/// What is remembered of a forgotten flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    /// Nothing up to here is new.
    pub(super) floor: FrameNo,
    /// The message that comes next, so that what is missing when the flow lives again is reported.
    pub(super) expect: Option<SeqNo>,
}

impl Tombstones {
    pub(super) fn insert(&mut self, flow: Flow, stone: Tombstone) {
        if self.stones.insert(flow, stone).is_none() {
            self.order.push_back(flow);
        }
        while self.order.len() > TOMBSTONES {
            if let Some(oldest) = self.order.pop_front() {
                self.stones.remove(&oldest);
            }
        }
    }

    pub(super) fn floor(&self, flow: &Flow) -> Option<FrameNo> {
        self.stones.get(flow).map(|stone| stone.floor)
    }

    /// Takes a stone out: the flow lives again.
    pub(super) fn remove(&mut self, flow: &Flow) -> Option<Tombstone> {
        let stone = self.stones.remove(flow)?;
        self.order.retain(|other| other != flow);
        Some(stone)
    }
}
