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

use super::{Driver, address};
use crate::engine::event::Input;

/// First and longest wait between attempts to reach a lost coordinator.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Dials under way for candidates; the engine asks for fewer.
const ATTEMPTS: usize = 256;

/// Dials under way and those to come.
#[derive(Debug, Default)]
pub(super) struct Dialler {
    /// What to try next if this dial fails: circuits, when direct addresses came first.
    attempts: HashMap<ConnectionId, (PeerId, Vec<Multiaddr>)>,
    /// Coordinators that were lost.
    lost: BTreeMap<PeerId, Lost>,
}

#[derive(Debug)]
struct Lost {
    addresses: Vec<Multiaddr>,
    wait: Duration,
    next: Instant,
}

impl Dialler {
    /// Tries to reach a coordinator until it is reached or forgotten.
    pub(super) fn keep_trying(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        self.lost.entry(peer).or_insert(Lost { addresses, wait: RETRY.0, next: now + RETRY.0 });
    }

    pub(super) fn succeeded(&mut self, peer: PeerId) {
        self.lost.remove(&peer);
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.lost.remove(&peer);
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
                lost.next = now + lost.wait;
                due.push((*peer, lost.addresses.clone()));
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
    fn attempt(&mut self, peer: PeerId, first: Vec<Multiaddr>, later: Vec<Multiaddr>) -> bool {
        if self.dialler.attempts.len() >= ATTEMPTS {
            return false;
        }
        let dial = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(first)
            .build();
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dialler.attempts.insert(connection, (peer, later));
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
        self.joining_dial_failed(connection, error);
        if let Some((peer, later)) = self.dialler.attempts.remove(&connection)
            && !self.links.contains_key(&peer)
            && (later.is_empty() || !self.attempt(peer, later, Vec::new()))
        {
            self.tell_dial_failed(peer);
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
