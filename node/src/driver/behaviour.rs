//! What a node speaks. The derive polls the fields in this order, so that connections are refused
//! before anything is done for them, and substreams and control come before pushes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use arborcast_net::{
    IDENTIFY, exchange,
    gate::Gate,
    gossipsub,
    slots::{Bounds, Slots},
};
use arborcast_protocol::{DATA, EDGE, NOTICE, PATH, PROBE, REPORT, SESSION};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, allow_block_list, autonat, connection_limits,
    core::{Endpoint, transport::PortUse},
    dcutr, gossipsub as gs, identify,
    identity::Keypair,
    ping, relay,
    request_response::ProtocolSupport,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use super::{streams, tasks::Tasks};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Connections that are coming up.
const PENDING: u32 = 64;

/// A node's protocols.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) denied: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub(super) limits: connection_limits::Behaviour,
    pub(super) slots: Slots,
    pub(super) streams: streams::Behaviour,
    pub(super) session: exchange::Session,
    pub(super) report: exchange::Report,
    pub(super) path: exchange::Path,
    pub(super) notice: exchange::Notice,
    pub(super) gossipsub: Gate<gs::Behaviour>,
    pub(super) identify: identify::Behaviour,
    pub(super) observed: Observed,
    pub(super) ping: ping::Behaviour,
    pub(super) circuit: relay::client::Behaviour,
    pub(super) dcutr: dcutr::Behaviour,
    pub(super) autonat: autonat::v2::client::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        keypair: &Keypair,
        circuit: relay::client::Behaviour,
        connections: u32,
        tasks: Tasks,
    ) -> Result<Self, String> {
        let peer = PeerId::from(keypair.public());
        Ok(Self {
            denied: allow_block_list::Behaviour::default(),
            // Circuit, TCP and two of QUIC: what one punched channel takes for a moment. From the coordinator
            // come ten more, which try this node's addresses.
            limits: connection_limits::Behaviour::new(
                connection_limits::ConnectionLimits::default()
                    .with_max_pending_incoming(Some(PENDING))
                    .with_max_established_per_peer(Some(14))
                    .with_max_established(Some(connections)),
            ),
            // Half is for members, and from one address comes at most three quarters of the rest.
            slots: Slots::new(Bounds {
                strangers: (connections as usize / 2).max(8),
                per_origin: (connections as usize * 3 / 8).max(8),
                pending_per_origin: PENDING as usize * 3 / 4,
            }),
            streams: streams::Behaviour::new([EDGE, DATA, PROBE].map(StreamProtocol::new), tasks),
            session: exchange::behaviour(SESSION, ProtocolSupport::Full),
            report: exchange::behaviour(REPORT, ProtocolSupport::Outbound),
            path: exchange::behaviour(PATH, ProtocolSupport::Outbound),
            notice: exchange::behaviour(NOTICE, ProtocolSupport::Inbound),
            gossipsub: Gate::new(gossipsub(keypair)?),
            identify: identify::Behaviour::new(
                identify::Config::new(IDENTIFY.to_owned(), keypair.public())
                    .with_agent_version(concat!("arborcast/", env!("CARGO_PKG_VERSION")).to_owned())
                    .with_push_listen_addr_updates(true),
            ),
            observed: Observed::default(),
            // Answers others. This node itself asks only where it has heard nothing for long, see `look`.
            ping: ping::Behaviour::new(ping::Config::new().with_interval(DAY)),
            circuit,
            dcutr: dcutr::Behaviour::new(peer),
            autonat: autonat::v2::client::Behaviour::default(),
        })
    }
}

/// Offers the address that the coordinator saw us at as it is.
///
/// identify replaces the observed port by our listen port before it offers the address, which is
/// wrong behind every NAT that changes ports; hole punching takes its candidates from that offer
/// alone.
#[derive(Debug, Default)]
pub(super) struct Observed(VecDeque<Multiaddr>);

impl Observed {
    pub(super) fn offer(&mut self, address: Multiaddr) {
        if self.0.len() < 16 {
            self.0.push_back(address);
        }
    }
}

impl NetworkBehaviour for Observed {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

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

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        self.0.pop_front().map_or(Poll::Pending, |address| {
            Poll::Ready(ToSwarm::NewExternalAddrCandidate(address))
        })
    }
}
