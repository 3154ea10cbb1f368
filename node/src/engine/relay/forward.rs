//! Frames: taken in once, kept, and passed on to all neighbours that lack them, never back.

use std::{collections::BTreeMap, time::Instant};

use arborcast_protocol::{
    frame::{Content, Frame},
    id::{Class, Flow, FrameNo},
};
use bytes::Bytes;

use super::{
    Carried, Relay,
    config::{FLOW_QUOTA, FRAGMENTS, STORE_MIN},
    edge::Edge,
    flow::FlowState,
    history::Past,
    hold::Hold,
    routes::Routes,
};
use crate::engine::event::EdgeId;

impl Relay {
    /// A genuine frame came on an edge, with its payload opened.
    pub fn on_frame(&mut self, id: EdgeId, frame: Frame, payload: Bytes, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.heard = now;
        edge.received += 1;
        edge.came_at = now;
        edge.crossed = edge.crossed.saturating_add(1);
        let early = !edge.may_read();
        let bytes = frame.len() as u64;
        self.stats.count(id, |traffic| {
            traffic.frames_in += 1;
            traffic.bytes_in += bytes;
        });
        if frame.header().session != self.session {
            self.stats.count(id, |traffic| traffic.forged += 1);
        } else if early {
            self.stats.count(id, |traffic| traffic.early += 1);
        } else {
            match frame.header().class {
                Class::Reliable => {
                    edge.knows(frame.header().flow(), frame.header().number);
                    self.moves(id, now);
                    self.take(id, frame, payload, now);
                }
                Class::Live => {
                    self.moves(id, now);
                    self.take_live(id, &frame, payload, now);
                }
            }
        }
        self.finish(id, now);
    }

    /// A frame came on an edge that was not genuine. It counts as received: its peer has sent it.
    pub fn on_bad_frame(&mut self, id: EdgeId, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.heard = now;
        edge.received += 1;
        self.stats.count(id, |traffic| {
            traffic.frames_in += 1;
            traffic.forged += 1;
        });
        self.finish(id, now);
    }

    /// A draft became a frame.
    pub fn on_made(&mut self, frame: Frame, payload: Bytes, now: Instant) {
        if frame.header().class == Class::Live {
            self.on_live_made(&frame, now);
            return;
        }
        if !self.publisher.made(frame.header()) {
            return;
        }
        let header = frame.header().clone();
        let (flow, number) = (header.flow(), header.number);
        let before = FrameNo(number.0.saturating_sub(1));
        let own = self.flows.entry(flow).or_insert_with(|| FlowState::carried(before, now));
        if own.delivers {
            // Nobody delivers to himself: handed out as soon as made.
            own.delivery.skip_own(number);
        } else {
            self.prune_at.get_or_insert(now + self.config.prune_after);
            own.release(self.publisher.given_up(&flow), &mut self.stats);
        }
        if own.has.contains(number) {
            // Its receiver left while it was made.
            return;
        }
        let inserted = own.insert(frame, payload, &mut self.stats);
        own.active_at = now;
        self.stats.flows = self.flows.len() as u64;
        self.watch_store(now);
        self.hold_back(&header, inserted, now);
        if flow == self.own {
            self.await_confirmation(header.content != Content::Messages { count: 0 }, now);
        }
        self.release(flow, now);
        self.follow(None, flow, number, now);
        self.pass_on(None, flow, number);
        self.report(None, flow, inserted.bytes, now);
    }

    /// The next frame for an edge: flows take turns, the lowest number first in each, so that repair
    /// and new traffic share the edge and order is kept where it can be. What is of class live goes
    /// first, but leaves a share to others.
    pub fn poll_frame(&mut self, id: EdgeId, now: Instant) -> Option<Frame> {
        let edge = self.edges.get_mut(&id)?;
        if !edge.is_active() && !edge.is_draining() {
            return None;
        }
        let frame = match self.poll_live(id, now) {
            Some(frame) => frame,
            None => self.poll_reliable(id, now)?,
        };
        self.stop_if_drained(id);
        self.moves(id, now);
        let bytes = frame.len() as u64;
        self.stats.count(id, |traffic| {
            traffic.frames_out += 1;
            traffic.bytes_out += bytes;
        });
        Some(frame)
    }

    /// No more frames are sent on an edge that ends, once none is left.
    pub(super) fn stop_if_drained(&mut self, id: EdgeId) {
        if let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_draining())
            && edge.live.is_empty()
            && next_frame(edge, &self.flows, &self.past, &self.routes, &self.hold).is_none()
        {
            edge.stop();
        }
    }

    fn poll_reliable(&mut self, id: EdgeId, now: Instant) -> Option<Frame> {
        let edge = self.edges.get_mut(&id)?;
        let frame = next_frame(edge, &self.flows, &self.past, &self.routes, &self.hold)?;
        let (flow, number) = (frame.header().flow(), frame.header().number);
        edge.send(flow, number);
        edge.live.other_went(frame.len() as u64);
        let route = self.flows.get(&flow).and_then(|state| state.store.route(number));
        self.stats.in_band_frames += u64::from(route.is_some_and(|route| route.names(&edge.peer)));
        // Whoever begins to carry a flow is to know where: nothing before is on its way.
        if flow.to.is_some() && edge.flow(&flow).is_some_and(|entry| entry.told.is_none()) {
            edge.dirty.insert(flow);
            edge.report_within(self.config.receipt_delay, now);
        }
        Some(frame)
    }

    /// Whether there are frames of this node's own in plenty for all edges. Those not made yet wait as
    /// messages: so they go by the newest tree (R13), and small ones share a frame. Once there are, no
    /// more are made until half of them have gone, so that the next ones share a signature.
    pub(super) fn is_ahead(&mut self) -> bool {
        let enough = if self.ahead { FRAMES_AHEAD / 2 } else { FRAMES_AHEAD };
        self.ahead = self.frames_ahead().is_some_and(|ahead| ahead >= enough);
        self.ahead
    }

    /// Frames of this node's own that no edge has taken yet; `None` if there is an edge for which
    /// nothing waits.
    fn frames_ahead(&mut self) -> Option<u64> {
        let last = self.publisher.last(&self.own).0;
        if self.hold.is_over() {
            // The answer says where to, so no edge takes anything.
            let passed_on = self.hold.last(&self.own, FrameNo(last)).0;
            return Some(last.saturating_sub(passed_on));
        }
        let mut most = None;
        for edge in self.edges.values_mut().filter(|edge| edge.is_active()) {
            next_frame(edge, &self.flows, &self.past, &self.routes, &self.hold)?;
            most = most.max(Some(edge.flow(&self.own).map_or(0, |own| own.known.top().0)));
        }
        most.map(|most| last.saturating_sub(most))
    }

    /// What an edge has carried so far, and whether frames wait for it.
    pub(in crate::engine) fn carried(&mut self, id: EdgeId) -> Option<Carried> {
        let (came, went) =
            self.stats.edges.get(&id).map(|traffic| (traffic.bytes_in, traffic.bytes_out))?;
        let edge = self.edges.get_mut(&id).filter(|edge| edge.is_active())?;
        let is_full = !edge.live.is_empty()
            || next_frame(edge, &self.flows, &self.past, &self.routes, &self.hold).is_some();
        Some(Carried { came, went, is_full })
    }

    /// Whether more waits for an edge than it takes.
    pub(super) fn has_more(&mut self, id: EdgeId) -> bool {
        self.carried(id).is_some_and(|carried| carried.is_full)
    }

    /// Takes a frame in, if it is new and there is room.
    ///
    /// The patent's rule (claim 6), a number not above the stored one is repeated data, is applied
    /// to the floor alone, below which nothing is missing. Above it what counts is whether this very
    /// number came: after a change of the tree a frame may be late and new.
    fn take(&mut self, id: EdgeId, frame: Frame, payload: Bytes, now: Instant) {
        let (flow, number) = (frame.header().flow(), frame.header().number);
        if !self.flows.contains_key(&flow) {
            if self.is_own(&flow) {
                // All that has this node's flows as their own was made, or given up, before.
                let made = number <= self.publisher.last(&flow);
                self.stats.count(id, |traffic| {
                    traffic.duplicates += u64::from(made);
                    traffic.forged += u64::from(!made);
                });
                self.remind_done(id, flow, now);
                return;
            }
            if self.tombstones.floor(&flow).is_some_and(|floor| number <= floor) {
                self.stats.count(id, |traffic| traffic.duplicates += 1);
                self.remind(id, flow, FrameNo(0), now);
                return;
            }
            if !self.start_flow(flow, number, now) {
                self.stats.count(id, |traffic| traffic.over_quota += 1);
                return;
            }
        }
        let has_room = self.has_room(&flow, &frame);
        let Some(state) = self.flows.get_mut(&flow) else { return };
        #[cfg(feature = "sabotage")]
        if self.config.sabotage == Some(super::Sabotage::LateIsRepeated) && number < state.has.top()
        {
            return;
        }
        if state.has.contains(number) {
            self.stats.count(id, |traffic| traffic.duplicates += 1);
            if number <= state.released {
                self.remind_done(id, flow, now);
            }
            return;
        }
        if flow.source == self.own.source && flow.incarnation == self.own.incarnation {
            // Nobody else can make frames of this run of this node.
            self.stats.count(id, |traffic| traffic.forged += 1);
            return;
        }
        if !has_room {
            self.stats.count(id, |traffic| traffic.over_quota += 1);
            state.saw(number);
            if !state.delivers {
                self.release(flow, now);
            }
            self.watch(flow, now);
            self.holes.came(&flow, id);
            return;
        }
        state.active_at = now;
        let header = frame.header().clone();
        let inserted = state.insert(frame, payload, &mut self.stats);
        if inserted.repair {
            self.stats.count(id, |traffic| traffic.repaired += 1);
        }
        if state.delivers {
            self.deliverable.push(flow);
            self.hold_back(&header, inserted, now);
        } else {
            // That its receiver has it may have been told before it came.
            self.release(flow, now);
        }
        self.watch(flow, now);
        self.watch_store(now);
        self.follow(Some(id), flow, number, now);
        self.pass_on(Some(id), flow, number);
        self.report_lazily(flow, now);
    }

    /// Marks a frame for all edges whose other end lacks it.
    pub(super) fn pass_on(&mut self, from: Option<EdgeId>, flow: Flow, number: FrameNo) {
        let route = self.flows.get(&flow).and_then(|state| state.store.route(number));
        for (id, edge) in &mut self.edges {
            if Some(*id) != from
                && edge.is_active()
                && self.routes.carries(&flow, edge.peer)
                && route.is_none_or(|route| route.allows(&edge.peer))
                && !edge.flow(&flow).is_some_and(|entry| entry.known.contains(number))
            {
                edge.ready.push(flow);
            }
        }
    }

    /// Whether a frame of another source is within the quotas. The lowest unreleased frame always
    /// is: what all wait for must not be kept out by what waits for it.
    fn has_room(&self, flow: &Flow, frame: &Frame) -> bool {
        let Some(state) = self.flows.get(flow) else { return false };
        let number = frame.header().number;
        if number == state.released.next() {
            return true;
        }
        let bytes = frame.len() as u64;
        let own = self.own_bytes();
        let others = self.stats.store_bytes.saturating_sub(own).saturating_add(bytes);
        // A quarter more than the windows of all: what was released at its source comes before the
        // news of that.
        let store = self.config.store_bytes.max(STORE_MIN);
        let total = store.saturating_add(store / 4);
        let scattered = state.has.fragments() >= FRAGMENTS && number != state.has.floor().next();
        state.store.bytes().saturating_add(bytes) <= FLOW_QUOTA && others <= total && !scattered
    }
}

/// Frames made that no edge has taken yet: 2 MiB if they are large, some milliseconds of sealing and
/// signing.
const FRAMES_AHEAD: u64 = 32;

/// The frame whose turn it is on an edge; its flow waits for the next turn.
pub(super) fn next_frame(
    edge: &mut Edge,
    flows: &BTreeMap<Flow, FlowState>,
    past: &Past,
    routes: &Routes,
    hold: &Hold,
) -> Option<Frame> {
    while let Some(flow) = edge.ready.pop() {
        if !routes.carries(&flow, edge.peer) {
            continue;
        }
        let Some(state) = flows.get(&flow) else { continue };
        let peer = edge.peer;
        let Some(entry) = edge.flow_mut(flow) else { continue };
        let frame = past.next_for(&flow, entry);
        let frame = frame.or_else(|| state.store.first_not_in(&entry.known, &peer));
        let Some(frame) = frame else { continue };
        let number = frame.header().number;
        // Whatever is let go later is marked again then.
        if hold.has(&flow, number) {
            continue;
        }
        if edge.is_draining() && edge.last.get(&flow).is_none_or(|last| number > *last) {
            continue;
        }
        edge.ready.push(flow);
        return Some(frame.clone());
    }
    None
}
