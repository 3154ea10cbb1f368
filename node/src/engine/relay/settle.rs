//! Summaries: how an edge begins, how a joiner finds its place, how flows are forgotten.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::{FlowSummary, Start, Summary},
    id::{Class, Flow, FrameNo, Incarnation, MemberId},
    limits,
};

use super::{
    Output, Relay,
    config::{FLOWS, PAST_FLOWS, RUNS, SUMMARIES},
    delivery::Delivery,
    direct::tells,
    flow::{FlowState, Tombstone, sane},
};
use crate::engine::event::{EdgeId, Event, LossReason};

/// Bytes of a summary entry as CBOR without its ranges, at most: names, flow, two numbers.
const ENTRY: usize = 190;

/// Bytes of what it says of history, at most.
const PAST: usize = 54;

/// Bytes of a range in it, at most.
const RANGE: usize = 18;

impl Relay {
    /// This node needs no neighbour's floors: it is the first member.
    pub fn set_settled(&mut self, _now: Instant) {
        if !self.settled {
            self.settled = true;
            for edge in self.edges.values_mut() {
                edge.owes.summary = true;
            }
        }
    }

    /// Whether this node has its floors, so that others may adopt them.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    pub(super) fn on_summary(&mut self, id: EdgeId, mut summary: Summary, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_wanted()) else { return };
        if !edge.summaries.take(SUMMARIES, now) {
            return self.stats.count(id, |traffic| traffic.over_rate += 1);
        }
        summary.flows.retain(|entry| self.may_learn(id, &entry.flow));
        let summary = &summary;
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.live.takes |= summary.live;
        for entry in &summary.flows {
            edge.learn_summary(entry);
        }
        edge.bound_ranges();
        let was_active = edge.is_active();
        #[cfg(feature = "sabotage")]
        let adopts_from_all = self.config.sabotage == Some(super::Sabotage::AnybodyIsSettled);
        #[cfg(not(feature = "sabotage"))]
        let adopts_from_all = false;
        if summary.settled || adopts_from_all {
            edge.settled.got = true;
            edge.settle_by = None;
            if self.settled {
                self.start_missed(summary, now);
            } else {
                self.adopt(summary, now);
                self.set_settled(now);
                self.outputs.push_back(Output::Settled);
            }
            for entry in &summary.flows {
                self.send_past(id, entry.flow);
            }
        }
        for entry in &summary.flows {
            let own = self.is_own(&entry.flow);
            if let Some(state) = self.flows.get_mut(&entry.flow).filter(|_| !own) {
                state.raise_top(entry.has.top());
            }
            self.pass_over(entry.flow, entry.kept_above());
            if entry.flow.to.is_some() {
                self.release(entry.flow, now);
            }
            self.watch(entry.flow, now);
        }
        if !was_active {
            self.activate(id, now);
        }
        for entry in &summary.flows {
            self.remind(id, entry.flow, entry.released, now);
        }
    }

    /// Whether what a neighbour says of a flow is worth keeping: of members, of what is known here, and of
    /// some others. Their sources may have left, and nobody has shown a certificate of theirs yet.
    pub(super) fn may_learn(&mut self, id: EdgeId, flow: &Flow) -> bool {
        let vouches = |members: &BTreeMap<MemberId, Incarnation>| {
            members.get(&flow.source) == Some(&flow.incarnation)
        };
        if self.members.as_ref().is_some_and(vouches)
            || self.flows.contains_key(flow)
            || self.tombstones.floor(flow).is_some()
        {
            return true;
        }
        // In scope `neighbours` the members are not known, but how many there are.
        let unknown = match (&self.members, self.roster) {
            (None, Some(roster)) => RUNS * roster.len as usize,
            (Some(_), _) | (None, None) => 0,
        };
        let most = PAST_FLOWS + unknown;
        self.edges.get_mut(&id).is_some_and(|edge| edge.takes_unvouched(flow, most))
    }

    /// What this node has, as of now. With it pulled, everything that comes later is for the other
    /// side to be sent: the snapshot and the start of forwarding are one step.
    pub(super) fn pull_summary(&mut self, id: EdgeId, now: Instant) -> Summary {
        let summary = self.summary(id);
        let by = now + self.config.edge_timeout;
        if let Some(edge) = self.edges.get_mut(&id)
            && summary.settled
            && !edge.settled.sent
        {
            edge.settled.sent = true;
            if !edge.settled.got {
                edge.settle_by = Some(by);
            }
            self.activate(id, now);
        }
        summary
    }

    /// Starts to send on an edge if both settled summaries have gone their way.
    fn activate(&mut self, id: EdgeId, now: Instant) {
        let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_active()) else { return };
        let filled = self.flows.iter().filter(|(_, state)| !state.store.is_empty());
        filled.for_each(|(flow, _)| edge.ready.push(*flow));
        edge.all_dirty = true;
        edge.report_now();
        self.open_to_live(id);
        self.on_shape(now);
    }

    fn summary(&self, id: EdgeId) -> Summary {
        let mut room = limits::EDGE_MESSAGE - ENTRY;
        let mut flows = Vec::new();
        let edge = self.edges.get(&id);
        let told = |(flow, state): &(&Flow, &FlowState)| {
            state.top.0 > 0 && edge.is_some_and(|edge| tells(&self.routes, flow, edge))
        };
        // History takes only the room that the flows leave.
        let entries = self.flows.iter().filter(told).count();
        let mut spare = room.saturating_sub(entries.saturating_mul(ENTRY));
        for (flow, state) in self.flows.iter().filter(told) {
            if room < ENTRY {
                break;
            }
            room -= ENTRY;
            // Ranges left out cost repeated frames, no more.
            let has = state.has.truncated(limits::RANGES.min(room / 2 / RANGE));
            room -= has.fragments() * RANGE;
            let released = if flow.to.is_some() { state.released } else { state.kept_above() };
            let mut entry = FlowSummary { flow: *flow, has, released, begin: None, start: None };
            if flow.to.is_none() && spare >= PAST && room >= PAST {
                entry = self.with_past(entry, state);
                if entry.begin.is_some() {
                    (spare, room) = (spare - PAST, room - PAST);
                }
            }
            flows.push(entry);
        }
        Summary { settled: self.settled, flows, live: true }
    }

    /// Takes its place in each flow that it does not know from a settled neighbour.
    fn adopt(&mut self, summary: &Summary, now: Instant) {
        // What is for one receiver alone has no floor to take over: it begins with its first frame.
        for entry in summary.flows.iter().filter(|entry| entry.flow.to.is_none()) {
            if self.flows.len() < FLOWS && !self.flows.contains_key(&entry.flow) {
                // From what the neighbour still keeps, not from its floor: sources that know of this
                // member already may have sent frames that the neighbour has, too, and those are
                // owed. They are released nowhere before this member is counted, so what is
                // released is not owed. History begins before that.
                let start = self.start_in(entry);
                let after = start.map_or(entry.released, |start| start.after);
                let mut state = FlowState::new(after, after, now);
                state.past = sane(entry.released);
                state.delivery =
                    Delivery::joining(state.delivery.delivered(), sane(entry.has.floor()));
                if entry.has.fragments() > 0 {
                    // The neighbour is a joiner too, and still fetches what lies in between. Where
                    // it began to listen it does not say.
                    state.delivery = Delivery::anywhere_after(state.delivery.delivered());
                }
                if let Some(Start { after, first }) = start {
                    state.delivery.begin_with(sane(after).next(), first);
                }
                self.flows.insert(entry.flow, state);
            }
        }
        self.stats.flows = self.flows.len() as u64;
        self.prune_at.get_or_insert(now + self.config.prune_after);
    }

    /// Begins with the flows of present sources that this node has never heard of, although all who
    /// were present have something of them: it was away then, and history has what it missed.
    fn start_missed(&mut self, summary: &Summary, now: Instant) {
        for FlowSummary { flow, has, begin, .. } in &summary.flows {
            let present = self.members.is_some() && self.is_present(flow);
            let known = self.flows.contains_key(flow) || self.tombstones.floor(flow).is_some();
            if begin.is_some() && flow.to.is_none() && present && !known && !self.is_own(flow) {
                self.start_flow(*flow, has.floor().next(), now);
            }
        }
    }

    /// A neighbour keeps nothing up to `released`: what of that nobody waits for here, because it
    /// lies before the point where this node came in, need not be waited for. What another neighbour
    /// is about to send is taken nevertheless: somebody who came in through this node may be owed it.
    ///
    /// True if that was something.
    pub(super) fn pass_over(&mut self, flow: Flow, released: FrameNo) -> bool {
        let own = self.is_own(&flow);
        let Some(state) = self.flows.get_mut(&flow).filter(|state| !own && state.delivers) else {
            return false;
        };
        let unneeded = state.delivery.unneeded(sane(released), state.has.top());
        let edges = self.edges.values().filter(|edge| edge.is_active());
        let coming = edges.filter_map(|edge| edge.flow(&flow)).filter_map(|entry| {
            let first = entry.released.max(state.has.floor()).next();
            entry.known.next_not_in(&state.has, first)
        });
        let before = coming.min().map(|first| FrameNo(first.0.saturating_sub(1)));
        let unneeded = before.map_or(unneeded, |before| unneeded.min(before));
        let any = unneeded > state.has.floor();
        if any {
            state.has.raise_floor(unneeded);
            state.raise_top(unneeded);
            self.deliverable.push(flow);
        }
        any
    }

    /// The same for what any neighbour keeps no more, when nobody is left who was about to send it.
    pub(super) fn pass_over_all(&mut self, flow: Flow) -> bool {
        let active = self.edges.values().filter(|edge| edge.is_active());
        let released = active.filter_map(|edge| edge.flow(&flow)).map(|entry| entry.released).max();
        released.is_some_and(|released| self.pass_over(flow, released))
    }

    /// Makes room for, and starts, a flow of which the genuine frame `number` has come. False if
    /// there is none.
    ///
    /// It starts where the neighbours that know it have released it. This node is settled, so it
    /// would have got what was sent before had it not been out of reach of the source: the
    /// application is told that it missed that.
    pub(super) fn start_flow(&mut self, flow: Flow, number: FrameNo, now: Instant) -> bool {
        if flow.to.is_some() {
            return self.start_directed(flow, number, now);
        }
        self.limit_runs(&flow, now);
        if self.flows.len() >= FLOWS {
            self.forget_idle(now);
        }
        if self.flows.len() >= FLOWS {
            return false;
        }
        let known =
            self.edges.values().filter(|edge| edge.may_read()).filter_map(|edge| edge.flow(&flow));
        let released = known.clone().map(|entry| entry.released).min().unwrap_or_default();
        // Whoever sent the frame has not released it: what says otherwise is wrong.
        let released = released.min(FrameNo(number.0.saturating_sub(1)));
        let top = known.map(|entry| entry.known.top()).max().unwrap_or_default();
        let mut state = if let Some(stone) = self.tombstones.remove(&flow) {
            FlowState::revived(stone, now)
        } else {
            let delivery = Delivery::after_lost(released);
            FlowState { delivery, ..FlowState::new(released, released, now) }
        };
        state.raise_top(released.max(top));
        self.flows.insert(flow, state);
        self.stats.flows = self.flows.len() as u64;
        if !self.is_present(&flow) {
            self.prune_at.get_or_insert(now + self.config.prune_after);
        }
        true
    }

    /// Forgets flows that are over: their source has left, nobody needs anything of them, and
    /// nothing has happened in them for a while.
    pub(super) fn prune(&mut self, now: Instant) {
        let after = self.config.prune_after;
        self.prune_at = None;
        let (mut over, mut carried, mut unheard) = (Vec::new(), Vec::new(), Vec::new());
        let lasting = self.lasting();
        for (flow, state) in &self.flows {
            let at = state.active_at + after;
            if !state.delivers {
                if at <= now && self.is_dispensable(flow, state, at + after <= now) {
                    carried.push(*flow);
                    continue;
                }
                if at + after <= now && self.is_own(flow) {
                    unheard.push(*flow);
                }
                let next = next_look(at, after, now);
                self.prune_at = Some(self.prune_at.map_or(next, |old| old.min(next)));
                continue;
            }
            if *flow == self.own || self.is_present(flow) {
                continue;
            }
            // A flow that somebody never confirms is not kept for ever for a source that is gone:
            // by now everybody has given up what nobody could supply.
            let is_stuck = at + after <= now && state.is_over_here();
            if at <= now && (state.is_idle() || is_stuck) && !lasting.contains(flow) {
                over.push(*flow);
            } else {
                let next = next_look(at, after, now);
                self.prune_at = Some(self.prune_at.map_or(next, |old| old.min(next)));
            }
        }
        for flow in over {
            self.forget(flow, LossReason::SourceLeft);
        }
        for flow in carried {
            self.forget_carried(flow, now);
        }
        for flow in unheard {
            self.give_up_unheard(&flow, now);
        }
        self.give_up_absent(now);
        self.prune_live(now);
    }

    /// Forgets the idle flows of all that have left, however short ago.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        let idle = |(flow, state): &(&Flow, &FlowState)| {
            **flow != self.own && (!self.is_present(flow) || !state.delivers) && state.is_idle()
        };
        let flows: Vec<Flow> = self.flows.iter().filter(idle).map(|(flow, _)| *flow).collect();
        for flow in flows {
            self.forget(flow, LossReason::SourceLeft);
        }
        self.prune(now);
    }

    /// Keeps the newest runs of a source: a new one replaces the one that is idle for longest.
    pub(super) fn limit_runs(&mut self, new: &Flow, now: Instant) {
        let run = |byte| Incarnation::from_bytes([byte; Incarnation::LEN]);
        let first = Flow { incarnation: run(0), class: Class::Reliable, to: None, ..*new };
        let end = Some(MemberId::from_bytes([u8::MAX; MemberId::LEN]));
        let last = Flow { incarnation: run(u8::MAX), class: Class::Live, to: end, ..*new };
        let runs: Vec<Flow> = self
            .flows
            .range(first..=last)
            .map(|(flow, _)| *flow)
            .filter(|flow| flow.class == new.class && flow.to == new.to)
            .collect();
        if runs.len() < RUNS {
            return;
        }
        let current = |flow: &Flow| self.members.is_some() && self.is_present(flow);
        let oldest = runs
            .into_iter()
            .filter(|flow| *flow != self.own && !current(flow))
            .min_by_key(|flow| {
                self.flows
                    .get(flow)
                    .map_or((true, now), |state| (!state.is_idle(), state.active_at))
            });
        if let Some(oldest) = oldest {
            self.forget(oldest, LossReason::SourceStartedAnew);
        }
    }

    pub(super) fn forget(&mut self, flow: Flow, reason: LossReason) {
        let Some(mut state) = self.flows.remove(&flow) else { return };
        let part = state.delivery.incomplete().map(|seq| (seq, seq));
        let lost = state.delivery.abandon(&mut self.stats).or(part);
        let expect = lost.map(|(_, to)| to.next()).or(state.delivery.expected());
        if let Some((from, to)) = lost {
            self.outputs.push_back(Output::Event(Event::Lost { flow, from, to, reason }));
        }
        self.stats.store_bytes -= state.store.bytes();
        self.past.forget(&flow);
        self.stats.history_bytes = self.past.bytes();
        self.stats.flows = self.flows.len() as u64;
        self.holes.forget(&flow);
        self.admission.forget(&flow);
        self.try_waiting();
        for edge in self.edges.values_mut() {
            edge.forget(&flow);
        }
        // What is only carried may come again: its receiver knows what it has.
        if state.delivers {
            let floor = sane(state.has.top());
            self.tombstones.insert(flow, Tombstone { floor, expect });
        }
    }
}

/// When to look again at a flow in which nothing has happened since `after` before `at`: when that is
/// over, when it is over twice, then now and again.
fn next_look(at: Instant, after: Duration, now: Instant) -> Instant {
    [at, at + after].into_iter().find(|next| *next > now).unwrap_or(now + after)
}
