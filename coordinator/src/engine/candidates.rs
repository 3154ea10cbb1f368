//! Whom a member is told to connect to: a bounded set, random and ill-connected members, and near ones once it is known
//! who is; and members of other parts where the channel graph has fallen apart.

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::id::MemberId;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// So many members or fewer are all told of.
pub(crate) const FEW: usize = 12;

/// Of the members told of in larger sessions, so many are those with fewest channels; the rest are
/// random. Random graphs of this degree are connected and shallow.
const ILL_CONNECTED: usize = 4;

/// A member with fewer channels than this is told of more.
pub(crate) const ENOUGH_CHANNELS: usize = 4;

/// Of the nearest members so many are to have a channel with a member...
pub(crate) const NEAR: usize = 6;

/// ...as long as neither has more channels than this: each costs some packets now and then.
pub(crate) const MANY_CHANNELS: usize = 32;

/// The longest time until a member is told of near ones again.
pub(crate) const RARELY: Duration = Duration::from_secs(600);

/// Pairs across the gap for each part that is cut off, each time.
pub(crate) const PAIRS: usize = 3;

/// Parts that are brought together each time; the others wait for the next.
pub(crate) const PARTS: usize = 16;

/// Chooses among `others`, each with the number of its channels, in order of ids.
pub(crate) fn mixed(others: &[(MemberId, usize)], rng: &mut ChaCha8Rng) -> Vec<MemberId> {
    if others.len() <= FEW {
        return others.iter().map(|(member, _)| *member).collect();
    }
    let mut by_degree: Vec<(usize, MemberId)> =
        others.iter().map(|(member, degree)| (*degree, *member)).collect();
    by_degree.select_nth_unstable(ILL_CONNECTED);
    let mut chosen: BTreeSet<MemberId> =
        by_degree.iter().take(ILL_CONNECTED).map(|(_, member)| *member).collect();
    let rest: Vec<MemberId> =
        others.iter().map(|(member, _)| *member).filter(|id| !chosen.contains(id)).collect();
    chosen.extend(random(&rest, FEW - ILL_CONNECTED, rng));
    chosen.into_iter().collect()
}

/// Up to `count` of `members`, in random order.
pub(crate) fn random(members: &[MemberId], count: usize, rng: &mut ChaCha8Rng) -> Vec<MemberId> {
    let mut members = members.to_vec();
    let count = count.min(members.len());
    // Fisher and Yates, as far as needed. The bias of the remainder is below 2^-50.
    for at in 0..count {
        let left = (members.len() - at) as u64;
        let pick = usize::try_from(rng.next_u64() % left).unwrap_or(0);
        members.swap(at, at + pick);
    }
    members.truncate(count);
    members
}

/// Pairs of members to connect, where `parts` are out of reach of each other: for each part but the
/// largest a few of its members, each with one from elsewhere; more of them for a member that is alone. Only members
/// that `may` be told. Nobody knows between whom there can be a channel, so from `round` to `round` it is the turn of others,
/// until all have been tried.
pub(crate) fn bridges(
    parts: &[Vec<MemberId>],
    may: impl Fn(MemberId) -> bool,
    round: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<(MemberId, MemberId)> {
    let Some(largest) = (0..parts.len()).rev().max_by_key(|at| parts.get(*at).map(Vec::len)) else {
        return Vec::new();
    };
    let open: Vec<Vec<MemberId>> =
        parts.iter().map(|part| part.iter().copied().filter(|id| may(*id)).collect()).collect();
    let mut pairs = Vec::new();
    let small = open.iter().enumerate().filter(|(at, part)| *at != largest && !part.is_empty());
    for (at, part) in small.take(PARTS) {
        let mut far = open.get(largest).cloned().unwrap_or_default();
        if far.is_empty() {
            let others = open.iter().enumerate().filter(|(other, _)| *other != at);
            far = others.flat_map(|(_, part)| part.iter().copied()).collect();
        }
        let near = random(part, PAIRS, rng);
        if far.is_empty() {
            continue;
        }
        let count = if part.len() == 1 { FEW } else { PAIRS };
        let first = round.wrapping_add(at).wrapping_mul(count) % far.len();
        let turn = far.iter().cycle().skip(first).take(count.min(far.len()));
        let far: Vec<MemberId> = turn.copied().collect();
        let longer = near.len().max(far.len());
        pairs.extend(near.iter().cycle().copied().zip(far.iter().cycle().copied()).take(longer));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;
    use rand::SeedableRng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::from_seed([1; 32])
    }

    fn members(range: std::ops::Range<u64>) -> Vec<MemberId> {
        let mut members: Vec<MemberId> = range.map(member).collect();
        members.sort();
        members
    }

    #[test]
    fn all_of_few_and_a_bounded_mix_of_many() {
        let few: Vec<_> = members(0..12).into_iter().map(|id| (id, 3)).collect();
        assert_eq!(mixed(&few, &mut rng()), members(0..12));
        let lonely = [member(3), member(44)];
        let many: Vec<_> = members(0..100)
            .into_iter()
            .map(|id| (id, if lonely.contains(&id) { 0 } else { 7 }))
            .collect();
        let chosen = mixed(&many, &mut rng());
        assert_eq!(chosen.len(), FEW);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert!(lonely.iter().all(|id| chosen.contains(id)));
        assert_eq!(chosen, mixed(&many, &mut rng()), "the seed decides");
    }

    #[test]
    fn bridges_lead_from_small_parts_to_the_largest() {
        let parts = [members(0..2), members(10..30), members(40..41)];
        let pairs = bridges(&parts, |_| true, 0, &mut rng());
        assert_eq!(pairs.len(), PAIRS + FEW);
        for (near, far) in pairs {
            assert!(parts[0].contains(&near) || parts[2].contains(&near));
            assert!(parts[1].contains(&far));
        }
        assert_eq!(bridges(&parts, |id| parts[1].contains(&id), 0, &mut rng()), []);
        assert_eq!(bridges(&parts[..1], |_| true, 0, &mut rng()), []);
        assert_eq!(bridges(&[], |_| true, 0, &mut rng()), []);
    }

    #[test]
    fn who_is_out_of_reach_is_told_of_all_others_in_turn() {
        for (alone, rounds) in [(1, 3), (2, 10)] {
            let parts = [members(0..alone), members(10..40)];
            let told: BTreeSet<MemberId> = (0..rounds)
                .flat_map(|round| bridges(&parts, |_| true, round, &mut rng()))
                .map(|(_, far)| far)
                .collect();
            assert_eq!(told.len(), 30, "{alone}");
        }
    }
}
