//! Members that keep the others waiting: first they become leaves, so that nothing goes through them, and
//! if that does not help they are detached, so that nobody waits for them any more. They may come back.
//! Where nobody but the sender waits, as in a session of two, nobody is detached.
//!
//! One member's word is little: what it calls slow may be its own channel. So a leaf that complains of a
//! second neighbour when the first was moved out of its way is itself taken to be the cause, and so is a
//! relay that complains of all its neighbours, unless these cannot be heard or complain of themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{Incarnation, MemberId},
    limits,
    notice::News,
    refusal::Refusal,
    tree::Edge,
};

use super::{Session, Timer, Urgency};
use crate::engine::{
    blame::{Names, Sink},
    context::{Context, ms},
    policy::State,
    refusals::{self, Cause},
    subscription::Published,
};

/// What a session knows of members that keep others waiting.
#[derive(Debug, Default)]
pub(super) struct Slow {
    names: Names,
    /// Those at whom the names end.
    blamed: BTreeMap<MemberId, Blame>,
    /// Members of whom a neighbour hears nothing, and the coordinator has heard nothing since it asked them,
    /// with when that was.
    silent: BTreeMap<MemberId, Instant>,
    /// Members that something was done about. At most [`KEPT`].
    records: BTreeMap<MemberId, Record>,
}

/// Members that are remembered; who may relay again soonest is forgotten first.
const KEPT: usize = 1024;

/// Each time a member is to be a leaf for twice as long, but no more often than this.
const DOUBLINGS: u32 = 6;

/// So many first waits later it counts as good again.
const MEMORY: u32 = 16;

/// The blame on one member.
#[derive(Clone, Debug)]
struct Blame {
    /// From when the patience with it counts.
    since: Instant,
    /// When it was named last, if it is not named now.
    lapsed: Option<Instant>,
    /// Its neighbours then.
    beside: BTreeSet<MemberId>,
}

/// What was done about one member.
#[derive(Clone, Copy, Debug)]
struct Record {
    times: u32,
    /// It relays nothing until then.
    leaf_until: Instant,
    /// The tree is still to be told that this is over.
    is_leaf: bool,
    /// In which run it was detached, and why, if it has not come back.
    detached: Option<(Incarnation, Cause)>,
    /// Who alone complained of it.
    by: Option<MemberId>,
}

impl Slow {
    /// A member is gone.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.names.forget(member);
        self.blamed.remove(&member);
        self.silent.remove(&member);
    }

    /// What members said is forgotten; those whom it still concerns say it again. What was done stays.
    pub(super) fn start_anew(&mut self) {
        self.names = Names::default();
        self.blamed.clear();
        self.silent.clear();
    }

    /// A member asks for something, or answers, so it is alive.
    pub(super) fn heard(&mut self, member: MemberId) {
        self.silent.remove(&member);
    }

    /// Whether a member is to relay nothing.
    pub(super) fn is_leaf(&self, member: MemberId, now: Instant) -> bool {
        self.records.get(&member).is_some_and(|record| now < record.leaf_until)
    }

    /// Why this run of a member is none any more, if it was detached.
    pub(super) fn refusal(&self, member: MemberId, incarnation: Incarnation) -> Option<Refusal> {
        let (run, cause) = self.records.get(&member)?.detached?;
        (run == incarnation).then(|| refusals::detached(cause))
    }

    /// A member came, perhaps back: it shows as a leaf that it can keep up.
    fn record(&mut self, member: MemberId, first: Duration, now: Instant) -> &mut Record {
        self.records.retain(|_, old| now < old.leaf_until + first * MEMORY);
        if self.records.len() >= KEPT && !self.records.contains_key(&member) {
            let soonest = self.records.iter().min_by_key(|(_, record)| record.leaf_until);
            if let Some(soonest) = soonest.map(|(member, _)| *member) {
                self.records.remove(&soonest);
            }
        }
        let record = self.records.entry(member).or_insert(Record {
            times: 0,
            leaf_until: now,
            is_leaf: true,
            detached: None,
            by: None,
        });
        record.leaf_until = now + first * (1 << record.times.min(DOUBLINGS));
        record.is_leaf = true;
        record
    }
}

impl Session {
    /// Takes over whom a member names.
    pub(super) fn on_slow(
        &mut self,
        from: MemberId,
        slow: &[MemberId],
        context: &Context,
        now: Instant,
    ) {
        let named = slow.iter().take(limits::CHANNELS).copied();
        let named: BTreeSet<MemberId> =
            named.filter(|peer| self.members.contains_key(peer)).collect();
        if context.config.slow_ms > 0 && self.slow.names.set(from, named) {
            self.timers.set(Timer::Slow, now);
        }
    }

    /// A member was let in, perhaps one that had been detached.
    pub(super) fn note_return(&mut self, member: MemberId, context: &Context, now: Instant) {
        let first = ms(context.config.hold_down_ms);
        if self.slow.records.get(&member).is_some_and(|record| record.detached.is_some()) {
            self.slow.record(member, first, now).detached = None;
            self.timers.bring_forward(Timer::Slow, now);
        }
    }

    /// A neighbour hears nothing of a member. It is asked: whoever gets a notice answers it.
    pub(super) fn on_said_silent(&mut self, member: MemberId, context: &mut Context, now: Instant) {
        if context.is_connected(member) && !self.slow.silent.contains_key(&member) {
            self.slow.silent.insert(member, now);
            context.notify(member, self.id, News::Candidates(Vec::new()));
        }
    }

    /// A member has answered a notice.
    pub(crate) fn on_noted(&mut self, member: MemberId) {
        self.slow.heard(member);
    }

    /// Looks whom the names lead to, and does what is due.
    pub(super) fn review_slow(&mut self, context: &mut Context, now: Instant) {
        let sinks = self.sinks(context, now);
        let mut blamed = std::mem::take(&mut self.slow.blamed);
        blamed.retain(|member, blame| {
            if sinks.contains_key(member) {
                return true;
            }
            blame.lapsed.get_or_insert(now);
            self.lapses_at(*member, blame, context).is_some_and(|at| now < at)
        });
        self.slow.blamed = blamed;
        for (member, sink) in &sinks {
            let beside = self.beside(*member);
            let blame = Blame { since: now, lapsed: None, beside: BTreeSet::new() };
            let blame = self.slow.blamed.entry(*member).or_insert(blame);
            if let Some(lapsed) = blame.lapsed.take() {
                blame.since += now.saturating_duration_since(lapsed);
            }
            blame.beside = beside;
            let since = blame.since;
            if now >= since + self.patience(sink, context, now) {
                self.act_on(sink, context, now);
            }
        }
        self.end_of_leaves(context, now);
        let blamed = self.slow.blamed.iter();
        let lapses = blamed.filter_map(|(member, blame)| self.lapses_at(*member, blame, context));
        let acts = sinks.values().filter_map(|sink| {
            Some(self.slow.blamed.get(&sink.member)?.since + self.patience(sink, context, now))
        });
        let leaves = self.slow.records.values().filter(|record| record.is_leaf);
        let asked = sinks.keys().filter_map(|member| self.slow.silent.get(member));
        let silent = asked.map(|asked| *asked + ms(context.config.slow_ms)).filter(|at| now < *at);
        let next =
            lapses.chain(acts).chain(silent).chain(leaves.map(|record| record.leaf_until)).min();
        match next {
            Some(due) => self.timers.set(Timer::Slow, due),
            None => self.timers.clear(Timer::Slow),
        }
    }

    /// When blame is forgotten of one who is not named any more. Not so soon if it has other neighbours now:
    /// those take some time to find out whether they have to wait for it.
    fn lapses_at(&self, member: MemberId, blame: &Blame, context: &Context) -> Option<Instant> {
        let patience = ms(context.config.slow_ms);
        let gap = if self.beside(member) == blame.beside { patience / GAP } else { patience * 2 };
        Some(blame.lapsed? + gap)
    }

    /// The neighbours of a member, those on old edges included.
    fn beside(&self, member: MemberId) -> BTreeSet<MemberId> {
        let published = self.published.as_ref();
        published.map(|published| published.tree.neighbours(member).collect()).unwrap_or_default()
    }

    /// Whether nothing is heard of a member, neither by a neighbour nor here, though it was asked and had
    /// time. Of one whose connection is gone nothing can be heard here, so that says nothing.
    fn is_silent(&self, member: MemberId, context: &Context, now: Instant) -> bool {
        let had_time = |asked: &Instant| *asked + ms(context.config.slow_ms) <= now;
        self.slow.silent.get(&member).is_some_and(had_time) && context.is_connected(member)
    }

    /// The members that are the cause, as far as the names tell.
    fn sinks(&self, context: &Context, now: Instant) -> BTreeMap<MemberId, Sink> {
        if self.slow.names.is_empty() {
            return BTreeMap::new();
        }
        let counts = |from: MemberId, peer: MemberId| {
            Edge::new(from, peer).is_some_and(|edge| self.edges.state(edge).is_in_use())
        };
        // Leaves before relays, and of those who came last first: they are missed least.
        let rank = |member: MemberId| {
            let arrival = self.members.get(&member).map_or(0, |present| present.arrival);
            (self.is_relay(member), std::cmp::Reverse(arrival))
        };
        let sinks = self.slow.names.sinks(counts, rank);
        let sinks: Vec<Sink> =
            sinks.iter().map(|sink| self.turned(sink, &sinks, context, now)).collect();
        sinks.into_iter().map(|sink| (sink.member, sink)).collect()
    }

    /// The sink, or who alone complains of it if that one is the likelier cause.
    fn turned(&self, sink: &Sink, sinks: &[Sink], context: &Context, now: Instant) -> Sink {
        let [accuser] = sink.accusers[..] else { return sink.clone() };
        let is_sure = |sink: &Sink| sink.names_itself || self.is_silent(sink.member, context, now);
        if is_sure(sink) {
            return sink.clone();
        }
        let is_relay = self.is_relay(accuser);
        let is_moved_for = |(member, record): (&MemberId, &Record)| {
            record.by == Some(accuser)
                && now < record.leaf_until
                && sinks.iter().all(|other| other.member != *member)
        };
        let names_all = || {
            let neighbours = self.edges.which(State::is_chosen);
            let neighbours = neighbours.filter_map(|edge| edge.other(accuser));
            let mut neighbours = neighbours.peekable();
            neighbours.peek().is_some()
                && neighbours.all(|peer| {
                    self.slow.names.of(accuser).any(|named| named == peer)
                        && sinks.iter().any(|other| {
                            other.member == peer && other.accusers == [accuser] && !is_sure(other)
                        })
                })
        };
        let is_cause =
            if is_relay { names_all() } else { self.slow.records.iter().any(is_moved_for) };
        if is_cause {
            return Sink { member: accuser, names_itself: false, accusers: vec![sink.member] };
        }
        sink.clone()
    }

    /// How long a member may keep the others waiting before something is done about it. Longer where it is
    /// heard and does not say so itself: it may lack room because of others, and catch up. And where the edge
    /// with it is only coming up, the way may be at fault, and others are tried first.
    fn patience(&self, sink: &Sink, context: &Context, now: Instant) -> Duration {
        let carries = |from: &MemberId| {
            Edge::new(*from, sink.member).is_some_and(|edge| self.edges.state(edge).carries())
        };
        let patience = ms(context.config.slow_ms);
        if sink.names_itself || self.is_silent(sink.member, context, now) {
            return patience;
        }
        let is_up = sink.accusers.iter().any(carries);
        let was_detached =
            self.slow.records.get(&sink.member).is_some_and(|record| record.times > 0);
        let times = if was_detached { HEARD_AGAIN } else { HEARD };
        patience * times + if is_up { Duration::ZERO } else { ms(context.config.carry_ms) * 2 }
    }

    /// A member has kept the others waiting for too long.
    fn act_on(&mut self, sink: &Sink, context: &mut Context, now: Instant) {
        let member = sink.member;
        let Some(present) = self.members.get(&member) else { return };
        let incarnation = present.incarnation;
        let first = ms(context.config.hold_down_ms);
        let is_silent = self.is_silent(member, context, now);
        let by = match sink.accusers[..] {
            [accuser] => Some(accuser),
            _ => None,
        };
        // Elsewhere its application would take no more, and its process answer no sooner.
        let may_help = !sink.names_itself && !is_silent;
        if may_help && self.is_relay(member) && !self.slow.is_leaf(member, now) {
            tracing::debug!(session = %self.id, %member, "keeps others waiting; becomes a leaf");
            context.stats.moved += 1;
            self.slow.record(member, first, now).by = by;
            if let Some(blame) = self.slow.blamed.get_mut(&member) {
                blame.since = now;
            }
            self.touch(Urgency::AtOnce, context, now);
            return;
        }
        if !self.holds_up_others(member) {
            // Later there may be somebody.
            if let Some(blame) = self.slow.blamed.get_mut(&member) {
                blame.since = now;
            }
            return;
        }
        let cause = match (sink.names_itself, is_silent) {
            (true, _) => Cause::Application,
            (false, true) => Cause::Silence,
            (false, false) => Cause::Channel,
        };
        tracing::debug!(session = %self.id, %member, ?cause, "keeps others waiting; detached");
        context.stats.detached += 1;
        let record = self.slow.record(member, first, now);
        record.times = record.times.saturating_add(1);
        record.detached = Some((incarnation, cause));
        record.by = by;
        if context.is_connected(member) {
            context.notify(member, self.id, News::Removed(refusals::detached(cause)));
        }
        self.remove(member, context, now);
    }

    /// Whether there is anybody else who would get something without this member: in its part one who sends
    /// and one who takes. Otherwise the sender alone waits, and loses more by not waiting.
    fn holds_up_others(&self, member: MemberId) -> bool {
        let parts = self.published.as_ref().map(Published::parts).unwrap_or_default();
        let part = parts.iter().find(|part| part.contains(&member));
        let takes = |other: &&MemberId| **other != member && !self.slow.blamed.contains_key(*other);
        part.is_some_and(|part| part.iter().filter(takes).count() > 1)
    }

    /// Members that were leaves for long enough may relay again.
    fn end_of_leaves(&mut self, context: &Context, now: Instant) {
        let mut is_over = false;
        for record in self.slow.records.values_mut() {
            if record.is_leaf && record.leaf_until <= now {
                record.is_leaf = false;
                is_over = true;
            }
        }
        if is_over {
            self.touch(Urgency::Better, context, now);
        }
    }
}

/// Whoever is heard is given so many times as long: with the defaults, longer than the longest pause (8 s)
/// between two requests for a frame that it had no room for.
const HEARD: u32 = 5;

/// The same for one that was detached not long ago: each return costs the others that time.
const HEARD_AGAIN: u32 = 2;

/// Blame goes on though nobody names a member for this part of the patience: when the tree changes, names
/// are taken back by some neighbours before they are said by others.
const GAP: u32 = 4;
