//! The coordinator without its network: who is in which session, which channels there are and how
//! good, which tree follows from that, and who must be told.
//!
//! ```text
//! Input ─► admission ─► session ─► topology ─► quality ─► tree ─► subscription ─► Output
//! ```
//!
//! Contract: call [`Engine::handle`] with each input and the time, then [`Engine::poll_output`]
//! until it gives `None`, then [`Engine::poll_timeout`] for when to call it with [`Input::Tick`] at
//! the latest. Time never goes back. Each request is answered exactly once, before anything that
//! follows from it.
//! A call that comes much later than that shows that the coordinator itself stood still: `clock` takes
//! the pause out of the time that the rest of the engine sees, and every member gets a fresh lease.
//! No I/O, no clock, and no randomness but that of the seed: the same inputs give the same outputs.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    admission::Statement,
    id::{Challenge, Epoch, MemberId, SessionId, Term},
    identity::ed25519,
    limits, path,
    refusal::Refusal,
    report,
    session::{Address, Answer, Contact, Granted, Join, Request},
    tree::Tree,
};
use rand::Rng;

mod admission;
mod arrivals;
mod blame;
mod candidates;
mod clock;
mod config;
mod context;
mod coordinates;
pub mod event;
mod group;
mod policy;
mod rate;
mod refusals;
mod session;
mod stats;
mod subscription;
mod timer;
mod topology;
pub mod tree;

pub use config::{Config, ConfigError};
pub use event::{Input, Output, RequestId};
pub use stats::Stats;

use admission::Challenges;
use arborcast_protocol::origin::Origin;
use arrivals::Arrivals;
use clock::Clock;
use context::{Context, ms};
use rate::Rate;
use session::{Renewal, Session};
use timer::Timers;

/// All sessions of one coordinator. See the module for how to drive it.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    context: Context,
    sessions: BTreeMap<SessionId, Session>,
    deadlines: Timers<SessionId>,
    challenges: Challenges,
    arrivals: Arrivals,
    rate: Rate<MemberId>,
    /// How many are let in from one origin.
    joins: Rate<Origin>,
    /// Where those who are connected come from.
    origins: BTreeMap<MemberId, Origin>,
    /// Who opened each session, and from where.
    openers: BTreeMap<SessionId, (MemberId, Option<Origin>)>,
    /// The only session that is held, if there is to be one alone.
    only: Option<SessionId>,
}

impl Engine {
    /// An engine without sessions.
    ///
    /// `config` should have passed [`Config::validate`]. `term` must be higher than that of each
    /// earlier start with this `keypair`. `clock_s` is what the coordinator's clock says at `now`,
    /// in seconds; certificates expire on it, so it should go on where an earlier start stopped.
    /// `seed` must be secret: challenges come from it.
    #[must_use]
    pub fn new(
        config: Config,
        keypair: ed25519::Keypair,
        term: Term,
        clock_s: u64,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            clock: Clock::new(now),
            sessions: BTreeMap::new(),
            deadlines: Timers::default(),
            challenges: Challenges::new(
                config.challenges,
                config.challenges_per_peer,
                ms(config.challenge_life_ms),
            ),
            arrivals: Arrivals::new(config.joins_per_s, config.join_burst, config.rated_peers, now),
            rate: Rate::new(config.requests_per_s, config.request_burst, config.rated_peers),
            joins: Rate::new(
                config.joins_per_address_s,
                config.join_burst_per_address,
                config.rated_peers,
            ),
            origins: BTreeMap::new(),
            openers: BTreeMap::new(),
            only: None,
            context: Context::new(config, keypair, term, clock_s, seed, now),
        }
    }

    /// Sets the addresses that the answer to `Locate` tells; beyond [`limits::ADDRESSES`] they are
    /// left out.
    pub fn set_addresses(&mut self, mut addresses: Vec<Address>) {
        addresses.truncate(limits::ADDRESSES);
        self.context.config.addresses = addresses;
    }

    /// Holds this session alone from now on, whoever comes first.
    pub fn hold_only(&mut self, session: SessionId) {
        self.only = Some(session);
    }

    /// Takes an input in. `now` must not be earlier than in the call before.
    pub fn handle(&mut self, input: Input, now: Instant) {
        tracing::trace!(?input, "input");
        let turn = self.clock.turn(now, !self.sessions.is_empty());
        let now = turn.now;
        self.context.stood_still = self.clock.behind();
        self.context.is_stale = self.clock.is_stale(now);
        self.context.is_idle = matches!(input, Input::Tick);
        self.context.admits_until = self.arrivals.busy_until();
        if self.context.is_idle
            && let Some(due) = self.deadlines.next()
            && let late = now.saturating_duration_since(due)
            && late > LATE
        {
            self.arrivals.fell_behind(late, now);
        }
        if let Some(pause) = turn.pause {
            self.wake_up(pause, now);
        }
        match input {
            Input::Session { from, request, body } => {
                let session = session_of(&body);
                let answer =
                    self.let_in(from, now).and_then(|()| self.on_session_request(from, body, now));
                self.count(&answer);
                self.context.outputs.push_back(Output::SessionAnswer { to: from, request, answer });
                self.advance(session, now);
            }
            Input::Report { from, request, body } => {
                let session = body.session;
                let answer = self.let_in(from, now).and_then(|()| self.on_report(from, &body, now));
                self.count(&answer);
                self.context.outputs.push_back(Output::ReportAnswer { to: from, request, answer });
                self.advance(session, now);
            }
            Input::Path { from, request, body } => {
                let session = match body {
                    path::Request::Query { session, .. }
                    | path::Request::Subscribe { session, .. }
                    | path::Request::Unsubscribe { session } => session,
                };
                let answer =
                    self.let_in(from, now).and_then(|()| self.on_path(from, session, body));
                self.count(&answer);
                self.context.outputs.push_back(Output::PathAnswer { to: from, request, answer });
                self.advance(session, now);
            }
            Input::Noted { from, session } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.on_noted(from);
                }
            }
            Input::NoticeFailed { to, session } => {
                self.context.stats.notices_failed += 1;
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.on_notice_failed(to);
                }
            }
            Input::Connected { peer, origin } => drop(self.origins.insert(peer, origin)),
            Input::Disconnected { peer } => {
                self.origins.remove(&peer);
                for session in self.on_connection(peer, false, now) {
                    self.advance(session, now);
                }
            }
            Input::Computed { session: id, job, computed } => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.on_computed(job, computed, &mut self.context, now);
                }
                self.advance(id, now);
            }
            Input::Tick | Input::Overdue => {}
        }
        let due: Vec<SessionId> = std::iter::from_fn(|| self.deadlines.pop(now)).collect();
        for session in due {
            self.advance(session, now);
        }
    }

    /// What is to be done, in order; `None` when that is all.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due; after one always later than its `now`. With members never further off
    /// than a second, so that the engine knows when the coordinator stood still.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.clock.latest(self.deadlines.next()?))
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.context.stats
    }

    /// The newest tree of a session.
    #[must_use]
    pub fn tree(&self, session: SessionId) -> Option<(Epoch, &Tree)> {
        self.sessions.get(&session)?.tree()
    }

    /// How many members a session has; 0 if there is no such session.
    #[must_use]
    pub fn member_count(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, Session::member_count)
    }

    /// Whether a peer is in any session.
    #[must_use]
    pub fn is_member(&self, peer: MemberId) -> bool {
        self.context.is_member(peer)
    }

    /// The sessions held now, in order of ids.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    /// The coordinator stood still: nobody is to suffer for what it did not hear.
    fn wake_up(&mut self, pause: Duration, now: Instant) {
        tracing::warn!(seconds = pause.as_secs(), "stood still; all leases begin anew");
        self.context.stats.pauses += 1;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.on_pause(&self.context, now);
            }
            self.advance(id, now);
        }
    }

    /// A request came: counts it against its sender's rate, and as a sign of life.
    fn let_in(&mut self, from: MemberId, now: Instant) -> Result<(), Refusal> {
        self.on_connection(from, true, now);
        if self.rate.take(from, now) {
            Ok(())
        } else {
            Err(refusals::rate_limited(self.context.config.requests_per_s))
        }
    }

    fn on_session_request(&mut self, from: MemberId, request: Request, now: Instant) -> Answer {
        match request {
            Request::Locate { .. } => {
                self.context.stats.locates += 1;
                let addresses = self.context.config.addresses.clone();
                let coordinators = vec![Contact { member: self.context.me, addresses }];
                Ok(Granted::Located { coordinators })
            }
            Request::Challenge { session } => {
                self.arrivals.ask(from, now).map_err(refusals::busy)?;
                let origin = self.origins.get(&from);
                if origin.is_some_and(|origin| !self.joins.take(*origin, now)) {
                    return Err(refusals::busy(CROWDED));
                }
                self.context.stats.challenges += 1;
                let mut bytes = [0; Challenge::LEN];
                self.context.rng.fill_bytes(&mut bytes);
                let challenge = Challenge::from_bytes(bytes);
                self.challenges.add(challenge, from, session, now);
                Ok(Granted::Challenge { challenge })
            }
            Request::Join(join) => self.on_join(from, *join, now),
            Request::Renew { session, incarnation, addresses, settled, push_key } => {
                refusals::check_addresses(&addresses)?;
                let session = self.sessions.get_mut(&session).ok_or_else(refusals::not_member)?;
                let renewal = Renewal { incarnation, addresses, settled, push_key };
                session
                    .on_renew(from, renewal, &mut self.context, now)
                    .map(|renewed| Granted::Renewed(Box::new(renewed)))
            }
            Request::Leave { session, incarnation } => {
                let session = self.sessions.get_mut(&session).ok_or_else(refusals::not_member)?;
                session.on_leave(from, incarnation, &mut self.context, now)
            }
        }
    }

    fn on_join(&mut self, from: MemberId, join: Join, now: Instant) -> Answer {
        // Up to the proof nothing depends on which sessions there are.
        refusals::check_join(&join)?;
        if join.admission.is_open() && !self.context.config.open_sessions {
            return Err(refusals::no_open_sessions());
        }
        let id = join.session;
        let challenge = join.admission.challenge();
        if !self.challenges.take(challenge, from, id, now) {
            tracing::debug!(member = %from, session = %id, "stale challenge");
            return Err(refusals::stale_challenge());
        }
        let statement = Statement {
            session: id,
            coordinator: self.context.me,
            member: from,
            incarnation: join.incarnation,
            challenge,
        };
        if let Err(cause) = join.admission.verify(&statement) {
            tracing::debug!(member = %from, session = %id, %cause, "not admitted");
            return Err(refusals::not_admitted());
        }
        let count = self.sessions.len();
        let is_held = self.sessions.contains_key(&id);
        if !is_held {
            self.may_open(id, from)?;
        }
        let session = match self.sessions.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if count >= self.context.config.sessions => {
                return Err(refusals::too_many_sessions(count));
            }
            Entry::Vacant(entry) => {
                self.context.stats.sessions += 1;
                self.openers.insert(id, (from, self.origins.get(&from).copied()));
                self.context.outputs.push_back(Output::Opened { session: id });
                entry.insert(Session::new(id, &mut self.context))
            }
        };
        session
            .on_join(from, join, &mut self.context, now)
            .map(|joined| Granted::Joined(Box::new(joined)))
    }

    /// Whether a session may be opened by this peer, beside those that it has opened already.
    fn may_open(&self, session: SessionId, from: MemberId) -> Result<(), Refusal> {
        // As if its proof were wrong, so that it tells a stranger nothing.
        if self.only.is_some_and(|only| only != session) {
            return Err(refusals::not_admitted());
        }
        let config = &self.context.config;
        let own = self.openers.values().filter(|(peer, _)| *peer == from).count();
        let origin = self.origins.get(&from).copied();
        let near = self.openers.values().filter(|(_, at)| at.is_some() && *at == origin).count();
        if own >= config.sessions_per_peer {
            return Err(refusals::too_many_sessions_of_one(own));
        }
        if near >= config.sessions_per_address {
            return Err(refusals::too_many_sessions_of_one(near));
        }
        Ok(())
    }

    fn on_report(
        &mut self,
        from: MemberId,
        report: &report::Report,
        now: Instant,
    ) -> report::Answer {
        let session = self.sessions.get_mut(&report.session).ok_or_else(refusals::not_member)?;
        session.on_report(from, report, &mut self.context, now)
    }

    fn on_path(
        &mut self,
        from: MemberId,
        session: SessionId,
        request: path::Request,
    ) -> path::Answer {
        let session = self.sessions.get_mut(&session).ok_or_else(refusals::not_member)?;
        session.on_path(from, request, &mut self.context)
    }

    /// Gives the sessions that this is news for.
    fn on_connection(
        &mut self,
        peer: MemberId,
        is_connected: bool,
        now: Instant,
    ) -> Vec<SessionId> {
        let concerned = self.context.set_connected(peer, is_connected);
        for id in &concerned {
            if let Some(session) = self.sessions.get_mut(id) {
                session.on_connection(peer, &self.context, now);
            }
        }
        concerned
    }

    /// Lets a session do what is due, and forgets it once it is empty.
    fn advance(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.advance(&mut self.context, now);
        if session.is_empty() {
            self.sessions.remove(&id);
            self.deadlines.clear(id);
            self.openers.remove(&id);
            self.context.stats.sessions = self.context.stats.sessions.saturating_sub(1);
            self.context.outputs.push_back(Output::Closed { session: id });
            return;
        }
        match session.poll_timeout() {
            Some(due) => self.deadlines.set(id, due),
            None => self.deadlines.clear(id),
        }
    }

    fn count<T>(&mut self, answer: &Result<T, Refusal>) {
        if let Err(refusal) = answer {
            self.context.stats.count_refusal(refusal.code);
        }
    }
}

/// Where too many come from one place at once they are to come again after this.
const CROWDED: Duration = Duration::from_secs(2);

/// Timers that are later than this show that the coordinator has more to do than it can.
const LATE: Duration = Duration::from_millis(100);

fn session_of(request: &Request) -> SessionId {
    match request {
        Request::Locate { session }
        | Request::Challenge { session }
        | Request::Renew { session, .. }
        | Request::Leave { session, .. } => *session,
        Request::Join(join) => join.session,
    }
}

#[cfg(test)]
mod tests;
