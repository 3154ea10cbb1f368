//! History: frames that all present members have, kept for those who were away and those who come
//! late.
//!
//! What is released from a flow's store stays here: the newest bytes of all flows together, the oldest
//! gives way first, and none becomes older than some hours. Nobody waits for what is here: sources
//! count only what is not released, so history holds none of them back.
//!
//! # Whom it serves
//! It is not offered to everybody who lacks something of it, as the store is: members that come in
//! without history, or have forgotten a flow, lack it and are not to get it. A neighbour is sent
//! history of the flows that its settled summary lists, from its own floor on: so a member that was
//! away says where it stood, and a joiner where it chose to begin. Later on it is asked for, as
//! whatever else is missing.
//!
//! # Where a joiner begins
//! The session's terms say how much history joiners get; the neighbour works out which frame that
//! begins with ([`Start`]), for only who holds the frames sees where messages begin. It is always one
//! that begins a message, so that large messages come whole or not at all. What is not released is
//! owed to a joiner in any case, and never left out for the sake of a number.
//!
//! Data for one receiver alone is nobody's history.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::{FlowSummary, Start},
    frame::{Content, Frame},
    history::History,
    id::{Flow, FrameNo},
};

use super::{
    Relay,
    config::{HISTORY_AGE, PAST_FLOWS},
    edge::EdgeFlow,
    flow::FlowState,
};
use crate::engine::event::EdgeId;

/// Frames that were released, of all flows for the group. Bounded by [`super::Config::history_bytes`].
#[derive(Debug)]
pub(super) struct Past {
    flows: BTreeMap<Flow, Kept>,
    /// What is in there, oldest first, with when it was released. In each flow the numbers rise.
    order: VecDeque<(Instant, Flow, FrameNo)>,
    bytes: u64,
    /// What joiners get by the session's terms.
    granted: History,
    /// Frames are kept for no longer than this.
    age: Duration,
}

/// The frames of one flow: all from the one after `begin` to the last, so never none.
#[derive(Debug)]
struct Kept {
    begin: FrameNo,
    frames: BTreeMap<FrameNo, Frame>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            flows: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            granted: History::None,
            age: HISTORY_AGE,
        }
    }
}

impl Past {
    /// Bytes of the frames, as on the wire.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest frame has been kept for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.front().map(|(at, ..)| *at + self.age)
    }

    /// The number before the first frame that is kept of a flow; `None` if there is none.
    pub(super) fn begin(&self, flow: &Flow) -> Option<FrameNo> {
        self.flows.get(flow).map(|kept| kept.begin)
    }

    /// The numbers from `first` to `last` that are kept of a flow.
    pub(super) fn numbers(
        &self,
        flow: &Flow,
        first: FrameNo,
        last: FrameNo,
    ) -> impl Iterator<Item = FrameNo> + '_ {
        let frames = self.flows.get(flow).into_iter();
        frames
            .flat_map(move |kept| kept.frames.range(first..).map(|(&number, _)| number))
            .take_while(move |number| *number <= last)
    }

    /// The lowest frame of a flow that the other end of an edge lacks, as far as it gets history.
    pub(super) fn next_for(&self, flow: &Flow, entry: &EdgeFlow) -> Option<&Frame> {
        if entry.past == FrameNo(0) {
            return None;
        }
        let kept = self.flows.get(flow)?;
        let number = entry.known.next_missing(kept.begin.next());
        kept.frames.get(&number).filter(|_| number <= entry.past)
    }

    /// Keeps frames of a flow that were released up to `stable`, in order. What is below one that is
    /// missing is of no use any more: whoever lacks all could not go on after it.
    fn keep(&mut self, flow: Flow, frames: Vec<Frame>, stable: FrameNo, most: u64, now: Instant) {
        if most == 0 {
            return;
        }
        for frame in frames {
            let number = frame.header().number;
            let before = FrameNo(number.0.saturating_sub(1));
            if self.last(&flow).is_some_and(|last| last != before) {
                self.forget(&flow);
            }
            self.bytes += frame.len() as u64;
            self.order.push_back((now, flow, number));
            let new = || Kept { begin: before, frames: BTreeMap::new() };
            self.flows.entry(flow).or_insert_with(new).frames.insert(number, frame);
        }
        if self.last(&flow).is_some_and(|last| last != stable) {
            self.forget(&flow);
        }
        while self.bytes > most && self.drop_oldest() {}
    }

    fn last(&self, flow: &Flow) -> Option<FrameNo> {
        self.flows.get(flow)?.frames.last_key_value().map(|(&number, _)| number)
    }

    /// Lets go of what is too old.
    fn expire(&mut self, now: Instant) {
        while self.due().is_some_and(|due| due <= now) && self.drop_oldest() {}
    }

    /// False if there is nothing.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, flow, number)) = self.order.pop_front() else { return false };
        if let Some(kept) = self.flows.get_mut(&flow)
            && let Some(frame) = kept.frames.remove(&number)
        {
            self.bytes -= frame.len() as u64;
            kept.begin = number;
            if kept.frames.is_empty() {
                self.flows.remove(&flow);
            }
        }
        true
    }

    pub(super) fn forget(&mut self, flow: &Flow) {
        if let Some(kept) = self.flows.remove(flow) {
            self.bytes -= kept.frames.values().map(|frame| frame.len() as u64).sum::<u64>();
            self.order.retain(|(_, other, _)| other != flow);
        }
    }

    /// Where a joiner begins in a flow that is released up to `released`; `None`: after that.
    fn start(&self, flow: &Flow, state: &FlowState, released: FrameNo) -> Option<Start> {
        let past = self.flows.get(flow)?.frames.values();
        let start = match self.granted {
            History::None => None,
            History::All => past.map(start_of).find_map(|start| start.map(|(start, _)| start)),
            History::Last(messages) => {
                let newest_first = past.chain(state.store.frames()).rev();
                last_messages(newest_first, u64::from(messages.get()))
            }
        };
        start.filter(|start| start.after < released)
    }
}

/// Where the last messages begin, at most so many, of frames that come newest first.
fn last_messages<'a>(newest_first: impl Iterator<Item = &'a Frame>, most: u64) -> Option<Start> {
    let (mut found, mut start) = (0, None);
    for (at, messages) in newest_first.filter_map(start_of) {
        let wanted = most.saturating_sub(found);
        let left_out = messages.saturating_sub(wanted);
        let first = arborcast_protocol::id::SeqNo(at.first.0.saturating_add(left_out));
        start = Some(Start { first, ..at });
        found += messages;
        if found >= most {
            break;
        }
    }
    start
}

/// Where the messages of a frame begin, and how many begin in it; `None` if none does.
fn start_of(frame: &Frame) -> Option<(Start, u64)> {
    let header = frame.header();
    let messages = match header.content {
        Content::Messages { count } => u64::from(count),
        Content::Piece { index, .. } => u64::from(index == 0),
    };
    let after = FrameNo(header.number.0.saturating_sub(1));
    (messages > 0).then_some((Start { after, first: header.first_seq }, messages))
}

impl Relay {
    /// What joiners get of what was sent before, by the session's terms. `life` is how long frames
    /// surely stay genuine: their source's certificate is good for at least that long when it makes
    /// them.
    pub fn set_history(&mut self, granted: History, life: Duration) {
        self.past.granted = granted;
        self.past.age = HISTORY_AGE.min(life);
    }

    /// Keeps what was released of a flow.
    pub(super) fn keep_past(
        &mut self,
        flow: Flow,
        frames: Vec<Frame>,
        stable: FrameNo,
        now: Instant,
    ) {
        if flow.to.is_none() {
            self.past.keep(flow, frames, stable, self.config.history_bytes, now);
            self.stats.history_bytes = self.past.bytes();
        }
    }

    /// Lets go of history that is too old.
    pub(super) fn on_past_due(&mut self, now: Instant) {
        self.past.expire(now);
        self.stats.history_bytes = self.past.bytes();
    }

    /// The number from which on everything that this node has of a flow is kept, if that is below
    /// what is released.
    pub(super) fn past_begin(&self, flow: &Flow, state: &FlowState) -> Option<FrameNo> {
        // What was given up right above would be a hole.
        (state.kept_above() == state.released).then(|| self.past.begin(flow)).flatten()
    }

    /// The summary of a flow with what there is of its history.
    pub(super) fn with_past(&self, entry: FlowSummary, state: &FlowState) -> FlowSummary {
        let begin = self.past_begin(&entry.flow, state);
        let start = begin.and_then(|_| self.past.start(&entry.flow, state, entry.released));
        FlowSummary { begin, start, ..entry }
    }

    /// Where this node, that comes in, begins in a flow.
    pub(super) fn start_in(&self, entry: &FlowSummary) -> Option<Start> {
        let start = entry.start.filter(|_| !self.past.granted.is_none());
        start.filter(|start| start.after < entry.released)
    }

    /// The other end of an edge has said what it has of a flow: what it lacks of that is sent from
    /// history too.
    pub(super) fn send_past(&mut self, id: EdgeId, flow: Flow) {
        let Some(state) = self.flows.get(&flow) else { return };
        if let Some(edge) = self.edges.get_mut(&id)
            && let Some(entry) = edge.flow_mut(flow)
            && entry.known.floor() < state.released
            && self.past.begin(&flow).is_some()
        {
            entry.past = state.released;
            edge.ready.push(flow);
        }
    }

    /// Which flows of members that have left are kept for their history alone, of those where nobody
    /// waits for anything: where joiners get history, those of the newest that are still remembered.
    pub(super) fn lasting(&self) -> Vec<Flow> {
        if self.past.granted.is_none() {
            return Vec::new();
        }
        let is_past = |(flow, state): &(&Flow, &FlowState)| {
            !self.is_present(flow) && state.is_idle() && self.past.begin(flow).is_some()
        };
        let mut flows: Vec<_> = self.flows.iter().filter(is_past).collect();
        flows.sort_by_key(|(_, state)| std::cmp::Reverse(state.active_at));
        flows.into_iter().take(PAST_FLOWS).map(|(flow, _)| *flow).collect()
    }
}
