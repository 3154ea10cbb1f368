//! Small graphs: a spanning forest within all caps by going through all of them, cheapest first.

use petgraph::unionfind::UnionFind;

use super::{Tier, View};

/// Larger graphs are left to the swaps: the steps would run out before anything is found.
const MEMBERS: usize = 16;

/// Enough for nearly every graph of that size; where caps cannot be kept at all, they are spent
/// each time for nothing.
const STEPS: u64 = 200_000;

/// A spanning forest within all caps, with as few poor and relayed channels as can be. `None` if
/// there is none, or none was found within the steps.
pub(super) fn search(view: &View, weights: &[i64], steps: u64) -> Option<Vec<usize>> {
    if view.caps.len() > MEMBERS {
        return None;
    }
    let mut order: Vec<usize> = (0..view.channels.len()).collect();
    order.sort_by_key(|position| {
        (view.channels.get(*position).map(|channel| channel.tier), weights.get(*position).copied())
    });
    let targets = Tier::ALL.map(|tier| {
        let channels = view.channels.iter().filter(|channel| channel.tier <= tier);
        parts(view, channels.map(|channel| (channel.low, channel.high)))
    });
    let mut search = Search {
        view,
        order,
        targets,
        steps: steps.min(STEPS),
        chosen: Vec::new(),
        free: view.caps.clone(),
    };
    search.from(0).then(|| {
        search.chosen.sort_unstable();
        search.chosen
    })
}

/// How many parts the members are in.
fn parts(view: &View, edges: impl Iterator<Item = (usize, usize)>) -> usize {
    let mut sets = UnionFind::<usize>::new(view.caps.len());
    edges.fold(view.caps.len(), |parts, (a, b)| {
        parts - usize::from(sets.try_union(a, b).is_ok_and(|joined| joined))
    })
}

struct Search<'a> {
    view: &'a View,
    order: Vec<usize>,
    /// For each tier the number of parts that channels up to it leave.
    targets: [usize; Tier::ALL.len()],
    steps: u64,
    chosen: Vec<usize>,
    /// Edges that each member can still take.
    free: Vec<u32>,
}

impl Search<'_> {
    /// Decides on the channels from position `at` of the order. At most as deep as a graph of
    /// [`MEMBERS`] has channels: 120.
    fn from(&mut self, at: usize) -> bool {
        let Some(left) = self.steps.checked_sub(self.order.len() as u64 + 1) else { return false };
        self.steps = left;
        if !self.can_span(at) {
            return false;
        }
        let Some(position) = self.order.get(at).copied() else { return true };
        if self.take(position) {
            if self.from(at + 1) {
                return true;
            }
            self.put_back(position);
        }
        self.from(at + 1)
    }

    /// Whether what is chosen, with all that is left to decide on, spans each tier's parts.
    fn can_span(&self, at: usize) -> bool {
        let edges = self.view.caps.len() - self.targets.last().copied().unwrap_or(0);
        let slots: u64 = self.free.iter().map(|free| u64::from(*free)).sum();
        if slots < 2 * (edges - self.chosen.len().min(edges)) as u64 {
            return false;
        }
        let rest = self.order.get(at..).unwrap_or_default();
        let is_free = |end: &usize| self.free.get(*end).is_some_and(|free| *free > 0);
        Tier::ALL.iter().zip(self.targets).all(|(tier, target)| {
            let channel = |position: &usize| self.view.channels.get(*position);
            let chosen = self.chosen.iter().filter_map(channel);
            let open = rest
                .iter()
                .filter_map(channel)
                .filter(|channel| is_free(&channel.low) && is_free(&channel.high));
            let ends = chosen
                .chain(open)
                .filter(|channel| channel.tier <= *tier)
                .map(|channel| (channel.low, channel.high));
            parts(self.view, ends) == target
        })
    }

    /// Chooses a channel if it closes no cycle and both ends are free.
    fn take(&mut self, position: usize) -> bool {
        let Some(channel) = self.view.channels.get(position) else { return false };
        let ends = self
            .chosen
            .iter()
            .chain([&position])
            .filter_map(|position| self.view.channels.get(*position))
            .map(|channel| (channel.low, channel.high));
        let has_cycle = parts(self.view, ends) + self.chosen.len() + 1 != self.view.caps.len();
        let ends = [channel.low, channel.high];
        if has_cycle || ends.iter().any(|end| self.free.get(*end).is_none_or(|free| *free == 0)) {
            return false;
        }
        for end in ends {
            if let Some(free) = self.free.get_mut(end) {
                *free -= 1;
            }
        }
        self.chosen.push(position);
        true
    }

    fn put_back(&mut self, position: usize) {
        self.chosen.pop();
        if let Some(channel) = self.view.channels.get(position) {
            for end in [channel.low, channel.high] {
                if let Some(free) = self.free.get_mut(end) {
                    *free += 1;
                }
            }
        }
    }
}
