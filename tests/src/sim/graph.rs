//! Which pairs of members can have a channel at all, and how good it is.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

/// What one pair of members has between them. Figures are those of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// One end, by the number of its node; the lower one.
    pub a: usize,
    /// The other end.
    pub b: usize,
    /// Least time a byte is under way.
    pub delay: Duration,
    /// Most that may come on top of the delay, evenly spread.
    pub jitter: Duration,
    /// Of a thousand times that something crosses, those in which it is lost first and repeated by
    /// the transport.
    pub lossy: u32,
    /// Bytes per second.
    pub rate: u64,
    /// Whether the world may break it: links of the backbone never fail.
    pub backbone: bool,
}

/// The shape of the part that never fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A random tree, no node with more than three neighbours, and random links up to this mean
    /// degree.
    Random(usize),
    /// Cliques of this size, one link from each to the next, closed to a ring.
    Cliques(usize),
    /// Each node with the one before it.
    Line,
    /// Rows of equal length, each node with those beside and below it.
    Grid,
    /// All with the first.
    Star,
    /// All with all.
    Full,
}

impl Shape {
    /// The pairs of `n` nodes that have a link; the lower number first, none twice. Connected.
    pub fn pairs(self, n: usize, rng: &mut impl Rng) -> BTreeSet<(usize, usize)> {
        let mut pairs = BTreeSet::new();
        match self {
            Self::Random(degree) => {
                let mut degrees = vec![0_usize; n];
                for node in 1..n {
                    let open: Vec<usize> = (0..node)
                        .filter(|other| degrees.get(*other).is_some_and(|d| *d < 3))
                        .collect();
                    // A tree always has a leaf, so somebody is open.
                    let other = open.choose(rng).copied().unwrap_or(node - 1);
                    pairs.insert((other, node));
                    for end in [other, node] {
                        if let Some(d) = degrees.get_mut(end) {
                            *d += 1;
                        }
                    }
                }
                let most = n * n.saturating_sub(1) / 2;
                while pairs.len() < (n * degree / 2).min(most) {
                    let (a, b) = (rng.random_range(0..n), rng.random_range(0..n));
                    if a != b {
                        pairs.insert((a.min(b), a.max(b)));
                    }
                }
            }
            Self::Cliques(size) => {
                let size = size.max(1);
                for a in 0..n {
                    pairs.extend((a + 1..n).filter(|b| b / size == a / size).map(|b| (a, b)));
                }
                for first in (size..n).step_by(size) {
                    pairs.insert((first - 1, first));
                }
                if n > 2 * size {
                    pairs.insert((0, n - 1));
                }
            }
            Self::Line => pairs.extend((1..n).map(|node| (node - 1, node))),
            Self::Grid => {
                let width = (1..=n).find(|width| width * width >= n).unwrap_or(1);
                for node in 0..n {
                    if node + width < n {
                        pairs.insert((node, node + width));
                    }
                    if (node + 1) % width != 0 && node + 1 < n {
                        pairs.insert((node, node + 1));
                    }
                }
            }
            Self::Star => pairs.extend((1..n).map(|node| (0, node))),
            Self::Full => pairs.extend((0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)))),
        }
        pairs
    }
}

/// A link with figures as on the Internet: 2 to 80 ms, jitter up to a tenth of that, 1 to 100
/// Mbit/s.
pub fn draw(a: usize, b: usize, backbone: bool, rng: &mut impl Rng) -> Link {
    let delay = Duration::from_micros(rng.random_range(2_000..80_000));
    let rate = [125_000, 1_250_000, 12_500_000].choose(rng).copied().unwrap_or(1_250_000);
    Link { a: a.min(b), b: a.max(b), delay, jitter: delay / 10, lossy: 0, rate, backbone }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn every_shape_is_connected() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for shape in [
            Shape::Random(4),
            Shape::Cliques(4),
            Shape::Line,
            Shape::Grid,
            Shape::Star,
            Shape::Full,
        ] {
            for n in [1, 2, 3, 7, 20, 33] {
                let pairs = shape.pairs(n, &mut rng);
                let mut reached = BTreeSet::from([0]);
                for _ in 0..n {
                    for (a, b) in &pairs {
                        assert!(a < b && *b < n, "{shape:?} of {n}: {a}-{b}");
                        if reached.contains(a) || reached.contains(b) {
                            reached.extend([*a, *b]);
                        }
                    }
                }
                assert_eq!(reached.len(), n, "{shape:?} of {n} is not connected");
            }
        }
    }
}
