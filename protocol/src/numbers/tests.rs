use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::codec;

const MOST: u64 = 40;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertRange(u64, u64),
    RaiseFloor(u64),
    Remove(u64),
    Merge(Vec<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..=MOST;
    prop_oneof![
        4 => number().prop_map(Step::Insert),
        2 => (number(), number()).prop_map(|(first, last)| Step::InsertRange(first, last)),
        1 => (0..=MOST / 4).prop_map(Step::RaiseFloor),
        2 => number().prop_map(Step::Remove),
        1 => vec(number(), 0..6).prop_map(Step::Merge),
    ]
}

fn set(numbers: impl IntoIterator<Item = u64>) -> NumberSet {
    let mut set = NumberSet::default();
    for number in numbers {
        set.insert(FrameNo(number));
    }
    set
}

fn apply(set: &mut NumberSet, model: &mut BTreeSet<u64>, step: &Step) {
    let within = |last: u64| 1..=last;
    match step {
        Step::Insert(number) => {
            let new = *number > 0 && model.insert(*number);
            assert_eq!(set.insert(FrameNo(*number)), new);
        }
        Step::InsertRange(first, last) => {
            set.insert_range(FrameNo(*first), FrameNo(*last));
            model.extend((*first).max(1)..=*last);
        }
        Step::RaiseFloor(floor) => {
            set.raise_floor(FrameNo(*floor));
            model.extend(within(*floor));
        }
        Step::Remove(number) => {
            set.remove(FrameNo(*number));
            model.remove(number);
        }
        Step::Merge(numbers) => {
            set.merge(&self::set(numbers.iter().copied()));
            model.extend(numbers.iter().copied().filter(|number| *number > 0));
        }
    }
}

/// The runs of present numbers, as (first, last).
fn runs(model: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &number in model {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) | None => runs.push((number, number)),
        }
    }
    runs
}

fn agree(set: &NumberSet, model: &BTreeSet<u64>) {
    let runs = runs(model);
    let floor = runs.first().filter(|(first, _)| *first == 1).map_or(0, |(_, last)| *last);
    let above: Vec<_> = runs.iter().copied().filter(|(first, _)| *first > floor + 1).collect();
    let plain = |pairs: Vec<(FrameNo, FrameNo)>| -> Vec<(u64, u64)> {
        pairs.into_iter().map(|(first, last)| (first.0, last.0)).collect()
    };
    assert_eq!(set.floor().0, floor);
    assert_eq!(set.top().0, model.last().copied().unwrap_or(0));
    assert_eq!(set.fragments(), above.len());
    assert_eq!(plain(set.ranges().collect()), above);
    let mut after = floor;
    let mut holes = Vec::new();
    for (first, last) in &above {
        holes.push((after + 1, first - 1));
        after = *last;
    }
    assert_eq!(plain(set.holes().collect()), holes);
    for number in 1..=MOST + 2 {
        assert_eq!(set.contains(FrameNo(number)), model.contains(&number));
    }
    for from in 0..=MOST + 2 {
        let missing = (from.max(1)..=MOST + 3).find(|number| !model.contains(number));
        assert_eq!(Some(set.next_missing(FrameNo(from)).0), missing);
        let present = model.range(from..).next().copied();
        assert_eq!(set.next_present(FrameNo(from)).map(|number| number.0), present);
    }
    for most in 0..=above.len() {
        let truncated = set.truncated(most);
        assert_eq!(truncated.floor(), set.floor());
        assert_eq!(plain(truncated.ranges().collect()), above[..most]);
    }
    let bytes = codec::encode(set);
    assert_eq!(codec::decode::<NumberSet>(&bytes, bytes.len()).as_ref(), Ok(set));
}

proptest! {
    #[test]
    fn behaves_as_a_plain_set(steps in vec(step(), 0..40)) {
        let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
        for step in &steps {
            apply(&mut set, &mut model, step);
            agree(&set, &model);
        }
    }

    #[test]
    fn what_one_has_and_the_other_lacks(
        a in vec(1..=MOST, 0..30),
        b in vec(1..=MOST, 0..30),
        from in 0..=MOST + 1,
    ) {
        let lacks = |number: &u64| *number >= from && !b.contains(number);
        let expected = a.iter().copied().filter(lacks).min();
        let found = set(a.clone()).next_not_in(&set(b.clone()), FrameNo(from));
        prop_assert_eq!(found.map(|number| number.0), expected);
    }

    #[test]
    fn any_numbers_do_no_harm(
        numbers in vec(prop_oneof![0..5_u64, u64::MAX - 5..=u64::MAX, any::<u64>()], 0..20),
        steps in vec(0..6_u8, 20),
    ) {
        let mut set = NumberSet::default();
        for (pair, step) in numbers.windows(2).zip(&steps) {
            let (a, b) = (FrameNo(pair[0]), FrameNo(pair[1]));
            match step {
                0 => drop(set.insert(a)),
                1 => set.insert_range(a, b),
                2 => set.raise_floor(a),
                3 => set.remove(a),
                4 => set.merge(&NumberSet::up_to(a)),
                _ => {
                    let other = NumberSet::up_to(b);
                    let _ = (set.next_missing(a), set.next_present(a), set.next_not_in(&other, a));
                    let _ = other.next_not_in(&set, b);
                }
            }
            prop_assert!(!set.contains(FrameNo(u64::MAX)));
            let bytes = codec::encode(&set);
            prop_assert_eq!(codec::decode::<NumberSet>(&bytes, bytes.len()), Ok(set.clone()));
        }
    }
}

#[test]
fn a_late_but_new_number_is_new() {
    let mut set = NumberSet::default();
    for number in [1, 2, 5] {
        assert!(set.insert(FrameNo(number)));
    }
    assert!(set.insert(FrameNo(3)), "below the highest, but never seen");
    assert!(!set.insert(FrameNo(5)));
    assert!(!set.insert(FrameNo(3)));
    assert_eq!(set.floor(), FrameNo(3));
}

#[test]
fn full_sets_are_searched_to_an_end() {
    let mut full = NumberSet::up_to(FrameNo(u64::MAX));
    assert_eq!(full.floor(), FrameNo(u64::MAX - 1));
    assert_eq!(full.next_missing(FrameNo(0)), FrameNo(u64::MAX));
    assert_eq!(full.next_present(FrameNo(u64::MAX)), None);
    assert_eq!(full.clone().next_not_in(&full, FrameNo(0)), None);
    assert!(!full.insert(FrameNo(u64::MAX)));
    full.raise_floor(FrameNo(u64::MAX));
    full.insert_range(FrameNo(7), FrameNo(u64::MAX));
    assert_eq!(full, NumberSet::up_to(FrameNo(u64::MAX - 1)));
}

#[test]
fn ranges_beyond_the_limit_are_left_out_on_the_wire() {
    let mut set = NumberSet::default();
    for number in 1..=2000 {
        set.insert(FrameNo(2 * number));
    }
    let bytes = codec::encode(&set);
    let read: NumberSet = codec::decode(&bytes, bytes.len()).unwrap();
    assert_eq!(read, set.truncated(limits::RANGES));
}

#[test]
fn sets_that_contradict_themselves_are_refused() {
    let refused = |floor: u64, ends: &[u64]| {
        let bytes = codec::encode(&(floor, ends));
        codec::decode::<NumberSet>(&bytes, bytes.len()).is_err()
    };
    assert!(!refused(3, &[5, 5, 7, 9]));
    assert!(refused(3, &[5]), "no end");
    assert!(refused(3, &[4, 5]), "touches the floor");
    assert!(refused(3, &[2, 5]), "overlaps the floor");
    assert!(refused(3, &[6, 5]), "backwards");
    assert!(refused(3, &[5, 6, 7, 8]), "touch each other");
    assert!(refused(3, &[5, 9, 7, 8]), "overlap");
    assert!(refused(3, &[9, 10, 5, 6]), "out of order");
    assert!(refused(u64::MAX, &[]), "no such number");
    assert!(refused(3, &[5, u64::MAX]), "no such number");
    let many: Vec<u64> = (5..).step_by(2).take(2 * (limits::RANGES + 1)).collect();
    assert!(refused(0, &many.iter().flat_map(|n| [2 * n, 2 * n]).collect::<Vec<_>>()));
}

#[test]
fn a_hundred_thousand_fragments_are_no_burden() {
    let mut set = NumberSet::default();
    for number in 1..=100_000 {
        set.insert(FrameNo(2 * number));
    }
    assert_eq!(set.fragments(), 100_000);
    for number in (1..=100_000).rev() {
        assert!(set.contains(FrameNo(2 * number)));
        assert!(set.insert(FrameNo(2 * number - 1)));
    }
    assert_eq!(set, NumberSet::up_to(FrameNo(200_000)));
}
