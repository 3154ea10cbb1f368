//! Connections: which there are, which one is used, what addresses others are told.

use std::collections::BTreeSet;

use arborcast_protocol::{
    id::MemberId,
    limits,
    qos::{ChannelKind, Transport},
};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, core::ConnectedPoint, multiaddr::Protocol,
    swarm::ConnectionId,
};
use tracing::debug;

use super::{Driver, address, now};
use crate::engine::event::Input;

/// One connection with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) kind: ChannelKind,
    pub(super) transport: Transport,
}

impl Driver {
    /// Where others can dial this node: directly first, over circuits last.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut seen = BTreeSet::new();
        let mut addresses: Vec<Multiaddr> = self
            .swarm
            .external_addresses()
            .chain(self.swarm.listeners())
            .filter(|known| address::is_tellable(known) && seen.insert((*known).clone()))
            .cloned()
            .collect();
        addresses.sort_by_key(address::is_circuit);
        addresses.truncate(limits::ADDRESSES);
        addresses
    }

    pub(super) fn addresses_changed(&mut self) {
        let addresses = self.addresses();
        let told = address::tell(&addresses);
        for membership in self.memberships.values_mut() {
            membership.handle(Input::Addresses(told.clone()));
        }
        self.announce.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
    }

    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let link = Link {
            kind: if endpoint.is_relayed() { ChannelKind::Relayed } else { ChannelKind::Direct },
            transport: address::transport(endpoint.get_remote_address()),
        };
        debug!(%peer, %connection, ?link, "connected");
        self.dial_succeeded(connection, peer);
        let before = self.best_link(peer);
        self.links.entry(peer).or_default().insert(connection, link);
        self.heard.connected(peer, now());
        self.members_changed = true;
        if link.kind == ChannelKind::Direct {
            self.close_circuits(peer);
        }
        self.look_at_others(peer, connection);
        self.link_changed(peer, before);
        self.located_peer_connected(peer, connection, endpoint.get_remote_address());
    }

    /// A direct connection makes circuits to the same peer useless; left open, they would stay so
    /// until the coordinator cuts them.
    pub(super) fn close_circuits(&mut self, peer: PeerId) {
        let Some(links) = self.links.get(&peer) else { return };
        for (connection, link) in links {
            if link.kind == ChannelKind::Relayed {
                self.swarm.close_connection(*connection);
            }
        }
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        debug!(%peer, %connection, "disconnected");
        let before = self.best_link(peer);
        if let Some(links) = self.links.get_mut(&peer) {
            links.remove(&connection);
            if links.is_empty() {
                self.links.remove(&peer);
                self.heard.forget(&peer);
            }
        }
        self.link_changed(peer, before);
    }

    /// Connections with a denied member are closed, and neither dialled nor accepted, over circuits
    /// neither.
    #[cfg(feature = "impairment")]
    pub(super) fn deny(&mut self, member: MemberId, denied: bool) {
        let list = &mut self.swarm.behaviour_mut().denied;
        if denied {
            list.block_peer(member.peer_id());
        } else if list.unblock_peer(member.peer_id()) {
            for membership in self.memberships.values_mut() {
                membership.handle(Input::Allowed { peer: member });
            }
        }
    }

    /// The connection that substreams go over: direct before circuits, then the oldest.
    pub(super) fn best_link(&self, peer: PeerId) -> Option<(ConnectionId, Link)> {
        let links = self.links.get(&peer)?;
        links
            .iter()
            .min_by_key(|(connection, link)| (link.kind, **connection))
            .map(|(connection, link)| (*connection, *link))
    }

    pub(super) fn link_changed(&mut self, peer: PeerId, before: Option<(ConnectionId, Link)>) {
        let after = self.best_link(peer);
        let Ok(member) = MemberId::try_from(peer) else { return };
        if before != after {
            self.forget_probers(member);
        }
        for membership in self.memberships.values_mut() {
            membership.link_changed(
                member,
                before.map(|(_, link)| link),
                after.map(|(_, link)| link),
            );
        }
        if after.is_none() && self.is_coordinator(member) {
            let addresses = self.coordinator_addresses(member);
            self.dialler.keep_trying(peer, addresses, now());
        }
    }

    pub(super) fn is_coordinator(&self, member: MemberId) -> bool {
        self.memberships.values().any(|membership| membership.coordinator() == member)
    }

    pub(super) fn coordinator_addresses(&self, member: MemberId) -> Vec<Multiaddr> {
        self.memberships
            .values()
            .filter(|membership| membership.coordinator() == member)
            .flat_map(|membership| membership.coordinator_addresses().iter().cloned())
            .collect()
    }

    pub(super) fn on_identify(&mut self, event: libp2p::identify::Event) {
        let libp2p::identify::Event::Received { peer_id, info, .. } = event else { return };
        let Ok(member) = MemberId::try_from(peer_id) else { return };
        if !self.is_coordinator(member) {
            return;
        }
        for membership in self.memberships.values_mut() {
            if membership.coordinator() == member {
                membership.learn_addresses(&info.listen_addrs);
            }
        }
        if address::can_be_observed(&info.observed_addr) {
            self.swarm.behaviour_mut().observed.offer(info.observed_addr);
        }
        let serves_circuits =
            info.protocols.contains(&StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop"));
        let reserved = self.swarm.listeners().any(|known| {
            address::is_circuit(known) && known.iter().any(|part| part == Protocol::P2p(peer_id))
        });
        if serves_circuits && !reserved {
            let through = self.coordinator_addresses(member).into_iter().next();
            if let Some(through) = through {
                let circuit = through.with(Protocol::P2p(peer_id)).with(Protocol::P2pCircuit);
                if let Err(error) = self.swarm.listen_on(circuit) {
                    debug!(%error, "no reservation at the coordinator");
                }
            }
        }
    }
}
