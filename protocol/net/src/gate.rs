//! A protocol for members alone. libp2p tells a protocol of every connection, and has no place to say
//! which peers it is for; this wraps one, and does so.
//!
//! Whoever is not let through may open substreams, but nothing on them is read or answered, and nothing is
//! sent. They are not refused: two peers come to know each other as members at different moments, and a
//! refusal would last as long as the connection.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent,
        ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished,
        handler::ConnectionEvent,
    },
};

/// A protocol, and who may use it.
#[derive(Debug)]
pub struct Gate<B> {
    inner: B,
    peers: HashMap<PeerId, Peer>,
    /// Connections that are to be told.
    turns: VecDeque<(PeerId, ConnectionId, bool)>,
}

/// A connected peer.
#[derive(Debug, Default)]
struct Peer {
    connections: Vec<ConnectionId>,
    is_open: bool,
}

/// What the handler of one connection is told.
#[derive(Debug)]
pub enum Told<E> {
    /// Whether its peer is let through from now on.
    Turn(bool),
    /// Something of the protocol's own.
    Inner(E),
}

impl<B> Gate<B> {
    /// Nobody is let through yet.
    pub fn new(inner: B) -> Self {
        Self { inner, peers: HashMap::new(), turns: VecDeque::new() }
    }

    /// The protocol.
    pub const fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Lets a connected peer through from now on, or no longer. Holds until its last connection is gone.
    pub fn turn(&mut self, peer: PeerId, is_open: bool) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.is_open != is_open {
            known.is_open = is_open;
            self.turns.extend(known.connections.iter().map(|at| (peer, *at, is_open)));
        }
    }

    fn is_open(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|known| known.is_open)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let is_open = self.is_open(&peer);
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
            .map(|inner| Handler { inner, is_open })
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let is_open = self.is_open(&peer);
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port)
            .map(|inner| Handler { inner, is_open })
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => self.peers.entry(*peer_id).or_default().connections.push(*connection_id),
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                remaining_established,
                ..
            }) => {
                if *remaining_established == 0 {
                    self.peers.remove(peer_id);
                } else if let Some(known) = self.peers.get_mut(peer_id) {
                    known.connections.retain(|open| open != connection_id);
                }
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, is_open)) = self.turns.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: Told::Turn(is_open),
            });
        }
        self.inner.poll(cx).map(|event| event.map_in(Told::Inner))
    }
}

/// The protocol on one connection.
#[derive(Debug)]
pub struct Handler<H> {
    inner: H,
    is_open: bool,
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = Told<H::FromBehaviour>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<H::InboundProtocol, H::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.is_open && self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>>
    {
        // A handler is polled again after whatever it is told, so nobody has to wake it up.
        if self.is_open { self.inner.poll(cx) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, told: Self::FromBehaviour) {
        match told {
            Told::Turn(is_open) => self.is_open = is_open,
            Told::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            H::InboundProtocol,
            H::OutboundProtocol,
            H::InboundOpenInfo,
            H::OutboundOpenInfo,
        >,
    ) {
        self.inner.on_connection_event(event);
    }
}
