//! Which members hang together.

use std::collections::BTreeMap;

use super::Edge;
use crate::id::MemberId;

/// Disjoint sets over members: finds cycles and parts. Iterative, so deep trees are no trouble.
pub(super) struct Parts {
    position: BTreeMap<MemberId, usize>,
    parent: Vec<usize>,
}

impl Parts {
    pub(super) fn new(members: impl Iterator<Item = MemberId>) -> Self {
        let position: BTreeMap<_, _> = members.zip(0..).collect();
        Self { parent: (0..position.len()).collect(), position }
    }

    fn root(&mut self, mut at: usize) -> usize {
        while let Some(&up) = self.parent.get(at)
            && up != at
        {
            let above = self.parent.get(up).copied().unwrap_or(up);
            if let Some(slot) = self.parent.get_mut(at) {
                *slot = above;
            }
            at = above;
        }
        at
    }

    pub(super) fn root_of(&mut self, member: MemberId) -> Option<usize> {
        let at = *self.position.get(&member)?;
        Some(self.root(at))
    }

    /// Joins the parts of both ends; false if they were one part before.
    pub(super) fn join(&mut self, edge: Edge) -> bool {
        let (a, b) = edge.ends();
        let (Some(a), Some(b)) = (self.root_of(a), self.root_of(b)) else { return false };
        if let Some(slot) = self.parent.get_mut(a) {
            *slot = b;
        }
        a != b
    }
}
