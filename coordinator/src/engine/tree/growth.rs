//! Trees to begin a search with: grown from a root, near members first (the compact tree of Shi and Turner, INFOCOM
//! 2002, with limited degrees); without caps that is Dijkstra's shortest-path tree.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::graph::{Graph, NONE};

/// A channel on the edge of what has grown; the least comes next.
type Front = Reverse<(u8, Stage, u64, u32, u32)>;

/// Whose turn it is among channels of one tier: members that can relay, then those that cannot, and at last what
/// loads a member above its cap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Relay,
    Leaf,
    Full,
}

/// Grows a spanning forest: the part of `root` from there, others from the member with most channels. Takes every
/// channel of a better tier before any of a worse one, so the forest has as few of the worse ones as can be.
///
/// With `is_capped` nobody has more edges than its cap while others can take them.
pub(super) fn grow(graph: &Graph, root: u32, is_capped: bool) -> Vec<u32> {
    let members = graph.members();
    let mut grown = Grown {
        graph,
        is_capped,
        is_in: vec![false; members],
        distance: vec![0; members],
        degree: vec![0; members],
        front: BinaryHeap::new(),
        edges: Vec::with_capacity(members.saturating_sub(1)),
    };
    grown.from(root);
    // The others by their channels, most first; equal ones in their order.
    let mut rest: Vec<u32> = (0..u32::try_from(members).unwrap_or(NONE)).collect();
    rest.retain(|member| !grown.is_in[*member as usize]);
    rest.sort_by_key(|member| Reverse(graph.of(*member).len()));
    for member in rest {
        if !grown.is_in[member as usize] {
            grown.from(member);
        }
    }
    grown.edges
}

struct Grown<'a> {
    graph: &'a Graph,
    is_capped: bool,
    is_in: Vec<bool>,
    /// From the root, in microseconds.
    distance: Vec<u64>,
    degree: Vec<u32>,
    front: BinaryHeap<Front>,
    edges: Vec<u32>,
}

impl Grown<'_> {
    fn from(&mut self, root: u32) {
        self.is_in[root as usize] = true;
        self.reach(root);
        while let Some(Reverse((rank, stage, way, channel, parent))) = self.front.pop() {
            let member = self.graph.other(channel, parent);
            if self.is_in[member as usize] {
                continue;
            }
            if stage != Stage::Full && self.is_full(parent) {
                // It has filled up since.
                self.front.push(Reverse((rank, Stage::Full, way, channel, parent)));
                continue;
            }
            self.is_in[member as usize] = true;
            self.distance[member as usize] = way;
            self.degree[member as usize] += 1;
            self.degree[parent as usize] += 1;
            self.edges.push(channel);
            self.reach(member);
        }
    }

    fn is_full(&self, member: u32) -> bool {
        self.is_capped && self.degree[member as usize] >= self.graph.caps[member as usize]
    }

    /// The channels of a member that has come in.
    fn reach(&mut self, parent: u32) {
        let is_full = self.is_full(parent);
        for channel in self.graph.of(parent) {
            let member = self.graph.other(*channel, parent);
            if self.is_in[member as usize] {
                continue;
            }
            let stage = match (is_full, self.is_capped && self.graph.caps[member as usize] <= 1) {
                (true, _) => Stage::Full,
                (false, true) => Stage::Leaf,
                (false, false) => Stage::Relay,
            };
            let at = *channel as usize;
            let way = self.distance[parent as usize].saturating_add(self.graph.micros[at]);
            self.front.push(Reverse((self.graph.rank[at], stage, way, *channel, parent)));
        }
    }
}

/// How far each member is from the one it begins with, in microseconds; `None` where it cannot be reached.
pub(super) fn distances(graph: &Graph, from: u32, rank: u8) -> Vec<Option<u64>> {
    let mut distances = vec![None; graph.members()];
    spread(graph, &[(from, 0)], rank, |member, _, way| distances[member as usize] = Some(way));
    distances
}

/// The tree of shortest paths from some members, each of which is so far away already; over channels of no worse rank.
/// The parts that it does not reach have trees from their first members.
pub(super) fn paths(graph: &Graph, from: &[(u32, u64)], rank: u8) -> Vec<u32> {
    let mut edges = Vec::with_capacity(graph.members().saturating_sub(1));
    let mut is_in = vec![false; graph.members()];
    let mut grow = |from: &[(u32, u64)], is_in: &mut Vec<bool>| {
        spread(graph, from, rank, |member, channel, _| {
            is_in[member as usize] = true;
            edges.extend((channel != NONE).then_some(channel));
        });
    };
    grow(from, &mut is_in);
    for member in 0..u32::try_from(graph.members()).unwrap_or(NONE) {
        if !is_in[member as usize] {
            grow(&[(member, 0)], &mut is_in);
        }
    }
    edges
}

/// Dijkstra's algorithm: each member, by which channel it is reached, and how far it is.
fn spread(graph: &Graph, from: &[(u32, u64)], rank: u8, mut reached: impl FnMut(u32, u32, u64)) {
    let mut is_in = vec![false; graph.members()];
    let mut front: BinaryHeap<Reverse<(u64, u32, u32)>> =
        from.iter().map(|(member, way)| Reverse((*way, *member, NONE))).collect();
    while let Some(Reverse((way, member, channel))) = front.pop() {
        if std::mem::replace(&mut is_in[member as usize], true) {
            continue;
        }
        reached(member, channel, way);
        for channel in graph.of(member) {
            let (at, other) = (*channel as usize, graph.other(*channel, member));
            if !is_in[other as usize] && graph.rank[at] <= rank {
                front.push(Reverse((way.saturating_add(graph.micros[at]), other, *channel)));
            }
        }
    }
}
