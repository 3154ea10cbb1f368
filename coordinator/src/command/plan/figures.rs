//! What a tree is like, so that trees can be compared.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Edges, Planning, Topology};
use crate::engine::tree::Tier;

/// The figures of one tree.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    members: usize,
    /// The cost of the way between two members, on average, in milliseconds...
    pub(super) mean_ms: f64,
    /// ...so much or less for 95 of 100 pairs...
    p95_ms: f64,
    /// ...and at most.
    pub(super) max_ms: f64,
    /// How wide the narrowest edge is; `None` without edges.
    pub(super) bottleneck_mbps: Option<f64>,
    pub(super) poor_links: usize,
    /// Edges above what uplinks can feed.
    pub(super) excess_degree: u64,
    max_degree: usize,
    /// Edges of the tree before that are gone, and new ones.
    pub(super) changed_edges: Option<usize>,
}

impl Figures {
    pub(super) fn of(
        planning: &Planning,
        edges: &Edges,
        topology: &Topology,
        previous: Option<&Edges>,
    ) -> Self {
        let members = planning.view.caps.len();
        let mut beside: Vec<Vec<(usize, f64)>> = vec![Vec::new(); members];
        let mut poor_links = 0;
        let mut bottleneck_mbps: Option<f64> = None;
        let cost: BTreeMap<&(u32, u32), usize> = planning.ends.iter().zip(0..).collect();
        for edge in edges {
            let Some(at) = cost.get(edge).copied() else { continue };
            let channel = planning.view.channels[at];
            beside[channel.low].push((channel.high, planning.cost_ms[at]));
            beside[channel.high].push((channel.low, planning.cost_ms[at]));
            poor_links += usize::from(channel.tier == Tier::Poor);
            if let Some(link) = topology.links.get(edge) {
                let width = link.figures.bandwidth_mbps;
                bottleneck_mbps = Some(bottleneck_mbps.map_or(width, |least| least.min(width)));
            }
        }
        let ways = ways(&beside);
        let mean = if ways.is_empty() { 0.0 } else { sum(&ways) / count(ways.len()) };
        let degrees = beside.iter().map(Vec::len);
        let over = |(degree, cap): (usize, &u32)| (degree as u64).saturating_sub(u64::from(*cap));
        Self {
            members,
            mean_ms: mean,
            p95_ms: ways
                .get((ways.len() * 95).div_ceil(100).saturating_sub(1))
                .copied()
                .unwrap_or(0.0),
            max_ms: ways.last().copied().unwrap_or(0.0),
            bottleneck_mbps,
            poor_links,
            excess_degree: degrees.clone().zip(&planning.view.caps).map(over).sum(),
            max_degree: degrees.max().unwrap_or(0),
            changed_edges: previous.map(|previous| previous.symmetric_difference(edges).count()),
        }
    }

    /// One line of JSON.
    pub(super) fn json(
        &self,
        strategy: &str,
        session: &str,
        time: Option<u64>,
        edges: Option<&Edges>,
    ) -> String {
        let mut line = serde_json::json!({
            "strategy": strategy,
            "session": session,
            "members": self.members,
            "mean_ms": rounded(self.mean_ms),
            "p95_ms": rounded(self.p95_ms),
            "max_ms": rounded(self.max_ms),
            "bottleneck_mbps": self.bottleneck_mbps,
            "poor_links": self.poor_links,
            "excess_degree": self.excess_degree,
            "max_degree": self.max_degree,
            "changed_edges": self.changed_edges.unwrap_or(0),
        });
        if let Some(object) = line.as_object_mut() {
            let mut add = |name: &str, value| drop(object.insert(name.to_owned(), value));
            if let Some(edges) = edges {
                add("edges", serde_json::json!(edges));
            }
            if let Some(time) = time {
                add("t", time.into());
            }
        }
        line.to_string()
    }

    /// What the columns of [`Figures::row`] are.
    pub(super) fn heading() -> String {
        "strategy       mean ms    p95 ms    max ms  narrowest Mbit/s  poor  excess  degree  changed"
            .to_owned()
    }

    /// The same for people.
    pub(super) fn row(&self, strategy: &str) -> String {
        let mut row = format!(
            "{strategy:<12} {:>9.2} {:>9.2} {:>9.2}  {:>16}  {:>4}  {:>6}  {:>6}",
            self.mean_ms,
            self.p95_ms,
            self.max_ms,
            self.bottleneck_mbps.map_or_else(|| "-".to_owned(), |width| format!("{width:.2}")),
            self.poor_links,
            self.excess_degree,
            self.max_degree,
        );
        let changed = self.changed_edges.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let _ = write!(row, "  {changed:>7}");
        row
    }
}

/// The costs of the ways between all pairs that can reach each other, rising. Of more than [`SOURCES`] members those
/// from some.
fn ways(beside: &[Vec<(usize, f64)>]) -> Vec<f64> {
    let step = beside.len().div_ceil(SOURCES).max(1);
    let mut ways = Vec::new();
    for from in (0..beside.len()).step_by(step) {
        let mut todo = vec![(from, from, 0.0)];
        while let Some((member, before, way)) = todo.pop() {
            if member > from || (step > 1 && member != from) {
                ways.push(way);
            }
            let next = beside[member].iter().filter(|(other, _)| *other != before);
            todo.extend(next.map(|(other, cost)| (*other, member, way + cost)));
        }
    }
    ways.sort_by(f64::total_cmp);
    ways
}

/// From so many members all ways are counted, at most some eight million.
const SOURCES: usize = 4_000;

fn sum(figures: &[f64]) -> f64 {
    figures.iter().sum()
}

#[expect(clippy::cast_precision_loss, reason = "pairs are few enough")]
fn count(number: usize) -> f64 {
    number as f64
}

/// To a thousandth.
fn rounded(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}
