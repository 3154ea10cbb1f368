//! From messages to drafts of frames: several small ones share a frame, a large one is cut (R7).
//! Nothing waits for more to come: at low rate a frame holds one message.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use arborcast_protocol::{
    frame::{Content, Header, InBand},
    id::{Flow, FrameNo, Incarnation, KeyId, MemberId, SeqNo, ServiceId, SessionId},
    limits,
};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Config, config::OPEN_RECEIVERS, routes::Receiver, stats::Stats};
use crate::engine::event::Draft;

/// The length before each message in a run.
pub(super) const LENGTH: usize = 4;

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
    /// A frame without messages is due.
    flush: bool,
    /// One for the group, under `None`, and one for each receiver that was ever sent anything alone:
    /// no number is ever used twice, for it is the nonce of the seal. At most [`limits::MEMBERS`].
    lanes: BTreeMap<Option<MemberId>, Lane>,
    /// Receivers with frames under way. At most [`OPEN_RECEIVERS`].
    open: BTreeSet<MemberId>,
    /// Drafts that were not made yet: receiver, number and an upper bound of the frame's bytes.
    drafted: VecDeque<(Option<MemberId>, FrameNo, u64)>,
    drafted_bytes: u64,
}

/// The frames of one flow.
#[derive(Debug, Default)]
struct Lane {
    /// The last one that was drafted.
    last: FrameNo,
    /// All up to here have arrived, or are given up.
    over: FrameNo,
    /// The same of those that were given up.
    given_up: FrameNo,
    /// The run of the receiver, as far as it is known.
    run: Option<Incarnation>,
    /// Since when trees are known that do not name the receiver, while its run is not known.
    absent_since: Option<Instant>,
    /// For each frame that ends a message.
    ends: VecDeque<End>,
}

/// A frame that ends a message.
#[derive(Clone, Copy, Debug)]
struct End {
    number: FrameNo,
    /// The first and the last message that is whole with it.
    first: SeqNo,
    last: SeqNo,
}

#[derive(Debug)]
struct Queued {
    seq: SeqNo,
    service: ServiceId,
    to: Option<MemberId>,
    payload: Bytes,
}

/// How far a message of this node has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is not all made into frames yet, or was not published at all.
    Waiting,
    /// It is whole with this frame, which has not arrived everywhere yet.
    At(FrameNo),
    /// Where it should be, or given up.
    Arrived,
}

/// What was still to arrive at a receiver that is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rest {
    /// The last frame.
    pub(super) last: FrameNo,
    /// The first and the last message.
    pub(super) messages: Option<(SeqNo, SeqNo)>,
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
            flush: false,
            lanes: BTreeMap::new(),
            open: BTreeSet::new(),
            drafted: VecDeque::new(),
            drafted_bytes: 0,
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

    /// Whether there can be messages for `to` alone.
    pub(super) fn has_lane(&self, to: MemberId) -> bool {
        self.lanes.len() < limits::MEMBERS || self.lanes.contains_key(&Some(to))
    }

    /// Numbers a message: numbers count those of all classes.
    pub(super) const fn next_seq(&mut self) -> SeqNo {
        self.last_seq = self.last_seq.next();
        self.last_seq
    }

    /// Queues a message, for all or for one receiver alone, and numbers it.
    pub(super) fn push(
        &mut self,
        service: ServiceId,
        to: Option<(MemberId, Receiver)>,
        payload: Bytes,
        stats: &mut Stats,
    ) -> SeqNo {
        if let Some((to, receiver)) = to {
            let lane = self.lanes.entry(Some(to)).or_default();
            match receiver {
                Receiver::Present(run) => lane.run = Some(run),
                Receiver::Unknown | Receiver::Absent => {}
            }
        }
        let to = to.map(|(to, _)| to);
        let seq = self.next_seq();
        stats.queue_bytes += payload.len() as u64;
        self.queue.push_back(Queued { seq, service, to, payload });
        seq
    }

    /// A frame without messages, for all, is to be made next. False if something else is to be made
    /// yet, or there is no room. There is room for one at least: [`Self::draft`] leaves it.
    pub(super) fn flush(&mut self, stored: u64, window: u64) -> bool {
        let idle = self.queue.is_empty() && self.drafted.is_empty();
        self.flush = idle && stored.saturating_add(OVERHEAD) <= window;
        self.flush
    }

    /// The next frame to make, if with it this node's unreleased bytes stay within `window`.
    /// `stored` of them are frames already. The first frame is always made.
    pub(super) fn draft(&mut self, stored: u64, window: u64, stats: &mut Stats) -> Option<Draft> {
        let unreleased = stored.saturating_add(self.drafted_bytes);
        let room = window.saturating_sub(unreleased.saturating_add(self.overhead() + OVERHEAD));
        let most = if unreleased == 0 {
            limits::FRAME_PAYLOAD
        } else {
            usize::try_from(room).unwrap_or(usize::MAX).min(limits::FRAME_PAYLOAD)
        };
        if std::mem::take(&mut self.flush) {
            let content = Content::Messages { count: 0 };
            let service = ServiceId(0);
            let first_seq = self.queue.front().map_or(self.last_seq.next(), |first| first.seq);
            let mut draft = self.number(None, service, first_seq, content, Bytes::new());
            draft.header.in_band = None;
            return Some(draft);
        }
        let first = self.queue.front()?;
        let (first_seq, service, to) = (first.seq, first.service, first.to);
        if let Some(to) = &to
            && !self.open.contains(to)
            && self.open.len() >= OPEN_RECEIVERS
        {
            return None;
        }
        let (content, payload, whole) = if first.payload.len() > limits::FRAME_PAYLOAD - LENGTH {
            self.cut(most, stats)?
        } else {
            self.gather(most, stats)?
        };
        let draft = self.number(to, service, first_seq, content, payload);
        if let Some(last) = whole
            && let Some(lane) = self.lanes.get_mut(&to)
        {
            lane.ends.push_back(End { number: draft.header.number, first: first_seq, last });
        }
        Some(draft)
    }

    /// Bytes of the next frame beside its payload, at most.
    fn overhead(&self) -> u64 {
        OVERHEAD + self.in_band.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// Gives the next frame of a flow its number.
    fn number(
        &mut self,
        to: Option<MemberId>,
        service: ServiceId,
        first_seq: SeqNo,
        content: Content,
        payload: Bytes,
    ) -> Draft {
        let lane = self.lanes.entry(to).or_default();
        let number = lane.last.next();
        lane.last = number;
        self.open.extend(to);
        let bytes = payload.len() as u64 + self.overhead();
        self.drafted.push_back((to, number, bytes));
        self.drafted_bytes += bytes;
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
            to,
            // What is for one member alone goes by no tree but the relays' own.
            in_band: self.in_band.as_ref().filter(|_| to.is_none()).map(|(tree, _)| tree.clone()),
        };
        Draft { header, payload }
    }

    /// A draft became a frame. False if it was none, or was made before.
    pub(super) fn made(&mut self, header: &Header) -> bool {
        let Some(&(to, number, bytes)) = self.drafted.front() else { return false };
        if header.flow() != (Flow { to, ..self.flow }) || header.number != number {
            return false;
        }
        self.drafted.pop_front();
        self.drafted_bytes -= bytes;
        true
    }

    /// All frames of a flow up to `stable` have arrived: the last message that is whole with them, if
    /// it is another one than before.
    pub(super) fn arrived(&mut self, to: Option<MemberId>, stable: FrameNo) -> Option<SeqNo> {
        let lane = self.lanes.get_mut(&to)?;
        lane.over = lane.over.max(stable);
        if let Some(to) = &to
            && lane.over >= lane.last
        {
            self.open.remove(to);
        }
        let mut last = None;
        while let Some(end) = lane.ends.front()
            && end.number <= stable
        {
            last = Some(end.last);
            lane.ends.pop_front();
        }
        last
    }

    /// How far a message has come.
    pub(super) fn place(&self, to: Option<MemberId>, seq: SeqNo) -> Place {
        let ends = self.lanes.get(&to).map(|lane| lane.ends.iter());
        let end = ends.into_iter().flatten().find(|end| end.last >= seq);
        let waits = self.queue.iter().any(|queued| queued.to == to && queued.seq <= seq)
            || seq > self.last_seq;
        match end {
            Some(end) => Place::At(end.number),
            None if waits => Place::Waiting,
            None => Place::Arrived,
        }
    }

    /// The last frame of a flow of this node.
    pub(super) fn last(&self, flow: &Flow) -> FrameNo {
        self.lanes.get(&flow.to).map_or(FrameNo(0), |lane| lane.last)
    }

    /// All frames of a flow of this node up to here were given up, if any were.
    pub(super) fn given_up(&self, flow: &Flow) -> FrameNo {
        self.lanes.get(&flow.to).map_or(FrameNo(0), |lane| lane.given_up)
    }

    /// The receivers that are not known to have all that was published for them alone.
    pub(super) fn receivers_with_rest(&self) -> BTreeSet<MemberId> {
        self.queue.iter().filter_map(|queued| queued.to).chain(self.open.iter().copied()).collect()
    }

    /// The run of a receiver that its messages were meant for.
    pub(super) fn run_of(&self, to: MemberId) -> Option<Incarnation> {
        self.lanes.get(&Some(to)).and_then(|lane| lane.run)
    }

    pub(super) fn set_run(&mut self, to: MemberId, run: Incarnation) {
        if let Some(lane) = self.lanes.get_mut(&Some(to)) {
            lane.run = Some(run);
            lane.absent_since = None;
        }
    }

    /// Since when a receiver that was never seen is missing: since now, if it was not before.
    pub(super) fn absent_since(&mut self, to: MemberId, now: Instant) -> Instant {
        let lane = self.lanes.get_mut(&Some(to));
        lane.map_or(now, |lane| *lane.absent_since.get_or_insert(now))
    }

    /// Gives up what a receiver is not known to have.
    pub(super) fn abandon(&mut self, to: MemberId, stats: &mut Stats) -> Option<Rest> {
        let lane = self.lanes.get_mut(&Some(to))?;
        let mut seqs: BTreeSet<SeqNo> =
            lane.ends.drain(..).flat_map(|end| [end.first, end.last]).collect();
        (lane.over, lane.given_up, lane.absent_since) = (lane.last, lane.last, None);
        let last = lane.last;
        self.open.remove(&to);
        let drafted = self.drafted_of_first();
        if self.queue.front().is_some_and(|first| first.to == Some(to)) {
            self.pieces = 0;
            stats.queue_bytes += drafted;
        }
        self.queue.retain(|queued| {
            let other = queued.to != Some(to);
            if !other {
                stats.queue_bytes -= queued.payload.len() as u64;
                seqs.insert(queued.seq);
            }
            other
        });
        let messages = seqs.first().copied().zip(seqs.last().copied());
        Some(Rest { last, messages })
    }

    /// Bytes of the first message that are in drafts already.
    fn drafted_of_first(&self) -> u64 {
        let len = self.queue.front().map_or(0, |first| first.payload.len());
        let size = len.div_ceil(pieces_of(len));
        usize::try_from(self.pieces).map_or(len, |pieces| pieces.saturating_mul(size).min(len))
            as u64
    }

    /// The next piece of the first message. Pieces are of equal size, so that the last is no
    /// splinter and a message just over the limit still has two.
    fn cut(&mut self, most: usize, stats: &mut Stats) -> Option<(Content, Bytes, Option<SeqNo>)> {
        let message = self.queue.front()?;
        let len = message.payload.len();
        let of = pieces_of(len);
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
        let Queued { seq, service, to, .. } = *self.queue.front()?;
        let (mut count, mut bytes) = (0, 0);
        for message in &self.queue {
            let with = message.payload.len().saturating_add(bytes + LENGTH);
            // The header names service and receiver, and the first number alone.
            let fits = (message.service, message.to) == (service, to)
                && message.seq.0 == seq.0.saturating_add(u64::from(count));
            if !fits || with > most || count == limits::MESSAGES_PER_FRAME {
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

/// How many pieces a message of so many bytes is cut into.
pub(super) fn pieces_of(len: usize) -> usize {
    len.div_ceil(limits::FRAME_PAYLOAD).max(2)
}

#[cfg(test)]
mod tests;
