//! Holes: what is missing is asked for where it is, and given up where it is no more.
//!
//! In most cases nothing needs to be asked for: when an edge comes up, each side sees from the
//! other's summary what to send, and substreams lose nothing. What is left are frames that this node
//! dropped itself, for want of room or because they came broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::Missing,
    id::{Flow, FrameNo},
    limits,
    numbers::NumberSet,
};

use super::{
    Relay,
    config::{ASK_RANGES, ASKS},
    edge::Edge,
    slow::HASTE,
};
use crate::engine::event::{EdgeId, LossReason};

/// The flows in which something is missing, and when to look at them next.
#[derive(Debug, Default)]
pub(super) struct Holes {
    flows: BTreeMap<Flow, Hole>,
    due: BTreeSet<(Instant, Flow)>,
}

/// The lowest gap of a flow.
#[derive(Clone, Debug)]
struct Hole {
    /// The floor below it. Once that has risen, the wait starts anew.
    floor: FrameNo,
    since: Instant,
    due: Instant,
    delay: Duration,
    /// How often each edge was asked.
    asks: BTreeMap<EdgeId, u32>,
}

impl Holes {
    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn forget(&mut self, flow: &Flow) {
        if let Some(hole) = self.flows.remove(flow) {
            self.due.remove(&(hole.due, *flow));
        }
    }

    /// An edge has sent something that could not be kept: it is to be asked again without counting.
    pub(super) fn came(&mut self, flow: &Flow, edge: EdgeId) {
        if let Some(hole) = self.flows.get_mut(flow) {
            hole.asks.remove(&edge);
        }
    }

    fn put(&mut self, flow: Flow, hole: Hole) {
        self.due.insert((hole.due, flow));
        self.flows.insert(flow, hole);
    }
}

impl Relay {
    /// Sees to it that a hole of the flow, if there is one, is looked at in time.
    pub(super) fn watch(&mut self, flow: Flow, now: Instant) {
        let Some(state) = self.flows.get(&flow).filter(|state| state.has_hole()) else { return };
        if !self.is_own(&flow)
            && self.routes.passes_here(&flow)
            && !self.holes.flows.contains_key(&flow)
        {
            let delay = self.config.hole_delay;
            let floor = state.has.floor();
            let asks = BTreeMap::new();
            self.holes.put(flow, Hole { floor, since: now, due: now + delay, delay, asks });
        }
    }

    /// Looks at all holes that are due.
    pub(super) fn on_holes_due(&mut self, now: Instant) {
        while let Some(&(at, flow)) = self.holes.due.first()
            && at <= now
        {
            self.holes.due.pop_first();
            if let Some(hole) = self.holes.flows.remove(&flow)
                && let Some(hole) = self.look(flow, hole, now)
            {
                self.holes.put(flow, hole);
            }
        }
    }

    /// The other side asks for frames: what it was sent is not known to be there any more.
    ///
    /// Ranges that are not in order are ignored: so each frame in the store is looked at once,
    /// however many ranges there are.
    pub(super) fn on_ask(&mut self, id: EdgeId, missing: &[Missing], now: Instant) {
        let Some(edge) = self.edges.get_mut(&id).filter(|edge| edge.is_active()) else { return };
        let mut room = ASK_RANGES;
        let mut seen: BTreeMap<Flow, FrameNo> = BTreeMap::new();
        for Missing { flow, ranges } in missing.iter().take(ASK_RANGES) {
            if let Some(state) = self.flows.get_mut(flow) {
                let seen = seen.entry(*flow).or_default();
                for &(first, last) in ranges.iter().take(room) {
                    if last < first || (first <= *seen && seen.0 > 0) {
                        continue;
                    }
                    *seen = last;
                    state.store.ask(first, last, edge.peer);
                    let past = self.past.numbers(flow, first, last);
                    for number in past.chain(state.store.numbers(first, last)) {
                        // It asks from a state of things that may be one heartbeat old.
                        if !edge.is_under_way(flow, number)
                            && let Some(entry) = edge.flow_mut(*flow)
                        {
                            entry.known.remove(number);
                            entry.past = entry.past.max(number.min(state.released));
                        }
                    }
                }
                room = room.saturating_sub(ranges.len());
                edge.ready.push(*flow);
            }
            // What is not here any more is below `released`: tell it that, whatever it was told.
            if let Some(entry) = edge.flow_mut(*flow) {
                entry.told = None;
            }
            edge.dirty.insert(*flow);
            edge.report_within(self.config.receipt_delay, now);
        }
    }

    /// What to ask for on an edge, without what has come since.
    pub(super) fn pull_asks(&mut self, id: EdgeId) -> Option<Vec<Missing>> {
        let edge = self.edges.get_mut(&id)?;
        let mut asks = std::mem::take(&mut edge.asks);
        for Missing { flow, ranges } in &mut asks {
            let state = self.flows.get(flow);
            ranges.retain(|(first, last)| {
                state.is_some_and(|state| state.has.next_missing(*first) <= *last)
            });
        }
        asks.retain(|missing| !missing.ranges.is_empty());
        if asks.is_empty() {
            return None;
        }
        let ranges = asks.iter().flat_map(|missing| &missing.ranges);
        let frames =
            ranges.fold(0_u64, |sum, (first, last)| sum.saturating_add(last.0 - first.0 + 1));
        self.stats.count(id, |traffic| traffic.asked = traffic.asked.saturating_add(frames));
        Some(asks)
    }

    /// Asks for what is missing, or gives it up, or waits on. `None` when nothing is missing.
    fn look(&mut self, flow: Flow, mut hole: Hole, now: Instant) -> Option<Hole> {
        let state = self.flows.get(&flow).filter(|state| state.has_hole())?;
        if !self.routes.passes_here(&flow) {
            return None;
        }
        let (floor, delivers) = (state.has.floor(), state.delivers);
        if floor != hole.floor {
            hole.floor = floor;
            hole.since = now;
            hole.delay = self.config.hole_delay;
            hole.asks.clear();
        } else if let Some((id, ranges)) = self.whom_to_ask(&flow, &hole, now) {
            // What found no room in the request counts as not asked for.
            if !ranges.is_empty() && self.ask(id, flow, ranges) {
                *hole.asks.entry(id).or_default() += 1;
                hole.delay = (hole.delay * 2).min(self.config.hole_delay_max);
            }
        } else if !delivers {
            // Only the receiver gives up: what is missing here is asked for again and again.
            hole.asks.clear();
        } else if self.pass_over_all(flow) || self.give_up(flow, &hole, now) {
            return self.look_again(flow, now);
        }
        hole.due = now + hole.delay;
        Some(hole)
    }

    fn look_again(&self, flow: Flow, now: Instant) -> Option<Hole> {
        let state = self.flows.get(&flow).filter(|state| state.has_hole())?;
        let delay = self.config.hole_delay;
        let floor = state.has.floor();
        Some(Hole { floor, since: now, due: now + delay, delay, asks: BTreeMap::new() })
    }

    /// The edge to ask, and for what; nothing while frames are on their way on all edges that could
    /// be asked. One edge alone, else the frames would come several times. `None` if no neighbour
    /// has the lowest missing frame.
    fn whom_to_ask(
        &self,
        flow: &Flow,
        hole: &Hole,
        now: Instant,
    ) -> Option<(EdgeId, Vec<(FrameNo, FrameNo)>)> {
        let first = hole.floor.next();
        let holders: Vec<(&EdgeId, &Edge)> =
            self.edges.iter().filter(|(id, edge)| holds(edge, flow, first, **id, hole)).collect();
        let (any, _) = holders.first()?;
        let drained = holders.iter().filter(|(_, edge)| edge.is_drained(hole.since, now));
        let Some((id, edge)) = drained.min_by_key(|(id, _)| hole.asks.get(id)) else {
            return Some((**any, Vec::new()));
        };
        let (state, entry) = (self.flows.get(flow)?, edge.flow(flow)?);
        Some((**id, wanted(&state.has, &entry.known, state.top)))
    }

    /// Asks for the ranges, or the lowest of them for which there is room. False if for none.
    fn ask(&mut self, id: EdgeId, flow: Flow, mut ranges: Vec<(FrameNo, FrameNo)>) -> bool {
        let Some(edge) = self.edges.get_mut(&id) else { return false };
        edge.asks.retain(|missing| missing.flow != flow);
        let asked: usize = edge.asks.iter().map(|missing| missing.ranges.len()).sum();
        ranges.truncate(ASK_RANGES.saturating_sub(asked));
        let any = !ranges.is_empty();
        if any {
            edge.asks.push(Missing { flow, ranges });
        }
        any
    }

    /// Gives up the part of the lowest gap that no neighbour can supply, if it is time. True if so.
    fn give_up(&mut self, flow: Flow, hole: &Hole, now: Instant) -> bool {
        let first = hole.floor.next();
        let Some(state) = self.flows.get(&flow) else { return false };
        let waited = now.saturating_duration_since(hole.since);
        let is_over = waited >= self.config.abandon_delay && !self.is_present(&flow);
        // Only up to a genuine frame: else a neighbour could end a flow by lying about its top. A
        // flow whose source has left may end so: else whoever lacks its last frames would keep
        // them in the stores of all others for ever.
        let after_gap = match state.has.next_present(first) {
            Some(present) => present,
            None if is_over => state.top.next(),
            None => return false,
        };
        let gap_end = FrameNo(after_gap.0.saturating_sub(1));
        // The evidence that nobody will bring it: a neighbour keeps it no more, or claims to have it
        // and does not send it, or its source has left.
        let mut bound = FrameNo(0);
        let mut end = gap_end;
        let mut carried = false;
        for (id, edge) in self.edges.iter().filter(|(_, edge)| edge.is_active()) {
            carried = true;
            let Some(entry) = edge.flow(&flow) else { continue };
            bound = bound.max(entry.released);
            if hole.asks.get(id).is_some_and(|asks| *asks >= ASKS) {
                bound = gap_end;
            } else if let Some(held) = entry.known.next_present(first.max(entry.released.next())) {
                end = end.min(FrameNo(held.0.saturating_sub(1)));
            }
        }
        if is_over {
            bound = gap_end;
        }
        let end = end.min(bound);
        let patience = self.config.give_up_delay;
        let patience = if self.slow.is_hasty(now) { patience.min(HASTE) } else { patience };
        if !carried || end < first || waited < patience {
            return false;
        }
        let Some(state) = self.flows.get_mut(&flow) else { return false };
        state.has.insert_range(first, end);
        state.delivery.gave_up(LossReason::NotKept);
        self.stats.given_up = self.stats.given_up.saturating_add(end.0 - first.0 + 1);
        self.deliverable.push(flow);
        self.report(None, flow, 0, now);
        true
    }
}

/// Whether the other end says that it has a frame and could send it.
fn holds(edge: &Edge, flow: &Flow, number: FrameNo, id: EdgeId, hole: &Hole) -> bool {
    edge.is_active()
        && hole.asks.get(&id).is_none_or(|asks| *asks < ASKS)
        && edge
            .flow(flow)
            .is_some_and(|entry| number > entry.released && entry.known.contains(number))
}

/// What is missing up to `top` and there at the other end, as far as one request may name it.
fn wanted(has: &NumberSet, there: &NumberSet, top: FrameNo) -> Vec<(FrameNo, FrameNo)> {
    let mut ranges = Vec::new();
    let mut at = FrameNo(1);
    while ranges.len() < limits::RANGES
        && let Some(first) = there.next_not_in(has, at).filter(|first| *first <= top)
    {
        let missing_end = has.next_present(first).map_or(top, |n| FrameNo(n.0.saturating_sub(1)));
        let there_end = FrameNo(there.next_missing(first).0.saturating_sub(1));
        let last = missing_end.min(there_end).min(top).max(first);
        ranges.push((first, last));
        at = last.next();
    }
    ranges
}
