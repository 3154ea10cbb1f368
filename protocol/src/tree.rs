//! The relay tree (patent: "acyclic graph of the data distribution path") and its signed form.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
};

use libp2p_identity::ed25519;
use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{Digest, Epoch, Incarnation, MemberId, SessionId, Signature},
    limits,
};

mod cycles;
mod forms;
mod parts;

pub use forms::{AdjacencyList, AdjacencyMatrix};
use parts::Parts;

/// An undirected edge; the lower id comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(MemberId, MemberId)", into = "(MemberId, MemberId)")]
pub struct Edge(MemberId, MemberId);

impl Edge {
    /// The edge between two members; `None` if they are one.
    #[must_use]
    pub fn new(a: MemberId, b: MemberId) -> Option<Self> {
        (a != b).then(|| Self(a.min(b), a.max(b)))
    }

    /// Both ends, the lower id first.
    #[must_use]
    pub const fn ends(self) -> (MemberId, MemberId) {
        (self.0, self.1)
    }

    /// The end that is not `member`; `None` if `member` is at neither.
    #[must_use]
    pub fn other(self, member: MemberId) -> Option<MemberId> {
        match (self.0 == member, self.1 == member) {
            (true, _) => Some(self.1),
            (_, true) => Some(self.0),
            (false, false) => None,
        }
    }
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}-{:?}", self.0, self.1)
    }
}

impl TryFrom<(MemberId, MemberId)> for Edge {
    type Error = TreeError;

    fn try_from((a, b): (MemberId, MemberId)) -> Result<Self, TreeError> {
        Self::new(a, b).ok_or(TreeError::Loop)
    }
}

impl From<Edge> for (MemberId, MemberId) {
    fn from(edge: Edge) -> Self {
        edge.ends()
    }
}

/// A member as the tree lists it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// In which run.
    pub incarnation: Incarnation,
    /// How people call it; at most [`limits::NICK`] bytes, may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nick: String,
    /// Members of one group owe each other every message. All are in one group unless a part has
    /// been out of reach of the rest for long.
    #[serde(default)]
    pub group: u32,
}

/// What makes a set of members and edges no relay tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TreeError {
    /// An edge from a member to itself.
    #[error("an edge joins a member to itself")]
    Loop,
    /// The edges (without the overlap) close a cycle.
    #[error("the edges close a cycle")]
    Cycle,
    /// An edge names somebody who is not listed.
    #[error("an edge names a member that is not listed")]
    Stranger,
    /// A member or an edge is listed twice, or not in order.
    #[error("members or edges are listed twice or out of order")]
    Order,
    /// A list or a name is longer than its limit.
    #[error("the tree is over its limits")]
    TooLarge,
    /// A change does not apply to the tree at hand.
    #[error("the change is not for the tree at hand")]
    Base,
    /// The content is not what the signed header says.
    #[error("the tree does not match its signed hash")]
    Hash,
}

/// A spanning forest of a session's members. Always acyclic: a value of this type proves it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Tree {
    members: BTreeMap<MemberId, Member>,
    edges: BTreeSet<Edge>,
    overlap: BTreeSet<Edge>,
    neighbours: BTreeMap<MemberId, BTreeSet<MemberId>>,
}

/// The tree on the wire: members in order of ids, edges as pairs of positions in that list, the
/// lower position first, in order.
#[derive(Clone, Serialize, Deserialize)]
struct Wire {
    members: Vec<Member>,
    edges: Vec<(u32, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overlap: Vec<(u32, u32)>,
}

impl Tree {
    /// Checks and builds a tree.
    ///
    /// `overlap` are edges of the tree before that stay in use for the moment (make before break);
    /// together with `edges` they may close cycles.
    ///
    /// # Errors
    /// Whatever [`TreeError`] names, but [`TreeError::Base`] and [`TreeError::Hash`].
    pub fn new(
        members: impl IntoIterator<Item = Member>,
        edges: impl IntoIterator<Item = Edge>,
        overlap: impl IntoIterator<Item = Edge>,
    ) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        for member in members {
            if tree.members.len() == limits::MEMBERS || member.nick.len() > limits::NICK {
                return Err(TreeError::TooLarge);
            }
            match tree.members.entry(member.id) {
                Entry::Vacant(entry) => entry.insert(member),
                Entry::Occupied(_) => return Err(TreeError::Order),
            };
        }
        let mut parts = Parts::new(tree.members.keys().copied());
        for edge in edges {
            if !tree.knows(edge) {
                return Err(TreeError::Stranger);
            }
            if !tree.edges.insert(edge) {
                return Err(TreeError::Order);
            }
            if !parts.join(edge) {
                return Err(TreeError::Cycle);
            }
            tree.link(edge);
        }
        for edge in overlap {
            if !tree.knows(edge) {
                return Err(TreeError::Stranger);
            }
            if tree.edges.contains(&edge) || !tree.overlap.insert(edge) {
                return Err(TreeError::Order);
            }
            if tree.overlap.len() > tree.members.len() {
                return Err(TreeError::TooLarge);
            }
            tree.link(edge);
        }
        Ok(tree)
    }

    fn knows(&self, Edge(a, b): Edge) -> bool {
        self.members.contains_key(&a) && self.members.contains_key(&b)
    }

    fn link(&mut self, Edge(a, b): Edge) {
        self.neighbours.entry(a).or_default().insert(b);
        self.neighbours.entry(b).or_default().insert(a);
    }

    /// All members, in order of their ids.
    #[must_use]
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> + '_ {
        self.members.values()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The edges of the tree, without the overlap, in order.
    #[must_use]
    pub fn edges(&self) -> impl ExactSizeIterator<Item = Edge> + '_ {
        self.edges.iter().copied()
    }

    /// Old edges still in use beside the new ones, in order.
    #[must_use]
    pub fn overlap(&self) -> impl ExactSizeIterator<Item = Edge> + '_ {
        self.overlap.iter().copied()
    }

    /// Whether `edge` is one of the tree, overlap not counted.
    #[must_use]
    pub fn contains(&self, edge: Edge) -> bool {
        self.edges.contains(&edge)
    }

    /// The members on the edges of `member`, overlap counted (patent: "adjacent devices").
    pub fn neighbours(&self, member: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        self.neighbours.get(&member).into_iter().flatten().copied()
    }

    /// Where `member` sends what came from `from`: its neighbours but that one (patent: "target
    /// device set"). `from` is `None` at the source.
    pub fn next_hops(
        &self,
        member: MemberId,
        from: Option<MemberId>,
    ) -> impl Iterator<Item = MemberId> + '_ {
        self.neighbours(member).filter(move |next| Some(*next) != from)
    }

    /// The connected parts, each a sorted list of its members, in order of their first members.
    #[must_use]
    pub fn components(&self) -> Vec<Vec<MemberId>> {
        let mut parts = Parts::new(self.members.keys().copied());
        for edge in &self.edges {
            parts.join(*edge);
        }
        let mut components: BTreeMap<usize, Vec<MemberId>> = BTreeMap::new();
        let mut order = Vec::new();
        for id in self.members.keys() {
            if let Some(root) = parts.root_of(*id) {
                let component = components.entry(root).or_default();
                if component.is_empty() {
                    order.push(root);
                }
                component.push(*id);
            }
        }
        order.iter().filter_map(|root| components.remove(root)).collect()
    }

    /// The members that owe `member` every message: those of its group, itself among them, in
    /// order. Empty if it is not in the tree.
    pub fn roster(&self, member: MemberId) -> impl Iterator<Item = &Member> + '_ {
        let group = self.members.get(&member).map(|own| own.group);
        self.members.values().filter(move |other| Some(other.group) == group)
    }

    /// A hash of the roster of `member`: equal at two members exactly if their rosters are.
    #[must_use]
    pub fn roster_hash(&self, member: MemberId) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 roster");
        for other in self.roster(member) {
            hasher.update(other.id.as_bytes()).update(other.incarnation.as_bytes());
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The hash that the coordinator signs. Independent of the encoding on the wire, so that a
    /// later version may add fields there.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 tree");
        let count = |hasher: &mut blake3::Hasher, len: usize| {
            hasher.update(&(len as u64).to_be_bytes());
        };
        count(&mut hasher, self.members.len());
        for member in self.members.values() {
            hasher.update(member.id.as_bytes()).update(member.incarnation.as_bytes());
            hasher.update(&member.group.to_be_bytes());
            count(&mut hasher, member.nick.len());
            hasher.update(member.nick.as_bytes());
        }
        for edges in [&self.edges, &self.overlap] {
            count(&mut hasher, edges.len());
            for Edge(a, b) in edges {
                hasher.update(a.as_bytes()).update(b.as_bytes());
            }
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// What turns `base` (of epoch `epoch`) into this tree.
    #[must_use]
    pub fn change_from(&self, base: &Self, epoch: Epoch) -> Change {
        let same = |id: &MemberId, member: &Member| base.members.get(id) == Some(member);
        Change {
            base: epoch,
            members: self
                .members
                .iter()
                .filter(|(id, member)| !same(id, member))
                .map(|(_, member)| member.clone())
                .collect(),
            left: base
                .members
                .keys()
                .filter(|id| !self.members.contains_key(id))
                .copied()
                .collect(),
            added: self.edges.difference(&base.edges).copied().collect(),
            removed: base.edges.difference(&self.edges).copied().collect(),
            overlap: self.overlap.iter().copied().collect(),
        }
    }

    /// The tree that `change` makes of this one, whose epoch is `epoch`.
    ///
    /// # Errors
    /// [`TreeError::Base`] if the change is for another epoch, else as [`Tree::new`].
    pub fn apply(&self, epoch: Epoch, change: &Change) -> Result<Self, TreeError> {
        if change.base != epoch {
            return Err(TreeError::Base);
        }
        let mut members = self.members.clone();
        for id in &change.left {
            members.remove(id);
        }
        for member in &change.members {
            members.insert(member.id, member.clone());
        }
        let mut edges = self.edges.clone();
        for edge in &change.removed {
            edges.remove(edge);
        }
        edges.extend(&change.added);
        Self::new(members.into_values(), edges, change.overlap.iter().copied())
    }
}

impl From<Tree> for Wire {
    fn from(tree: Tree) -> Self {
        let position: BTreeMap<MemberId, u32> =
            tree.members.keys().zip(0..).map(|(id, position)| (*id, position)).collect();
        let pairs = |edges: BTreeSet<Edge>| {
            edges
                .into_iter()
                .filter_map(|Edge(a, b)| Some((*position.get(&a)?, *position.get(&b)?)))
                .collect()
        };
        Self {
            edges: pairs(tree.edges),
            overlap: pairs(tree.overlap),
            members: tree.members.into_values().collect(),
        }
    }
}

impl TryFrom<Wire> for Tree {
    type Error = TreeError;

    fn try_from(wire: Wire) -> Result<Self, TreeError> {
        if wire.members.len() > limits::MEMBERS {
            return Err(TreeError::TooLarge);
        }
        if !wire.members.is_sorted_by(|a, b| a.id < b.id) {
            return Err(TreeError::Order);
        }
        let ids: Vec<MemberId> = wire.members.iter().map(|member| member.id).collect();
        let edges = |pairs: Vec<(u32, u32)>| {
            if !pairs.is_sorted_by(|a, b| a < b) {
                return Err(TreeError::Order);
            }
            pairs
                .into_iter()
                .map(|(a, b)| match (ids.get(a as usize), ids.get(b as usize)) {
                    (Some(low), Some(high)) => match a.cmp(&b) {
                        Ordering::Less => Ok(Edge(*low, *high)),
                        Ordering::Equal => Err(TreeError::Loop),
                        Ordering::Greater => Err(TreeError::Order),
                    },
                    (None, _) | (_, None) => Err(TreeError::Stranger),
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let (tree_edges, overlap) = (edges(wire.edges)?, edges(wire.overlap)?);
        Self::new(wire.members, tree_edges, overlap)
    }
}

/// What identifies a tree and is signed: short enough to show to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Of which session.
    pub session: SessionId,
    /// Which tree.
    pub epoch: Epoch,
    /// [`Tree::hash`].
    pub hash: Digest,
}

const DOMAIN: &[u8] = b"arborcast/1 tree header";

/// A header with the coordinator's signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SignedHeader {
    /// What is signed.
    pub header: Header,
    /// By whom.
    pub coordinator: MemberId,
    /// Over the header under a domain string.
    pub signature: Signature,
}

impl SignedHeader {
    /// Signs as coordinator.
    #[must_use]
    pub fn sign(header: Header, coordinator: &ed25519::Keypair) -> Self {
        Self {
            header,
            coordinator: MemberId::from(coordinator),
            signature: crate::signature::sign(coordinator, DOMAIN, &codec::encode(&header)),
        }
    }

    /// Whether one of `coordinators` signed this header for `session`.
    #[must_use]
    pub fn verify(&self, session: SessionId, coordinators: &[MemberId]) -> bool {
        self.header.session == session
            && coordinators.contains(&self.coordinator)
            && crate::signature::verify(
                &self.coordinator,
                DOMAIN,
                &codec::encode(&self.header),
                &self.signature,
            )
    }
}

/// A tree as it is pushed by gossipsub and answered to queries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Update {
    /// Proves the content.
    pub header: SignedHeader,
    /// The content.
    pub body: Body,
}

/// How much of the tree an update brings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// All of it.
    Full(Box<Tree>),
    /// What changed against an earlier one.
    Change(Change),
    /// Nothing: too large for a push, ask for it.
    Fetch,
}

/// The difference of two trees.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Change {
    /// Epoch of the tree it applies to.
    pub base: Epoch,
    /// Members that are new or changed.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Members that are gone.
    #[serde(default)]
    pub left: Vec<MemberId>,
    /// New edges.
    #[serde(default)]
    pub added: Vec<Edge>,
    /// Edges that are gone.
    #[serde(default)]
    pub removed: Vec<Edge>,
    /// The whole overlap.
    #[serde(default)]
    pub overlap: Vec<Edge>,
}

#[cfg(test)]
mod tests;
