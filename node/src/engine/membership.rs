//! Being let in, staying, leaving (`/arborcast/session/1`), and whether the coordinator is there.
//!
//! Challenge → join → renewals. While no connection to the coordinator is up nothing is asked of
//! it; the driver brings the connection back.

use std::time::{Duration, Instant};

use arborcast_protocol::{
    admission::Statement,
    id::SessionId,
    keys::Access,
    limits,
    push::{Push, PushError, PushKey},
    refusal::{Code, Refusal},
    session::{Address, Answer, Granted, Join, Joined, Renewed, Request, Terms},
    tree::{SignedHeader, Update},
};

use super::{
    backoff::Backoff,
    call::Call,
    config::{Config, LONGEST},
    desk::{Desk, due, earlier},
    event::{Event, RequestId, SilenceReason, Unanswered},
};

/// Where the engine stands with the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There was no connection to the coordinator yet.
    Outside,
    /// Asking to be let in, for the first time or again.
    Joining,
    /// Let in.
    Member,
    /// Has said that it leaves.
    Leaving,
    /// Refused, removed or left: the engine does nothing more.
    Ended,
}

/// What a membership says of the node's other parts when it joins or renews.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) held: Option<SignedHeader>,
    pub(super) settled: bool,
    /// The application takes what is delivered, or need not for the moment.
    pub(super) can_take: bool,
}

/// What an answer means for the rest of the engine.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing.
    None,
    Joined(Box<Joined>),
    Renewed(Box<Renewed>),
    /// The coordinator does not know the member any more: join again.
    Forgotten,
    /// This member kept the others waiting: join again once it takes what comes.
    Detached(Refusal),
    Refused(Refusal),
    Left,
}

/// What a refusal asks of a member. Only those end who are not allowed in, or whose place another run of
/// the same identity has taken; whatever else ends a membership, the member takes it up again by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is over.
    Final,
    /// Join again.
    Rejoin,
    /// Ask again after a while.
    Later,
}

/// What to do when a request other than a join is refused.
pub(super) fn verdict(code: Code) -> Verdict {
    match code {
        Code::REPLACED => Verdict::Final,
        // A coordinator that has forgotten the session says one of these; the join will tell.
        Code::NOT_MEMBER | Code::NOT_ADMITTED | Code::NOT_COORDINATOR | Code::DETACHED => {
            Verdict::Rejoin
        }
        _ => Verdict::Later,
    }
}

/// The same while joining. Who `was_in` before waits where there is no room just now, and for a coordinator
/// that does not hold the session yet.
fn verdict_of_join(code: Code, was_in: bool) -> Verdict {
    match code {
        Code::NOT_ADMITTED | Code::NO_OPEN_SESSIONS | Code::REPLACED | Code::INVALID => {
            Verdict::Final
        }
        Code::SESSION_FULL | Code::TOO_MANY_SESSIONS | Code::NOT_COORDINATOR if !was_in => {
            Verdict::Final
        }
        _ => Verdict::Later,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Challenge,
    Join,
    Renew,
    Leave,
}

/// The membership in one session.
#[derive(Debug)]
pub(super) struct Membership {
    access: Access,
    nick: String,
    fanout: u16,
    upload_kbps: Option<u32>,
    phase: Phase,
    line: Line,
    call: Call<Kind>,
    backoff: Backoff,
    /// When to ask for a challenge.
    attempt_at: Option<Instant>,
    joined_at: Option<Instant>,
    /// It was detached and is not back yet: it waits until it can take what comes.
    is_detached: bool,
    /// Between being detached and coming back.
    detached: Backoff,
    terms: Option<Terms>,
    /// What pushes are sealed under, the newest last. At most [`PUSH_KEYS`].
    push_keys: Vec<PushKey>,
    renew_at: Option<Instant>,
    renewed_at: Option<Instant>,
    /// Something in the renewal has changed since the last one was sent.
    changed: bool,
    addresses: Vec<Address>,
    /// The coordinator knows, or is being told, that the floors are settled.
    settled_told: bool,
    leave_by: Option<Instant>,
    /// What the coordinator said when it last put this member off.
    put_off: Option<Refusal>,
    /// When to say again that it leaves: others are to take its place first.
    leave_at: Option<Instant>,
}

/// The way to the coordinator.
#[derive(Debug, Default)]
struct Line {
    connected: bool,
    /// The application was told that the coordinator is lost.
    lost: bool,
    /// Requests of any kind without answer, in a row.
    silence: u32,
}

impl Membership {
    pub(super) fn new(access: Access, nick: &str, config: &Config) -> Self {
        Self {
            access,
            nick: shorten(nick),
            fanout: config.fanout,
            upload_kbps: Some(config.upload_kbps).filter(|kbps| *kbps > 0),
            phase: Phase::Outside,
            line: Line::default(),
            call: Call::new(),
            backoff: Backoff::COORDINATOR,
            attempt_at: None,
            joined_at: None,
            is_detached: false,
            detached: Backoff::DETACHED,
            terms: None,
            push_keys: Vec::new(),
            renew_at: None,
            renewed_at: None,
            changed: false,
            addresses: Vec::new(),
            settled_told: false,
            leave_by: None,
            put_off: None,
            leave_at: None,
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the coordinator can be asked as a member now. Not by one that was never let in and leaves: it may
    /// still list the run before, and would take this one for an older one.
    pub(super) fn is_at_work(&self) -> bool {
        let is_in = match self.phase {
            Phase::Member => true,
            Phase::Leaving => self.joined_at.is_some(),
            Phase::Outside | Phase::Joining | Phase::Ended => false,
        };
        self.line.connected && is_in
    }

    pub(super) const fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    /// What the coordinator said when it last put this member off.
    pub(super) const fn put_off(&self) -> Option<&Refusal> {
        self.put_off.as_ref()
    }

    /// True if there was no connection before.
    pub(super) fn on_up(&mut self, now: Instant) -> bool {
        if std::mem::replace(&mut self.line.connected, true) {
            return false;
        }
        self.backoff.reset();
        match self.phase {
            Phase::Joining if self.is_detached => self.attempt_at = self.attempt_at.or(Some(now)),
            Phase::Outside | Phase::Joining => self.attempt_at = Some(now),
            // What changed meanwhile was not said.
            Phase::Member if self.changed => self.renew_at = Some(now),
            Phase::Member | Phase::Leaving | Phase::Ended => {}
        }
        true
    }

    /// True if the engine is to end: it has said that it leaves, and nobody will answer.
    pub(super) fn on_down(&mut self, desk: &mut Desk) -> bool {
        self.line.connected = false;
        if self.phase == Phase::Leaving {
            return true;
        }
        if self.call.abandon() == Some(Kind::Renew) {
            // It may not have arrived.
            self.changed = true;
            self.renew_at = self.renewed_at;
        }
        self.lose(desk, SilenceReason::Disconnected);
        false
    }

    /// Some request was answered, whatever the answer.
    pub(super) fn on_contact(&mut self, desk: &mut Desk) {
        self.line.silence = 0;
        if std::mem::take(&mut self.line.lost) {
            desk.event(Event::CoordinatorBack);
        }
    }

    /// Some request was not answered.
    pub(super) fn on_silence(&mut self, why: &Unanswered, desk: &mut Desk) {
        desk.stats.unanswered += 1;
        self.line.silence = self.line.silence.saturating_add(1);
        if self.line.silence >= SILENCE {
            self.lose(desk, why.clone().into());
        }
    }

    fn lose(&mut self, desk: &mut Desk, why: SilenceReason) {
        if !std::mem::replace(&mut self.line.lost, true) {
            desk.event(Event::CoordinatorLost(why));
        }
    }

    pub(super) fn on_addresses(&mut self, mut addresses: Vec<Address>, now: Instant) {
        addresses.retain(|address| address.0.len() <= limits::ADDRESS);
        addresses.truncate(limits::ADDRESSES);
        if self.addresses != addresses {
            self.addresses = addresses;
            self.on_changed(now);
        }
    }

    /// The floors are settled.
    pub(super) fn on_settled(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.settled_told, true) {
            self.on_changed(now);
        }
    }

    fn on_changed(&mut self, now: Instant) {
        self.changed = true;
        let at = self.renewed_at.map_or(now, |at| now.max(at + COALESCE));
        if self.phase == Phase::Member {
            self.renew_at = earlier(self.renew_at, Some(at));
        }
    }

    fn learn_push_key(&mut self, key: Option<&PushKey>) {
        if let Some(key) = key {
            if self.push_keys.len() >= PUSH_KEYS {
                self.push_keys.remove(0);
            }
            self.push_keys.push(key.clone());
        }
    }

    /// Opens a push, with whichever of the keys it is sealed under.
    pub(super) fn open(&self, session: SessionId, push: &Push) -> Result<Update, PushError> {
        let key = self.push_keys.iter().rfind(|key| key.id == push.key);
        key.ok_or(PushError::UnknownKey)?.open(session, push)
    }

    /// A push could not be opened: the next renewal brings the key, and is sent soon.
    pub(super) fn on_unknown_key(&mut self, now: Instant) {
        self.on_changed(now);
    }

    /// The coordinator has forgotten this member: joins again, at once unless it just did.
    pub(super) fn rejoin(&mut self, now: Instant, desk: &mut Desk) {
        self.call.abandon();
        self.phase = Phase::Joining;
        self.renew_at = None;
        let lately = self.joined_at.is_some_and(|at| now < at + REJOIN);
        self.attempt_at = Some(if lately { now + self.backoff.next(desk) } else { now });
    }

    /// The coordinator has detached this member: joins again after a while, once it takes what comes.
    pub(super) fn on_detached(&mut self, now: Instant, desk: &mut Desk) {
        self.call.abandon();
        self.phase = Phase::Joining;
        self.renew_at = None;
        self.is_detached = true;
        if self.joined_at.is_some_and(|at| now >= at + PROVED) {
            self.detached.reset();
        }
        self.attempt_at = Some(now + self.detached.next(desk));
    }

    /// Whether it was detached and is not back yet.
    pub(super) const fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// It is back.
    pub(super) const fn on_returned(&mut self) {
        self.is_detached = false;
    }

    /// True if the engine is to end at once: nobody has to be told.
    pub(super) fn on_leave(&mut self, now: Instant, desk: &mut Desk) -> bool {
        let joined = match self.phase {
            Phase::Outside => false,
            // A join that is under way may succeed.
            Phase::Joining => self.call.abandon() == Some(Kind::Join) || self.joined_at.is_some(),
            Phase::Member => true,
            Phase::Leaving => return false,
            Phase::Ended => return true,
        };
        if !joined || !self.line.connected {
            return true;
        }
        self.phase = Phase::Leaving;
        self.say_leave(now, desk);
        self.leave_by = Some(now + LEAVE);
        false
    }

    fn say_leave(&mut self, now: Instant, desk: &mut Desk) {
        self.leave_at = None;
        let (session, incarnation) = (desk.session, desk.incarnation);
        let request = desk.ask_session(Request::Leave { session, incarnation });
        self.call.start(request, Kind::Leave, now);
    }

    pub(super) fn end(&mut self) {
        self.phase = Phase::Ended;
        self.call.abandon();
    }

    pub(super) fn on_answer(
        &mut self,
        request: RequestId,
        answer: Result<Answer, Unanswered>,
        standing: Standing,
        now: Instant,
        desk: &mut Desk,
    ) -> Outcome {
        let Some(kind) = self.call.finish(request) else { return Outcome::None };
        if kind == Kind::Leave {
            let Ok(Ok(Granted::HandingOver { again_ms })) = answer else { return Outcome::Left };
            self.leave_at = Some(now + period(again_ms).min(LEAVE));
            return Outcome::None;
        }
        let granted = match answer {
            Ok(Ok(granted)) => granted,
            Ok(Err(refusal)) => {
                self.on_contact(desk);
                return self.on_refusal(kind, refusal, now, desk);
            }
            Err(why) => {
                self.on_silence(&why, desk);
                self.retry(kind, now, desk);
                return Outcome::None;
            }
        };
        self.on_contact(desk);
        match (kind, granted) {
            (Kind::Challenge, Granted::Challenge { challenge }) => {
                let statement = Statement {
                    session: desk.session,
                    coordinator: desk.coordinator,
                    member: desk.me,
                    incarnation: desk.incarnation,
                    challenge,
                };
                let request = desk.ask_session(Request::Join(Box::new(Join {
                    session: desk.session,
                    incarnation: desk.incarnation,
                    admission: self.access.admission(&statement),
                    nick: self.nick.clone(),
                    fanout: self.fanout,
                    upload_kbps: self.upload_kbps,
                    addresses: self.addresses.clone(),
                    held: standing.held,
                    settled: standing.settled,
                })));
                self.call.start(request, Kind::Join, now);
                self.changed = false;
                self.settled_told = standing.settled;
                Outcome::None
            }
            (Kind::Join, Granted::Joined(joined)) => {
                desk.stats.joins += 1;
                self.phase = Phase::Member;
                self.backoff.reset();
                self.joined_at = Some(now);
                self.renewed_at = Some(now);
                self.terms = Some(joined.terms);
                self.push_keys = joined.push.iter().flat_map(|push| &push.keys).cloned().collect();
                self.push_keys.truncate(PUSH_KEYS);
                self.settled_told |= joined.settled;
                self.schedule(now, desk);
                Outcome::Joined(joined)
            }
            (Kind::Renew, Granted::Renewed(renewed)) => {
                self.backoff.reset();
                self.settled_told |= renewed.settled;
                self.learn_push_key(renewed.push_key.as_ref());
                self.schedule(now, desk);
                Outcome::Renewed(renewed)
            }
            // An answer to another question: as good as none.
            (
                Kind::Challenge | Kind::Join | Kind::Renew | Kind::Leave,
                Granted::Located { .. }
                | Granted::Challenge { .. }
                | Granted::Joined(_)
                | Granted::Renewed(_)
                | Granted::Left
                | Granted::HandingOver { .. },
            ) => {
                self.retry(kind, now, desk);
                Outcome::None
            }
        }
    }

    fn on_refusal(
        &mut self,
        kind: Kind,
        refusal: Refusal,
        now: Instant,
        desk: &mut Desk,
    ) -> Outcome {
        let verdict = match kind {
            Kind::Challenge | Kind::Join => verdict_of_join(refusal.code, self.joined_at.is_some()),
            Kind::Renew | Kind::Leave => verdict(refusal.code),
        };
        match verdict {
            Verdict::Final => Outcome::Refused(refusal),
            Verdict::Rejoin if refusal.code == Code::DETACHED => Outcome::Detached(refusal),
            Verdict::Rejoin => Outcome::Forgotten,
            Verdict::Later => {
                match refusal.again_ms {
                    // It knows when; a little later each, so that those told at once do not come at once.
                    Some(again_ms) => {
                        let wait = period(again_ms);
                        let at = now + wait + desk.jitter(wait / 4);
                        self.retry_at(kind, at);
                    }
                    None => self.retry(kind, now, desk),
                }
                self.put_off = Some(refusal);
                Outcome::None
            }
        }
    }

    fn retry(&mut self, kind: Kind, now: Instant, desk: &mut Desk) {
        let at = now + self.backoff.next(desk);
        self.retry_at(kind, at);
    }

    fn retry_at(&mut self, kind: Kind, at: Instant) {
        let at = Some(at);
        match kind {
            // A join needs a fresh challenge.
            Kind::Challenge | Kind::Join => self.attempt_at = at,
            Kind::Renew => {
                self.changed = true;
                self.renew_at = at;
            }
            Kind::Leave => {}
        }
    }

    fn schedule(&mut self, now: Instant, desk: &mut Desk) {
        self.renew_at = None;
        if self.changed {
            self.on_changed(now);
        } else if let Some(terms) = &self.terms {
            self.renew_at = Some(now + desk.about(period(terms.renew_ms)));
        }
    }

    /// Does what is due.
    pub(super) fn run(&mut self, standing: Standing, now: Instant, desk: &mut Desk) -> Outcome {
        if self.phase == Phase::Leaving && due(self.leave_by, now) {
            return Outcome::Left;
        }
        if let Some(request) = self.call.expired(now) {
            return self.on_answer(request, Err(Unanswered::late()), standing, now, desk);
        }
        if !self.line.connected || !self.call.is_idle() {
            return Outcome::None;
        }
        match self.phase {
            Phase::Joining if self.is_detached && !standing.can_take => {
                if due(self.attempt_at, now) {
                    self.attempt_at = Some(now + LOOK);
                }
            }
            Phase::Outside | Phase::Joining if due(self.attempt_at, now) => {
                self.attempt_at = None;
                self.phase = Phase::Joining;
                let request = desk.ask_session(Request::Challenge { session: desk.session });
                self.call.start(request, Kind::Challenge, now);
            }
            Phase::Member if due(self.renew_at, now) => {
                self.renew_at = None;
                self.renewed_at = Some(now);
                self.changed = false;
                self.settled_told |= standing.settled;
                let request = desk.ask_session(Request::Renew {
                    session: desk.session,
                    incarnation: desk.incarnation,
                    addresses: self.addresses.clone(),
                    settled: standing.settled,
                    push_key: self.push_keys.last().map_or(0, |newest| newest.id),
                });
                self.call.start(request, Kind::Renew, now);
            }
            Phase::Leaving if due(self.leave_at, now) => self.say_leave(now, desk),
            Phase::Outside | Phase::Joining | Phase::Member | Phase::Leaving | Phase::Ended => {}
        }
        Outcome::None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let next = match self.phase {
            Phase::Outside | Phase::Joining => self.attempt_at,
            Phase::Member => self.renew_at,
            Phase::Leaving => {
                let next = earlier(self.leave_by, self.leave_at);
                return earlier(next, self.call.deadline());
            }
            Phase::Ended => return None,
        };
        let next = next.filter(|_| self.line.connected && self.call.is_idle());
        earlier(next, self.call.deadline())
    }
}

impl Unanswered {
    /// The driver did not even say that there was no answer.
    pub(super) fn late() -> Self {
        Self("no answer in time".to_owned())
    }
}

/// A period that the coordinator set, within reason: it can make members neither spin nor sleep.
pub(super) fn period(ms: u32) -> Duration {
    Duration::from_millis(ms.into()).clamp(SHORTEST, LONGEST)
}

/// At most [`limits::NICK`] bytes, cut between characters.
fn shorten(nick: &str) -> String {
    let mut short = String::new();
    for character in nick.chars() {
        if short.len() + character.len_utf8() > limits::NICK {
            break;
        }
        short.push(character);
    }
    short
}

/// The key of pushes in force, and the one that follows.
const PUSH_KEYS: usize = 2;

/// So many unanswered requests in a row mean that the coordinator is lost.
const SILENCE: u32 = 3;

/// Renewals out of turn are at least so far apart.
const COALESCE: Duration = Duration::from_millis(200);

/// One that is forgotten again so soon after a join waits before the next.
const REJOIN: Duration = Duration::from_secs(1);

/// One that was detached and stayed for so long after it came back had got over it.
const PROVED: Duration = Duration::from_secs(60);

/// How often a detached member looks whether it can take what comes.
const LOOK: Duration = Duration::from_millis(500);

/// How long a leaver waits until it may go.
const LEAVE: Duration = Duration::from_secs(3);

/// Least period that a coordinator can ask for.
const SHORTEST: Duration = Duration::from_millis(100);
