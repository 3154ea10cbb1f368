//! Who keeps the others waiting, as far as members can tell: each names the neighbours that confirm too
//! little of what waits for them. Such a neighbour may itself wait for another, and names that one in turn.
//! So the blame is where the names end.

use std::collections::{BTreeMap, BTreeSet};

use arborcast_protocol::id::MemberId;
use petgraph::{
    Direction,
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
};

/// Whom members name. At most one entry for each member, with at most
/// [`arborcast_protocol::limits::CHANNELS`] names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by: BTreeMap<MemberId, BTreeSet<MemberId>>,
}

/// A member at whom names end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sink {
    pub(crate) member: MemberId,
    /// It says so itself.
    pub(crate) names_itself: bool,
    /// Who else names it; at least one.
    pub(crate) accusers: Vec<MemberId>,
}

impl Names {
    /// `from` names these from now on, and nobody else. True if that is news.
    pub(crate) fn set(&mut self, from: MemberId, named: BTreeSet<MemberId>) -> bool {
        if named.is_empty() {
            return self.by.remove(&from).is_some();
        }
        self.by.insert(from, named.clone()) != Some(named)
    }

    /// A member is gone: what it said and what was said of it.
    pub(crate) fn forget(&mut self, member: MemberId) {
        self.by.remove(&member);
        for named in self.by.values_mut() {
            named.remove(&member);
        }
        self.by.retain(|_, named| !named.is_empty());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// Where names end, in order. Only those count that `counts` lets through, a name by itself always.
    /// Of members that name each other in a circle, with nobody beyond, it is one that names itself, else the
    /// one that `rank` puts first.
    pub(crate) fn sinks<R: Ord>(
        &self,
        counts: impl Fn(MemberId, MemberId) -> bool,
        rank: impl Fn(MemberId) -> R,
    ) -> Vec<Sink> {
        let mut graph: DiGraph<MemberId, ()> = DiGraph::new();
        let mut nodes: BTreeMap<MemberId, NodeIndex> = BTreeMap::new();
        let mut themselves = BTreeSet::new();
        for (from, named) in &self.by {
            for peer in named {
                if peer == from {
                    themselves.insert(*from);
                } else if counts(*from, *peer) {
                    let a = *nodes.entry(*from).or_insert_with(|| graph.add_node(*from));
                    let b = *nodes.entry(*peer).or_insert_with(|| graph.add_node(*peer));
                    graph.add_edge(a, b, ());
                }
            }
        }
        let mut sinks = Vec::new();
        for circle in tarjan_scc(&graph) {
            let leads_on = circle
                .iter()
                .any(|node| graph.neighbors(*node).any(|next| !circle.contains(&next)));
            if leads_on {
                continue;
            }
            let members =
                circle.iter().filter_map(|node| Some((*node, *graph.node_weight(*node)?)));
            let chosen = members
                .min_by_key(|(_, member)| (!themselves.contains(member), rank(*member), *member));
            let Some((node, member)) = chosen else { continue };
            let mut accusers: Vec<MemberId> = graph
                .neighbors_directed(node, Direction::Incoming)
                .filter_map(|from| graph.node_weight(from).copied())
                .collect();
            accusers.sort_unstable();
            if !accusers.is_empty() {
                let names_itself = themselves.contains(&member);
                sinks.push(Sink { member, names_itself, accusers });
            }
        }
        sinks.sort_unstable_by_key(|sink| sink.member);
        sinks
    }

    /// Whom a member names beside itself.
    pub(crate) fn of(&self, member: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        self.by.get(&member).into_iter().flatten().copied().filter(move |named| *named != member)
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;

    use super::*;

    fn names(pairs: &[(u64, u64)]) -> Names {
        let mut names = Names::default();
        for (from, _) in pairs {
            let own = pairs.iter().filter(|(other, _)| other == from);
            names.set(member(*from), own.map(|(_, peer)| member(*peer)).collect());
        }
        names
    }

    fn blamed(names: &Names) -> Vec<(MemberId, bool)> {
        let number = |id| (0..10).find(|n| member(*n) == id);
        let sinks = names.sinks(|_, _| true, number);
        sinks.into_iter().map(|sink| (sink.member, sink.names_itself)).collect()
    }

    #[test]
    fn blame_goes_to_the_end_of_the_chain() {
        assert_eq!(blamed(&names(&[(1, 2), (2, 3), (4, 2)])), [(member(3), false)]);
        assert_eq!(blamed(&names(&[(1, 2), (2, 3), (3, 3)])), [(member(3), true)]);
        let mut two = [(member(3), false), (member(4), false)];
        two.sort_unstable();
        assert_eq!(blamed(&names(&[(1, 2), (2, 3), (2, 4)])), two);
        assert_eq!(blamed(&names(&[(3, 3)])), [], "nobody waits for it");
        assert_eq!(blamed(&names(&[])), []);
    }

    #[test]
    fn of_those_who_name_each_other_one_is_blamed() {
        assert_eq!(blamed(&names(&[(1, 2), (2, 1)])), [(member(1), false)], "the first in rank");
        assert_eq!(blamed(&names(&[(1, 2), (2, 1), (2, 2)])), [(member(2), true)]);
        assert_eq!(blamed(&names(&[(1, 2), (2, 1), (2, 3)])), [(member(3), false)]);
    }

    #[test]
    fn what_is_said_of_those_who_are_gone_is_forgotten() {
        let mut names = names(&[(1, 2), (2, 3)]);
        names.forget(member(3));
        assert_eq!(blamed(&names), [(member(2), false)]);
        assert!(names.set(member(1), BTreeSet::new()));
        assert!(names.is_empty());
    }
}
