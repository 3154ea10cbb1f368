//! What is known of the other end of one edge life, and what is owed to it.
//!
//! What is to be sent is not queued but derived: it is what the store holds and the other end is not
//! known to have. A number enters `known` when the other end says that it has it, when it sent it,
//! and when it was sent to it. So on one edge life a frame crosses at most once in each direction
//! (R17), however often it is marked, asked for by mistake or received from elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::{FlowReceipt, FlowSummary, Message, Missing},
    id::{Digest, Flow, FrameNo, MemberId},
    numbers::NumberSet,
};

use super::{
    config::{EDGE_RANGES, FLOWS, FRAGMENTS},
    flow::sane,
    live::LiveQueue,
    pulse::Pulse,
    token_bucket::TokenBucket,
    turns::Turns,
};
use crate::engine::event::EdgeId;

/// One edge that is up.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) peer: MemberId,
    flows: BTreeMap<Flow, EdgeFlow>,
    /// Those of them whose source nobody vouches for here.
    unvouched: BTreeSet<Flow>,
    /// For questions, and for summaries, of the other side.
    pub(super) questions: TokenBucket,
    pub(super) summaries: TokenBucket,
    /// Flows that may have something for this edge. Others have nothing.
    pub(super) ready: Turns<Flow>,
    /// While draining: the last frame of each flow that still goes.
    pub(super) last: BTreeMap<Flow, FrameNo>,
    pub(super) life: Life,
    /// Its receipts are not used; see [`super::Relay::set_aside`].
    pub(super) aside: bool,

    pub(super) settled: Settled,

    /// The other side's receipts: roster and members covered. `None` before the first.
    pub(super) covered: Option<(Digest, Vec<u8>)>,
    /// What it was told last.
    pub(super) told_covered: Option<(Digest, Vec<u8>)>,
    /// The edges whose receipts went into what it was told.
    pub(super) sources: Vec<EdgeId>,
    /// Flows whose receipts changed since they were told.
    pub(super) dirty: BTreeSet<Flow>,
    /// Flows of which the other side is to be told that nothing is left here.
    pub(super) forgot: BTreeSet<Flow>,
    /// All flows may have changed.
    pub(super) all_dirty: bool,
    /// Bytes delivered since the last receipts.
    pub(super) unreported: u64,

    /// Bytes of frames that its receipts have confirmed since they were last counted.
    pub(super) took: u64,

    pub(super) owes: Owes,
    pub(super) asks: Vec<Missing>,
    /// Questions and answers about receipts. At most [`SAYINGS`].
    sayings: VecDeque<Message>,

    pub(super) heartbeat_at: Instant,
    pub(super) receipts_at: Option<Instant>,
    /// The other side's settled summary must have come by then.
    pub(super) settle_by: Option<Instant>,
    /// When something last came.
    pub(super) heard: Instant,
    pub(super) pulse: Pulse,
    /// Reported as dead.
    pub(super) dead: bool,

    /// Live frames.
    pub(super) live: LiveQueue,

    /// Messages and frames that crossed either way since a round trip was last measured.
    pub(super) crossed: u32,
    /// When a frame, or a part of one, last came.
    pub(super) came_at: Instant,
    /// Frames that came on this edge, good or bad.
    pub(super) received: u64,
    /// Frames that were put on it.
    pub(super) sent: u64,
    /// The other side's last heartbeat: when it came, and how many frames it had sent.
    pub(super) peer_sent: Option<(Instant, u64)>,
    /// Frames sent since the last regular heartbeat of this side, and between that and the one
    /// before. They may still be under way, so they are not sent again when asked for.
    recent: [BTreeMap<Flow, NumberSet>; 2],
    recent_since: Instant,
}

/// Which settled summaries have gone their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Settled {
    /// This side's was pulled.
    pub(super) sent: bool,
    /// The other side's came.
    pub(super) got: bool,
}

/// Messages to be pulled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Owes {
    pub(super) summary: bool,
    pub(super) heartbeat: bool,
    pub(super) receipts: bool,
}

/// How far an edge life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    /// Wanted by both sides, as far as is known.
    Wanted,
    /// One side has dropped it.
    Ending {
        /// What was to be sent before that is still sent.
        draining: bool,
        /// It is finished then, come what may.
        deadline: Instant,
        /// This side's fin was pulled.
        said: bool,
        /// The other side's fin came.
        heard: bool,
        /// Its end was reported.
        finished: bool,
    },
}

/// One flow on one edge.
#[derive(Clone, Debug, Default)]
pub(super) struct EdgeFlow {
    /// What the other end has for sure, or was sent on this edge life.
    pub(super) known: NumberSet,
    /// It keeps nothing up to here, not even as history.
    pub(super) released: FrameNo,
    /// Up to here it keeps nothing for anybody present, be it as history.
    pub(super) let_go: FrameNo,
    /// Up to here it is sent what it lacks from history too.
    pub(super) past: FrameNo,
    /// All members that its receipts cover were given everything up to here.
    pub(super) delivered: FrameNo,
    /// What it was told last.
    pub(super) told: Option<FlowReceipt>,
}

/// What was sent and does not come for so long, nor a part of it, does not come any more.
const OVER: Duration = Duration::from_secs(8);

/// Questions and answers that wait on one edge. Whoever gets none does without.
const SAYINGS: usize = 64;

impl EdgeFlow {
    /// A receipt of a flow for one receiver alone: numbers only rise, but a top of 0 says that what
    /// was there is forgotten. True if more of it is done with.
    fn learn_directed(&mut self, receipt: &FlowReceipt) -> bool {
        if receipt.is_forgotten() {
            self.known = NumberSet::up_to(self.released);
        }
        self.known.raise_floor(receipt.floor);
        let released = sane(receipt.released.max(receipt.delivered)).max(self.released);
        let changed = released != self.released;
        self.released = released;
        changed
    }
}

impl Edge {
    pub(super) fn new(peer: MemberId, heartbeat: Duration, now: Instant) -> Self {
        Self {
            peer,
            flows: BTreeMap::new(),
            unvouched: BTreeSet::new(),
            questions: TokenBucket::full(now),
            summaries: TokenBucket::full(now),
            ready: Turns::default(),
            last: BTreeMap::new(),
            life: Life::Wanted,
            aside: false,
            settled: Settled::default(),
            covered: None,
            told_covered: None,
            sources: Vec::new(),
            dirty: BTreeSet::new(),
            forgot: BTreeSet::new(),
            all_dirty: true,
            unreported: 0,
            took: 0,
            owes: Owes { summary: true, ..Owes::default() },
            asks: Vec::new(),
            sayings: VecDeque::new(),
            heartbeat_at: now + heartbeat,
            receipts_at: None,
            settle_by: None,
            heard: now,
            pulse: Pulse::new(),
            dead: false,
            live: LiveQueue::default(),
            crossed: 0,
            came_at: now,
            received: 0,
            sent: 0,
            peer_sent: None,
            recent: <[BTreeMap<Flow, NumberSet>; 2]>::default(),
            recent_since: now,
        }
    }

    /// Both settled summaries have gone their way: frames may come.
    pub(super) const fn may_read(&self) -> bool {
        self.settled.sent && self.settled.got
    }

    /// What was to be sent before the edge was dropped may still go.
    pub(super) const fn is_draining(&self) -> bool {
        matches!(self.life, Life::Ending { draining: true, .. })
    }

    /// Frames may go, new ones as well.
    pub(super) const fn is_active(&self) -> bool {
        self.may_read() && self.is_wanted()
    }

    pub(super) const fn is_wanted(&self) -> bool {
        matches!(self.life, Life::Wanted)
    }

    /// Everything that the other side said it had sent has come, or nothing has come for long since `since`. False
    /// before its first heartbeat after that.
    pub(super) fn is_drained(&self, since: Instant, now: Instant) -> bool {
        let is_over = now.saturating_duration_since(self.came_at.max(since)) >= OVER;
        self.peer_sent.is_some_and(|(at, sent)| at >= since && (self.received >= sent || is_over))
    }

    pub(super) fn flow(&self, flow: &Flow) -> Option<&EdgeFlow> {
        self.flows.get(flow)
    }

    /// The entry of a flow; `None` if there are too many already.
    pub(super) fn flow_mut(&mut self, flow: Flow) -> Option<&mut EdgeFlow> {
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&flow) {
            return None;
        }
        Some(self.flows.entry(flow).or_default())
    }

    /// Whether what the other side says of a flow is kept, that nobody vouches for, beside `most` others.
    pub(super) fn takes_unvouched(&mut self, flow: &Flow, most: usize) -> bool {
        if self.flows.contains_key(flow) {
            return true;
        }
        let has_room = self.unvouched.len() < most;
        if has_room {
            self.unvouched.insert(*flow);
        }
        has_room
    }

    /// Forgets what lies scattered above the floors, if it is too much in all. That costs repeated frames
    /// at worst.
    pub(super) fn bound_ranges(&mut self) {
        if self.ranges() > EDGE_RANGES {
            for entry in self.flows.values_mut() {
                entry.known = entry.known.truncated(1);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Ranges above the floors, of all flows.
    pub(super) fn ranges(&self) -> usize {
        self.flows.values().map(|entry| entry.known.fragments()).sum()
    }

    /// Everything that is known of a flow is forgotten.
    pub(super) fn forget(&mut self, flow: &Flow) {
        self.flows.remove(flow);
        self.unvouched.remove(flow);
        self.dirty.remove(flow);
        for recent in &mut self.recent {
            recent.remove(flow);
        }
    }

    pub(super) fn delivered(&self, flow: &Flow) -> FrameNo {
        self.flow(flow).map_or(FrameNo(0), |flow| flow.delivered)
    }

    /// The other end has a frame, for it sent it.
    pub(super) fn knows(&mut self, flow: Flow, number: FrameNo) {
        if let Some(entry) = self.flow_mut(flow) {
            entry.known.insert(number);
        }
    }

    /// An entry of the other side's summary.
    pub(super) fn learn_summary(&mut self, summary: &FlowSummary) {
        if let Some(entry) = self.flow_mut(summary.flow) {
            entry.known.merge(&summary.has);
            entry.released = entry.released.max(sane(summary.kept_above()));
            entry.let_go = entry.let_go.max(sane(summary.released));
            // Only somebody who sends summary after summary gets there. Forgetting costs repeated
            // frames at worst.
            if entry.known.fragments() > FRAGMENTS {
                entry.known = entry.known.truncated(FRAGMENTS);
            }
        }
    }

    /// An entry of the other side's receipts. True if what it delivered has changed.
    pub(super) fn learn_receipt(&mut self, receipt: &FlowReceipt) -> bool {
        let Some(entry) = self.flow_mut(receipt.flow) else { return false };
        if receipt.flow.to.is_some() {
            return entry.learn_directed(receipt);
        }
        entry.known.raise_floor(receipt.floor);
        entry.released = entry.released.max(sane(receipt.kept_above()));
        entry.let_go = entry.let_go.max(sane(receipt.released));
        let delivered = sane(receipt.delivered);
        let changed = delivered != entry.delivered;
        entry.delivered = delivered;
        changed
    }

    /// Has a message pulled after those that are owed. False if too many wait, or none goes now.
    pub(super) fn say(&mut self, message: Message) -> bool {
        let goes = self.is_active() && self.sayings.len() < SAYINGS;
        if goes {
            self.sayings.push_back(message);
        }
        goes
    }

    pub(super) fn pull_saying(&mut self) -> Option<Message> {
        self.sayings.pop_front()
    }

    /// A frame is put on the edge.
    pub(super) fn send(&mut self, flow: Flow, number: FrameNo) {
        self.knows(flow, number);
        self.sent += 1;
        self.crossed = self.crossed.saturating_add(1);
        self.recent[0].entry(flow).or_default().insert(number);
    }

    /// A heartbeat is put on the control substream.
    pub(super) fn heartbeat_sent(&mut self, period: Duration, now: Instant) {
        if self.recent_since + period <= now {
            let [new, old] = &mut self.recent;
            *old = std::mem::take(new);
            self.recent_since = now;
        }
    }

    /// Whether a frame was sent so lately that it may be under way.
    pub(super) fn is_under_way(&self, flow: &Flow, number: FrameNo) -> bool {
        self.recent.iter().any(|sent| sent.get(flow).is_some_and(|sent| sent.contains(number)))
    }

    /// Asks for receipts to be pulled within `delay`.
    pub(super) fn report_within(&mut self, delay: Duration, now: Instant) {
        if !self.owes.receipts {
            let at = now + delay;
            self.receipts_at = Some(self.receipts_at.map_or(at, |old| old.min(at)));
        }
    }

    /// Asks for receipts to be pulled at once.
    pub(super) const fn report_now(&mut self) {
        self.owes.receipts = true;
        self.receipts_at = None;
    }

    /// One side has dropped the edge. Without the other side's fin, `heard`, what was to be sent is
    /// sent first; then a last heartbeat, then fin.
    pub(super) fn end(&mut self, heard: bool, timeout: Duration, now: Instant) {
        match &mut self.life {
            Life::Wanted => {
                self.owes = Owes { summary: false, receipts: false, ..self.owes };
                self.receipts_at = None;
                self.settle_by = None;
                self.asks.clear();
                self.sayings.clear();
                self.dirty.clear();
                self.forgot.clear();
                let (deadline, draining) = (now + timeout, !heard && self.may_read());
                self.life =
                    Life::Ending { draining, deadline, said: false, heard, finished: false };
            }
            Life::Ending { heard: before, .. } => *before |= heard,
        }
        if heard {
            self.stop();
        }
    }

    /// No more frames are sent on an edge that ends: the last heartbeat and fin are due.
    pub(super) fn stop(&mut self) {
        self.ready = Turns::default();
        self.last.clear();
        if let Life::Ending { draining, said: false, .. } = &mut self.life {
            *draining = false;
            self.owes.heartbeat = true;
        }
    }

    /// Whether the edge has just come to its end: both fins are said and everything has come, or it
    /// took too long. True once.
    pub(super) fn finish(&mut self, now: Instant) -> bool {
        let complete = self.peer_sent.is_none_or(|(_, sent)| self.received >= sent);
        match &mut self.life {
            Life::Wanted => false,
            Life::Ending { deadline, said, heard, finished, .. } => {
                let end = (*said && *heard && complete) || now >= *deadline;
                let first = end && !*finished;
                *finished |= end;
                first
            }
        }
    }
}
