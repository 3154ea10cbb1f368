//! Learning the next hops (`/arborcast/path/1`): querying (R4) and subscribing (R5) in the manner
//! that the member was set to.
//!
//! | manner | asks | follows updates |
//! |---|---|---|
//! | [`poll`] | when nothing is known, and then at intervals that follow the changes (R10) | no |
//! | [`overflow`] | when nothing is known, and when data that waits overflows (R11) | no |
//! | [`subscribe`] | once for all (R12), and slowly as the net below the pushes | yes |
//!
//! In all of them a hint that there is a newer tree leads to a query: nothing else may bring it.

use std::time::{Duration, Instant};

use arborcast_protocol::{
    id::Epoch,
    path::{Request, Scope},
};

use super::{
    backoff::Backoff,
    call::Call,
    config::{LONGEST, NextHops},
    desk::{Desk, due, earlier},
    event::RequestId,
};

mod overflow;
mod poll;
mod subscribe;

use overflow::Freshness;
pub(super) use overflow::Overflown;
use poll::Pace;
use subscribe::Subscription;

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Subscribe,
    Query,
}

/// One asker, with at most one request under way.
#[derive(Debug)]
pub(super) struct Asker {
    scope: Scope,
    manner: Manner,
    call: Call<Kind>,
    backoff: Backoff,
    /// The next query without a hint, or the retry of a failed one.
    query_at: Option<Instant>,
    wanted: Option<Wanted>,
    /// Queries in a row that did not bring a tree which was said to exist.
    fruitless: u32,
    /// The period of queries without a reason.
    period: Duration,
    /// No hint makes the engine ask earlier: one led nowhere.
    not_before: Option<Instant>,
    place: Place,
    /// When the last query was sent, and this member's place then.
    asked: Option<(Instant, Place)>,
}

/// How the member learns, with what it must remember for that.
#[derive(Debug)]
enum Manner {
    Poll(Pace),
    /// The period of queries without a reason, and how long an answer counts as the newest.
    Overflow(Duration, Freshness),
    /// The period of the slow poll.
    Subscribe(Subscription, Duration),
}

/// What this member knows of its place in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nothing.
    Unknown,
    /// It is not in the tree yet: a newer one is to come soon.
    Outside,
    /// It is in the tree of this epoch.
    Known(Epoch),
}

/// A tree that is known to exist, or said to.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    epoch: Epoch,
    at: Instant,
}

impl Asker {
    /// `period` is [`super::Config::poll`].
    pub(super) fn new(manner: NextHops, scope: Scope, period: Duration) -> Self {
        let seldom = period.saturating_mul(SELDOM).min(LONGEST);
        let manner = match manner {
            NextHops::Poll => Manner::Poll(Pace::new(period)),
            NextHops::Overflow => Manner::Overflow(seldom, Freshness::default()),
            NextHops::Subscribe | NextHops::InBand => {
                let period = if scope == Scope::Tree { seldom } else { period };
                Manner::Subscribe(Subscription::default(), period)
            }
        };
        Self {
            scope,
            manner,
            call: Call::new(),
            backoff: Backoff::COORDINATOR,
            query_at: None,
            wanted: None,
            fruitless: 0,
            period,
            not_before: None,
            place: Place::Unknown,
            asked: None,
        }
    }

    /// Which updates the member follows; `None` if none.
    pub(super) const fn follows(&self) -> Option<Scope> {
        match self.manner {
            Manner::Poll(_) | Manner::Overflow(..) => None,
            Manner::Subscribe(..) => Some(self.scope),
        }
    }

    /// Begins, or begins anew: after each join, and whenever the connection to the coordinator is
    /// back, which holds the subscription. Trees may have changed meanwhile.
    pub(super) fn start(&mut self, now: Instant, desk: &mut Desk) {
        self.call.abandon();
        // All members are back at once.
        let spread = match self.place {
            Place::Unknown => Duration::ZERO,
            Place::Outside | Place::Known(_) => desk.jitter(SPREAD),
        };
        match &mut self.manner {
            Manner::Subscribe(subscription, _) => subscription.make(now + spread),
            Manner::Poll(_) | Manner::Overflow(..) => self.query_at = Some(now + spread),
        }
    }

    /// No answer can come any more.
    pub(super) fn pause(&mut self) {
        self.call.abandon();
        match &mut self.manner {
            Manner::Subscribe(subscription, _) => subscription.done(),
            Manner::Poll(_) | Manner::Overflow(..) => {}
        }
    }

    /// There is a tree `epoch`, as `hint` tells.
    pub(super) fn want(&mut self, epoch: Epoch, hint: Hint, now: Instant, desk: &mut Desk) {
        let at = match (&self.manner, hint) {
            (Manner::Subscribe(..), Hint::Update) => now + desk.jitter(JITTER),
            (Manner::Subscribe(..), Hint::Peer) => now + PATIENCE + desk.jitter(JITTER),
            // No update will come.
            (Manner::Poll(_) | Manner::Overflow(..), Hint::Update | Hint::Peer) => {
                poll::spaced(now, self.asked()) + desk.jitter(SPREAD / 4)
            }
        };
        let at = self.not_before.map_or(at, |not_before| at.max(not_before));
        let before = self.wanted.get_or_insert(Wanted { epoch, at });
        before.epoch = before.epoch.max(epoch);
        before.at = before.at.min(at);
    }

    /// A channel of this member came up or went down: the tree is likely to change, once the
    /// coordinator has heard of it too.
    pub(super) fn on_channels(&mut self, now: Instant, desk: &mut Desk) {
        match &mut self.manner {
            Manner::Poll(pace) => pace.hasten(),
            Manner::Overflow(..) => {}
            Manner::Subscribe(..) => return,
        }
        let at = poll::spaced(now + SPREAD / 2, self.asked()) + desk.jitter(SPREAD / 2);
        self.query_at = self.query_at.map(|before| before.min(at));
    }

    /// Data that waits to be passed on overflows its buffer. `at_work`: the coordinator can be asked.
    pub(super) fn on_overflow(&mut self, at_work: bool, now: Instant) -> Overflown {
        let freshness = match &self.manner {
            Manner::Overflow(_, freshness) if at_work => *freshness,
            Manner::Overflow(..) | Manner::Poll(_) | Manner::Subscribe(..) => {
                return Overflown::Known;
            }
        };
        let overflown = freshness.judge(self.asked(), !self.call.is_idle(), now);
        if matches!(overflown, Overflown::Ask(_)) && self.call.is_idle() {
            self.query_at = Some(now);
        }
        overflown
    }

    /// A tree was taken up, in which this member has its place, or not yet.
    pub(super) fn on_tree(&mut self, epoch: Epoch, is_in: bool) {
        self.wanted = self.wanted.filter(|wanted| wanted.epoch > epoch);
        self.not_before = None;
        self.fruitless = 0;
        self.backoff.reset();
        self.place = if is_in { Place::Known(epoch) } else { Place::Outside };
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
        let wait = match &mut self.manner {
            Manner::Poll(pace) => {
                if let Some((_, Place::Known(before))) = self.asked {
                    pace.adapt(before != epoch);
                }
                pace.wait(desk)
            }
            Manner::Overflow(period, freshness) => {
                if let Some((_, Place::Known(before))) = self.asked {
                    freshness.adapt(before != epoch, desk);
                }
                desk.about(*period)
            }
            Manner::Subscribe(subscription, period) => {
                match kind {
                    Kind::Subscribe => subscription.done(),
                    Kind::Query => {}
                }
                desk.about(*period)
            }
        };
        let wait = match (&self.manner, self.place) {
            (Manner::Poll(_) | Manner::Overflow(..), Place::Unknown | Place::Outside) => {
                wait.min(self.backoff.next(desk))
            }
            (Manner::Poll(_) | Manner::Overflow(..), Place::Known(_))
            | (Manner::Subscribe(..), _) => wait,
        };
        self.query_at = Some(now + wait);
        self.wanted = self.wanted.filter(|wanted| wanted.epoch > epoch);
        let Some(wanted) = self.wanted.take() else { return };
        // The coordinator does not know that tree either, or it cannot be used.
        self.fruitless = self.fruitless.saturating_add(1);
        let at = if self.fruitless < FRUITLESS {
            let at = now + self.backoff.next(desk);
            self.wanted = Some(Wanted { at, ..wanted });
            at
        } else {
            // Whoever goes on about it makes this node ask no more often than it would anyway.
            now + desk.about(self.period)
        };
        self.not_before = Some(at);
    }

    /// It was not answered, or refused for now, or there is no tree yet.
    pub(super) fn on_failure(&mut self, kind: Kind, now: Instant, desk: &mut Desk) {
        let at = now + self.backoff.next(desk);
        self.again(kind, at);
    }

    fn again(&mut self, kind: Kind, at: Instant) {
        match (kind, &mut self.manner) {
            (Kind::Subscribe, Manner::Subscribe(subscription, _)) => subscription.make(at),
            (Kind::Subscribe, Manner::Poll(_) | Manner::Overflow(..)) => {}
            (Kind::Query, _) => {
                self.query_at = Some(at);
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
        let (kind, request) = if self.subscribe_at().is_some() {
            (Kind::Subscribe, desk.ask_path(Request::Subscribe { session, scope }))
        } else {
            self.asked = Some((now, self.place));
            (Kind::Query, desk.ask_path(Request::Query { session, scope }))
        };
        self.call.start(request, kind, now);
    }

    /// When to ask. A subscription to come makes queries needless.
    fn next(&self) -> Option<Instant> {
        let query = || earlier(self.query_at, self.wanted.map(|wanted| wanted.at));
        self.subscribe_at().or_else(query)
    }

    /// When the last query was sent.
    fn asked(&self) -> Option<Instant> {
        self.asked.map(|(at, _)| at)
    }

    const fn subscribe_at(&self) -> Option<Instant> {
        match self.manner {
            Manner::Poll(_) | Manner::Overflow(..) => None,
            Manner::Subscribe(subscription, _) => subscription.at(),
        }
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

/// Who learns of a newer tree otherwise, or passes nothing on, asks so many times more seldom than
/// [`crate::engine::Config::poll`].
const SELDOM: u32 = 4;

/// Queries are spread over this time: a lost push is lost to many members at once.
const JITTER: Duration = Duration::from_millis(50);

/// The queries of members that follow no updates are spread over this time where what led to them
/// leads others to theirs, and over a part of it where others wait for the answer.
const SPREAD: Duration = Duration::from_secs(1);

/// How long an update may take that a neighbour has already.
const PATIENCE: Duration = Duration::from_millis(100);

/// After so many queries in vain a tree is taken for a rumour, until another one comes.
const FRUITLESS: u32 = 5;
