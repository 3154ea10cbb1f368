//! The newest tree of a session, and what is told of it: to whom asks (R4), to whom subscribes
//! (R5), and to subscribers after each change (R6).

use std::collections::{BTreeMap, BTreeSet};

use arborcast_protocol::{
    codec,
    id::{Digest, Epoch, MemberId, SessionId},
    identity::ed25519,
    limits,
    path::{Neighbours, Scope, State},
    tree::{Body, Edge, Header, Member, SignedHeader, Tree, Update},
};

/// A signed tree with what is asked of it often.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) header: SignedHeader,
    pub(crate) tree: Tree,
    /// By group.
    rosters: BTreeMap<u32, Roster>,
    /// The part of the tree that each member is in, and its size.
    parts: Vec<Vec<MemberId>>,
    part_of: BTreeMap<MemberId, usize>,
    /// See [`Tree::on_cycles`].
    pub(crate) on_cycles: BTreeSet<Edge>,
}

#[derive(PartialEq, Eq, Debug)]
struct Roster {
    hash: Digest,
    /// In order of ids.
    members: Vec<MemberId>,
}

impl Published {
    /// Signs a tree.
    pub(crate) fn new(
        tree: Tree,
        session: SessionId,
        epoch: Epoch,
        keypair: &ed25519::Keypair,
    ) -> Self {
        let header = Header { session, epoch, hash: tree.hash() };
        let mut groups: BTreeMap<u32, Vec<MemberId>> = BTreeMap::new();
        for member in tree.members() {
            groups.entry(member.group).or_default().push(member.id);
        }
        let rosters = groups
            .into_iter()
            .filter_map(|(group, members)| {
                let hash = tree.roster_hash(*members.first()?);
                Some((group, Roster { hash, members }))
            })
            .collect();
        let parts = tree.components();
        let part_of = parts
            .iter()
            .enumerate()
            .flat_map(|(part, members)| members.iter().map(move |member| (*member, part)))
            .collect();
        let on_cycles = tree.on_cycles();
        let header = SignedHeader::sign(header, keypair);
        Self { header, tree, rosters, parts, part_of, on_cycles }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.header.header.epoch
    }

    /// The connected parts of the tree, each in order of ids.
    pub(crate) fn parts(&self) -> &[Vec<MemberId>] {
        &self.parts
    }

    /// The part that a member is in; `None` if it is not in the tree.
    pub(crate) fn part_of(&self, member: MemberId) -> Option<usize> {
        self.part_of.get(&member).copied()
    }

    /// The newest state for `member`.
    pub(crate) fn state(&self, member: MemberId, scope: Scope) -> State {
        match scope {
            Scope::Tree => State::Tree(Box::new(Update {
                header: self.header,
                body: Body::Full(Box::new(self.tree.clone())),
            })),
            Scope::Neighbours => State::Neighbours(Box::new(self.neighbours(member))),
        }
    }

    /// The place of `member` in the tree; empty but for the header if it is not in it yet.
    pub(crate) fn neighbours(&self, member: MemberId) -> Neighbours {
        let roster = self.roster(member);
        let old = self.edges(member).filter(|(_, is_old)| *is_old);
        let overlap = old.map(|(other, _)| other.id).collect();
        let neighbours = self.edges(member).map(|(other, _)| other.clone()).collect();
        Neighbours {
            header: self.header,
            neighbours,
            overlap,
            cyclic: self.cyclic(member).collect(),
            roster_hash: roster.map_or_else(|| self.tree.roster_hash(member), |own| own.hash),
            roster_len: roster.map_or(0, |own| u32_len(own.members.len())),
            roster_index: roster
                .and_then(|own| own.members.binary_search(&member).ok())
                .map(u32_len),
        }
    }

    /// Whether the place of `member` is another one than in `before`. The roster's hash stands for
    /// its length and order.
    pub(crate) fn differs_for(&self, member: MemberId, before: &Self) -> bool {
        let hash = |published: &Self| published.roster(member).map(|roster| roster.hash);
        hash(self) != hash(before)
            || !self.edges(member).eq(before.edges(member))
            || !self.cyclic(member).eq(before.cyclic(member))
    }

    /// What is pushed to all: the change against `before` if there is one and it is small enough.
    pub(crate) fn update(&self, before: Option<&Self>) -> Update {
        let body = match before {
            Some(before) => Body::Change(self.tree.change_from(&before.tree, before.epoch())),
            None => Body::Full(Box::new(self.tree.clone())),
        };
        let update = Update { header: self.header, body };
        if codec::encode(&update).len() > limits::GOSSIP / 2 {
            Update { header: self.header, body: Body::Fetch }
        } else {
            update
        }
    }

    /// The members on the edges of `member`, and whether the edge is an old one beside the tree.
    fn edges(&self, member: MemberId) -> impl Iterator<Item = (&Member, bool)> + '_ {
        self.tree.neighbours(member).filter_map(move |other| {
            let edge = Edge::new(member, other)?;
            Some((self.tree.member(other)?, !self.tree.contains(edge)))
        })
    }

    /// The members on those edges of `member` that lie on cycles with the overlap.
    fn cyclic(&self, member: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        let on_cycle = move |other: &MemberId| {
            Edge::new(member, *other).is_some_and(|edge| self.on_cycles.contains(&edge))
        };
        self.tree.neighbours(member).filter(on_cycle)
    }

    fn roster(&self, member: MemberId) -> Option<&Roster> {
        self.rosters.get(&self.tree.member(member)?.group)
    }
}

/// Lengths are far below: [`limits::MEMBERS`].
fn u32_len(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::{
        id::Term,
        testing::{incarnation, keypair, member, session},
    };

    use super::*;

    fn published(count: u64, counter: u32) -> Published {
        let members = (0..count).map(|n| Member {
            id: member(n),
            incarnation: incarnation(n),
            nick: String::new(),
            group: 0,
        });
        let edges = (1..count).filter_map(|n| Edge::new(member(0), member(n)));
        let tree = Tree::new(members, edges, []).expect("a star");
        let epoch = Epoch { term: Term(1), counter };
        Published::new(tree, session(1), epoch, &keypair(1000))
    }

    #[test]
    fn what_is_too_large_for_a_push_is_announced() {
        let (small, large, next) = (published(10, 1), published(900, 2), published(901, 3));
        assert!(matches!(small.update(None).body, Body::Full(_)));
        assert!(matches!(next.update(Some(&large)).body, Body::Change(_)));
        assert_eq!(large.update(None), Update { header: large.header, body: Body::Fetch });
        assert_eq!(large.update(Some(&small)).body, Body::Fetch);
    }
}
