//! The engine from outside: inputs in, exact outputs out, and nothing more.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::{
    admission::{self, Admission},
    id::Incarnation,
    notice::News,
    path::{Neighbours, Scope, State},
    qos::{ChannelKind, Qos, Transport},
    refusal::Code,
    report::{Accepted, Adjacency, Channel, ChannelQos, Report},
    session::{Joined, Renewed},
    testing::{incarnation, keypair, member},
    tree::{Body, Update},
};

use super::*;

mod hand_over;
mod joining;
mod near;
mod overlap;
mod paths;
mod pauses;
mod presence;
mod quotas;
mod random;
mod resume;
mod slow;
mod trees;

/// Number of the coordinator's keypair.
const COORDINATOR: u64 = 1000;

/// Number of the admission keypair of the session that tests use.
const ADMISSION: u64 = 2000;

/// Members of tests have lower numbers.
const MEMBERS: u64 = 100;

fn session() -> SessionId {
    admission::private_session(&member(ADMISSION))
}

/// One coordinator with its time, in milliseconds from the start.
struct World {
    engine: Engine,
    start: Instant,
    now_ms: u64,
    requests: u64,
    /// Computations that nobody has done yet.
    jobs: Vec<event::Job>,
    /// Who is told to be a member of anything.
    known: BTreeSet<MemberId>,
    names: BTreeMap<MemberId, u64>,
}

impl World {
    fn new() -> Self {
        Self::with(at_once())
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn with(config: Config) -> Self {
        config.validate().expect("tests use valid configurations");
        let start = Instant::now();
        Self {
            engine: Engine::new(config, keypair(COORDINATOR), Term(7), 1_000, [3; 32], start),
            start,
            now_ms: 0,
            requests: 0,
            jobs: Vec::new(),
            known: BTreeSet::new(),
            names: (0..MEMBERS).map(|n| (member(n), n)).collect(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn name(&self, id: MemberId) -> u64 {
        self.names.get(&id).copied().unwrap_or(u64::MAX)
    }

    /// Gives an input, drains the outputs, checks what must always hold.
    fn handle(&mut self, input: Input) -> Vec<Output> {
        let now = self.now();
        let is_tick = matches!(input, Input::Tick);
        self.engine.handle(input, now);
        let mut outputs = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            if let Output::Compute { job, .. } = output {
                self.jobs.push(*job);
            } else if let Output::Membership { peer, is_member } = output {
                let changed =
                    if is_member { self.known.insert(peer) } else { self.known.remove(&peer) };
                assert!(changed, "told twice");
            } else {
                outputs.push(output);
            }
        }
        for peer in self.names.keys() {
            assert_eq!(self.engine.is_member(*peer), self.known.contains(peer));
        }
        assert!(!is_tick || self.engine.poll_timeout().is_none_or(|due| due > now), "spins");
        outputs
    }

    /// Lets time pass up to `at_ms`, with a tick whenever one is due; what came out meanwhile.
    fn until(&mut self, at_ms: u64) -> Vec<String> {
        let end = self.start + Duration::from_millis(at_ms);
        let mut seen = Vec::new();
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now_ms = u64::try_from((due - self.start).as_millis()).unwrap();
            let outputs = self.handle(Input::Tick);
            seen.extend(outputs.iter().map(|output| self.show(output)));
        }
        self.now_ms = at_ms;
        seen
    }

    /// Outputs in short, members by number.
    fn show(&self, output: &Output) -> String {
        let list = |members: Vec<MemberId>| {
            let mut names: Vec<u64> = members.into_iter().map(|id| self.name(id)).collect();
            names.sort_unstable();
            names.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
        };
        match output {
            Output::SessionAnswer { .. } => "session answer".to_owned(),
            Output::ReportAnswer { .. } => "report answer".to_owned(),
            Output::PathAnswer { .. } => "path answer".to_owned(),
            Output::Compute { .. } => "compute".to_owned(),
            Output::Membership { .. } => "membership".to_owned(),
            Output::Opened { .. } => "opened".to_owned(),
            Output::Closed { .. } => "closed".to_owned(),
            Output::Publish { update, .. } => {
                let kind = match update.body {
                    Body::Full(_) => "full",
                    Body::Change(_) => "change",
                    Body::Fetch => "fetch",
                };
                format!("publish {} {kind}", update.header.header.epoch)
            }
            Output::Notify { to, notice } => {
                let to = self.name(*to);
                match &notice.news {
                    News::Neighbours(news) => {
                        let ids = news.neighbours.iter().map(|member| member.id).collect();
                        format!("tell {to} neighbours [{}]", list(ids))
                    }
                    News::Candidates(contacts) => {
                        let ids = contacts.iter().map(|contact| contact.member).collect();
                        format!("tell {to} candidates [{}]", list(ids))
                    }
                    News::Removed(refusal) => format!("tell {to} removed: {}", refusal.code.0),
                }
            }
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Splits outputs at the one answer, which must be for `request` and come before all but an
    /// `Opened` and notices.
    fn split<T>(
        &self,
        outputs: &[Output],
        answer: impl Fn(&Output) -> Option<(MemberId, RequestId, T)>,
        from: u64,
        request: RequestId,
    ) -> (T, Vec<String>) {
        let mut answers: Vec<_> = outputs.iter().filter_map(&answer).collect();
        assert_eq!(answers.len(), 1, "one answer");
        let (to, id, found) = answers.remove(0);
        assert_eq!((to, id), (member(from), request));
        let rest: Vec<&Output> = outputs.iter().filter(|output| answer(output).is_none()).collect();
        let at = outputs.iter().position(|output| answer(output).is_some()).unwrap();
        let mut before = outputs.iter().take(at);
        assert!(before.all(|out| matches!(out, Output::Opened { .. } | Output::Notify { .. })));
        (found, rest.into_iter().map(|output| self.show(output)).collect())
    }

    fn ask(&mut self, from: u64, body: Request) -> (Answer, Vec<String>) {
        let request = self.request();
        let outputs = self.handle(Input::Session { from: member(from), request, body });
        let answer = |output: &Output| {
            if let Output::SessionAnswer { to, request, answer } = output {
                Some((*to, *request, answer.clone()))
            } else {
                None
            }
        };
        self.split(&outputs, answer, from, request)
    }

    fn challenge(&mut self, from: u64) -> Challenge {
        let (answer, rest) = self.ask(from, Request::Challenge { session: session() });
        assert_eq!(rest, [""; 0]);
        let Ok(Granted::Challenge { challenge }) = answer else { panic!("{answer:?}") };
        challenge
    }

    /// A good request to join, with a fresh challenge.
    fn join_request(&mut self, n: u64, run: u64) -> Join {
        let statement = Statement {
            session: session(),
            coordinator: member(COORDINATOR),
            member: member(n),
            incarnation: incarnation(run),
            challenge: self.challenge(n),
        };
        Join {
            session: session(),
            incarnation: incarnation(run),
            admission: statement.sign(&keypair(ADMISSION)),
            nick: format!("m{n}"),
            fanout: 8,
            upload_kbps: None,
            addresses: vec![address(n)],
            held: None,
            settled: false,
        }
    }

    fn try_join(&mut self, n: u64, join: Join) -> (Result<Joined, Refusal>, Vec<String>) {
        let (answer, rest) = self.ask(n, Request::Join(Box::new(join)));
        let joined = answer.map(|granted| {
            let Granted::Joined(joined) = granted else { panic!("{granted:?}") };
            *joined
        });
        (joined, rest)
    }

    /// Lets member `n` join, its run numbered as itself.
    fn join(&mut self, n: u64) -> (Joined, Vec<String>) {
        let join = self.join_request(n, n);
        let (joined, rest) = self.try_join(n, join);
        (joined.expect("a good proof"), rest)
    }

    fn renew(&mut self, n: u64, settled: bool) -> (Result<Renewed, Refusal>, Vec<String>) {
        let (answer, rest) = self.ask(
            n,
            Request::Renew {
                session: session(),
                incarnation: incarnation(n),
                addresses: vec![address(n)],
                settled,
                push_key: 0,
            },
        );
        let renewed = answer.map(|granted| {
            let Granted::Renewed(renewed) = granted else { panic!("{granted:?}") };
            *renewed
        });
        (renewed, rest)
    }

    /// Asks to leave; whether that was granted, and what followed.
    fn try_leave(&mut self, n: u64) -> (bool, Vec<String>) {
        let leave = Request::Leave { session: session(), incarnation: incarnation(n) };
        let (answer, rest) = self.ask(n, leave);
        match answer {
            Ok(Granted::Left) => (true, rest),
            Ok(Granted::HandingOver { .. }) => (false, rest),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, n: u64) -> Vec<String> {
        let (has_left, rest) = self.try_leave(n);
        assert!(has_left);
        rest
    }

    fn send_report(&mut self, n: u64, body: Report) -> (report::Answer, Vec<String>) {
        let request = self.request();
        let outputs = self.handle(Input::Report { from: member(n), request, body });
        let answer = |output: &Output| {
            if let Output::ReportAnswer { to, request, answer } = output {
                Some((*to, *request, answer.clone()))
            } else {
                None
            }
        };
        self.split(&outputs, answer, n, request)
    }

    /// A report of `n` that must be accepted without asking for more.
    fn report(&mut self, n: u64, adjacency: Adjacency) -> Vec<String> {
        let (answer, rest) =
            self.send_report(n, Report { adjacency: Some(adjacency), ..no_report(n) });
        assert_eq!(answer, Ok(Accepted { candidates: Vec::new(), report_full: false }));
        rest
    }

    /// A report of `n` that its channel with `peer` has this one-way delay and loses so much.
    fn report_qos(&mut self, n: u64, peer: u64, delay_ms: u64, loss_percent: u32) -> Vec<String> {
        let mut qos = Qos::with_delay(Duration::from_millis(delay_ms));
        qos.loss_ppm = loss_percent * 10_000;
        let qos = vec![ChannelQos { peer: member(peer), qos }];
        let (answer, rest) = self.send_report(n, Report { qos, ..no_report(n) });
        assert!(answer.is_ok());
        rest
    }

    fn path(&mut self, n: u64, body: path::Request) -> (path::Answer, Vec<String>) {
        let request = self.request();
        let outputs = self.handle(Input::Path { from: member(n), request, body });
        let answer = |output: &Output| {
            if let Output::PathAnswer { to, request, answer } = output {
                Some((*to, *request, answer.clone()))
            } else {
                None
            }
        };
        self.split(&outputs, answer, n, request)
    }

    fn subscribe(&mut self, n: u64, scope: Scope) -> path::Answer {
        let (answer, rest) = self.path(n, path::Request::Subscribe { session: session(), scope });
        assert_eq!(rest, [""; 0]);
        answer
    }

    /// Members 1 to `count`, all with channels of 10 ms to those `linked` to them, settled down: no
    /// output is due.
    fn with_members(count: u64, links: &[(u64, u64)]) -> Self {
        Self::configured(at_once(), count, links)
    }

    fn configured(config: Config, count: u64, links: &[(u64, u64)]) -> Self {
        let mut world = Self::with(config);
        (1..=count).for_each(|n| {
            world.join(n);
        });
        for n in 1..=count {
            let peers: Vec<u64> = links
                .iter()
                .filter_map(|(a, b)| [(*a, *b), (*b, *a)].iter().find(|l| l.0 == n).map(|l| l.1))
                .collect();
            world
                .send_report(n, Report { adjacency: Some(full(&peers)), ..no_report(n) })
                .0
                .unwrap();
            for peer in peers {
                world.report_qos(n, peer, 10, 0);
            }
        }
        world.until(1_000);
        world
    }

    /// The tree's edges by numbers, and its epoch's counter.
    fn tree(&self) -> (u32, Vec<(u64, u64)>) {
        let (epoch, tree) = self.engine.tree(session()).expect("a tree");
        let name = |id| self.name(id);
        let mut edges: Vec<(u64, u64)> = tree
            .edges()
            .map(|edge| {
                let (a, b) = edge.ends();
                (name(a).min(name(b)), name(a).max(name(b)))
            })
            .collect();
        edges.sort_unstable();
        (epoch.counter, edges)
    }

    /// The members that the tree lists.
    fn listed(&self) -> Vec<u64> {
        let (_, tree) = self.engine.tree(session()).expect("a tree");
        let mut names: Vec<u64> = tree.members().map(|member| self.name(member.id)).collect();
        names.sort_unstable();
        names
    }
}

/// The coordinator has been there for long. It is in no hurry to hear which edges carry: most tests
/// never say so.
fn at_once() -> Config {
    Config { resume_ms: 0, carry_ms: 3_600_000, ..Config::default() }
}

fn address(n: u64) -> Address {
    Address(n.to_be_bytes().to_vec())
}

/// A report of `n` with nothing in it.
fn no_report(n: u64) -> Report {
    Report {
        session: session(),
        incarnation: incarnation(n),
        adjacency: None,
        qos: Vec::new(),
        held: None,
        carrying: Vec::new(),
        settled: false,
        silent: vec![],
        slow: vec![],
    }
}

fn channels(peers: &[u64], kind: ChannelKind) -> Vec<Channel> {
    let channel = |n: &u64| Channel { peer: member(*n), kind, transport: Transport::Quic };
    peers.iter().map(channel).collect()
}

fn full(peers: &[u64]) -> Adjacency {
    Adjacency::Full(channels(peers, ChannelKind::Direct))
}

fn up(peers: &[u64]) -> Adjacency {
    Adjacency::Change { up: channels(peers, ChannelKind::Direct), down: Vec::new() }
}

fn down(peers: &[u64]) -> Adjacency {
    Adjacency::Change { up: Vec::new(), down: peers.iter().map(|n| member(*n)).collect() }
}

fn code<T>(answer: &Result<T, Refusal>) -> Option<Code> {
    answer.as_ref().err().map(|refusal| refusal.code)
}
