//! Long-lived substreams of tree edges, each on a connection of our choosing.
//!
//! libp2p-stream opens on a random connection of the peer, circuits included, and drops inbound
//! streams when its reader lags; edges need neither. So this is the same in small with the connection
//! named.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::{Ready, ready};
use libp2p::{
    InboundUpgrade, Multiaddr, OutboundUpgrade, PeerId, StreamProtocol,
    core::{Endpoint, UpgradeInfo, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::oneshot;

use super::tasks::Tasks;
use crate::impairment::{Impairments, Stream, Wire};

/// Substreams that one connection may have handed up or asked for without anybody taking them.
const WAITING: usize = 32;

/// Where an opened substream goes. Dropped if the connection ends first.
pub(super) type Reply = oneshot::Sender<io::Result<Stream>>;

/// A substream that a peer opened.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) peer: PeerId,
    pub(super) protocol: StreamProtocol,
    pub(super) stream: Stream,
}

/// A substream to be opened.
#[derive(Debug)]
pub(super) struct Open {
    protocol: StreamProtocol,
    reply: Reply,
}

#[derive(Debug)]
pub(super) struct Behaviour {
    protocols: Vec<StreamProtocol>,
    events: VecDeque<ToSwarm<Inbound, Open>>,
    /// Which channels are made worse, with all their substreams.
    pub(super) impairments: Impairments,
}

impl Behaviour {
    /// Accepts these protocols.
    pub(super) fn new(protocols: impl IntoIterator<Item = StreamProtocol>, tasks: Tasks) -> Self {
        Self {
            protocols: protocols.into_iter().collect(),
            events: VecDeque::new(),
            impairments: Impairments::new(tasks),
        }
    }

    /// Opens a substream on this connection.
    pub(super) fn open(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: StreamProtocol,
    ) -> oneshot::Receiver<io::Result<Stream>> {
        let (reply, opened) = oneshot::channel();
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Open { protocol, reply },
        });
        opened
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler {
            wire: self.impairments.wire(peer),
            protocols: self.protocols.clone(),
            open: VecDeque::new(),
            inbound: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (protocol, stream): THandlerOutEvent<Self>,
    ) {
        self.events.push_back(ToSwarm::GenerateEvent(Inbound { peer, protocol, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // The swarm polls again after each event and each call from the event loop: no waker needed.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Debug)]
pub(super) struct Handler {
    wire: Arc<Wire>,
    protocols: Vec<StreamProtocol>,
    open: VecDeque<Open>,
    inbound: VecDeque<(StreamProtocol, Stream)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (StreamProtocol, Stream);
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.protocols.clone()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, Reply, Self::ToBehaviour>> {
        if let Some(inbound) = self.inbound.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(inbound));
        }
        if let Some(Open { protocol, reply }) = self.open.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Upgrade(vec![protocol]), reply),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if self.open.len() < WAITING {
            self.open.push_back(open);
        } else {
            let _ = open.reply.send(Err(io::Error::other("too many substreams at once")));
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade, (), Reply>) {
        match event {
            // Over the bound the stream is dropped, which resets it: its opener tries again.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) if self.inbound.len() < WAITING => {
                let stream = Stream::new(stream, Arc::clone(&self.wire));
                self.inbound.push_back((protocol, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info: reply,
            }) => {
                let _ = reply.send(Ok(Stream::new(stream, Arc::clone(&self.wire))));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    StreamUpgradeError::Apply(never) => match never {},
                    StreamUpgradeError::NegotiationFailed => {
                        io::Error::new(io::ErrorKind::Unsupported, "not an Arborcast node")
                    }
                    StreamUpgradeError::Io(error) => error,
                };
                let _ = reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Negotiates one of some protocols and hands the bare stream out.
#[derive(Clone, Debug)]
pub(super) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Upgrade {
    type Output = (StreamProtocol, libp2p::Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<libp2p::Stream> for Upgrade {
    type Output = (StreamProtocol, libp2p::Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: libp2p::Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}
