//! Which members owe each other every message. All are in group 0; a part of the tree that has been
//! out of reach of the rest for long becomes a group of its own, until it is connected again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::id::MemberId;

/// The groups of one session.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Members that are not in group 0.
    group: BTreeMap<MemberId, u32>,
    /// Since when members have been apart from the main part.
    apart: BTreeMap<MemberId, Instant>,
    highest: u32,
}

impl Groups {
    /// The group of a member.
    pub(crate) fn of(&self, member: MemberId) -> u32 {
        self.group.get(&member).copied().unwrap_or(0)
    }

    /// Takes over the parts of a new tree; `since` gives the order in which members came. Says
    /// when the next part will have been apart for `grace`.
    pub(crate) fn update(
        &mut self,
        parts: &[Vec<MemberId>],
        since: impl Fn(MemberId) -> u64,
        grace: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let oldest = |part: &[MemberId]| part.iter().map(|id| since(*id)).min();
        // Main is the part with most of group 0: parts that were cut off stay so even if they grow.
        // Of equal ones the largest, then the one with the longest-present member.
        let main = (0..parts.len()).max_by_key(|index| {
            let part = parts.get(*index).map(Vec::as_slice).unwrap_or_default();
            let in_0 = part.iter().filter(|id| self.of(**id) == 0).count();
            (in_0, part.len(), std::cmp::Reverse(oldest(part)))
        });
        let mut order: Vec<(usize, &Vec<MemberId>)> = parts.iter().enumerate().collect();
        order.sort_by_key(|(_, part)| oldest(part));
        let mut group = BTreeMap::new();
        let mut apart = BTreeMap::new();
        let mut taken = BTreeSet::from([0]);
        let mut next: Option<Instant> = None;
        for (index, part) in order {
            if Some(index) == main {
                continue;
            }
            let began =
                part.iter().filter_map(|id| self.apart.get(id).copied()).min().unwrap_or(now);
            apart.extend(part.iter().map(|id| (*id, began)));
            let due = began + grace;
            if due > now {
                // Not for long yet; whoever has a group from before keeps it.
                next = Some(next.map_or(due, |next| next.min(due)));
                let own = part.iter().map(|id| (*id, self.of(*id)));
                group.extend(own.filter(|(_, group)| *group != 0));
                continue;
            }
            let own = part.iter().map(|id| self.of(*id)).filter(|own| !taken.contains(own)).min();
            let own = own.unwrap_or_else(|| {
                self.highest = self.highest.saturating_add(1);
                self.highest
            });
            taken.insert(own);
            group.extend(part.iter().map(|id| (*id, own)));
        }
        self.group = group;
        self.apart = apart;
        next
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    struct World {
        groups: Groups,
        start: Instant,
    }

    impl World {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        fn new() -> Self {
            Self { groups: Groups::default(), start: Instant::now() }
        }

        /// The groups of members 1 to 5 at second `at`, and when the next part is due.
        fn parts(&mut self, at: u64, parts: &[&[u64]]) -> ([u32; 5], Option<u64>) {
            let parts: Vec<Vec<MemberId>> =
                parts.iter().map(|part| part.iter().map(|n| member(*n)).collect()).collect();
            let since = |id| (1..=5).find(|n| member(*n) == id).unwrap_or(9);
            let now = self.start + Duration::from_secs(at);
            let next = self.groups.update(&parts, since, GRACE, now);
            let next = next.map(|next| (next - self.start).as_secs());
            ([1, 2, 3, 4, 5].map(|n| self.groups.of(member(n))), next)
        }
    }

    #[test]
    fn a_part_that_is_cut_off_for_long_is_a_group_until_it_is_back() {
        let mut world = World::new();
        assert_eq!(world.parts(0, &[&[1, 2, 3, 4, 5]]), ([0; 5], None));
        assert_eq!(world.parts(10, &[&[1, 2, 3], &[4, 5]]), ([0; 5], Some(40)));
        assert_eq!(world.parts(39, &[&[1, 2, 3], &[4, 5]]), ([0; 5], Some(40)));
        assert_eq!(world.parts(40, &[&[1, 2, 3], &[4, 5]]), ([0, 0, 0, 1, 1], None));
        assert_eq!(world.parts(50, &[&[1, 2, 3, 4, 5]]), ([0; 5], None));
        assert_eq!(world.parts(60, &[&[1, 2, 3], &[4, 5]]), ([0; 5], Some(90)));
        assert_eq!(world.parts(99, &[&[1, 2, 3], &[4, 5]]), ([0, 0, 0, 2, 2], None));
    }

    #[test]
    fn a_group_that_falls_apart_becomes_two_and_joining_ones_become_one() {
        let mut world = World::new();
        world.parts(0, &[&[1, 2, 3], &[4, 5]]);
        assert_eq!(world.parts(30, &[&[1, 2, 3], &[4, 5]]), ([0, 0, 0, 1, 1], None));
        assert_eq!(world.parts(31, &[&[1, 2, 3], &[4], &[5]]), ([0, 0, 0, 1, 2], None));
        assert_eq!(world.parts(32, &[&[1, 2, 3], &[4, 5]]), ([0, 0, 0, 1, 1], None));
        // The part that kept group 0 keeps it though the other one is larger now.
        assert_eq!(world.parts(33, &[&[1], &[4, 5]]), ([0, 0, 0, 1, 1], None));
    }
}
