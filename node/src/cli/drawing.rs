//! Trees as text.

use std::collections::{BTreeMap, BTreeSet};

/// A line of a drawn tree: somebody, and what stands before the name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Branch<'a> {
    pub(super) before: String,
    pub(super) id: &'a str,
}

/// The tree from its roots on, one line for each member, who is drawn below the first root that leads
/// there. Without recursion: a tree may be as deep as it has members.
pub(super) fn branches<'a>(
    roots: impl IntoIterator<Item = &'a str>,
    edges: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<Branch<'a>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (a, b) in edges {
        next.entry(a).or_default().insert(b);
        next.entry(b).or_default().insert(a);
    }
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    for root in roots {
        if !seen.insert(root) {
            continue;
        }
        // Whom, what stands before its name, what stands before its children's.
        let mut waiting = vec![(root, String::new(), String::new())];
        while let Some((id, before, below)) = waiting.pop() {
            lines.push(Branch { before, id });
            let mut children: Vec<&str> = next
                .get(id)
                .into_iter()
                .flatten()
                .copied()
                .filter(|child| seen.insert(child))
                .collect();
            children.reverse();
            for (from_last, child) in children.into_iter().enumerate() {
                let (arm, space) =
                    if from_last == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                waiting.push((child, format!("{below}{arm}"), format!("{below}{space}")));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_hangs_from_its_roots() {
        let edges = [("a", "b"), ("a", "c"), ("b", "d")];
        let lines: Vec<String> = branches(["b", "a", "e"], edges)
            .iter()
            .map(|line| format!("{}{}", line.before, line.id))
            .collect();
        assert_eq!(lines, ["b", "├─ a", "│  └─ c", "└─ d", "e"]);
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let names: Vec<String> = (0..300).map(|n| format!("m{n:05}")).collect();
        let edges = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
        assert_eq!(branches(["m00000"], edges).len(), 300);
    }
}
