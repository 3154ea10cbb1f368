//! A node on a real network: one task that owns the swarm, the engines of all joined sessions and
//! the timer. Decides nothing.

#![expect(clippy::wildcard_enum_match_arm, reason = "libp2p's enums are open and we follow few")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    DATA, EDGE, codec,
    frame::Frame,
    id::{MemberId, SessionId},
    limits,
    notice::{News, Noted},
    path,
    probe::{Echo, Probe},
    qos::{ChannelKind, Transport},
    refusal::{Code, Refusal},
    session::{self, Contact},
    tree::Update,
};
use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder,
    core::ConnectedPoint,
    gossipsub,
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    request_response::{self, OutboundRequestId},
    swarm::{ConnectionId, SwarmEvent},
    tcp, yamux,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{debug, warn};

use crate::{
    config::Config,
    engine::event::{EdgeId, Input, RequestId, Unanswered},
    error::{JoinError, SpawnError},
    invitation::Invitation,
    session::{Events, Session, Status},
};

mod address;
mod behaviour;
mod dial;
mod edge;
mod joining;
mod membership;
mod streams;

use behaviour::{Behaviour, BehaviourEvent};
use edge::{Doors, FromEdge, HandshakeError, Opened, Token};
use joining::Joining;
use membership::Membership;

/// Wakes the event loop: an edge's writer or the application has room, or a message waits.
pub(crate) type Wake = Arc<Notify>;

/// What the handles ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        invitation: Box<Invitation>,
        answer: oneshot::Sender<Result<(Session, Events), JoinError>>,
    },
    Status {
        session: SessionId,
        answer: oneshot::Sender<Status>,
    },
    Leave {
        session: SessionId,
        patience: Duration,
        done: oneshot::Sender<()>,
    },
    Abandon {
        session: SessionId,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// What tasks of the driver's own bring back.
#[derive(Debug)]
enum Internal {
    /// The addresses of an invitation, names resolved.
    Resolved(Box<Joining>),
    /// An edge that this node opened.
    EdgeOpened {
        session: SessionId,
        peer: MemberId,
        result: Result<(Opened, libp2p::Stream), HandshakeError>,
    },
    /// Frames of this node, sealed and signed.
    Made { session: SessionId, frames: Vec<(Frame, Bytes)> },
    /// The control substream of an edge that a peer opened.
    EdgeAccepted { peer: MemberId, result: Result<Opened, HandshakeError> },
    /// The data substream of an edge that a peer opened.
    DataAccepted {
        peer: MemberId,
        result: Result<(SessionId, Token, libp2p::Stream), HandshakeError>,
    },
}

/// The one place that asks for the time.
#[expect(clippy::disallowed_methods, reason = "the driver's one clock")]
fn now() -> Instant {
    Instant::now()
}

/// How long a first address may take to come up.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Substreams of one peer whose hello is awaited at once.
const HANDSHAKES_PER_PEER: u32 = 8;
/// Halves of edges that wait for their other half.
const HALVES: usize = 256;
/// Events taken from edges in one turn, so that the swarm is polled in between.
const EDGE_BUDGET: usize = 64;

/// Starts a node and waits until it listens.
pub(crate) async fn spawn(
    config: Config,
    keypair: Keypair,
) -> Result<(MemberId, mpsc::Sender<Command>, watch::Receiver<Vec<Multiaddr>>), SpawnError> {
    let ed25519 = keypair.clone().try_into_ed25519().map_err(|_| SpawnError::NotEd25519)?;
    let me = MemberId::from(&ed25519);
    let network = |error: String| SpawnError::Network(error);
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| network(error.to_string()))?
        .with_quic_config(|mut quic| {
            // Per stream: 80 Mbit/s over 200 ms. Bounds what a peer can make us hold.
            quic.max_stream_data = 2 << 20;
            quic.max_connection_data = 8 << 20;
            quic
        })
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|error| network(error.to_string()))?
        .with_behaviour(|keypair, circuit| {
            Behaviour::new(keypair, circuit, config.connections).map_err(Into::into)
        })
        .map_err(|error| network(error.to_string()))?
        .with_swarm_config(|swarm| {
            // Probes and renewals are more frequent, so used connections never idle that long.
            swarm
                .with_idle_connection_timeout(Duration::from_secs(60))
                .with_max_negotiating_inbound_streams(32)
        })
        .build();
    listen(&mut swarm, &config.listen)?;
    let (commands, inbox) = mpsc::channel(64);
    let (internal, from_tasks) = mpsc::channel(256);
    let (from_edges, edges) = mpsc::channel(256);
    let (announce, mut addresses) = watch::channel(Vec::new());
    let driver = Driver {
        me,
        keypair: ed25519,
        config: Arc::new(config),
        swarm,
        commands: commands.downgrade(),
        inbox,
        internal,
        from_tasks,
        from_edges,
        edges,
        announce,
        wake: Wake::default(),
        doors: Doors::default(),
        memberships: BTreeMap::new(),
        joinings: Vec::new(),
        links: HashMap::new(),
        requests: HashMap::new(),
        handshakes: HashMap::new(),
        halves: HashMap::new(),
        dialler: dial::Dialler::default(),
        next_edge: 0,
    };
    let task = tokio::spawn(driver.run());
    let listening = addresses.wait_for(|known| !known.is_empty());
    if !matches!(tokio::time::timeout(LISTEN_TIMEOUT, listening).await, Ok(Ok(_))) {
        task.abort();
        return Err(SpawnError::NoAddress);
    }
    Ok((me, commands, addresses))
}

fn listen(swarm: &mut Swarm<Behaviour>, asked: &[Multiaddr]) -> Result<(), SpawnError> {
    for address in asked {
        swarm.listen_on(address.clone()).map_err(|error| SpawnError::Listen {
            address: address.clone(),
            reason: error.to_string(),
        })?;
    }
    if asked.is_empty() {
        let any = arborcast_coordinator::driver::default_listen()
            .into_iter()
            // A machine without IPv6 is no error.
            .filter(|address| swarm.listen_on(address.clone()).is_ok())
            .count();
        if any == 0 {
            return Err(SpawnError::NoAddress);
        }
    }
    Ok(())
}

/// One connection with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    kind: ChannelKind,
    transport: Transport,
}

/// The exchanges that a node begins. Each counts its requests by itself, so a request is named by
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Exchange {
    Session,
    Report,
    Path,
    Probe,
}

/// Whose request it was that is answered.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// An engine's.
    Engine(SessionId, RequestId),
    /// A probe, and when it went out.
    Probe(SessionId, u64, Instant),
    /// A joining that asks where its session is coordinated.
    Locate,
}

/// One half of an edge that a peer opens, waiting for the other.
#[derive(Debug)]
enum Half {
    Control(Opened),
    Data(libp2p::Stream),
}

struct Driver {
    me: MemberId,
    keypair: libp2p::identity::ed25519::Keypair,
    config: Arc<Config>,
    swarm: Swarm<Behaviour>,
    /// For session handles to reach back; weak, so that the node ends with its last handle.
    commands: mpsc::WeakSender<Command>,
    inbox: mpsc::Receiver<Command>,
    internal: mpsc::Sender<Internal>,
    from_tasks: mpsc::Receiver<Internal>,
    from_edges: edge::Inbox,
    edges: mpsc::Receiver<(SessionId, EdgeId, FromEdge)>,
    announce: watch::Sender<Vec<Multiaddr>>,
    wake: Wake,
    doors: Doors,
    memberships: BTreeMap<SessionId, Membership>,
    joinings: Vec<Joining>,
    /// Open connections by peer.
    links: HashMap<PeerId, BTreeMap<ConnectionId, Link>>,
    requests: HashMap<(Exchange, OutboundRequestId), Asked>,
    /// Inbound handshakes under way, by peer.
    handshakes: HashMap<MemberId, u32>,
    halves: HashMap<(MemberId, SessionId, Token), (Half, Instant)>,
    dialler: dial::Dialler,
    next_edge: u64,
}

impl Driver {
    async fn run(mut self) {
        loop {
            self.pump();
            let deadline = self.deadline();
            // Own work first (pumped above), then commands, then what edges bring, then the swarm,
            // then time.
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                command = self.inbox.recv() => match command {
                    Some(Command::Shutdown { done }) => {
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.on_command(command),
                    None => return,
                },
                Some(internal) = self.from_tasks.recv() => self.on_internal(internal),
                Some(news) = self.edges.recv() => self.on_edges(news),
                event = self.swarm.select_next_some() => self.on_swarm(event),
                () = sleep_until(deadline) => {}
            }
            // The branches above are in order of urgency; none may keep the swarm or time waiting.
            self.poll_swarm();
            self.on_time();
        }
    }

    /// Takes what the swarm has ready, so that a flood on edges cannot starve it.
    fn poll_swarm(&mut self) {
        for _ in 0..16 {
            let Some(event) = futures::FutureExt::now_or_never(self.swarm.select_next_some())
            else {
                return;
            };
            self.on_swarm(event);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let engines = self.memberships.values().filter_map(Membership::deadline);
        let joinings = self.joinings.iter().map(Joining::next_step);
        engines.chain(joinings).chain(self.dialler.next_attempt()).min()
    }

    fn on_time(&mut self) {
        let now = now();
        for membership in self.memberships.values_mut() {
            if membership.deadline().is_some_and(|due| due <= now) {
                membership.tick(now);
            }
        }
        self.halves
            .retain(|_, (_, since)| now.saturating_duration_since(*since) < limits::HELLO_TIMEOUT);
        self.step_joinings(now);
        for (peer, addresses) in self.dialler.due(now) {
            self.dial_peer(peer, addresses);
        }
    }

    /// Lets all sessions do what they can do now.
    fn pump(&mut self) {
        let sessions: Vec<SessionId> = self.memberships.keys().copied().collect();
        for session in sessions {
            let Some(mut membership) = self.memberships.remove(&session) else { continue };
            membership.pump(self);
            if membership.is_over() {
                self.doors.remove(session);
                self.dialler.forget(membership.coordinator().peer_id());
                membership.end(&mut self.swarm);
            } else {
                self.memberships.insert(session, membership);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Join { invitation, answer } => {
                let session = invitation.session();
                let joined = self.memberships.contains_key(&session)
                    || self.joinings.iter().any(|joining| joining.session() == session);
                if joined {
                    let _ = answer.send(Err(JoinError::AlreadyJoined));
                    return;
                }
                let joining =
                    Joining::new(*invitation, answer, now() + self.config.connect_timeout());
                let internal = self.internal.clone();
                tokio::spawn(async move {
                    let joining = Box::new(joining.resolve().await);
                    let _ = internal.send(Internal::Resolved(joining)).await;
                });
            }
            Command::Status { session, answer } => {
                if let Some(membership) = self.memberships.get(&session) {
                    let _ = answer.send(membership.status(session, self.me));
                }
            }
            Command::Leave { session, patience, done } => {
                match self.memberships.get_mut(&session) {
                    Some(membership) => membership.leave(now() + patience, Some(done)),
                    None => drop(done.send(())),
                }
            }
            Command::Abandon { session } => {
                if let Some(membership) = self.memberships.get_mut(&session) {
                    membership.leave(now(), None);
                }
            }
            // Handled where the loop can end.
            Command::Shutdown { .. } => {}
        }
    }

    fn on_internal(&mut self, internal: Internal) {
        match internal {
            Internal::Resolved(joining) => self.joinings.push(*joining),
            Internal::Made { session, frames } => {
                for (frame, payload) in frames {
                    self.input(session, Input::Made { frame, payload });
                }
            }
            Internal::EdgeOpened { session, peer, result } => {
                let Some(membership) = self.memberships.get_mut(&session) else { return };
                match result {
                    Ok((opened, data)) => {
                        self.next_edge += 1;
                        let edge = EdgeId(self.next_edge);
                        membership.edge_up(edge, peer, opened, data, &self.from_edges, &self.wake);
                    }
                    Err(error) => {
                        debug!(?session, ?peer, %error, "edge not opened");
                        membership.handle(Input::EdgeFailed { peer });
                    }
                }
            }
            Internal::EdgeAccepted { peer, result } => {
                self.handshake_done(peer);
                match result {
                    Ok(opened) => {
                        let key = (peer, opened.session, opened.token);
                        self.pair(key, Half::Control(opened));
                    }
                    Err(error) => debug!(?peer, %error, "edge not accepted"),
                }
            }
            Internal::DataAccepted { peer, result } => {
                self.handshake_done(peer);
                match result {
                    Ok((session, token, stream)) => {
                        self.pair((peer, session, token), Half::Data(stream));
                    }
                    Err(error) => debug!(?peer, %error, "data substream not accepted"),
                }
            }
        }
    }

    fn handshake_done(&mut self, peer: MemberId) {
        if let Some(count) = self.handshakes.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.handshakes.remove(&peer);
            }
        }
    }

    /// Brings the two substreams of an accepted edge together.
    fn pair(&mut self, key: (MemberId, SessionId, Token), half: Half) {
        let (peer, session, _) = key;
        let (opened, data) = match (self.halves.remove(&key), half) {
            (Some((Half::Control(opened), _)), Half::Data(data))
            | (Some((Half::Data(data), _)), Half::Control(opened)) => (opened, data),
            // The same half twice: the newer one counts.
            (_, half) => {
                if self.halves.len() < HALVES {
                    self.halves.insert(key, (half, now()));
                }
                return;
            }
        };
        if let Some(membership) = self.memberships.get_mut(&session) {
            self.next_edge += 1;
            let edge = EdgeId(self.next_edge);
            membership.edge_up(edge, peer, opened, data, &self.from_edges, &self.wake);
        }
    }

    fn on_edges(&mut self, first: (SessionId, EdgeId, FromEdge)) {
        let mut next = Some(first);
        let mut budget = EDGE_BUDGET;
        while let Some((session, edge, news)) = next {
            if let Some(membership) = self.memberships.get_mut(&session) {
                membership.on_edge(edge, news);
            }
            budget -= 1;
            next = if budget > 0 { self.edges.try_recv().ok() } else { None };
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.disconnected(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.addresses_changed(),
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "listener"),
            _ => {}
        }
    }

    /// Where others can dial this node: directly first, over circuits last.
    fn addresses(&self) -> Vec<Multiaddr> {
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

    fn addresses_changed(&mut self) {
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

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let link = Link {
            kind: if endpoint.is_relayed() { ChannelKind::Relayed } else { ChannelKind::Direct },
            transport: address::transport(endpoint.get_remote_address()),
        };
        debug!(%peer, %connection, ?link, "connected");
        self.dial_succeeded(connection, peer);
        let before = self.best_link(peer);
        self.links.entry(peer).or_default().insert(connection, link);
        if link.kind == ChannelKind::Direct {
            self.close_circuits(peer);
        }
        self.link_changed(peer, before);
        self.located_peer_connected(peer, connection);
    }

    /// A direct connection makes circuits to the same peer useless; left open, they would stay so
    /// until the coordinator cuts them.
    fn close_circuits(&mut self, peer: PeerId) {
        let Some(links) = self.links.get(&peer) else { return };
        for (connection, link) in links {
            if link.kind == ChannelKind::Relayed {
                self.swarm.close_connection(*connection);
            }
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        debug!(%peer, %connection, "disconnected");
        let before = self.best_link(peer);
        if let Some(links) = self.links.get_mut(&peer) {
            links.remove(&connection);
            if links.is_empty() {
                self.links.remove(&peer);
            }
        }
        self.link_changed(peer, before);
    }

    /// The connection that substreams go over: direct before circuits, then the oldest.
    fn best_link(&self, peer: PeerId) -> Option<(ConnectionId, Link)> {
        let links = self.links.get(&peer)?;
        links
            .iter()
            .min_by_key(|(connection, link)| (link.kind, **connection))
            .map(|(connection, link)| (*connection, *link))
    }

    fn link_changed(&mut self, peer: PeerId, before: Option<(ConnectionId, Link)>) {
        let after = self.best_link(peer);
        let Ok(member) = MemberId::try_from(peer) else { return };
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

    fn is_coordinator(&self, member: MemberId) -> bool {
        self.memberships.values().any(|membership| membership.coordinator() == member)
    }

    fn coordinator_addresses(&self, member: MemberId) -> Vec<Multiaddr> {
        self.memberships
            .values()
            .filter(|membership| membership.coordinator() == member)
            .flat_map(|membership| membership.coordinator_addresses().iter().cloned())
            .collect()
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Streams(inbound) => self.on_inbound(inbound),
            BehaviourEvent::Session(event) => self.on_session(event),
            BehaviourEvent::Report(event) => {
                if let Some((asked, answer)) = self.answered(Exchange::Report, event)
                    && let Asked::Engine(session, request) = asked
                {
                    self.input(session, Input::ReportAnswer { request, answer });
                }
            }
            BehaviourEvent::Path(event) => {
                if let Some((asked, answer)) = self.answered(Exchange::Path, event)
                    && let Asked::Engine(session, request) = asked
                {
                    let answer = self.genuine(session, answer);
                    self.input(session, Input::PathAnswer { request, answer });
                }
            }
            BehaviourEvent::Notice(event) => self.on_notice(event),
            BehaviourEvent::Probe(event) => self.on_probe(event),
            BehaviourEvent::Gossipsub(event) => self.on_gossip(event),
            BehaviourEvent::Identify(event) => self.on_identify(event),
            BehaviourEvent::Dcutr(event) => {
                debug!(peer = %event.remote_peer_id, result = ?event.result, "hole punching");
            }
            BehaviourEvent::Circuit(event) => debug!(?event, "circuit"),
            BehaviourEvent::Ping(_) | BehaviourEvent::Autonat(_) => {}
        }
    }

    fn input(&mut self, session: SessionId, input: Input) {
        if let Some(membership) = self.memberships.get_mut(&session) {
            membership.handle(input);
        }
    }

    /// A path answer whose header the session's coordinator did sign.
    fn genuine(
        &self,
        session: SessionId,
        answer: Result<path::Answer, Unanswered>,
    ) -> Result<path::Answer, Unanswered> {
        let header = match &answer {
            Ok(Ok(path::State::Tree(update))) => update.header,
            Ok(Ok(path::State::Neighbours(neighbours))) => neighbours.header,
            Ok(Ok(path::State::Unsubscribed) | Err(_)) | Err(_) => return answer,
        };
        match self.memberships.get(&session) {
            Some(membership) if header.verify(session, &[membership.coordinator()]) => answer,
            _ => Err(Unanswered("the answer is not signed by the coordinator".to_owned())),
        }
    }

    fn on_inbound(&mut self, inbound: streams::Inbound) {
        let streams::Inbound { peer, protocol, stream } = inbound;
        let Ok(peer) = MemberId::try_from(peer) else { return };
        let count = self.handshakes.entry(peer).or_default();
        if *count >= HANDSHAKES_PER_PEER {
            debug!(?peer, "too many substreams without a hello");
            return;
        }
        *count += 1;
        let (internal, doors) = (self.internal.clone(), self.doors.clone());
        let is_edge = protocol == StreamProtocol::new(EDGE);
        tokio::spawn(async move {
            let news = if is_edge {
                Internal::EdgeAccepted { peer, result: edge::accept(doors, peer, stream).await }
            } else {
                Internal::DataAccepted { peer, result: edge::accept_data(stream).await }
            };
            let _ = internal.send(news).await;
        });
    }

    /// Opens both substreams of an edge over the best connection with the peer.
    fn open_edge(&mut self, session: SessionId, peer: MemberId) {
        let peer_id = peer.peer_id();
        let mut token = Token::default();
        let (internal, doors) = (self.internal.clone(), self.doors.clone());
        let opening = match (self.best_link(peer_id), getrandom::fill(&mut token)) {
            (Some((connection, _)), Ok(())) => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                let [control, data] = [EDGE, DATA]
                    .map(|name| streams.open(peer_id, connection, StreamProtocol::new(name)));
                Some((control, data))
            }
            _ => None,
        };
        tokio::spawn(async move {
            let result = match opening {
                Some((control, data)) => {
                    edge::open(doors, session, peer, token, control, data).await
                }
                None => Err(HandshakeError::Gone),
            };
            let _ = internal.send(Internal::EdgeOpened { session, peer, result }).await;
        });
    }

    /// The outcome of a request that this node made.
    fn answered<Req, Answer>(
        &mut self,
        exchange: Exchange,
        event: request_response::Event<Result<Req, codec::DecodeError>, Answer>,
    ) -> Option<(Asked, Result<Answer, Unanswered>)> {
        match event {
            request_response::Event::Message {
                message: request_response::Message::Response { request_id, response },
                ..
            } => Some((self.requests.remove(&(exchange, request_id))?, Ok(response))),
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                let asked = self.requests.remove(&(exchange, request_id))?;
                Some((asked, Err(Unanswered(error.to_string()))))
            }
            _ => None,
        }
    }

    fn on_session(
        &mut self,
        event: request_response::Event<
            Result<session::Request, codec::DecodeError>,
            session::Answer,
        >,
    ) {
        if let request_response::Event::Message {
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        {
            let answer = self.locate(request);
            let _ = self.swarm.behaviour_mut().session.send_response(channel, answer);
            return;
        }
        let peer = match &event {
            request_response::Event::Message { peer, .. }
            | request_response::Event::OutboundFailure { peer, .. }
            | request_response::Event::InboundFailure { peer, .. }
            | request_response::Event::ResponseSent { peer, .. } => *peer,
        };
        match self.answered(Exchange::Session, event) {
            Some((Asked::Engine(session, request), answer)) => {
                self.input(session, Input::SessionAnswer { request, answer });
            }
            Some((Asked::Locate, answer)) => self.located(peer, &answer),
            Some((Asked::Probe(..), _)) | None => {}
        }
    }

    /// Members tell where their sessions are coordinated, and answer nothing else.
    fn locate(&self, request: Result<session::Request, codec::DecodeError>) -> session::Answer {
        match request {
            Ok(session::Request::Locate { session }) => {
                let membership = self.memberships.get(&session).ok_or_else(|| {
                    Refusal::new(
                        Code::NOT_COORDINATOR,
                        "this node is not in that session; ask a coordinator or a member of it",
                    )
                })?;
                Ok(session::Granted::Located {
                    coordinators: vec![Contact {
                        member: membership.coordinator(),
                        addresses: address::tell(membership.coordinator_addresses()),
                    }],
                })
            }
            Ok(_) => Err(Refusal::new(
                Code::NOT_COORDINATOR,
                "this node is a member, not a coordinator; ask it only where the session is \
                 coordinated",
            )),
            Err(error) => {
                Err(Refusal::new(Code::INVALID, format!("the request was not understood: {error}")))
            }
        }
    }

    fn on_notice(
        &mut self,
        event: request_response::Event<
            Result<arborcast_protocol::notice::Notice, codec::DecodeError>,
            Noted,
        >,
    ) {
        let request_response::Event::Message {
            peer,
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        else {
            return;
        };
        let _ = self.swarm.behaviour_mut().notice.send_response(channel, Noted {});
        let notice = match request {
            Ok(notice) => notice,
            Err(error) => return debug!(%peer, %error, "notice not understood"),
        };
        let Some(membership) = self.memberships.get_mut(&notice.session) else { return };
        let coordinator = membership.coordinator();
        let genuine = match &notice.news {
            News::Neighbours(neighbours) => {
                neighbours.header.verify(notice.session, &[coordinator])
            }
            News::Candidates(_) | News::Removed(_) => true,
        };
        if peer == coordinator.peer_id() && genuine {
            membership.handle(Input::Notice(Box::new(notice)));
        } else {
            warn!(%peer, "dropped a notice that is not the coordinator's");
        }
    }

    fn on_probe(
        &mut self,
        event: request_response::Event<Result<Probe, codec::DecodeError>, Echo>,
    ) {
        if let request_response::Event::Message {
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        {
            // A probe that makes no sense gets no echo: it measures nothing.
            if let Ok(probe) = request {
                let echo = Echo {
                    serial: probe.serial,
                    train_bytes: u32::try_from(probe.train.len()).unwrap_or(u32::MAX),
                };
                let _ = self.swarm.behaviour_mut().probe.send_response(channel, echo);
            }
            return;
        }
        let peer = match &event {
            request_response::Event::Message { peer, .. }
            | request_response::Event::OutboundFailure { peer, .. }
            | request_response::Event::InboundFailure { peer, .. }
            | request_response::Event::ResponseSent { peer, .. } => *peer,
        };
        if let Some((Asked::Probe(session, serial, sent), answer)) =
            self.answered(Exchange::Probe, event)
            && let Ok(peer) = MemberId::try_from(peer)
        {
            let round_trip = answer
                .ok()
                .filter(|echo| echo.serial == serial)
                .map(|_| now().saturating_duration_since(sent));
            self.input(session, Input::Probed { peer, serial, round_trip });
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else {
            return;
        };
        let update = self.memberships.iter().find_map(|(session, membership)| {
            (membership.topic() == &message.topic).then_some((*session, membership.coordinator()))
        });
        let genuine = update.and_then(|(session, coordinator)| {
            let update: Update = codec::decode(&message.data, limits::GOSSIP).ok()?;
            (message.source == Some(coordinator.peer_id())
                && update.header.verify(session, &[coordinator]))
            .then_some((session, update))
        });
        let acceptance = if genuine.is_some() {
            gossipsub::MessageAcceptance::Accept
        } else {
            warn!(peer = %propagation_source, "rejected a push that the coordinator did not sign");
            gossipsub::MessageAcceptance::Reject
        };
        self.swarm.behaviour_mut().gossipsub.report_message_validation_result(
            &message_id,
            &propagation_source,
            acceptance,
        );
        if let Some((session, update)) = genuine {
            self.input(session, Input::Pushed(Box::new(update)));
        }
    }

    fn on_identify(&mut self, event: libp2p::identify::Event) {
        let libp2p::identify::Event::Received { peer_id, info, .. } = event else { return };
        let Ok(member) = MemberId::try_from(peer_id) else { return };
        if !self.is_coordinator(member) {
            return;
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

/// Waits for a deadline, or for ever if there is none.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
