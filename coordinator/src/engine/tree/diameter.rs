//! The tree of least diameter: shortest paths from the absolute centre of the graph, which may lie inside a channel
//! (Hassin and Tamir, *On the minimum diameter spanning tree problem*, IPL 1995; the centre by Kariv and Hakimi, 1979).

use petgraph::unionfind::UnionFind;

use super::{
    graph::{Graph, NONE},
    growth,
};

/// Distances between all pairs are kept for so many members at most: beyond, the centre is one of some members.
const ALL_PAIRS: usize = 2_500;

/// The edges, over channels of no worse rank. Parts that the first one does not reach have trees of shortest paths.
pub(super) fn compute(graph: &Graph, rank: u8) -> Vec<u32> {
    let members = u32::try_from(graph.members()).unwrap_or(NONE);
    if members == 0 {
        return Vec::new();
    }
    if graph.members() > ALL_PAIRS {
        return growth::paths(graph, &[(middle(graph, rank), 0)], rank);
    }
    let far: Vec<Vec<Option<u64>>> =
        (0..members).map(|member| growth::distances(graph, member, rank)).collect();
    // Of the largest part; the others are grown beside it.
    let reach = |member: u32| far[member as usize].iter().flatten().count();
    let Some(first) =
        (0..members).max_by_key(|member| (reach(*member), std::cmp::Reverse(*member)))
    else {
        return Vec::new();
    };
    let part: Vec<u32> =
        (0..members).filter(|member| far[first as usize][*member as usize].is_some()).collect();
    let way = |a: u32, b: u32| far[a as usize][b as usize].unwrap_or(u64::MAX);
    // Twice the radius, the channel, and twice the way from its first end to the centre.
    let mut best: Option<(u64, u32, u64)> = None;
    let mut sorted: Vec<Vec<u32>> = vec![Vec::new(); graph.members()];
    for a in &part {
        let mut order = part.clone();
        order.sort_by_key(|member| std::cmp::Reverse(way(*a, *member)));
        sorted[*a as usize] = order;
    }
    for channel in 0..u32::try_from(graph.channels()).unwrap_or(NONE) {
        let at = channel as usize;
        let ([a, b], cost) = (graph.ends[at], graph.micros[at]);
        let order = &sorted[a as usize];
        let Some(farthest) = order.first().filter(|_| graph.rank[at] <= rank) else { continue };
        let mut offer = |radius: u64, from_a: u64| {
            if best.is_none_or(|(least, ..)| radius < least) {
                best = Some((radius, channel, from_a));
            }
        };
        offer(2 * way(a, *farthest), 0);
        let mut last = *farthest;
        for member in order.iter().skip(1) {
            if way(b, *member) > way(b, last) {
                // Between the two the one is as far over one end as the other over the other.
                let radius = way(a, *member) + cost + way(b, last);
                let from_a = (way(b, last) + cost).saturating_sub(way(a, *member));
                offer(radius, from_a.min(2 * cost));
                last = *member;
            }
        }
        offer(2 * way(b, last), 2 * cost);
    }
    let Some((_, channel, from_a)) = best else {
        return growth::paths(graph, &[(first, 0)], rank);
    };
    let ([a, b], cost) = (graph.ends[channel as usize], graph.micros[channel as usize]);
    // Half a microsecond is no matter.
    let from_a = from_a / 2;
    let mut edges = growth::paths(graph, &[(a, from_a), (b, cost.saturating_sub(from_a))], rank);
    // Unless one end is reached sooner over others.
    let mut joined = UnionFind::<usize>::new(graph.members());
    for edge in &edges {
        let [a, b] = graph.ends[*edge as usize];
        joined.union(a as usize, b as usize);
    }
    edges.extend(joined.union(a as usize, b as usize).then_some(channel));
    edges
}

/// A member near the middle: halfway between two that are far apart.
fn middle(graph: &Graph, rank: u8) -> u32 {
    let farthest = |from: u32| {
        let distances = growth::distances(graph, from, rank);
        let far = (0..).zip(&distances).filter_map(|(member, way)| Some(((*way)?, member)));
        let end = far.max().map_or(from, |(_, member)| member);
        (end, distances)
    };
    let (one, _) = farthest(0);
    let (two, from_one) = farthest(one);
    let (_, from_two) = farthest(two);
    let worst = |member: &u32| {
        let at = *member as usize;
        from_one[at].zip(from_two[at]).map_or(u64::MAX, |(one, two)| one.max(two))
    };
    (0..u32::try_from(graph.members()).unwrap_or(NONE)).min_by_key(worst).unwrap_or(0)
}
