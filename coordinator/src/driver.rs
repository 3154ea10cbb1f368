//! The coordinator on a real network: one task that owns swarm, engine and timer. Decides nothing.

#![expect(clippy::wildcard_enum_match_arm, reason = "libp2p's enums are open and we follow few")]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arborcast_net::{
    listen::{ListenError, listen},
    settings::Settings as _,
    slots,
    store::Identity,
};
use arborcast_protocol::{
    codec,
    id::{MemberId, SessionId, Term},
    notice::{Noted, Notice},
    push,
    refusal::{Code, Refusal},
    session::Address,
};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::{transport::ListenerId, upgrade::Version},
    gossipsub::{self, IdentTopic},
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping, request_response,
    request_response::{OutboundRequestId, ResponseChannel},
    swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::engine::{
    self, Engine,
    event::{Input, Output, RequestId},
};

mod behaviour;
mod config;
mod connections;

use behaviour::{Behaviour, BehaviourEvent};
use connections::Peers;

pub use config::Config;

/// A coordinator that runs in a task of its own. Cheap to clone; ends when it is shut down, or all clones are
/// dropped.
#[derive(Clone, Debug)]
pub struct Coordinator {
    member: MemberId,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    commands: mpsc::Sender<Command>,
    /// Closes when the task ends, however it does.
    running: watch::Receiver<()>,
    /// Holds the lock on the file with the key.
    kept: Option<Arc<Identity>>,
}

/// What the handle asks of the task.
#[derive(Debug)]
enum Command {
    Stats(oneshot::Sender<Stats>),
    External(Multiaddr, oneshot::Sender<()>),
    Shutdown,
}

/// Figures of a running coordinator.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The engine's.
    pub engine: engine::Stats,
    /// Requests that did not decode.
    pub malformed: u64,
}

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The key is not Ed25519.
    #[error("a coordinator needs an Ed25519 identity")]
    NotEd25519,
    /// A figure in the configuration cannot be.
    #[error("configuration: {0}")]
    Config(String),
    /// An address, or any, cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A transport or protocol did not come up.
    #[error("the network did not start: {0}")]
    Network(String),
}

/// How long a first address may take to come up.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses that this coordinator is taken to have.
const EXTERNAL: usize = 16;
/// Results of jobs that wait; each session has one at work at most.
const COMPUTED: usize = 16;
/// After the last new address: the list counts as complete.
const LISTEN_SETTLE: Duration = Duration::from_millis(50);

impl Coordinator {
    /// Starts a coordinator and waits until it listens.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, keypair: Keypair, term: Term) -> Result<Self, StartError> {
        Self::start_with(config, keypair, term, None).await
    }

    /// The same for one session alone: nobody can open another one, whoever comes first.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_for(
        session: SessionId,
        config: Config,
        keypair: Keypair,
        term: Term,
    ) -> Result<Self, StartError> {
        Self::start_with(config, keypair, term, Some(session)).await
    }

    async fn start_with(
        config: Config,
        keypair: Keypair,
        term: Term,
        only: Option<SessionId>,
    ) -> Result<Self, StartError> {
        config.validate().map_err(|error| StartError::Config(error.to_string()))?;
        let ed25519 = keypair.clone().try_into_ed25519().map_err(|_| StartError::NotEd25519)?;
        let member = MemberId::from(&ed25519);
        let network = |error: String| StartError::Network(error);
        let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .map_err(|error| network(error.to_string()))?
            .with_quic_config(|mut quic| {
                // Many members, little data: control only.
                quic.max_stream_data = 1 << 20;
                quic.max_connection_data = 4 << 20;
                // What holds a path open for UDP forgets it after 30 s or later. A member that says nothing any
                // more is noticed by its lease.
                quic.max_idle_timeout = 60_000;
                quic.keep_alive_interval = Duration::from_secs(20);
                quic
            })
            .with_behaviour(|keypair| {
                Behaviour::new(keypair, config.most_connections()).map_err(Into::into)
            })
            .map_err(|error| network(error.to_string()))?
            .with_swarm_config(|swarm| {
                swarm
                    .with_idle_connection_timeout(Duration::from_secs(120))
                    .with_max_negotiating_inbound_streams(32)
                    // A new substream costs no round trip of its own.
                    .with_substream_upgrade_protocol_override(Version::V1Lazy)
            })
            .build();
        // Addresses that name one interface count as external by themselves.
        let concrete = listen(&mut swarm, &config.listen)?
            .into_iter()
            .filter_map(|(listener, asked)| is_concrete(&asked).then_some(listener))
            .collect();
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| network(error.to_string()))?;
        let mut engine = Engine::new(config.engine.clone(), ed25519, term, clock_s(), seed, now());
        if let Some(session) = only {
            engine.hold_only(session);
        }
        let (commands, inbox) = mpsc::channel(16);
        let (computed, from_jobs) = mpsc::channel(COMPUTED);
        let (announce, mut addresses) = watch::channel(Vec::new());
        let driver = Driver {
            external: config.external.clone(),
            concrete,
            swarm,
            engine,
            inbox,
            computed,
            from_jobs,
            announce,
            next_request: 0,
            pending: HashMap::new(),
            notices: HashMap::new(),
            peers: Peers::default(),
            malformed: 0,
            reached: HashMap::new(),
        };
        let (ended, running) = watch::channel(());
        let task = tokio::spawn(async move {
            Box::pin(driver.run()).await;
            drop(ended);
        });
        let listening = async {
            addresses.wait_for(|known| !known.is_empty()).await.map(drop)?;
            while tokio::time::timeout(LISTEN_SETTLE, addresses.changed()).await.is_ok() {}
            Ok::<_, watch::error::RecvError>(())
        };
        if !matches!(tokio::time::timeout(LISTEN_TIMEOUT, listening).await, Ok(Ok(()))) {
            task.abort();
            return Err(StartError::Listen(ListenError::Nothing));
        }
        Ok(Self { member, addresses, commands, running, kept: None })
    }

    /// Holds the lock on the file with its key as long as it has handles.
    #[must_use]
    pub fn keep(mut self, identity: Option<Identity>) -> Self {
        self.kept = identity.map(Arc::new);
        self
    }

    /// The coordinator's id.
    #[must_use]
    pub const fn member_id(&self) -> MemberId {
        self.member
    }

    /// Where it can be dialled: external addresses, then listen addresses, without `/p2p`.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// The same with `/p2p` and the id.
    #[must_use]
    pub fn dialable(&self) -> Vec<Multiaddr> {
        let peer = self.member.peer_id();
        self.addresses().into_iter().map(|address| address.with(Protocol::P2p(peer))).collect()
    }

    /// Others reach it there, too, from now on: members are told, and tickets have it.
    pub async fn add_external(&self, address: Multiaddr) {
        let (done, added) = oneshot::channel();
        if self.commands.send(Command::External(address, done)).await.is_ok() {
            let _ = added.await;
        }
    }

    /// Its figures; `None` if it has ended.
    pub async fn stats(&self) -> Option<Stats> {
        let (answer, stats) = oneshot::channel();
        self.commands.send(Command::Stats(answer)).await.ok()?;
        stats.await.ok()
    }

    /// Ends it and waits until it has.
    pub async fn shutdown(&self) {
        let _ = self.commands.send(Command::Shutdown).await;
        self.ended().await;
    }

    /// Waits until it ends: shut down, or by itself, which it does only after a fault.
    pub async fn ended(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }
}

fn is_concrete(address: &Multiaddr) -> bool {
    !address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_unspecified(),
        Protocol::Ip6(ip) => ip.is_unspecified(),
        _ => false,
    })
}

/// Whether an address at which somebody reached this coordinator can be one for others.
fn is_reachable(address: &Multiaddr) -> bool {
    is_tellable(address)
        && is_concrete(address)
        && address.iter().all(|part| match part {
            Protocol::Ip4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            Protocol::Ip6(ip) => !ip.is_loopback(),
            Protocol::P2pCircuit => false,
            _ => true,
        })
}

/// Whether telling others this address can help them: link-local ones need a zone.
fn is_tellable(address: &Multiaddr) -> bool {
    !address.iter().any(|part| matches!(part, Protocol::Ip6(ip) if ip.is_unicast_link_local()))
}

#[expect(clippy::disallowed_methods, reason = "the driver's one clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "where certificates' clock starts; only ever compared with itself"
)]
fn clock_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An open request that the engine has not answered yet.
enum Pending {
    Session(ResponseChannel<arborcast_protocol::session::Answer>),
    Report(ResponseChannel<arborcast_protocol::report::Answer>),
    Path(ResponseChannel<arborcast_protocol::path::Answer>),
}

struct Driver {
    external: Vec<Multiaddr>,
    /// Listeners whose addresses count as external.
    concrete: HashSet<ListenerId>,
    swarm: Swarm<Behaviour>,
    engine: Engine,
    inbox: mpsc::Receiver<Command>,
    /// What came of jobs.
    computed: mpsc::Sender<Input>,
    from_jobs: mpsc::Receiver<Input>,
    announce: watch::Sender<Vec<Multiaddr>>,
    next_request: u64,
    pending: HashMap<RequestId, Pending>,
    /// Notices on their way: each is answered or fails in time.
    notices: HashMap<OutboundRequestId, (MemberId, SessionId)>,
    /// Their open connections.
    peers: Peers,
    malformed: u64,
    /// Where each connected peer has reached this coordinator.
    reached: HashMap<PeerId, Multiaddr>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            self.drain();
            let deadline = self.engine.poll_timeout();
            // Own work first (drained above), then commands, then the network, then time.
            tokio::select! {
                biased;
                command = self.inbox.recv() => match command {
                    Some(Command::Stats(answer)) => {
                        let _ = answer.send(Stats {
                            engine: self.engine.stats().clone(),
                            malformed: self.malformed,
                        });
                    }
                    Some(Command::External(address, done)) => {
                        self.swarm.add_external_address(address.clone());
                        self.external.push(address);
                        self.addresses_changed();
                        let _ = done.send(());
                    }
                    Some(Command::Shutdown) | None => return,
                },
                Some(computed) = self.from_jobs.recv() => self.engine.handle(computed, now()),
                event = self.swarm.select_next_some() => self.on_swarm(event),
                () = sleep_until(deadline) => self.engine.handle(Input::Tick, now()),
            }
            // A flood of requests must not keep timers from their turn.
            if self.engine.poll_timeout().is_some_and(|due| due <= now()) {
                self.engine.handle(Input::Overdue, now());
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.on_output(output);
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::SessionAnswer { request, answer, .. } => {
                if let Some(Pending::Session(channel)) = self.pending.remove(&request) {
                    let _ = self.swarm.behaviour_mut().session.send_response(channel, answer);
                }
            }
            Output::ReportAnswer { request, answer, .. } => {
                if let Some(Pending::Report(channel)) = self.pending.remove(&request) {
                    let _ = self.swarm.behaviour_mut().report.send_response(channel, answer);
                }
            }
            Output::PathAnswer { request, answer, .. } => {
                if let Some(Pending::Path(channel)) = self.pending.remove(&request) {
                    let _ = self.swarm.behaviour_mut().path.send_response(channel, answer);
                }
            }
            Output::Opened { session } => {
                info!(%session, "session opened");
            }
            Output::Closed { session } => {
                info!(%session, "session closed");
            }
            Output::Compute { session, job } => {
                let (computed, serial) = (self.computed.clone(), job.serial());
                tokio::spawn(async move {
                    let done = tokio::task::spawn_blocking(move || job.run()).await;
                    let result = Input::Computed { session, job: serial, computed: done.ok() };
                    let _ = computed.send(result).await;
                });
            }
            Output::Membership { peer, is_member } => {
                self.swarm.behaviour_mut().turn(peer.peer_id(), is_member);
                self.note_reached(peer.peer_id());
            }
            Output::Publish { session, topic, key, update } => {
                let epoch = update.header.header.epoch;
                let topic = IdentTopic::new(push::topic(&topic));
                let sealed = codec::encode(&key.seal(session, &update));
                // Without following the topic: nobody pushes anything here.
                match self.swarm.behaviour_mut().gossipsub.inner().publish(topic, sealed) {
                    Ok(_) => debug!(?session, %epoch, "tree pushed"),
                    // Nobody listens yet: members ask when they come.
                    Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
                    Err(error) => warn!(?session, %epoch, %error, "tree not pushed"),
                }
            }
            Output::Notify { to, notice } => {
                let session = notice.session;
                let notices = &mut self.swarm.behaviour_mut().notice;
                let id = notices.send_request(&to.peer_id(), Ok(*notice));
                self.notices.insert(id, (to, session));
            }
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                debug!(%address, "listening");
                if self.concrete.contains(&listener_id) {
                    self.swarm.add_external_address(address);
                }
                self.addresses_changed();
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.addresses_changed(),
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "listener"),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if let Ok(peer) = MemberId::try_from(peer_id)
                    && let Some(origin) = slots::origin(endpoint.get_remote_address())
                {
                    self.engine.handle(Input::Connected { peer, origin }, now());
                }
                let is_member =
                    MemberId::try_from(peer_id).is_ok_and(|peer| self.engine.is_member(peer));
                self.swarm.behaviour_mut().turn(peer_id, is_member);
                if let Some(oldest) = self.peers.connected(peer_id, connection_id, &endpoint) {
                    self.swarm.close_connection(oldest);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                if !self.peers.disconnected(peer_id, connection_id) {
                    return;
                }
                self.reached.remove(&peer_id);
                if let Ok(peer) = MemberId::try_from(peer_id) {
                    self.engine.handle(Input::Disconnected { peer }, now());
                }
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    /// Where a member has reached this coordinator others may, too; it is told to them, and circuits lead
    /// there. Strangers are not believed, and few addresses are.
    fn note_reached(&mut self, peer: PeerId) {
        let is_member = MemberId::try_from(peer).is_ok_and(|peer| self.engine.is_member(peer));
        let known = self.swarm.external_addresses().count();
        if let Some(address) = self.reached.get(&peer)
            && is_member
            && known < EXTERNAL
            && is_reachable(address)
            && !self.swarm.external_addresses().any(|known| known == address)
        {
            debug!(%address, member = %peer, "reached there");
            self.swarm.add_external_address(address.clone());
            self.addresses_changed();
        }
    }

    fn addresses_changed(&mut self) {
        let mut seen = BTreeSet::new();
        let addresses: Vec<Multiaddr> = self
            .external
            .iter()
            .chain(self.swarm.external_addresses())
            .chain(self.swarm.listeners())
            .filter(|address| is_tellable(address) && seen.insert((*address).clone()))
            .take(arborcast_protocol::limits::ADDRESSES)
            .cloned()
            .collect();
        let told = addresses.iter().map(|address| Address(address.to_vec())).collect();
        self.engine.set_addresses(told);
        self.announce.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Session(event) => {
                if let Some((from, request, body)) = self.request(event, Pending::Session) {
                    self.engine.handle(Input::Session { from, request, body }, now());
                }
            }
            BehaviourEvent::Report(event) => {
                if let Some((from, request, body)) = self.request(event, Pending::Report) {
                    self.engine.handle(Input::Report { from, request, body }, now());
                }
            }
            BehaviourEvent::Path(event) => {
                if let Some((from, request, body)) = self.request(event, Pending::Path) {
                    self.engine.handle(Input::Path { from, request, body }, now());
                }
            }
            BehaviourEvent::Notice(event) => self.on_notice(&event),
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) => {
                debug!(peer = %peer_id, agent = %info.agent_version, "identified");
                // Where somebody is dialled back from leads nobody here.
                if self.peers.is_made_by(&peer_id, connection_id) {
                    self.reached.insert(peer_id, info.observed_addr);
                    self.note_reached(peer_id);
                }
            }
            // Dead, and nothing says so: TCP gives up after a quarter of an hour.
            BehaviourEvent::Ping(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            }) => {
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Autonat(tried) => {
                for connection in self.peers.tried(&tried.client, &tried.tested_addr) {
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Gossipsub(_)
            | BehaviourEvent::Identify(_)
            | BehaviourEvent::Ping(_)
            | BehaviourEvent::Circuit(_) => {}
        }
    }

    fn on_notice(
        &mut self,
        event: &request_response::Event<Result<Notice, codec::DecodeError>, Noted>,
    ) {
        match event {
            request_response::Event::Message {
                message: request_response::Message::Response { request_id, .. },
                ..
            } => {
                if let Some((from, session)) = self.notices.remove(request_id) {
                    self.engine.handle(Input::Noted { from, session }, now());
                }
            }
            request_response::Event::OutboundFailure { request_id, peer, error, .. } => {
                debug!(%peer, %error, "notice not delivered");
                if let Some((to, session)) = self.notices.remove(request_id) {
                    self.engine.handle(Input::NoticeFailed { to, session }, now());
                }
            }
            _ => {}
        }
    }

    /// Takes a request in: names it, and refuses what cannot be understood.
    fn request<Req, Granted>(
        &mut self,
        event: request_response::Event<Result<Req, codec::DecodeError>, Result<Granted, Refusal>>,
        pending: fn(ResponseChannel<Result<Granted, Refusal>>) -> Pending,
    ) -> Option<(MemberId, RequestId, Req)> {
        let request_response::Event::Message {
            peer,
            message: request_response::Message::Request { request, channel, .. },
            ..
        } = event
        else {
            return None;
        };
        let refusal = match (request, MemberId::try_from(peer)) {
            (Ok(body), Ok(from)) => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.pending.insert(request, pending(channel));
                return Some((from, request, body));
            }
            (Err(error), _) => {
                self.malformed += 1;
                debug!(%peer, %error, "request not understood");
                format!(
                    "the request was not understood ({error}); do both sides run the same version?"
                )
            }
            (Ok(_), Err(error)) => error.to_string(),
        };
        let refusal = Refusal::new(Code::INVALID, refusal);
        pending(channel).refuse(self.swarm.behaviour_mut(), refusal);
        None
    }
}

impl Pending {
    fn refuse(self, behaviour: &mut Behaviour, refusal: Refusal) {
        // The asker may be gone; then nobody misses the answer.
        match self {
            Self::Session(channel) => drop(behaviour.session.send_response(channel, Err(refusal))),
            Self::Report(channel) => drop(behaviour.report.send_response(channel, Err(refusal))),
            Self::Path(channel) => drop(behaviour.path.send_response(channel, Err(refusal))),
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
