//! Frames of class live, for audio and video: old ones give way to new ones, and nobody is held back.
//!
//! They share edges, sealing and the tree with reliable frames, and nothing else: no store, no
//! receipts, no repair, no window. Each is passed on once, at once, to all neighbours but the one it
//! came from.
//!
//! # Where old frames give way
//! - At its source, while messages wait to become frames.
//! - At each edge: what waits there is bounded in bytes and in time ([`super::Config::playout`]), and the
//!   oldest is dropped, for that edge alone. What went but did not arrive for longer keeps the rest
//!   waiting: buffers of the system drop nothing.
//! - At the application: what it does not take, in the same bounds.
//!
//! # Order
//! A hole is waited for one playout bound at most. If all edges on which the flow comes say that they
//! passed it over, or were not there yet, it is not waited for at all. What comes later than that is
//! dropped like a duplicate. So a joiner begins with what comes next.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::Passed,
    frame::Frame,
    id::{Class, Flow, FrameNo, Incarnation, KeyId, SeqNo, ServiceId, SessionId},
};
use bytes::Bytes;

use super::{
    Relay,
    config::{FLOWS, LIVE_MESSAGE, LIVE_TOTAL, RUNS},
    edge::Edge,
    flow::{Tombstone, Tombstones},
    forward::next_frame,
    turns::Turns,
};
use crate::engine::event::{Draft, EdgeId, Message, Rejection};

mod flow;
mod queue;
mod source;

pub(super) use queue::LiveQueue;

use flow::LiveFlow;
use source::Source;

/// The live half of the data plane.
#[derive(Debug)]
pub(super) struct Live {
    source: Source,
    flows: BTreeMap<Flow, LiveFlow>,
    tombstones: Tombstones,
    /// Flows that may have a message for the application.
    ready: Turns<Flow>,
    /// When holes have been waited for long enough.
    due: BTreeSet<(Instant, Flow)>,
    /// Live and other drafts, and messages, take turns where both wait.
    drafts_next: bool,
    delivers_next: bool,
}

impl Live {
    pub(super) fn new(session: SessionId, own: Flow, key: Option<KeyId>) -> Self {
        let flow = Flow { class: Class::Live, to: None, ..own };
        Self {
            source: Source::new(session, flow, key),
            flows: BTreeMap::new(),
            tombstones: Tombstones::default(),
            ready: Turns::default(),
            due: BTreeSet::new(),
            drafts_next: false,
            delivers_next: false,
        }
    }

    /// When to look.
    pub(super) fn due(&self, playout: Duration) -> Option<Instant> {
        let hole = self.due.first().map(|(at, _)| *at);
        hole.into_iter().chain(self.source.due(playout)).min()
    }

    /// Whether a live draft is to be tried first this time.
    pub(super) const fn drafts_first(&mut self) -> bool {
        self.drafts_next = !self.drafts_next;
        self.drafts_next
    }

    /// The same with messages for the application.
    pub(super) const fn delivers_first(&mut self) -> bool {
        self.delivers_next = !self.delivers_next;
        self.delivers_next
    }
}

impl Relay {
    /// Why a live message cannot be taken.
    pub(super) fn refuses_live(&self, alone: bool, bytes: u64) -> Option<Rejection> {
        if alone {
            return Some(Rejection::LiveForOne);
        }
        let limit = self.config.message_bytes.min(LIVE_MESSAGE);
        (bytes > limit).then_some(Rejection::LiveTooLarge { bytes, limit })
    }

    /// Takes a live message for all.
    pub(super) fn publish_live(
        &mut self,
        seq: SeqNo,
        service: ServiceId,
        payload: Bytes,
        now: Instant,
    ) {
        let most = self.config.live_bytes;
        self.live.source.push(seq, service, payload, most, now, &mut self.stats);
    }

    /// Whether what this node published live has gone: nothing of it waits here, nor, as far as is
    /// known, in buffers below.
    #[must_use]
    pub fn live_has_gone(&self, now: Instant) -> bool {
        let playout = self.config.playout;
        let mut edges = self.edges.values().filter(|edge| edge.is_active());
        self.live.source.is_empty()
            && edges.all(|edge| edge.live.is_empty() && !edge.live.is_under_way(playout, now))
    }

    /// The next live frame to make. What is published just before the first edge is up waits for that.
    pub(super) fn live_draft(&mut self, now: Instant) -> Option<Draft> {
        self.live.source.expire(self.config.playout, now, &mut self.stats);
        if !self.edges.values().any(Edge::is_active) {
            return None;
        }
        self.live.source.draft(&mut self.stats)
    }

    /// A draft became a frame.
    pub(super) fn on_live_made(&mut self, frame: &Frame, now: Instant) {
        if self.live.source.made(frame.header().number) {
            self.pass_on_live(None, frame, now);
        }
    }

    /// A genuine live frame came on an edge.
    pub(super) fn take_live(&mut self, id: EdgeId, frame: &Frame, payload: Bytes, now: Instant) {
        let (flow, number) = (frame.header().flow(), frame.header().number);
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.live.came = true;
        if self.is_own(&flow) || flow.to.is_some() {
            // This node's own, come back; or what no node makes.
            let made = flow.to.is_none() && number <= self.live.source.last();
            self.stats.count(id, |traffic| {
                traffic.duplicates += u64::from(made);
                traffic.forged += u64::from(!made);
            });
            return;
        }
        let playout = self.config.playout;
        let over = self.live.tombstones.floor(&flow).is_some_and(|floor| number <= floor);
        if !over && !self.live.flows.contains_key(&flow) {
            self.start_live(flow, number, now);
        }
        let Some(state) = self.live.flows.get_mut(&flow).filter(|_| !over) else {
            self.stats.count(id, |traffic| traffic.duplicates += 1);
            return;
        };
        state.fed(id, playout, now);
        if !state.offer(frame, payload, now, &mut self.stats) {
            // Where it came from it need not go.
            if let Some(edge) = self.edges.get_mut(&id) {
                edge.live.has(&flow, number, &mut self.stats);
            }
            self.stats.count(id, |traffic| traffic.duplicates += 1);
            return;
        }
        state.shrink(self.config.live_bytes, &mut self.stats);
        self.limit_live();
        self.live.ready.push(flow);
        self.pass_on_live(Some(id), frame, now);
    }

    /// The other end of an edge says what does not come on it.
    pub(super) fn on_passed(&mut self, id: EdgeId, passed: &[Passed]) {
        let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.may_read()) else { return };
        for told in passed {
            // What is not known here begins with what comes next anyway.
            if self.live.flows.contains_key(&told.flow) {
                edge.live.learn(*told);
                self.live.ready.push(told.flow);
            }
        }
    }

    /// From now on new live frames go to the other end of an edge, if it takes any; what came before does
    /// not.
    pub(super) fn open_to_live(&mut self, id: EdgeId) {
        let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.live.takes) else { return };
        let source = (self.live.source.flow(), self.live.source.last());
        let others = self.live.flows.iter().map(|(flow, state)| (*flow, state.top()));
        for (flow, top) in others.chain([source]).filter(|(_, top)| top.0 > 0) {
            edge.live.owe(flow, top);
        }
    }

    /// The next live frame for an edge, if one is to go before others.
    pub(super) fn poll_live(&mut self, id: EdgeId, now: Instant) -> Option<Frame> {
        let playout = self.config.playout;
        let edge = self.edges.get_mut(&id).filter(|edge| !edge.live.is_empty())?;
        edge.live.expire(playout, now, &mut self.stats);
        let other = next_frame(edge, &self.flows, &self.past, &self.routes, &self.hold);
        let other = other.map(|frame| frame.len() as u64);
        // Beyond what the way there, and waiting for a heartbeat to tell of it, take.
        let patience = playout.saturating_add(edge.pulse.acknowledges_within(&self.config, now));
        let frame = edge.live.pop(other, patience, now, &mut self.stats)?;
        edge.sent += 1;
        edge.live.went(edge.sent, now);
        Some(frame)
    }

    /// The next live message for the application; sources take turns.
    pub(super) fn poll_live_delivery(&mut self, now: Instant) -> Option<Message> {
        let playout = self.config.playout;
        while let Some(flow) = self.live.ready.pop() {
            let passed = self.passed_by_all(&flow);
            let Some(state) = self.live.flows.get_mut(&flow) else { continue };
            let message = state.next(passed, playout, now, &mut self.stats);
            if state.is_ready(passed, playout, now) {
                self.live.ready.push(flow);
            }
            if let Some(at) = state.due.take() {
                self.live.due.remove(&(at, flow));
            }
            state.due = state.waits_until(passed, playout).filter(|at| *at > now);
            self.live.due.extend(state.due.map(|at| (at, flow)));
            if let Some((seq, service, payload)) = message {
                let Flow { source, incarnation, class, to } = flow;
                return Some(Message { source, incarnation, class, seq, service, to, payload });
            }
        }
        None
    }

    /// Looks at what has waited for too long.
    pub(super) fn on_live_due(&mut self, now: Instant) {
        let playout = self.config.playout;
        while let Some((at, flow)) = self.live.due.first().copied()
            && at <= now
        {
            self.live.due.pop_first();
            if let Some(state) = self.live.flows.get_mut(&flow) {
                state.due = None;
            }
            self.live.ready.push(flow);
        }
        self.live.source.expire(playout, now, &mut self.stats);
        for edge in self.edges.values_mut() {
            edge.live.expire(playout, now, &mut self.stats);
        }
    }

    /// Forgets live flows of sources that have left, after a while.
    pub(super) fn prune_live(&mut self, now: Instant) {
        let after = self.config.prune_after;
        let (mut over, mut next) = (Vec::new(), None);
        for (flow, state) in &self.live.flows {
            let at = state.active_at + after;
            if self.is_present(flow) {
                continue;
            }
            if at <= now {
                over.push(*flow);
            } else {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            }
        }
        for flow in over {
            self.forget_live(flow);
        }
        self.prune_at = [self.prune_at, next].into_iter().flatten().min();
    }

    fn pass_on_live(&mut self, from: Option<EdgeId>, frame: &Frame, now: Instant) {
        let most = self.config.live_bytes;
        let open = self
            .edges
            .iter_mut()
            .filter(|(id, edge)| Some(**id) != from && edge.is_active() && edge.live.takes);
        for (_, edge) in open {
            edge.live.put(frame.clone(), most, now, &mut self.stats);
        }
        self.count_as_held(frame.header(), frame.len() as u64, now);
    }

    /// Begins a flow with the frame that came.
    fn start_live(&mut self, flow: Flow, number: FrameNo, now: Instant) {
        let run = |byte| Incarnation::from_bytes([byte; Incarnation::LEN]);
        let (first, last) =
            (Flow { incarnation: run(0), ..flow }, Flow { incarnation: run(u8::MAX), ..flow });
        let runs: Vec<Flow> = self.live.flows.range(first..=last).map(|(run, _)| *run).collect();
        let full = self.live.flows.len() >= FLOWS;
        let candidates: Vec<Flow> = if runs.len() >= RUNS {
            runs
        } else if full {
            self.live.flows.keys().copied().collect()
        } else {
            Vec::new()
        };
        let active = |flow: &Flow| self.live.flows.get(flow).map(|state| state.active_at);
        if let Some(oldest) = candidates.into_iter().min_by_key(active) {
            self.forget_live(oldest);
        }
        self.live.tombstones.remove(&flow);
        self.live.flows.insert(flow, LiveFlow::new(number, now));
        if !self.is_present(&flow) {
            self.prune_at.get_or_insert(now + self.config.prune_after);
        }
    }

    fn forget_live(&mut self, flow: Flow) {
        let Some(mut state) = self.live.flows.remove(&flow) else { return };
        self.live.tombstones.insert(flow, Tombstone { floor: state.top(), expect: None });
        state.clear(&mut self.stats);
        if let Some(at) = state.due {
            self.live.due.remove(&(at, flow));
        }
        for edge in self.edges.values_mut() {
            edge.live.forget(&flow);
        }
    }

    /// The flow that holds most gives way until all together hold no more than they may.
    fn limit_live(&mut self) {
        let most = self.config.live_bytes.saturating_mul(LIVE_TOTAL);
        while self.stats.live_undelivered_bytes > most {
            let Some(state) = self.live.flows.values_mut().max_by_key(|state| state.bytes()) else {
                return;
            };
            state.shrink(state.bytes().saturating_sub(1), &mut self.stats);
        }
    }

    /// Nobody on whose edge a flow comes will bring what is missing of it up to here.
    fn passed_by_all(&self, flow: &Flow) -> FrameNo {
        let Some(state) = self.live.flows.get(flow) else { return FrameNo(0) };
        let edges = state.feeders().filter_map(|id| self.edges.get(&id));
        edges.map(|edge| edge.live.passed(flow)).min().unwrap_or_default()
    }
}
