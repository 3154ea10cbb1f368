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

use arborcast_protocol::{
    id::MemberId,
    limits,
    report::Report,
    tree::{Edge, Tree},
};
use petgraph::unionfind::UnionFind;

use super::{Present, Session, Settled, Timer, Urgency};
use crate::engine::{
    carrying::Late,
    context::{Context, ms},
    tree::Tier,
};

/// What becomes of an edge that did not come up in time.
enum Verdict {
    /// Nobody could know yet.
    Wait,
    /// It carries: the end that does not say so cannot be heard.
    Trust,
    /// It does not.
    Withdraw,
}

impl Session {
    /// The edges that stay in use beside the chosen ones: of those that carry and whose channels
    /// live, as many as it takes to join what the chosen ones that carry leave apart. Those of the tree
    /// before first. With their tiers.
    pub(super) fn still_needed(&self, before: &BTreeMap<Edge, Tier>) -> BTreeMap<Edge, Tier> {
        let mut overlap = BTreeMap::new();
        if self.in_force.keys().all(|edge| self.carrying.carries(*edge)) {
            return overlap;
        }
        let position: BTreeMap<MemberId, usize> =
            self.members.keys().zip(0..).map(|(member, position)| (*member, position)).collect();
        let mut parts = UnionFind::<usize>::new(position.len());
        let mut join = |edge: Edge| {
            let (a, b) = edge.ends();
            let ends = position.get(&a).zip(position.get(&b));
            ends.is_some_and(|(a, b)| parts.try_union(*a, *b).is_ok_and(|joined| joined))
        };
        for edge in self.in_force.keys().filter(|edge| self.carrying.carries(**edge)) {
            join(*edge);
        }
        let old = |edge: &Edge| !self.in_force.contains_key(edge) && self.topology.has(*edge);
        let (first, then): (Vec<Edge>, Vec<Edge>) =
            self.carrying.carrying().filter(old).partition(|edge| before.contains_key(edge));
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
            let tier = before.get(&edge).or_else(|| self.overlap.get(&edge));
            overlap.insert(edge, tier.copied().unwrap_or(Tier::Good));
        }
        overlap
    }

    /// Whether an edge of the tree in force is lost: then old ones that are still in use have the
    /// first claim to its place.
    pub(super) fn has_lost_an_edge(&self, now: Instant) -> bool {
        !self.overlap.is_empty()
            && self
                .in_force
                .keys()
                .any(|edge| self.doubts.is_shunned(*edge, now) || !self.topology.has(*edge))
    }

    /// Notes what the tree in force waits for.
    pub(super) fn watch_carrying(&mut self, context: &Context, now: Instant) {
        let on_cycles = self.published.as_ref().map(|published| published.on_cycles.clone());
        self.awaited = on_cycles.unwrap_or_default();
        self.awaited.retain(|edge| !self.carrying.carries(*edge));
        self.wind_up_carrying(context);
        match self.doubts.next(now) {
            Some(due) => self.timers.set(Timer::Review, due),
            None => self.timers.clear(Timer::Review),
        }
    }

    /// The edges of `tree`, which is to be published, are in use from now on.
    pub(super) fn use_edges(&mut self, tree: &Tree, context: &Context, now: Instant) {
        let edges: BTreeSet<Edge> = tree.edges().chain(tree.overlap()).collect();
        let members = &self.members;
        // Whoever follows no updates hears of the tree with its next renewal at the latest.
        let (soon, later) = (ms(context.config.carry_ms), ms(context.config.renew_ms));
        let follows = |end| members.get(&end).is_some_and(|end| end.subscription.is_some());
        let due = |edge: Edge| {
            let (a, b) = edge.ends();
            now + if follows(a) && follows(b) { soon } else { soon + later }
        };
        self.carrying.set(&edges, self.epoch, due, |edge| could_carry(members, edge));
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
                    self.carrying.claim(from, *peer, epoch);
                }
            }
            return;
        }
        // Who would say so untruly could as well show a header that it was given.
        for peer in &report.carrying {
            if self.carrying.say(from, *peer, epoch)
                && let Some(edge) = Edge::new(from, *peer)
            {
                self.carries(edge, context, now);
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
        let used =
            |peer: &MemberId| Edge::new(from, *peer).filter(|edge| self.carrying.uses(*edge));
        let edges: Vec<Edge> = silent.iter().filter_map(used).collect();
        for edge in &edges {
            if context.is_stale {
                self.carrying.reset(*edge, now + ms(context.config.carry_ms));
                continue;
            }
            if let Some(peer) = edge.other(from) {
                self.on_said_silent(peer, context, now);
            }
            self.doubts.shun(*edge, ms(context.config.shun_ms), now);
            self.carrying.reset(*edge, now + ms(context.config.carry_ms));
        }
        if !edges.is_empty() {
            self.touch(Urgency::AtOnce, context, now);
        }
    }

    /// An edge carries that did not before.
    fn carries(&mut self, edge: Edge, context: &Context, now: Instant) {
        self.doubts.absolve(edge);
        if self.awaited.remove(&edge) && self.awaited.is_empty() {
            self.touch(Urgency::Batched, context, now);
        }
    }

    /// Looks at the edges that did not come up in time.
    pub(super) fn judge(&mut self, context: &mut Context, now: Instant) {
        let again = now + ms(context.config.carry_ms);
        for late in self.carrying.late(now) {
            match verdict(late, context) {
                Verdict::Wait => {
                    let could_carry = could_carry(&self.members, late.edge);
                    self.carrying.postpone(late.edge, again, could_carry);
                }
                Verdict::Trust => {
                    self.carrying.trust_one(late.edge);
                    self.carries(late.edge, context, now);
                }
                Verdict::Withdraw => {
                    let first = ms(context.config.shun_ms);
                    let until = self.doubts.shun(late.edge, first, now);
                    // If nothing can replace it, it stays and gets another chance.
                    self.carrying.postpone(late.edge, until, true);
                    context.stats.withdrawn += 1;
                    tracing::debug!(session = %self.id, edge = ?late.edge, "carries nothing");
                    self.touch(Urgency::AtOnce, context, now);
                }
            }
        }
        self.wind_up_carrying(context);
    }

    /// A moment later than due, so that members that come together are not looked at one by one.
    fn wind_up_carrying(&mut self, context: &Context) {
        let moment = ms(context.config.carry_ms.div_ceil(16));
        match self.carrying.next() {
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

/// What is to become of an edge that does not carry yet.
fn verdict(late: Late, context: &Context) -> Verdict {
    // Between two members without floors nothing can flow until one has got them elsewhere.
    if !late.could_carry {
        return Verdict::Wait;
    }
    let (a, b) = late.edge.ends();
    match (late.said, context.is_connected(a), context.is_connected(b)) {
        ((true, false), _, false) | ((false, true), false, _) => Verdict::Trust,
        ((false, false), false, false) => Verdict::Wait,
        (_, _, _) => Verdict::Withdraw,
    }
}
