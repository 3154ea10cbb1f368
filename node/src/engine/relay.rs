//! The data plane of a node: frames in, frames out, messages to the application, receipts back.
//!
//! # Contract
//! Inputs are the `on_*` and `set_*` calls, [`Relay::publish`], the edge calls and [`Relay::tick`],
//! each with the time, which never goes back. After each of them, and after each
//! [`Relay::poll_delivery`], [`Relay::poll_output`] is drained; a loss is told there before the
//! message that follows it is handed on. Bulk data is pulled: [`Relay::poll_frame`] and
//! [`Relay::poll_edge_message`] when an edge has room, [`Relay::poll_draft`] when the sealer has,
//! [`Relay::poll_delivery`] when the application has. [`Relay::poll_timeout`] is when to tick.
//!
//! # How nothing is lost and nothing sent twice
//! Of what is of class live, `live.rs` tells; this is about all else. A *flow* is the frames of one
//! source, incarnation and class. For each flow this node keeps what
//! it has (a floor and ranges above it) and the frames that somebody may still need; for each edge,
//! what the other end has. What is to be sent on an edge follows from the two: there are no queues.
//!
//! 1. An edge begins with summaries both ways; frames flow once both are *settled*. So each side
//!    knows exactly what the other lacks, and sends that: a change of the tree heals itself.
//! 2. A frame is released only when receipts show that all members have got it, and all neighbours.
//!    Until then any member can supply it.
//!    Some of what is released is kept nevertheless, for those who were away or come late.
//! 3. What is unreleased is bounded by the window of its source, so stores are bounded and a slow
//!    receiver holds sources back.
//!
//! A joiner takes from the first settled summary, for each flow, two numbers: what is *released*,
//! after which it starts, and the *floor*. What lies between them others still need, so it fetches
//! and keeps it: it is a full relay at once, and the members behind it can get from it whatever they
//! lack. It delivers that too, for its source may have known of it already; but if it is released
//! before it comes, it is passed over in silence.
//!
//! # Why reading never stops
//! [`Relay::may_read`] waits for the summaries and for nothing else. Stopping to read an edge when
//! the application is slow could hold up just that frame of another flow which would let something
//! be released, and two members could wait for each other. Memory is bounded without: undelivered
//! payload belongs to frames that are in the store (what is not delivered here is not released
//! here), and the store has quotas. Beyond these, frames are dropped and asked for later; but the
//! lowest unreleased frame of each flow is always taken, so that there is progress even then.
//!
//! # What "delivered" means
//! In receipts and in [`Event::Delivered`]: handed to the application, or reported lost to it there
//! ([`Event::Lost`]), or sent before the member came in. Pieces of a large message count one by one
//! as they are taken in, and none is taken in before there is room for the whole message.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::Message as EdgeMessage,
    id::{Class, Digest, Epoch, Flow, FrameNo, Incarnation, KeyId, MemberId, ServiceId, SessionId},
};
use bytes::Bytes;

use crate::engine::event::{EdgeId, Event, PublishId, Rejection};

mod admission;
mod assemble;
mod config;
mod delivery;
mod direct;
mod edge;
mod flow;
mod flush;
mod forward;
mod history;
mod hold;
mod in_band;
mod inquiry;
mod live;
mod publish;
mod pull;
mod pulse;
mod receipts;
mod repair;
mod routes;
#[cfg(feature = "sabotage")]
mod sabotage;
mod settle;
mod slow;
mod stats;
mod store;
mod token_bucket;
mod turns;

pub use config::Config;
pub use hold::Buffering;
pub use pulse::RoundTrip;
#[cfg(feature = "sabotage")]
pub use sabotage::Sabotage;
pub use stats::{Carried, Stats, Traffic};

use admission::Admission;
use edge::{Edge, Life};
use flow::{FlowState, Tombstones};
use flush::Flush;
use history::Past;
use hold::Hold;
use in_band::Trees;
use inquiry::Inquiries;
use live::Live;
use publish::Publisher;
use repair::Holes;
use routes::Routes;
use slow::Slow;
use turns::Turns;

/// The members that owe each other every message, and where this node stands among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roster {
    /// See [`arborcast_protocol::tree::Tree::roster_hash`].
    pub hash: Digest,
    /// How many they are.
    pub len: u32,
    /// Position of this node in order of ids.
    pub index: u32,
}

/// What comes out beside bulk data.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// For the application.
    Event(Event),
    /// Both sides are done with an edge: close it.
    Finished(EdgeId),
    /// Nothing was heard on an edge for too long, or its peer does not settle: close it.
    Dead(EdgeId),
    /// A heartbeat shows how long the way there and back takes.
    RoundTrip {
        /// On which edge.
        edge: EdgeId,
        /// What it shows.
        round_trip: RoundTrip,
    },
    /// A heartbeat shows the newest tree of a peer.
    PeerEpoch {
        /// On which edge.
        edge: EdgeId,
        /// The epoch.
        epoch: Epoch,
    },
    /// What is held is to be passed on: answer with [`Relay::await_answer`] or
    /// [`Relay::pass_on_held`].
    Overflow,
    /// This node has adopted the floors of a settled neighbour.
    Settled,
    /// Others keep this node waiting, or no more: see [`Relay::slow`].
    Slow,
}

/// The data plane of one session at one node.
#[derive(Debug)]
pub struct Relay {
    config: Config,
    session: SessionId,
    /// The flow of this node's own frames for all.
    own: Flow,
    /// Where members lie.
    routes: Routes,
    settled: bool,
    roster: Option<Roster>,
    /// Who is present in which run; `None` before the first tree.
    members: Option<BTreeMap<MemberId, Incarnation>>,
    epoch: Epoch,
    flows: BTreeMap<Flow, FlowState>,
    /// What is released, as far as it is kept.
    past: Past,
    tombstones: Tombstones,
    edges: BTreeMap<EdgeId, Edge>,
    publisher: Publisher,
    /// See [`Self::is_ahead`].
    ahead: bool,
    flush: Flush,
    /// Flows that may have a message for the application.
    deliverable: Turns<Flow>,
    admission: Admission,
    holes: Holes,
    hold: Hold,
    trees: Trees,
    inquiries: Inquiries,
    live: Live,
    slow: Slow,
    /// The receipts of all edges together cover the roster.
    full: bool,
    /// When to look for flows to forget.
    prune_at: Option<Instant>,
    outputs: VecDeque<Output>,
    stats: Stats,
    /// By how much this node is late at times.
    lag: Duration,
    /// From when stamps count.
    origin: Instant,
}

impl Relay {
    /// A node that has seen nothing. `sealed`: payloads are encrypted, with the ticket's key.
    #[must_use]
    pub fn new(
        config: Config,
        me: MemberId,
        incarnation: Incarnation,
        session: SessionId,
        sealed: bool,
        now: Instant,
    ) -> Self {
        let own = Flow { source: me, incarnation, class: Class::Reliable, to: None };
        let state = FlowState::new(FrameNo(0), FrameNo(0), now);
        let key = sealed.then_some(KeyId(0));
        Self {
            config,
            session,
            own,
            routes: Routes::new(me),
            settled: false,
            roster: None,
            members: None,
            epoch: Epoch::default(),
            flows: BTreeMap::from([(own, state)]),
            past: Past::default(),
            tombstones: Tombstones::default(),
            edges: BTreeMap::new(),
            publisher: Publisher::new(session, own, key),
            ahead: false,
            flush: Flush::default(),
            deliverable: Turns::default(),
            admission: Admission::default(),
            holes: Holes::default(),
            hold: Hold::default(),
            trees: Trees::new(me),
            inquiries: Inquiries::default(),
            live: Live::new(session, own, key),
            slow: Slow::default(),
            full: false,
            prune_at: None,
            outputs: VecDeque::new(),
            stats: Stats { flows: 1, ..Stats::default() },
            lag: Duration::ZERO,
            origin: now,
        }
    }

    /// The coordinator's terms: bytes kept for others in all, and the largest message in bytes.
    pub const fn set_terms(&mut self, store_bytes: u64, message_bytes: u64) {
        self.config.store_bytes = store_bytes;
        self.config.message_bytes = message_bytes;
    }

    /// The members that receipts must cover; `None` while this node is in no tree, and then nothing
    /// is released. With more members the windows of all shrink.
    pub fn set_roster(&mut self, roster: Option<Roster>, now: Instant) {
        let roster = roster.filter(|roster| roster.index < roster.len);
        if self.roster != roster {
            self.roster = roster;
            self.ask_anew(now);
            self.on_shape(now);
        }
    }

    /// Who is present. Flows of others are forgotten once they are over.
    pub fn set_members(&mut self, members: &BTreeMap<MemberId, Incarnation>, now: Instant) {
        if self.members.as_ref() != Some(members) {
            self.members = Some(members.clone());
            self.prune_at = Some(now + self.config.prune_after);
        }
    }

    /// This node's newest tree, for heartbeats.
    pub fn set_epoch(&mut self, epoch: Epoch, _now: Instant) {
        if self.epoch != epoch {
            self.epoch = epoch;
            for edge in self.edges.values_mut() {
                edge.owes.heartbeat = true;
            }
        }
    }

    /// Takes a new edge into use: a summary is owed on it at once.
    pub fn edge_up(&mut self, edge: EdgeId, peer: MemberId, now: Instant) {
        self.stats.edges.insert(edge, Traffic::default());
        // Those of one tree come up together, and are not to beat together.
        let part = u32::try_from(edge.0 % 8).unwrap_or_default() + 1;
        self.edges.insert(edge, Edge::new(peer, self.config.heartbeat * part / 8, now));
        self.on_shape(now);
    }

    /// An edge is gone. What was under way on it, either side finds out from the next summaries.
    pub fn edge_down(&mut self, edge: EdgeId, now: Instant) {
        if let Some(mut gone) = self.edges.remove(&edge) {
            gone.live.clear(&mut self.stats);
            self.stats.edges.remove(&edge);
            self.forget_inquiries(edge);
            self.on_shape(now);
        }
    }

    /// The tree has dropped an edge: what its peer lacks now is still sent on it, but nothing new,
    /// and after fins from both sides (or a timeout) [`Output::Finished`] asks to close it. Most of
    /// what a timeout cuts off comes to the peer on its other edges.
    pub fn retire(&mut self, edge: EdgeId, now: Instant) {
        let timeout = self.config.fin_timeout;
        let id = edge;
        if let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_wanted()) {
            let hold = &self.hold;
            let last =
                |(flow, state): (&Flow, &FlowState)| (*flow, hold.last(flow, state.has.top()));
            edge.last = self.flows.iter().map(last).collect();
            edge.end(false, timeout, now);
            self.stop_if_drained(id);
            self.on_shape(now);
        }
    }

    /// Whether the edge is set aside: frames use it like any other, but its receipts count for
    /// nothing, neither here nor with others, so that numbers do not wait for themselves around a
    /// cycle, and nobody waits for an edge whose peer is reached without it. Exactly the edges that
    /// close cycles should be set aside; on a tree, an edge set aside hides what lies behind it.
    pub fn set_aside(&mut self, edge: EdgeId, aside: bool, now: Instant) {
        if let Some(edge) = self.edges.get_mut(&edge)
            && edge.aside != aside
        {
            edge.aside = aside;
            self.on_shape(now);
        }
    }

    /// Something comes on an edge, though no whole message yet.
    pub fn on_alive(&mut self, id: EdgeId, now: Instant) {
        if let Some(edge) = self.edges.get_mut(&id) {
            (edge.heard, edge.came_at) = (now, now);
        }
    }

    /// Something came on the control substream of an edge.
    pub fn on_message(&mut self, id: EdgeId, message: EdgeMessage, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.heard = now;
        edge.crossed = edge.crossed.saturating_add(1);
        match message {
            EdgeMessage::Summary(summary) => self.on_summary(id, summary, now),
            EdgeMessage::Heartbeat(heartbeat) => self.on_heartbeat(id, heartbeat, now),
            EdgeMessage::Receipts(receipts) => self.on_receipts(id, receipts, now),
            EdgeMessage::Ask(missing) => self.on_ask(id, &missing, now),
            EdgeMessage::Inquire(inquire) => self.on_inquire(id, &inquire, now),
            EdgeMessage::Have(have) => self.on_have(id, &have),
            EdgeMessage::Passed(passed) => self.on_passed(id, &passed),
            EdgeMessage::Fin => {
                let timeout = self.config.fin_timeout;
                edge.end(true, timeout, now);
                self.on_shape(now);
                self.finish(id, now);
            }
        }
    }

    /// Takes a message for all, or for one receiver alone. Its number is told by [`Event::Queued`]. One of
    /// class live is taken even while there is no room for others: the oldest of them gives way.
    pub fn publish(
        &mut self,
        id: PublishId,
        service: ServiceId,
        class: Class,
        to: Option<MemberId>,
        payload: Bytes,
        now: Instant,
    ) {
        let event = if let Some(why) = self.refuses(class, to, payload.len() as u64) {
            Event::Rejected { id, why }
        } else {
            let seq = match class {
                Class::Reliable => {
                    let to = to.map(|to| (to, self.routes.receiver(to)));
                    self.publisher.push(service, to, payload, &mut self.stats)
                }
                Class::Live => {
                    let seq = self.publisher.next_seq();
                    self.publish_live(seq, service, payload, now);
                    seq
                }
            };
            Event::Queued { id, seq }
        };
        self.outputs.push_back(Output::Event(event));
    }

    /// Why a message of so many bytes cannot be taken.
    fn refuses(&self, class: Class, to: Option<MemberId>, bytes: u64) -> Option<Rejection> {
        let limit = self.config.message_bytes.min(arborcast_protocol::limits::MESSAGE as u64);
        match class {
            Class::Live => self.refuses_live(to.is_some(), bytes),
            Class::Reliable if bytes > limit => Some(Rejection::TooLarge { bytes, limit }),
            Class::Reliable if !self.may_publish() => Some(Rejection::QueueFull),
            Class::Reliable => match to {
                Some(to) => self.refuses_receiver(to),
                None => self.trees.refusal(),
            },
        }
    }

    /// Whether there is room for one more message that is not of class live.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.publisher.has_room(&self.config, &self.stats)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        let ids: Vec<EdgeId> = self.edges.keys().copied().collect();
        for id in ids {
            self.tick_edge(id, now);
        }
        self.on_holes_due(now);
        self.on_hold_due(now);
        self.lift_due(now);
        self.on_flush_due(now);
        self.on_inquiries_due(now);
        self.on_live_due(now);
        self.on_slow_due(now);
        self.on_past_due(now);
        if self.prune_at.is_some_and(|at| at <= now) {
            self.prune(now);
        }
    }

    /// When to tick; always after the last tick.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let edges = self.edges.values().filter_map(|edge| self.edge_timeout(edge)).min();
        let (holes, hold, trees) = (self.holes.due(), self.hold.due(), self.trees.due());
        let (flush, inquiries, live) =
            (self.flush.due(), self.inquiries.due(), self.live.due(self.config.playout));
        let (slow, past) = (self.slow.due(), self.past.due());
        let own = [holes, hold, trees, flush, inquiries, live, slow, past, self.prune_at];
        own.into_iter().chain([edges]).flatten().min()
    }

    /// What is to be done or told.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next message for an edge's control substream. Also after [`Self::poll_frame`] there may
    /// be one: with the last frame of a retired edge its fin falls due.
    pub fn poll_edge_message(&mut self, id: EdgeId, now: Instant) -> Option<EdgeMessage> {
        let message = self.pull_message(id, now)?;
        if let Some(edge) = self.edges.get_mut(&id) {
            edge.crossed = edge.crossed.saturating_add(1);
        }
        Some(message)
    }

    fn pull_message(&mut self, id: EdgeId, now: Instant) -> Option<EdgeMessage> {
        let edge = self.edges.get_mut(&id)?;
        if matches!(edge.life, Life::Ending { said: true, .. }) {
            return None;
        }
        if std::mem::take(&mut edge.owes.summary) {
            return Some(EdgeMessage::Summary(self.pull_summary(id, now)));
        }
        if let Some(heartbeat) = self.pull_heartbeat(id, now) {
            return Some(EdgeMessage::Heartbeat(heartbeat));
        }
        let edge = self.edges.get_mut(&id)?;
        if let Life::Ending { draining, said, .. } = &mut edge.life {
            if *draining {
                return None;
            }
            *said = true;
            self.finish(id, now);
            return Some(EdgeMessage::Fin);
        }
        if !edge.is_active() {
            return None;
        }
        if let Some(passed) = edge.live.pull_passed() {
            return Some(EdgeMessage::Passed(passed));
        }
        if let Some(asks) = self.pull_asks(id) {
            return Some(EdgeMessage::Ask(asks));
        }
        if let Some(saying) = self.edges.get_mut(&id).and_then(Edge::pull_saying) {
            return Some(saying);
        }
        self.pull_receipts(id).map(EdgeMessage::Receipts)
    }

    /// Whether frames of an edge may be taken in; see above on why this does not depend on memory.
    #[must_use]
    pub fn may_read(&self, edge: EdgeId) -> bool {
        self.edges.get(&edge).is_some_and(Edge::may_read)
    }

    /// The other end of an edge.
    #[must_use]
    pub fn peer(&self, edge: EdgeId) -> Option<MemberId> {
        self.edges.get(&edge).map(|edge| edge.peer)
    }

    /// What was done and what is held.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Unreleased bytes that each member may have under way.
    fn window(&self) -> u64 {
        let members = self.roster.map_or(1, |roster| u64::from(roster.len.max(1)));
        (self.config.store_bytes / members).clamp(config::WINDOW_MIN, config::WINDOW_MAX)
    }

    /// Whether the source of a flow is there, in that run.
    fn is_present(&self, flow: &Flow) -> bool {
        self.members
            .as_ref()
            .is_none_or(|members| members.get(&flow.source) == Some(&flow.incarnation))
    }

    /// Room for large messages was set aside or given back: whoever waits for it tries again, if it
    /// can succeed. Before all others, lest a low flow that sends on and on comes first each time.
    fn try_waiting(&mut self) {
        for flow in self.admission.next() {
            self.deliverable.push_first(flow);
        }
    }

    fn finish(&mut self, id: EdgeId, now: Instant) {
        if self.edges.get_mut(&id).is_some_and(|edge| edge.finish(now)) {
            self.outputs.push_back(Output::Finished(id));
        }
    }

    fn tick_edge(&mut self, id: EdgeId, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        if edge.heartbeat_at <= now {
            edge.owes.heartbeat |= edge.is_wanted();
            edge.pulse.is_due();
            edge.heartbeat_at = now + edge.pulse.period(&self.config, now).0;
        }
        if edge.receipts_at.is_some_and(|at| at <= now) {
            edge.report_now();
        }
        let silent = edge.is_silent(&self.config, now);
        let unsettled = edge.settle_by.is_some_and(|at| at <= now);
        if (silent || unsettled) && edge.is_wanted() && !edge.dead {
            edge.dead = true;
            self.outputs.push_back(Output::Dead(id));
        }
        self.finish(id, now);
    }

    fn edge_timeout(&self, edge: &Edge) -> Option<Instant> {
        let (dead, fin) = match edge.life {
            Life::Wanted if edge.dead => (None, None),
            Life::Wanted => {
                let silent = edge.silent_at(&self.config);
                (Some(edge.settle_by.map_or(silent, |at| at.min(silent))), None)
            }
            Life::Ending { finished: true, .. } => return edge.live.due(self.config.playout),
            Life::Ending { deadline, .. } => (None, Some(deadline)),
        };
        let live = edge.live.due(self.config.playout);
        [dead, fin, Some(edge.heartbeat_at), edge.receipts_at, live].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
