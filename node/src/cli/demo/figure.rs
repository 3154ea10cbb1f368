//! Figure 2 of the patent: six devices, six channels, and the tree of figure 3b.

use std::collections::BTreeSet;

/// The devices.
pub(super) const NAMES: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

/// Positions in [`NAMES`].
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
pub(super) const C: usize = 2;
pub(super) const D: usize = 3;
pub(super) const E: usize = 4;
pub(super) const F: usize = 5;

/// A channel as two positions, the lower one first.
pub(super) type Pair = (usize, usize);

/// The channels, with the delay that each is given in milliseconds: B-C is the poorest of its cycle.
pub(super) const CHANNELS: [(Pair, u32); 6] =
    [((A, B), 6), ((A, C), 8), ((B, C), 40), ((B, E), 5), ((C, D), 7), ((D, F), 6)];

/// What A-C is made to in the course of it: poorer than B-C.
pub(super) const DEGRADED_MS: u32 = 120;

/// The relay tree of figure 3b.
pub(super) fn first_tree() -> BTreeSet<Pair> {
    BTreeSet::from([(A, B), (A, C), (B, E), (C, D), (D, F)])
}

/// The tree once A-C is the poorest channel of its cycle.
pub(super) fn second_tree() -> BTreeSet<Pair> {
    BTreeSet::from([(A, B), (B, C), (B, E), (C, D), (D, F)])
}

/// The tree of those that can reach each other when B is gone.
pub(super) fn last_tree() -> BTreeSet<Pair> {
    BTreeSet::from([(A, C), (C, D), (D, F)])
}

/// Those that have no channel with `member`.
pub(super) fn denied(member: usize) -> impl Iterator<Item = usize> {
    (0..NAMES.len()).filter(move |other| {
        let pair = (member.min(*other), member.max(*other));
        *other != member && CHANNELS.iter().all(|(channel, _)| *channel != pair)
    })
}

/// A channel as people call it.
pub(super) fn called((a, b): Pair) -> String {
    let name = |at: usize| NAMES.get(at).copied().unwrap_or("?");
    format!("{}-{}", name(a), name(b))
}
