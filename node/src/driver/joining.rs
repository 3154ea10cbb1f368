//! From an invitation to a coordinator that can be asked: dial, again and again while there is patience,
//! and ask members where the session is coordinated.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{MemberId, SessionId},
    limits, session,
};
use libp2p::{
    Multiaddr, PeerId, TransportError,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;
use tracing::warn;

use super::{Asked, Driver, Exchange, address, membership::Membership, now};
use crate::{
    engine::event::{Input, Unanswered},
    error::JoinError,
    invitation::Invitation,
    session::{Events, Session},
};

/// Between two rounds of dials to addresses that did not answer.
const ROUND: Duration = Duration::from_millis(500);

/// How long a coordinator that was reached may take to let this node in, at least: a busy one takes its time.
pub(super) const ANSWERS: Duration = Duration::from_secs(30);

pub(super) type Outcome = Result<(Session, Events), JoinError>;

/// A session on its way to being joined, until its coordinator is reached.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) invitation: Invitation,
    pub(super) answer: oneshot::Sender<Outcome>,
    pub(super) deadline: Instant,
    next_round: Instant,
    /// Whether the invitation says who the coordinators are; no peer's word adds another one.
    pinned: bool,
    /// Coordinators, from the ticket or as a peer told.
    coordinators: BTreeMap<MemberId, Vec<Multiaddr>>,
    /// Addresses to ask at: of coordinators or of members.
    peers: Vec<Multiaddr>,
    /// Dials under way, by connection: the first of the addresses of each.
    dials: BTreeMap<ConnectionId, Multiaddr>,
    /// Whether there was a first round, which leaves out what can be meant on this machine alone.
    began: bool,
    /// Peers that were asked, so that each is asked once, and whether they have answered.
    asked: BTreeMap<PeerId, bool>,
    /// What came of each address.
    tried: BTreeMap<String, String>,
    /// What peers answered that do not know.
    unhelpful: Vec<String>,
    /// Who was found where somebody else should be.
    wrong: Option<JoinError>,
    failure: Option<JoinError>,
}

impl Joining {
    pub(super) fn new(
        invitation: Invitation,
        answer: oneshot::Sender<Outcome>,
        deadline: Instant,
    ) -> Self {
        let peers = invitation.peers.clone();
        let mut coordinators: BTreeMap<MemberId, Vec<Multiaddr>> = BTreeMap::new();
        for contact in &invitation.coordinators {
            let known = coordinators.entry(contact.member).or_default();
            known.extend(address::heard(&contact.addresses));
        }
        Self {
            pinned: !coordinators.is_empty(),
            invitation,
            answer,
            deadline,
            next_round: now(),
            coordinators,
            peers,
            dials: BTreeMap::new(),
            began: false,
            asked: BTreeMap::new(),
            tried: BTreeMap::new(),
            unhelpful: Vec::new(),
            wrong: None,
            failure: None,
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.invitation.session()
    }

    pub(super) fn next_step(&self) -> Instant {
        self.next_round.min(self.deadline)
    }

    /// Whether there is nowhere left to go.
    fn is_nowhere(&self) -> bool {
        self.coordinators.values().all(Vec::is_empty) && self.peers.is_empty()
    }

    fn fail(self, error: JoinError) {
        // Whoever asked may have gone meanwhile.
        let _ = self.answer.send(Err(error));
    }

    fn give_up(mut self) {
        let error = match self.failure.take() {
            Some(failure) => failure,
            None if self.is_nowhere() => self.wrong.take().unwrap_or(JoinError::NoCoordinator),
            None if !self.unhelpful.is_empty() => JoinError::NotLocated(self.unhelpful.join("; ")),
            None => JoinError::Unreachable { tried: self.what_was_tried() },
        };
        self.fail(error);
    }

    fn what_was_tried(&self) -> String {
        let failed = self.tried.iter().map(|(address, reason)| format!("{address}: {reason}"));
        // A dial of several addresses tells nothing before the last of them has failed.
        let silent = self
            .coordinators
            .values()
            .flatten()
            .chain(&self.peers)
            .map(ToString::to_string)
            .filter(|address| !self.tried.keys().any(|tried| tried.starts_with(address)))
            .map(|address| format!("{address}: no answer"));
        failed.chain(silent).collect::<Vec<_>>().join("; ")
    }
}

impl Driver {
    /// Lets each joining take its next step.
    pub(super) fn step_joinings(&mut self, now: Instant) {
        for mut joining in std::mem::take(&mut self.joinings) {
            if joining.answer.is_closed() {
                self.joining_sessions.remove(&joining.session());
                continue;
            }
            let over = joining.deadline <= now || joining.is_nowhere() || joining.failure.is_some();
            if let Some(coordinator) = self.connected_coordinator(&joining) {
                self.joining_sessions.remove(&joining.session());
                self.begin_membership(joining, coordinator);
            } else if over {
                self.joining_sessions.remove(&joining.session());
                joining.give_up();
            } else {
                if joining.next_round <= now {
                    joining.next_round = now + ROUND;
                    self.dial_round(&mut joining);
                }
                self.joinings.push(joining);
            }
        }
    }

    fn connected_coordinator(&self, joining: &Joining) -> Option<MemberId> {
        joining
            .coordinators
            .keys()
            .find(|coordinator| self.links.contains_key(&coordinator.peer_id()))
            .copied()
    }

    /// Dials whatever of a joining is neither connected nor being dialled.
    fn dial_round(&mut self, joining: &mut Joining) {
        for (coordinator, addresses) in &joining.coordinators {
            let (local, far): (Vec<_>, Vec<_>) =
                addresses.iter().cloned().partition(address::is_local);
            // Somebody else may have the same port here: that is tried last.
            let local = if joining.began || far.is_empty() { local } else { Vec::new() };
            for addresses in [far, local] {
                let Some(first) = addresses.first().cloned() else { continue };
                if joining.dials.values().any(|dialled| *dialled == first) {
                    continue;
                }
                let dial = DialOpts::peer_id(coordinator.peer_id())
                    .condition(PeerCondition::Disconnected)
                    .addresses(addresses)
                    .build();
                let connection = dial.connection_id();
                if self.swarm.dial(dial).is_ok() {
                    joining.dials.insert(connection, first);
                }
            }
        }
        joining.began = true;
        for known in &joining.peers.clone() {
            if joining.dials.values().any(|dialled| dialled == known) {
                continue;
            }
            let named = known.iter().find_map(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            });
            if let Some(peer) = named
                && self.links.contains_key(&peer)
            {
                ask(&mut self.swarm, &mut self.requests, joining, peer);
                continue;
            }
            let dial = match named {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![known.clone()])
                    .build(),
                None => DialOpts::unknown_peer_id().address(known.clone()).build(),
            };
            let connection = dial.connection_id();
            match self.swarm.dial(dial) {
                Ok(()) => drop(joining.dials.insert(connection, known.clone())),
                Err(error) => drop(joining.tried.insert(known.to_string(), reason(&error))),
            }
        }
    }

    /// A connection came up: it may be one that a joining waits for.
    pub(super) fn located_peer_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        remote: &Multiaddr,
    ) {
        for joining in &mut self.joinings {
            let Some(dialled) = joining.dials.remove(&connection) else { continue };
            joining.next_round = now();
            // Somebody is there, if only too busy to answer soon.
            joining.deadline = joining.deadline.max(now() + ANSWERS);
            let coordinator = MemberId::try_from(peer)
                .ok()
                .and_then(|member| joining.coordinators.get_mut(&member));
            if let Some(known) = coordinator {
                // What worked is tried first from now on.
                let worked = address::without_peer(remote);
                known.retain(|other| address::without_peer(other) != worked);
                known.insert(0, worked);
                continue;
            }
            let Some(at) = joining.peers.iter().position(|known| *known == dialled) else {
                continue;
            };
            if named_member(&dialled).is_none() {
                if !joining.pinned {
                    warn!(
                        "{dialled} says it is {peer}; nothing else vouches for that: add /p2p/{peer} \
                         to the address to be sure next time"
                    );
                }
                // It is not dialled once more.
                if let Some(known) = joining.peers.get_mut(at) {
                    known.push(Protocol::P2p(peer));
                }
            }
            ask(&mut self.swarm, &mut self.requests, joining, peer);
        }
        // A coordinator that is connected now is taken up by the next step, which is due at once.
    }

    /// A peer that was asked where a session is coordinated did not answer: it is asked again.
    pub(super) fn not_located(&mut self, peer: PeerId, error: &Unanswered) {
        for joining in &mut self.joinings {
            if joining.asked.remove(&peer).is_some() {
                joining.tried.insert(peer.to_string(), format!("reached, but: {error}"));
            }
        }
    }

    /// A peer answered where a session is coordinated.
    pub(super) fn located(&mut self, peer: PeerId, answer: &Result<session::Answer, Unanswered>) {
        let Ok(member) = MemberId::try_from(peer) else { return };
        for joining in &mut self.joinings {
            match joining.asked.get_mut(&peer) {
                Some(answered) if !*answered => *answered = true,
                Some(_) | None => continue,
            }
            joining.next_round = now();
            match answer {
                Ok(Ok(session::Granted::Located { coordinators })) => {
                    for contact in coordinators.iter().take(limits::COORDINATORS) {
                        if joining.pinned && !joining.coordinators.contains_key(&contact.member) {
                            continue;
                        }
                        let known = joining.coordinators.entry(contact.member).or_default();
                        known.extend(address::heard(&contact.addresses));
                        if contact.member == member {
                            // It was just reached at these.
                            known.extend(joining.peers.iter().map(address::without_peer));
                        }
                    }
                }
                Ok(Ok(_)) => joining.unhelpful.push(format!("{peer} gave another answer")),
                Ok(Err(refusal)) => joining.unhelpful.push(format!("{peer}: {}", refusal.message)),
                Err(error) => joining.unhelpful.push(format!("{peer}: {error}")),
            }
            if joining.coordinators.is_empty()
                && joining.dials.is_empty()
                && joining.asked.values().all(|answered| *answered)
            {
                joining.failure = Some(JoinError::NotLocated(joining.unhelpful.join("; ")));
            }
        }
    }

    /// A dial of a joining came to nothing.
    pub(super) fn joining_dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
    ) {
        let peer = peer.and_then(|peer| MemberId::try_from(peer).ok());
        for joining in &mut self.joinings {
            let Some(dialled) = joining.dials.remove(&connection) else { continue };
            match error {
                DialError::Transport(each) => {
                    for (tried, error) in each {
                        joining.tried.insert(tried.to_string(), transport_reason(error));
                    }
                }
                // That takes out this address, and no other.
                DialError::WrongPeerId { obtained, address } => {
                    let wrong = address::without_peer(address);
                    let is_other = |other: &Multiaddr| address::without_peer(other) != wrong;
                    let expected = peer.or_else(|| named_member(&dialled));
                    if let Some(known) =
                        expected.and_then(|member| joining.coordinators.get_mut(&member))
                    {
                        known.retain(is_other);
                    } else {
                        joining.peers.retain(is_other);
                    }
                    joining.tried.insert(wrong.to_string(), format!("{obtained} is there"));
                    if let Some(expected) = expected {
                        joining.wrong = Some(JoinError::WrongPeer {
                            address: address.clone(),
                            expected,
                            found: obtained.to_string(),
                        });
                    }
                    joining.next_round = now();
                }
                other => drop(joining.tried.insert(dialled.to_string(), reason(other))),
            }
        }
    }

    fn begin_membership(&mut self, joining: Joining, coordinator: MemberId) {
        let peer = coordinator.peer_id();
        let mut addresses = joining.coordinators.get(&coordinator).cloned().unwrap_or_default();
        addresses.truncate(limits::ADDRESSES);
        let session = joining.session();
        let mut membership = match Membership::new(self, joining, coordinator, addresses) {
            Ok(membership) => membership,
            Err(refused) => {
                let (joining, error) = *refused;
                return joining.fail(error);
            }
        };
        membership.handle(Input::Addresses(address::tell(&self.addresses())));
        let peers: Vec<PeerId> = self.links.keys().copied().collect();
        for other in peers.into_iter().filter(|other| *other != peer) {
            if let (Ok(member), Some((_, link))) =
                (MemberId::try_from(other), self.best_link(other))
            {
                membership.link_changed(member, None, Some(link));
            }
        }
        membership.handle(Input::CoordinatorUp);
        self.memberships.insert(session, membership);
    }
}

/// Asks a connected peer where the session is coordinated, once.
fn ask(
    swarm: &mut libp2p::Swarm<super::Behaviour>,
    requests: &mut std::collections::HashMap<(Exchange, super::OutboundRequestId), Asked>,
    joining: &mut Joining,
    peer: PeerId,
) {
    if joining.asked.insert(peer, false).is_none() {
        let request = session::Request::Locate { session: joining.session() };
        let id = swarm.behaviour_mut().session.send_request(&peer, Ok(request));
        requests.insert((Exchange::Session, id), Asked::Locate);
    }
}

fn named_member(address: &Multiaddr) -> Option<MemberId> {
    address.iter().find_map(|part| match part {
        Protocol::P2p(peer) => MemberId::try_from(peer).ok(),
        _ => None,
    })
}

/// The innermost cause, which is what people can act on.
fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(each) => {
            each.first().map_or_else(|| error.to_string(), |(_, error)| transport_reason(error))
        }
        _ => error.to_string(),
    }
}

pub(super) fn transport_reason(error: &TransportError<std::io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            "this kind of address is not supported; TCP and QUIC are".to_owned()
        }
        TransportError::Other(error) => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            cause.to_string()
        }
    }
}
