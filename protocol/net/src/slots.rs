//! Room for connections. Strangers, that is all who are no members yet, have so much of it in all and from
//! one origin; the rest is for members, and stays theirs whoever else comes. A connection that an origin
//! has no room for is refused before anything is done for it.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished, dummy,
    },
};

use arborcast_protocol::origin::Origin;

/// How many connections strangers may have.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all. When there are so many, an origin that has few still has room for one.
    pub strangers: usize,
    /// From one origin, those included that are only coming up.
    pub per_origin: usize,
    /// From one origin that are coming up.
    pub pending_per_origin: usize,
}

/// An origin with so few connections has room for one however many there are in all.
const FEW: usize = 4;

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many connections of peers that are no members, from there or in all")]
pub struct Full;

/// Counts connections.
#[derive(Debug)]
pub struct Slots {
    bounds: Bounds,
    pending: HashMap<ConnectionId, Origin>,
    open: HashMap<ConnectionId, (PeerId, Option<Origin>)>,
    /// Members among those that are connected.
    members: HashSet<PeerId>,
    counts: HashMap<Origin, Count>,
    /// Connections of strangers, of all origins.
    strangers: usize,
}

#[derive(Clone, Copy, Default, Debug)]
struct Count {
    pending: usize,
    strangers: usize,
}

impl Slots {
    /// With room for so many.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            pending: HashMap::new(),
            open: HashMap::new(),
            members: HashSet::new(),
            counts: HashMap::new(),
            strangers: 0,
        }
    }

    /// Whether a connected peer is a member, from now on. Holds until its last connection is gone.
    pub fn turn(&mut self, peer: PeerId, is_member: bool) {
        let changed =
            if is_member { self.members.insert(peer) } else { self.members.remove(&peer) };
        if !changed {
            return;
        }
        let of_peer = self.open.values().filter(|(other, _)| *other == peer);
        let origins: Vec<Option<Origin>> = of_peer.map(|(_, origin)| *origin).collect();
        for origin in origins {
            self.count_stranger(origin, !is_member);
        }
    }

    fn count_stranger(&mut self, origin: Option<Origin>, more: bool) {
        let step = |count: usize| if more { count + 1 } else { count.saturating_sub(1) };
        self.strangers = step(self.strangers);
        if let Some(origin) = origin {
            let count = self.counts.entry(origin).or_default();
            count.strangers = step(count.strangers);
            self.tidy(origin);
        }
    }

    fn tidy(&mut self, origin: Origin) {
        if self.counts.get(&origin).is_some_and(|count| count.pending + count.strangers == 0) {
            self.counts.remove(&origin);
        }
    }

    fn no_longer_pending(&mut self, connection: ConnectionId) {
        let Some(origin) = self.pending.remove(&connection) else { return };
        if let Some(count) = self.counts.get_mut(&origin) {
            count.pending = count.pending.saturating_sub(1);
        }
        self.tidy(origin);
    }

    fn admits(&self, origin: Origin) -> bool {
        let count = self.counts.get(&origin).copied().unwrap_or_default();
        let own = count.pending + count.strangers;
        count.pending < self.bounds.pending_per_origin
            && own < self.bounds.per_origin
            && (own < FEW || self.strangers + self.pending.len() < self.bounds.strangers)
    }
}

/// Where a connection comes from; `None` if that is no place of its own, as over a circuit.
#[must_use]
pub fn origin(address: &Multiaddr) -> Option<Origin> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::from(ip).into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).into()),
        _ => None,
    })
}

impl NetworkBehaviour for Slots {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(origin) = origin(remote) else { return Ok(()) };
        if !self.admits(origin) {
            return Err(ConnectionDenied::new(Full));
        }
        self.pending.insert(connection, origin);
        self.counts.entry(origin).or_default().pending += 1;
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                self.no_longer_pending(connection_id);
                let from = origin(endpoint.get_remote_address()).filter(|_| endpoint.is_listener());
                self.open.insert(connection_id, (peer_id, from));
                if !self.members.contains(&peer_id) {
                    self.count_stranger(from, true);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                remaining_established,
                ..
            }) => {
                if let Some((_, from)) = self.open.remove(&connection_id)
                    && !self.members.contains(&peer_id)
                {
                    self.count_stranger(from, false);
                }
                if remaining_established == 0 {
                    self.members.remove(&peer_id);
                }
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.no_longer_pending(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { strangers: 20, per_origin: 10, pending_per_origin: 6 };

    fn from(number: u8) -> Multiaddr {
        Multiaddr::from(IpAddr::from([192, 0, 2, number])).with(Protocol::Tcp(4001))
    }

    fn come(slots: &mut Slots, number: u8) -> Result<ConnectionId, ()> {
        let connection =
            ConnectionId::new_unchecked(slots.pending.len() + 1_000 * slots.open.len());
        let remote = from(number);
        slots
            .handle_pending_inbound_connection(connection, &remote, &remote)
            .map(|()| connection)
            .map_err(|_| ())
    }

    fn is_up(slots: &mut Slots, connection: ConnectionId, peer: PeerId, number: u8) {
        slots.no_longer_pending(connection);
        let from = origin(&from(number));
        slots.open.insert(connection, (peer, from));
        if !slots.members.contains(&peer) {
            slots.count_stranger(from, true);
        }
    }

    #[test]
    fn one_origin_takes_no_more_than_its_share_and_members_none_of_it() {
        let mut slots = Slots::new(BOUNDS);
        for _ in 0..BOUNDS.pending_per_origin {
            come(&mut slots, 1).expect("room");
        }
        assert!(come(&mut slots, 1).is_err(), "half-open connections have a bound of their own");
        let pending: Vec<ConnectionId> = slots.pending.keys().copied().collect();
        for connection in pending {
            is_up(&mut slots, connection, PeerId::random(), 1);
        }
        for _ in 0..4 {
            let connection = come(&mut slots, 1).expect("room");
            is_up(&mut slots, connection, PeerId::random(), 1);
        }
        assert!(come(&mut slots, 1).is_err());
        let members: Vec<PeerId> = slots.open.values().map(|(peer, _)| *peer).collect();
        for peer in members {
            slots.turn(peer, true);
        }
        assert_eq!((slots.strangers, slots.counts.len()), (0, 0));
        assert!(come(&mut slots, 1).is_ok());
    }

    #[test]
    fn many_origins_together_leave_room_for_a_few_from_each_other_one() {
        let mut slots = Slots::new(BOUNDS);
        for number in 1..=4 {
            for _ in 0..5 {
                let connection = come(&mut slots, number).expect("room");
                is_up(&mut slots, connection, PeerId::random(), number);
            }
        }
        assert!(come(&mut slots, 1).is_err());
        for _ in 0..FEW {
            come(&mut slots, 9).expect("room");
        }
        assert!(come(&mut slots, 9).is_err());
    }
}
