//! Make before break: old edges stay in use beside the new ones until those are known to carry, and
//! new edges that do not come up are withdrawn.
//!
//! A tree that drops edges which carry for ones that are not known to goes out with the old edges as
//! its overlap (epoch e). Once the new edges of all cycles carry, the tree is told again without them
//! (e+1). What carries, overlap included, is always a forest that joins whatever was joined before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use arborcast_protocol::{id::MemberId, limits, report::Report, tree::Edge};
use petgraph::unionfind::UnionFind;

use super::{Present, Session, Settled, Timer, Urgency};
use crate::engine::{
    context::{Context, ms},
    policy::State,
};

impl Session {
    /// The edges that stay in use beside the chosen ones: of the old ones whose channels live, as many as it takes
    /// to join what the chosen ones that carry leave apart. Those of the tree before, now `retired`, first.
    pub(super) fn still_needed(&self, retired: &BTreeSet<Edge>) -> BTreeSet<Edge> {
        let mut needed = BTreeSet::new();
        if self.edges.which(State::is_chosen).all(|edge| self.edges.state(edge).carries()) {
            return needed;
        }
        let position: BTreeMap<MemberId, usize> =
            self.members.keys().zip(0..).map(|(member, position)| (*member, position)).collect();
        let mut parts = UnionFind::<usize>::new(position.len());
        let mut join = |edge: Edge| {
            let (a, b) = edge.ends();
            let ends = position.get(&a).zip(position.get(&b));
            ends.is_some_and(|(a, b)| parts.try_union(*a, *b).is_ok_and(|joined| joined))
        };
        for edge in self.edges.which(|state| state.is_chosen() && state.carries()) {
            join(edge);
        }
        let old = self.edges.which(|state| state == State::Old);
        let (first, then): (Vec<Edge>, Vec<Edge>) =
            old.filter(|edge| self.topology.has(*edge)).partition(|edge| retired.contains(edge));
        let mut degrees: BTreeMap<MemberId, u16> = BTreeMap::new();
        for edge in first.into_iter().chain(then) {
            let (a, b) = edge.ends();
            let is_full = |end| degrees.get(&end).is_some_and(|degree| *degree >= limits::FANOUT);
            if is_full(a) || is_full(b) || !join(edge) {
                continue;
            }
            for end in [a, b] {
                *degrees.entry(end).or_default() += 1;
            }
            needed.insert(edge);
        }
        needed
    }

    /// Whether old edges are in use beside the tree.
    pub(super) fn has_overlap(&self) -> bool {
        self.edges.which(|state| state == State::Old).next().is_some()
    }

    /// Whether an edge of the newest tree is lost: then old ones that are still in use have the first claim to
    /// its place.
    pub(super) fn has_lost_an_edge(&self, now: Instant) -> bool {
        self.has_overlap()
            && self
                .edges
                .which(State::is_chosen)
                .any(|edge| self.edges.has_failed(edge, now) || !self.topology.has(edge))
    }

    /// Sees to it that edges are looked at that do not come up, or are not held down any more.
    pub(super) fn watch_edges(&mut self, context: &Context, now: Instant) {
        self.wind_up_judgement(context);
        match self.edges.next_release(now) {
            Some(due) => self.timers.set(Timer::Review, due),
            None => self.timers.clear(Timer::Review),
        }
    }

    /// A tree is published: from now on its new edges have time to come up.
    pub(super) fn await_edges(&mut self, context: &Context, now: Instant) {
        let members = &self.members;
        // Whoever follows no updates hears of the tree with its next renewal at the latest.
        let (soon, later) = (ms(context.config.carry_ms), ms(context.config.renew_ms));
        let follows = |end| members.get(&end).is_some_and(|end| end.subscription.is_some());
        let due = |edge: Edge| {
            let (a, b) = edge.ends();
            now + if follows(a) && follows(b) { soon } else { soon + later }
        };
        self.edges.watch(due, |edge| could_carry(members, edge));
    }

    /// Takes over which edges a member says carry.
    pub(super) fn on_carrying(
        &mut self,
        from: MemberId,
        report: &Report,
        context: &Context,
        now: Instant,
    ) {
        let Some(held) = report.held.filter(|held| held.header.session == self.id) else { return };
        let epoch = held.header.epoch;
        if self.published.is_none() {
            // What is said now makes up the tree in force: only under a tree of this coordinator.
            if report.carrying.is_empty() || !self.is_ours(&held, context) {
                return;
            }
            for peer in &report.carrying {
                // The peer may not have come back yet.
                if self.topology.claims(from, *peer) {
                    self.edges.claim(from, *peer, epoch);
                }
            }
            return;
        }
        // Who would say so untruly could as well show a header that it was given.
        for peer in &report.carrying {
            if let Some(edge) = self.edges.say(from, *peer, epoch) {
                self.on_up(edge, context, now);
            }
        }
    }

    /// Takes over of which neighbours a member hears nothing. Their edges give way at once if others
    /// can take their place, though the channels may look alive: a process that is stopped or has died
    /// takes its connections along only some seconds later. Who says so untruly harms itself alone. What
    /// may date from a pause of the coordinator may be over: then the edge is to show that it carries.
    pub(super) fn on_silent(
        &mut self,
        from: MemberId,
        silent: &[MemberId],
        context: &mut Context,
        now: Instant,
    ) {
        let used = |peer: &MemberId| {
            Edge::new(from, *peer).filter(|edge| self.edges.state(*edge).is_in_use())
        };
        let edges: Vec<Edge> = silent.iter().filter_map(used).collect();
        let due = now + ms(context.config.carry_ms);
        for edge in &edges {
            if context.is_stale {
                self.edges.reset(*edge, due);
                continue;
            }
            if let Some(peer) = edge.other(from) {
                self.on_said_silent(peer, context, now);
            }
            self.edges.silent(*edge, ms(context.config.hold_down_ms), due, now);
        }
        if !edges.is_empty() {
            self.touch(Urgency::AtOnce, context, now);
        }
    }

    /// An edge carries that did not before. With the last one of all cycles old edges are needed no longer.
    fn on_up(&mut self, edge: Edge, context: &Context, now: Instant) {
        let on_cycles = self.published.as_ref().map(|published| &published.on_cycles);
        let is_last = on_cycles.is_some_and(|on_cycles| {
            on_cycles.contains(&edge)
                && on_cycles.iter().all(|edge| self.edges.state(*edge).carries())
        });
        if is_last {
            self.touch(Urgency::Batched, context, now);
        }
    }

    /// Looks at the edges that did not come up in time.
    pub(super) fn judge(&mut self, context: &mut Context, now: Instant) {
        let config = &context.config;
        let times = (now + ms(config.carry_ms), ms(config.hold_down_ms));
        let members = &self.members;
        let is_connected = |member| context.is_connected(member);
        let (up, failed) =
            self.edges.judge(is_connected, |edge| could_carry(members, edge), times, now);
        for edge in up {
            self.on_up(edge, context, now);
        }
        for edge in failed {
            context.stats.withdrawn += 1;
            tracing::debug!(session = %self.id, ?edge, "carries nothing");
            self.touch(Urgency::AtOnce, context, now);
        }
        self.wind_up_judgement(context);
    }

    /// A moment later than due, so that members that come together are not looked at one by one.
    fn wind_up_judgement(&mut self, context: &Context) {
        let moment = ms(context.config.carry_ms.div_ceil(16));
        match self.edges.next_due() {
            Some(due) => self.timers.set(Timer::Carry, due + moment),
            None => self.timers.clear(Timer::Carry),
        }
    }
}

/// Whether one end has floors that the other can adopt.
fn could_carry(members: &BTreeMap<MemberId, Present>, edge: Edge) -> bool {
    let (a, b) = edge.ends();
    let is_settled = |end| members.get(&end).is_some_and(|present| present.settled == Settled::Yes);
    is_settled(a) || is_settled(b)
}
