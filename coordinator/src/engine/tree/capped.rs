//! A spanning forest under fan-out caps, made better by swaps of one edge for another of the same
//! tier. The number of edges of each tier, which Kruskal's algorithm has made least, stays.

use std::collections::VecDeque;

use super::{Channel, View};

/// Blocked swaps that are tried with a swap before them, for each edge that is too many.
const DETOURS: usize = 16;

/// How many swaps in a row make room for one another.
const DEPTH: usize = 3;

/// A forest while it is worked on. Each step is one look at a channel.
#[derive(Clone)]
pub(super) struct Forest<'a> {
    view: &'a View,
    weights: &'a [i64],
    /// For each member its channels.
    incident: Vec<Vec<usize>>,
    /// For each member those of them that are edges.
    edges: Vec<Vec<usize>>,
    chosen: Vec<bool>,
    /// Swaps made, so that they can be taken back.
    log: Vec<Swap>,
    steps: u64,
}

/// A swap: `drop` is an edge, `take` is not.
#[derive(Clone, Copy)]
struct Swap {
    drop: usize,
    take: usize,
    gain: i64,
}

impl<'a> Forest<'a> {
    /// Starts from `edges`, which must be a spanning forest.
    pub(super) fn new(view: &'a View, weights: &'a [i64], edges: &[usize], steps: u64) -> Self {
        let mut incident = vec![Vec::new(); view.caps.len()];
        for (position, channel) in view.channels.iter().enumerate() {
            for end in [channel.low, channel.high] {
                if let Some(list) = incident.get_mut(end) {
                    list.push(position);
                }
            }
        }
        let mut forest = Self {
            view,
            weights,
            incident,
            edges: vec![Vec::new(); view.caps.len()],
            chosen: vec![false; view.channels.len()],
            log: Vec::new(),
            steps,
        };
        for edge in edges {
            forest.set(*edge, true);
        }
        forest
    }

    /// The edges, rising.
    pub(super) fn into_edges(self) -> Vec<usize> {
        let edges = self.chosen.iter().enumerate();
        edges.filter(|(_, chosen)| **chosen).map(|(position, _)| position).collect()
    }

    pub(super) fn steps_left(&self) -> u64 {
        self.steps
    }

    /// How many edges are too many, over all members.
    pub(super) fn excess(&self) -> u64 {
        (0..self.edges.len()).map(|member| self.room(member).min(0).unsigned_abs()).sum()
    }

    /// The sum of the edges' weights.
    pub(super) fn weight(&self) -> i64 {
        let edges = self.chosen.iter().zip(self.weights);
        edges.filter(|(chosen, _)| **chosen).fold(0, |sum, (_, weight)| sum.saturating_add(*weight))
    }

    /// Removes edges that are too many, as far as that is possible within the steps.
    pub(super) fn relieve_all(&mut self) {
        loop {
            let mut has_changed = false;
            for member in 0..self.edges.len() {
                while self.room(member) < 0 && self.relieve(member, DEPTH, &mut Vec::new()) {
                    has_changed = true;
                }
            }
            if !has_changed || self.steps == 0 {
                return;
            }
        }
    }

    /// Makes single swaps that lower the weight and add no excess, until there is none.
    pub(super) fn improve(&mut self) {
        let mut order: Vec<usize> = (0..self.view.channels.len()).collect();
        order.sort_by_key(|position| self.weight_of(*position));
        let mut rooted = Rooted::new(self);
        loop {
            let mut has_changed = false;
            for take in &order {
                if self.steps == 0 {
                    return;
                }
                if let Some(swap) = self.best_on_cycle(&rooted, *take) {
                    self.apply(swap);
                    rooted = Rooted::new(self);
                    self.spend(self.edges.len());
                    has_changed = true;
                }
            }
            if !has_changed {
                return;
            }
        }
    }

    /// The edge whose place `take` had best have, if that lowers the weight.
    fn best_on_cycle(&mut self, rooted: &Rooted, take: usize) -> Option<Swap> {
        let channel = *self.view.channels.get(take)?;
        if self.is_chosen(take) {
            return None;
        }
        let (mut a, mut b) = (channel.low, channel.high);
        let mut best: Option<Swap> = None;
        while a != b {
            self.spend(1);
            let (up, drop) = if rooted.depth(a) >= rooted.depth(b) {
                let (up, drop) = rooted.above(a)?;
                a = up;
                (up, drop)
            } else {
                let (up, drop) = rooted.above(b)?;
                b = up;
                (up, drop)
            };
            debug_assert!(up < self.edges.len(), "parents are members");
            let swap = self.swap(drop, take);
            let adds_excess = [channel.low, channel.high].into_iter().any(|end| {
                let is_kept = self.view.channels.get(drop).is_none_or(|edge| !touches(edge, end));
                is_kept && self.room(end) <= 0
            });
            if self.tier(drop) == Some(channel.tier)
                && !adds_excess
                && swap.gain > best.map_or(0, |best| best.gain)
            {
                best = Some(swap);
            }
        }
        best
    }

    /// Takes one edge from `member` by a swap that gives nobody too many; `locked` members get
    /// none. Up to `depth` further swaps make room for it.
    fn relieve(&mut self, member: usize, depth: usize, locked: &mut Vec<usize>) -> bool {
        let mut best: Option<Swap> = None;
        let mut blocked: Vec<Swap> = Vec::new();
        for drop in self.edges_of(member) {
            for take in self.replacements(drop) {
                if self.touches_any(take, member, locked) {
                    continue;
                }
                let swap = self.swap(drop, take);
                if self.blockers(swap).is_empty() {
                    if best.is_none_or(|best| swap.gain > best.gain) {
                        best = Some(swap);
                    }
                } else if depth > 0 {
                    blocked.push(swap);
                }
            }
        }
        if let Some(swap) = best {
            self.apply(swap);
            return true;
        }
        blocked.sort_by_key(|swap| (std::cmp::Reverse(swap.gain), swap.drop, swap.take));
        locked.push(member);
        let mut is_relieved = false;
        for swap in blocked.into_iter().take(DETOURS) {
            if self.steps == 0 {
                break;
            }
            let before = self.log.len();
            let has_room = self.blockers(swap).into_iter().all(|blocker| {
                !locked.contains(&blocker) && self.relieve(blocker, depth - 1, locked)
            });
            if has_room
                && self.is_chosen(swap.drop)
                && !self.is_chosen(swap.take)
                && self.blockers(swap).is_empty()
                && self.replacements(swap.drop).contains(&swap.take)
            {
                self.apply(swap);
                is_relieved = true;
                break;
            }
            self.undo_to(before);
        }
        locked.pop();
        is_relieved
    }

    /// Channels of the same tier that join what is left without the edge `drop`.
    fn replacements(&mut self, drop: usize) -> Vec<usize> {
        let Some(edge) = self.view.channels.get(drop).copied() else { return Vec::new() };
        // One side of the cut: the one that is walked through first, both at the same pace.
        let mut walks = [edge.low, edge.high].map(|start| (VecDeque::from([start]), vec![start]));
        let mut is_seen = vec![0_u8; self.edges.len()];
        self.spend(self.edges.len() / 64);
        for (mark, start) in [(1, edge.low), (2, edge.high)] {
            if let Some(seen) = is_seen.get_mut(start) {
                *seen = mark;
            }
        }
        let (mark, side) = 'walk: loop {
            for (mark, (queue, side)) in [1_u8, 2].into_iter().zip(&mut walks) {
                let Some(member) = queue.pop_front() else {
                    break 'walk (mark, std::mem::take(side));
                };
                let edges = self.edges.get(member).map(Vec::as_slice).unwrap_or_default();
                self.steps = self.steps.saturating_sub(edges.len() as u64);
                for next in edges.iter().filter(|next| **next != drop) {
                    let Some(end) = self.view.channels.get(*next).map(|c| other(c, member)) else {
                        continue;
                    };
                    if let Some(seen) = is_seen.get_mut(end)
                        && *seen == 0
                    {
                        *seen = mark;
                        queue.push_back(end);
                        side.push(end);
                    }
                }
            }
        };
        let is_inside = |end: usize| is_seen.get(end) == Some(&mark);
        let mut found = Vec::new();
        for member in side {
            let channels = self.incident.get(member).map(Vec::as_slice).unwrap_or_default();
            self.steps = self.steps.saturating_sub(channels.len() as u64);
            found.extend(channels.iter().copied().filter(|position| {
                *position != drop
                    && self.view.channels.get(*position).is_some_and(|channel| {
                        channel.tier == edge.tier && !is_inside(other(channel, member))
                    })
            }));
        }
        found.sort_unstable();
        found
    }

    /// The ends of `swap.take` that have no room for it.
    fn blockers(&self, swap: Swap) -> Vec<usize> {
        let Some(take) = self.view.channels.get(swap.take) else { return Vec::new() };
        let is_freed =
            |end| self.view.channels.get(swap.drop).is_some_and(|edge| touches(edge, end));
        [take.low, take.high]
            .into_iter()
            .filter(|end| self.room(*end) + i64::from(is_freed(*end)) <= 0)
            .collect()
    }

    fn touches_any(&self, position: usize, member: usize, locked: &[usize]) -> bool {
        self.view.channels.get(position).is_none_or(|channel| {
            touches(channel, member) || locked.iter().any(|member| touches(channel, *member))
        })
    }

    fn edges_of(&self, member: usize) -> Vec<usize> {
        self.edges.get(member).cloned().unwrap_or_default()
    }

    /// Edges that a member can still take; negative if it has too many.
    fn room(&self, member: usize) -> i64 {
        let cap = self.view.caps.get(member).copied().map_or(0, i64::from);
        let degree = self.edges.get(member).map_or(0, Vec::len);
        cap - i64::try_from(degree).unwrap_or(i64::MAX)
    }

    fn is_chosen(&self, position: usize) -> bool {
        self.chosen.get(position).is_some_and(|chosen| *chosen)
    }

    fn tier(&self, position: usize) -> Option<super::Tier> {
        self.view.channels.get(position).map(|channel| channel.tier)
    }

    fn weight_of(&self, position: usize) -> i64 {
        self.weights.get(position).copied().unwrap_or(i64::MAX)
    }

    fn swap(&self, drop: usize, take: usize) -> Swap {
        Swap { drop, take, gain: self.weight_of(drop).saturating_sub(self.weight_of(take)) }
    }

    fn apply(&mut self, swap: Swap) {
        self.set(swap.drop, false);
        self.set(swap.take, true);
        self.log.push(swap);
    }

    fn undo_to(&mut self, len: usize) {
        while self.log.len() > len
            && let Some(swap) = self.log.pop()
        {
            self.set(swap.take, false);
            self.set(swap.drop, true);
        }
    }

    fn set(&mut self, position: usize, chosen: bool) {
        let (Some(slot), Some(channel)) =
            (self.chosen.get_mut(position), self.view.channels.get(position))
        else {
            return;
        };
        if *slot == chosen {
            return;
        }
        *slot = chosen;
        for end in [channel.low, channel.high] {
            let Some(edges) = self.edges.get_mut(end) else { continue };
            // Kept in order, so that a swap taken back leaves no trace.
            match edges.binary_search(&position) {
                Ok(at) if !chosen => {
                    edges.remove(at);
                }
                Err(at) if chosen => edges.insert(at, position),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub(steps as u64);
    }
}

fn other(channel: &Channel, end: usize) -> usize {
    if channel.low == end { channel.high } else { channel.low }
}

fn touches(channel: &Channel, end: usize) -> bool {
    channel.low == end || channel.high == end
}

/// The forest hung up at the first member of each part: for paths.
struct Rooted {
    /// The member above, and the edge to it.
    above: Vec<Option<(usize, usize)>>,
    depth: Vec<usize>,
}

impl Rooted {
    fn new(forest: &Forest<'_>) -> Self {
        let count = forest.edges.len();
        let mut rooted = Self { above: vec![None; count], depth: vec![usize::MAX; count] };
        for root in 0..count {
            if rooted.depth(root) != usize::MAX {
                continue;
            }
            rooted.hang(root, None, 0);
            let mut queue = VecDeque::from([root]);
            while let Some(member) = queue.pop_front() {
                for edge in forest.edges_of(member) {
                    let Some(channel) = forest.view.channels.get(edge) else { continue };
                    let below = other(channel, member);
                    if rooted.depth(below) == usize::MAX {
                        rooted.hang(below, Some((member, edge)), rooted.depth(member) + 1);
                        queue.push_back(below);
                    }
                }
            }
        }
        rooted
    }

    fn hang(&mut self, member: usize, above: Option<(usize, usize)>, depth: usize) {
        if let (Some(slot), Some(own)) = (self.above.get_mut(member), self.depth.get_mut(member)) {
            *slot = above;
            *own = depth;
        }
    }

    fn above(&self, member: usize) -> Option<(usize, usize)> {
        self.above.get(member).copied().flatten()
    }

    fn depth(&self, member: usize) -> usize {
        self.depth.get(member).copied().unwrap_or(usize::MAX)
    }
}
