//! Challenges that wait for a join. Each is good once, for one peer and session, for a short time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::id::{Challenge, MemberId, SessionId};

/// Outstanding challenges; bounded in all and for each peer.
#[derive(Debug)]
pub(crate) struct Challenges {
    most: usize,
    most_per_peer: usize,
    life: Duration,
    drawn: BTreeMap<Challenge, Drawn>,
    by_time: BTreeSet<(Instant, Challenge)>,
    by_peer: BTreeMap<MemberId, VecDeque<Challenge>>,
}

#[derive(Debug)]
struct Drawn {
    peer: MemberId,
    session: SessionId,
    at: Instant,
}

impl Challenges {
    pub(crate) fn new(most: usize, most_per_peer: usize, life: Duration) -> Self {
        Self {
            most: most.max(1),
            most_per_peer: most_per_peer.max(1),
            life,
            drawn: BTreeMap::new(),
            by_time: BTreeSet::new(),
            by_peer: BTreeMap::new(),
        }
    }

    /// Remembers a challenge; the peer's oldest, or the oldest of all, gives way if there are too
    /// many.
    pub(crate) fn add(
        &mut self,
        challenge: Challenge,
        peer: MemberId,
        session: SessionId,
        now: Instant,
    ) {
        while let Some((at, oldest)) = self.by_time.first().copied()
            && (self.drawn.len() >= self.most || self.is_void(at, now))
        {
            self.remove(oldest);
        }
        if let Some(own) = self.by_peer.get(&peer)
            && own.len() >= self.most_per_peer
            && let Some(oldest) = own.front().copied()
        {
            self.remove(oldest);
        }
        self.drawn.insert(challenge, Drawn { peer, session, at: now });
        self.by_time.insert((now, challenge));
        self.by_peer.entry(peer).or_default().push_back(challenge);
    }

    /// Uses a challenge up. True if it was drawn for this peer and session and is not void.
    ///
    /// Somebody else's challenge stays as it is: else whoever overhears it could spoil it.
    pub(crate) fn take(
        &mut self,
        challenge: Challenge,
        peer: MemberId,
        session: SessionId,
        now: Instant,
    ) -> bool {
        match self.drawn.get(&challenge) {
            Some(drawn) if drawn.peer == peer => {
                let good = drawn.session == session && !self.is_void(drawn.at, now);
                self.remove(challenge);
                good
            }
            Some(_) | None => false,
        }
    }

    fn is_void(&self, drawn: Instant, now: Instant) -> bool {
        now.saturating_duration_since(drawn) >= self.life
    }

    fn remove(&mut self, challenge: Challenge) {
        let Some(drawn) = self.drawn.remove(&challenge) else { return };
        self.by_time.remove(&(drawn.at, challenge));
        if let Some(own) = self.by_peer.get_mut(&drawn.peer) {
            own.retain(|other| *other != challenge);
            if own.is_empty() {
                self.by_peer.remove(&drawn.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::testing::{member, session};

    use super::*;

    fn challenge(n: u8) -> Challenge {
        Challenge::from_bytes([n; 32])
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn good_once_for_one_peer_and_session_for_a_while() {
        let start = Instant::now();
        let later = start + Duration::from_secs(30);
        let mut challenges = Challenges::new(10, 10, Duration::from_secs(30));
        for n in 1..=4 {
            challenges.add(challenge(n), member(1), session(1), start);
        }
        assert!(!challenges.take(challenge(1), member(2), session(1), start));
        assert!(challenges.take(challenge(1), member(1), session(1), start));
        assert!(!challenges.take(challenge(1), member(1), session(1), start));
        assert!(!challenges.take(challenge(2), member(1), session(2), start));
        assert!(!challenges.take(challenge(2), member(1), session(1), start));
        assert!(!challenges.take(challenge(3), member(1), session(1), later));
        assert!(!challenges.take(challenge(9), member(1), session(1), start));
        challenges.add(challenge(5), member(1), session(1), later);
        assert_eq!(challenges.drawn.len(), 1, "the void one is forgotten");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn bounded_for_each_peer_and_in_all() {
        let start = Instant::now();
        let mut challenges = Challenges::new(4, 2, Duration::from_secs(30));
        for n in 1..=3 {
            challenges.add(challenge(n), member(1), session(1), start);
        }
        assert!(!challenges.take(challenge(1), member(1), session(1), start));
        for n in 4..=10 {
            let at = start + Duration::from_millis(n.into());
            challenges.add(challenge(n), member(n.into()), session(1), at);
        }
        assert_eq!(challenges.drawn.len(), 4);
        assert_eq!(challenges.by_time.len(), 4);
        assert_eq!(challenges.by_peer.len(), 4);
    }
}
