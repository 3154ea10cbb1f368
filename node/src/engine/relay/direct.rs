//! Data for one receiver alone (R9, claim 7): along the path of the tree, handed out nowhere else.
//!
//! A frame that names its receiver counts in a flow of its own. Members between its source and that
//! receiver *carry* the flow: they keep and pass on its frames as those of any other, towards the
//! receiver alone, and neither put messages together nor deliver them. Others never hear of it. A node
//! that does not know the tree passes them on everywhere; the receiver alone delivers all the same.
//!
//! # How it is released
//! One number counts: up to where the receiver has been given everything, or the source has given up,
//! for the receiver has left. Whoever knows a higher one tells it to those on the way and to those
//! that have frames of the flow; it only rises. What it covers is released.
//!
//! # Why nothing is lost when the way changes
//! The source keeps what is not released, and each member on the way sends its next what that is not
//! known to have, as it does with group data. What is known stays true because a carrier that forgets
//! frames that are not released, as those off the way do in the end, *says* so: see
//! [`arborcast_protocol::edge::FlowReceipt`]. Then it is sent them again, if the way leads there.
//! Carriers give up no frame: only the receiver does, and reports that as a loss.

use std::{sync::Arc, time::Instant};

use arborcast_protocol::{
    edge::FlowReceipt,
    id::{Flow, FrameNo, MemberId},
    tree::Tree,
};

use super::{
    Output, Relay,
    config::{CARRIED, FLOWS},
    delivery::Delivery,
    edge::Edge,
    flow::FlowState,
    publish::Rest,
    routes::{Receiver, Routes},
};
use crate::engine::event::{EdgeId, Event, LossReason, MissReason, Rejection};

impl Relay {
    /// This node's newest tree; `None` if it follows its neighbours alone.
    pub fn set_tree(&mut self, tree: Option<Arc<Tree>>, now: Instant) {
        self.routes.set(tree);
        for to in self.publisher.receivers_with_rest() {
            match (self.routes.receiver(to), self.publisher.run_of(to)) {
                (Receiver::Unknown, _) => {}
                // It may be about to come.
                (Receiver::Absent, None) => {
                    let since = self.publisher.absent_since(to, now);
                    let next = since + self.config.abandon_delay;
                    self.prune_at = Some(self.prune_at.map_or(next, |old| old.min(next)));
                }
                (Receiver::Present(run), None) => self.publisher.set_run(to, run),
                (Receiver::Present(run), Some(before)) if run == before => {}
                (Receiver::Present(_), Some(_)) => {
                    self.give_up_on(to, MissReason::StartedAnew, now);
                }
                (Receiver::Absent, Some(_)) => {
                    self.give_up_on(to, MissReason::Left, now);
                }
            }
        }
        let directed = self.flows.iter().filter(|(flow, _)| flow.to.is_some());
        let directed: Vec<Flow> = directed.map(|(flow, _)| *flow).collect();
        for edge in self.edges.values_mut().filter(|edge| edge.is_active()) {
            for flow in &directed {
                if !tells(&self.routes, flow, edge) {
                    continue;
                }
                edge.ready.push(*flow);
                edge.dirty.insert(*flow);
                edge.report_within(self.config.receipt_delay, now);
            }
        }
        for flow in directed {
            self.watch(flow, now);
        }
    }

    /// Whether a flow is of this run of this node.
    pub(super) fn is_own(&self, flow: &Flow) -> bool {
        (flow.source, flow.incarnation) == (self.own.source, self.own.incarnation)
    }

    /// Unreleased bytes of this node's own frames.
    pub(super) fn own_bytes(&self) -> u64 {
        let last = Flow { to: Some(MemberId::from_bytes([u8::MAX; MemberId::LEN])), ..self.own };
        self.flows.range(self.own..=last).map(|(_, state)| state.store.bytes()).sum()
    }

    /// Why nothing can be sent to a member alone.
    pub(super) fn refuses_receiver(&self, to: MemberId) -> Option<Rejection> {
        if to == self.own.source {
            return Some(Rejection::ForOneself);
        }
        match self.routes.receiver(to) {
            Receiver::Absent => Some(Rejection::Absent(to)),
            Receiver::Unknown | Receiver::Present(_) => {
                (!self.publisher.has_lane(to)).then_some(Rejection::TooManyReceivers)
            }
        }
    }

    /// Up to where a directed flow is done with: its receiver has it, or its source has given it up.
    /// Never above what has come here, so that no neighbour can end a flow by lying.
    pub(super) fn done(&self, flow: &Flow) -> Option<FrameNo> {
        let state = self.flows.get(flow)?;
        if state.delivers {
            return Some(state.delivery.delivered());
        }
        let told = self.edges.values().filter_map(|edge| edge.flow(flow));
        let told = told.map(|entry| entry.released).max().unwrap_or_default();
        Some(told.min(state.seen))
    }

    /// Makes room for, and starts, a directed flow of which the genuine frame `number` has come. It
    /// begins with what is not done with.
    pub(super) fn start_directed(&mut self, flow: Flow, number: FrameNo, now: Instant) -> bool {
        let for_me = flow.to == Some(self.own.source);
        if for_me {
            self.limit_runs(&flow, now);
        } else {
            self.limit_carried(flow.source, now);
        }
        if self.flows.len() >= FLOWS {
            self.forget_idle(now);
        }
        if self.flows.len() >= FLOWS {
            self.evict(|_| true, now);
        }
        if self.flows.len() >= FLOWS {
            return false;
        }
        let told = self.edges.values().filter_map(|edge| edge.flow(&flow));
        let done = told.map(|entry| entry.released).max().unwrap_or_default();
        // Whoever sent the frame has not released it: what says otherwise is wrong, or late.
        let done = done.min(FrameNo(number.0.saturating_sub(1)));
        let state = if !for_me {
            FlowState::carried(done, now)
        } else if let Some(stone) = self.tombstones.remove(&flow) {
            FlowState::revived(stone, now)
        } else {
            // What was before may have been for an earlier run of this node.
            let delivery = Delivery::anywhere_after(done);
            FlowState { delivery, ..FlowState::new(done, done, now) }
        };
        self.flows.insert(flow, state);
        self.stats.flows = self.flows.len() as u64;
        self.prune_at.get_or_insert(now + self.config.prune_after);
        true
    }

    /// Whether a directed flow that is not delivered here can be forgotten, after nothing has happened
    /// in it for a while; `older` says that it was twice that time.
    pub(super) fn is_dispensable(&self, flow: &Flow, state: &FlowState, older: bool) -> bool {
        if self.is_own(flow) {
            return state.is_idle();
        }
        let over = older && (!self.is_present(flow) || !self.routes.is_known());
        state.is_idle() || over || !self.routes.passes_here(flow)
    }

    /// Whether a neighbour that has forgotten a carried flow is sent its frames again. Without a tree
    /// not once they are old: the neighbour may be off their way, and two nodes without a tree could
    /// give each other what nobody waits for again and again, for ever. Whoever has the tree and lies
    /// before them on the way has the frames still.
    pub(super) fn may_restore(&self, flow: &Flow, now: Instant) -> bool {
        let young = |state: &FlowState| now < state.active_at + self.config.prune_after;
        self.is_own(flow) || self.routes.is_known() || self.flows.get(flow).is_none_or(young)
    }

    /// Gives up the messages for those that were never seen, and are in no tree for too long: what
    /// waits for them takes room from what is for others.
    pub(super) fn give_up_absent(&mut self, now: Instant) {
        for to in self.publisher.receivers_with_rest() {
            if self.routes.receiver(to) != Receiver::Absent || self.publisher.run_of(to).is_some() {
                continue;
            }
            let until = self.publisher.absent_since(to, now) + self.config.abandon_delay;
            if until <= now {
                self.give_up_on(to, MissReason::NeverCame, now);
            } else {
                self.prune_at = Some(self.prune_at.map_or(until, |old| old.min(until)));
            }
        }
    }

    /// Without a tree nobody says that a receiver has left: its messages are given up when it has not
    /// confirmed any for that long.
    pub(super) fn give_up_unheard(&mut self, flow: &Flow, now: Instant) {
        if let Some(to) = flow.to
            && !self.routes.is_known()
        {
            self.give_up_on(to, MissReason::Unconfirmed, now);
        }
    }

    /// Gives up all messages for a receiver that it is not known to have.
    fn give_up_on(&mut self, to: MemberId, reason: MissReason, now: Instant) {
        let flow = Flow { to: Some(to), ..self.own };
        let Some(Rest { last, messages }) = self.publisher.abandon(to, &mut self.stats) else {
            return;
        };
        if let Some(state) = self.flows.get_mut(&flow) {
            state.release(last, &mut self.stats);
            self.report(None, flow, 0, now);
        }
        if let Some((from, last)) = messages {
            let event = Event::Missed { to, from, last, reason };
            self.outputs.push_back(Output::Event(event));
        }
    }

    /// Keeps within the bound of flows carried for one source.
    fn limit_carried(&mut self, source: MemberId, now: Instant) {
        let of_source = |flow: &Flow| flow.source == source;
        let carried = |(flow, state): &(&Flow, &FlowState)| {
            of_source(flow) && flow.to.is_some() && !state.delivers
        };
        if self.flows.iter().filter(carried).count() >= CARRIED {
            self.evict(of_source, now);
        }
    }

    /// Forgets the carried flow in which nothing has happened for longest, idle ones first.
    fn evict(&mut self, of: impl Fn(&Flow) -> bool, now: Instant) {
        let oldest = self
            .flows
            .iter()
            .filter(|(flow, state)| flow.to.is_some() && !state.delivers && !self.is_own(flow))
            .filter(|(flow, _)| of(flow))
            .min_by_key(|(_, state)| (!state.is_idle(), state.active_at))
            .map(|(flow, _)| *flow);
        if let Some(oldest) = oldest {
            self.forget_carried(oldest, now);
        }
    }

    /// Forgets a flow that is not delivered here, and says so where that matters.
    pub(super) fn forget_carried(&mut self, flow: Flow, now: Instant) {
        let held = self.flows.get(&flow).map_or(0, |state| state.store.len());
        self.stats.let_go += held as u64;
        let held = held > 0;
        self.forget(flow, LossReason::NotKept);
        for edge in self.edges.values_mut().filter(|edge| held && edge.is_active()) {
            edge.forgot.insert(flow);
            edge.report_within(self.config.receipt_delay, now);
        }
    }

    /// Something of a directed flow came that is done with: whoever sent it does not know yet.
    pub(super) fn remind_done(&mut self, id: EdgeId, flow: Flow, now: Instant) {
        if flow.to.is_some()
            && let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_active())
        {
            if let Some(entry) = edge.flow_mut(flow) {
                entry.told = None;
            }
            edge.dirty.insert(flow);
            edge.report_within(self.config.receipt_delay, now);
        }
    }
}

/// Whether the other end of an edge is told how far a flow is. Of a directed one, whoever is on its
/// way is told, and whoever has something of it.
pub(super) fn tells(routes: &Routes, flow: &Flow, edge: &Edge) -> bool {
    routes.concerns(flow, edge.peer)
        || edge.flow(flow).is_some_and(|entry| entry.known.top() > FrameNo(0))
}

/// Says that this node has nothing of a flow any more.
pub(super) const fn forgotten(flow: Flow) -> FlowReceipt {
    let none = FrameNo(0);
    FlowReceipt { flow, floor: none, top: none, delivered: none, released: none, begin: None }
}
