//! Candidates and coordinators to connections: direct addresses before circuits, and for
//! coordinators again and again, ever more slowly.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use arborcast_protocol::session::Contact;
use libp2p::{
    Multiaddr, PeerId,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tracing::debug;

use super::{Driver, address, now};
use crate::engine::event::Input;

/// First and longest wait between attempts to reach a lost coordinator; see [`spread`].
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Dials under way for candidates; the engine asks for fewer.
const ATTEMPTS: usize = 256;

/// Dials under way and those to come.
#[derive(Debug, Default)]
pub(super) struct Dialler {
    attempts: HashMap<ConnectionId, Attempt>,
    /// Coordinators that were lost.
    lost: BTreeMap<PeerId, Lost>,
}

/// A dial of a candidate.
#[derive(Debug)]
struct Attempt {
    peer: PeerId,
    /// What is being dialled.
    now: Vec<Multiaddr>,
    /// What to try next if that fails: circuits, when direct addresses came first.
    later: Vec<Multiaddr>,
}

#[derive(Debug)]
struct Lost {
    addresses: Vec<Multiaddr>,
    /// Those of them where somebody else answered.
    elsewhere: Vec<Multiaddr>,
    wait: Duration,
    next: Instant,
}

impl Lost {
    /// What to dial: where somebody else answers, only when there is nothing else.
    fn next_addresses(&mut self) -> Vec<Multiaddr> {
        let left: Vec<Multiaddr> = self
            .addresses
            .iter()
            .filter(|address| !self.elsewhere.contains(address))
            .cloned()
            .collect();
        if left.is_empty() {
            self.elsewhere.clear();
            return self.addresses.clone();
        }
        left
    }
}

/// Between a half and the whole of a wait: all members lose a coordinator at the same moment, and are not to
/// come back in step.
fn spread(wait: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or(u32::MAX / 2);
    wait / 2 + wait.mul_f64(f64::from(part) / f64::from(u32::MAX) / 2.0)
}

impl Dialler {
    /// Tries to reach a coordinator until it is reached or forgotten.
    pub(super) fn keep_trying(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let (wait, next) = (RETRY.0, now + spread(RETRY.0));
        self.lost.entry(peer).or_insert(Lost { addresses, elsewhere: Vec::new(), wait, next });
    }

    /// Somebody else answered at an address of a coordinator: the others are tried at once.
    fn somebody_else_at(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        let Some(lost) = self.lost.get_mut(&peer) else { return };
        let address = address::without_peer(address);
        let others = lost.addresses.iter().any(|other| {
            address::without_peer(other) != address && !lost.elsewhere.contains(other)
        });
        lost.elsewhere.extend(
            lost.addresses.iter().filter(|other| address::without_peer(other) == address).cloned(),
        );
        if others {
            lost.next = now;
        }
    }

    pub(super) fn succeeded(&mut self, peer: PeerId) {
        self.lost.remove(&peer);
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.lost.remove(&peer);
    }

    /// The network has changed: nobody waits for his turn.
    pub(super) fn try_now(&mut self, now: Instant) {
        for lost in self.lost.values_mut() {
            lost.wait = RETRY.0;
            lost.next = lost.next.min(now);
        }
    }

    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.lost.values().map(|lost| lost.next).min()
    }

    /// Coordinators whose turn it is.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for (peer, lost) in &mut self.lost {
            if lost.next <= now {
                lost.wait = (lost.wait * 2).min(RETRY.1);
                lost.next = now + spread(lost.wait);
                due.push((*peer, lost.next_addresses()));
            }
        }
        due
    }
}

impl Driver {
    /// Dials a candidate: directly, and over circuits if that fails. False if it failed at once.
    pub(super) fn dial_candidate(&mut self, contact: &Contact) -> bool {
        let peer = contact.member.peer_id();
        let (circuits, direct): (Vec<_>, Vec<_>) =
            address::heard(&contact.addresses).into_iter().partition(address::is_circuit);
        let (first, later) =
            if direct.is_empty() { (circuits, Vec::new()) } else { (direct, circuits) };
        !first.is_empty() && self.attempt(peer, first, later)
    }

    /// Begins a dial; false if there is nothing to wait for.
    fn attempt(&mut self, peer: PeerId, now: Vec<Multiaddr>, later: Vec<Multiaddr>) -> bool {
        if self.dialler.attempts.len() >= ATTEMPTS {
            return false;
        }
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(now.clone())
            .build();
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dialler.attempts.insert(connection, Attempt { peer, now, later });
                true
            }
            // The one under way tells how it went.
            Err(DialError::DialPeerConditionFalse(_)) => true,
            Err(error) => {
                debug!(%peer, %error, "not dialled");
                false
            }
        }
    }

    /// Dials a peer unless there is a connection or a dial already.
    pub(super) fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .build();
        if let Err(error) = self.swarm.dial(dial) {
            debug!(%peer, %error, "not dialled");
        }
    }

    /// A dial came to nothing.
    pub(super) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        debug!(?peer, %error, "dial failed");
        self.joining_dial_failed(connection, peer, error);
        if let (Some(peer), DialError::WrongPeerId { address, .. }) = (peer, error) {
            self.dialler.somebody_else_at(peer, address, now());
        }
        let Some(attempt) = self.dialler.attempts.remove(&connection) else { return };
        if self.links.contains_key(&attempt.peer) {
            return;
        }
        let (now, later) = match error {
            // That takes out this address, and no other.
            DialError::WrongPeerId { address, .. } => {
                let is_other = |other: &Multiaddr| {
                    address::without_peer(other) != address::without_peer(address)
                };
                (attempt.now.into_iter().filter(is_other).collect(), attempt.later)
            }
            _ => (Vec::new(), attempt.later),
        };
        let (now, later) = if now.is_empty() { (later, Vec::new()) } else { (now, later) };
        if now.is_empty() || !self.attempt(attempt.peer, now, later) {
            self.tell_dial_failed(attempt.peer);
        }
    }

    /// A dial led to a connection.
    pub(super) fn dial_succeeded(&mut self, connection: ConnectionId, peer: PeerId) {
        self.dialler.attempts.remove(&connection);
        self.dialler.succeeded(peer);
    }

    fn tell_dial_failed(&mut self, peer: PeerId) {
        let Ok(peer) = peer.try_into() else { return };
        for membership in self.memberships.values_mut() {
            membership.handle(Input::DialFailed { peer });
        }
    }
}
