//! From an invitation to a coordinator that can be asked: resolve names, dial, ask members where
//! the session is coordinated.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
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

pub(super) type Outcome = Result<(Session, Events), JoinError>;

/// A session on its way to being joined, until its coordinator is reached.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) invitation: Invitation,
    pub(super) answer: oneshot::Sender<Outcome>,
    pub(super) deadline: Instant,
    next_round: Instant,
    /// Coordinators, from the ticket or as a peer told.
    coordinators: BTreeMap<MemberId, Vec<Multiaddr>>,
    /// Addresses of peers to ask, names resolved.
    peers: Vec<Multiaddr>,
    /// Dials of peers under way, by connection.
    dials: BTreeMap<ConnectionId, Multiaddr>,
    /// Peers that were asked, so that each is asked once.
    asked: BTreeSet<PeerId>,
    /// What came of each address.
    tried: BTreeMap<String, String>,
    /// What peers answered that do not know.
    unhelpful: Vec<String>,
    failure: Option<JoinError>,
}

impl Joining {
    pub(super) fn new(
        invitation: Invitation,
        answer: oneshot::Sender<Outcome>,
        deadline: Instant,
    ) -> Self {
        Self {
            invitation,
            answer,
            deadline,
            next_round: now(),
            coordinators: BTreeMap::new(),
            peers: Vec::new(),
            dials: BTreeMap::new(),
            asked: BTreeSet::new(),
            tried: BTreeMap::new(),
            unhelpful: Vec::new(),
            failure: None,
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.invitation.session()
    }

    pub(super) fn next_step(&self) -> Instant {
        self.next_round.min(self.deadline)
    }

    /// Resolves the names in all addresses, within `patience` each.
    pub(super) async fn resolve(mut self, patience: Duration) -> Self {
        let resolve = async |address: &Multiaddr| {
            tokio::time::timeout(patience, resolve(address))
                .await
                .unwrap_or_else(|_| Err("its name was not resolved in time".to_owned()))
        };
        let contacts = std::mem::take(&mut self.invitation.coordinators);
        for contact in contacts {
            let known = self.coordinators.entry(contact.member).or_default();
            for address in address::heard(&contact.addresses) {
                match resolve(&address).await {
                    Ok(resolved) => known.extend(resolved),
                    Err(reason) => drop(self.tried.insert(address.to_string(), reason)),
                }
            }
        }
        for address in std::mem::take(&mut self.invitation.peers) {
            match resolve(&address).await {
                Ok(resolved) => self.peers.extend(resolved),
                Err(reason) => drop(self.tried.insert(address.to_string(), reason)),
            }
        }
        self.next_round = now();
        self
    }

    fn fail(self, error: JoinError) {
        // Whoever asked may have gone meanwhile.
        let _ = self.answer.send(Err(error));
    }

    fn give_up(mut self) {
        let error = match self.failure.take() {
            Some(failure) => failure,
            None if self.coordinators.is_empty()
                && self.peers.is_empty()
                && self.tried.is_empty() =>
            {
                JoinError::NoCoordinator
            }
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
            let nowhere = joining.coordinators.is_empty() && joining.peers.is_empty();
            let over = joining.deadline <= now || nowhere || joining.failure.is_some();
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
            let dial = DialOpts::peer_id(coordinator.peer_id())
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses.clone())
                .build();
            let connection = dial.connection_id();
            if self.swarm.dial(dial).is_ok() {
                let first = addresses.first().cloned().unwrap_or_else(Multiaddr::empty);
                joining.dials.insert(connection, first);
            }
        }
        if !joining.coordinators.is_empty() {
            return;
        }
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
    pub(super) fn located_peer_connected(&mut self, peer: PeerId, connection: ConnectionId) {
        for joining in &mut self.joinings {
            let Some(dialled) = joining.dials.remove(&connection) else { continue };
            if joining.coordinators.is_empty() {
                let pinned = dialled.iter().any(|part| matches!(part, Protocol::P2p(_)));
                if !pinned {
                    warn!(
                        "{dialled} says it is {peer}; nothing else vouches for that: add /p2p/{peer} \
                         to the address to be sure next time"
                    );
                }
                ask(&mut self.swarm, &mut self.requests, joining, peer);
            }
            joining.next_round = now();
        }
        // A coordinator that is connected now is taken up by the next step, which is due at once.
    }

    /// A peer answered where a session is coordinated.
    pub(super) fn located(&mut self, peer: PeerId, answer: &Result<session::Answer, Unanswered>) {
        let Ok(member) = MemberId::try_from(peer) else { return };
        for joining in &mut self.joinings {
            if !joining.asked.remove(&peer) {
                continue;
            }
            joining.next_round = now();
            match answer {
                Ok(Ok(session::Granted::Located { coordinators })) => {
                    for contact in coordinators.iter().take(limits::COORDINATORS) {
                        let known = joining.coordinators.entry(contact.member).or_default();
                        known.extend(address::heard(&contact.addresses));
                        if contact.member == member {
                            // It was just reached at these.
                            known.extend(joining.peers.iter().map(without_peer));
                        }
                    }
                }
                Ok(Ok(_)) => joining.unhelpful.push(format!("{peer} gave another answer")),
                Ok(Err(refusal)) => joining.unhelpful.push(format!("{peer}: {}", refusal.message)),
                Err(error) => joining.unhelpful.push(format!("{peer}: {error}")),
            }
            if joining.coordinators.is_empty()
                && joining.dials.is_empty()
                && joining.asked.is_empty()
            {
                joining.failure = Some(JoinError::NotLocated(joining.unhelpful.join("; ")));
            }
        }
    }

    /// A dial of a joining came to nothing.
    pub(super) fn joining_dial_failed(&mut self, connection: ConnectionId, error: &DialError) {
        for joining in &mut self.joinings {
            let Some(dialled) = joining.dials.remove(&connection) else { continue };
            match error {
                DialError::Transport(each) => {
                    for (tried, error) in each {
                        joining.tried.insert(tried.to_string(), transport_reason(error));
                    }
                }
                DialError::WrongPeerId { obtained, address } => {
                    let expected = joining
                        .coordinators
                        .keys()
                        .next()
                        .copied()
                        .or_else(|| named_member(&dialled));
                    if let Some(expected) = expected {
                        joining.failure = Some(JoinError::WrongPeer {
                            address: address.clone(),
                            expected,
                            found: obtained.to_string(),
                        });
                        joining.next_round = now();
                    }
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
    if joining.asked.insert(peer) {
        let request = session::Request::Locate { session: joining.session() };
        let id = swarm.behaviour_mut().session.send_request(&peer, Ok(request));
        requests.insert((Exchange::Session, id), Asked::Locate);
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
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

/// The address with its name, if it has one, replaced by each of the IPs the name stands for.
async fn resolve(address: &Multiaddr) -> Result<Vec<Multiaddr>, String> {
    let named = address.iter().enumerate().find_map(|(at, part)| match part {
        Protocol::Dns(name) => Some((at, name.into_owned(), true, true)),
        Protocol::Dns4(name) => Some((at, name.into_owned(), true, false)),
        Protocol::Dns6(name) => Some((at, name.into_owned(), false, true)),
        _ => None,
    });
    let Some((at, name, v4, v6)) = named else { return Ok(vec![address.clone()]) };
    let found = tokio::net::lookup_host((name.as_str(), 0))
        .await
        .map_err(|error| format!("the name {name} cannot be resolved: {error}"))?;
    let resolved: Vec<Multiaddr> = found
        .map(|socket| socket.ip())
        .filter(|ip| if ip.is_ipv4() { v4 } else { v6 })
        .filter_map(|ip| {
            address.replace(at, |_| {
                Some(match ip {
                    IpAddr::V4(ip) => Protocol::Ip4(ip),
                    IpAddr::V6(ip) => Protocol::Ip6(ip),
                })
            })
        })
        .collect();
    if resolved.is_empty() {
        return Err(format!("the name {name} has no address of that kind"));
    }
    Ok(resolved)
}
