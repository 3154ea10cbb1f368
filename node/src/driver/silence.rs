//! When a connection counts as dead: pings stay unanswered, and nothing else is heard of the peer. TCP by
//! itself gives up after a quarter of an hour; what holds a path open for a while may forget it without
//! a word (RFC 5382: after two hours at best, many do after minutes).
//!
//! Pure: what was heard and the time in, a verdict out.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Between two pings on each connection.
pub(super) const PING: Duration = Duration::from_secs(5);

/// How long one may take. A dead connection is closed this and [`PING`] after its end, at the latest.
pub(super) const PONG: Duration = Duration::from_secs(6);

/// When data was last heard of each peer. On a narrow channel it can keep pings waiting for longer than
/// [`PONG`], and is itself the best proof that the channel lives.
#[derive(Debug)]
pub(super) struct Heard<P>(HashMap<P, Instant>);

impl<P> Default for Heard<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<P: Eq + Hash> Heard<P> {
    /// Data came from a peer.
    pub(super) fn heard(&mut self, peer: P, now: Instant) {
        self.0.insert(peer, now);
    }

    /// There is no connection with it any more.
    pub(super) fn forget(&mut self, peer: &P) {
        self.0.remove(peer);
    }

    /// Whether the connection with a peer on which a ping stayed unanswered is to be closed. What comes in
    /// goes over the connection in use, and says nothing about others.
    pub(super) fn is_dead(&self, peer: &P, in_use: bool, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < PONG;
        !in_use || !self.0.get(peer).is_some_and(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_dead_when_neither_pings_nor_data_are_answered() {
        let now = super::super::now();
        let mut heard = Heard::default();
        assert!(heard.is_dead(&"a", true, now), "nothing was ever heard");
        heard.heard("a", now);
        let soon = now + PONG / 2;
        assert!(!heard.is_dead(&"a", true, soon), "data keeps pings waiting");
        assert!(heard.is_dead(&"a", false, soon), "data comes on another one");
        assert!(heard.is_dead(&"a", true, now + PONG));
        heard.heard("a", soon);
        assert!(!heard.is_dead(&"a", true, now + PONG));
        heard.forget(&"a");
        assert!(heard.is_dead(&"a", true, soon));
    }
}
