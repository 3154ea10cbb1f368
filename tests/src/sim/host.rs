//! One node: its engine, fed and drained as a driver would.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use arborcast::{
    engine::{
        Config, Engine, Identity,
        event::{self as node, EdgeId},
        relay,
        silence::Heard,
    },
    proof::FrameMaker,
};
use arborcast_protocol::{
    frame::Frame,
    id::{Epoch, Incarnation, MemberId, SeqNo},
    push::PushAccess,
    testing,
};
use bytes::Bytes;
use rand::RngExt as _;

use super::{
    Happening, Who, World, access, address,
    application::Backlog,
    control::Kind,
    describe::{describe, kind},
};
use crate::{invariants::epochs, model::Fate};

/// Drafts that a driver has at work at once.
const DRAFTS: usize = 8;

/// Turns of one node without time passing, after which it is called a spinning one.
const TURNS: u32 = 100_000;

/// One node.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each set in one place")]
pub(super) struct Host {
    pub(super) number: usize,
    pub(super) me: MemberId,
    /// Counts its starts.
    pub(super) life: u32,
    pub(super) incarnation: Incarnation,
    /// There while it runs.
    pub(super) engine: Option<Box<Engine>>,
    /// When its next tick is to be looked at.
    pub(super) tick_at: Option<Duration>,
    /// Its process is stopped until then.
    pub(super) asleep_until: Option<Duration>,
    /// Its application takes nothing until then.
    pub(super) stalled_until: Option<Duration>,
    pub(super) admitted: bool,
    /// The newest tree that it said it takes up.
    pub(super) epoch: Epoch,
    /// Its connection with the coordinator works.
    pub(super) control: bool,
    /// It has given up its connection with a coordinator that it did not hear.
    pub(super) gave_up: bool,
    /// One way.
    pub(super) control_delay: Duration,
    pub(super) pending: BTreeMap<node::RequestId, Kind>,
    /// When data came from each neighbour, by the numbers of nodes.
    pub(super) heard: Heard<usize>,
    /// Its ends of edges that are up.
    pub(super) edges: Vec<EdgeId>,
    drafts: usize,
    last_made: Duration,
    pub(super) backlog: VecDeque<Backlog>,
    pub(super) publishing: BTreeMap<node::PublishId, Backlog>,
    pub(super) published: u64,
    pub(super) queued: SeqNo,
    /// What is not confirmed, with its only receiver.
    pub(super) open: BTreeMap<SeqNo, Option<MemberId>>,
    /// Messages of which it wants to know who has them.
    pub(super) asked: BTreeSet<SeqNo>,
    pub(super) leaving: bool,
    pub(super) impatient: bool,
    left: bool,
    pub(super) taking: bool,
    /// Where it follows pushes, once it was let in.
    pub(super) topic: Option<String>,
    /// Once it was let in, in worlds with real keys.
    pub(super) maker: Option<FrameMaker>,
}

impl Host {
    pub(super) fn new(number: usize, me: MemberId) -> Self {
        Self {
            number,
            me,
            life: 0,
            incarnation: testing::incarnation(0),
            engine: None,
            tick_at: None,
            asleep_until: None,
            stalled_until: None,
            admitted: false,
            epoch: Epoch::default(),
            control: true,
            gave_up: false,
            control_delay: Duration::from_millis(20),
            pending: BTreeMap::new(),
            heard: Heard::default(),
            edges: Vec::new(),
            drafts: 0,
            last_made: Duration::ZERO,
            backlog: VecDeque::new(),
            publishing: BTreeMap::new(),
            published: 0,
            queued: SeqNo(0),
            open: BTreeMap::new(),
            asked: BTreeSet::new(),
            leaving: false,
            impatient: false,
            left: false,
            taking: false,
            topic: None,
            maker: None,
        }
    }

    pub(super) const fn who(&self) -> Who {
        Who { node: self.number, life: self.life }
    }

    /// It was told to leave and still runs.
    pub(super) const fn lingers(&self) -> bool {
        self.engine.is_some() && self.impatient
    }

    /// Its present run, if it runs.
    pub(super) fn here(&self) -> Option<Who> {
        self.engine.as_ref().map(|_| self.who())
    }
}

impl World {
    /// Whether this life of a node goes on.
    pub(super) fn there(&self, who: Who) -> bool {
        self.hosts.get(who.node).is_some_and(|host| host.here() == Some(who))
    }

    /// A node starts as a new incarnation.
    pub(super) fn start_node(&mut self, number: usize) {
        if self.hosts[number].engine.is_some() {
            return;
        }
        let (plan, coordinator) = (self.setup.members[number], self.coordinator.me);
        let who = Who { node: number, life: self.hosts[number].life + 1 };
        let incarnation = super::incarnation(who);
        let control_delay = self.between(5, 60);
        let me = self.hosts[number].me;
        let config = Config {
            next_hops: plan.next_hops,
            scope: plan.scope,
            fanout: plan.fanout,
            poll: self.setup.poll,
            relay: relay::Config {
                history_bytes: self.setup.history_bytes,
                ..relay::Config::default()
            },
            ..Config::default()
        };
        #[cfg(feature = "sabotage")]
        let config = Config {
            relay: relay::Config { sabotage: self.setup.bug, ..config.relay.clone() },
            ..config
        };
        let identity = Identity { member: me, incarnation, nick: format!("{who:?}") };
        let way_in = access(self.setup.open, if plan.invited { 0 } else { 1 + number as u64 });
        let seed = self.rng.random();
        let now = self.instant();
        let engine = Engine::new(config, identity, way_in, coordinator, seed, now);
        self.hosts[number] = Host {
            life: who.life,
            incarnation,
            engine: Some(Box::new(engine)),
            control_delay,
            control: self.hosts[number].control,
            ..Host::new(number, me)
        };
        self.trace.note(self.now, "", "start", &[number as u64], || format!("{who:?}"));
        if plan.invited {
            self.model.start(who, (me, incarnation), plan.stays);
        }
        self.feed(who, node::Input::Addresses(vec![address(number)]));
        if self.hosts[number].control && self.coordinator.engine.is_some() {
            let soon = self.between(10, 100);
            self.after(soon, Happening::Coordinated(who, true));
        }
        if self.setup.acquainted {
            self.acquaint_all(number);
        }
    }

    /// A node is no more: killed, or done with leaving.
    pub(super) fn stop_node(&mut self, number: usize, fate: Fate) {
        let Some(who) = self.hosts[number].here() else { return };
        self.trace.note(self.now, "", "stop", &[number as u64], || format!("{who:?} {fate:?}"));
        self.end_of(who, fate);
        self.check_manner(number);
        let host = &mut self.hosts[number];
        host.engine = None;
        host.admitted = false;
        host.topic = None;
        host.pending.clear();
        host.edges.clear();
        host.backlog.clear();
        self.lose_channels(number, fate != Fate::Killed);
        let later = self.between(20, 3_000);
        self.after(later, Happening::Disconnected(number));
    }

    /// Looks at the counters of a node whose life, or whose world, is over.
    pub(super) fn check_manner(&mut self, number: usize) {
        let host = &self.hosts[number];
        if let Some(engine) = &host.engine {
            let manner = self.setup.members[number].next_hops;
            let result = self.invariants.manner.over(host.who(), manner, &engine.stats());
            self.check(result);
        }
    }

    pub(super) fn feed_if_there(&mut self, who: Who, input: node::Input) {
        if self.there(who) {
            self.feed(who, input);
        }
    }

    /// Gives an input to a node that is there, and takes up what comes of it.
    pub(super) fn feed(&mut self, who: Who, input: node::Input) {
        self.give(who, input);
        self.settle(who);
    }

    /// Gives an input and takes the outputs.
    pub(super) fn give(&mut self, who: Who, input: node::Input) {
        let now = self.instant();
        let (what, figures) = describe(&input);
        self.trace.note(self.now, &format!("{who:?}"), what, &figures, || format!("{input:?}"));
        let Some(engine) = &mut self.hosts[who.node].engine else { return };
        engine.handle(input, now);
        self.drain(who);
    }

    /// Takes all outputs, as every driver must after each call, before it uses what the call gave.
    pub(super) fn drain(&mut self, who: Who) {
        while self.there(who)
            && let Some(output) =
                self.hosts[who.node].engine.as_mut().and_then(|engine| engine.poll_output())
        {
            self.on_output(who, output);
        }
    }

    /// Pulls and pushes until nothing moves at this node any more without time passing.
    pub(super) fn settle(&mut self, who: Who) {
        let mut turns = 0;
        while self.violation.is_none() && self.there(who) && self.turn(who) {
            turns += 1;
            if turns == TURNS {
                self.check(Err(format!("{who:?} never comes to rest at one moment")));
            }
        }
        self.wind_up(who);
    }

    /// One round; whether anything moved.
    fn turn(&mut self, who: Who) -> bool {
        self.pull_drafts(who)
            | self.pull_messages(who)
            | self.push_backlog(who)
            | self.write_edges(who)
            | self.read_edges(who)
    }

    fn pull_drafts(&mut self, who: Who) -> bool {
        let now = self.instant();
        let mut moved = false;
        while let host = &mut self.hosts[who.node]
            && host.drafts < DRAFTS
            && let Some(draft) = host.engine.as_mut().and_then(|engine| engine.poll_draft(now))
        {
            moved = true;
            host.drafts += 1;
            self.drain(who);
            let (frame, payload) = match self.make_frame(who, draft) {
                Ok(made) => made,
                Err(violation) => {
                    self.check(Err(violation));
                    return false;
                }
            };
            let work = Duration::from_micros(self.rng.random_range(50..500));
            let host = &mut self.hosts[who.node];
            host.last_made = (self.now + work).max(host.last_made);
            let at = host.last_made;
            self.at(at, Happening::Made(who, Box::new(frame), payload));
        }
        moved
    }

    pub(super) fn made(&mut self, who: Who, frame: Frame, payload: Bytes) {
        if self.there(who) {
            self.hosts[who.node].drafts -= 1;
            self.feed(who, node::Input::Made { frame, payload });
        }
    }

    fn write_edges(&mut self, who: Who) -> bool {
        let now = self.instant();
        let mut moved = false;
        for id in self.hosts[who.node].edges.clone() {
            while self.control_room(id)
                && let Some(engine) = &mut self.hosts[who.node].engine
                && let Some(message) = engine.poll_edge_message(id, now)
            {
                moved = true;
                self.drain(who);
                self.send_message(who, id, message);
            }
            while self.data_room(id)
                && let Some(engine) = &mut self.hosts[who.node].engine
                && let Some(frame) = engine.poll_frame(id, now)
            {
                moved = true;
                self.drain(who);
                self.send_frame(who, id, frame);
            }
        }
        moved
    }

    fn read_edges(&mut self, who: Who) -> bool {
        let mut moved = false;
        for id in self.hosts[who.node].edges.clone() {
            while let Some(message) = self.ripe_message(who, id) {
                moved = true;
                self.give(who, node::Input::EdgeMessage { edge: id, message });
            }
            while self.hosts[who.node].engine.as_ref().is_some_and(|engine| engine.may_read(id))
                && let Some(frame) = self.ripe_frame(who, id)
            {
                moved = true;
                match self.check_frame(who, &frame) {
                    Ok(payload) => self.give(who, node::Input::Frame { edge: id, frame, payload }),
                    Err(violation) => self.check(Err(violation)),
                }
            }
        }
        moved
    }

    /// Sees to it that the node is woken at its next deadline.
    fn wind_up(&mut self, who: Who) {
        if !self.there(who) {
            return;
        }
        let host = &self.hosts[who.node];
        let Some(due) = host.engine.as_ref().and_then(|engine| engine.poll_timeout()) else {
            return;
        };
        let due = due.saturating_duration_since(self.base).max(self.now);
        if host.tick_at.is_some_and(|at| at <= due) {
            return;
        }
        let late = u64::try_from(self.setup.lateness.as_micros()).unwrap_or(u64::MAX);
        let at = due + Duration::from_micros(self.rng.random_range(0..=late));
        if self.hosts[who.node].tick_at.is_none_or(|before| at < before) {
            self.hosts[who.node].tick_at = Some(at);
            self.at(at, Happening::Tick(who));
        }
    }

    pub(super) fn tick(&mut self, who: Who) {
        if !self.there(who) || self.hosts[who.node].tick_at != Some(self.now) {
            return;
        }
        let now = self.instant();
        let host = &mut self.hosts[who.node];
        host.tick_at = None;
        let due = |host: &Host| host.engine.as_ref().and_then(|engine| engine.poll_timeout());
        if due(host).is_some_and(|due| due <= now) {
            self.feed(who, node::Input::Tick);
            let next = due(&self.hosts[who.node]);
            let result = self.invariants.spinning.ticked(who, self.now, now, next);
            self.check(result);
            self.after_tick(who);
        } else {
            self.wind_up(who);
        }
    }

    /// What stands to be checked now and then, and is cheap enough for each tick.
    fn after_tick(&mut self, who: Who) {
        if let Some(engine) = &self.hosts[who.node].engine {
            let result = self.invariants.bounds.node(who, &engine.stats());
            self.check(result);
        }
    }

    fn on_output(&mut self, who: Who, output: node::Output) {
        match output {
            node::Output::SessionRequest { request, body } => {
                self.ask(who, request, super::Ask::Session(Box::new(body)));
            }
            node::Output::ReportRequest { request, body } => {
                self.ask(who, request, super::Ask::Report(body));
            }
            node::Output::PathRequest { request, body } => {
                self.ask(who, request, super::Ask::Path(body));
            }
            node::Output::Dial(contact) => self.dial(who, &contact),
            node::Output::Probe { peer, serial, train: _ } => self.probe(who, peer, serial),
            node::Output::OpenEdge { peer } => self.open_edge(who, peer),
            node::Output::CloseEdge { edge } => self.close_edge(who, edge),
            node::Output::Event(event) => self.on_event(who, event),
        }
    }

    fn on_event(&mut self, who: Who, event: node::Event) {
        let name = format!("{who:?}");
        let run = (self.hosts[who.node].me, self.hosts[who.node].incarnation);
        self.trace.note(self.now, &name, "event", &[kind(&event)], || format!("{event:?}"));
        match event {
            node::Event::Admitted(joined) => {
                let result = self.invariants.admission.admitted(who);
                self.check(result);
                self.hosts[who.node].admitted = true;
                self.hosts[who.node].topic = joined.push.as_ref().map(PushAccess::topic);
                self.certify(who, &joined.certificate);
                if joined.settled {
                    self.model.settle(who);
                }
            }
            node::Event::Refused(refusal) => {
                let result = self.invariants.admission.refused(who, &refusal);
                self.check(result);
            }
            node::Event::Tree(tree) => {
                let made = self.trees.get(&tree.epoch);
                let result = self
                    .invariants
                    .epochs
                    .taken(who, tree.epoch)
                    .and_then(|()| epochs::same(who, self.hosts[who.node].me, &tree, made));
                self.check(result);
                self.hosts[who.node].epoch = tree.epoch;
            }
            node::Event::Queued { id, seq } => self.queued(who, run, id, seq),
            node::Event::Rejected { id, why } => self.rejected(who, id, &why),
            node::Event::Delivered { seq, members: _, to } => {
                self.confirmed(who, to, seq);
                let result = self.invariants.complete.receipt(&self.model, (run, to), seq);
                self.check(result);
            }
            node::Event::Confirmed { seq, complete, missing, .. } => {
                self.answered(who, run, seq, complete, &missing);
            }
            node::Event::Missed { to, from, last, reason } => {
                self.confirmed(who, Some(to), last);
                let lane = (run, Some(to));
                let result =
                    self.invariants.complete.missed(&mut self.model, lane, (from, last), reason);
                self.check(result);
            }
            node::Event::Lost { flow, from, to, reason } => {
                let result =
                    self.invariants.complete.lost(&mut self.model, who, flow, (from, to), reason);
                self.check(result);
            }
            node::Event::Detached(refusal) => {
                self.detached += 1;
                if !self.slow_ones.contains(&who.node) {
                    self.check(Err(format!(
                        "{who:?} is detached, but keeps nobody waiting: {refusal}"
                    )));
                }
            }
            node::Event::Ended => self.hosts[who.node].left = true,
            node::Event::Recertified(certificate) => self.certify(who, &certificate),
            node::Event::CoordinatorLost(_)
            | node::Event::CoordinatorBack
            | node::Event::Joined(_)
            | node::Event::Left(_)
            | node::Event::Channel(_)
            | node::Event::Warning(_) => {}
        }
        if self.hosts[who.node].left {
            let host = &self.hosts[who.node];
            let first_open = host.open.keys().next().map(|seq| SeqNo(seq.0.saturating_sub(1)));
            let promised = first_open.unwrap_or(host.queued);
            self.stop_node(who.node, Fate::Left(promised));
        }
    }
}
