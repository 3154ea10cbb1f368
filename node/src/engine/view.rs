//! What this node knows of the relay tree. Epochs only rise here, whatever arrives in what order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arborcast_protocol::{
    id::{Epoch, Incarnation, MemberId, SessionId},
    path::Neighbours,
    tree::{Body, Edge, Member, SignedHeader, Tree, Update},
};

use super::{
    event::{Nicked, TreeEvent},
    relay::Roster,
};

/// The newest tree, or this node's place in it.
#[derive(Debug)]
pub(super) struct View {
    me: MemberId,
    session: SessionId,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    header: SignedHeader,
    /// In scope `tree`.
    tree: Option<Arc<Tree>>,
    /// Overlap counted; true for those on the overlap alone.
    neighbours: BTreeMap<MemberId, bool>,
}

/// What became of an update.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was taken up.
    New(Box<News>),
    /// Nothing new in it, or not for this session.
    Stale,
    /// It is newer but could not be used: ask for that epoch.
    Unusable(Epoch),
}

/// What is new in the newest tree.
#[derive(Debug)]
pub(super) struct News {
    pub(super) joined: Vec<Nicked>,
    pub(super) left: Vec<Nicked>,
    pub(super) tree: TreeEvent,
    /// This node's edges are not those of the tree before.
    pub(super) rewired: bool,
    /// Neighbours on edges of the tree that lie on a cycle with the overlap.
    pub(super) cyclic: BTreeSet<MemberId>,
    pub(super) roster: Option<Roster>,
    /// All members of the tree; `None` in scope `neighbours`, where they are not known.
    pub(super) members: Option<BTreeMap<MemberId, Incarnation>>,
}

impl View {
    pub(super) const fn new(me: MemberId, session: SessionId) -> Self {
        Self { me, session, known: None }
    }

    /// That of the newest tree; 0.0 before the first.
    pub(super) fn epoch(&self) -> Epoch {
        self.known.as_ref().map(|known| known.header.header.epoch).unwrap_or_default()
    }

    /// The header of the newest tree.
    pub(super) fn held(&self) -> Option<SignedHeader> {
        self.known.as_ref().map(|known| known.header)
    }

    /// The newest tree, in scope `tree`.
    pub(super) fn tree(&self) -> Option<&Tree> {
        self.known.as_ref().and_then(|known| known.tree.as_deref())
    }

    /// The same to be kept.
    pub(super) fn shared_tree(&self) -> Option<Arc<Tree>> {
        self.known.as_ref().and_then(|known| known.tree.clone())
    }

    /// The neighbours, and whether each is one by the overlap alone.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = (MemberId, bool)> + '_ {
        self.known.iter().flat_map(|known| known.neighbours.iter()).map(|(id, old)| (*id, *old))
    }

    /// Whether there is to be an edge with `peer`.
    pub(super) fn wants(&self, peer: MemberId) -> bool {
        self.known.as_ref().is_some_and(|known| known.neighbours.contains_key(&peer))
    }

    /// Takes up an update in scope `tree`; the signature of its header has been checked.
    pub(super) fn take_update(&mut self, update: Update) -> Taken {
        let header = update.header;
        let epoch = header.header.epoch;
        if header.header.session != self.session || epoch <= self.epoch() {
            return Taken::Stale;
        }
        let tree = match update.body {
            Body::Full(tree) => Some(*tree),
            Body::Change(change) => self
                .known
                .as_ref()
                .and_then(|known| known.tree.as_ref()?.apply(self.epoch(), &change).ok()),
            Body::Fetch => None,
        };
        let Some(tree) = tree.filter(|tree| tree.hash() == header.header.hash) else {
            return Taken::Unusable(epoch);
        };
        Taken::New(Box::new(self.take_tree(header, tree)))
    }

    fn take_tree(&mut self, header: SignedHeader, tree: Tree) -> News {
        let overlap: Vec<Edge> =
            tree.overlap().filter(|edge| edge.other(self.me).is_some()).collect();
        let neighbours = tree
            .neighbours(self.me)
            .take(WANTED)
            .map(|peer| (peer, Edge::new(self.me, peer).is_some_and(|edge| !tree.contains(edge))))
            .collect();
        let before = self.tree();
        let nicked = |member: &Member| Nicked { member: member.id, nick: member.nick.clone() };
        // Another incarnation is another arrival.
        let not_in = |other: Option<&Tree>, member: &&Member| {
            member.id != self.me
                && other
                    .and_then(|other| other.member(member.id))
                    .is_none_or(|old| old.incarnation != member.incarnation)
        };
        let joined = tree.members().filter(|member| not_in(before, member)).map(nicked).collect();
        let left = before
            .into_iter()
            .flat_map(Tree::members)
            .filter(|member| not_in(Some(&tree), member))
            .map(nicked)
            .collect();
        let roster = tree.member(self.me).is_some().then(|| {
            let (mut len, mut index) = (0, 0);
            for member in tree.roster(self.me) {
                index += u32::from(member.id < self.me);
                len += 1;
            }
            Roster { hash: tree.roster_hash(self.me), len, index }
        });
        let members = tree.members().map(|member| (member.id, member.incarnation)).collect();
        let cyclic = tree.on_cycles().into_iter().filter_map(|edge| edge.other(self.me)).collect();
        let (rewired, tree) = self.set(header, Some(Arc::new(tree)), neighbours, overlap);
        News { joined, left, tree, rewired, cyclic, roster, members: Some(members) }
    }

    /// Takes up the own place in the tree, as the coordinator itself told it.
    pub(super) fn take_neighbours(&mut self, told: Neighbours) -> Taken {
        let header = told.header;
        if header.header.session != self.session || header.header.epoch <= self.epoch() {
            return Taken::Stale;
        }
        let old: BTreeSet<MemberId> = told.overlap.into_iter().collect();
        let neighbours: BTreeMap<MemberId, bool> = told
            .neighbours
            .iter()
            .map(|member| member.id)
            .filter(|id| *id != self.me)
            .take(WANTED)
            .map(|id| (id, old.contains(&id)))
            .collect();
        let overlap = neighbours
            .iter()
            .filter(|(_, old)| **old)
            .filter_map(|(id, _)| Edge::new(self.me, *id))
            .collect();
        let roster = told
            .roster_index
            .filter(|index| *index < told.roster_len)
            .map(|index| Roster { hash: told.roster_hash, len: told.roster_len, index });
        let cyclic =
            told.cyclic.into_iter().filter(|id| neighbours.get(id) == Some(&false)).collect();
        let (rewired, tree) = self.set(header, None, neighbours, overlap);
        let (joined, left) = (Vec::new(), Vec::new());
        Taken::New(Box::new(News { joined, left, tree, rewired, cyclic, roster, members: None }))
    }

    fn set(
        &mut self,
        header: SignedHeader,
        tree: Option<Arc<Tree>>,
        neighbours: BTreeMap<MemberId, bool>,
        overlap: Vec<Edge>,
    ) -> (bool, TreeEvent) {
        let event = TreeEvent {
            epoch: header.header.epoch,
            tree: tree.clone(),
            neighbours: neighbours.keys().copied().collect(),
            overlap,
        };
        let rewired = self.known.as_ref().is_none_or(|known| known.neighbours != neighbours);
        self.known = Some(Known { header, tree, neighbours });
        (rewired, event)
    }
}

/// Most neighbours taken from one tree: twice the fan-out limit, for an overlap can double it.
pub(super) const WANTED: usize = 2 * arborcast_protocol::limits::FANOUT as usize;
