//! The open connections of each peer: those that it made, and those by which it was dialled back to find
//! out whether an address of its leads there (`AutoNAT` v2).

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, multiaddr::Protocol, swarm::ConnectionId};

/// Connections that one peer may keep: one over TCP and one over QUIC. One more is below the limit that
/// refuses, so that those that are dead keep nobody out.
const MOST: usize = 2;

/// The connections with one peer.
#[derive(Debug, Default)]
struct Connections {
    /// Made by the peer, the oldest first.
    made: Vec<ConnectionId>,
    /// Made to try an address of the peer. Bounded by what `AutoNAT` tries at a time.
    dial_backs: HashMap<ConnectionId, Multiaddr>,
}

/// The connections with all peers.
#[derive(Debug, Default)]
pub(super) struct Peers(HashMap<PeerId, Connections>);

impl Peers {
    /// A connection came up. Gives one to be closed: whoever connects again and again has lost the ones
    /// before, or will not miss them.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) -> Option<ConnectionId> {
        let connections = self.0.entry(peer).or_default();
        match endpoint {
            ConnectedPoint::Listener { .. } => {
                connections.made.push(connection);
                (connections.made.len() > MOST).then(|| connections.made.remove(0))
            }
            ConnectedPoint::Dialer { address, .. } => {
                connections.dial_backs.insert(connection, without_peer(address));
                None
            }
        }
    }

    /// A connection is gone. True if it was the last with this peer.
    pub(super) fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let Some(connections) = self.0.get_mut(&peer) else { return true };
        connections.made.retain(|open| *open != connection);
        connections.dial_backs.remove(&connection);
        let is_last = connections.made.is_empty() && connections.dial_backs.is_empty();
        if is_last {
            self.0.remove(&peer);
        }
        is_last
    }

    /// Whether a peer made this connection.
    pub(super) fn is_made_by(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        self.0.get(peer).is_some_and(|connections| connections.made.contains(&connection))
    }

    /// The connections that tried an address of a peer, which has served its purpose.
    pub(super) fn tried(&self, peer: &PeerId, address: &Multiaddr) -> Vec<ConnectionId> {
        let address = without_peer(address);
        let dial_backs = self.0.get(peer).into_iter().flat_map(|open| &open.dial_backs);
        dial_backs.filter(|(_, tried)| **tried == address).map(|(open, _)| *open).collect()
    }
}

/// An address without the id of whoever is there.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().expect("an address")
    }

    fn from(port: u16) -> ConnectedPoint {
        ConnectedPoint::Listener { local_addr: address(1), send_back_addr: address(port) }
    }

    fn to(port: u16, peer: PeerId) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: address(port).with(Protocol::P2p(peer)),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        }
    }

    #[test]
    fn dialling_a_peer_back_takes_none_of_its_own_connections() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let [own, back, other_back] = [1, 2, 3].map(ConnectionId::new_unchecked);
        assert_eq!(peers.connected(peer, own, &from(9)), None);
        assert_eq!(peers.connected(peer, back, &to(4001, peer)), None);
        assert_eq!(peers.connected(peer, other_back, &to(4002, peer)), None);
        assert!(peers.is_made_by(&peer, own) && !peers.is_made_by(&peer, back));
        assert_eq!(peers.tried(&peer, &address(4001)), [back]);
        assert!(!peers.disconnected(peer, back) && !peers.disconnected(peer, other_back));
        assert_eq!(peers.tried(&peer, &address(4001)), []);
        assert!(peers.disconnected(peer, own));
        assert!(peers.0.is_empty());
    }

    #[test]
    fn who_connects_again_and_again_keeps_the_newest() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let [first, second, third] = [1, 2, 3].map(ConnectionId::new_unchecked);
        assert_eq!(peers.connected(peer, first, &from(7)), None);
        assert_eq!(peers.connected(peer, second, &from(8)), None);
        assert_eq!(peers.connected(peer, third, &from(9)), Some(first));
        assert_eq!(peers.connected(peer, first, &from(7)), Some(second));
    }
}
