//! Network coordinates: where members are, so that near ones can be made known to each other before anybody has
//! measured it (Vivaldi with height vectors: Dabek, Cox, Kaashoek and Morris, SIGCOMM 2004).
//!
//! Members are points in space, each with a height above it, the delay of its own access. The distance of two is that of
//! their points and both heights; each delay that is reported pulls both ends a little to where it would be right.

use std::collections::BTreeMap;

use arborcast_protocol::id::MemberId;

/// Dimensions beside the height; more gain little (section 5.4 of the paper).
const DIMENSIONS: usize = 3;

/// How far a delay pulls, and how fast the error of a member follows (both 0.25 in the paper).
const PULL: f64 = 0.25;

/// An error of a member that nothing is known of.
const UNKNOWN: f64 = 1.0;

/// Who has a larger error than this is not placed yet.
const PLACED: f64 = 0.5;

/// No error is less, so that everybody stays movable.
const LEAST_ERROR: f64 = 0.01;

/// Differences of much less are no error, in microseconds: so much a busy machine adds.
const SHORT_US: f64 = 1_000.0;

/// The height to begin with, in microseconds.
const HEIGHT_US: f64 = 2_000.0;

/// No height is less, in microseconds: then points alone could not tell two members apart.
const LOWEST_US: f64 = 10.0;

/// The coordinates of a session's members.
#[derive(Debug, Default)]
pub(crate) struct Coordinates {
    places: BTreeMap<MemberId, Place>,
}

/// All in microseconds of one-way delay.
#[derive(Clone, Copy, Debug)]
struct Place {
    point: [f64; DIMENSIONS],
    height: f64,
    /// The relative error of its distances, from 0; exponentially weighted.
    error: f64,
}

impl Place {
    /// Somewhere near the middle, different for each member: two at one point could not part.
    fn new(member: MemberId) -> Self {
        let mut bits = member.as_bytes().iter().map(|byte| f64::from(*byte) - 127.5);
        let point = std::array::from_fn(|_| bits.next().unwrap_or_default());
        Self { point, height: HEIGHT_US, error: UNKNOWN }
    }

    fn distance(&self, other: &Self) -> f64 {
        length(self.from(other)) + self.height + other.height
    }

    fn from(&self, other: &Self) -> [f64; DIMENSIONS] {
        std::array::from_fn(|axis| self.point[axis] - other.point[axis])
    }

    /// Moves to where the delay to `other` would be right, the farther the less is known of this one and the more of
    /// the other.
    fn pull(&mut self, other: &Self, delay: f64) {
        let distance = self.distance(other);
        let weight = self.error / (self.error + other.error);
        let error = ((distance - delay).abs() / (delay + SHORT_US)).min(UNKNOWN);
        let share = PULL * weight;
        self.error = (error * share + self.error * (1.0 - share)).max(LEAST_ERROR);
        let force = share * (delay - distance);
        let apart = self.from(other);
        let length = length(apart);
        if length > 0.0 {
            for (axis, apart) in self.point.iter_mut().zip(apart) {
                *axis += force * apart / distance;
            }
        }
        let lift = force * (self.height + other.height) / distance;
        self.height = (self.height + lift).max(LOWEST_US);
    }
}

fn length(vector: [f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|axis| axis * axis).sum::<f64>().sqrt()
}

impl Coordinates {
    /// The channel between two members has this one-way delay.
    pub(crate) fn on_delay(&mut self, a: MemberId, b: MemberId, delay_us: u32) {
        let place = |member| self.places.get(&member).copied().unwrap_or(Place::new(member));
        let (mut one, mut two) = (place(a), place(b));
        // Less than the least heights cannot be.
        let delay = f64::from(delay_us).max(2.0 * LOWEST_US);
        let before = one;
        one.pull(&two, delay);
        two.pull(&before, delay);
        self.places.insert(a, one);
        self.places.insert(b, two);
    }

    pub(crate) fn forget(&mut self, member: MemberId) {
        self.places.remove(&member);
    }

    /// The nearest of `others` to a member, at most `count`, the nearest first; nobody before all is known well enough.
    pub(crate) fn nearest(
        &self,
        member: MemberId,
        others: impl Iterator<Item = MemberId>,
        count: usize,
    ) -> Vec<MemberId> {
        let placed = |member| self.places.get(&member).filter(|place| place.error < PLACED);
        let Some(own) = placed(member) else { return Vec::new() };
        let mut near: Vec<(u64, MemberId)> = Vec::new();
        for other in others {
            let Some(place) = placed(other) else { continue };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite")]
            let key = (own.distance(place) as u64, other);
            if near.len() < count || near.last().is_some_and(|last| key < *last) {
                let at = near.partition_point(|one| *one < key);
                near.insert(at, key);
                near.truncate(count);
            }
        }
        near.into_iter().map(|(_, member)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;

    use super::*;

    /// Members on a plane of 100 by 100 ms, each behind an access of some milliseconds.
    fn delay_us(a: u64, b: u64) -> u32 {
        let at = |n: u64| {
            let n = u32::try_from(n).expect("few");
            [n.wrapping_mul(7_919) % 100_003, n.wrapping_mul(104_729) % 99_991, n % 7 * 1_000]
                .map(f64::from)
        };
        let (a, b) = (at(a), at(b));
        let way = (a[0] - b[0]).hypot(a[1] - b[1]) + a[2] + b[2];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let way = way as u32;
        way
    }

    const MEMBERS: u64 = 200;

    /// Each has measured some others a few times.
    fn placed() -> Coordinates {
        let mut coordinates = Coordinates::default();
        for _ in 0..20 {
            for a in 0..MEMBERS {
                for step in [1, 5, 17, 26, 40, 53, 77, 90, 104, 125, 150, 171] {
                    let b = (a * 3 + step) % MEMBERS;
                    if a != b {
                        coordinates.on_delay(member(a), member(b), delay_us(a, b));
                    }
                }
            }
        }
        coordinates
    }

    #[test]
    fn distances_come_close_to_delays_that_nobody_has_measured() {
        let coordinates = placed();
        let place = |n| coordinates.places[&member(n)];
        let mut errors: Vec<f64> = (0..MEMBERS)
            .flat_map(|a| (a + 1..MEMBERS).map(move |b| (a, b)))
            .map(|(a, b)| (place(a).distance(&place(b)) / f64::from(delay_us(a, b)) - 1.0).abs())
            .collect();
        errors.sort_by(f64::total_cmp);
        let median = errors[errors.len() / 2];
        assert!(median < 0.1, "{median}");
    }

    #[test]
    fn those_who_are_near_are_found() {
        let coordinates = placed();
        let mut found = 0;
        for a in 0..MEMBERS {
            let mut near: Vec<u64> = (0..MEMBERS).filter(|b| *b != a).collect();
            near.sort_by_key(|b| delay_us(a, *b));
            let near: Vec<MemberId> = near.into_iter().take(12).map(member).collect();
            let others = (0..MEMBERS).filter(|b| *b != a).map(member);
            let nearest = coordinates.nearest(member(a), others, 6);
            found += nearest.iter().filter(|other| near.contains(other)).count();
        }
        assert!(found as u64 > MEMBERS * 6 * 3 / 4, "{found}");
    }

    #[test]
    fn nobody_is_near_who_is_not_placed_yet_or_has_left() {
        let mut coordinates = placed();
        let all = || (0..MEMBERS).map(member);
        assert_eq!(coordinates.nearest(member(1_000), all(), 6), []);
        coordinates.on_delay(member(1), member(1_000), 5);
        assert_eq!(coordinates.nearest(member(1_000), all(), 6), []);
        let first = coordinates.nearest(member(1), all().skip(2), 6)[0];
        coordinates.forget(first);
        assert!(!coordinates.nearest(member(1), all(), 6).contains(&first));
    }

    #[test]
    fn lies_cannot_break_it() {
        let mut coordinates = placed();
        for n in 0..1_000 {
            let lie = if n % 2 == 0 { 0 } else { u32::MAX };
            coordinates.on_delay(member(3), member(n % MEMBERS + 4), lie);
        }
        let finite = |place: &Place| {
            place.point.iter().chain([&place.height, &place.error]).all(|figure| figure.is_finite())
        };
        assert!(coordinates.places.values().all(finite));
    }
}
