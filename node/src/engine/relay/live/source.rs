//! Live messages of this node that are not frames yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    frame::{Content, Header},
    id::{Flow, FrameNo, KeyId, SeqNo, ServiceId, SessionId},
    limits,
};
use bytes::{BufMut, Bytes, BytesMut};

use super::super::{
    publish::{LENGTH, pieces_of},
    stats::Stats,
};
use crate::engine::event::Draft;

/// What a message takes of the room for those that wait, beside its payload, in bytes.
const WEIGHT: u64 = 64;

/// Messages that wait, and the numbers of frames.
#[derive(Debug)]
pub(super) struct Source {
    session: SessionId,
    flow: Flow,
    key: Option<KeyId>,
    queue: VecDeque<Queued>,
    bytes: u64,
    /// A large message that is being cut, and how many pieces of it are drafted.
    cut: Option<(Queued, u32)>,
    /// The last frame that was drafted.
    last: FrameNo,
    /// Drafts that are not made yet.
    drafted: VecDeque<FrameNo>,
}

#[derive(Debug)]
struct Queued {
    seq: SeqNo,
    service: ServiceId,
    payload: Bytes,
    since: Instant,
}

impl Source {
    pub(super) const fn new(session: SessionId, flow: Flow, key: Option<KeyId>) -> Self {
        Self {
            session,
            flow,
            key,
            queue: VecDeque::new(),
            bytes: 0,
            cut: None,
            last: FrameNo(0),
            drafted: VecDeque::new(),
        }
    }

    pub(super) const fn flow(&self) -> Flow {
        self.flow
    }

    /// The last frame that was drafted.
    pub(super) const fn last(&self) -> FrameNo {
        self.last
    }

    /// Whether everything became frames.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.cut.is_none() && self.drafted.is_empty()
    }

    /// Takes a message; the oldest give way to it.
    pub(super) fn push(
        &mut self,
        seq: SeqNo,
        service: ServiceId,
        payload: Bytes,
        most: u64,
        now: Instant,
        stats: &mut Stats,
    ) {
        let queued = Queued { seq, service, payload, since: now };
        self.bytes += queued.weight();
        stats.live_queue_bytes += queued.weight();
        self.queue.push_back(queued);
        while self.bytes > most && self.queue.len() > 1 {
            self.pop(stats);
            stats.live_dropped += 1;
        }
    }

    /// Drops what has waited for too long.
    pub(super) fn expire(&mut self, playout: Duration, now: Instant, stats: &mut Stats) {
        while self.due(playout).is_some_and(|at| at <= now) {
            self.pop(stats);
            stats.live_dropped += 1;
        }
    }

    /// When something has waited for too long.
    pub(super) fn due(&self, playout: Duration) -> Option<Instant> {
        self.queue.front().map(|first| first.since + playout)
    }

    /// The next frame to make.
    pub(super) fn draft(&mut self, stats: &mut Stats) -> Option<Draft> {
        if self.cut.is_none() {
            let first = self.queue.front()?;
            if first.payload.len() <= limits::FRAME_PAYLOAD - LENGTH {
                return self.gather(stats);
            }
            self.cut = self.pop(stats).map(|first| (first, 0));
        }
        self.piece()
    }

    /// A draft became a frame. False if it was none, or was made before.
    pub(super) fn made(&mut self, number: FrameNo) -> bool {
        let next = self.drafted.front() == Some(&number);
        if next {
            self.drafted.pop_front();
        }
        next
    }

    fn pop(&mut self, stats: &mut Stats) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.weight();
        stats.live_queue_bytes -= queued.weight();
        Some(queued)
    }

    /// The next piece of a large message. Once begun it is cut to its end: half of it is of no use.
    fn piece(&mut self) -> Option<Draft> {
        let (message, index) = self.cut.as_mut()?;
        let len = message.payload.len();
        let of = pieces_of(len);
        let size = len.div_ceil(of);
        let at = usize::try_from(*index).ok()?;
        let start = at.saturating_mul(size).min(len);
        let payload = message.payload.slice(start..start.saturating_add(size).min(len));
        let content =
            Content::Piece { index: *index, of: u32::try_from(of).ok()?, bytes: len as u64 };
        let (seq, service) = (message.seq, message.service);
        *index += 1;
        if at + 1 >= of {
            self.cut = None;
        }
        Some(self.number(service, seq, content, payload))
    }

    /// The messages at the head of the queue that have one service and fit one frame.
    fn gather(&mut self, stats: &mut Stats) -> Option<Draft> {
        let (seq, service) = self.queue.front().map(|first| (first.seq, first.service))?;
        let mut count = 0;
        let mut payload = BytesMut::new();
        while let Some(next) = self.queue.front()
            && next.service == service
            && next.seq.0 == seq.0.saturating_add(u64::from(count))
            && payload.len() + LENGTH + next.payload.len() <= limits::FRAME_PAYLOAD
            && count < limits::MESSAGES_PER_FRAME
        {
            let message = self.pop(stats)?;
            payload.put_u32(u32::try_from(message.payload.len()).ok()?);
            payload.put_slice(&message.payload);
            count += 1;
        }
        Some(self.number(service, seq, Content::Messages { count }, payload.freeze()))
    }

    fn number(
        &mut self,
        service: ServiceId,
        first_seq: SeqNo,
        content: Content,
        payload: Bytes,
    ) -> Draft {
        self.last = self.last.next();
        self.drafted.push_back(self.last);
        let header = Header {
            session: self.session,
            source: self.flow.source,
            incarnation: self.flow.incarnation,
            class: self.flow.class,
            number: self.last,
            service,
            first_seq,
            content,
            key: self.key,
            to: None,
            // It goes by the relays' own trees: nothing would repair what a tree that is not there
            // yet, or no more, leaves out.
            in_band: None,
        };
        Draft { header, payload }
    }
}

impl Queued {
    fn weight(&self) -> u64 {
        self.payload.len() as u64 + WEIGHT
    }
}
