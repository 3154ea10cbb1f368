//! A node on a real network: one task that owns the swarm, the engines of all joined sessions and
//! the timer. Decides nothing.

#![expect(clippy::wildcard_enum_match_arm, reason = "libp2p's enums are open and we follow few")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arborcast_net::listen::{ListenError, listen};
use arborcast_protocol::{
    frame::Frame,
    id::{MemberId, SeqNo, SessionId},
    limits,
};
use bytes::Bytes;
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport as _,
    core::{muxing::StreamMuxerBox, upgrade::Version},
    identity::Keypair,
    noise, quic,
    request_response::OutboundRequestId,
    swarm::{ConnectionId, SwarmEvent},
    tcp, yamux,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{debug, error, warn};

use crate::{
    config::Config,
    engine::{
        event::{EdgeId, Input},
        silence,
    },
    error::{JoinError, SpawnError},
    impairment::Stream,
    invitation::Invitation,
    session::{Confirmation, Events, Session, Status},
};

mod address;
mod application;
mod behaviour;
mod control;
mod dial;
mod edge;
mod handshakes;
#[cfg_attr(not(feature = "impairment"), allow(dead_code, reason = "nothing is ever impaired"))]
mod joining;
mod links;
mod look;
mod membership;
mod names;
mod probes;
mod streams;
mod tasks;
#[cfg(test)]
mod tests;

use behaviour::{Behaviour, BehaviourEvent};
use control::{Asked, Exchange};
use edge::{Doors, FromEdge, HandshakeError, Opened, Token};
use handshakes::Half;
use joining::Joining;
use links::Link;
use membership::Membership;
use names::Named;
pub(crate) use tasks::Tasks;

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
    Confirm {
        session: SessionId,
        to: Option<MemberId>,
        seq: SeqNo,
        within: Duration,
        answer: oneshot::Sender<Confirmation>,
    },
    Leave {
        session: SessionId,
        patience: Duration,
        done: oneshot::Sender<()>,
    },
    /// Makes the channel with a member worse, or what it is by itself.
    #[cfg(feature = "impairment")]
    Impair {
        member: MemberId,
        impairment: Option<crate::impairment::Impairment>,
        done: oneshot::Sender<()>,
    },
    /// Has no channel with a member, or may have one again.
    #[cfg(feature = "impairment")]
    Deny {
        member: MemberId,
        denied: bool,
        done: oneshot::Sender<()>,
    },
    Shutdown {
        patience: Duration,
        done: oneshot::Sender<()>,
    },
    /// Fails, in the driver itself or in a task of its own.
    #[cfg(test)]
    Fail {
        in_task: bool,
    },
}

/// Why a node has ended that was not asked to; for its sessions to tell.
pub(crate) type Fault = Arc<OnceLock<String>>;

/// Who a node is.
#[derive(Debug)]
pub(crate) enum Identity {
    /// A key that somebody else keeps, or nobody.
    Given(Keypair),
    /// From a file that is locked while the driver lives.
    Kept(arborcast_net::store::Identity),
}

/// What tasks of the driver's own bring back.
#[derive(Debug)]
enum Internal {
    /// An edge that this node opened.
    EdgeOpened {
        session: SessionId,
        peer: MemberId,
        result: Result<(Opened, Stream), HandshakeError>,
    },
    /// The outcome of a probe.
    Probed { session: SessionId, probed: Box<Input> },
    /// A look at a connection stayed without an answer.
    NoAnswer { peer: PeerId, connection: ConnectionId, asked: Instant },
    /// A substream with probes of a peer has ended.
    ProbesEnded { peer: MemberId },
    /// Frames of this node, sealed and signed.
    Made { session: SessionId, frames: Vec<(Frame, Bytes)> },
    /// The control substream of an edge that a peer opened.
    EdgeAccepted { peer: MemberId, result: Result<Opened, HandshakeError> },
    /// The data substream of an edge that a peer opened.
    DataAccepted { peer: MemberId, result: Result<(SessionId, Token, Stream), HandshakeError> },
}

/// The one place that asks for the time.
#[expect(clippy::disallowed_methods, reason = "the driver's one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// How long a first address may take to come up.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// When a node ends: how long coordinators may take to let it go.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// A turn of the loop that is later than this is one of a machine that has more to do than it can.
const LATE: Duration = Duration::from_millis(100);
/// Starts a node and waits until it listens.
pub(crate) async fn spawn(
    config: Config,
    identity: Identity,
) -> Result<(MemberId, mpsc::Sender<Command>, watch::Receiver<Vec<Multiaddr>>), SpawnError> {
    let (keypair, kept) = match identity {
        Identity::Given(keypair) => (keypair, None),
        Identity::Kept(identity) => (identity.keypair().clone(), Some(identity)),
    };
    let ed25519 = keypair.clone().try_into_ed25519().map_err(|_| SpawnError::NotEd25519)?;
    let me = MemberId::from(&ed25519);
    let network = |error: String| SpawnError::Network(error);
    let (tasks, faults) = Tasks::new();
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(transport)
        .map_err(|error| network(error.to_string()))?
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|error| network(error.to_string()))?
        .with_behaviour(|keypair, circuit| {
            Behaviour::new(keypair, circuit, config.connections, tasks.clone()).map_err(Into::into)
        })
        .map_err(|error| network(error.to_string()))?
        .with_swarm_config(|swarm| {
            // Probes and renewals are more frequent, so used connections never idle that long.
            swarm
                .with_idle_connection_timeout(Duration::from_secs(60))
                .with_max_negotiating_inbound_streams(32)
                // A new substream costs no round trip of its own.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
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
        _kept: kept,
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
        joining_sessions: BTreeSet::new(),
        links: HashMap::new(),
        heard: silence::Heard::default(),
        silence_at: now(),
        interfaces: look::Interfaces::new(),
        look_at: None,
        requests: HashMap::new(),
        handshakes: HashMap::new(),
        halves: HashMap::new(),
        probers: HashMap::new(),
        answering: HashMap::new(),
        lag: Arc::default(),
        dialler: dial::Dialler::default(),
        next_edge: 0,
        members_changed: false,
        tasks,
        faults,
        fault: Fault::default(),
    };
    let task = tokio::spawn(driver.run());
    let listening = addresses.wait_for(|known| !known.is_empty());
    if !matches!(tokio::time::timeout(LISTEN_TIMEOUT, listening).await, Ok(Ok(_))) {
        task.abort();
        return Err(SpawnError::Listen(ListenError::Nothing));
    }
    Ok((me, commands, addresses))
}

struct Driver {
    me: MemberId,
    keypair: libp2p::identity::ed25519::Keypair,
    /// Holds the lock on the file with the key.
    _kept: Option<arborcast_net::store::Identity>,
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
    /// Sessions that are on their way to being joined.
    joining_sessions: BTreeSet<SessionId>,
    /// Open connections by peer.
    links: HashMap<PeerId, BTreeMap<ConnectionId, Link>>,
    heard: silence::Heard<PeerId>,
    /// When to look for peers that have been silent for too long.
    silence_at: Instant,
    interfaces: look::Interfaces,
    /// When to look at all connections.
    look_at: Option<Instant>,
    requests: HashMap<(Exchange, OutboundRequestId), Asked>,
    /// Inbound handshakes under way, by peer.
    handshakes: HashMap<MemberId, u32>,
    halves: HashMap<(MemberId, SessionId, Token), (Half, Instant)>,
    /// Probes that are being answered, by peer.
    probers: HashMap<(SessionId, MemberId), probes::Prober>,
    /// Substreams with probes of each peer.
    answering: HashMap<MemberId, u32>,
    /// How late this node is at times, in microseconds; told with echoes.
    lag: Arc<AtomicU32>,
    dialler: dial::Dialler,
    next_edge: u64,
    /// Who is known to be a member may have changed.
    members_changed: bool,
    tasks: Tasks,
    /// Where the first fault of a task comes.
    faults: mpsc::Receiver<String>,
    fault: Fault,
}

/// TCP and QUIC, with names.
fn transport(
    keypair: &Keypair,
) -> Result<Named<(PeerId, StreamMuxerBox)>, Box<dyn std::error::Error + Send + Sync>> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(keypair);
    // Per stream: 80 Mbit/s over 200 ms. Bounds what a peer can make us hold.
    config.max_stream_data = 2 << 20;
    config.max_connection_data = 8 << 20;
    // What holds a path open for UDP forgets it after 30 s or later (RFC 4787, section 4.3 asks for two minutes).
    // That a peer is silent is noticed by what it should say, see `silence`.
    config.max_idle_timeout = 60_000;
    config.keep_alive_interval = Duration::from_secs(20);
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let either = tcp.or_transport(quic).map(|either, _| either.into_inner());
    Ok(Named::new(either.boxed()))
}

impl Driver {
    /// Until the node is asked to end, or a fault ends it.
    async fn run(mut self) {
        let ended = tasks::caught(self.go_on()).await;
        if let Err(fault) | Ok(Some(fault)) = ended {
            error!(fault, "the node has ended");
            let _ = self.fault.set(fault);
        }
    }

    /// Gives the fault of a task that ended it, if one did.
    async fn go_on(&mut self) -> Option<String> {
        let mut is_over = false;
        // Told once all is left, at this time at the latest.
        let mut told = Vec::new();
        let mut end_by = None;
        loop {
            self.pump();
            let is_late = end_by.is_some_and(|end| end <= now());
            if is_late || (is_over && self.memberships.is_empty()) {
                for done in told.drain(..) {
                    let _ = oneshot::Sender::send(done, ());
                }
                return None;
            }
            let deadline = self.deadline().into_iter().chain(end_by).min();
            // Own work first (pumped above), then commands, then what edges bring, then the swarm,
            // then time.
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                command = self.inbox.recv(), if !is_over => match command {
                    Some(Command::Shutdown { patience, done }) => {
                        for membership in self.memberships.values_mut() {
                            membership.leave(now() + patience, None);
                        }
                        told.push(done);
                        end_by = Some(now() + patience + LAST_ANSWER);
                        is_over = true;
                    }
                    Some(command) => self.on_command(command),
                    // Nobody holds the node or a session of it: those are left first.
                    None => is_over = true,
                },
                Some(fault) = self.faults.recv() => return Some(fault),
                Some(internal) = self.from_tasks.recv() => self.on_internal(internal),
                Some(news) = self.edges.recv() => self.on_edges(news),
                () = self.interfaces.changed() => self.interfaces_changed(),
                event = self.swarm.select_next_some() => self.on_swarm(event),
                () = sleep_until(deadline) => {}
            }
            self.heard.turned(deadline, now());
            self.be_patient(deadline, now());
            // The branches above are in order of urgency; none may keep the swarm or time waiting.
            self.poll_swarm();
            self.on_time();
        }
    }

    /// Patience with a coordinator does not run out while this node itself is late.
    fn be_patient(&mut self, due: Option<Instant>, now: Instant) {
        let late = due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late >= LATE {
            for joining in &mut self.joinings {
                joining.deadline += late;
            }
            for membership in self.memberships.values_mut() {
                membership.be_patient(late);
            }
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
        engines
            .chain(joinings)
            .chain(self.dialler.next_attempt())
            .chain(self.look_at)
            .chain([self.silence_at])
            .min()
    }

    fn on_time(&mut self) {
        let now = now();
        for membership in self.memberships.values_mut() {
            if membership.deadline().is_some_and(|due| due <= now) {
                membership.tick(now);
            }
        }
        let lag = self.memberships.values().map(Membership::lag).max().unwrap_or_default();
        self.lag.store(u32::try_from(lag.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.halves
            .retain(|_, (_, since)| now.saturating_duration_since(*since) < limits::HELLO_TIMEOUT);
        self.step_joinings(now);
        self.look_if_due(now);
        self.look_at_silent(now);
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
                membership.end(&mut self.swarm, &self.tasks);
                self.members_changed = true;
            } else {
                self.memberships.insert(session, membership);
            }
        }
        if std::mem::take(&mut self.members_changed) {
            self.turn_gates();
        }
    }

    /// Trees are passed on by gossipsub among members and coordinators alone, and they keep their connections.
    fn turn_gates(&mut self) {
        for peer in self.links.keys() {
            let knows = |member| self.memberships.values().any(|session| session.knows(member));
            let is_member = MemberId::try_from(*peer).is_ok_and(knows);
            let behaviour = self.swarm.behaviour_mut();
            behaviour.slots.turn(*peer, is_member);
            behaviour.gossipsub.turn(*peer, is_member);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Join { invitation, answer } => {
                let session = invitation.session();
                if self.memberships.contains_key(&session) || !self.joining_sessions.insert(session)
                {
                    let _ = answer.send(Err(JoinError::AlreadyJoined));
                    return;
                }
                let patience = self.config.connect_timeout();
                self.joinings.push(Joining::new(*invitation, answer, now() + patience));
            }
            Command::Status { session, answer } => {
                if let Some(membership) = self.memberships.get(&session) {
                    let _ = answer.send(membership.status(session, self.me));
                }
            }
            Command::Confirm { session, to, seq, within, answer } => {
                if let Some(membership) = self.memberships.get_mut(&session) {
                    membership.confirm(to, seq, within, answer);
                }
            }
            Command::Leave { session, patience, done } => {
                match self.memberships.get_mut(&session) {
                    Some(membership) => membership.leave(now() + patience, Some(done)),
                    None => drop(done.send(())),
                }
            }
            #[cfg(feature = "impairment")]
            Command::Impair { member, impairment, done } => {
                self.swarm.behaviour_mut().streams.impairments.set(member.peer_id(), impairment);
                let _ = done.send(());
            }
            #[cfg(feature = "impairment")]
            Command::Deny { member, denied, done } => {
                self.deny(member, denied);
                let _ = done.send(());
            }
            // Handled where the loop can end.
            Command::Shutdown { .. } => {}
            #[cfg(test)]
            Command::Fail { in_task: true } => {
                self.tasks.spawn(async { panic!("in a task") });
            }
            #[cfg(test)]
            Command::Fail { in_task: false } => panic!("in the driver"),
        }
    }

    fn on_internal(&mut self, internal: Internal) {
        match internal {
            Internal::Probed { session, probed } => {
                if let Input::Probed { peer, echo: Some(_), .. } = &*probed {
                    self.heard.heard(&peer.peer_id(), now());
                }
                self.input(session, *probed);
            }
            Internal::ProbesEnded { peer } => self.probes_ended(peer),
            Internal::NoAnswer { peer, connection, asked } => {
                self.no_answer(peer, connection, asked);
            }
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
                        membership.edge_up(
                            edge,
                            peer,
                            opened,
                            data,
                            &self.from_edges,
                            &self.wake,
                            &self.tasks,
                        );
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
}

/// Waits for a deadline, or for ever if there is none.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
