//! A channel graph as the search for trees uses it: flat arrays, for each member its channels side by side.

use super::{Settings, View};

/// No member, or no channel.
pub(super) const NONE: u32 = u32::MAX;

/// The channels of a [`View`], by their positions there.
#[derive(Debug)]
pub(super) struct Graph {
    /// The ends of each channel.
    pub(super) ends: Vec<[u32; 2]>,
    /// What each adds to the delay of a path, in microseconds. Whole numbers, whose sums are exact up to 2^53.
    pub(super) cost: Vec<f64>,
    /// The same as whole numbers.
    pub(super) micros: Vec<u64>,
    /// How bad each is, 0 for the best: [`super::Tier`] as a number.
    pub(super) rank: Vec<u8>,
    /// What dropping it has to gain for the average pair that it separates, in microseconds (hysteresis); 0 for those
    /// that are not in force, or have become worse.
    pub(super) threshold: Vec<f64>,
    /// The most edges of each member.
    pub(super) caps: Vec<u32>,
    /// How much each member's messages weigh.
    pub(super) weight: Vec<f64>,
    /// Where the channels of each member begin in `incident`, and at last where they end.
    first: Vec<u32>,
    incident: Vec<u32>,
}

/// With all others at 1, the pairs of a main source weigh as much as the rest if it weighs half as much as they do.
#[expect(clippy::cast_precision_loss, reason = "members are fewer than 2^32")]
fn weight(view: &View, member: usize) -> f64 {
    let others = view.caps.len().saturating_sub(1);
    if view.main == Some(member) { (others / 2).max(1) as f64 } else { 1.0 }
}

impl Graph {
    #[expect(clippy::cast_precision_loss, reason = "costs of more than 2^53 µs are no matter")]
    #[expect(clippy::cast_possible_truncation, reason = "members and channels are fewer than 2^32")]
    pub(super) fn new(view: &View, settings: &Settings) -> Self {
        let members = view.caps.len();
        let channels = &view.channels;
        let ends: Vec<[u32; 2]> =
            channels.iter().map(|channel| [channel.low as u32, channel.high as u32]).collect();
        let mut first = vec![0_u32; members + 1];
        for end in ends.iter().flatten() {
            first[*end as usize + 1] += 1;
        }
        for member in 0..members {
            first[member + 1] += first[member];
        }
        let mut next = first.clone();
        let mut incident = vec![0_u32; ends.len() * 2];
        for (channel, ends) in ends.iter().enumerate() {
            for end in ends {
                let at = &mut next[*end as usize];
                incident[*at as usize] = channel as u32;
                *at += 1;
            }
        }
        Self {
            ends,
            cost: channels.iter().map(|channel| channel.cost_us as f64).collect(),
            micros: channels.iter().map(|channel| channel.cost_us).collect(),
            rank: channels.iter().map(|channel| channel.tier as u8).collect(),
            threshold: channels.iter().map(|channel| settings.threshold(channel) as f64).collect(),
            caps: view.caps.clone(),
            weight: (0..members).map(|at| weight(view, at)).collect(),
            first,
            incident,
        }
    }

    pub(super) fn members(&self) -> usize {
        self.caps.len()
    }

    pub(super) fn channels(&self) -> usize {
        self.ends.len()
    }

    /// The channels of a member.
    pub(super) fn of(&self, member: u32) -> &[u32] {
        let at = member as usize;
        &self.incident[self.first[at] as usize..self.first[at + 1] as usize]
    }

    /// The other end of a channel.
    pub(super) fn other(&self, channel: u32, member: u32) -> u32 {
        let [a, b] = self.ends[channel as usize];
        if a == member { b } else { a }
    }
}
