//! What somebody has of one flow: a floor and the ranges above it.
//!
//! The patent's rule "a number not above the stored one is repeated" (claim 6) is right only while
//! one source's frames arrive in order on one path. Once trees change and holes are filled later, a
//! late but new frame has a low number and would be thrown away. So the rule is applied to the
//! floor alone, and what lies above it is kept as ranges.
//!
//! Every operation on one number takes time in the logarithm of the number of ranges.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeTuple};

use crate::{id::FrameNo, limits};

/// The highest number that a frame can have, and that a set can hold. One below the type's last, so
/// that "the one after it" always exists.
const LAST: u64 = u64::MAX - 1;

/// A set of frame numbers: all up to and including the floor, and disjoint ranges above it that
/// neither touch the floor nor each other.
///
/// Numbers count from 1. 0, which no frame has, counts as present; so a floor of 0 is the empty set.
/// `u64::MAX`, which no frame has either, is never present and adding it does nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NumberSet {
    floor: u64,
    /// First number → last number, both included.
    ranges: BTreeMap<u64, u64>,
}

impl NumberSet {
    /// All numbers up to `floor`, none above.
    #[must_use]
    pub fn up_to(floor: FrameNo) -> Self {
        Self { floor: floor.0.min(LAST), ranges: BTreeMap::new() }
    }

    /// The highest number up to which nothing is missing; 0 when even 1 is.
    #[must_use]
    pub const fn floor(&self) -> FrameNo {
        FrameNo(self.floor)
    }

    /// The highest number in the set; 0 when it is empty.
    #[must_use]
    pub fn top(&self) -> FrameNo {
        FrameNo(self.ranges.last_key_value().map_or(self.floor, |(_, end)| *end))
    }

    /// How many ranges lie above the floor: the memory that the set takes.
    #[must_use]
    pub fn fragments(&self) -> usize {
        self.ranges.len()
    }

    /// Whether `number` is in the set.
    #[must_use]
    pub fn contains(&self, number: FrameNo) -> bool {
        number.0 <= self.floor
            || self.ranges.range(..=number.0).next_back().is_some_and(|(_, end)| number.0 <= *end)
    }

    /// Adds one number; false if it was there.
    pub fn insert(&mut self, number: FrameNo) -> bool {
        if number.0 > LAST || self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds all numbers from `first` to `last`, both included. Nothing if `last < first`.
    pub fn insert_range(&mut self, first: FrameNo, last: FrameNo) {
        let (mut first, mut last) = (first.0, last.0.min(LAST));
        if last < first {
            return;
        }
        if first <= self.floor + 1 {
            return self.raise_floor(FrameNo(last));
        }
        if let Some((&start, &end)) = self.ranges.range(..=first).next_back()
            && end + 1 >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.ranges.range(first..=last + 1).next() {
            self.ranges.remove(&start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
    }

    /// Adds all numbers up to `floor`.
    pub fn raise_floor(&mut self, floor: FrameNo) {
        self.floor = self.floor.max(floor.0.min(LAST));
        while let Some(entry) = self.ranges.first_entry() {
            if *entry.key() > self.floor + 1 {
                break;
            }
            self.floor = self.floor.max(entry.remove());
        }
    }

    /// Takes one number out, whatever lies around it. The floor falls if the number is below it.
    pub fn remove(&mut self, number: FrameNo) {
        let number = number.0;
        if number == 0 {
            return;
        }
        if number <= self.floor {
            let old = self.floor;
            self.floor = number - 1;
            if number < old {
                self.ranges.insert(number + 1, old);
            }
            return;
        }
        if let Some((&start, &end)) = self.ranges.range(..=number).next_back()
            && number <= end
        {
            self.ranges.remove(&start);
            if start < number {
                self.ranges.insert(start, number - 1);
            }
            if number < end {
                self.ranges.insert(number + 1, end);
            }
        }
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        self.raise_floor(other.floor());
        for (&start, &end) in &other.ranges {
            self.insert_range(FrameNo(start), FrameNo(end));
        }
    }

    /// The lowest number not below `from` that is missing.
    #[must_use]
    pub fn next_missing(&self, from: FrameNo) -> FrameNo {
        let from = from.0.max(self.floor + 1);
        match self.ranges.range(..=from).next_back() {
            Some((_, &end)) if from <= end => FrameNo(end + 1),
            _ => FrameNo(from),
        }
    }

    /// The lowest number from 1 and not below `from` that is present.
    #[must_use]
    pub fn next_present(&self, from: FrameNo) -> Option<FrameNo> {
        let from = FrameNo(from.0.max(1));
        if self.contains(from) {
            return Some(from);
        }
        self.ranges.range(from.0..).next().map(|(&start, _)| FrameNo(start))
    }

    /// The lowest number from 1 and not below `from` that `self` has and `other` lacks. Takes time in
    /// the number of ranges that lie between.
    #[must_use]
    pub fn next_not_in(&self, other: &Self, from: FrameNo) -> Option<FrameNo> {
        let mut at = from;
        loop {
            let missing = other.next_missing(at);
            let present = self.next_present(missing)?;
            if !other.contains(present) {
                return Some(present);
            }
            at = present;
        }
    }

    /// The gaps between the floor and the top, as (first, last), lowest first.
    pub fn holes(&self) -> impl Iterator<Item = (FrameNo, FrameNo)> + '_ {
        let mut after = self.floor;
        self.ranges.iter().map(move |(&start, &end)| {
            let hole = (FrameNo(after + 1), FrameNo(start - 1));
            after = end;
            hole
        })
    }

    /// The ranges above the floor, as (first, last), lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = (FrameNo, FrameNo)> + '_ {
        self.ranges.iter().map(|(&start, &end)| (FrameNo(start), FrameNo(end)))
    }

    /// The same with only the lowest `most` ranges: what fits a message of bounded size.
    #[must_use]
    pub fn truncated(&self, most: usize) -> Self {
        Self {
            floor: self.floor,
            ranges: self.ranges.iter().take(most).map(|(&a, &b)| (a, b)).collect(),
        }
    }
}

/// On the wire: an array of the floor and an array that alternates first and last numbers. Of more
/// ranges than [`limits::RANGES`] the lowest are written: whoever reads that believes that something
/// is missing, never that something is there.
impl Serialize for NumberSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ends: Vec<u64> =
            self.ranges.iter().take(limits::RANGES).flat_map(|(&a, &b)| [a, b]).collect();
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.floor)?;
        tuple.serialize_element(&ends)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for NumberSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (floor, ends) = <(u64, Vec<u64>)>::deserialize(deserializer)?;
        let (pairs, []) = ends.as_chunks::<2>() else {
            return Err(de::Error::custom("a range without an end"));
        };
        if pairs.len() > limits::RANGES {
            return Err(de::Error::custom("too many ranges"));
        }
        if floor > LAST {
            return Err(de::Error::custom("the floor is no number of a frame"));
        }
        let mut ranges = BTreeMap::new();
        let mut below = floor;
        for &[first, last] in pairs {
            if first <= below + 1 || last < first || last > LAST {
                return Err(de::Error::custom("ranges overlap, touch or run backwards"));
            }
            ranges.insert(first, last);
            below = last;
        }
        Ok(Self { floor, ranges })
    }
}

#[cfg(test)]
mod tests;
