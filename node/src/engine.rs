//! The engine of one session: a pure state machine without clock, thread, socket or key of the
//! member. It is told what happened and says what to do.
//!
//! ```text
//! answers, notices, pushed trees ─► membership, path, view ─┬─► edges ─► relay ◄─► frames, drafts,
//! channels, probes ───────────────► channels, candidates ───┴─► report             deliveries
//! ```
//!
//! # Contract
//! - [`Engine::handle`] takes each input with the time, which never goes back, and cannot fail.
//! - After each `handle` and each other poll, [`Engine::poll_output`] is drained, before what the poll
//!   gave is used: a loss is told before the message that follows it.
//! - [`Engine::poll_timeout`] says when to hand in [`Input::Tick`] if nothing happens before.
//! - Bulk data is pulled: for each edge, whenever its writer has room, [`Engine::poll_edge_message`]
//!   before [`Engine::poll_frame`]; drafts and deliveries likewise. What a poll gave is taken.
//! - Each request, dial, probe and attempt to open an edge is answered by exactly one input.
//! - The driver keeps the connection to the coordinator; the engine asks only while it is up.
//! - After [`Event::Ended`] or [`Event::Refused`] only deliveries that were complete can be polled.
//!
//! The same inputs at the same times with the same seed give the same outputs on every machine.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge,
    frame::Frame,
    id::{Epoch, Incarnation, MemberId},
    keys::Access,
    limits,
    path::Scope,
    push::{Push, PushError},
    refusal::Refusal,
    session::Terms,
    tree::{Tree, Update},
};

mod answers;
mod backoff;
mod call;
mod candidates;
mod channels;
mod config;
mod desk;
mod edges;
pub mod event;
mod lag;
mod membership;
mod millis;
mod next_hops;
mod reason;
pub mod relay;
mod reporter;
pub mod silence;
mod stats;
mod trains;
mod view;

use candidates::Candidates;
use channels::{Changed, Channels};
use desk::{Desk, due, earlier};
use edges::{Act, Came, Edges};
use event::{ChannelState, Draft, EdgeId, Event, Input, Message, Output, Unanswered};
use lag::Lag;
use membership::{Membership, Standing};
use next_hops::{Asker, Overflown};
use relay::{Relay, RoundTrip};
use reporter::{Reporter, Sources};
use view::View;

pub use config::{Config, ConfigError, NextHops, UnknownNextHops};
pub use membership::Phase;
pub use stats::{Control, Stats};

/// Who the node is. The key itself stays with the driver, which signs and seals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The node as a member.
    pub member: MemberId,
    /// This run of it: 128 fresh random bits.
    pub incarnation: Incarnation,
    /// How people call it; cut to [`limits::NICK`] bytes, may be empty.
    pub nick: String,
}

/// A neighbour in the newest tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Who.
    pub member: MemberId,
    /// On an edge of the tree before that stays in use for the moment.
    pub overlap: bool,
    /// The edge with it, if it is up.
    pub edge: Option<EdgeId>,
    /// Frames can flow on that edge.
    pub carrying: bool,
}

/// The engine of one session.
#[derive(Debug)]
pub struct Engine {
    desk: Desk,
    membership: Membership,
    path: Asker,
    view: View,
    edges: Edges,
    channels: Channels,
    candidates: Candidates,
    reporter: Reporter,
    relay: Relay,
    /// Neighbours on new edges that close cycles with old ones.
    aside: BTreeSet<MemberId>,
    lag: Lag,
    now: Instant,
    /// Of all parts but the relay, as of the last time they ran.
    deadline: Option<Instant>,
    /// [`Event::Ended`] was told.
    ended: bool,
}

impl Engine {
    /// An engine for the session that `access` opens, coordinated by `coordinator`. `seed` is where
    /// all its chance comes from. It does nothing before [`Input::CoordinatorUp`].
    #[must_use]
    pub fn new(
        config: Config,
        identity: Identity,
        access: Access,
        coordinator: MemberId,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let config = config.clamped();
        let Identity { member, incarnation, nick } = identity;
        let (session, sealed) = (access.session(), !access.is_open());
        let membership = Membership::new(access, &nick, &config);
        let mut relay = Relay::new(config.relay, member, incarnation, session, sealed, now);
        match config.next_hops {
            NextHops::Overflow => relay.start_holding(config.buffering),
            NextHops::InBand => relay.carry_trees(),
            NextHops::Poll | NextHops::Subscribe => {}
        }
        Self {
            desk: Desk::new(member, incarnation, session, coordinator, seed),
            membership,
            path: Asker::new(config.next_hops, config.scope, config.poll),
            view: View::new(member, session),
            edges: Edges::new(member),
            channels: Channels::new(config.probe),
            candidates: Candidates::new(),
            reporter: Reporter::new(),
            relay,
            aside: BTreeSet::new(),
            lag: Lag::new(now),
            now,
            deadline: None,
            ended: false,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        let now = self.advance(now);
        if self.phase() == Phase::Ended {
            if matches!(input, Input::Leave) {
                self.tell_ended();
            }
            return;
        }
        let control = self.take(input, now);
        self.work(control, now);
    }

    /// What is to be done outside, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.take()
    }

    /// When to hand in [`Input::Tick`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase() == Phase::Ended {
            return None;
        }
        earlier(self.deadline, self.relay.poll_timeout())
    }

    /// The next message for an edge's control substream.
    pub fn poll_edge_message(&mut self, edge: EdgeId, now: Instant) -> Option<edge::Message> {
        let now = self.advance(now);
        if !self.edges.is_active(edge) {
            return None;
        }
        let message = self.relay.poll_edge_message(edge, now);
        let control = self.note_carrying(edge, now);
        self.work(control, now);
        message
    }

    /// The next frame for an edge's data substream.
    pub fn poll_frame(&mut self, edge: EdgeId, now: Instant) -> Option<Frame> {
        let now = self.advance(now);
        if !self.edges.is_active(edge) {
            return None;
        }
        let frame = self.relay.poll_frame(edge, now);
        self.work(false, now);
        frame
    }

    /// The next frame to be sealed and signed; comes back as [`Input::Made`].
    pub fn poll_draft(&mut self, now: Instant) -> Option<Draft> {
        let now = self.advance(now);
        if self.phase() == Phase::Ended {
            return None;
        }
        let draft = self.relay.poll_draft(now);
        self.work(false, now);
        draft
    }

    /// The next message for the application.
    pub fn poll_delivery(&mut self, now: Instant) -> Option<Message> {
        let now = self.advance(now);
        let message = self.relay.poll_delivery(now);
        if self.phase() != Phase::Ended {
            self.work(false, now);
        }
        message
    }

    /// Whether the driver may read a frame from this edge's data substream now.
    #[must_use]
    pub fn may_read(&self, edge: EdgeId) -> bool {
        self.edges.is_active(edge) && self.relay.may_read(edge)
    }

    /// Whether the application may send now: the node was let in, and there is room.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.may_publish_live() && self.relay.may_publish()
    }

    /// The same of messages of class live, for which there is always room.
    #[must_use]
    pub fn may_publish_live(&self) -> bool {
        match self.phase() {
            Phase::Outside | Phase::Leaving | Phase::Ended => false,
            Phase::Joining | Phase::Member => self.membership.terms().is_some(),
        }
    }

    /// Whether what was published live has gone, as far as is known.
    #[must_use]
    pub fn live_has_gone(&self) -> bool {
        self.relay.live_has_gone(self.now)
    }

    /// Whether the node follows pushed trees; otherwise it need not hear them.
    #[must_use]
    pub fn follows_pushes(&self) -> bool {
        self.path.follows() == Some(Scope::Tree)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats<'_> {
        Stats { control: self.desk.stats, relay: self.relay.stats() }
    }

    /// Within which time the coordinator is asked something; zero while it has set no terms.
    #[must_use]
    pub fn renews_within(&self) -> Duration {
        let period = |terms: &Terms| Duration::from_millis(terms.renew_ms.into());
        self.membership.terms().map_or(Duration::ZERO, period)
    }

    /// How late the engine's timers are at times.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.lag.worst()
    }

    /// Where the engine stands with the coordinator.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.membership.phase()
    }

    /// What the coordinator said when it last put this node off, to ask again later.
    #[must_use]
    pub const fn put_off(&self) -> Option<&Refusal> {
        self.membership.put_off()
    }

    /// The newest tree's epoch, and the tree itself in scope `tree`; `None` before the first.
    #[must_use]
    pub fn tree(&self) -> Option<(Epoch, Option<&Tree>)> {
        self.view.held().map(|held| (held.header.epoch, self.view.tree()))
    }

    /// Opens a push of the session's topic. The header in it is still to be verified.
    ///
    /// # Errors
    /// [`PushError`], if its key is not known here or it does not open.
    pub fn open(&self, push: &Push) -> Result<Update, PushError> {
        self.membership.open(self.desk.session, push)
    }

    /// The channels, in order of the peers' ids.
    pub fn channels(&self) -> impl Iterator<Item = (MemberId, ChannelState)> + '_ {
        self.channels.iter()
    }

    /// The neighbours in the newest tree, in order of their ids.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour> + '_ {
        self.view.neighbours().map(|(member, overlap)| {
            let (edge, carrying) = self.edges.with(member).unzip();
            Neighbour { member, overlap, edge, carrying: carrying.unwrap_or_default() }
        })
    }

    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// Routes one input. True if the control half may have something to do now.
    fn take(&mut self, input: Input, now: Instant) -> bool {
        match input {
            Input::Frame { edge, frame, payload } => {
                if self.edges.is_active(edge) {
                    self.relay.on_frame(edge, frame, payload, now);
                    return false;
                }
                self.edges.on_stray_frame(edge, &mut self.desk);
            }
            Input::BadFrame { edge } => {
                if self.edges.is_active(edge) {
                    self.relay.on_bad_frame(edge, now);
                    return false;
                }
                self.edges.on_stray_frame(edge, &mut self.desk);
            }
            Input::EdgeAlive { edge } => {
                self.relay.on_alive(edge, now);
                return false;
            }
            Input::EdgeMessage { edge, message } => {
                if let Some(message) = self.edges.on_message(edge, message, &mut self.desk) {
                    self.relay.on_message(edge, message, now);
                    return self.note_carrying(edge, now);
                }
            }
            Input::Made { frame, payload } => {
                self.relay.on_made(frame, payload, now);
                return false;
            }
            Input::Publish { id, service, class, to, payload } => {
                self.relay.publish(id, service, class, to, payload, now);
                return false;
            }
            Input::Confirm { id, to, seq, within } => {
                self.relay.confirm(id, to, seq, within, now);
                return false;
            }
            Input::Tick => {
                if let Some(due) = self.poll_timeout().filter(|due| *due <= now) {
                    self.lag.rang(due, now);
                    self.relay.set_lag(self.lag.worst());
                }
                self.relay.tick(now);
                return due(self.deadline, now);
            }
            Input::SessionAnswer { request, answer } => {
                let standing = self.standing();
                let outcome =
                    self.membership.on_answer(request, answer, standing, now, &mut self.desk);
                self.on_outcome(outcome, now);
            }
            Input::ReportAnswer { request, answer } => self.on_report_answer(request, answer, now),
            Input::PathAnswer { request, answer } => self.on_path_answer(request, answer, now),
            Input::Notice(notice) => self.on_notice(*notice, now),
            Input::Pushed(update) => {
                match self.path.follows() {
                    Some(Scope::Tree) => {
                        let taken = self.view.take_update(*update);
                        self.on_taken(taken, now);
                    }
                    // A notice comes if this node's place has changed. Were a push a reason to ask,
                    // all members would ask after each.
                    Some(Scope::Neighbours) | None => {}
                }
            }
            Input::Unopened { epoch } => self.on_unopened(epoch, now),
            Input::CoordinatorUp => {
                if self.membership.on_up(now) && self.phase() == Phase::Member {
                    self.path.start(now, &mut self.desk);
                    self.reporter.resume(now);
                }
            }
            Input::CoordinatorDown => {
                self.pause();
                if self.membership.on_down(&mut self.desk) {
                    self.end();
                    self.tell_ended();
                }
            }
            Input::Addresses(addresses) => self.membership.on_addresses(addresses, now),
            Input::NetworkChanged => self.candidates.on_network_changed(now, &mut self.desk),
            Input::ChannelUp { peer, kind, transport } => {
                self.candidates.on_up(peer, now);
                let changed = self.channels.on_up(peer, kind, transport, now, &mut self.desk);
                self.on_changed(changed, peer, now);
            }
            Input::ChannelDown { peer } => {
                let wanted = self.view.wants(peer);
                self.candidates.on_down(peer, wanted, now, &mut self.desk);
                let changed = self.channels.on_down(peer, now, &mut self.desk);
                self.on_changed(changed, peer, now);
            }
            Input::DialFailed { peer } => {
                self.candidates.on_failed(peer, now, &mut self.desk);
            }
            Input::Allowed { peer } => self.candidates.on_allowed(peer, now),
            Input::Probed { peer, serial, echo } => {
                let lag = self.lag.worst();
                let changed = self.channels.on_probed(peer, serial, echo, lag, now, &mut self.desk);
                self.on_changed(changed, peer, now);
                if let Some((edge, _)) = self.edges.with(peer) {
                    self.tell_delay(edge, peer);
                }
            }
            Input::EdgeUp { edge, peer, epoch } => {
                let own = self.view.epoch();
                match self.edges.on_up(edge, peer, epoch, own, now, &mut self.desk) {
                    Came::Active | Came::Parked => self.on_peer_epoch(epoch, now),
                    Came::Closed => {}
                }
            }
            Input::EdgeFailed { peer } => self.edges.on_failed(peer, now, &mut self.desk),
            Input::EdgeDown { edge } => self.edges.on_down(edge, now, &mut self.desk),
            Input::Leave => {
                self.relay.stop_holding();
                if self.membership.on_leave(now, &mut self.desk) {
                    self.end();
                    self.tell_ended();
                }
            }
        }
        true
    }

    /// Lets all parts do what is due until the relay has nothing more to say.
    fn work(&mut self, mut control: bool, now: Instant) {
        if self.phase() == Phase::Ended {
            return;
        }
        loop {
            control |= self.absorb(now);
            if !std::mem::take(&mut control) {
                break;
            }
            self.run(now);
            if self.phase() == Phase::Ended {
                return;
            }
        }
    }

    /// Does what is due in the control half.
    fn run(&mut self, now: Instant) {
        let standing = self.standing();
        let outcome = self.membership.run(standing, now, &mut self.desk);
        self.on_outcome(outcome, now);
        if let Some(request) = self.path.expired(now) {
            self.on_path_answer(request, Err(Unanswered::late()), now);
        }
        if let Some(request) = self.reporter.expired(now) {
            self.on_report_answer(request, Err(Unanswered::late()), now);
        }
        if self.phase() == Phase::Ended {
            return;
        }
        let channels = &self.channels;
        self.edges.run(|peer| channels.has(peer), now, &mut self.desk);
        self.act(now);
        let (view, channels) = (&self.view, self.channels.len());
        self.candidates.run(channels, |peer| view.wants(peer), now, &mut self.desk);
        let (edges, relay) = (&self.edges, &self.relay);
        let edge = |peer| {
            let (edge, carries) = edges.with(peer)?;
            carries.then(|| relay.is_busy(edge, now))
        };
        self.channels.run(edge, now, &mut self.desk);
        let at_work = self.membership.is_at_work();
        if at_work {
            self.path.run(now, &mut self.desk);
            if self.reporter.is_due(now) {
                let sources = Sources {
                    channels: &self.channels,
                    held: self.view.held(),
                    carrying: self.carrying(),
                    settled: self.relay.is_settled(),
                };
                self.reporter.run(&sources, now, &mut self.desk);
            }
        }
        self.deadline = [
            self.membership.deadline(),
            self.path.deadline().filter(|_| at_work),
            self.reporter.deadline().filter(|_| at_work),
            self.edges.deadline(),
            self.candidates.deadline(now),
            self.channels.deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
    }

    /// Takes in what the relay says. True if the control half may have something to do now.
    fn absorb(&mut self, now: Instant) -> bool {
        let mut control = false;
        while let Some(output) = self.relay.poll_output() {
            match output {
                relay::Output::Event(event) => {
                    self.desk.event(event);
                    continue;
                }
                relay::Output::Finished(edge) => {
                    self.edges.on_finished(edge, now, &mut self.desk);
                }
                relay::Output::Dead(edge) => {
                    if let Some(peer) = self.relay.peer(edge) {
                        self.reporter.on_silent(peer, now);
                    }
                    self.edges.on_dead(edge, now, &mut self.desk);
                }
                relay::Output::RoundTrip { edge, round_trip } => {
                    control |= self.on_round_trip(edge, round_trip, now);
                    continue;
                }
                relay::Output::PeerEpoch { edge: _, epoch } => self.on_peer_epoch(epoch, now),
                relay::Output::Overflow => {
                    match self.path.on_overflow(self.membership.is_at_work(), now) {
                        Overflown::Ask(until) => self.relay.await_answer(until),
                        Overflown::Known => self.relay.pass_on_held(),
                    }
                }
                relay::Output::Settled => self.membership.on_settled(now),
                relay::Output::Slow => self.reporter.on_slow(self.relay.slow().clone(), now),
            }
            self.act(now);
            control = true;
        }
        control
    }

    /// Tells the relay what became of edges.
    fn act(&mut self, now: Instant) {
        let mut up = false;
        while let Some(act) = self.edges.take_act() {
            match act {
                Act::Up(edge, peer, messages) => {
                    up = true;
                    self.relay.edge_up(edge, peer, now);
                    self.tell_delay(edge, peer);
                    for message in messages {
                        self.relay.on_message(edge, message, now);
                    }
                    self.note_carrying(edge, now);
                }
                Act::Down(edge) => self.relay.edge_down(edge, now),
                Act::Retire(edge) => self.relay.retire(edge, now),
            }
        }
        if up {
            self.set_aside(now);
        }
    }

    /// A heartbeat came back. True if the control half may have something to do now.
    fn on_round_trip(&mut self, edge: EdgeId, mut round_trip: RoundTrip, now: Instant) -> bool {
        let Some(peer) = self.relay.peer(edge) else { return false };
        round_trip.lag = round_trip.lag.saturating_add(self.lag.worst());
        let carried = self.relay.carried(edge);
        let changed = self.channels.on_round_trip(peer, round_trip, carried, now, &mut self.desk);
        self.tell_delay(edge, peer);
        self.relay.set_heartbeat(edge, self.channels.heartbeat(peer), now);
        self.on_changed(changed, peer, now)
    }

    /// The relay is told how slow the channel below an edge is.
    fn tell_delay(&mut self, edge: EdgeId, peer: MemberId) {
        if let Some(qos) = self.channels.qos(peer) {
            self.relay.set_delay(edge, Duration::from_micros(qos.delay_us.into()));
        }
    }

    /// The coordinator is told of an edge once it carries: summaries have gone both ways. True if it
    /// is to be told now.
    fn note_carrying(&mut self, edge: EdgeId, now: Instant) -> bool {
        let news = self.relay.may_read(edge) && self.edges.on_carrying(edge);
        if news && let Some(peer) = self.relay.peer(edge) {
            self.reporter.on_carrying(peer, now);
        }
        news
    }

    /// Of the neighbours on edges of the tree that lie on a cycle with the overlap, those whose edge
    /// is a new one: it did not carry when the first such tree came. The old edges go on counting
    /// until they are gone: they span all, and whether the new one comes up is not known yet.
    fn new_on_cycles(&self, cyclic: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
        let carries = |peer| self.edges.with(peer).is_some_and(|(_, carries)| carries);
        let is_new = |peer: &&MemberId| self.aside.contains(*peer) || !carries(**peer);
        cyclic.iter().filter(is_new).copied().collect()
    }

    /// Tells the relay which edges close cycles.
    fn set_aside(&mut self, now: Instant) {
        for (peer, _) in self.view.neighbours() {
            if let Some((edge, _)) = self.edges.with(peer) {
                self.relay.set_aside(edge, self.aside.contains(&peer), now);
            }
        }
        let counts = |(peer, _): (MemberId, bool)| (!self.aside.contains(&peer)).then_some(peer);
        self.relay.set_neighbours(self.view.neighbours().filter_map(counts).collect());
    }

    /// The neighbours on edges that carry, old ones too: after a restart the coordinator learns from
    /// them what is in use. Those of the tree first, for a report takes only so many.
    fn carrying(&self) -> BTreeSet<MemberId> {
        let on = |old: bool| self.view.neighbours().filter(move |(_, overlap)| *overlap == old);
        on(false)
            .chain(on(true))
            .map(|(peer, _)| peer)
            .filter(|peer| self.edges.with(*peer).is_some_and(|(_, carries)| carries))
            .take(limits::CHANNELS)
            .collect()
    }

    fn standing(&self) -> Standing {
        Standing {
            held: self.view.held(),
            settled: self.relay.is_settled(),
            can_take: !self.membership.is_detached() || self.relay.can_take(),
        }
    }

    /// True if the coordinator is to be told.
    fn on_changed(&mut self, changed: Changed, peer: MemberId, now: Instant) -> bool {
        match changed {
            Changed::Nothing => false,
            Changed::Adjacency => {
                self.reporter.on_channel(peer, now);
                self.path.on_channels(now, &mut self.desk);
                true
            }
            Changed::Quality => self.reporter.on_quality(peer, self.channels.qos(peer), now),
        }
    }

    /// The coordinator cannot be asked for the moment.
    fn pause(&mut self) {
        self.path.pause();
        self.reporter.pause();
        self.relay.pass_on_held();
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.end();
        self.desk.event(Event::Refused(refusal));
    }

    /// Closes all edges and falls silent.
    fn end(&mut self) {
        self.membership.end();
        self.edges.end(&mut self.desk);
        let now = self.now;
        self.act(now);
        self.deadline = None;
        // What the relay wants to tell the application comes before the end.
        while let Some(output) = self.relay.poll_output() {
            match output {
                relay::Output::Event(event) => self.desk.event(event),
                relay::Output::Finished(_)
                | relay::Output::Dead(_)
                | relay::Output::RoundTrip { .. }
                | relay::Output::PeerEpoch { .. }
                | relay::Output::Overflow
                | relay::Output::Settled
                | relay::Output::Slow => {}
            }
        }
    }

    fn tell_ended(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.desk.event(Event::Ended);
        }
    }
}

#[cfg(test)]
mod tests;
