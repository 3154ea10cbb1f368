//! Letting members in at a bounded rate. When thousands come at once, after a restart or for a broadcast,
//! each is told when its turn is, and nobody waits for an answer that comes too late.
//!
//! The rate is kept by virtual scheduling (the generic cell rate algorithm, ITU-T I.371): turns lie a
//! fixed time apart, and so many as may come at once may lie ahead. Whoever was given a turn keeps it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::id::MemberId;

/// A turn is kept for this long after it has come.
const KEPT: Duration = Duration::from_secs(30);

/// Longer than this nobody is told to wait: whoever comes then is told again.
const LONGEST: Duration = Duration::from_secs(20);

/// The turns of those who are to be let in.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// Time from one turn to the next.
    gap: Duration,
    /// How far ahead a turn may lie and be now.
    ahead: Duration,
    /// The next turn to be given.
    next: Instant,
    /// The last turn that somebody was told to come again for.
    last: Option<Instant>,
    /// Who was given which turn. At most `most`; those beyond are given none and ask again.
    turns: BTreeMap<MemberId, Instant>,
    most: usize,
}

impl Arrivals {
    /// `per_s` turns in a second, after a pause `burst` at once; remembers `most` of them.
    pub(crate) fn new(per_s: u32, burst: u32, most: usize, now: Instant) -> Self {
        let gap = Duration::from_secs(1) / per_s.max(1);
        Self { gap, ahead: gap * burst.max(1), next: now, last: None, turns: BTreeMap::new(), most }
    }

    /// `peer` wants to be let in: now, or told after how long to ask again.
    pub(crate) fn ask(&mut self, peer: MemberId, now: Instant) -> Result<(), Duration> {
        if self.turns.len() >= self.most {
            self.turns.retain(|_, at| now < *at + KEPT);
        }
        let turn = self.turns.get(&peer).copied().filter(|at| now < *at + KEPT);
        let turn = turn.unwrap_or_else(|| {
            let turn = self.next.max(now);
            self.next = turn + self.gap;
            turn
        });
        if turn < now + self.ahead {
            self.turns.remove(&peer);
            return Ok(());
        }
        if self.turns.len() < self.most || self.turns.contains_key(&peer) {
            self.turns.insert(peer, turn);
            self.last = self.last.max(Some(turn));
        } else {
            // Not remembered, so the turn is for somebody else.
            self.next -= self.gap;
        }
        Err((turn - now).saturating_sub(self.ahead / 2).min(LONGEST))
    }

    /// The coordinator is behind with its work by so much: nobody comes in before it has caught up.
    pub(crate) fn fell_behind(&mut self, by: Duration, now: Instant) {
        self.next = self.next.max(now + by.min(LONGEST));
    }

    /// The last turn that somebody was told to come again for; may be over.
    pub(crate) const fn busy_until(&self) -> Option<Instant> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::member;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_at_once_and_then_everybody_in_turn() {
        let start = start();
        let mut arrivals = Arrivals::new(10, 5, 1_000, start);
        let mut waiting: BTreeMap<u64, Instant> = (0..100).map(|n| (n, start)).collect();
        let mut let_in: Vec<(u64, Duration)> = Vec::new();
        let mut asked = 0;
        while let Some((n, at)) = waiting.iter().map(|(n, at)| (*n, *at)).min_by_key(|(_, at)| *at)
        {
            asked += 1;
            match arrivals.ask(member(n), at) {
                Ok(()) => {
                    waiting.remove(&n);
                    let_in.push((n, at - start));
                }
                Err(wait) => drop(waiting.insert(n, at + wait)),
            }
        }
        let at_once = let_in.iter().filter(|(_, at)| at.is_zero()).count();
        assert_eq!(at_once, 5);
        assert!(let_in.iter().map(|(n, _)| *n).eq(0..100), "in the order in which they came");
        let last = let_in.last().map(|(_, at)| *at).unwrap_or_default();
        assert!(last > Duration::from_secs(9) && last < Duration::from_secs(10), "{last:?}");
        assert!(asked < 300, "nobody asks often: {asked}");
    }

    #[test]
    fn who_comes_later_does_not_take_the_turn_of_those_before() {
        let start = start();
        let mut arrivals = Arrivals::new(1, 1, 1_000, start);
        assert_eq!(arrivals.ask(member(1), start), Ok(()));
        let wait = arrivals.ask(member(2), start).err().unwrap_or_default();
        for n in 10..20 {
            assert!(arrivals.ask(member(n), start + wait).is_err());
        }
        assert_eq!(arrivals.ask(member(2), start + wait), Ok(()));
    }

    #[test]
    fn one_that_never_comes_back_holds_nobody_up_and_what_is_kept_is_bounded() {
        let start = start();
        let mut arrivals = Arrivals::new(10, 1, 4, start);
        for n in 0..1_000 {
            let _ = arrivals.ask(member(n), start);
        }
        assert_eq!(arrivals.turns.len(), 4);
        assert!(arrivals.busy_until() < Some(start + Duration::from_secs(1)));
        assert_eq!(arrivals.ask(member(2_000), start + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn nobody_comes_in_while_the_coordinator_is_behind() {
        let start = start();
        let mut arrivals = Arrivals::new(10, 1, 4, start);
        arrivals.fell_behind(Duration::from_secs(2), start);
        let wait = arrivals.ask(member(1), start).err().unwrap_or_default();
        assert!(wait > Duration::from_millis(1_900), "{wait:?}");
    }
}
