//! Where members lie as seen from this node: the way of data for one receiver alone (R9).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
};

use arborcast_protocol::{
    id::{Flow, Incarnation, MemberId},
    tree::{Edge, Tree},
};

/// The newest tree, if this node follows the whole of it, and the neighbour towards each member.
#[derive(Debug)]
pub(super) struct Routes {
    me: MemberId,
    tree: Option<Arc<Tree>>,
    /// Of all members in reach but this one. Worked out for a tree when it is first asked for: most
    /// trees come and go without.
    hops: OnceLock<BTreeMap<MemberId, MemberId>>,
}

/// In which direction a member lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hop {
    /// The tree is not known: it can be anywhere.
    Unknown,
    /// It is this node.
    Here,
    /// Behind this neighbour.
    Via(MemberId),
    /// It is not in the tree, or cut off.
    Nowhere,
}

/// Whether data can be sent to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receiver {
    /// The tree is not known, or this node is not in it yet.
    Unknown,
    /// It is there, in this run.
    Present(Incarnation),
    /// It is not in the tree, or its part has been out of reach for so long that it is owed nothing.
    Absent,
}

impl Routes {
    pub(super) const fn new(me: MemberId) -> Self {
        Self { me, tree: None, hops: OnceLock::new() }
    }

    /// Follows another tree. With overlap, the new edges alone are ways.
    pub(super) fn set(&mut self, tree: Option<Arc<Tree>>) {
        self.tree = tree;
        self.hops = OnceLock::new();
    }

    /// Whether data of this flow is to go to this neighbour; without a tree to all of them.
    pub(super) fn carries(&self, flow: &Flow, peer: MemberId) -> bool {
        flow.to.is_none_or(|to| self.leads(to, peer))
    }

    /// Whether this neighbour is on the way of this flow, towards its receiver or its source.
    pub(super) fn concerns(&self, flow: &Flow, peer: MemberId) -> bool {
        flow.to.is_none_or(|to| self.leads(to, peer) || self.leads(flow.source, peer))
    }

    /// Whether this node is on the way of this flow, as far as it knows.
    pub(super) fn passes_here(&self, flow: &Flow) -> bool {
        let Some(to) = flow.to else { return true };
        match (self.hop(to), self.hop(flow.source)) {
            (Hop::Via(towards), Hop::Via(back)) => towards != back,
            (Hop::Unknown | Hop::Here, _)
            | (Hop::Via(_), Hop::Unknown | Hop::Here | Hop::Nowhere) => true,
            (Hop::Nowhere, _) => false,
        }
    }

    /// Who is in this node's part of the tree, in order of ids; `None` if that is not known.
    pub(super) fn roster(&self) -> Option<Vec<MemberId>> {
        let tree = self.tree.as_ref()?;
        Some(tree.roster(self.me).map(|member| member.id).collect())
    }

    /// The neighbour behind whom a member lies, if that is known.
    pub(super) fn towards(&self, member: MemberId) -> Option<MemberId> {
        match self.hop(member) {
            Hop::Via(hop) => Some(hop),
            Hop::Unknown | Hop::Here | Hop::Nowhere => None,
        }
    }

    /// Whether the tree is known.
    pub(super) const fn is_known(&self) -> bool {
        self.tree.is_some()
    }

    /// Whether, and in which run, a member can be sent to.
    pub(super) fn receiver(&self, member: MemberId) -> Receiver {
        let Some(tree) = &self.tree else { return Receiver::Unknown };
        let Some(own) = tree.member(self.me) else { return Receiver::Unknown };
        match tree.member(member) {
            Some(member) if member.group == own.group => Receiver::Present(member.incarnation),
            Some(_) | None => Receiver::Absent,
        }
    }

    fn leads(&self, member: MemberId, peer: MemberId) -> bool {
        match self.hop(member) {
            Hop::Unknown => true,
            Hop::Via(hop) => hop == peer,
            Hop::Here | Hop::Nowhere => false,
        }
    }

    fn hop(&self, member: MemberId) -> Hop {
        if member == self.me {
            return Hop::Here;
        }
        let Some(tree) = &self.tree else { return Hop::Unknown };
        let hops = self.hops.get_or_init(|| hops(self.me, tree));
        hops.get(&member).map_or(Hop::Nowhere, |hop| Hop::Via(*hop))
    }
}

/// The neighbour towards each member that the tree joins with `me`.
fn hops(me: MemberId, tree: &Tree) -> BTreeMap<MemberId, MemberId> {
    let beside = |member: MemberId| {
        tree.neighbours(member)
            .filter(move |other| Edge::new(member, *other).is_some_and(|edge| tree.contains(edge)))
    };
    let mut hops: BTreeMap<MemberId, MemberId> = beside(me).map(|peer| (peer, peer)).collect();
    let mut queue: VecDeque<(MemberId, MemberId)> = hops.iter().map(|(a, b)| (*a, *b)).collect();
    while let Some((member, hop)) = queue.pop_front() {
        for next in beside(member) {
            if next != me && !hops.contains_key(&next) {
                hops.insert(next, hop);
                queue.push_back((next, hop));
            }
        }
    }
    hops
}

#[cfg(test)]
mod tests;
