//! Channels that are held back for what they did before: some carried nothing when they were in the
//! tree, others change for the worse again and again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::{id::MemberId, tree::Edge};

use super::tree::Tier;

/// The channels in doubt.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// At most [`KEPT`].
    shunned: BTreeMap<Edge, Shunned>,
    /// At most [`KEPT`].
    left: BTreeMap<Edge, Left>,
}

/// An edge that did not come up.
#[derive(Clone, Copy, Debug)]
struct Shunned {
    times: u32,
    until: Instant,
}

/// An edge that gave way to a better one though its channel lived on.
#[derive(Clone, Copy, Debug)]
struct Left {
    times: u32,
    /// Until then it counts as it did when it was left.
    until: Instant,
    tier: Tier,
    cost_us: u64,
}

/// Channels kept of each kind; what is soonest over gives way. More than one member can fill with all
/// its channels (64), so that one alone cannot drive out what is known of others.
const KEPT: usize = 4096;

/// How long a channel is held back.
struct Damping {
    /// Each time the wait is twice as long, but no more often than this.
    doublings: u32,
    /// So many first waits after the last one a channel counts as good again.
    memory: u32,
}

/// For edges that did not come up: not longer than 64 times the first wait.
const SHUNNED: Damping = Damping { doublings: 6, memory: 16 };

/// For edges that gave way, where the first wait is short, lest one that has got better be missed: not
/// longer than 256 times that.
const LEFT: Damping = Damping { doublings: 8, memory: 64 };

impl Damping {
    fn wait(&self, first: Duration, times: u32) -> Duration {
        first * (1 << times.min(self.doublings))
    }
}

impl Doubts {
    /// An edge did not come up: it comes last for a while, `first` at the first time.
    pub(crate) fn shun(&mut self, edge: Edge, first: Duration, now: Instant) -> Instant {
        self.shunned.retain(|_, old| old.until + first * SHUNNED.memory > now);
        let times = self.shunned.get(&edge).map_or(0, |old| old.times.saturating_add(1));
        let until = now + SHUNNED.wait(first, times);
        make_room(&mut self.shunned, edge, |old| old.until);
        self.shunned.insert(edge, Shunned { times, until });
        until
    }

    /// Whether a channel comes last.
    pub(crate) fn is_shunned(&self, edge: Edge, now: Instant) -> bool {
        self.shunned.get(&edge).is_some_and(|shunned| now < shunned.until)
    }

    /// It carries after all.
    pub(crate) fn absolve(&mut self, edge: Edge) {
        self.shunned.remove(&edge);
    }

    /// An edge gave way, being as good as said. The first time that costs it nothing; from then on it
    /// counts as no better for a while, `first` at the second time, and twice as long each time (route
    /// flap damping, RFC 2439, in its simplest form).
    pub(crate) fn leave(
        &mut self,
        edge: Edge,
        (tier, cost_us): (Tier, u64),
        first: Duration,
        now: Instant,
    ) {
        self.left.retain(|_, old| old.until + first * LEFT.memory > now);
        let times = self.left.get(&edge).map_or(0, |old| old.times.saturating_add(1));
        let until = times.checked_sub(1).map_or(now, |again| now + LEFT.wait(first, again));
        make_room(&mut self.left, edge, |old| old.until);
        self.left.insert(edge, Left { times, until, tier, cost_us });
    }

    /// As how good a channel counts that looks this good.
    pub(crate) fn counts_as(&self, edge: Edge, looks: (Tier, u64), now: Instant) -> (Tier, u64) {
        match self.left.get(&edge).filter(|left| now < left.until) {
            Some(left) => (looks.0.max(left.tier), looks.1.max(left.cost_us)),
            None => looks,
        }
    }

    /// The channel is gone; another one may be better.
    pub(crate) fn forget(&mut self, edge: Edge) {
        self.shunned.remove(&edge);
        self.left.remove(&edge);
    }

    /// A member is gone.
    pub(crate) fn forget_member(&mut self, member: MemberId) {
        self.shunned.retain(|edge, _| edge.other(member).is_none());
        self.left.retain(|edge, _| edge.other(member).is_none());
    }

    /// When the next channel is no longer held back.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let shunned = self.shunned.values().map(|shunned| shunned.until);
        let left = self.left.values().map(|left| left.until);
        shunned.chain(left).filter(|until| *until > now).min()
    }
}

fn make_room<T>(kept: &mut BTreeMap<Edge, T>, edge: Edge, until: impl Fn(&T) -> Instant) {
    if kept.len() >= KEPT && !kept.contains_key(&edge) {
        let first = kept.iter().min_by_key(|(_, entry)| until(entry)).map(|(edge, _)| *edge);
        first.and_then(|first| kept.remove(&first));
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);

    fn edge(n: u64) -> Edge {
        Edge::new(member(0), member(n)).expect("two members")
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn each_failure_is_held_against_a_channel_for_twice_as_long() {
        let (mut doubts, mut now) = (Doubts::default(), start());
        for wait_s in [10, 20, 40, 80, 160, 320, 640, 640] {
            let until = doubts.shun(edge(1), FIRST, now);
            assert_eq!(until, now + Duration::from_secs(wait_s));
            assert!(doubts.is_shunned(edge(1), now) && !doubts.is_shunned(edge(1), until));
            assert_eq!(doubts.next(now), Some(until));
            now = until;
        }
        doubts.absolve(edge(1));
        assert_eq!(doubts.shun(edge(1), FIRST, now), now + FIRST);
        now += FIRST * 20;
        assert_eq!(doubts.shun(edge(1), FIRST, now), now + FIRST, "long ago");
    }

    #[test]
    fn what_was_left_twice_counts_as_bad_as_it_was_for_a_while() {
        let (mut doubts, now) = (Doubts::default(), start());
        let (bad, good) = ((Tier::Poor, 40), (Tier::Good, 1));
        doubts.leave(edge(1), bad, FIRST, now);
        assert_eq!(doubts.counts_as(edge(1), good, now), good);
        doubts.leave(edge(1), bad, FIRST, now + FIRST);
        assert_eq!(doubts.counts_as(edge(1), good, now + FIRST), bad);
        assert_eq!(doubts.counts_as(edge(1), (Tier::Relayed, 1), now + FIRST), (Tier::Relayed, 40));
        assert_eq!(doubts.counts_as(edge(2), good, now + FIRST), good);
        assert_eq!(doubts.counts_as(edge(1), good, now + FIRST * 2), good);
        doubts.leave(edge(1), bad, FIRST, now + FIRST * 2);
        assert_eq!(doubts.counts_as(edge(1), good, now + FIRST * 3), bad);
        doubts.forget(edge(1));
        assert_eq!(doubts.counts_as(edge(1), good, now + FIRST * 3), good);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut doubts, now) = (Doubts::default(), start());
        for n in 1..=KEPT as u64 + 10 {
            doubts.shun(edge(n), FIRST, now + Duration::from_millis(n));
            doubts.leave(edge(n), (Tier::Good, 1), FIRST, now + Duration::from_millis(n));
        }
        assert_eq!((doubts.shunned.len(), doubts.left.len()), (KEPT, KEPT));
        assert!(!doubts.is_shunned(edge(1), now) && doubts.is_shunned(edge(11), now));
        doubts.forget_member(member(0));
        assert_eq!((doubts.shunned.len(), doubts.left.len()), (0, 0));
    }
}
