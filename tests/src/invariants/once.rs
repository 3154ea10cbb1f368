//! The same frame never crosses the same edge twice (R17, R8).
//!
//! In one direction of one life of an edge it never does, whatever happens; but a receiver without
//! room drops a frame, says so in its figures, and asks for it again. While nothing fails and there is
//! room, each frame crosses each edge of the tree exactly once in all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arborcast_protocol::{
    frame::Header,
    id::{Flow, FrameNo},
    numbers::NumberSet,
};

use crate::sim::Who;

/// What crossed.
#[derive(Debug, Default)]
pub struct Once {
    calm: bool,
    lives: BTreeMap<(u64, Who), HashMap<Flow, NumberSet>>,
    /// How often each frame crossed between two nodes, the lower first; only in calm worlds.
    crossings: BTreeMap<(Flow, FrameNo), BTreeMap<(usize, usize), u32>>,
    /// Frames that came to a node a second time.
    repeats: BTreeMap<Who, u64>,
    /// Frames that crossed between two nodes, the lower first.
    totals: BTreeMap<(usize, usize), u64>,
}

impl Once {
    /// Before anything was seen.
    #[must_use]
    pub fn new(calm: bool) -> Self {
        Self { calm, ..Self::default() }
    }

    /// A frame is put on an edge, whose other end says that it has dropped `dropped` so far.
    pub fn crossed(
        &mut self,
        edge: u64,
        from: Who,
        to: Option<Who>,
        header: &Header,
        dropped: u64,
    ) -> Result<(), String> {
        let (flow, number) = (header.flow(), header.number);
        let Some(to) = to else { return Err(format!("{from:?} sends on an edge that is none")) };
        if !self.lives.entry((edge, from)).or_default().entry(flow).or_default().insert(number) {
            let repeats = self.repeats.entry(to).or_default();
            *repeats += 1;
            if *repeats > dropped {
                return Err(format!(
                    "{from:?} sends {flow:?} #{number} to {to:?} a second time on one life of their \
                     edge"
                ));
            }
        }
        let pair = (from.node.min(to.node), from.node.max(to.node));
        *self.totals.entry(pair).or_default() += 1;
        if self.calm {
            let count = self.crossings.entry((flow, number)).or_default().entry(pair).or_default();
            *count += 1;
            if *count > 1 {
                return Err(format!(
                    "{flow:?} #{number} crosses between {from:?} and {to:?} both ways"
                ));
            }
        }
        Ok(())
    }

    /// An edge is no more.
    pub fn over(&mut self, edge: u64) {
        let none = Who { node: 0, life: 0 };
        let keys: Vec<(u64, Who)> =
            self.lives.range((edge, none)..(edge + 1, none)).map(|(key, _)| *key).collect();
        for key in keys {
            self.lives.remove(&key);
        }
    }

    /// Frames that crossed between two nodes so far, both ways.
    #[must_use]
    pub fn between(&self, a: usize, b: usize) -> u64 {
        self.totals.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }

    /// Frames that crossed any edge.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.totals.values().sum()
    }

    /// In a calm world: each frame for all crossed each of `edges` exactly once, and nothing else.
    pub fn exactly(&self, edges: &BTreeSet<(usize, usize)>) -> Result<(), String> {
        let for_all = self.crossings.iter().filter(|((flow, _), _)| flow.to.is_none());
        for ((flow, number), crossings) in for_all {
            let crossed: BTreeSet<(usize, usize)> = crossings.keys().copied().collect();
            if crossed != *edges {
                let missed: Vec<_> = edges.difference(&crossed).collect();
                let strayed: Vec<_> = crossed.difference(edges).collect();
                return Err(format!(
                    "{flow:?} #{number} did not cross {missed:?}, but crossed {strayed:?}"
                ));
            }
        }
        Ok(())
    }

    /// How many different frames crossed anything, in a calm world.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.crossings.len()
    }
}
