//! A world in virtual time: one coordinator engine, many node engines, links between them, and one
//! queue of what is to happen, in order of time and then of when it was put there.
//!
//! The world does what drivers and networks do, only worse: requests overtake each other, pushes get
//! lost, channels break and both ends learn of it at different times. It decides nothing that an
//! engine decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use arborcast::{engine::event as node, proof::FrameChecker};
use arborcast_coordinator::engine::event::Job;
use arborcast_protocol::{
    frame::Frame,
    id::{Epoch, Incarnation, MemberId, SessionId, Term},
    identity::ed25519,
    keys::Access,
    notice::Notice,
    push::Push,
    session::Address,
    testing,
    tree::Tree,
};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    invariants::Invariants,
    model::{Fate, Model},
};

mod application;
mod channel;
mod control;
mod describe;
mod edge;
pub mod graph;
mod host;
mod intruder;
pub mod plan;
mod proof;
mod rendezvous;
mod run;
mod script;
pub mod setup;
mod sleep;
pub mod trace;
mod wire;

pub use run::{Failure, Summary, replayed, run};

use channel::Link;
use control::{Ask, Told};
use edge::Side;
use host::Host;
use rendezvous::Rendezvous;
use setup::{Act, Setup};
use trace::Trace;

/// One life of one node: restarted nodes are new ones to everybody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Its number in the world.
    pub node: usize,
    /// Counts its starts from 1.
    pub life: u32,
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.node)?;
        if self.life > 1 { write!(f, "'{}", self.life) } else { Ok(()) }
    }
}

/// Something that is to happen.
#[derive(Debug)]
enum Happening {
    /// An act of the script.
    Act(Act),
    /// A deadline of a node's engine.
    Tick(Who),
    /// A deadline of the coordinator's engine.
    CoordinatorTick,
    /// An input that only needs the node to be there still.
    Input(Who, Box<node::Input>),
    /// A request reaches the coordinator.
    Asked(Who, node::RequestId, Box<Ask>),
    /// Its answer reaches the node.
    Told(Who, node::RequestId, Box<Told>),
    /// A node has waited for an answer long enough.
    Unanswered(Who, node::RequestId),
    /// A notice reaches a node.
    Noticed(MemberId, Box<Notice>),
    Noted(MemberId, SessionId),
    /// A push reaches a node.
    Pushed(Who, Box<Push>),
    /// The coordinator learns that its connection with a node is gone.
    Disconnected(usize),
    /// A node learns that its connection with the coordinator is gone, or back.
    Coordinated(Who, bool),
    /// What cut a node off from the coordinator is over.
    Mend(usize),
    /// A tree is computed, of the coordinator's start with this term.
    Computed(Term, Box<Job>),
    /// The coordinator starts again.
    CoordinatorStart,
    /// Members find out that the coordinator's process is stopped.
    CoordinatorSilent,
    /// It goes on.
    CoordinatorAwake,
    /// A channel that was being made is there.
    Rise(usize),
    /// One end of a link learns that its channel is up.
    ChannelUp(Who, usize, u64),
    /// One end of a link learns that its channel is gone.
    ChannelDown(Who, usize, u64),
    /// One end of a channel that is dead without a word has no answer to a ping.
    Looked(usize, u64, Side),
    NoAnswer(usize, u64, Side, Duration),
    /// A broken link works again.
    Whole(usize),
    /// The ends of a link get a channel by themselves.
    Acquaint(usize),
    /// The hello of an edge's opener reaches the other end.
    Hello(u64, Epoch),
    /// One end of an edge learns that it is up.
    EdgeUp(u64, Side, Epoch),
    /// An edge could not be opened.
    EdgeFailed(u64, Side),
    /// One end of an edge learns that it is gone.
    EdgeDown(u64, Side),
    /// Something arrives at this end of an edge.
    Arrived(u64, Side),
    /// This end of an edge may send again.
    Room(u64, Side),
    /// A draft is sealed and signed.
    Made(Who, Box<Frame>, Bytes),
    /// An application that is slow takes its next message.
    Take(Who),
    /// An application has no more patience and leaves.
    Impatient(Who),
}

/// A world.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    /// Only an origin: engines are told times after it and look at differences.
    base: Instant,
    now: Duration,
    serial: u64,
    queue: BTreeMap<(Duration, u64), Happening>,
    rng: ChaCha8Rng,
    session: SessionId,
    coordinator: Rendezvous,
    hosts: Vec<Host>,
    /// The numbers of nodes by their ids.
    numbers: BTreeMap<MemberId, usize>,
    links: Vec<Link>,
    /// The positions of links by their ends, the lower first.
    pairs: BTreeMap<(usize, usize), usize>,
    edges: BTreeMap<u64, edge::Edge>,
    edges_made: u64,
    channels_made: u64,
    frames_sent: u64,
    messages_taken: u64,
    fresh: u64,
    detached: u64,
    trees: BTreeMap<Epoch, Tree>,
    trace: Trace,
    /// What must come true.
    pub model: Model,
    /// What must always hold.
    pub invariants: Invariants,
    violation: Option<String>,
    /// Who alone may be detached.
    slow_ones: BTreeSet<usize>,
    /// In worlds with real keys.
    checker: Option<FrameChecker>,
}

impl World {
    /// A world before its first moment. `text` keeps the trace as text.
    #[must_use]
    pub fn new(setup: &Setup, text: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only an origin for virtual times")]
        let base = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(setup.seed);
        let access = access(setup.open, 0);
        let session = access.session();
        let hosts: Vec<Host> = (0..setup.members.len())
            .map(|number| Host::new(number, testing::member(number as u64)))
            .collect();
        let mut world = Self {
            base,
            now: Duration::ZERO,
            serial: 0,
            queue: BTreeMap::new(),
            session,
            coordinator: Rendezvous::new(rng.random()),
            numbers: hosts.iter().map(|host| (host.me, host.number)).collect(),
            hosts,
            links: setup.links.iter().map(|plan| Link::new(*plan)).collect(),
            pairs: setup.links.iter().zip(0..).map(|(link, at)| ((link.a, link.b), at)).collect(),
            edges: BTreeMap::new(),
            edges_made: 0,
            channels_made: 0,
            frames_sent: 0,
            messages_taken: 0,
            fresh: 0,
            detached: 0,
            trees: BTreeMap::new(),
            trace: Trace::new(text),
            model: Model::default(),
            invariants: Invariants::new(setup),
            violation: None,
            slow_ones: setup.slow_ones(),
            checker: None,
            rng,
            setup: setup.clone(),
        };
        world.start_coordinator();
        for (at, act) in world.setup.script.clone() {
            world.at(at, Happening::Act(act));
        }
        world
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// What happened.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The first thing that went wrong.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Lets happen whatever happens within this time; stops early when something goes wrong.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.violation.is_none()
            && let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            match self.waits_until(&happening).or_else(|| self.coordinator_waits(&happening)) {
                Some(until) => self.at(until, happening),
                None => self.step(happening),
            }
        }
        if self.violation.is_none() {
            self.now = end;
        }
    }

    /// Lets things happen until `done`, looking every 50 ms; false if that takes longer than `most`
    /// or something goes wrong before.
    pub fn run_until(&mut self, most: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + most;
        while self.violation.is_none() {
            if done(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.run_for(Duration::from_millis(50));
        }
        false
    }

    fn step(&mut self, happening: Happening) {
        match happening {
            Happening::Act(act) => self.act(act),
            Happening::Tick(who) => self.tick(who),
            Happening::CoordinatorTick => self.coordinator_tick(),
            Happening::Input(who, input) => self.feed_if_there(who, *input),
            Happening::Asked(who, request, ask) => self.asked(who, request, *ask),
            Happening::Told(who, request, told) => self.told(who, request, *told),
            Happening::Unanswered(who, request) => self.unanswered(who, request),
            Happening::Noticed(to, notice) => self.noticed(to, notice),
            Happening::Noted(from, session) => self.noted(from, session),
            Happening::Pushed(who, push) => self.pushed(who, &push),
            Happening::Disconnected(node) => self.disconnected(node),
            Happening::Coordinated(who, up) => self.coordinated(who, up),
            Happening::Mend(node) => self.mend(node),
            Happening::Computed(term, job) => self.computed(term, *job),
            Happening::CoordinatorStart => self.start_coordinator(),
            Happening::CoordinatorSilent => self.coordinator_silent(),
            Happening::CoordinatorAwake => self.coordinator_awake(),
            Happening::Rise(link) => self.rise(link),
            Happening::ChannelUp(who, link, channel) => self.channel_up(who, link, channel),
            Happening::ChannelDown(who, link, channel) => self.channel_down(who, link, channel),
            Happening::Looked(link, channel, side) => self.looked(link, channel, side),
            Happening::NoAnswer(link, channel, side, asked) => {
                self.no_answer(link, channel, side, asked);
            }
            Happening::Whole(link) => self.whole(link),
            Happening::Acquaint(link) => self.acquaint(link),
            Happening::Hello(edge, epoch) => self.hello(edge, epoch),
            Happening::EdgeUp(edge, side, epoch) => self.edge_up(edge, side, epoch),
            Happening::EdgeFailed(edge, side) => self.edge_failed(edge, side),
            Happening::EdgeDown(edge, side) => self.edge_down(edge, side),
            Happening::Arrived(edge, side) => self.arrived(edge, side),
            Happening::Room(edge, side) => self.room(edge, side),
            Happening::Made(who, frame, payload) => self.made(who, *frame, payload),
            Happening::Take(who) => self.take_slowly(who),
            Happening::Impatient(who) => self.impatient(who),
        }
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), happening);
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn instant(&self) -> Instant {
        self.base + self.now
    }

    /// A random time, evenly spread.
    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from_ms * 1_000..=to_ms * 1_000))
    }

    /// Records what went wrong first.
    fn check(&mut self, result: Result<(), String>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.trace.note(self.now, "", "VIOLATION", &[], || violation.clone());
            self.violation = Some(format!("at {:.6} s: {violation}", self.now.as_secs_f64()));
        }
    }

    fn name(&self, member: MemberId) -> String {
        self.numbers
            .get(&member)
            .map_or_else(|| format!("{member:?}"), |number| format!("n{number}"))
    }

    /// The link between two nodes, and on which of its sides the first one is.
    fn link_of(&self, node: usize, other: usize) -> Option<(usize, Side)> {
        let side = if node < other { Side::A } else { Side::B };
        self.pairs.get(&(node.min(other), node.max(other))).map(|link| (*link, side))
    }

    fn end_of(&mut self, who: Who, fate: Fate) {
        let host = &self.hosts[who.node];
        let run = (host.me, host.incarnation);
        self.model.end(run, fate);
    }
}

/// The n-th session's way in: 0 is the one that all but intruders have.
fn access(open: bool, n: u64) -> Access {
    if open {
        Access::Open { name: format!("simulated {n}") }
    } else {
        Access::Private(arborcast_protocol::keys::Secret::from_bytes(
            [u8::try_from(n).unwrap_or(255); 32],
        ))
    }
}

/// The address of a node: nobody dials it, but it is a real one.
fn address(number: usize) -> Address {
    let [.., high, mid, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    // /ip4/10.high.mid.low/tcp/4096
    Address(vec![0x04, 10, high, mid, low, 0x06, 0x10, 0x00])
}

fn coordinator_keypair() -> ed25519::Keypair {
    testing::keypair(testing::COORDINATOR)
}

fn incarnation(who: Who) -> Incarnation {
    testing::incarnation((who.node as u64) << 32 | u64::from(who.life))
}
