//! From the channel graph to the edges of the relay tree (R2): a function of its arguments and
//! nothing else, no clock and no randomness, so that every machine comes to the same tree.

use serde::{Deserialize, Serialize};

mod capped;
mod exact;
mod spanning;

/// How a tree is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// Least sum of costs: a minimum-cost spanning forest.
    #[default]
    #[serde(rename = "mst")]
    Spanning,
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
    /// If it is an edge of the tree in force: its tier when that was computed.
    pub in_force: Option<Tier>,
}

/// A channel graph. Positions follow the order of member ids, so that ties fall the same way
/// whatever the order of reports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// For each member the most edges it will have, at least 1.
    pub caps: Vec<u32>,
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
}

impl Settings {
    /// The cost that `channel` competes with: less than its own if it is a healthy edge in force. A
    /// spanning tree of least such cost swaps edge e for channel f exactly if that gains more than
    /// the threshold of e.
    pub(crate) fn biased(&self, channel: &Channel) -> i64 {
        let cost = i64::try_from(channel.cost_us).unwrap_or(i64::MAX);
        // An edge that has become worse since it was chosen has no such advantage.
        if channel.in_force.is_none_or(|was| channel.tier > was) {
            return cost;
        }
        let share = channel.cost_us / 100 * self.hysteresis_percent;
        let threshold = share.max(self.hysteresis_us).saturating_add(channel.noise_us);
        let threshold = i64::try_from(threshold).unwrap_or(i64::MAX);
        cost.saturating_sub(threshold)
    }
}

/// The channels that make up the tree, as positions in `view.channels`, rising.
///
/// In strict order: every connected part of the graph stays whole and without cycles; fewest channels
/// of the worst tier, then of the next better one, and so on; nobody above its cap, unless no way was found within the steps; the
/// strategy's own aim.
#[must_use]
pub fn compute(strategy: Strategy, view: &View, settings: &Settings) -> Vec<usize> {
    match strategy {
        Strategy::Spanning => spanning::compute(view, settings),
    }
}

#[cfg(test)]
mod tests;
