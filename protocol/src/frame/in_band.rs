//! The relay tree inside a frame (R13; patent, manner 4 and R14: a third form beside adjacency list
//! and matrix).
//!
//! It names members by their positions in order of ids: whoever reads it knows the members of a tree
//! of its own, and the coordinator's signed hash says whether they are those of this one. A member
//! costs two bytes, and so 1700 of them fit into the header of a frame.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{Digest, Epoch, MemberId, SessionId, Signature},
    limits,
    tree::{Edge, Header, Member, SignedHeader, Tree, TreeError},
};

/// A tree as a frame carries it: what the coordinator signed, and the edges. The edges are those of
/// a forest, in the one form that it has; that they are the signed ones shows only
/// [`InBand::tree`]. Clones share their memory.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct InBand(Arc<Content>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Content {
    epoch: Epoch,
    hash: Digest,
    coordinator: MemberId,
    signature: Signature,
    /// For each member the position of its parent, plus 1; 0 for a root. The root of each part is
    /// its first member.
    parents: Vec<u16>,
    /// Edges of the overlap as pairs of positions, the lower one first, in order.
    overlap: Vec<(u16, u16)>,
}

/// On the wire: numbers as 16 bits, big-endian, without anything between them.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "e")]
    epoch: Epoch,
    #[serde(rename = "h")]
    hash: Digest,
    #[serde(rename = "c")]
    coordinator: MemberId,
    #[serde(rename = "s")]
    signature: Signature,
    #[serde(rename = "p", with = "serde_bytes")]
    parents: Vec<u8>,
    #[serde(rename = "o", with = "serde_bytes", default, skip_serializing_if = "Vec::is_empty")]
    overlap: Vec<u8>,
}

impl InBand {
    /// The form of `tree`, which `header` signs.
    ///
    /// # Errors
    /// [`TreeError::TooLarge`] if it is over [`limits::IN_BAND`].
    pub fn new(header: &SignedHeader, tree: &Tree) -> Result<Self, TreeError> {
        // Each member takes two bytes: most trees that do not fit are found here at no cost.
        if tree.members().len() > limits::IN_BAND / 2 {
            return Err(TreeError::TooLarge);
        }
        let position: BTreeMap<MemberId, u16> =
            tree.members().map(|member| member.id).zip(0..).collect();
        let pair = |edge: Edge| {
            let (a, b) = edge.ends();
            Some((*position.get(&a)?, *position.get(&b)?))
        };
        let mut joined: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        for (a, b) in tree.edges().filter_map(pair) {
            joined.entry(a).or_default().push(b);
            joined.entry(b).or_default().push(a);
        }
        let mut parents: BTreeMap<u16, u16> = BTreeMap::new();
        for first in position.values().copied() {
            if parents.contains_key(&first) {
                continue;
            }
            parents.insert(first, 0);
            let mut reached = vec![first];
            while let Some(at) = reached.pop() {
                for next in joined.get(&at).into_iter().flatten() {
                    if !parents.contains_key(next) {
                        parents.insert(*next, at + 1);
                        reached.push(*next);
                    }
                }
            }
        }
        let tree = Self(Arc::new(Content {
            epoch: header.header.epoch,
            hash: header.header.hash,
            coordinator: header.coordinator,
            signature: header.signature,
            parents: parents.into_values().collect(),
            overlap: tree.overlap().filter_map(pair).collect(),
        }));
        if tree.encoded_len() > limits::IN_BAND {
            return Err(TreeError::TooLarge);
        }
        Ok(tree)
    }

    /// Bytes that it takes in a frame.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        codec::encode(self).len()
    }

    /// Which tree it says it is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// The hash of the tree, which the coordinator signed: it alone says which tree is meant.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// How many members the tree has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.0.parents.len()
    }

    /// What the coordinator signed, for a frame of `session`.
    #[must_use]
    pub fn header(&self, session: SessionId) -> SignedHeader {
        SignedHeader {
            header: Header { session, epoch: self.0.epoch, hash: self.0.hash },
            coordinator: self.0.coordinator,
            signature: self.0.signature,
        }
    }

    /// The tree itself, if `members`, in order of ids, are its members.
    ///
    /// # Errors
    /// [`TreeError::Hash`] if they are not, or the edges are not the signed ones.
    pub fn tree<'a>(
        &self,
        members: impl ExactSizeIterator<Item = &'a Member>,
    ) -> Result<Tree, TreeError> {
        let Content { hash, parents, overlap, .. } = &*self.0;
        if members.len() != parents.len() {
            return Err(TreeError::Hash);
        }
        let members: Vec<&Member> = members.collect();
        let edge = |a: u16, b: u16| {
            let (a, b) = (members.get(usize::from(a))?, members.get(usize::from(b))?);
            Edge::new(a.id, b.id)
        };
        let edges = (0..).zip(parents).filter_map(|(at, up)| edge(at, up.checked_sub(1)?));
        let overlap = overlap.iter().filter_map(|(a, b)| edge(*a, *b));
        let tree = Tree::new(members.iter().copied().cloned(), edges, overlap)?;
        if tree.hash() == *hash { Ok(tree) } else { Err(TreeError::Hash) }
    }
}

impl fmt::Debug for InBand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tree {} of {}", self.epoch(), self.members())
    }
}

impl From<InBand> for Wire {
    fn from(InBand(content): InBand) -> Self {
        let bytes = |number: &u16| number.to_be_bytes();
        Self {
            epoch: content.epoch,
            hash: content.hash,
            coordinator: content.coordinator,
            signature: content.signature,
            parents: content.parents.iter().flat_map(bytes).collect(),
            overlap: content.overlap.iter().flat_map(|(a, b)| [a, b]).flat_map(bytes).collect(),
        }
    }
}

impl TryFrom<Wire> for InBand {
    type Error = TreeError;

    fn try_from(wire: Wire) -> Result<Self, TreeError> {
        let Wire { epoch, hash, coordinator, signature, parents, overlap } = wire;
        let (parents, rest) = parents.as_chunks::<2>();
        let (overlap, more) = overlap.as_chunks::<4>();
        if parents.len() > limits::MEMBERS || overlap.len() > parents.len() {
            return Err(TreeError::TooLarge);
        }
        if !rest.is_empty() || !more.is_empty() {
            return Err(TreeError::Stranger);
        }
        let parents: Vec<u16> = parents.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect();
        let overlap: Vec<(u16, u16)> = overlap
            .iter()
            .map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            .collect();
        check_forest(&parents)?;
        check_overlap(&overlap, &parents)?;
        Ok(Self(Arc::new(Content { epoch, hash, coordinator, signature, parents, overlap })))
    }
}

/// Parents that are there, no cycle, the first member of each part its root. Each member is walked
/// over once.
fn check_forest(parents: &[u16]) -> Result<(), TreeError> {
    let mut roots: Vec<Option<usize>> = vec![None; parents.len()];
    let mut path = Vec::new();
    for start in 0..parents.len() {
        let mut at = start;
        let root = loop {
            if let Some(Some(root)) = roots.get(at) {
                break *root;
            }
            if path.len() > parents.len() {
                return Err(TreeError::Cycle);
            }
            path.push(at);
            match parents.get(at).map(|up| usize::from(*up).checked_sub(1)) {
                None => return Err(TreeError::Stranger),
                Some(None) => break at,
                Some(Some(up)) => at = up,
            }
        };
        for member in path.drain(..) {
            if member < root {
                return Err(TreeError::Order);
            }
            if let Some(slot) = roots.get_mut(member) {
                *slot = Some(root);
            }
        }
    }
    Ok(())
}

/// In order, between two members that are there, not on the tree.
fn check_overlap(overlap: &[(u16, u16)], parents: &[u16]) -> Result<(), TreeError> {
    if !overlap.is_sorted_by(|a, b| a < b) {
        return Err(TreeError::Order);
    }
    for (a, b) in overlap {
        if a >= b {
            return Err(TreeError::Loop);
        }
        let up = |member: &u16| parents.get(usize::from(*member)).copied().map(u32::from);
        let (Some(above_a), Some(above_b)) = (up(a), up(b)) else {
            return Err(TreeError::Stranger);
        };
        if above_a == u32::from(*b) + 1 || above_b == u32::from(*a) + 1 {
            return Err(TreeError::Order);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
