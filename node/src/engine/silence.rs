//! When a connection counts as dead: nothing was heard of the peer for longer than it should be silent, a look at
//! the connection was taken, and no answer came. TCP by itself gives up after a quarter of an hour; what holds a
//! path open for a while may forget it without a word (RFC 5382: after two hours at best, many do after minutes).
//!
//! Who says something regularly need not be asked: heartbeats of edges, answers of the coordinator and echoes of
//! probes are signs of life.
//!
//! Pure: what was heard and the time in, whom to look at and a verdict out.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// A coordinator or a neighbour in the tree is looked at after so much silence: longer than any of them has
/// between two things to say.
pub const CLOSE: Duration = Duration::from_secs(6);

/// Anybody else: twice the time between two probes of a channel on which nothing moves.
pub const FAR: Duration = Duration::from_secs(60);

/// Whoever does not answer a look by then is not there: long for any path that is not full.
pub const ANSWER: Duration = Duration::from_secs(3);

/// A turn of one's own loop that is late by so much says that this machine has no time for answers, or was
/// asleep. Then nobody is judged for as long as another look takes.
const LATE: Duration = Duration::from_secs(1);

/// What was heard, and how far one's own judgement can be trusted.
#[derive(Debug)]
pub struct Heard<P> {
    peers: HashMap<P, Peer>,
    /// When one's own loop was late the last time.
    late: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// When something last came from it. On a narrow channel data can keep answers waiting for longer than
    /// [`ANSWER`], and is itself the best proof that the channel lives.
    heard: Instant,
    /// When it was last looked at.
    looked: Option<Instant>,
}

impl<P> Default for Heard<P> {
    fn default() -> Self {
        Self { peers: HashMap::new(), late: None }
    }
}

impl<P: Eq + Hash + Copy> Heard<P> {
    /// There is a connection with a peer.
    pub fn connected(&mut self, peer: P, now: Instant) {
        self.peers.entry(peer).or_insert(Peer { heard: now, looked: None });
    }

    /// Something came from a peer.
    pub fn heard(&mut self, peer: &P, now: Instant) {
        // What was read before the last connection closed is of no use.
        if let Some(known) = self.peers.get_mut(peer) {
            known.heard = now;
        }
    }

    /// There is no connection with it any more.
    pub fn forget(&mut self, peer: &P) {
        self.peers.remove(peer);
    }

    /// One's own loop has turned, and was to turn at `due` at the latest.
    pub fn turned(&mut self, due: Option<Instant>, now: Instant) {
        if due.is_some_and(|due| now.saturating_duration_since(due) >= LATE) {
            self.late = Some(now);
        }
    }

    /// The peers of whom nothing was heard for as long as `patience` says: to be looked at now.
    pub fn silent(&mut self, patience: impl Fn(&P) -> Duration, now: Instant) -> Vec<P> {
        let mut silent = Vec::new();
        for (peer, known) in &mut self.peers {
            let since = known.looked.map_or(known.heard, |looked| looked.max(known.heard));
            if now.saturating_duration_since(since) >= patience(peer) {
                known.looked = Some(now);
                silent.push(*peer);
            }
        }
        silent
    }

    /// Whether a connection is to be closed on which a look at `asked` stayed without an answer. What comes in
    /// goes over the connection in use, and says nothing about others. Whoever was late itself judges nobody.
    pub fn is_dead(&self, peer: &P, in_use: bool, asked: Instant, now: Instant) -> bool {
        let is_heard = in_use && self.peers.get(peer).is_some_and(|known| known.heard > asked);
        let since_late = self.late.map(|at| now.saturating_duration_since(at));
        !is_heard && since_late.is_none_or(|since| since >= CLOSE + ANSWER)
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
    fn who_is_silent_for_too_long_is_looked_at_once_in_a_while() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("near", now);
        heard.connected("far", now);
        let patience = |peer: &&str| if *peer == "near" { CLOSE } else { FAR };
        assert!(heard.silent(patience, now + CLOSE / 2).is_empty());
        heard.heard(&"near", now + CLOSE / 2);
        assert!(heard.silent(patience, now + CLOSE).is_empty(), "it spoke since");
        assert_eq!(heard.silent(patience, now + CLOSE * 2), ["near"]);
        assert!(heard.silent(patience, now + CLOSE * 2).is_empty(), "it was looked at");
        assert_eq!(heard.silent(patience, now + CLOSE * 3), ["near"]);
        heard.forget(&"near");
        assert_eq!(heard.silent(patience, now + FAR), ["far"]);
    }

    #[test]
    fn a_connection_is_dead_when_nothing_came_since_it_was_looked_at() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("a", now);
        let asked = now + CLOSE;
        assert!(heard.is_dead(&"a", true, asked, asked + ANSWER));
        heard.heard(&"a", asked + ANSWER / 2);
        assert!(!heard.is_dead(&"a", true, asked, asked + ANSWER), "data keeps answers waiting");
        assert!(heard.is_dead(&"a", false, asked, asked + ANSWER), "it comes on another one");
        heard.forget(&"a");
        heard.heard(&"a", asked + ANSWER);
        assert!(heard.is_dead(&"a", true, asked, asked + ANSWER), "it is not connected");
    }

    #[test]
    fn whoever_was_late_itself_judges_nobody() {
        let now = start();
        let mut heard = Heard::default();
        heard.connected("a", now);
        heard.turned(Some(now), now);
        assert!(heard.is_dead(&"a", true, now, now + ANSWER));
        let woken = now + ANSWER + LATE;
        heard.turned(Some(now + ANSWER), woken);
        assert!(!heard.is_dead(&"a", true, now, woken));
        let later = woken + CLOSE + ANSWER;
        assert!(heard.is_dead(&"a", true, now, later), "there was time for another look");
    }
}
