//! Which edges of a tree lie on cycles while edges of the tree before stay in use beside them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edge, Tree};
use crate::id::MemberId;

/// A member's way towards the first member of its part.
#[derive(Clone, Copy)]
struct Up {
    root: MemberId,
    parent: MemberId,
    depth: usize,
}

impl Tree {
    /// The edges of the tree, overlap not counted, that lie on a cycle which the overlap closes.
    #[must_use]
    pub fn on_cycles(&self) -> BTreeSet<Edge> {
        let mut found = BTreeSet::new();
        if self.overlap.is_empty() {
            return found;
        }
        let up = self.rooted();
        // Members whose edge upwards has been found already are skipped, so that each edge is walked
        // over once, however long the cycles are.
        let mut skip: BTreeMap<MemberId, MemberId> = BTreeMap::new();
        let root = |member| up.get(member).map(|up| up.root);
        for Edge(a, b) in self.overlap.iter().filter(|Edge(a, b)| root(a) == root(b)) {
            let (mut a, mut b) = (top(&mut skip, *a), top(&mut skip, *b));
            while a != b {
                let (Some(at_a), Some(at_b)) = (up.get(&a), up.get(&b)) else { break };
                let (low, above) =
                    if at_a.depth >= at_b.depth { (a, at_a.parent) } else { (b, at_b.parent) };
                let Some(edge) = Edge::new(low, above) else { break };
                found.insert(edge);
                skip.insert(low, above);
                (a, b) = (top(&mut skip, a), top(&mut skip, b));
            }
        }
        found
    }

    /// Every member with the next one on its way to the first of its part, who is its own.
    fn rooted(&self) -> BTreeMap<MemberId, Up> {
        let mut next: BTreeMap<MemberId, Vec<MemberId>> = BTreeMap::new();
        for Edge(a, b) in &self.edges {
            next.entry(*a).or_default().push(*b);
            next.entry(*b).or_default().push(*a);
        }
        let mut up: BTreeMap<MemberId, Up> = BTreeMap::new();
        for root in self.members.keys() {
            if up.contains_key(root) {
                continue;
            }
            up.insert(*root, Up { root: *root, parent: *root, depth: 0 });
            let mut open = vec![(*root, 0)];
            while let Some((at, depth)) = open.pop() {
                for other in next.get(&at).into_iter().flatten() {
                    if !up.contains_key(other) {
                        up.insert(*other, Up { root: *root, parent: at, depth: depth + 1 });
                        open.push((*other, depth + 1));
                    }
                }
            }
        }
        up
    }
}

/// The first member from `at` upwards whose edge upwards has not been found yet.
fn top(skip: &mut BTreeMap<MemberId, MemberId>, mut at: MemberId) -> MemberId {
    while let Some(&above) = skip.get(&at) {
        if let Some(&higher) = skip.get(&above) {
            skip.insert(at, higher);
        }
        at = above;
    }
    at
}
