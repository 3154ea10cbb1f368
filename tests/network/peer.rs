//! A peer that speaks the protocols by hand, byte by byte, and not always truthfully.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arborcast_net::gossipsub;
use arborcast_protocol::{
    NOTICE, PATH, PROBE, REPORT, SESSION,
    certificate::Certificate,
    codec,
    id::{Incarnation, MemberId, SessionId},
    keys::Access,
    limits, path,
    push::PushAccess,
    qos::{ChannelKind, Transport},
    refusal::Refusal,
    report, session,
};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub as gs, identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay, request_response,
    request_response::ProtocolSupport,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::sync::{mpsc, oneshot};

/// How long any one thing may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Requests and answers as bare bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes;

impl request_response::Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(1 << 23).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read_request(protocol, io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        self.write_request(protocol, io, bytes).await
    }
}

type Exchange = request_response::Behaviour<Bytes>;

#[derive(NetworkBehaviour)]
struct Behaviour {
    session: Exchange,
    report: Exchange,
    path: Exchange,
    notice: Exchange,
    probe: Exchange,
    gossipsub: gs::Behaviour,
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
    circuit: relay::client::Behaviour,
}

/// Where the bytes of an answer go, or why there is none.
type Answer = oneshot::Sender<Result<Vec<u8>, String>>;

/// The control protocols by name.
pub(crate) const CONTROL: [&str; 5] = [SESSION, REPORT, PATH, NOTICE, PROBE];

enum Command {
    Dial(Multiaddr, PeerId, oneshot::Sender<()>),
    Ask(PeerId, &'static str, Vec<u8>, Answer),
    Publish(String, Vec<u8>, oneshot::Sender<bool>),
    Subscribe(String),
    Reserve(Multiaddr),
}

/// A hand-driven peer. Ends when dropped.
pub(crate) struct Peer {
    pub(crate) keypair: Keypair,
    pub(crate) member: MemberId,
    pub(crate) streams: libp2p_stream::Control,
    commands: mpsc::Sender<Command>,
    /// What it was told when it joined.
    push: Mutex<Option<PushAccess>>,
    /// What came by gossipsub.
    gossip: Arc<Mutex<Gossip>>,
}

/// What a peer hears by gossipsub.
#[derive(Clone, Default)]
pub(crate) struct Gossip {
    /// Topics that others said they follow.
    pub(crate) topics: BTreeSet<String>,
    pub(crate) messages: Vec<Vec<u8>>,
    /// Circuits that it may be reached over.
    pub(crate) reservations: usize,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let keypair = Keypair::generate_ed25519();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("tcp")
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .expect("circuits")
            .with_behaviour(|keypair, circuit| {
                let exchange = |name| {
                    request_response::Behaviour::with_codec(
                        Bytes,
                        [(StreamProtocol::new(name), ProtocolSupport::Full)],
                        request_response::Config::default()
                            .with_request_timeout(Duration::from_secs(10)),
                    )
                };
                let [session, report, path, notice, probe] = CONTROL.map(exchange);
                Behaviour {
                    session,
                    report,
                    path,
                    notice,
                    probe,
                    gossipsub: gossipsub(keypair).expect("gossipsub"),
                    identify: identify::Behaviour::new(identify::Config::new(
                        "hostile".to_owned(),
                        keypair.public(),
                    )),
                    streams: libp2p_stream::Behaviour::new(),
                    circuit,
                }
            })
            .expect("behaviour")
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(120)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("listen");
        let streams = swarm.behaviour().streams.new_control();
        let (commands, inbox) = mpsc::channel(64);
        let member = MemberId::try_from(&keypair.public()).expect("Ed25519");
        let gossip = Arc::new(Mutex::new(Gossip::default()));
        tokio::spawn(run(swarm, inbox, gossip.clone()));
        Self { keypair, member, streams, commands, push: Mutex::new(None), gossip }
    }

    pub(crate) async fn dial(&self, address: &Multiaddr) -> PeerId {
        let peer = address
            .iter()
            .find_map(|part| match part {
                Protocol::P2p(peer) => Some(peer),
                _ => None,
            })
            .expect("an address with a peer id");
        let (done, connected) = oneshot::channel();
        let _ = self.commands.send(Command::Dial(address.clone(), peer, done)).await;
        within(connected).await.expect("connected");
        peer
    }

    /// Sends bytes as a request and returns the bytes of the answer.
    pub(crate) async fn ask(
        &self,
        peer: PeerId,
        protocol: &'static str,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let (done, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Ask(peer, protocol, bytes, done)).await;
        within(answer).await.expect("the peer runs")
    }

    /// A well-formed session request and its answer.
    pub(crate) async fn session(
        &self,
        coordinator: PeerId,
        request: &session::Request,
    ) -> session::Answer {
        let answer = self.ask(coordinator, SESSION, codec::encode(request)).await.expect("answer");
        codec::decode(&answer, limits::CONTROL_ANSWER).expect("a session answer")
    }

    pub(crate) async fn report(
        &self,
        coordinator: PeerId,
        report: &report::Report,
    ) -> report::Answer {
        let answer = self.ask(coordinator, REPORT, codec::encode(report)).await.expect("answer");
        codec::decode(&answer, limits::CONTROL_ANSWER).expect("a report answer")
    }

    pub(crate) async fn path(&self, coordinator: PeerId, request: path::Request) -> path::Answer {
        let answer = self.ask(coordinator, PATH, codec::encode(&request)).await.expect("answer");
        codec::decode(&answer, limits::CONTROL_ANSWER).expect("a path answer")
    }

    pub(crate) async fn challenge(
        &self,
        coordinator: PeerId,
        session: SessionId,
    ) -> arborcast_protocol::id::Challenge {
        match self.session(coordinator, &session::Request::Challenge { session }).await {
            Ok(session::Granted::Challenge { challenge }) => challenge,
            other => panic!("no challenge: {other:?}"),
        }
    }

    /// Joins as an honest member would.
    pub(crate) async fn join(
        &self,
        coordinator: PeerId,
        access: &Access,
    ) -> Result<Certificate, Refusal> {
        let session = access.session();
        let challenge = self.challenge(coordinator, session).await;
        let statement = arborcast_protocol::admission::Statement {
            session,
            coordinator: MemberId::try_from(coordinator).expect("Ed25519"),
            member: self.member,
            incarnation: self.incarnation(),
            challenge,
        };
        self.join_with(coordinator, session, access.admission(&statement)).await
    }

    pub(crate) async fn join_with(
        &self,
        coordinator: PeerId,
        session: SessionId,
        admission: arborcast_protocol::admission::Admission,
    ) -> Result<Certificate, Refusal> {
        let join = session::Join {
            session,
            incarnation: self.incarnation(),
            admission,
            nick: "mallory".to_owned(),
            fanout: 4,
            upload_kbps: None,
            addresses: Vec::new(),
            held: None,
            settled: false,
        };
        match self.session(coordinator, &session::Request::Join(Box::new(join))).await {
            Ok(session::Granted::Joined(joined)) => {
                *self.push.lock().expect("no panic") = joined.push;
                Ok(joined.certificate)
            }
            Ok(other) => panic!("no answer to a join: {other:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reports a channel with each of these members.
    pub(crate) async fn report_channels(
        &self,
        coordinator: PeerId,
        session: SessionId,
        peers: &[MemberId],
    ) {
        let channel = |peer: &MemberId| report::Channel {
            peer: *peer,
            kind: ChannelKind::Direct,
            transport: Transport::Tcp,
        };
        let report = report::Report {
            session,
            incarnation: self.incarnation(),
            adjacency: Some(report::Adjacency::Full(peers.iter().map(channel).collect())),
            qos: Vec::new(),
            held: None,
            carrying: Vec::new(),
            settled: false,
            silent: vec![],
            slow: vec![],
        };
        self.report(coordinator, &report).await.expect("accepted");
    }

    #[expect(clippy::unused_self, reason = "one run of each peer")]
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation::from_bytes([7; 16])
    }

    /// What lets it follow pushes, once it has joined.
    pub(crate) fn push(&self) -> PushAccess {
        self.push.lock().expect("no panic").clone().expect("it has joined")
    }

    pub(crate) fn gossip(&self) -> Gossip {
        self.gossip.lock().expect("no panic").clone()
    }

    pub(crate) async fn subscribe(&self, topic: String) {
        let _ = self.commands.send(Command::Subscribe(topic)).await;
    }

    /// Asks for a circuit at this peer.
    pub(crate) async fn reserve(&self, at: &Multiaddr) {
        let _ = self.commands.send(Command::Reserve(at.clone())).await;
    }

    /// Publishes; false if there was nobody to publish to.
    pub(crate) async fn publish(&self, topic: String, bytes: Vec<u8>) -> bool {
        let (done, published) = oneshot::channel();
        let _ = self.commands.send(Command::Publish(topic, bytes, done)).await;
        within(published).await.expect("the peer runs")
    }
}

fn hear(event: gs::Event, gossip: &Mutex<Gossip>) {
    let mut gossip = gossip.lock().expect("no panic");
    match event {
        gs::Event::Subscribed { topic, .. } => drop(gossip.topics.insert(topic.into_string())),
        gs::Event::Message { message, .. } => gossip.messages.push(message.data),
        _ => {}
    }
}

async fn run(
    mut swarm: Swarm<Behaviour>,
    mut inbox: mpsc::Receiver<Command>,
    gossip: Arc<Mutex<Gossip>>,
) {
    let mut dials: Vec<(PeerId, oneshot::Sender<()>)> = Vec::new();
    let mut asked: Vec<(String, Answer)> = Vec::new();
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                None => return,
                Some(Command::Dial(address, peer, done)) => {
                    if swarm.is_connected(&peer) {
                        let _ = done.send(());
                    } else {
                        swarm.dial(address).expect("a dial");
                        dials.push((peer, done));
                    }
                }
                Some(Command::Ask(peer, protocol, bytes, done)) => {
                    let behaviour = swarm.behaviour_mut();
                    let exchange = match protocol {
                        SESSION => &mut behaviour.session,
                        REPORT => &mut behaviour.report,
                        PATH => &mut behaviour.path,
                        NOTICE => &mut behaviour.notice,
                        _ => &mut behaviour.probe,
                    };
                    let id = exchange.send_request(&peer, bytes);
                    asked.push((format!("{protocol} {id}"), done));
                }
                Some(Command::Publish(topic, bytes, done)) => {
                    let topic = gs::IdentTopic::new(topic);
                    let sent = swarm.behaviour_mut().gossipsub.publish(topic, bytes).is_ok();
                    let _ = done.send(sent);
                }
                Some(Command::Reserve(at)) => {
                    swarm.listen_on(at.with(Protocol::P2pCircuit)).expect("asked");
                }
                Some(Command::Subscribe(topic)) => {
                    let topic = gs::IdentTopic::new(topic);
                    swarm.behaviour_mut().gossipsub.subscribe(&topic).expect("subscribed");
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    dials.retain_mut(|(peer, done)| {
                        if *peer != peer_id { return true; }
                        let _ = std::mem::replace(done, oneshot::channel().0).send(());
                        false
                    });
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(event)) => hear(event, &gossip),
                SwarmEvent::Behaviour(BehaviourEvent::Circuit(
                    relay::client::Event::ReservationReqAccepted { .. },
                )) => gossip.lock().expect("no panic").reservations += 1,
                SwarmEvent::Behaviour(BehaviourEvent::Session(event)) => answer(SESSION, event, &mut asked),
                SwarmEvent::Behaviour(BehaviourEvent::Report(event)) => answer(REPORT, event, &mut asked),
                SwarmEvent::Behaviour(BehaviourEvent::Path(event)) => answer(PATH, event, &mut asked),
                SwarmEvent::Behaviour(BehaviourEvent::Notice(event)) => answer(NOTICE, event, &mut asked),
                SwarmEvent::Behaviour(BehaviourEvent::Probe(event)) => answer(PROBE, event, &mut asked),
                _ => {}
            },
        }
    }
}

fn answer(
    protocol: &str,
    event: request_response::Event<Vec<u8>, Vec<u8>>,
    asked: &mut Vec<(String, Answer)>,
) {
    let (id, outcome) = match event {
        request_response::Event::Message {
            message: request_response::Message::Response { request_id, response },
            ..
        } => (request_id, Ok(response)),
        request_response::Event::OutboundFailure { request_id, error, .. } => {
            (request_id, Err(error.to_string()))
        }
        _ => return,
    };
    let name = format!("{protocol} {id}");
    if let Some(at) = asked.iter().position(|(asked, _)| *asked == name) {
        let _ = asked.swap_remove(at).1.send(outcome);
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// A number that no other test of this process has.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
