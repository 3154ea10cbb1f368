//! Every tree keeps to what there is: it is acyclic (the type sees to that), uses channels that are
//! up or were until lately, keeps the members' limits, and at rest spans whatever is connected.

use std::collections::BTreeSet;

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Trees;

impl Trees {
    /// An edge of a new tree.
    pub fn edge(&self, a: usize, b: usize, recent: bool) -> Result<(), String> {
        if recent {
            Ok(())
        } else {
            Err(format!("the tree has n{a}-n{b}, where no channel is, nor was lately"))
        }
    }

    /// A member's edges in a new tree, the overlap not counted.
    pub fn degree(&self, node: usize, degree: u16, most: u16) -> Result<(), String> {
        if degree <= most {
            Ok(())
        } else {
            Err(format!("n{node} has {degree} neighbours in the tree, but takes {most} at most"))
        }
    }

    /// At rest: the tree joins exactly what channels join, and uses only what is up.
    pub fn spans(
        &self,
        nodes: &BTreeSet<usize>,
        edges: &BTreeSet<(usize, usize)>,
        channels: &BTreeSet<(usize, usize)>,
    ) -> Result<(), String> {
        if let Some((a, b)) = edges.difference(channels).next() {
            return Err(format!("at rest the tree has n{a}-n{b}, where no channel is"));
        }
        let (joined, reachable) = (parts(nodes, edges), parts(nodes, channels));
        if joined == reachable {
            Ok(())
        } else {
            Err(format!("at rest the tree has the parts {joined:?}, the channels {reachable:?}"))
        }
    }
}

/// The connected parts.
fn parts(nodes: &BTreeSet<usize>, edges: &BTreeSet<(usize, usize)>) -> BTreeSet<BTreeSet<usize>> {
    let mut parts: BTreeSet<BTreeSet<usize>> =
        nodes.iter().map(|node| BTreeSet::from([*node])).collect();
    for (a, b) in edges {
        let both: Vec<BTreeSet<usize>> =
            parts.iter().filter(|part| part.contains(a) || part.contains(b)).cloned().collect();
        for part in &both {
            parts.remove(part);
        }
        parts.insert(both.into_iter().flatten().collect());
    }
    parts
}
