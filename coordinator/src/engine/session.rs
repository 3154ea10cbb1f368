//! One session's life: members, leases, and what they ask and report.
//!
//! Handlers give the answer and note what is to follow; [`Session::advance`] then does whatever is
//! due, so that an answer always goes out before its consequences.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{Epoch, Incarnation, MemberId, SessionId},
    limits,
    notice::News,
    path::{self, Scope, State},
    refusal::Refusal,
    report::{self, Accepted, Report},
    session::{Address, Join, Joined, Renewed, Terms},
    tree::{Edge, SignedHeader, Tree},
};

use hand_over::Leaving;
use push_keys::PushKeys;
use slow::Slow;
use spacing::{Spacing, Urgency};

use super::{
    context::{Context, ms},
    coordinates::Coordinates,
    group::Groups,
    policy::{self, Edges, Needs},
    refusals,
    subscription::Published,
    timer::Timers,
    topology::{Changes, Topology},
};

mod hand_over;
mod introduce;
mod overlap;
mod push_keys;
pub(crate) mod recompute;
mod resume;
mod slow;
mod spacing;

/// The state of one session.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    members: BTreeMap<MemberId, Present>,
    topology: Topology,
    coordinates: Coordinates,
    groups: Groups,
    published: Option<Published>,
    edges: Edges,
    slow: Slow,
    timers: Timers<Timer>,
    /// When members' leases end.
    leases: Timers<MemberId>,
    push_keys: PushKeys,
    /// The highest epoch that is known to have been used.
    epoch: Epoch,
    spacing: Spacing,
    /// A tree is being computed elsewhere.
    computing: Option<Computing>,
    /// Until when no tree is published, because members of before may be missing; see [`resume`].
    resuming: Option<Instant>,
    /// When the first member has shown such a tree.
    resumed: Option<Instant>,
    /// Counts members as they come.
    arrivals: u64,
    /// Parts of the tree without a settled member: the one to be appointed, and since when.
    unsettled: BTreeMap<MemberId, Instant>,
    /// Whether members were out of reach of others when last computed.
    is_split: bool,
    /// How often members out of reach of each other were brought together.
    mends: usize,
    /// Members whose neighbours are told again: an earlier notice was lost.
    resend: BTreeSet<MemberId>,
}

/// What a member says when it renews; see [`arborcast_protocol::session::Request::Renew`].
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) incarnation: Incarnation,
    pub(crate) addresses: Vec<Address>,
    pub(crate) settled: bool,
    pub(crate) push_key: u32,
}

/// Leases of leaves are so many times as long: nobody waits for what they pass on, and their batteries last longer.
const fn lease_factor(fanout: u16) -> u32 {
    if fanout <= 1 { 3 } else { 1 }
}

/// A computation that is done elsewhere.
#[derive(Debug)]
struct Computing {
    serial: u64,
    /// Something has changed since it began.
    is_outdated: bool,
}

/// A member.
#[derive(Debug)]
struct Present {
    incarnation: Incarnation,
    nick: String,
    fanout: u16,
    upload_kbps: Option<u32>,
    addresses: Vec<Address>,
    /// The order in which members came.
    arrival: u64,
    expires_s: u64,
    settled: Settled,
    /// It has had an edge since it came, and so is listed in the tree.
    is_attached: bool,
    subscription: Option<Scope>,
    /// It wants to leave.
    leaving: Option<Leaving>,
    has_missed_notice: bool,
    candidates_after: Instant,
    /// When it is told of near members next, and how long after that again.
    near: (Instant, Duration),
}

/// Whether a joiner may adopt a member's floors. Once so, it stays so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Settled {
    No,
    /// By the coordinator's word, which is said until the member has understood.
    Appointed,
    /// By its own word, or from the start.
    Yes,
}

/// What happens later. Of those due at one instant the first here comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// This member has been cut off for long enough.
    Death(MemberId),
    /// A part without settled members is to be given one.
    Settle,
    /// A part has been apart for long enough to be a group of its own.
    Partition,
    /// An edge is to carry by now.
    Carry,
    /// A channel is no longer held back.
    Review,
    /// Something is due about members that keep others waiting.
    Slow,
    /// Changes wait for a tree.
    Recompute,
    /// Members out of reach of each other are to be brought together.
    Mend,
}

impl Present {
    fn say_settled(&mut self, is_settled: bool) {
        if is_settled {
            self.settled = Settled::Yes;
        }
    }
}

impl Session {
    pub(crate) fn new(id: SessionId, context: &mut Context) -> Self {
        Self {
            id,
            members: BTreeMap::new(),
            topology: Topology::default(),
            coordinates: Coordinates::default(),
            groups: Groups::default(),
            published: None,
            edges: Edges::default(),
            slow: Slow::default(),
            timers: Timers::default(),
            leases: Timers::default(),
            push_keys: PushKeys::new(&mut context.key_rng),
            epoch: context.highest_epoch(),
            resuming: context.coming_back(),
            resumed: None,
            spacing: Spacing::default(),
            computing: None,
            arrivals: 0,
            unsettled: BTreeMap::new(),
            is_split: false,
            mends: 0,
            resend: BTreeSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn tree(&self) -> Option<(Epoch, &Tree)> {
        self.published.as_ref().map(|published| (published.epoch(), &published.tree))
    }

    /// When [`Session::advance`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.leases.next(), self.push_keys.due()].into_iter().flatten().min()
    }

    /// Lets somebody in whose admission holds.
    pub(crate) fn on_join(
        &mut self,
        from: MemberId,
        join: Join,
        context: &mut Context,
        now: Instant,
    ) -> Result<Joined, Refusal> {
        let held = join.held.filter(|held| self.is_ours(held, context));
        if let Some(held) = held {
            self.saw_epoch(held, context);
            self.resume(context, now);
        }
        let is_refresh = match self.members.get(&from) {
            Some(present) if present.incarnation == join.incarnation => true,
            Some(_) => {
                context.stats.replaced += 1;
                self.remove(from, context, now);
                false
            }
            None => false,
        };
        if !is_refresh && self.members.len() >= context.config.members {
            return Err(refusals::session_full(self.members.len()));
        }
        let certificate = context.certify(self.id, from, join.incarnation, now);
        let is_alone = self.members.keys().all(|member| *member == from);
        // Who comes back alone, or is alone just after a restart, may be one of many.
        let is_first = is_alone && held.is_none() && self.resuming.is_none_or(|until| until <= now);
        let is_settled = is_first || (join.settled && held.is_some());
        let fanout = join.fanout.clamp(1, limits::FANOUT);
        if is_refresh {
            context.stats.refreshes += 1;
        } else {
            context.stats.joins += 1;
            context.entered(from, self.id);
            self.arrivals += 1;
        }
        let present = self.members.entry(from).or_insert(Present {
            incarnation: join.incarnation,
            nick: String::new(),
            fanout,
            upload_kbps: None,
            addresses: Vec::new(),
            arrival: self.arrivals,
            expires_s: 0,
            settled: Settled::No,
            is_attached: false,
            subscription: None,
            leaving: None,
            has_missed_notice: false,
            candidates_after: now,
            near: (now, ms(context.config.candidates_ms.max(1))),
        });
        let is_changed = is_refresh && (present.nick != join.nick || present.fanout != fanout);
        present.nick = join.nick;
        present.fanout = fanout;
        present.upload_kbps = join.upload_kbps;
        present.leaving = None;
        present.addresses = join.addresses;
        present.expires_s = certificate.claim.expires_s;
        present.say_settled(is_settled);
        present.candidates_after = now + ms(context.config.candidates_ms);
        let settled = present.settled != Settled::No;
        self.topology.add(from);
        self.slow.heard(from);
        self.note_return(from, context, now);
        let factor = lease_factor(fanout);
        self.leases.set(from, now + ms(context.config.lease_ms) * factor);
        if is_changed {
            self.touch(Urgency::Batched, context, now);
        }
        if !is_refresh {
            if is_alone || self.topology.degree(from) > 0 {
                self.touch(Urgency::AtOnce, context, now);
            }
            self.timers.bring_forward(Timer::Mend, now + ms(context.config.candidates_ms));
        }
        let candidates = self.first_candidates(from, context);
        let config = &context.config;
        Ok(Joined {
            certificate,
            terms: Terms {
                now_s: context.now_s(now),
                lease_ms: config.lease_ms.saturating_mul(factor),
                renew_ms: config.renew_ms.saturating_mul(factor),
                report_ms: config.report_ms,
                message_bytes: config.message_bytes,
                store_bytes: config.store_bytes,
                slow_ms: config.slow_ms,
                history: config.session_history,
            },
            settled,
            candidates,
            push: Some(self.push_keys.access()),
        })
    }

    /// Keeps a member in.
    pub(crate) fn on_renew(
        &mut self,
        from: MemberId,
        Renewal { incarnation, addresses, settled, push_key }: Renewal,
        context: &mut Context,
        now: Instant,
    ) -> Result<Renewed, Refusal> {
        let now_s = context.now_s(now);
        let (id, life_s) = (self.id, context.config.certificate_life_s);
        let present = self.present(from, incarnation)?;
        present.addresses = addresses;
        present.say_settled(settled);
        let appointed = present.settled == Settled::Appointed;
        let is_notified = present.subscription == Some(Scope::Neighbours);
        let certificate = (present.expires_s.saturating_sub(now_s) < life_s / 3)
            .then(|| context.certify(id, from, incarnation, now));
        if let Some(certificate) = &certificate {
            present.expires_s = certificate.claim.expires_s;
        }
        context.stats.renewals += 1;
        let factor = lease_factor(present.fanout);
        self.leases.set(from, now + ms(context.config.lease_ms) * factor);
        self.resend_missed(from);
        let mut candidates = self.far_candidates(from, context, now);
        if candidates.is_empty() {
            candidates = self.more_candidates(from, context, now);
        }
        if candidates.is_empty() {
            candidates = self.near_candidates(from, context, now);
        }
        let epoch = self.published.as_ref().filter(|_| !is_notified).map(|_| self.epoch);
        let push_key = self.push_keys.newer_than(push_key);
        let measure = self.take_unmeasured(from, context, now);
        Ok(Renewed { certificate, settled: appointed, candidates, now_s, epoch, push_key, measure })
    }

    /// The members with whom this one is to measure the bandwidth of its channel: those whose width the tree may
    /// depend on. What is in the tree shows it by what it carries.
    fn take_unmeasured(
        &mut self,
        from: MemberId,
        context: &Context,
        now: Instant,
    ) -> Vec<MemberId> {
        let (needs, hysteresis) = (Needs::of(&context.config), context.config.hysteresis_us.into());
        let edges = &self.edges;
        let is_wanted = |peer, qos| {
            Edge::new(from, peer).is_some_and(|edge| !edges.state(edge).is_chosen())
                && needs.asks_for_bandwidth(qos, hysteresis)
        };
        self.topology.take_unmeasured(from, is_wanted, now)
    }

    /// Takes over first and second information (R1).
    pub(crate) fn on_report(
        &mut self,
        from: MemberId,
        report: &Report,
        context: &mut Context,
        now: Instant,
    ) -> report::Answer {
        self.present(from, report.incarnation)?;
        let most = report.qos.len().max(report.carrying.len());
        let most = most.max(report.silent.len()).max(report.slow.len());
        refusals::check_channels(most)?;
        let mut changes = match &report.adjacency {
            Some(adjacency) => {
                self.topology.on_adjacency(from, adjacency).map_err(refusals::invalid)?
            }
            None => Changes::default(),
        };
        self.present(from, report.incarnation)?.say_settled(report.settled);
        if let Some(held) = report.held
            && held.header.epoch > self.epoch
            && self.is_ours(&held, context)
        {
            self.saw_epoch(held, context);
        }
        let mut is_broken = false;
        for edge in &changes.down {
            is_broken |= self.edges.state(*edge).is_in_use();
            self.edges.reset(*edge, now + ms(context.config.carry_ms));
            self.edges.acquit(*edge);
        }
        self.on_carrying(from, report, context, now);
        self.on_silent(from, &report.silent, context, now);
        if !context.is_stale {
            self.on_slow(from, &report.slow, context, now);
        }
        let out_of_range = report.qos.iter().filter(|figures| !policy::is_sane(figures.qos));
        context.stats.clamped += out_of_range.count() as u64;
        let figures = self.topology.on_qos(from, &report.qos);
        changes.quality |= figures.quality;
        self.place(from);
        if self.has_worn(from, &report.qos, &context.config) {
            self.touch(Urgency::Worn, context, now);
        }
        context.stats.reports += 1;
        self.resend_missed(from);
        self.on_changes(&changes, is_broken, context, now);
        if self.resuming.is_some() {
            // This may be the last one that was awaited.
            self.touch(Urgency::AtOnce, context, now);
        }
        for edge in changes.down.iter().chain(&changes.up) {
            let (a, b) = edge.ends();
            self.watch_death(a, context, now);
            self.watch_death(b, context, now);
        }
        Ok(Accepted {
            candidates: self.far_candidates(from, context, now),
            report_full: !self.topology.has_reported(from),
        })
    }

    /// Answers from the newest tree (R4), and notes who follows it (R5).
    pub(crate) fn on_path(
        &mut self,
        from: MemberId,
        request: path::Request,
        context: &mut Context,
    ) -> path::Answer {
        self.slow.heard(from);
        let Some(present) = self.members.get_mut(&from) else { return Err(refusals::not_member()) };
        let state = |scope| {
            let published = self.published.as_ref().ok_or_else(refusals::no_tree)?;
            Ok::<State, Refusal>(published.state(from, scope))
        };
        match request {
            path::Request::Query { scope, .. } => {
                let state = state(scope)?;
                context.stats.queries += 1;
                Ok(state)
            }
            path::Request::Subscribe { scope, .. } => {
                // It counts also while there is no tree yet to answer with.
                present.subscription = Some(scope);
                present.has_missed_notice = false;
                let state = state(scope)?;
                context.stats.subscribes += 1;
                Ok(state)
            }
            path::Request::Unsubscribe { .. } => {
                present.subscription = None;
                Ok(State::Unsubscribed)
            }
        }
    }

    /// A notice was lost. Once the member shows up again, it is told its newest neighbours.
    pub(crate) fn on_notice_failed(&mut self, to: MemberId) {
        if let Some(present) = self.members.get_mut(&to) {
            present.has_missed_notice = present.subscription == Some(Scope::Neighbours);
        }
    }

    /// The connection of a member came or went; [`Context`] knows which.
    pub(crate) fn on_connection(&mut self, member: MemberId, context: &Context, now: Instant) {
        self.watch_death(member, context, now);
    }

    /// Does whatever is due.
    pub(crate) fn advance(&mut self, context: &mut Context, now: Instant) {
        for member in std::mem::take(&mut self.resend) {
            if let Some(published) = &self.published {
                let neighbours = published.neighbours(member);
                context.notify(member, self.id, News::Neighbours(Box::new(neighbours)));
            }
        }
        self.end_leases(context, now);
        self.push_keys.turn(ms(context.config.lease_ms), &mut context.key_rng, now);
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Death(member) => {
                    if self.is_dead(member, context) {
                        context.stats.dead += 1;
                        self.remove(member, context, now);
                    }
                }
                Timer::Settle => self.appoint(context, now),
                Timer::Partition => self.touch(Urgency::Batched, context, now),
                Timer::Review => self.touch(Urgency::Better, context, now),
                Timer::Slow => self.review_slow(context, now),
                Timer::Carry => self.judge(context, now),
                Timer::Recompute => self.recompute(context, now),
                Timer::Mend => self.mend(context, now),
            }
        }
    }

    /// Removes members whose lease is over. While more waits to be read this waits too, for their renewals
    /// may be in it; but not for ever, for a flood may never end.
    fn end_leases(&mut self, context: &mut Context, now: Instant) {
        let lease = ms(context.config.lease_ms);
        let judged = if context.is_idle { Some(now) } else { now.checked_sub(lease) };
        while let Some(member) = judged.and_then(|judged| self.leases.pop(judged)) {
            context.stats.expired += 1;
            if context.is_connected(member) {
                context.notify(member, self.id, News::Removed(refusals::expired(lease)));
            }
            self.remove(member, context, now);
        }
    }

    /// The coordinator stood still: what it did not hear meanwhile is held against nobody.
    pub(crate) fn on_pause(&mut self, context: &Context, now: Instant) {
        let lease = ms(context.config.lease_ms);
        for (member, present) in &self.members {
            self.leases.set(*member, now + lease * lease_factor(present.fanout));
        }
        self.slow.start_anew();
        self.timers.set(Timer::Slow, now);
    }

    /// The channels that count now.
    #[cfg(test)]
    pub(crate) fn channels(&self) -> BTreeSet<Edge> {
        self.topology.channels().into_iter().map(|(edge, _)| edge).collect()
    }

    /// Who is told its neighbours.
    #[cfg(test)]
    pub(crate) fn follows_neighbours(&self, member: MemberId) -> bool {
        self.members
            .get(&member)
            .is_some_and(|present| present.subscription == Some(Scope::Neighbours))
    }

    /// The member with just this incarnation.
    fn present(
        &mut self,
        from: MemberId,
        incarnation: Incarnation,
    ) -> Result<&mut Present, Refusal> {
        self.slow.heard(from);
        match self.members.get_mut(&from) {
            Some(present) if present.incarnation == incarnation => Ok(present),
            Some(_) => Err(refusals::replaced()),
            None => Err(self.slow.refusal(from, incarnation).unwrap_or_else(refusals::not_member)),
        }
    }

    fn is_ours(&self, held: &SignedHeader, context: &Context) -> bool {
        held.verify(self.id, &[context.me])
    }

    /// A tree that this coordinator signed, perhaps before it was started anew: later ones count on
    /// from it.
    fn saw_epoch(&mut self, held: SignedHeader, context: &mut Context) {
        self.epoch = self.epoch.max(held.header.epoch);
        context.saw_epoch(self.epoch);
    }

    fn remove(&mut self, member: MemberId, context: &mut Context, now: Instant) {
        let Some(present) = self.members.remove(&member) else { return };
        self.topology.remove(member);
        self.coordinates.forget(member);
        self.edges.forget_member(member);
        self.slow.forget(member);
        self.leases.clear(member);
        self.timers.clear(Timer::Death(member));
        self.resend.remove(&member);
        context.left(member, self.id);
        self.push_keys.on_left(ms(context.config.lease_ms), now);
        if present.is_attached {
            self.touch(Urgency::AtOnce, context, now);
        }
    }

    /// Makes the changes of a report count; whether edges in use are broken.
    fn on_changes(&mut self, changes: &Changes, is_broken: bool, context: &Context, now: Instant) {
        let part = |member| self.published.as_ref().and_then(|tree| tree.part_of(member));
        let joins_parts = changes.up.iter().any(|edge| {
            let (a, b) = edge.ends();
            part(a).is_none() || part(a) != part(b)
        });
        if is_broken || joins_parts {
            self.touch(Urgency::AtOnce, context, now);
        } else if changes.quality || !changes.up.is_empty() || !changes.down.is_empty() {
            self.touch(Urgency::Better, context, now);
        }
    }

    fn is_dead(&self, member: MemberId, context: &Context) -> bool {
        !context.is_connected(member) && self.topology.is_cut_off(member)
    }

    fn watch_death(&mut self, member: MemberId, context: &Context, now: Instant) {
        if self.members.contains_key(&member) && self.is_dead(member, context) {
            let due = now + ms(context.config.death_grace_ms);
            self.timers.bring_forward(Timer::Death(member), due);
        } else {
            self.timers.clear(Timer::Death(member));
        }
    }

    fn resend_missed(&mut self, member: MemberId) {
        if let Some(present) = self.members.get_mut(&member)
            && std::mem::take(&mut present.has_missed_notice)
        {
            self.resend.insert(member);
        }
    }
}
