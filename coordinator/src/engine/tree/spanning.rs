//! The minimum-cost spanning forest: Kruskal's algorithm, tier by tier, then caps.

use petgraph::unionfind::UnionFind;

use super::{Settings, View, capped::Forest, exact};

/// See [`super::compute`].
pub(super) fn compute(view: &View, settings: &Settings) -> Vec<usize> {
    let weights: Vec<i64> = view.channels.iter().map(|channel| settings.biased(channel)).collect();
    let fresh = kruskal(view, |position| {
        let channel = view.channels.get(position)?;
        let weight = *weights.get(position)?;
        // Equal weights: the edge in force stays. Then the order of ids decides (the sort is stable).
        Some((channel.tier, weight, channel.in_force.is_none()))
    });
    let fresh = Forest::new(view, &weights, &fresh, settings.steps);
    if fresh.excess() == 0 {
        return fresh.into_edges();
    }
    // With caps in the way swaps find a near-best tree, not the best. One search starts from the
    // tree in force: else each change anywhere would lead to a quite different tree.
    let kept = kruskal(view, |position| {
        let channel = view.channels.get(position)?;
        let weight = *weights.get(position)?;
        let stays = channel.in_force.is_some_and(|was| channel.tier <= was);
        Some((channel.tier, !stays, weight))
    });
    let kept = keep_caps(Forest::new(view, &weights, &kept, settings.steps / 2), view, &weights);
    let fresh = keep_caps(
        Forest::new(view, &weights, &fresh.into_edges(), settings.steps / 2),
        view,
        &weights,
    );
    if (fresh.excess(), fresh.weight()) < (kept.excess(), kept.weight()) {
        fresh.into_edges()
    } else {
        kept.into_edges()
    }
}

fn keep_caps<'a>(mut forest: Forest<'a>, view: &'a View, weights: &'a [i64]) -> Forest<'a> {
    forest.relieve_all();
    if forest.excess() > 0
        && let Some(edges) = exact::search(view, weights, forest.steps_left())
    {
        forest = Forest::new(view, weights, &edges, forest.steps_left());
    }
    forest.improve();
    forest
}

/// Takes channels by rising key, whichever closes no cycle; positions with no key are left out.
fn kruskal<K: Ord>(view: &View, key: impl Fn(usize) -> Option<K>) -> Vec<usize> {
    let mut order: Vec<(K, usize)> =
        (0..view.channels.len()).filter_map(|position| Some((key(position)?, position))).collect();
    order.sort_unstable();
    let mut parts = UnionFind::<usize>::new(view.caps.len());
    let mut edges: Vec<usize> = order
        .into_iter()
        .map(|(_, position)| position)
        .filter(|position| {
            view.channels.get(*position).is_some_and(|channel| {
                parts.try_union(channel.low, channel.high).is_ok_and(|joined| joined)
            })
        })
        .collect();
    edges.sort_unstable();
    edges
}
