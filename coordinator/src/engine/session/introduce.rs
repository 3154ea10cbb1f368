//! Making members known to each other: at the join, when one has few channels, and across gaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use arborcast_protocol::{
    id::MemberId, limits, notice::News, qos::ChannelKind, session::Contact, tree::Edge,
};

use super::{Session, Timer};
use crate::engine::{
    candidates,
    context::{Context, ms},
};

impl Session {
    /// Members to start with, for one that has just come.
    pub(super) fn first_candidates(&self, member: MemberId, context: &mut Context) -> Vec<Contact> {
        let others: Vec<(MemberId, usize)> = self
            .members
            .keys()
            .filter(|other| **other != member)
            .map(|other| (*other, self.topology.degree(*other)))
            .collect();
        self.contacts(&candidates::mixed(&others, &mut context.rng))
    }

    fn contacts(&self, members: &[MemberId]) -> Vec<Contact> {
        members
            .iter()
            .filter_map(|member| {
                let addresses = self.members.get(member)?.addresses.clone();
                Some(Contact { member: *member, addresses })
            })
            .collect()
    }

    /// Members out of reach, for one that is cut off from most others.
    pub(super) fn far_candidates(
        &mut self,
        member: MemberId,
        context: &mut Context,
        now: Instant,
    ) -> Vec<Contact> {
        let Some(published) = &self.published else { return Vec::new() };
        let own = published.part_of(member);
        let largest = published.parts().iter().map(Vec::len).max().unwrap_or(0);
        let is_main =
            own.and_then(|own| published.parts().get(own)).is_some_and(|own| own.len() == largest);
        if is_main || !self.may_have_candidates(member, now) {
            return Vec::new();
        }
        let far: Vec<MemberId> = self
            .members
            .keys()
            .filter(|other| **other != member)
            .filter(|other| own.is_none() || published.part_of(**other) != own)
            .copied()
            .collect();
        let chosen = candidates::random(&far, candidates::ENOUGH_CHANNELS, &mut context.rng);
        self.hand_out(member, &chosen, context, now)
    }

    /// Members that it has no channel with, for one with few channels.
    pub(super) fn more_candidates(
        &mut self,
        member: MemberId,
        context: &mut Context,
        now: Instant,
    ) -> Vec<Contact> {
        if self.topology.degree(member) >= candidates::ENOUGH_CHANNELS
            || !self.may_have_candidates(member, now)
        {
            return Vec::new();
        }
        let peers: BTreeSet<MemberId> = self.topology.peers(member).collect();
        let others: Vec<(MemberId, usize)> = self
            .members
            .keys()
            .filter(|other| **other != member && !peers.contains(other))
            .map(|other| (*other, self.topology.degree(*other)))
            .collect();
        let chosen = candidates::mixed(&others, &mut context.rng);
        self.hand_out(member, &chosen, context, now)
    }

    /// Near members that it has no channel with: at first soon, then twice as long after each time, for who is near is
    /// known better and better, and some cannot be reached however often they are tried.
    pub(super) fn near_candidates(
        &mut self,
        member: MemberId,
        context: &mut Context,
        now: Instant,
    ) -> Vec<Contact> {
        let has_room = |member| self.topology.degree(member) < candidates::MANY_CHANNELS;
        let is_due = self.members.get(&member).is_some_and(|present| present.near.0 <= now);
        let is_needed = is_due && self.members.len() > candidates::FEW && has_room(member);
        if !is_needed || !self.may_have_candidates(member, now) {
            return Vec::new();
        }
        let others = self.members.keys().copied().filter(|other| *other != member);
        let mut near = self.coordinates.nearest(member, others, candidates::NEAR);
        if near.is_empty() {
            // It is not placed yet.
            return Vec::new();
        }
        let peers: BTreeSet<MemberId> = self.topology.peers(member).collect();
        near.retain(|other| !peers.contains(other) && has_room(*other));
        if let Some(present) = self.members.get_mut(&member) {
            let (_, wait) = present.near;
            present.near = (now + wait, (wait * 2).min(candidates::RARELY));
        }
        self.hand_out(member, &near, context, now)
    }

    /// Takes over the delays of a member's channels.
    pub(super) fn place(&mut self, member: MemberId) {
        if self.members.len() <= candidates::FEW {
            return;
        }
        for peer in self.topology.peers(member) {
            let merged = Edge::new(member, peer).and_then(|edge| self.topology.merged(edge));
            let direct = merged.filter(|merged| merged.kind == ChannelKind::Direct);
            if let Some(qos) = direct.and_then(|merged| merged.qos) {
                self.coordinates.on_delay(member, peer, qos.delay_us);
            }
        }
    }

    fn may_have_candidates(&self, member: MemberId, now: Instant) -> bool {
        self.members.get(&member).is_some_and(|present| present.candidates_after <= now)
    }

    fn hand_out(
        &mut self,
        member: MemberId,
        chosen: &[MemberId],
        context: &Context,
        now: Instant,
    ) -> Vec<Contact> {
        if !chosen.is_empty()
            && let Some(present) = self.members.get_mut(&member)
        {
            present.candidates_after = now + ms(context.config.candidates_ms.max(1));
        }
        self.contacts(chosen)
    }

    /// Tells members on both sides of a gap of each other.
    pub(super) fn mend(&mut self, context: &mut Context, now: Instant) {
        let mut parts: Vec<Vec<MemberId>> =
            self.published.as_ref().map(|published| published.parts().to_vec()).unwrap_or_default();
        for part in &mut parts {
            part.retain(|member| self.members.contains_key(member));
        }
        let apart = self.members.iter().filter(|(member, _)| {
            self.published.as_ref().is_none_or(|tree| tree.part_of(**member).is_none())
        });
        parts.extend(apart.map(|(member, _)| vec![*member]));
        parts.retain(|part| !part.is_empty());
        if parts.len() < 2 {
            return;
        }
        self.timers.set(Timer::Mend, now + ms(context.config.candidates_ms.max(1)));
        let may = |member| self.may_have_candidates(member, now);
        let pairs = candidates::bridges(&parts, may, self.mends, &mut context.rng);
        self.mends = self.mends.wrapping_add(1);
        let mut told: BTreeMap<MemberId, BTreeSet<MemberId>> = BTreeMap::new();
        for (near, far) in pairs {
            told.entry(near).or_default().insert(far);
            told.entry(far).or_default().insert(near);
        }
        for (member, others) in told {
            let others: Vec<MemberId> = others.into_iter().take(limits::CANDIDATES).collect();
            let contacts = self.hand_out(member, &others, context, now);
            context.notify(member, self.id, News::Candidates(contacts));
        }
    }
}
