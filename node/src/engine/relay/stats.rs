//! Plain counters; the driver turns them into metrics and events.

use std::collections::BTreeMap;

use crate::engine::event::EdgeId;

/// What an edge has carried so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    /// Bytes of frames that came.
    pub came: u64,
    /// Bytes of frames that went.
    pub went: u64,
    /// There is more than the channel takes.
    pub is_full: bool,
}

/// What the data plane has done and what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Each edge that is up.
    pub edges: BTreeMap<EdgeId, Traffic>,
    /// All edges, gone ones as well.
    pub total: Traffic,
    /// Missing frames that were given up.
    pub given_up: u64,
    /// Frames for one receiver alone that this node carried and let go of unconfirmed: it was not on
    /// their way any more, or nothing had happened for too long. Neighbours may send them again.
    pub let_go: u64,
    /// Frames kept for others, in bytes as on the wire.
    pub store_bytes: u64,
    /// Frames that all have, kept for those who were away or come late, in bytes as on the wire.
    pub history_bytes: u64,
    /// Payload waiting for the application, in bytes. Part of frames that are also in the store.
    pub undelivered_bytes: u64,
    /// Pieces of incomplete messages, in bytes.
    pub assembly_bytes: u64,
    /// Published messages waiting to be cut into frames, in bytes.
    pub queue_bytes: u64,
    /// Data held until the next hops are asked for (R11), in bytes of frames.
    pub held_bytes: u64,
    /// Times that it was to be passed on: it overflowed its buffer, or one of its services cannot wait
    /// any longer.
    pub overflows: u64,
    /// Live frames that gave way to newer ones before they were passed on on an edge, each edge
    /// counted; and live messages of this node's own that did before they were frames.
    pub live_dropped: u64,
    /// Live frames that came too late for the application here, or not at all, or that it did not
    /// take in time.
    pub live_skipped: u64,
    /// Live data that waits to be sent, in bytes: messages and frames, each edge counted.
    pub live_queue_bytes: u64,
    /// Live data that waits for the application, in bytes.
    pub live_undelivered_bytes: u64,
    /// Flows whose state is kept.
    pub flows: u64,
    /// Frames sent, own ones and others, on edges that the trees in them name (R13).
    pub in_band_frames: u64,
    /// Frames with a tree that was not obeyed: it could not be rebuilt, or this node is not in it.
    pub in_band_refused: u64,
}

/// What crossed an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Frames received, whatever became of them.
    pub frames_in: u64,
    /// Bytes of the genuine ones.
    pub bytes_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes of them.
    pub bytes_out: u64,
    /// Frames dropped because they were there already (R8).
    pub duplicates: u64,
    /// Frames that filled a hole below the highest number held.
    pub repaired: u64,
    /// Frames that were not genuine, of another session, or claimed to be of this very node, and
    /// live ones for one receiver alone, which nobody makes.
    pub forged: u64,
    /// Frames dropped for want of room; they are asked for again.
    pub over_quota: u64,
    /// Questions and summaries dropped: too many, or of frames that nobody has heard of.
    pub over_rate: u64,
    /// Frames dropped because the edge did not carry yet; they are asked for again.
    pub early: u64,
    /// Frames that this node asked for again.
    pub asked: u64,
}

impl Stats {
    /// Counts something on an edge and in total.
    pub(super) fn count(&mut self, edge: EdgeId, count: impl Fn(&mut Traffic)) {
        count(&mut self.total);
        if let Some(traffic) = self.edges.get_mut(&edge) {
            count(traffic);
        }
    }
}
