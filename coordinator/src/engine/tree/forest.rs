//! A spanning forest, and what it would gain by swapping one of its edges for another channel.
//!
//! With the forest rooted anywhere each member keeps the weight below it and the sum of distances to what is there; then
//! one walk along the cycle that a channel closes prices the drop of each of its edges, and carrying a swap out touches
//! that cycle and the ways to the root alone.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::graph::{Graph, NONE};

/// So often a random channel is drawn that is no edge.
const TRIES: u32 = 16;

/// What a search wants besides the fewest bad edges and nobody above its cap, which always come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// The least sum of distances over all pairs of members, each pair as often as its weights' product.
    RoutingCost,
    /// The least sum of the edges' costs.
    Total,
}

/// What a swap gains. More is better; the first difference counts.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(super) struct Gain {
    /// By how many tiers the new edge is better than the old one.
    pub(super) tiers: i16,
    /// By how many edges members are less above their caps.
    pub(super) excess: i32,
    /// By how much the aim's figure falls.
    pub(super) figure: f64,
}

/// A channel comes in, and the edge above a member goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swap {
    /// The channel.
    pub(super) add: u32,
    /// The member whose edge to its parent goes.
    pub(super) below: u32,
    /// The end of the channel on that member's side.
    inside: u32,
    pub(super) gain: Gain,
    /// Above this the figure's gain is worth it.
    pub(super) threshold: f64,
}

impl Swap {
    /// Whether the forest is better with it.
    pub(super) fn is_worth_it(&self) -> bool {
        let Gain { tiers, excess, figure } = self.gain;
        tiers > 0 || tiers == 0 && (excess > 0 || excess == 0 && figure > self.threshold)
    }
}

/// Edges of a graph without cycles.
#[derive(Clone, Debug)]
pub(super) struct Forest<'a> {
    graph: &'a Graph,
    parent: Vec<u32>,
    /// The channel to the parent.
    above: Vec<u32>,
    /// The weight of a member and all below it.
    size: Vec<f64>,
    /// The sum of the distances to them, each as often as its weight.
    down: Vec<f64>,
    degree: Vec<u32>,
    is_edge: Vec<bool>,
    /// The forest was walked so often.
    walks: u32,
    /// In which walk a member was seen last.
    seen: Vec<u32>,
    /// From each end of a channel upwards, with the sum of distances from there to all.
    ways: [Vec<(u32, f64)>; 2],
    /// Edges in force are kept from falling for little.
    pub(super) is_calm: bool,
    /// Swaps are for caps alone, whatever the aim.
    pub(super) is_relief: bool,
    /// Members on ways that were walked.
    pub(super) steps: u64,
}

impl<'a> Forest<'a> {
    /// The forest of these channels, which close no cycle; each part hangs from the first of `roots` in it, or else
    /// from its first member.
    pub(super) fn new(graph: &'a Graph, edges: &[u32], roots: &[u32]) -> Self {
        let members = graph.members();
        let mut forest = Self {
            graph,
            parent: vec![NONE; members],
            above: vec![NONE; members],
            size: graph.weight.clone(),
            down: vec![0.0; members],
            degree: vec![0; members],
            is_edge: vec![false; graph.channels()],
            walks: 0,
            seen: vec![0; members],
            ways: [Vec::new(), Vec::new()],
            is_calm: false,
            is_relief: false,
            steps: 0,
        };
        for edge in edges {
            forest.is_edge[*edge as usize] = true;
            for end in graph.ends[*edge as usize] {
                forest.degree[end as usize] += 1;
            }
        }
        let mut order = Vec::with_capacity(members);
        let mut is_in = vec![false; members];
        let all = 0..u32::try_from(members).unwrap_or(NONE);
        for root in roots.iter().copied().chain(all) {
            if std::mem::replace(&mut is_in[root as usize], true) {
                continue;
            }
            let begin = order.len();
            order.push(root);
            let mut at = begin;
            while let Some(member) = order.get(at).copied() {
                at += 1;
                for channel in graph.of(member) {
                    let other = graph.other(*channel, member);
                    if forest.is_edge[*channel as usize]
                        && !std::mem::replace(&mut is_in[other as usize], true)
                    {
                        forest.parent[other as usize] = member;
                        forest.above[other as usize] = *channel;
                        order.push(other);
                    }
                }
            }
        }
        for member in order.into_iter().rev() {
            let (parent, at) = (forest.parent[member as usize], member as usize);
            if parent != NONE {
                let more = forest.down[at] + forest.size[at] * forest.cost_above(member);
                forest.size[parent as usize] += forest.size[at];
                forest.down[parent as usize] += more;
            }
        }
        forest
    }

    fn cost_above(&self, member: u32) -> f64 {
        self.graph.cost[self.above[member as usize] as usize]
    }

    /// The edges, by their positions.
    pub(super) fn edges(&self) -> Vec<usize> {
        (0..self.is_edge.len()).filter(|channel| self.is_edge[*channel]).collect()
    }

    pub(super) fn is_edge(&self, channel: u32) -> bool {
        self.is_edge[channel as usize]
    }

    pub(super) fn degree(&self, member: u32) -> u32 {
        self.degree[member as usize]
    }

    /// The edges of a member.
    pub(super) fn edges_of(&self, member: u32) -> impl Iterator<Item = u32> + '_ {
        self.graph.of(member).iter().copied().filter(|channel| self.is_edge(*channel))
    }

    /// Whether no member has as many edges as it may.
    pub(super) fn is_uncapped(&self) -> bool {
        self.degree.iter().zip(&self.graph.caps).all(|(degree, cap)| degree < cap)
    }

    /// By how many edges members are above their caps.
    pub(super) fn excess(&self) -> u32 {
        let over = |(degree, cap): (&u32, &u32)| degree.saturating_sub(*cap);
        self.degree.iter().zip(&self.graph.caps).map(over).sum()
    }

    /// Edges of each tier, the worst first.
    pub(super) fn ranks(&self) -> Vec<usize> {
        let mut ranks = vec![0; super::Tier::ALL.len()];
        for channel in self.edges() {
            let last = ranks.len() - 1;
            ranks[last - usize::from(self.graph.rank[channel])] += 1;
        }
        ranks
    }

    /// The aim's figure: what swaps make less.
    pub(super) fn figure(&self, aim: Aim) -> f64 {
        let members = 0..self.parent.len();
        let below = members.filter(|member| self.parent[*member] != NONE);
        let cost = |member: usize| self.graph.cost[self.above[member] as usize];
        match aim {
            Aim::Total => below.map(cost).sum(),
            Aim::RoutingCost => {
                let whole = self.wholes();
                below.map(|at| self.size[at] * (whole[at] - self.size[at]) * cost(at)).sum()
            }
        }
    }

    /// What the edges that are not in `other` had to gain to be dropped, all together.
    pub(super) fn stakes(&self, other: &Self, aim: Aim) -> f64 {
        let whole = self.wholes();
        let below = (0..self.parent.len()).filter(|member| self.parent[*member] != NONE);
        let dropped = below.filter(|member| !other.is_edge(self.above[*member]));
        let stake = |at: usize| {
            let pairs = match aim {
                Aim::RoutingCost => self.size[at] * (whole[at] - self.size[at]),
                Aim::Total => 1.0,
            };
            self.graph.threshold[self.above[at] as usize] * pairs
        };
        dropped.map(stake).sum()
    }

    /// The weight of the part that each member is in.
    fn wholes(&self) -> Vec<f64> {
        let mut wholes = vec![0.0; self.parent.len()];
        let mut way = Vec::new();
        for member in 0..self.parent.len() {
            let mut at = member;
            while wholes[at] == 0.0 && self.parent[at] != NONE {
                way.push(at);
                at = self.parent[at] as usize;
            }
            let whole = if wholes[at] == 0.0 { self.size[at] } else { wholes[at] };
            wholes[at] = whole;
            way.drain(..).for_each(|at| wholes[at] = whole);
        }
        wholes
    }

    /// The best edge to drop for a channel that is none; `None` where its ends are in different parts.
    pub(super) fn best_swap(&mut self, add: u32, aim: Aim) -> Option<Swap> {
        self.price(add, None, aim)
    }

    /// The swap of an edge for a channel that is none; `None` where the edge is not on the cycle that it closes.
    pub(super) fn swap_for(&mut self, add: u32, edge: u32, aim: Aim) -> Option<Swap> {
        self.price(add, Some(edge), aim)
    }

    /// The members on the cycle that was priced last.
    pub(super) fn on_cycle(&self) -> impl Iterator<Item = u32> + '_ {
        self.ways.iter().flatten().map(|(member, _)| *member)
    }

    /// A swap that makes nothing worse but the figure; `None` if that was not found at once.
    pub(super) fn random_swap(&mut self, rng: &mut ChaCha8Rng) -> Option<Swap> {
        let channels = u32::try_from(self.is_edge.len()).unwrap_or(NONE);
        let add =
            (0..TRIES).map(|_| rng.random_range(0..channels)).find(|add| !self.is_edge(*add))?;
        self.walk(add)?;
        let tops: Vec<u32> = self
            .ways
            .iter()
            .flat_map(|way| way.iter().take(way.len().saturating_sub(1)))
            .map(|(member, _)| *member)
            .collect();
        let edge = self.above[*tops.get(rng.random_range(0..tops.len().max(1)))? as usize];
        let swap = self.swap_for(add, edge, Aim::RoutingCost)?;
        (swap.gain.tiers >= 0 && swap.gain.excess >= 0).then_some(swap)
    }

    fn price(&mut self, add: u32, only: Option<u32>, aim: Aim) -> Option<Swap> {
        let (length, whole) = self.walk(add)?;
        let [a, b] = self.graph.ends[add as usize];
        let mut best: Option<Swap> = None;
        for (side, inside) in [a, b].into_iter().enumerate() {
            let swap = self.best_on(side, (add, inside), only, (length, whole), aim);
            best = match (best, swap) {
                (Some(one), Some(two)) if !is_better(&two, &one) => Some(one),
                (one, two) => two.or(one),
            };
        }
        best
    }

    /// Walks the cycle that a channel closes: fills `ways` with both halves, each up to where they meet and that
    /// member included; gives the cycle's length without the channel, and the weight of the part.
    fn walk(&mut self, add: u32) -> Option<(f64, f64)> {
        let [a, b] = self.graph.ends[add as usize];
        self.walks += 1;
        let [mut one, mut two] = std::mem::take(&mut self.ways);
        one.clear();
        two.clear();
        let mut member = a;
        while member != NONE {
            self.seen[member as usize] = self.walks;
            one.push((member, 0.0));
            member = self.parent[member as usize];
        }
        let mut member = b;
        while member != NONE && self.seen[member as usize] != self.walks {
            two.push((member, 0.0));
            member = self.parent[member as usize];
        }
        self.steps += (one.len() + two.len()) as u64;
        let fork = member;
        let mut length = 0.0;
        let mut whole = 0.0;
        if fork != NONE {
            if let Some((root, sum)) = one.last_mut() {
                *sum = self.down[*root as usize];
                whole = self.size[*root as usize];
            }
            for at in (1..one.len()).rev() {
                let (member, above) = (one[at - 1].0, one[at].1);
                one[at - 1].1 = above + self.outward(member, whole);
            }
            while one.last().is_some_and(|(member, _)| *member != fork) {
                one.pop();
            }
            let mut sum = one.last().map_or(0.0, |(_, sum)| *sum);
            two.push((fork, sum));
            for (member, out) in two.iter_mut().rev().skip(1) {
                sum += self.outward(*member, whole);
                *out = sum;
            }
            for way in [&one, &two] {
                let below = way.iter().take(way.len() - 1);
                length += below.map(|(member, _)| self.cost_above(*member)).sum::<f64>();
            }
        }
        self.ways = [one, two];
        (fork != NONE).then_some((length, whole))
    }

    /// How much farther all are from a member than from its parent, in sum.
    fn outward(&self, member: u32, whole: f64) -> f64 {
        (whole - 2.0 * self.size[member as usize]) * self.cost_above(member)
    }

    /// The best edge to drop on one half of the cycle: that between a member on it and its parent.
    fn best_on(
        &self,
        side: usize,
        (add, inside): (u32, u32),
        only: Option<u32>,
        (length, whole): (f64, f64),
        aim: Aim,
    ) -> Option<Swap> {
        let (own, others) = (&self.ways[side], &self.ways[1 - side]);
        let far = others.first()?;
        let cost = self.graph.cost[add as usize];
        let mut best: Option<Swap> = None;
        // Of the part that is cut off: the sum of distances from `inside`, and from there to its top.
        let (mut sum, mut up) = (0.0, 0.0);
        for (at, window) in own.windows(2).enumerate() {
            let [(top, _), (parent, parent_sum)] = *window else { continue };
            let t = top as usize;
            match at.checked_sub(1).and_then(|before| own.get(before)) {
                None => sum = self.down[t],
                Some((before, _)) => {
                    let b = *before as usize;
                    let hanging = self.size[t] - self.size[b];
                    let its_down =
                        self.down[t] - self.down[b] - self.size[b] * self.cost_above(*before);
                    sum += its_down + hanging * up;
                }
            }
            let (s, over) = (self.size[t], self.cost_above(top));
            let edge = self.above[t];
            let figure = match aim {
                Aim::Total => over - cost,
                Aim::RoutingCost => {
                    let from_far = far.1 - (self.down[t] + s * (length - up));
                    let from_parent = parent_sum - (self.down[t] + s * over);
                    -(s * (whole - s) * (cost - over)
                        + (whole - s) * (sum - self.down[t])
                        + s * (from_far - from_parent))
                }
            };
            let pairs = if aim == Aim::RoutingCost { s * (whole - s) } else { 1.0 };
            let swap = Swap {
                add,
                below: top,
                inside,
                gain: Gain {
                    tiers: i16::from(self.graph.rank[edge as usize])
                        - i16::from(self.graph.rank[add as usize]),
                    excess: self.less_excess(inside, far.0, top, parent),
                    figure,
                },
                threshold: self.threshold(edge, pairs),
            };
            let is_asked_for = only.is_none_or(|only| only == edge);
            if is_asked_for && best.as_ref().is_none_or(|best| is_better(&swap, best)) {
                best = Some(swap);
            }
            up += over;
        }
        best
    }

    fn threshold(&self, edge: u32, pairs: f64) -> f64 {
        if self.is_relief {
            return f64::INFINITY;
        }
        let calm = if self.is_calm { self.graph.threshold[edge as usize] * pairs } else { 0.0 };
        // Half a microsecond: figures are whole numbers, so that no two swaps undo each other for ever.
        calm.max(0.5)
    }

    /// By how much members are less above their caps with an edge more at two of them and one less at two others.
    fn less_excess(&self, a: u32, b: u32, c: u32, d: u32) -> i32 {
        let ends = [a, b, c, d];
        let mut less = 0;
        for (at, member) in ends.iter().enumerate() {
            if ends[..at].contains(member) {
                continue;
            }
            let count =
                |of: &[u32]| -> i64 { of.iter().map(|other| i64::from(other == member)).sum() };
            let degree = i64::from(self.degree[*member as usize]);
            let cap = i64::from(self.graph.caps[*member as usize]);
            let after = degree + count(&ends[..2]) - count(&ends[2..]);
            less += (degree - cap).max(0) - (after - cap).max(0);
        }
        i32::try_from(less).unwrap_or_default()
    }

    /// Carries a swap out that was priced for this very forest. Gives the one that takes it back.
    pub(super) fn apply(&mut self, swap: &Swap) -> Swap {
        let outside = self.graph.other(swap.add, swap.inside);
        let (top, old) = (swap.below, self.above[swap.below as usize]);
        let parent = self.parent[top as usize];
        let (size, down) = (self.size[top as usize], self.down[top as usize]);
        self.add_above(parent, self.cost_above(top), -size, -down);
        // The way from the new edge's end to the top of the part is turned round.
        let mut way = vec![swap.inside];
        while let Some(last) = way.last().copied().filter(|last| *last != top) {
            way.push(self.parent[last as usize]);
        }
        self.steps += way.len() as u64;
        let mut below: Option<(f64, f64)> = None;
        for at in (0..way.len()).rev() {
            let m = way[at] as usize;
            let (mut size, mut down) = (self.size[m], self.down[m]);
            let before = at.checked_sub(1).map(|before| way[before]);
            if let Some(before) = before {
                let b = before as usize;
                size -= self.size[b];
                down -= self.down[b] + self.size[b] * self.cost_above(before);
            }
            if let Some((more, further)) = below {
                size += more;
                down += further + more * self.cost_above(way[at]);
            }
            below = Some((size, down));
            (self.size[m], self.down[m]) = (size, down);
            // Its own edge upwards is that of the member above it from now on.
            if let Some(next) = way.get(at + 1) {
                self.parent[*next as usize] = way[at];
                self.above[*next as usize] = self.above[m];
            }
        }
        let inside = swap.inside as usize;
        self.parent[inside] = outside;
        self.above[inside] = swap.add;
        let (size, down) = (self.size[inside], self.down[inside]);
        self.add_above(outside, self.graph.cost[swap.add as usize], size, down);
        for (channel, is_edge) in [(old, false), (swap.add, true)] {
            self.is_edge[channel as usize] = is_edge;
            for end in self.graph.ends[channel as usize] {
                let degree = &mut self.degree[end as usize];
                *degree = if is_edge { *degree + 1 } else { *degree - 1 };
            }
        }
        let gain = Gain { tiers: 0, excess: 0, figure: 0.0 };
        Swap { add: old, below: swap.inside, inside: top, gain, threshold: 0.0 }
    }

    /// A part of that weight, with that sum of distances from its top, hangs from a member over an edge of that cost.
    fn add_above(&mut self, member: u32, cost: f64, size: f64, down: f64) {
        let (mut member, mut way) = (member, cost);
        while member != NONE {
            let at = member as usize;
            self.size[at] += size;
            self.down[at] += down + size * way;
            self.steps += 1;
            if self.parent[at] == NONE {
                return;
            }
            way += self.cost_above(member);
            member = self.parent[at];
        }
    }
}

/// Whether one swap gains more than another for the same channel. One that keeps what is in force from falling for
/// little is better than one that does not: only what is above the threshold counts.
fn is_better(one: &Swap, two: &Swap) -> bool {
    let gain = |swap: &Swap| Gain { figure: swap.gain.figure - swap.threshold, ..swap.gain };
    gain(one) > gain(two)
}
