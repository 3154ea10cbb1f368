//! Receipts: who has been given what, aggregated along the tree, and what may be let go for it.
//!
//! # Why a receipt is always true
//! Receipts on an edge claim: "each member in `covered` was given everything up to `delivered`". A
//! member claims that for itself, and for others only what receipts of *other* edges under the same
//! roster claim: the union of their members with the minimum of their numbers. Deliveries are never
//! undone, so by induction each claim is true for ever, in any graph, in whatever order messages
//! come. What is old is only less than could be said. A flow that is not listed counts as 0.
//!
//! # Why nothing is let go too early
//! A frame is released once the whole roster is covered *and* every neighbour has it, also one that
//! is in no roster yet, or has not spoken yet: a new neighbour holds release until its first
//! receipts. So each member can supply its neighbours with what they lack, whoever moves where. What is
//! released can stay as history for those who are not counted: see [`super::history`].
//!
//! # In a cycle
//! While the tree overlaps with the one before, each number around the cycle would wait for itself.
//! That is safe, but nothing would rise. So the new edges of a cycle are set aside: their receipts
//! are kept but not used, until the old edges are gone. The peer on such an edge is in the roster and
//! covered by the old way, so nothing is let go that it lacks; and should the new edge never come up,
//! nobody waits for it.

use std::time::{Duration, Instant};

use arborcast_protocol::{
    edge::{FlowReceipt, Receipts},
    id::{Digest, Flow, FrameNo},
    limits,
};

use super::{
    Output, Relay,
    config::RECEIPT_FLOWS,
    direct::{forgotten, tells},
    edge::Edge,
};
use crate::engine::event::{EdgeId, Event};

/// What nobody waits for is told after so long.
const LAZY: Duration = Duration::from_secs(1);

impl Relay {
    pub(super) fn on_receipts(&mut self, id: EdgeId, mut receipts: Receipts, now: Instant) {
        if !self.edges.get(&id).is_some_and(Edge::is_wanted) {
            return;
        }
        receipts.flows.retain(|receipt| {
            (!receipt.is_forgotten() || self.may_restore(&receipt.flow, now))
                && self.may_learn(id, &receipt.flow)
        });
        let Some(edge) = self.edges.get_mut(&id) else { return };
        receipts.covered.truncate(limits::MEMBERS.div_ceil(8));
        let covered = Some((receipts.roster, receipts.covered));
        let shape = edge.covered != covered;
        edge.covered = covered;
        let changed: Vec<Flow> = receipts
            .flows
            .iter()
            .filter(|receipt| {
                let before = edge.confirmed(&receipt.flow);
                let changed = edge.learn_receipt(receipt);
                let risen = edge.confirmed(&receipt.flow).0.saturating_sub(before.0);
                if let Some(state) = self.flows.get(&receipt.flow) {
                    let frames = risen.min(state.store.len() as u64);
                    edge.took =
                        edge.took.saturating_add(frames.saturating_mul(state.store.average()));
                }
                changed
            })
            .map(|receipt| receipt.flow)
            .collect();
        for receipt in &receipts.flows {
            if let Some(state) = self.flows.get_mut(&receipt.flow)
                && !(receipt.flow.source == self.own.source
                    && receipt.flow.incarnation == self.own.incarnation)
            {
                state.raise_top(receipt.top);
            }
            self.pass_over(receipt.flow, receipt.kept_above());
            self.watch(receipt.flow, now);
            if receipt.flow.to.is_some()
                && receipt.top == FrameNo(0)
                && let Some(edge) = self.edges.get_mut(&id)
            {
                edge.ready.push(receipt.flow);
            }
            self.remind(id, receipt.flow, receipt.released, now);
        }
        // Before anything is released: the numbers go with the members in the same message.
        if shape {
            self.on_shape(now);
        }
        if changed.contains(&self.own) {
            self.await_confirmation(false, now);
        }
        if !self.full {
            receipts.flows.iter().for_each(|receipt| self.release(receipt.flow, now));
        }
        for flow in changed {
            let before = self.flows.get(&flow).map(|state| state.released);
            self.release(flow, now);
            let bytes = self.flows.get(&flow).map_or(0, |state| {
                let risen = state.released.0.saturating_sub(before.map_or(0, |number| number.0));
                risen.saturating_mul(state.store.average())
            });
            self.report(Some(id), flow, bytes, now);
        }
    }

    /// Who is covered may have changed: by receipts, by the roster, by edges that came or went.
    pub(super) fn on_shape(&mut self, now: Instant) {
        let ids: Vec<EdgeId> = self.edges.keys().copied().collect();
        for id in ids {
            let covered = self.covered_for(Some(id));
            let sources = self.sources(id);
            let Some(edge) = self.edges.get_mut(&id) else { continue };
            if edge.told_covered.as_ref() != Some(&covered) {
                edge.report_within(self.config.receipt_delay, now);
            }
            // Other sources: other minima, of all flows.
            if edge.sources != sources {
                edge.sources = sources;
                edge.all_dirty = true;
                edge.report_within(self.config.receipt_delay, now);
            }
        }
        self.full = self.is_covered();
        if self.full {
            let flows: Vec<Flow> = self.flows.keys().copied().collect();
            for flow in flows {
                self.release(flow, now);
            }
        }
    }

    /// The flow's receipts have changed and are to be told on all edges but `from`. `bytes` is about
    /// how much more was delivered.
    pub(super) fn report(&mut self, from: Option<EdgeId>, flow: Flow, bytes: u64, now: Instant) {
        let at_once = self.window() / 8;
        for (id, edge) in &mut self.edges {
            if Some(*id) == from || !edge.is_active() || !tells(&self.routes, &flow, edge) {
                continue;
            }
            edge.dirty.insert(flow);
            edge.unreported = edge.unreported.saturating_add(bytes);
            if edge.unreported > at_once {
                edge.report_now();
            } else {
                edge.report_within(self.config.receipt_delay, now);
            }
        }
    }

    /// The same for what nobody waits for: told with the next receipts, or after [`LAZY`].
    pub(super) fn report_lazily(&mut self, flow: Flow, now: Instant) {
        let told = |edge: &&mut Edge| edge.is_active() && tells(&self.routes, &flow, edge);
        for edge in self.edges.values_mut().filter(told) {
            edge.dirty.insert(flow);
            edge.report_within(LAZY, now);
        }
    }

    /// Lets go of what everybody has.
    pub(super) fn release(&mut self, flow: Flow, now: Instant) {
        let Some(stable) = self.stable(&flow) else { return };
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let Some(frames) = state.release(stable, &mut self.stats) else { return };
        if !state.delivers {
            state.active_at = now;
        }
        self.keep_past(flow, frames, stable, now);
        if self.is_own(&flow)
            && let Some(seq) = self.publisher.arrived(flow.to, stable)
        {
            let all = self.roster.map_or(0, |roster| roster.len.saturating_sub(1));
            let (members, to) = (flow.to.map_or(all, |_| 1), flow.to);
            self.outputs.push_back(Output::Event(Event::Delivered { seq, members, to }));
            self.on_confirmed(to, seq);
        }
        self.report_lazily(flow, now);
    }

    /// The next receipts for an edge that owes some; `None` if nothing has changed.
    pub(super) fn pull_receipts(&mut self, id: EdgeId) -> Option<Receipts> {
        let edge = self.edges.get_mut(&id).filter(|edge| edge.owes.receipts)?;
        if std::mem::take(&mut edge.all_dirty) {
            edge.dirty.extend(self.flows.keys());
        }
        let mut dirty = std::mem::take(&mut edge.dirty);
        dirty.retain(|flow| tells(&self.routes, flow, edge));
        let mut flows = Vec::new();
        while flows.len() < RECEIPT_FLOWS
            && let Some(flow) = edge.forgot.pop_first()
        {
            flows.push(forgotten(flow));
        }
        let forgot_more = !edge.forgot.is_empty();
        while flows.len() < RECEIPT_FLOWS
            && let Some(flow) = dirty.pop_first()
        {
            let Some(receipt) = self.receipt(id, &flow) else { continue };
            let Some(entry) = self.edges.get_mut(&id)?.flow_mut(flow) else { continue };
            if entry.told != Some(receipt) {
                entry.told = Some(receipt);
                flows.push(receipt);
            }
        }
        // While more is to follow nobody is covered: else numbers told long ago would be taken for
        // members that have come since.
        let more = !dirty.is_empty() || forgot_more;
        let (roster, covered) = self.covered_for(Some(id));
        let told = (roster, if more { Vec::new() } else { covered });
        let edge = self.edges.get_mut(&id)?;
        edge.dirty = dirty;
        edge.owes.receipts = more;
        edge.unreported = 0;
        if flows.is_empty() && edge.told_covered.as_ref() == Some(&told) {
            return None;
        }
        edge.told_covered = Some(told.clone());
        Some(Receipts { roster: told.0, covered: told.1, flows })
    }

    /// If the peer still keeps frames of a flow that is over and forgotten here, it is told again
    /// that nobody here waits for them.
    pub(super) fn remind(&mut self, id: EdgeId, flow: Flow, released: FrameNo, now: Instant) {
        if self.tombstones.floor(&flow).is_some_and(|floor| released < floor) {
            let delay = self.config.receipt_delay;
            if let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_active()) {
                if let Some(entry) = edge.flow_mut(flow) {
                    entry.told = None;
                }
                edge.dirty.insert(flow);
                edge.report_within(delay, now);
            }
        }
    }

    /// What is said of a flow on an edge.
    fn receipt(&self, to: EdgeId, flow: &Flow) -> Option<FlowReceipt> {
        let Some(state) = self.flows.get(flow) else {
            let floor = self.tombstones.floor(flow)?;
            return Some(FlowReceipt {
                flow: *flow,
                floor,
                top: floor,
                delivered: floor,
                released: floor,
                begin: None,
            });
        };
        if flow.to.is_some() {
            return Some(FlowReceipt {
                flow: *flow,
                floor: state.has.floor(),
                top: state.top,
                delivered: state.released,
                released: state.released,
                begin: None,
            });
        }
        let delivered = self
            .edges
            .iter()
            .filter(|(id, edge)| **id != to && self.is_source(edge))
            .map(|(_, edge)| edge.delivered(flow))
            .fold(state.delivery.delivered(), FrameNo::min);
        Some(FlowReceipt {
            flow: *flow,
            floor: state.has.floor(),
            top: state.top,
            delivered,
            released: state.kept_above(),
            begin: self.past_begin(flow, state),
        })
    }

    /// Everything up to here has been delivered to all; `None` if that is not known.
    pub(super) fn stable(&self, flow: &Flow) -> Option<FrameNo> {
        if flow.to.is_some() {
            return self.done(flow);
        }
        let state = self.flows.get(flow)?;
        let own = state.delivery.delivered();
        // History fills no store: else one that comes late could take nothing of what is new.
        let past = own.min(state.past);
        if !self.full {
            let past = past.max(own.min(self.let_go(flow)));
            return (past > state.released).then_some(past);
        }
        let mut stable = own;
        #[cfg(feature = "sabotage")]
        if self.config.sabotage == Some(super::Sabotage::OwnIsEnough) && !self.is_own(flow) {
            return Some(own);
        }
        // A neighbour that has not spoken yet counts with 0 and holds everything.
        for edge in self.edges.values().filter(|edge| edge.is_wanted() && !edge.aside) {
            stable = stable.min(edge.delivered(flow));
        }
        Some(stable.max(past))
    }

    /// A neighbour has let go of everything up to here, for all had it then, and no other neighbour lacks any.
    /// Whoever is not heard came later: to that one it is history.
    fn let_go(&self, flow: &Flow) -> FrameNo {
        let wanted = self.edges.values().filter(|edge| edge.is_wanted());
        let known = |edge: &Edge| edge.flow(flow).map_or(FrameNo(0), |entry| entry.known.floor());
        let lacked_above = wanted.clone().map(known).min().unwrap_or_default();
        let let_go = wanted.filter_map(|edge| Some(edge.flow(flow)?.let_go)).max();
        let_go.unwrap_or_default().min(lacked_above)
    }

    /// Whether receipts of an edge are passed on to others.
    fn is_source(&self, edge: &Edge) -> bool {
        edge.is_active()
            && !edge.aside
            && self.roster.is_some_and(|roster| {
                edge.covered.as_ref().is_some_and(|(hash, _)| *hash == roster.hash)
            })
    }

    /// The same by its name.
    pub(super) fn is_source_of(&self, id: EdgeId) -> bool {
        self.edges.get(&id).is_some_and(|edge| self.is_source(edge))
    }

    /// The edges whose receipts are passed on to `to`.
    fn sources(&self, to: EdgeId) -> Vec<EdgeId> {
        let others = self.edges.iter().filter(|(id, edge)| **id != to && self.is_source(edge));
        others.map(|(id, _)| *id).collect()
    }

    /// The members that this node can speak for on an edge; with `None`, all that it knows of.
    fn covered_for(&self, to: Option<EdgeId>) -> (Digest, Vec<u8>) {
        let Some(roster) = self.roster else { return (Digest::from_bytes([0; 32]), Vec::new()) };
        let mut covered = vec![0_u8; (roster.len as usize).div_ceil(8)];
        if let Some(byte) = covered.get_mut(roster.index as usize / 8) {
            *byte |= 1 << (roster.index % 8);
        }
        for (id, edge) in &self.edges {
            let used = match to {
                Some(to) => *id != to && self.is_source(edge),
                None => edge.is_active() && !edge.aside,
            };
            if let Some((hash, theirs)) = &edge.covered
                && used
                && *hash == roster.hash
            {
                covered.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours |= theirs);
            }
        }
        (roster.hash, covered)
    }

    /// Whether receipts of all edges together cover the member at a position of the roster.
    pub(super) fn covers(&self) -> impl Fn(usize) -> bool + use<> {
        let (_, covered) = self.covered_for(None);
        move |position| {
            covered.get(position / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1)
        }
    }

    fn is_covered(&self) -> bool {
        let Some(roster) = self.roster else { return false };
        let covers = self.covers();
        (0..roster.len).all(|member| covers(member as usize))
    }
}
