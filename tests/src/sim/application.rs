//! The applications: they publish what the script says and take what arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arborcast::engine::event as node;
use arborcast_protocol::{
    id::{Class, Incarnation, MemberId, SeqNo, ServiceId},
    path::Scope,
};
use bytes::Bytes;
use rand::RngExt as _;

use super::{Happening, Who, World, setup::Sabotage};
use crate::model::{Run, Sent};

/// A message that an application has not handed over yet.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    class: Class,
    /// The only receiver, if it is not for all.
    to: Option<MemberId>,
    payload: Bytes,
}

/// Of each so many'th message the application asks who has it.
const ASKED: u64 = 4;

/// Where single receivers occur, each so many'th message is for one.
const ALONE: u64 = 3;

/// Bytes that are different for every message and tell where it came from.
fn payload(who: Who, count: u64, bytes: usize) -> Bytes {
    let mut text = format!("{who:?} #{count} ").into_bytes();
    let mut state = (who.node as u64) << 32 ^ count;
    while text.len() < bytes {
        // Any spread will do: this is Knuth's MMIX generator.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(&state.to_be_bytes());
    }
    text.truncate(bytes.max(1));
    Bytes::from(text)
}

impl World {
    /// An application gets messages to publish.
    pub(super) fn publish(&mut self, node: usize, count: u32, bytes: usize, class: Class) {
        let Some(who) = self.hosts[node].here() else { return };
        let host = &mut self.hosts[node];
        if host.leaving {
            return;
        }
        let first = host.published;
        host.published += u64::from(count);
        let last = host.published;
        for number in first + 1..=last {
            let alone = self.setup.alone && number % ALONE == 0 && class == Class::Reliable;
            let to = if alone { self.somebody_else(node) } else { None };
            let payload = payload(who, number, bytes);
            self.hosts[node].backlog.push_back(Backlog { class, to, payload });
        }
        self.settle(who);
    }

    /// An application gets a message for one member alone to publish.
    pub(super) fn tell(&mut self, node: usize, to: usize, bytes: usize) {
        let Some(who) = self.hosts[node].here() else { return };
        let to = Some(self.hosts[to].me);
        let host = &mut self.hosts[node];
        if host.leaving {
            return;
        }
        host.published += 1;
        let payload = payload(who, host.published, bytes);
        host.backlog.push_back(Backlog { class: Class::Reliable, to, payload });
        self.settle(who);
    }

    /// Some other member that runs. One that will not leave, where the sender does not know the tree:
    /// it would find out by a timeout alone, long after the world has come to rest.
    fn somebody_else(&mut self, node: usize) -> Option<MemberId> {
        let mut others = self.present();
        others.remove(&node);
        if self.setup.members[node].scope == Scope::Neighbours {
            others.retain(|other| self.setup.members[*other].stays);
        }
        let nth = self.rng.random_range(0..others.len().max(1));
        others.into_iter().nth(nth).map(|other| self.hosts[other].me)
    }

    /// Hands over what waits, while the engine takes it. Leaves when all is done.
    pub(super) fn push_backlog(&mut self, who: Who) -> bool {
        let host = &mut self.hosts[who.node];
        let Some(engine) = &host.engine else { return false };
        if host.leaving
            && (host.impatient
                || host.backlog.is_empty() && host.publishing.is_empty() && host.open.is_empty())
        {
            host.leaving = false;
            host.backlog.clear();
            // Only once, and whatever comes after is the engine's matter.
            host.impatient = true;
            self.feed_leave(who);
            return true;
        }
        if !engine.may_publish() {
            return false;
        }
        let Some(message) = host.backlog.pop_front() else { return false };
        let id = node::PublishId(host.published << 32 | host.backlog.len() as u64);
        host.publishing.insert(id, message.clone());
        // Services tell classes apart, so that both are in every trace.
        let service = ServiceId(u32::from(message.class == Class::Live));
        let Backlog { class, to, payload } = message;
        self.give(who, node::Input::Publish { id, service, class, to, payload });
        true
    }

    fn feed_leave(&mut self, who: Who) {
        self.give(who, node::Input::Leave);
    }

    /// An application is to leave once all have what it sent.
    pub(super) fn leave(&mut self, node: usize) {
        let Some(who) = self.hosts[node].here() else { return };
        if self.hosts[node].impatient {
            return;
        }
        self.hosts[node].leaving = true;
        let patience = self.between(3_000, 20_000);
        self.after(patience, Happening::Impatient(who));
        self.settle(who);
    }

    pub(super) fn impatient(&mut self, who: Who) {
        if self.there(who) && self.hosts[who.node].leaving {
            self.hosts[who.node].impatient = true;
            self.settle(who);
        }
    }

    /// A message has its number.
    pub(super) fn queued(&mut self, who: Who, run: Run, id: node::PublishId, seq: SeqNo) {
        let host = &mut self.hosts[who.node];
        host.queued = host.queued.max(seq);
        let Some(Backlog { class, to, payload }) = host.publishing.remove(&id) else {
            self.check(Err(format!("{who:?} numbers {id:?}, which was not published")));
            return;
        };
        // Nobody confirms what is live.
        let reliable = class == Class::Reliable;
        if reliable {
            self.hosts[who.node].open.insert(seq, to);
        }
        let tree = self.coordinator.tree(self.session).map(|(_, tree)| tree);
        let (hosts, members) = (&self.hosts, tree);
        // Whoever was detached is owed what a source sends once its own tree names it again.
        let own = self.trees.get(&self.hosts[who.node].epoch);
        let back: BTreeSet<usize> = hosts
            .iter()
            .filter(|host| {
                !self.model.was_detached(host.who())
                    || own.is_some_and(|tree| tree.member(host.me).is_some())
            })
            .map(|host| host.number)
            .collect();
        let expected = self.model.publish(run, Sent { class, to, payload }, |who| {
            let host = &hosts[who.node];
            host.who() == who
                && back.contains(&host.number)
                && members
                    .and_then(|tree| tree.member(host.me))
                    .is_some_and(|member| member.incarnation == host.incarnation)
        });
        if reliable && to.is_none() && seq.0 % ASKED == 1 {
            let (id, within) = (node::ConfirmId(seq.0), Duration::from_millis(500));
            self.hosts[who.node].asked.insert(seq);
            let input = node::Input::Confirm { id, to, seq, within };
            self.after(Duration::from_millis(1), Happening::Input(who, Box::new(input)));
        }
        if expected != seq {
            self.check(Err(format!("{who:?} numbers a message {seq}, but it is its {expected}th")));
        }
    }

    /// A node is told who has a message: that is told once, of those asked about, and it is true.
    pub(super) fn answered(
        &mut self,
        who: Who,
        run: Run,
        seq: SeqNo,
        complete: bool,
        missing: &[MemberId],
    ) {
        let host = &mut self.hosts[who.node];
        if !host.asked.remove(&seq) {
            self.check(Err(format!(
                "{who:?} is told who has #{seq}, which it did not ask, or not twice"
            )));
            return;
        }
        let (me, tree) = (host.me, self.trees.get(&host.epoch));
        let roster = tree.into_iter().flat_map(|tree| tree.roster(me));
        let have: BTreeMap<MemberId, Incarnation> = roster
            .filter(|member| (complete || !missing.is_empty()) && !missing.contains(&member.id))
            .map(|member| (member.id, member.incarnation))
            .collect();
        let result = self.invariants.complete.confirmed(&self.model, run, seq, |who, me| {
            have.get(&me).is_some_and(|run| *run == super::incarnation(who))
        });
        self.check(result);
    }

    /// Looks whether a node that is there was told all that it asked.
    pub(super) fn check_answers(&mut self, number: usize) {
        let host = &self.hosts[number];
        if let (Some(_), Some(seq)) = (&host.engine, host.asked.first()) {
            self.check(Err(format!("{:?} is not told who has #{seq}", host.who())));
        }
    }

    /// A message cannot be sent: that may be only if it is for one who is not there, as far as the
    /// source knows.
    pub(super) fn rejected(&mut self, who: Who, id: node::PublishId, why: &node::Rejection) {
        let message = self.hosts[who.node].publishing.remove(&id);
        let alone = message.is_some_and(|message| message.to.is_some());
        if !alone || !why.is_unknown_peer() {
            self.check(Err(format!("{who:?} may publish, but {id:?} is rejected: {why}")));
        }
    }

    /// All messages for `to` up to `seq` are where they should be, or given up.
    pub(super) fn confirmed(&mut self, who: Who, to: Option<MemberId>, seq: SeqNo) {
        self.hosts[who.node].open.retain(|open, other| *other != to || *open > seq);
    }

    /// Takes messages at once, or winds up an application that is slow.
    pub(super) fn pull_messages(&mut self, who: Who) -> bool {
        if let Some(pause) = self.setup.members[who.node].slow {
            if !self.hosts[who.node].taking {
                self.hosts[who.node].taking = true;
                self.after(pause, Happening::Take(who));
            }
            return false;
        }
        if self.hosts[who.node].stalled_until.is_some_and(|until| self.now < until) {
            return false;
        }
        let mut moved = false;
        while self.take(who) {
            moved = true;
        }
        moved
    }

    /// An application takes nothing for a time.
    pub(super) fn stall(&mut self, node: usize, time: Duration) {
        let host = &mut self.hosts[node];
        host.stalled_until = Some(self.now + time);
        if let Some(who) = host.here() {
            self.after(time, Happening::Take(who));
        }
    }

    pub(super) fn take_slowly(&mut self, who: Who) {
        if self.there(who) {
            self.hosts[who.node].taking = false;
            self.take(who);
            self.settle(who);
        }
    }

    fn take(&mut self, who: Who) -> bool {
        let now = self.instant();
        let Some(engine) = &mut self.hosts[who.node].engine else { return false };
        let message = engine.poll_delivery(now);
        self.drain(who);
        let Some(message) = message else { return false };
        let name = format!("{who:?}");
        let figures =
            [super::describe::short(message.source), message.seq.0, message.payload.len() as u64];
        self.trace.note(self.now, &name, "takes", &figures, || {
            format!("{:?} #{}", message.source, message.seq)
        });
        self.messages_taken += 1;
        if self.setup.sabotage == Some(Sabotage::SwallowMessage(self.messages_taken)) {
            return true;
        }
        let result = self
            .invariants
            .admission
            .delivered(who)
            .and_then(|()| self.invariants.payload.delivered(&self.model, who, &message))
            .and_then(|()| self.invariants.order.delivered(&mut self.model, who, &message));
        self.check(result);
        true
    }
}
