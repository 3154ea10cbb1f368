//! What the sessions of an engine share: who the coordinator is, its clock, counters, what is to go
//! out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    certificate::{Certificate, Claim, Role},
    id::{Epoch, Incarnation, MemberId, SessionId, Term},
    identity::ed25519,
    notice::{News, Notice},
};
use rand::SeedableRng;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};

use super::{Config, Output, Stats};

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) keypair: ed25519::Keypair,
    /// The coordinator itself.
    pub(crate) me: MemberId,
    pub(crate) rng: ChaCha8Rng,
    /// For keys alone.
    pub(crate) key_rng: ChaCha20Rng,
    pub(crate) stats: Stats,
    /// To be drained by the caller after each input, so as long as one input makes it.
    pub(crate) outputs: VecDeque<Output>,
    /// This start of the coordinator.
    pub(crate) term: Term,
    clock_s: u64,
    started: Instant,
    /// By how much the engine's time is behind because the coordinator stood still.
    pub(crate) stood_still: Duration,
    /// What is read now may have been said while it did.
    pub(crate) is_stale: bool,
    /// When the last of those who were told to come again is let in.
    pub(crate) admits_until: Option<Instant>,
    /// All that has arrived is read.
    pub(crate) is_idle: bool,
    /// The highest epoch of any session, past ones included: a session that comes back starts
    /// above it, without anything being kept for each.
    highest: Epoch,
    places: BTreeMap<MemberId, Place>,
}

/// Where a peer is a member.
#[derive(Debug)]
struct Place {
    sessions: BTreeSet<SessionId>,
    is_connected: bool,
}

impl Context {
    pub(crate) fn new(
        config: Config,
        keypair: ed25519::Keypair,
        term: Term,
        clock_s: u64,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self {
            config,
            me: MemberId::from(&keypair),
            keypair,
            rng: ChaCha8Rng::from_seed(seed),
            key_rng: ChaCha20Rng::from_seed(seed),
            stats: Stats::default(),
            outputs: VecDeque::new(),
            term,
            clock_s,
            started: now,
            stood_still: Duration::ZERO,
            is_stale: false,
            admits_until: None,
            is_idle: false,
            highest: Epoch { term, counter: 0 },
            places: BTreeMap::new(),
        }
    }

    /// The coordinator's clock in seconds, the one certificates expire on.
    pub(crate) fn now_s(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.started).saturating_add(self.stood_still);
        self.clock_s.saturating_add(passed.as_secs())
    }

    /// Until when members of the term before may not have come back yet.
    pub(crate) fn coming_back(&self) -> Option<Instant> {
        (self.term > Term(1)).then(|| self.started + ms(self.config.resume_ms))
    }

    /// Certifies a member from now on.
    pub(crate) fn certify(
        &self,
        session: SessionId,
        member: MemberId,
        incarnation: Incarnation,
        now: Instant,
    ) -> Certificate {
        let expires_s = self.now_s(now).saturating_add(self.config.certificate_life_s);
        let claim = Claim { session, member, incarnation, role: Role::Member, expires_s };
        Certificate::sign(claim, &self.keypair)
    }

    /// The epoch that a new session counts from.
    pub(crate) fn highest_epoch(&self) -> Epoch {
        self.highest
    }

    /// Keeps later sessions above this epoch.
    pub(crate) fn saw_epoch(&mut self, epoch: Epoch) {
        self.highest = self.highest.max(epoch);
    }

    pub(crate) fn entered(&mut self, member: MemberId, session: SessionId) {
        if !self.places.contains_key(&member) {
            self.outputs.push_back(Output::Membership { peer: member, is_member: true });
        }
        let place = self
            .places
            .entry(member)
            .or_insert(Place { sessions: BTreeSet::new(), is_connected: true });
        place.sessions.insert(session);
        place.is_connected = true;
        self.stats.members += 1;
    }

    pub(crate) fn left(&mut self, member: MemberId, session: SessionId) {
        self.stats.members = self.stats.members.saturating_sub(1);
        if let Some(place) = self.places.get_mut(&member) {
            place.sessions.remove(&session);
            if place.sessions.is_empty() {
                self.places.remove(&member);
                self.outputs.push_back(Output::Membership { peer: member, is_member: false });
            }
        }
    }

    /// Notes whether a peer has a connection; if that is news, gives the sessions that it is in.
    pub(crate) fn set_connected(&mut self, peer: MemberId, is_connected: bool) -> Vec<SessionId> {
        match self.places.get_mut(&peer) {
            Some(place) if place.is_connected != is_connected => {
                place.is_connected = is_connected;
                place.sessions.iter().copied().collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    pub(crate) fn is_member(&self, peer: MemberId) -> bool {
        self.places.contains_key(&peer)
    }

    pub(crate) fn is_connected(&self, member: MemberId) -> bool {
        self.places.get(&member).is_some_and(|place| place.is_connected)
    }

    pub(crate) fn notify(&mut self, to: MemberId, session: SessionId, news: News) {
        self.stats.notices += 1;
        self.outputs.push_back(Output::Notify { to, notice: Box::new(Notice { session, news }) });
    }
}

/// Milliseconds of the configuration.
pub(crate) fn ms(figure: u32) -> Duration {
    Duration::from_millis(figure.into())
}
