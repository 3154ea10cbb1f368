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
pub const PING: Duration = Duration::from_secs(5);

/// How long one may take. A dead connection is closed this and [`PING`] after its end, at the latest.
pub const PONG: Duration = Duration::from_secs(6);

/// A turn of one's own loop that is late by so much says that this machine has no time for answers, or was
/// asleep.
const LATE: Duration = Duration::from_secs(1);

/// What was heard, and how far one's own judgement can be trusted.
#[derive(Debug)]
pub struct Heard<P> {
    /// When data last came from each connected peer. On a narrow channel it can keep pings waiting for
    /// longer than [`PONG`], and is itself the best proof that the channel lives.
    data: HashMap<P, Instant>,
    /// When one's own loop was late the last time.
    late: Option<Instant>,
}

impl<P> Default for Heard<P> {
    fn default() -> Self {
        Self { data: HashMap::new(), late: None }
    }
}

impl<P: Eq + Hash> Heard<P> {
    /// There is a connection with a peer.
    pub fn connected(&mut self, peer: P, now: Instant) {
        self.data.entry(peer).or_insert(now);
    }

    /// Data came from a peer.
    pub fn heard(&mut self, peer: &P, now: Instant) {
        // What was read before the last connection closed is of no use.
        if let Some(at) = self.data.get_mut(peer) {
            *at = now;
        }
    }

    /// There is no connection with it any more.
    pub fn forget(&mut self, peer: &P) {
        self.data.remove(peer);
    }

    /// One's own loop has turned, and was to turn at `due` at the latest.
    pub fn turned(&mut self, due: Option<Instant>, now: Instant) {
        if due.is_some_and(|due| now.saturating_duration_since(due) >= LATE) {
            self.late = Some(now);
        }
    }

    /// Whether the connection with a peer on which a ping stayed unanswered is to be closed. What comes in
    /// goes over the connection in use, and says nothing about others. Whoever was late itself judges
    /// nobody for as long as a ping takes.
    pub fn is_dead(&self, peer: &P, in_use: bool, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < PONG;
        let is_heard = in_use && self.data.get(peer).is_some_and(lately);
        !is_heard && !self.was_late(now)
    }

    /// The same where there is a reason for doubt, and a look was taken at `asked` that stayed without an
    /// answer.
    pub fn is_silent_since(&self, peer: &P, in_use: bool, asked: Instant, now: Instant) -> bool {
        let is_heard = in_use && self.data.get(peer).is_some_and(|at| *at > asked);
        !is_heard && !self.was_late(now)
    }

    fn was_late(&self, now: Instant) -> bool {
        self.late.is_some_and(|at| now.saturating_duration_since(at) < PING + PONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_connection_is_dead_when_neither_pings_nor_data_are_answered() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("a", now);
        assert!(!heard.is_dead(&"a", true, now + PONG / 2));
        assert!(heard.is_dead(&"a", true, now + PONG), "nothing came since");
        let soon = now + PONG / 2;
        heard.heard(&"a", soon);
        assert!(!heard.is_dead(&"a", true, now + PONG), "data keeps pings waiting");
        assert!(heard.is_dead(&"a", false, now + PONG), "data comes on another one");
        assert!(heard.is_dead(&"a", true, soon + PONG));
        heard.forget(&"a");
        heard.heard(&"a", soon);
        assert!(heard.is_dead(&"a", true, soon), "it is not connected");
    }

    #[test]
    fn where_there_is_doubt_only_what_came_since_counts() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("a", now);
        let asked = now + PONG / 2;
        assert!(heard.is_silent_since(&"a", true, asked, asked + PONG / 2));
        heard.heard(&"a", asked + PONG / 4);
        assert!(!heard.is_silent_since(&"a", true, asked, asked + PONG / 2));
        assert!(heard.is_silent_since(&"a", false, asked, asked + PONG / 2), "on another one");
        heard.turned(Some(asked), asked + LATE);
        assert!(!heard.is_silent_since(&"a", false, asked, asked + LATE), "it was late itself");
    }

    #[test]
    fn whoever_was_late_itself_judges_nobody() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("a", now);
        let later = now + 10 * PONG;
        heard.turned(Some(later), later);
        assert!(heard.is_dead(&"a", true, later));
        let woken = later + LATE;
        heard.turned(Some(later), woken);
        assert!(!heard.is_dead(&"a", true, woken));
        assert!(heard.is_dead(&"a", true, woken + PING + PONG), "there was time for another ping");
    }
}
