//! From messages to drafts of frames: several small ones share a frame, a large one is cut (R7).
//! Nothing waits for more to come: at low rate a frame holds one message.

use std::collections::VecDeque;

use arborcast_protocol::{
    frame::{Content, Header, InBand},
    id::{Flow, FrameNo, KeyId, SeqNo, ServiceId, SessionId},
    limits,
};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Config, stats::Stats};
use crate::engine::event::Draft;

/// The length before each message in a run.
const LENGTH: usize = 4;

/// Bytes of a frame beside its payload, at most: lengths, header (some 200 bytes without the tree in
/// it), proof, seal.
const OVERHEAD: u64 = 2 + 256 + 2 + limits::FRAME_PROOF as u64 + 16;

/// Messages of this node that are not frames yet.
#[derive(Debug)]
pub(super) struct Publisher {
    session: SessionId,
    flow: Flow,
    key: Option<KeyId>,
    /// The tree that drafts carry (R13), with its length in bytes.
    in_band: Option<(InBand, u64)>,
    queue: VecDeque<Queued>,
    /// Pieces of the first message that were drafted.
    pieces: u32,
    last_seq: SeqNo,
    last_number: FrameNo,
    /// Drafts that were not made yet: number and an upper bound of the frame's bytes.
    drafted: VecDeque<(FrameNo, u64)>,
    drafted_bytes: u64,
    /// For each frame that ends a message: the last message that is whole with it.
    ends: VecDeque<(FrameNo, SeqNo)>,
}

#[derive(Debug)]
struct Queued {
    seq: SeqNo,
    service: ServiceId,
    payload: Bytes,
}

impl Publisher {
    pub(super) const fn new(session: SessionId, flow: Flow, key: Option<KeyId>) -> Self {
        Self {
            session,
            flow,
            key,
            in_band: None,
            queue: VecDeque::new(),
            pieces: 0,
            last_seq: SeqNo(0),
            last_number: FrameNo(0),
            drafted: VecDeque::new(),
            drafted_bytes: 0,
            ends: VecDeque::new(),
        }
    }

    /// Drafts carry this tree from now on, or none.
    pub(super) fn carry(&mut self, tree: Option<InBand>) {
        self.in_band = tree.map(|tree| {
            let bytes = tree.encoded_len() as u64;
            (tree, bytes)
        });
    }

    /// Whether a message of any permitted size is taken.
    pub(super) fn has_room(&self, config: &Config, stats: &Stats) -> bool {
        stats.queue_bytes < config.publish_bytes && self.queue.len() < config.publish_messages
    }

    /// Queues a message and numbers it.
    pub(super) fn push(&mut self, service: ServiceId, payload: Bytes, stats: &mut Stats) -> SeqNo {
        let seq = self.last_seq.next();
        self.last_seq = seq;
        stats.queue_bytes += payload.len() as u64;
        self.queue.push_back(Queued { seq, service, payload });
        seq
    }

    /// The next frame to make, if with it this node's unreleased bytes stay within `window`.
    /// `stored` of them are frames already. The first frame is always made.
    pub(super) fn draft(&mut self, stored: u64, window: u64, stats: &mut Stats) -> Option<Draft> {
        let unreleased = stored.saturating_add(self.drafted_bytes);
        let overhead = OVERHEAD + self.in_band.as_ref().map_or(0, |(_, bytes)| *bytes);
        let room = window.saturating_sub(unreleased.saturating_add(overhead));
        let most = if unreleased == 0 {
            limits::FRAME_PAYLOAD
        } else {
            usize::try_from(room).unwrap_or(usize::MAX).min(limits::FRAME_PAYLOAD)
        };
        let first = self.queue.front()?;
        let (first_seq, service) = (first.seq, first.service);
        let (content, payload, whole) = if first.payload.len() > limits::FRAME_PAYLOAD - LENGTH {
            self.cut(most, stats)?
        } else {
            self.gather(most, stats)?
        };
        let number = self.last_number.next();
        self.last_number = number;
        let bytes = payload.len() as u64 + overhead;
        self.drafted.push_back((number, bytes));
        self.drafted_bytes += bytes;
        if let Some(seq) = whole {
            self.ends.push_back((number, seq));
        }
        let header = Header {
            session: self.session,
            source: self.flow.source,
            incarnation: self.flow.incarnation,
            class: self.flow.class,
            number,
            service,
            first_seq,
            content,
            key: self.key,
            in_band: self.in_band.as_ref().map(|(tree, _)| tree.clone()),
        };
        Some(Draft { header, payload })
    }

    /// A draft became a frame. False if it was none, or was made before.
    pub(super) fn made(&mut self, header: &Header) -> bool {
        let Some(&(number, bytes)) = self.drafted.front() else { return false };
        if header.flow() != self.flow || header.number != number {
            return false;
        }
        self.drafted.pop_front();
        self.drafted_bytes -= bytes;
        true
    }

    /// All frames up to `stable` have arrived everywhere: the last message that is whole with them,
    /// if it is another one than before.
    pub(super) fn arrived(&mut self, stable: FrameNo) -> Option<SeqNo> {
        let mut last = None;
        while let Some(&(number, seq)) = self.ends.front()
            && number <= stable
        {
            self.ends.pop_front();
            last = Some(seq);
        }
        last
    }

    /// The next piece of the first message. Pieces are of equal size, so that the last is no
    /// splinter and a message just over the limit still has two.
    fn cut(&mut self, most: usize, stats: &mut Stats) -> Option<(Content, Bytes, Option<SeqNo>)> {
        let message = self.queue.front()?;
        let len = message.payload.len();
        let of = len.div_ceil(limits::FRAME_PAYLOAD).max(2);
        let size = len.div_ceil(of);
        let index = usize::try_from(self.pieces).ok()?;
        let start = index.saturating_mul(size).min(len);
        let end = start.saturating_add(size).min(len);
        if end - start > most {
            return None;
        }
        let content =
            Content::Piece { index: self.pieces, of: u32::try_from(of).ok()?, bytes: len as u64 };
        let payload = message.payload.slice(start..end);
        let seq = message.seq;
        stats.queue_bytes -= payload.len() as u64;
        self.pieces += 1;
        if index + 1 < of {
            return Some((content, payload, None));
        }
        self.pieces = 0;
        self.queue.pop_front();
        Some((content, payload, Some(seq)))
    }

    /// The messages at the head of the queue that have one service and fit one frame.
    fn gather(
        &mut self,
        most: usize,
        stats: &mut Stats,
    ) -> Option<(Content, Bytes, Option<SeqNo>)> {
        let service = self.queue.front()?.service;
        let (mut count, mut bytes) = (0, 0);
        for message in &self.queue {
            let with = message.payload.len().saturating_add(bytes + LENGTH);
            if message.service != service || with > most || count == limits::MESSAGES_PER_FRAME {
                break;
            }
            bytes = with;
            count += 1;
        }
        let mut payload = BytesMut::with_capacity(bytes);
        let mut last = None;
        for _ in 0..count {
            let message = self.queue.pop_front()?;
            payload.put_u32(u32::try_from(message.payload.len()).ok()?);
            payload.put_slice(&message.payload);
            stats.queue_bytes -= message.payload.len() as u64;
            last = Some(message.seq);
        }
        last?;
        Some((Content::Messages { count }, payload.freeze(), last))
    }
}

#[cfg(test)]
mod tests;
