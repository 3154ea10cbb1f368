//! From the channel graph to the edges of the relay tree (R2): a function of its arguments and
//! nothing else, no clock and no randomness, so that every machine comes to the same tree.

use std::cmp::Ordering;

use petgraph::{algo::min_spanning_tree, data::Element, graph::UnGraph};
use serde::{Deserialize, Serialize};

use forest::{Aim, Forest};
use graph::Graph;

mod diameter;
mod forest;
mod graph;
mod growth;
mod search;

/// How a tree is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Least sum of delays over all pairs of members: a spanning tree of minimum routing cost, as far as it is found
    /// (to find the least is NP-hard; Wu et al., SIAM J. Comput. 2000).
    #[default]
    RoutingCost,
    /// Least sum of costs: a minimum spanning tree.
    Mst,
    /// The shortest-path tree of the root with which all pairs are nearest (at most twice the least: Wong, 1980).
    Spt,
    /// Least delay between the two members that are farthest apart (Hassin and Tamir, IPL 1995).
    MinDiameter,
    /// The narrowest edge as wide as can be, then as by default.
    Widest,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RoutingCost, Self::Mst, Self::Spt, Self::MinDiameter, Self::Widest];

    /// Its name in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoutingCost => "routing-cost",
            Self::Mst => "mst",
            Self::Spt => "spt",
            Self::MinDiameter => "min-diameter",
            Self::Widest => "widest",
        }
    }
}

/// How much a channel is to be avoided, whatever it costs. Worse ones come in only where better
/// ones leave members apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Direct, and good enough for the session.
    Good,
    /// Direct, but too lossy or too narrow.
    Poor,
    /// Over a circuit, which loads a third machine.
    Relayed,
    /// One end alone says that there is such a channel.
    OneSided,
    /// It carried nothing when it was tried lately.
    HeldDown,
}

impl Tier {
    /// All of them, best first.
    pub const ALL: [Self; 5] =
        [Self::Good, Self::Poor, Self::Relayed, Self::OneSided, Self::HeldDown];
}

/// One channel, between members given by their positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    /// The end with the lower position.
    pub low: usize,
    /// The end with the higher one.
    pub high: usize,
    /// How much it is to be avoided.
    pub tier: Tier,
    /// What it adds to the delay of a path, in microseconds.
    pub cost_us: u64,
    /// How much of that may be chance, in microseconds.
    pub noise_us: u64,
    /// How wide it is, in kbit/s, as far as that is known.
    pub width_kbps: Option<u32>,
    /// If it is an edge of the tree in force: its tier when that was computed.
    pub in_force: Option<Tier>,
}

/// A channel graph. Positions follow the order of member ids, so that ties fall the same way
/// whatever the order of reports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// For each member the most edges it will have, at least 1.
    pub caps: Vec<u32>,
    /// A member whose distances weigh as much as those of all others together.
    pub main: Option<usize>,
    /// In order of (low, high), each pair once, low < high < `caps.len()`.
    pub channels: Vec<Channel>,
}

/// How a computation weighs and when it gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// A healthy edge in force gives way only for a gain of more than this, in microseconds...
    pub hysteresis_us: u64,
    /// ...and of more than this share of its cost, in percent; each beside what may be chance.
    pub hysteresis_percent: u64,
    /// Steps that may be taken to keep caps.
    pub steps: u64,
    /// The tree in force is only to be made whole, and better nearby: soon, and few edges change.
    pub is_repair: bool,
}

impl Settings {
    /// What has to be gained for dropping a channel, in microseconds: nothing if it is no healthy edge in force.
    pub(crate) fn threshold(&self, channel: &Channel) -> u64 {
        // An edge that has become worse since it was chosen has no such advantage.
        if channel.in_force.is_none_or(|was| channel.tier > was) {
            return 0;
        }
        let share = channel.cost_us / 100 * self.hysteresis_percent;
        share.max(self.hysteresis_us).saturating_add(channel.noise_us)
    }
}

/// The channels that make up the tree, as positions in `view.channels`, rising.
///
/// In strict order: every connected part of the graph stays whole and without cycles; fewest channels
/// of the worst tier, then of the next better one, and so on (with [`Strategy::Spt`] and [`Strategy::MinDiameter`]: none
/// of a worse tier than it takes to keep parts whole); nobody above its cap, unless no way was found within the steps; the
/// strategy's own aim; few edges others than in force.
///
/// # Panics
/// If the view is not as [`View`] says.
#[must_use]
pub fn compute(strategy: Strategy, view: &View, settings: &Settings) -> Vec<usize> {
    let graph = Graph::new(view, settings);
    match strategy {
        Strategy::RoutingCost => {
            calm(view, &graph, settings, Aim::RoutingCost, || search::fresh(&graph, settings.steps))
        }
        Strategy::Mst => {
            let fresh = Forest::new(&graph, &spanning_tree(view, settings), &[]);
            if fresh.excess() == 0 {
                return fresh.edges();
            }
            calm(view, &graph, settings, Aim::Total, || {
                search::relieve(fresh, &graph, Aim::Total, settings.steps)
            })
        }
        Strategy::Spt => {
            let limit = needed_rank(view);
            let mut tree = search::shortest_paths(&graph, limit, settings.steps);
            tree.is_relief = true;
            search::relieve(tree, &graph, Aim::RoutingCost, settings.steps).edges()
        }
        Strategy::MinDiameter => {
            let tree = diameter::compute(&graph, needed_rank(view));
            let mut tree = Forest::new(&graph, &tree, &[]);
            tree.is_relief = true;
            search::relieve(tree, &graph, Aim::RoutingCost, settings.steps).edges()
        }
        Strategy::Widest => {
            let least = widest(view);
            let positions: Vec<usize> =
                (0..view.channels.len()).filter(|at| width(&view.channels[*at]) >= least).collect();
            let channels = positions.iter().map(|at| view.channels[*at]).collect();
            let wide = View { channels, ..view.clone() };
            let chosen = compute(Strategy::RoutingCost, &wide, settings);
            chosen.into_iter().map(|at| positions[at]).collect()
        }
    }
}

/// Searches on from a tree of [`Strategy::RoutingCost`]. `progress` says how far the search is, from 0 to 1.
///
/// # Panics
/// If the view is not as [`View`] says, or `chosen` is no forest of it.
#[must_use]
pub fn improve(
    view: &View,
    settings: &Settings,
    chosen: &[usize],
    progress: &mut dyn FnMut() -> f64,
) -> Vec<usize> {
    let graph = Graph::new(view, settings);
    let chosen: Vec<u32> = chosen.iter().filter_map(|at| u32::try_from(*at).ok()).collect();
    let forest = Forest::new(&graph, &chosen, &search::roots(&graph, 1));
    search::improve(forest, &graph, Aim::RoutingCost, &mut |_| progress()).edges()
}

/// The better of two trees: one that comes from the tree in force, with hysteresis, and a fresh one. The first may come
/// to rest far from what could be had (drift). Then the second is worth all its changes, if it gains as much as each of
/// them had to gain alone.
fn calm<'a>(
    view: &View,
    graph: &'a Graph,
    settings: &Settings,
    aim: Aim,
    fresh: impl FnOnce() -> Forest<'a>,
) -> Vec<usize> {
    if view.channels.iter().all(|channel| channel.in_force.is_none()) {
        return fresh().edges();
    }
    let mut kept = Forest::new(graph, &kept(view), &search::roots(graph, 1));
    kept.is_calm = true;
    search::descend(&mut kept, graph, aim, settings.steps);
    if settings.is_repair && kept.excess() == 0 {
        return kept.edges();
    }
    let fresh = fresh();
    let order = fresh.ranks().cmp(&kept.ranks()).then(fresh.excess().cmp(&kept.excess()));
    let is_better = match order {
        Ordering::Less => true,
        Ordering::Equal => {
            let figure = kept.figure(aim);
            figure - fresh.figure(aim) > kept.stakes(&fresh, aim).max(figure * DRIFT)
        }
        Ordering::Greater => false,
    };
    if is_better { fresh.edges() } else { kept.edges() }
}

/// A tree that is so much better is worth to move over to.
const DRIFT: f64 = 0.03;

/// The spanning forest of least cost with as few channels of the worst tier as can be, and so on. Healthy edges in force
/// count as cheaper by their threshold.
fn spanning_tree(view: &View, settings: &Settings) -> Vec<u32> {
    forest_by(view, |channel| {
        let cost = i64::try_from(channel.cost_us).unwrap_or(i64::MAX);
        let threshold = i64::try_from(settings.threshold(channel)).unwrap_or(i64::MAX);
        // Equal weights: the edge in force stays.
        (channel.tier, cost.saturating_sub(threshold), channel.in_force.is_none())
    })
}

/// The same, but of the edges in force all that are healthy stay.
fn kept(view: &View) -> Vec<u32> {
    forest_by(view, |channel| {
        let stays = channel.in_force.is_some_and(|was| channel.tier <= was);
        (channel.tier, !stays, channel.cost_us)
    })
}

fn forest_by<K: PartialOrd + Clone>(view: &View, key: impl Fn(&Channel) -> K) -> Vec<u32> {
    let mut graph = UnGraph::<(), (K, u32)>::with_capacity(view.caps.len(), view.channels.len());
    let members: Vec<_> = view.caps.iter().map(|_| graph.add_node(())).collect();
    for (position, channel) in (0..).zip(&view.channels) {
        // Of equal ones the first counts: those of the lowest ids.
        graph.add_edge(members[channel.low], members[channel.high], (key(channel), position));
    }
    let elements = min_spanning_tree(&graph);
    elements
        .filter_map(|element| match element {
            Element::Edge { weight: (_, position), .. } => Some(position),
            Element::Node { .. } => None,
        })
        .collect()
}

/// The worst tier without which parts would fall apart, as a rank.
fn needed_rank(view: &View) -> u8 {
    let forest = forest_by(view, |channel| channel.tier);
    let tiers = forest.iter().map(|at| view.channels[*at as usize].tier as u8);
    tiers.max().unwrap_or(0)
}

/// How wide the narrowest channel has to be at least, with which parts stay whole.
fn widest(view: &View) -> u32 {
    let forest = forest_by(view, |channel| (channel.tier, std::cmp::Reverse(width(channel))));
    forest.iter().map(|at| width(&view.channels[*at as usize])).min().unwrap_or(0)
}

/// A channel that nobody has measured counts as wide.
fn width(channel: &Channel) -> u32 {
    channel.width_kbps.unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
