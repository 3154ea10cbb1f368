//! The coordinator: its engine, fed and drained as a driver would, and a look at each tree it makes.

use std::{collections::BTreeMap, time::Duration};

use arborcast::engine::event as node;
use arborcast_coordinator::engine::{Config, Engine, event as coordinator};
use arborcast_protocol::{
    id::{Epoch, MemberId, SessionId, Term},
    limits, push,
    tree::{Edge, Tree},
};
use rand::RngExt as _;

use super::{
    Happening, Who, World,
    control::{Origin, Told},
    coordinator_keypair,
    run::STALE,
    setup::Setup,
    sleep::Asleep,
    trace::fingerprint,
};

/// The coordinator.
#[derive(Debug)]
pub(super) struct Rendezvous {
    pub(super) me: MemberId,
    /// There while it runs.
    pub(super) engine: Option<Box<Engine>>,
    term: Term,
    seed: [u8; 32],
    tick_at: Option<Duration>,
    /// When its process last went on after it had been stopped, and for how long it was.
    pub(super) slept: (Duration, Duration),
    /// Its process is stopped.
    pub(super) asleep: Option<Asleep>,
    /// Who waits for which answer.
    pub(super) asked: BTreeMap<coordinator::RequestId, (Who, node::RequestId, Origin)>,
    pub(super) requests: u64,
    published: Option<Epoch>,
}

impl Rendezvous {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            me: MemberId::from(&coordinator_keypair()),
            engine: None,
            term: Term(0),
            seed,
            tick_at: None,
            slept: (Duration::ZERO, Duration::ZERO),
            asleep: None,
            asked: BTreeMap::new(),
            requests: 0,
            published: None,
        }
    }

    pub(super) const fn is_asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// Whether a member can have a connection with it.
    pub(super) fn is_there(&self) -> bool {
        self.engine.is_some() && self.asleep.is_none_or(|asleep| !asleep.is_silent)
    }

    pub(super) fn tree(&self, session: SessionId) -> Option<(Epoch, &Tree)> {
        self.engine.as_ref()?.tree(session)
    }
}

impl World {
    /// The time on the coordinator's clock, in seconds.
    pub(super) fn coordinator_clock_s(&self) -> u64 {
        1_000_000 + self.now.as_secs()
    }

    pub(super) fn start_coordinator(&mut self) {
        self.coordinator.term = self.coordinator.term.next();
        let Setup { store_bytes, slow_ms, history: session_history, compute_apart, .. } =
            self.setup;
        let config =
            Config { store_bytes, slow_ms, session_history, compute_apart, ..Config::default() };
        let clock_s = self.coordinator_clock_s();
        let (term, seed, now) = (self.coordinator.term, self.coordinator.seed, self.instant());
        let engine = Engine::new(config, coordinator_keypair(), term, clock_s, seed, now);
        self.coordinator.engine = Some(Box::new(engine));
        self.coordinator.tick_at = None;
        self.coordinator.asleep = None;
        self.coordinator.seed = self.rng.random();
        for number in 0..self.hosts.len() {
            if let Some(who) = self.hosts[number].here().filter(|_| self.hosts[number].control) {
                let later = self.between(100, 3_000);
                self.after(later, Happening::Coordinated(who, true));
            }
        }
        self.wind_up_coordinator();
    }

    /// The coordinator is gone for a time.
    pub(super) fn stop_coordinator(&mut self, time: Duration) {
        if self.coordinator.engine.take().is_none() {
            return;
        }
        self.coordinator.asked.clear();
        self.coordinator_dies();
        for number in 0..self.hosts.len() {
            if let Some(who) = self.hosts[number].here() {
                let later = self.between(5, 3_000).min(time);
                self.after(later, Happening::Coordinated(who, false));
            }
        }
        self.after(time, Happening::CoordinatorStart);
    }

    pub(super) fn feed_coordinator(&mut self, input: coordinator::Input) {
        let now = self.instant();
        let figure = fingerprint(format!("{:?}", std::mem::discriminant(&input)).as_bytes());
        self.trace.note(self.now, "coord", "input", &[figure], || format!("{input:?}"));
        let Some(engine) = &mut self.coordinator.engine else { return };
        engine.handle(input, now);
        while let Some(output) =
            self.coordinator.engine.as_mut().and_then(|engine| engine.poll_output())
        {
            self.on_coordinator_output(output);
        }
        self.note_tree();
        self.wind_up_coordinator();
    }

    fn on_coordinator_output(&mut self, output: coordinator::Output) {
        match output {
            coordinator::Output::SessionAnswer { to, request, answer } => {
                self.answer(to, request, Told::Session(Box::new(answer)));
            }
            coordinator::Output::ReportAnswer { to, request, answer } => {
                self.answer(to, request, Told::Report(Box::new(answer)));
            }
            coordinator::Output::PathAnswer { to, request, answer } => {
                self.answer(to, request, Told::Path(Box::new(answer)));
            }
            coordinator::Output::Opened { session } | coordinator::Output::Closed { session } => {
                if session != self.session {
                    self.check(Err(format!("the coordinator holds {session:?}, which nobody has")));
                }
            }
            coordinator::Output::Publish { session, topic, key, update } => {
                let update = self.cross_update(&update);
                self.push(&push::topic(&topic), &key.seal(session, &update));
            }
            coordinator::Output::Membership { .. } => {}
            coordinator::Output::Compute { session: _, job } => {
                let later = self.between(1, 300);
                self.after(later, Happening::Computed(self.coordinator.term, job));
            }
            coordinator::Output::Notify { to, notice } => self.notify(to, *notice),
        }
    }

    /// Looks at each new tree as soon as it is in force.
    fn note_tree(&mut self) {
        let Some((epoch, tree)) = self.coordinator.tree(self.session) else { return };
        if self.coordinator.published == Some(epoch) {
            return;
        }
        let tree = tree.clone();
        self.coordinator.published = Some(epoch);
        let numbers = &self.numbers;
        self.trace.note(
            self.now,
            "coord",
            "tree",
            &[epoch.as_u64(), fingerprint(tree.hash().as_bytes())],
            || {
                let name = |member| numbers.get(&member).copied().unwrap_or(usize::MAX);
                let edges: Vec<String> = tree
                    .edges()
                    .map(|edge| {
                        let (a, b) = edge.ends();
                        format!("{}-{}", name(a), name(b))
                    })
                    .collect();
                format!(
                    "{epoch} of {} members: {} overlap {}",
                    tree.members().len(),
                    edges.join(" "),
                    tree.overlap().len()
                )
            },
        );
        let result = self
            .invariants
            .epochs
            .made(epoch)
            .and_then(|()| self.check_tree(&tree))
            .and_then(|()| self.check_overlap(epoch, &tree));
        self.check(result);
        self.note_detached(&tree);
        self.trees.insert(epoch, tree);
    }

    /// Nothing is owed any more to one that is at fault when the coordinator leaves it out. All others are
    /// held to account for.
    fn note_detached(&mut self, tree: &Tree) {
        let before = self.trees.last_key_value().map(|(_, tree)| tree);
        let left = before.into_iter().flat_map(Tree::members).filter(|member| {
            tree.member(member.id).is_none_or(|now| now.incarnation != member.incarnation)
        });
        let hosts = left.filter_map(|member| {
            let host = self.hosts.get(*self.numbers.get(&member.id)?)?;
            let is_it = host.incarnation == member.incarnation;
            host.here().filter(|_| is_it && self.slow_ones.contains(&host.number))
        });
        for who in hosts.collect::<Vec<_>>() {
            self.model.detach(who);
        }
    }

    /// Whether a new tree keeps to the channels that there are, and to the members' limits.
    fn check_tree(&self, tree: &Tree) -> Result<(), String> {
        let numbers = |edge: Edge| {
            let (a, b) = edge.ends();
            Some((*self.numbers.get(&a)?, *self.numbers.get(&b)?))
        };
        let mut degrees: BTreeMap<usize, u16> = BTreeMap::new();
        for edge in tree.edges() {
            let (a, b) = numbers(edge).ok_or("an edge of the tree names a stranger")?;
            let link = self.link_of(a, b).map(|(link, _)| &self.links[link]);
            self.invariants.trees.edge(
                a,
                b,
                link.is_some_and(|link| link.recent(self.now, self.stale())),
            )?;
            for end in [a, b] {
                *degrees.entry(end).or_default() += 1;
            }
        }
        for (number, degree) in degrees {
            self.invariants.trees.degree(number, degree, self.setup.members[number].fanout)?;
        }
        Ok(())
    }

    /// How long ago a channel may have gone that a tree uses: longer where the coordinator was stopped, and
    /// read only afterwards what was said before.
    fn stale(&self) -> Duration {
        let (woke, slept) = self.coordinator.slept;
        if self.now < woke + STALE { STALE + slept } else { STALE }
    }

    /// Whether the overlap of a new tree is in use already, and bounded.
    fn check_overlap(&self, epoch: Epoch, tree: &Tree) -> Result<(), String> {
        let before = self.trees.last_key_value().filter(|(old, _)| old.term == epoch.term);
        let mut degrees: BTreeMap<MemberId, u16> = BTreeMap::new();
        for edge in tree.overlap() {
            let used = |(_, old): (&Epoch, &Tree)| {
                old.contains(edge) || old.overlap().any(|other| other == edge)
            };
            // What was in use before a restart, the members say.
            if before.is_some_and(|before| !used(before)) {
                return Err(format!("the overlap of {epoch} has {edge:?}, which was not in use"));
            }
            let (a, b) = edge.ends();
            for end in [a, b] {
                *degrees.entry(end).or_default() += 1;
            }
        }
        match degrees.into_iter().find(|(_, degree)| *degree > limits::FANOUT) {
            Some((member, degree)) => {
                Err(format!("{} has {degree} old edges in {epoch}", self.name(member)))
            }
            None => Ok(()),
        }
    }

    /// A computation is done. One in a hundred comes to nothing.
    pub(super) fn computed(&mut self, term: Term, job: coordinator::Job) {
        if self.coordinator.term != term {
            return;
        }
        let (session, serial) = (self.session, job.serial());
        let computed = (serial % 100 != 99).then(|| job.run());
        self.feed_coordinator(coordinator::Input::Computed { session, job: serial, computed });
    }

    pub(super) fn wind_up_coordinator(&mut self) {
        let Some(due) = self.coordinator.engine.as_ref().and_then(|engine| engine.poll_timeout())
        else {
            return;
        };
        let due = due.saturating_duration_since(self.base).max(self.now);
        if self.coordinator.tick_at.is_none_or(|at| due < at) {
            self.coordinator.tick_at = Some(due);
            self.at(due, Happening::CoordinatorTick);
        }
    }

    pub(super) fn coordinator_tick(&mut self) {
        if self.coordinator.tick_at != Some(self.now) || self.coordinator.is_asleep() {
            self.coordinator.tick_at = self.coordinator.tick_at.filter(|at| *at > self.now);
            return;
        }
        self.coordinator.tick_at = None;
        let now = self.instant();
        let due = |world: &Self| {
            world.coordinator.engine.as_ref().and_then(|engine| engine.poll_timeout())
        };
        if due(self).is_some_and(|due| due <= now) {
            self.feed_coordinator(coordinator::Input::Tick);
            let next = due(self);
            let result = self.invariants.spinning.coordinator_ticked(self.now, now, next);
            self.check(result);
            let stats = self.coordinator.engine.as_ref().map(|engine| engine.stats().clone());
            if let Some(stats) = stats {
                let most = self.hosts.len() as u64;
                let result = self.invariants.bounds.coordinator(&stats, most);
                self.check(result);
            }
        } else {
            self.wind_up_coordinator();
        }
    }
}
