//! Script-like tests of the engine: what goes in, and exactly what comes out.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use arborcast_protocol::{
    edge::{Heartbeat, Message as EdgeMessage, Summary},
    id::{SessionId, Signature, Term},
    path::{Neighbours, Request as PathRequest, State},
    qos::{ChannelKind, Transport},
    refusal::Code,
    report::{Accepted, Report},
    session::{Address, Answer, Contact, Granted, Join, Joined, Renewed, Request, Terms},
    testing,
    tree::{Body, Edge, Header, Member, SignedHeader, Tree, Update},
};

use super::{
    event::{ChannelEvent, EdgeId, Nicked, RequestId, TreeEvent},
    *,
};

mod data;
mod edges;
mod leaving;
mod membership;
mod overflow;
mod poll;
mod random;
mod reports;
mod subscribe;
mod trees;

pub(super) const NAME: &str = "test";
pub(super) const RENEW: Duration = Duration::from_secs(5);

/// An engine, its clock and the coordinator's answers.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    edges: u64,
}

/// Members in order of their ids; the engine's own is the eleventh.
pub(super) fn ordered(n: usize) -> MemberId {
    static IDS: LazyLock<Vec<MemberId>> = LazyLock::new(|| {
        let ids: BTreeSet<MemberId> = (0..21).map(testing::member).collect();
        ids.into_iter().collect()
    });
    IDS[n]
}

pub(super) fn me() -> MemberId {
    ordered(10)
}

/// A member with a higher id: this node opens the edge.
pub(super) fn high(n: usize) -> MemberId {
    ordered(11 + n)
}

/// A member with a lower id: the other end opens the edge.
pub(super) fn low(n: usize) -> MemberId {
    ordered(9 - n)
}

pub(super) fn session() -> SessionId {
    access().session()
}

fn access() -> Access {
    Access::Open { name: NAME.to_owned() }
}

pub(super) fn epoch(counter: u32) -> Epoch {
    Epoch { term: Term(1), counter }
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Some time in the past; all that counts is the difference.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
pub(super) fn start() -> Instant {
    Instant::now()
}

/// A tree of `members` (and this node) with `edges` and `overlap`.
pub(super) fn tree(
    members: &[MemberId],
    edges: &[(MemberId, MemberId)],
    overlap: &[(MemberId, MemberId)],
) -> Tree {
    let member = |id: MemberId| Member {
        id,
        incarnation: testing::incarnation(1),
        nick: String::new(),
        group: 0,
    };
    let edge = |(a, b): &(MemberId, MemberId)| Edge::new(*a, *b).expect("two members");
    Tree::new(members.iter().copied().map(member), edges.iter().map(edge), overlap.iter().map(edge))
        .expect("a tree")
}

/// A star with this node in the middle.
pub(super) fn star(peers: &[MemberId]) -> Tree {
    let members: Vec<MemberId> = peers.iter().copied().chain([me()]).collect();
    let edges: Vec<_> = peers.iter().map(|peer| (me(), *peer)).collect();
    tree(&members, &edges, &[])
}

/// The engine does not look at signatures: the driver has checked them.
pub(super) fn signed(counter: u32, tree: &Tree) -> SignedHeader {
    let header = Header { session: session(), epoch: epoch(counter), hash: tree.hash() };
    let signature = Signature::from_bytes([0; 64]);
    SignedHeader { header, coordinator: testing::coordinator(), signature }
}

pub(super) fn full(counter: u32, tree: &Tree) -> Update {
    Update { header: signed(counter, tree), body: Body::Full(Box::new(tree.clone())) }
}

pub(super) fn nicked(member: MemberId) -> Nicked {
    Nicked { member, nick: String::new() }
}

pub(super) fn contact(member: MemberId) -> Contact {
    Contact { member, addresses: vec![Address(vec![1, 2, 3])] }
}

pub(super) fn joined(settled: bool, candidates: Vec<Contact>) -> Box<Joined> {
    Box::new(Joined {
        certificate: testing::certificate(session(), me(), testing::incarnation(1)),
        terms: Terms {
            now_s: 0,
            lease_ms: 15_000,
            renew_ms: 5_000,
            report_ms: 5_000,
            message_bytes: 1 << 20,
            store_bytes: 1 << 24,
            slow_ms: 2_000,
            history: arborcast_protocol::history::History::None,
        },
        settled,
        candidates,
        push: None,
    })
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        let now = start();
        let identity =
            Identity { member: me(), incarnation: testing::incarnation(1), nick: "ann".to_owned() };
        let engine = Engine::new(config, identity, access(), testing::coordinator(), [7; 32], now);
        assert_eq!(engine.phase(), Phase::Outside);
        Self { engine, now, edges: 0 }
    }

    /// Let in and subscribed, the first report accepted, no tree yet but asked for.
    pub(super) fn member() -> Self {
        Self::member_with(Config::default())
    }

    pub(super) fn member_with(config: Config) -> Self {
        let mut bench = Self::with(config);
        bench.join(joined(true, Vec::new()));
        bench
    }

    /// A member that was let in, and what it asked for the tree then.
    pub(super) fn asking(config: Config) -> (Self, RequestId, PathRequest) {
        let mut bench = Self::with(config);
        let outputs = bench.give(Input::CoordinatorUp);
        let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
        let granted = Granted::Joined(joined(true, Vec::new()));
        let outputs = bench.session(session_request(&outputs).0, Ok(granted));
        let (report, _) = report_request(&outputs);
        bench.accept(report);
        let requests = path_requests(&outputs);
        let [(request, body)] = requests.as_slice() else { panic!("no request: {outputs:?}") };
        (bench, *request, *body)
    }

    /// The same with the answer, tree 1.
    pub(super) fn learning(next_hops: NextHops, tree: &Tree) -> Self {
        let (mut bench, request, _) = Self::asking(Config { next_hops, ..Config::default() });
        bench.path(request, State::Tree(Box::new(full(1, tree))));
        bench
    }

    /// The queries and subscriptions within `time`, each with how long it took to come; all are
    /// answered with tree `counter`.
    pub(super) fn asked_in(
        &mut self,
        time: Duration,
        counter: u32,
        tree: &Tree,
    ) -> Vec<(Duration, PathRequest)> {
        let begin = self.now;
        let mut asked = Vec::new();
        while self.now < begin + time {
            let step = ms(1).min(begin + time - self.now);
            for (request, body) in path_requests(&self.wait(step)) {
                asked.push((self.now - begin, body));
                self.path(request, State::Tree(Box::new(full(counter, tree))));
            }
        }
        asked
    }

    /// The same with a tree.
    pub(super) fn in_tree(tree: &Tree) -> Self {
        let mut bench = Self::member();
        bench.push(full(1, tree));
        bench
    }

    /// Goes through the handshake and answers the first report; the subscription stays open.
    pub(super) fn join(&mut self, joined: Box<Joined>) {
        let outputs = self.give(Input::CoordinatorUp);
        let challenge = session_request(&outputs);
        let outputs = self.session(challenge.0, Ok(challenge_granted()));
        let join = session_request(&outputs);
        let outputs = self.session(join.0, Ok(Granted::Joined(joined)));
        let (report, _) = report_request(&outputs);
        assert_eq!(self.accept(report), []);
    }

    /// What comes out of `input`.
    pub(super) fn give(&mut self, input: Input) -> Vec<Output> {
        self.engine.handle(input, self.now);
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    /// Lets time pass, with all ticks that are asked for; what comes out meanwhile.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            outputs.extend(self.give(Input::Tick));
            assert!(
                self.engine.poll_timeout().is_none_or(|next| next > self.now),
                "the engine spins"
            );
        }
        self.now = end;
        outputs
    }

    pub(super) fn session(&mut self, request: RequestId, answer: Answer) -> Vec<Output> {
        self.give(Input::SessionAnswer { request, answer: Ok(answer) })
    }

    pub(super) fn path(&mut self, request: RequestId, state: State) -> Vec<Output> {
        self.give(Input::PathAnswer { request, answer: Ok(Ok(state)) })
    }

    pub(super) fn accept(&mut self, request: RequestId) -> Vec<Output> {
        let accepted = Accepted { candidates: Vec::new(), report_full: false };
        self.give(Input::ReportAnswer { request, answer: Ok(Ok(accepted)) })
    }

    pub(super) fn push(&mut self, update: Update) -> Vec<Output> {
        self.give(Input::Pushed(Box::new(update)))
    }

    pub(super) fn channel(&mut self, peer: MemberId) -> Vec<Output> {
        self.give(Input::ChannelUp { peer, kind: ChannelKind::Direct, transport: Transport::Quic })
    }

    pub(super) fn edge(&mut self, peer: MemberId, epoch: Epoch) -> (EdgeId, Vec<Output>) {
        self.edges += 1;
        let edge = EdgeId(self.edges);
        (edge, self.give(Input::EdgeUp { edge, peer, epoch }))
    }

    /// The peer's summary comes; what this node has to say is taken away.
    pub(super) fn summary(&mut self, edge: EdgeId) -> Vec<Output> {
        let message =
            EdgeMessage::Summary(Summary { settled: true, flows: Vec::new(), live: false });
        let mut outputs = self.give(Input::EdgeMessage { edge, message });
        outputs.extend(self.pull(edge));
        outputs
    }

    /// The peer's summary comes; of what this node has to say only messages are taken away.
    pub(super) fn summary_only(&mut self, edge: EdgeId) {
        let message =
            EdgeMessage::Summary(Summary { settled: true, flows: Vec::new(), live: false });
        self.give(Input::EdgeMessage { edge, message });
        while self.engine.poll_edge_message(edge, self.now).is_some() {}
        self.drain();
    }

    /// What this node has to say on an edge is taken away.
    pub(super) fn pull(&mut self, edge: EdgeId) -> Vec<Output> {
        while self.engine.poll_edge_message(edge, self.now).is_some() {}
        while self.engine.poll_frame(edge, self.now).is_some() {}
        self.drain()
    }

    pub(super) fn heartbeat(&mut self, edge: EdgeId, epoch: Epoch) -> Vec<Output> {
        let message = EdgeMessage::Heartbeat(Heartbeat { epoch, ..Heartbeat::default() });
        self.give(Input::EdgeMessage { edge, message })
    }
}

/// The answer to a renewal that brings nothing.
pub(super) const fn nothing_new() -> Renewed {
    Renewed {
        certificate: None,
        settled: false,
        candidates: Vec::new(),
        now_s: 0,
        epoch: None,
        push_key: None,
        measure: Vec::new(),
    }
}

pub(super) fn challenge_granted() -> Granted {
    Granted::Challenge { challenge: arborcast_protocol::id::Challenge::from_bytes([3; 32]) }
}

/// The only session request.
pub(super) fn session_request(outputs: &[Output]) -> (RequestId, Request) {
    let mut found = outputs.iter().filter_map(|output| {
        if let Output::SessionRequest { request, body } = output {
            Some((*request, body.clone()))
        } else {
            None
        }
    });
    let first = found.next().unwrap_or_else(|| panic!("no session request in {outputs:?}"));
    assert_eq!(found.next(), None);
    first
}

/// The only report.
pub(super) fn report_request(outputs: &[Output]) -> (RequestId, Report) {
    let mut found = outputs.iter().filter_map(|output| {
        if let Output::ReportRequest { request, body } = output {
            Some((*request, (**body).clone()))
        } else {
            None
        }
    });
    let first = found.next().unwrap_or_else(|| panic!("no report in {outputs:?}"));
    assert_eq!(found.next(), None);
    first
}

/// All queries and subscriptions.
pub(super) fn path_requests(outputs: &[Output]) -> Vec<(RequestId, PathRequest)> {
    outputs
        .iter()
        .filter_map(|output| {
            if let Output::PathRequest { request, body } = output {
                Some((*request, *body))
            } else {
                None
            }
        })
        .collect()
}

/// All events.
pub(super) fn events(outputs: &[Output]) -> Vec<Event> {
    outputs
        .iter()
        .filter_map(
            |output| {
                if let Output::Event(event) = output { Some(event.clone()) } else { None }
            },
        )
        .collect()
}

/// The opened edges.
pub(super) fn opened(outputs: &[Output]) -> Vec<MemberId> {
    outputs
        .iter()
        .filter_map(
            |output| {
                if let Output::OpenEdge { peer } = output { Some(*peer) } else { None }
            },
        )
        .collect()
}

/// The closed edges.
pub(super) fn closed(outputs: &[Output]) -> Vec<EdgeId> {
    outputs
        .iter()
        .filter_map(
            |output| {
                if let Output::CloseEdge { edge } = output { Some(*edge) } else { None }
            },
        )
        .collect()
}

/// The dialled members.
pub(super) fn dialled(outputs: &[Output]) -> Vec<MemberId> {
    outputs
        .iter()
        .filter_map(
            |output| {
                if let Output::Dial(contact) = output { Some(contact.member) } else { None }
            },
        )
        .collect()
}
