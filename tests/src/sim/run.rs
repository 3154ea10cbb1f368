//! A whole run: the script, coming to rest, and what must be true then.

use std::{collections::BTreeSet, fmt, time::Duration};

use arborcast::engine::Stats;
use arborcast_protocol::{
    id::{Class, Epoch, MemberId},
    tree::Tree,
};

use super::{World, setup::Setup};
use crate::invariants::{manner::Manner, rest};

/// A tree may use a channel that is gone for this long: until both ends know it (6 s), have told the
/// coordinator (5 s of retries), or the lease of a dead end is over (15 s).
pub(super) const STALE: Duration = Duration::from_secs(26);

/// Lines of the trace that a failure shows.
const TAIL: usize = 60;

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Of the whole trace.
    pub hash: u64,
    /// Happenings in it.
    pub happenings: u64,
    /// Virtual time.
    pub time: Duration,
    /// Frames that crossed an edge.
    pub frames: u64,
    /// Messages that applications took.
    pub messages: u64,
    /// Trees.
    pub trees: u64,
    /// Ticks of all engines.
    pub ticks: u64,
    /// Times that a member was told that it is detached.
    pub detached: u64,
    /// Messages published at the end, to see that the world still works.
    pub fresh: u64,
    /// Pairs of a source and a receiver that the model held to account.
    pub owed: usize,
    /// The same of what was for the receiver alone.
    pub owed_alone: usize,
    /// Messages for one alone that were given up because it had left.
    pub missed: u64,
    /// Losses that were reported, all of them where they may be.
    pub losses: u64,
    /// What all members asked for.
    pub manner: Manner,
    /// See [`World::in_band`].
    pub in_band: u64,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which world.
    pub seed: u64,
    /// What was seen.
    pub violation: String,
    /// The last lines of the trace, if it was kept.
    pub tail: Vec<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Runs a world to its end.
///
/// # Errors
/// Says which invariant broke, without a trace; see [`replayed`].
pub fn run(setup: &Setup) -> Result<Summary, Box<Failure>> {
    drive(&mut World::new(setup, false))
}

/// As [`run`]; when it fails, runs the same world again with the trace as text.
///
/// # Errors
/// Says which invariant broke, with the tail of the trace. `ARBORCAST_TRACE` names a file for all of
/// it.
pub fn replayed(setup: &Setup) -> Result<Summary, Box<Failure>> {
    run(setup).map_err(|first| {
        let mut world = World::new(setup, true);
        let again = drive(&mut world);
        let mut failure = Failure { tail: world.legible(TAIL), ..*first };
        match again {
            Err(second) if second.violation == failure.violation => {}
            Err(second) => {
                failure.violation =
                    format!("not the same twice: {}, then {}", failure.violation, second.violation);
            }
            Ok(_) => {
                failure.violation =
                    format!("not the same twice: {}, then nothing", failure.violation);
            }
        }
        if let Ok(path) = std::env::var("ARBORCAST_TRACE")
            && let Err(error) = std::fs::write(&path, world.legible(usize::MAX).join("\n"))
        {
            failure.tail.push(format!("{path} cannot be written: {error}"));
        }
        Box::new(failure)
    })
}

fn drive(world: &mut World) -> Result<Summary, Box<Failure>> {
    world.run_for(world.setup.rest);
    world.come_to_rest();
    for number in 0..world.hosts.len() {
        world.check_manner(number);
        world.check_answers(number);
    }
    match world.violation.take() {
        None => Ok(Summary {
            hash: world.trace.hash(),
            happenings: world.trace.count(),
            time: world.now,
            frames: world.frames_sent,
            messages: world.messages_taken,
            trees: world.invariants.epochs.count,
            ticks: world.invariants.spinning.count,
            fresh: world.fresh,
            detached: world.detached,
            owed: world.model.owed(),
            owed_alone: world.model.owed_alone(),
            missed: world.invariants.complete.missed,
            losses: world.invariants.complete.losses,
            manner: world.invariants.manner,
            in_band: world.in_band(),
        }),
        Some(violation) => {
            Err(Box::new(Failure { seed: world.setup.seed, violation, tail: world.legible(TAIL) }))
        }
    }
}

impl World {
    /// The last lines of the trace, with the numbers of nodes for their ids.
    #[must_use]
    pub fn legible(&self, most: usize) -> Vec<String> {
        let names: Vec<(String, String)> = self
            .numbers
            .iter()
            .map(|(member, number)| (format!("{member:?}"), format!("n{number}")))
            .collect();
        let mut lines = self.trace.tail(most);
        for line in &mut lines {
            for (id, name) in &names {
                if line.contains(id) {
                    *line = line.replace(id, name);
                }
            }
        }
        lines
    }

    /// After the last fault: agreement, fresh messages, empty stores.
    fn come_to_rest(&mut self) {
        let unrest = |world: &Self| world.disagreement().or_else(|| world.check_span().err());
        if !self.run_until(rest::AGREEMENT, |world| unrest(world).is_none()) {
            let why = unrest(self).unwrap_or_default();
            return self.check(Err(format!("no agreement after {:?}: {why}", rest::AGREEMENT)));
        }
        let present = self.present();
        let step = (present.len() / 5).max(1);
        for number in present.iter().step_by(step) {
            self.publish(*number, 1, 40, Class::Reliable);
            self.fresh += 1;
        }
        if self.setup.alone {
            for (from, to) in present.iter().zip(present.iter().skip(1)).step_by(step) {
                self.tell(*from, *to, 40);
            }
        }
        let absent = if self.tells_absent() { rest::ABSENT } else { Duration::ZERO };
        let time = rest::FRESH + absent;
        if !self.run_until(time, Self::all_delivered) {
            let result = self.invariants.complete.at_end(&self.model);
            self.check(result);
            let why = self.waiting().unwrap_or_default();
            return self.check(Err(format!("not all is delivered after {time:?}: {why}")));
        }
        let time = if self.setup.thorough { rest::FORGOTTEN } else { rest::EMPTY };
        if !self.run_until(time, |world| world.unemptied().is_none()) {
            let why = self.unemptied().unwrap_or_default();
            return self.check(Err(format!("stores are not empty after {time:?}: {why}")));
        }
        // Whoever came while the coordinator was stopped is refused once that is over.
        let refused = |world: &Self| {
            let started = world.hosts.iter().filter(|host| host.life > 0).map(|host| host.number);
            world.invariants.admission.at_end(started)
        };
        self.run_until(rest::FRESH, |world| refused(world).is_ok());
        let result = refused(self);
        self.check(result);
        if self.setup.calm {
            let result = self.invariants.once.exactly(&self.tree_edges());
            self.check(result);
        }
    }

    /// What the engine of a node has counted; `None` if it does not run.
    #[must_use]
    pub fn stats(&self, node: usize) -> Option<Stats<'_>> {
        self.hosts.get(node)?.engine.as_ref().map(|engine| engine.stats())
    }

    /// The nodes that run and may be in the session.
    #[must_use]
    pub fn present(&self) -> BTreeSet<usize> {
        let here = self.hosts.iter().filter(|host| host.here().is_some());
        let numbers = here.map(|host| host.number);
        numbers.filter(|number| self.setup.members[*number].invited).collect()
    }

    /// Frames that the nodes which are there have sent by the trees in them.
    #[must_use]
    pub fn in_band(&self) -> u64 {
        let engines = self.hosts.iter().filter_map(|host| host.engine.as_ref());
        engines.map(|engine| engine.stats().relay.in_band_frames).sum()
    }

    /// The edges of the coordinator's tree by the numbers of their nodes, the lower first.
    #[must_use]
    pub fn tree_edges(&self) -> BTreeSet<(usize, usize)> {
        let tree = self.coordinator.tree(self.session).map(|(_, tree)| tree);
        let edges = tree.into_iter().flat_map(Tree::edges);
        edges
            .filter_map(|edge| {
                let (a, b) = edge.ends();
                let (a, b) = (*self.numbers.get(&a)?, *self.numbers.get(&b)?);
                Some((a.min(b), a.max(b)))
            })
            .collect()
    }

    /// The epoch of the coordinator's tree, and how many members are in it.
    #[must_use]
    pub fn size(&self) -> (Epoch, usize) {
        let tree = self.coordinator.tree(self.session);
        tree.map(|(epoch, tree)| (epoch, tree.members().len())).unwrap_or_default()
    }

    /// Times that a member was told that it is detached.
    #[must_use]
    pub const fn detached(&self) -> u64 {
        self.detached
    }

    /// All trees so far, in order.
    pub fn trees(&self) -> impl Iterator<Item = &Tree> + '_ {
        self.trees.values()
    }

    /// Whether the newest tree has an overlap.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        self.trees().last().is_some_and(|tree| tree.overlap().len() > 0)
    }

    /// The most messages that any present application sent and has no receipt for yet.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        let hosts = self.present().into_iter().map(|number| &self.hosts[number]);
        hosts.map(|host| host.open.len() as u64).max().unwrap_or(0)
    }

    /// How many live messages of `source` a node has got in this life, and how many that sent.
    #[must_use]
    pub fn live(&self, node: usize, source: usize) -> (u64, u64) {
        let (reader, source) = (&self.hosts[node], &self.hosts[source]);
        let run = (source.me, source.incarnation);
        let sent = self.model.sources.get(&run).into_iter().flat_map(|source| &source.sent);
        let sent = sent.filter(|sent| sent.class == Class::Live).count() as u64;
        (self.model.got(reader.who(), (run, None)).live, sent)
    }

    /// What keeps the members from holding the same tree of exactly those that are there.
    #[must_use]
    pub fn disagreement(&self) -> Option<String> {
        let Some((epoch, tree)) = self.coordinator.tree(self.session) else {
            return Some("there is no tree".to_owned());
        };
        let present = self.present();
        if tree.overlap().len() > 0 {
            return Some(format!("epoch {epoch} still has an overlap"));
        }
        for member in tree.members() {
            let host = self.numbers.get(&member.id).map(|number| &self.hosts[*number]);
            if host
                .is_none_or(|host| host.engine.is_none() || host.incarnation != member.incarnation)
            {
                return Some(format!("{} is in the tree, but not there", self.name(member.id)));
            }
        }
        for number in present {
            let host = &self.hosts[number];
            if host.lingers() {
                return Some(format!("n{number} wants to leave, but does not"));
            }
            if tree.member(host.me).is_none() {
                return Some(format!("n{number} is there, but not in the tree"));
            }
            if host.epoch != epoch {
                return Some(format!("n{number} holds epoch {}, not {epoch}", host.epoch));
            }
        }
        None
    }

    fn check_span(&self) -> Result<(), String> {
        let present = self.present();
        let both =
            |link: &&super::Link| present.contains(&link.plan.a) && present.contains(&link.plan.b);
        let pair = |link: &super::Link| (link.plan.a, link.plan.b);
        let up: BTreeSet<(usize, usize)> =
            self.links.iter().filter(both).filter(|link| link.settled()).map(pair).collect();
        self.invariants.trees.spans(&present, &self.tree_edges(), &up)
    }

    fn all_delivered(world: &Self) -> bool {
        world.model.missing().next().is_none() && world.waiting().is_none()
    }

    /// Whether something is under way to a node alone that is not there.
    fn tells_absent(&self) -> bool {
        let present = self.present();
        let is_absent = |to: &MemberId| self.numbers.get(to).is_none_or(|to| !present.contains(to));
        let sent = present.iter().flat_map(|number| self.hosts[*number].open.values());
        sent.flatten().any(is_absent)
    }

    /// An application that still waits to publish, or for the receipt of what it published. What it
    /// sent to one that was never there since, for which it waits much longer, does not count; that
    /// it is let go of in the end shows in the stores.
    fn waiting(&self) -> Option<String> {
        let present = self.present();
        let is_there = |to: &MemberId| self.numbers.get(to).is_some_and(|to| present.contains(to));
        present.iter().map(|number| &self.hosts[*number]).find_map(|host| {
            let who = host.who();
            if host.backlog.is_empty() {
                let (seq, to) =
                    host.open.iter().find(|(_, to)| to.as_ref().is_none_or(is_there))?;
                Some(format!("{who:?} has no receipt for #{seq} of #{}, to {to:?}", host.queued))
            } else {
                Some(format!("{who:?} may not publish {} messages", host.backlog.len()))
            }
        })
    }

    /// A node that still holds something, though all have everything.
    fn unemptied(&self) -> Option<String> {
        self.present().into_iter().map(|number| &self.hosts[number]).find_map(|host| {
            let stats = host.engine.as_ref()?.stats();
            let relay = stats.relay;
            let held = [
                ("store", relay.store_bytes),
                ("live data for others", relay.live_queue_bytes),
                ("live data", relay.live_undelivered_bytes),
                ("inbox", relay.undelivered_bytes),
                ("assembly", if self.setup.thorough { relay.assembly_bytes } else { 0 }),
                ("queue", relay.queue_bytes),
            ];
            let (what, bytes) = held.into_iter().find(|(_, bytes)| *bytes > 0)?;
            Some(format!("the {what} of {:?} holds {bytes} bytes", host.who()))
        })
    }
}
