//! The search for a tree: descents by swaps of one edge, and of two where full members are in the way.

use std::cmp::Ordering;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{
    forest::{Aim, Forest, Swap},
    graph::Graph,
    growth,
};

/// A tree without regard to what is in force: the best of some that are grown from members near to all, each descended
/// from.
pub(super) fn fresh<'a>(graph: &'a Graph, steps: u64) -> Forest<'a> {
    let growth = (graph.members() + graph.channels()) as u64;
    let count =
        (steps / 8 / growth.max(1)).clamp(DESCENTS as u64, graph.members().max(DESCENTS) as u64);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut grown: Vec<Forest<'a>> = Vec::new();
    for root in roots(graph, count) {
        let edges = growth::grow(graph, root, true);
        let forest = Forest::new(graph, &edges, &[root]);
        let at = grown.partition_point(|other| worth(other, AIM) <= worth(&forest, AIM));
        grown.insert(at, forest);
        grown.truncate(DESCENTS);
    }
    let share = steps / DESCENTS as u64;
    for forest in &mut grown {
        descend(forest, graph, Aim::RoutingCost, share);
    }
    let best = grown
        .into_iter()
        .min_by(|a, b| worth(a, AIM).partial_cmp(&worth(b, AIM)).unwrap_or(Ordering::Equal))
        .unwrap_or_else(|| Forest::new(graph, &[], &[]));
    if best.is_uncapped() && graph.members() > SMALL {
        // One descent is near the best then.
        return best;
    }
    let budget = figure((steps / 2).min(growth.saturating_mul(ROUNDS).max(LEAST)));
    let mut done = 0;
    improve(best, graph, AIM, &mut |more| {
        done += more;
        figure(done) / budget.max(1.0)
    })
}

/// So many steps are taken for each member and channel to go on from a tree...
const ROUNDS: u64 = 64;

/// ...so many at least for that...
const LEAST: u64 = 20_000;

/// ...and so many at least to bring members down to their caps.
const RELIEF: u64 = 200_000;

/// What trees without regard to what is in force aim at.
const AIM: Aim = Aim::RoutingCost;

/// What makes one forest better than another: less counts.
fn worth(forest: &Forest<'_>, aim: Aim) -> (Vec<usize>, u32, f64) {
    (forest.ranks(), forest.excess(), forest.figure(aim))
}

/// With no more members than that one descent may end far from the best, and more cost nothing.
const SMALL: usize = 16;

/// So many of the grown trees are descended from.
const DESCENTS: usize = 3;

/// The shortest-path tree, over channels of no worse rank, with which all pairs are nearest: of all roots where that is
/// done soon, else of those that are near to all.
pub(super) fn shortest_paths<'a>(graph: &'a Graph, rank: u8, steps: u64) -> Forest<'a> {
    let growth = (graph.members() + graph.channels()) as u64;
    let count = usize::try_from((steps / growth.max(1)).max(1)).unwrap_or(usize::MAX);
    let mut best: Option<(f64, Forest<'a>)> = None;
    for root in roots(graph, count) {
        let tree = growth::paths(graph, &[(root, 0)], rank);
        let tree = Forest::new(graph, &tree, &[root]);
        let figure = tree.figure(Aim::RoutingCost);
        if best.as_ref().is_none_or(|(least, _)| figure < *least) {
            best = Some((figure, tree));
        }
    }
    best.map_or_else(|| Forest::new(graph, &[], &[]), |(_, tree)| tree)
}

/// Sees to caps, as far as that can be done within the steps, where swaps one by one do not help any more.
pub(super) fn relieve<'a>(
    forest: Forest<'a>,
    graph: &'a Graph,
    aim: Aim,
    steps: u64,
) -> Forest<'a> {
    let mut forest = forest;
    if forest.excess() > 0 {
        descend(&mut forest, graph, aim, steps);
    }
    let size = (graph.members() + graph.channels()) as u64;
    let steps = steps.min(size.saturating_mul(ROUNDS).max(RELIEF));
    let mut done = 0;
    // In small portions: most are relieved soon, and some cannot be.
    while forest.excess() > 0 && done < steps {
        let end = done + steps / 64 + 1;
        forest = improve(forest, graph, aim, &mut |more| {
            done += more;
            if done < end { 0.0 } else { 1.0 }
        });
        done = done.max(end);
    }
    forest
}

/// Swaps edges until no swap is worth it, or `steps` members were walked over.
pub(super) fn descend(forest: &mut Forest<'_>, graph: &Graph, aim: Aim, steps: u64) {
    descend_from(forest, graph, aim, steps, Vec::new());
}

/// The same. `changed` is empty, or says what is new to a forest that was at rest: in which sweep the surroundings of each
/// member changed last, those after [`FULL_SWEEPS`] being new.
fn descend_from(
    forest: &mut Forest<'_>,
    graph: &Graph,
    aim: Aim,
    steps: u64,
    mut changed: Vec<u32>,
) {
    let end = forest.steps.saturating_add(steps);
    let mut sweep = if changed.is_empty() { 0 } else { FULL_SWEEPS + 1 };
    changed.resize(graph.members(), 0);
    loop {
        sweep += 1;
        let mut is_over = true;
        for channel in 0..graph.channels() {
            if forest.steps >= end {
                return;
            }
            #[expect(clippy::cast_possible_truncation, reason = "channels are fewer than 2^32")]
            let add = channel as u32;
            if forest.is_edge(add) {
                continue;
            }
            let [a, b] = graph.ends[channel];
            let is_touched = [a, b].iter().any(|end| changed[*end as usize] + 1 >= sweep);
            if sweep > FULL_SWEEPS && !is_touched {
                continue;
            }
            let Some(swap) = forest.best_swap(add, aim) else { continue };
            if swap.is_worth_it() {
                for member in forest.on_cycle() {
                    changed[member as usize] = sweep;
                }
                forest.apply(&swap);
                is_over = false;
            } else if aim == Aim::RoutingCost && make_room(forest, graph, &swap, aim) {
                changed[a as usize] = sweep;
                changed[b as usize] = sweep;
                is_over = false;
            }
        }
        if is_over {
            return;
        }
    }
}

/// All channels are looked at so often; from then on those whose surroundings have changed.
const FULL_SWEEPS: u32 = 2;

/// A swap that would be worth it, but loads a member above its cap: one of that member's neighbours goes elsewhere, if
/// both together are worth it. True if so.
fn make_room(forest: &mut Forest<'_>, graph: &Graph, swap: &Swap, aim: Aim) -> bool {
    if swap.gain.tiers < 0 || swap.gain.excess >= 0 || swap.gain.figure <= swap.threshold {
        return false;
    }
    let full =
        |forest: &Forest<'_>, member: u32| forest.degree(member) >= graph.caps[member as usize];
    let [a, b] = graph.ends[swap.add as usize];
    let crowded: Vec<u32> = [a, b].into_iter().filter(|end| full(forest, *end)).collect();
    let [crowded] = crowded[..] else { return false };
    let wanted = swap.gain.figure - swap.threshold;
    let undo = forest.apply(swap);
    let mut best: Option<Swap> = None;
    let neighbours: Vec<u32> = forest.edges_of(crowded).filter(|edge| *edge != swap.add).collect();
    for edge in neighbours {
        let neighbour = graph.other(edge, crowded);
        for add in graph.of(neighbour) {
            let other = graph.other(*add, neighbour);
            if forest.is_edge(*add) || full(forest, other) {
                continue;
            }
            let Some(next) = forest.swap_for(*add, edge, aim) else { continue };
            let is_allowed = next.gain.tiers >= 0 && next.gain.excess > 0;
            let loss = next.threshold - next.gain.figure;
            if is_allowed
                && loss < wanted
                && best.as_ref().is_none_or(|best| loss < best.threshold - best.gain.figure)
            {
                best = Some(next);
            }
        }
    }
    match best {
        Some(next) => drop(forest.apply(&next)),
        None => drop(forest.apply(&undo)),
    }
    best.is_some()
}

/// Where to grow trees from: the members that are near to all, at most `count`; those that can relay first.
pub(super) fn roots(graph: &Graph, count: usize) -> Vec<u32> {
    let members = graph.members();
    let mut closeness = vec![0_u64; members];
    let step = (members / PIVOTS).max(1);
    for pivot in (0..members).step_by(step).take(PIVOTS) {
        #[expect(clippy::cast_possible_truncation, reason = "members are fewer than 2^32")]
        let distances = growth::distances(graph, pivot as u32, u8::MAX);
        for (sum, distance) in closeness.iter_mut().zip(distances) {
            *sum = sum.saturating_add(distance.unwrap_or(FAR_US));
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "members are fewer than 2^32")]
    let mut order: Vec<u32> = (0..members as u32).collect();
    order.sort_by_key(|member| (graph.caps[*member as usize] <= 1, closeness[*member as usize]));
    order.truncate(count);
    order
}

/// How far members are from so many tells how far they are from all (Eppstein and Wang, SODA 2001).
const PIVOTS: usize = 16;

/// What counts for a member that cannot be reached, in microseconds.
const FAR_US: u64 = 1 << 40;

/// Disturbs a forest by some random swaps and descends again, always from the best so far (iterated local search:
/// Lourenço, Martin and Stützle, 2003). `progress` goes from 0 to 1, where the search ends; it is told the steps that were
/// done since it was asked last.
pub(super) fn improve<'a>(
    forest: Forest<'a>,
    graph: &'a Graph,
    aim: Aim,
    progress: &mut dyn FnMut(u64) -> f64,
) -> Forest<'a> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut best = forest;
    let mut worth_of_best = worth(&best, aim);
    let mut current = best.clone();
    let mut done = 0;
    while progress(done) < 1.0 && graph.channels() >= graph.members() {
        let before = current.steps;
        let mut changed = vec![0; graph.members()];
        for _ in 0..rng.random_range(1..=DISTURBED) {
            if let Some(swap) = current.random_swap(&mut rng) {
                current.on_cycle().for_each(|member| changed[member as usize] = FULL_SWEEPS + 1);
                current.apply(&swap);
            }
        }
        descend_from(&mut current, graph, aim, u64::MAX / 2, changed);
        // Each round costs some steps, so that the search ends though nothing can be tried; and the copy.
        done = current.steps - before + (graph.channels() / 8) as u64;
        let own = worth(&current, aim);
        if own < worth_of_best {
            worth_of_best = own;
            best.clone_from(&current);
        } else {
            current.clone_from(&best);
        }
    }
    best
}

#[expect(clippy::cast_precision_loss, reason = "steps are fewer than 2^53")]
const fn figure(number: u64) -> f64 {
    number as f64
}

/// So many random swaps disturb a forest at most.
const DISTURBED: u32 = 6;
