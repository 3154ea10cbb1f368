//! Asking for the tree (`/arborcast/path/1`): subscribing, and when to query beside it (R4, R5).

use std::time::{Duration, Instant};

use arborcast_protocol::{
    id::Epoch,
    path::{Request, Scope},
};

use super::{
    backoff::Backoff,
    call::Call,
    desk::{Desk, due, earlier},
    event::RequestId,
};

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Subscribe,
    Query,
}

/// One asker, with at most one request under way.
#[derive(Debug)]
pub(super) struct PathAsker {
    scope: Scope,
    poll: Duration,
    call: Call<Kind>,
    backoff: Backoff,
    /// Not subscribed; the subscription will also bring the newest state.
    subscribe_at: Option<Instant>,
    /// The slow poll (R10), or the retry of a failed query.
    poll_at: Option<Instant>,
    wanted: Option<Wanted>,
    /// No hint makes the engine ask earlier: one led nowhere.
    not_before: Option<Instant>,
}

/// A tree that is known to exist, or said to.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    epoch: Epoch,
    at: Instant,
    /// Queries that did not bring it.
    fruitless: u32,
}

impl PathAsker {
    pub(super) const fn new(scope: Scope, poll: Duration) -> Self {
        Self {
            scope,
            poll,
            call: Call::new(),
            backoff: Backoff::COORDINATOR,
            subscribe_at: None,
            poll_at: None,
            wanted: None,
            not_before: None,
        }
    }

    pub(super) const fn scope(&self) -> Scope {
        self.scope
    }

    /// Subscribes, again if there was a subscription before: after each join and whenever the
    /// connection to the coordinator is back, for it holds the subscription.
    pub(super) fn subscribe(&mut self, now: Instant) {
        self.call.abandon();
        self.subscribe_at = Some(now);
    }

    /// No answer can come any more.
    pub(super) fn pause(&mut self) {
        self.call.abandon();
        self.subscribe_at = None;
    }

    /// There is a tree `epoch`, as `hint` tells.
    pub(super) fn want(&mut self, epoch: Epoch, hint: Hint, now: Instant, desk: &mut Desk) {
        let wait = match hint {
            Hint::Update => Duration::ZERO,
            Hint::Peer => PATIENCE,
        };
        let at = now + wait + desk.jitter(JITTER);
        let at = self.not_before.map_or(at, |not_before| at.max(not_before));
        let before = self.wanted.get_or_insert(Wanted { epoch, at, fruitless: 0 });
        before.epoch = before.epoch.max(epoch);
        before.at = before.at.min(at);
    }

    /// A tree was taken up.
    pub(super) fn on_tree(&mut self, epoch: Epoch) {
        self.wanted = self.wanted.filter(|wanted| wanted.epoch > epoch);
        self.not_before = None;
        self.backoff.reset();
    }

    /// The answer to `request` came; `None` if nobody waits for it.
    pub(super) fn finish(&mut self, request: RequestId) -> Option<Kind> {
        self.call.finish(request)
    }

    pub(super) fn expired(&self, now: Instant) -> Option<RequestId> {
        self.call.expired(now)
    }

    /// The state came, and what could be used of it was taken up: `epoch` is the newest now.
    pub(super) fn on_state(&mut self, kind: Kind, epoch: Epoch, now: Instant, desk: &mut Desk) {
        match kind {
            Kind::Subscribe => self.subscribe_at = None,
            Kind::Query => {}
        }
        self.poll_at = Some(now + desk.about(self.poll));
        self.wanted = self.wanted.filter(|wanted| wanted.epoch > epoch);
        let Some(mut wanted) = self.wanted.take() else { return };
        // The coordinator does not know that tree either, or it cannot be used.
        let at = now + self.backoff.next(desk);
        self.not_before = Some(at);
        wanted.fruitless += 1;
        if wanted.fruitless < FRUITLESS {
            self.wanted = Some(Wanted { at, ..wanted });
        }
    }

    /// There is no tree yet.
    pub(super) fn on_no_tree(&mut self, kind: Kind, now: Instant) {
        self.again(kind, now + NO_TREE);
    }

    /// It was not answered, or refused for now.
    pub(super) fn on_failure(&mut self, kind: Kind, now: Instant, desk: &mut Desk) {
        let at = now + self.backoff.next(desk);
        self.again(kind, at);
    }

    fn again(&mut self, kind: Kind, at: Instant) {
        match kind {
            Kind::Subscribe => self.subscribe_at = Some(at),
            Kind::Query => {
                self.poll_at = Some(at);
                self.not_before = Some(at);
                if let Some(wanted) = &mut self.wanted {
                    wanted.at = at;
                }
            }
        }
    }

    /// Asks, if that is due; only while the coordinator can be asked.
    pub(super) fn run(&mut self, now: Instant, desk: &mut Desk) {
        if !self.call.is_idle() || !due(self.next(), now) {
            return;
        }
        let (session, scope) = (desk.session, self.scope);
        let (kind, request) = if self.subscribe_at.is_some() {
            (Kind::Subscribe, desk.ask_path(Request::Subscribe { session, scope }))
        } else {
            (Kind::Query, desk.ask_path(Request::Query { session, scope }))
        };
        self.call.start(request, kind, now);
    }

    /// When to ask. A subscription to come makes queries needless.
    fn next(&self) -> Option<Instant> {
        self.subscribe_at.or_else(|| earlier(self.poll_at, self.wanted.map(|wanted| wanted.at)))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.call.is_idle() { self.next() } else { self.call.deadline() }
    }
}

/// How the engine came to know of a newer tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hint {
    /// By an update that could not be used: nothing else will bring that tree.
    Update,
    /// By a member: the update may be on its way.
    Peer,
}

/// Queries are spread over this time: a lost push is lost to many members at once.
const JITTER: Duration = Duration::from_millis(50);

/// How long an update may take that a neighbour has already.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long after a coordinator had no tree it is asked again.
const NO_TREE: Duration = Duration::from_millis(500);

/// After so many queries in vain a tree is taken for a rumour.
const FRUITLESS: u32 = 5;
