//! A member while it runs: shows what comes, sends what is fed, ends when asked to. `host`, `join`,
//! `send` and `recv` differ in what they plan, not in how they run.

use std::{collections::BTreeSet, pin::Pin, time::Duration};

use crate::{
    Confirmation, Event, Events, Node, Session,
    protocol::id::{Class, MemberId, ServiceId},
};
use arborcast_coordinator::Coordinator;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    end::End,
    failure::Failure,
    feed::{Done, Feed, Format, Outcome, Receiver, Taken},
    input::Line,
    json, local,
    options::MemberArgs,
    output::{Output, ReaderGone},
    receipts::{Receipt, Receipts},
    roster::Roster,
    screen::{Messages, Ready, Screen, Style},
    signals::Signals,
    waiting::{self, Reason, Stalled, Waiting},
};

/// A member that was let in, with all that keeps it running.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) node: Node,
    pub(super) session: Session,
    pub(super) events: Events,
    /// The coordinator of this process, if it hosts the session.
    pub(super) coordinator: Option<Coordinator>,
    /// What people call the session.
    pub(super) name: String,
    pub(super) nick: String,
    pub(super) open: bool,
}

/// What a command wants of its member.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) command: &'static str,
    pub(super) style: Style,
    pub(super) ready: Ready,
    /// What becomes of messages...
    pub(super) messages: Messages,
    /// ...of this service alone, if one is given; others are passed over...
    pub(super) only: Option<ServiceId>,
    /// ...and the command ends after so many.
    pub(super) count: Option<u64>,
    /// What is sent. Its end is the end of the command; `None`: nothing, and no end.
    pub(super) input: Option<(mpsc::Receiver<Line>, Format)>,
    /// The service of what is sent.
    pub(super) service: ServiceId,
    /// The class of what is sent, where the input names none.
    pub(super) class: Class,
    /// The only receiver of what is sent, where the input names none; `None`: all.
    pub(super) to: Option<Receiver>,
    /// The command is about sending: it fails unless all is delivered, and says so if it is.
    pub(super) must_deliver: bool,
    /// How long after the end of input; `None`: as long as something moves.
    pub(super) within: Option<Duration>,
    pub(super) stats_interval: Option<Duration>,
    pub(super) local: local::Place,
}

impl Plan {
    /// A member that shows all that comes, and sends nothing.
    pub(super) fn new(
        command: &'static str,
        style: Style,
        ready: Ready,
        args: &MemberArgs,
    ) -> Self {
        Self {
            command,
            style,
            ready,
            messages: Messages::Shown,
            only: None,
            count: None,
            input: None,
            service: ServiceId::default(),
            class: Class::default(),
            to: None,
            must_deliver: false,
            within: None,
            stats_interval: args.stats_interval,
            local: args.local.clone().into(),
        }
    }
}

/// How long input waits for the first tree with this member in it. Longer than a coordinator takes
/// to drop a member that died without a word and whose channels everybody waits for.
const TREE_PATIENCE: Duration = Duration::from_secs(20);
/// After the end of input: how long to wait while nobody confirms anything. Longer than a lease, so
/// that a member that died without a word does not count as present any more.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(20);
/// How long before the end of that it is asked who lacks something...
const LAST_QUESTION: Duration = Duration::from_secs(2);
/// ...and of how many messages.
const QUESTIONS: usize = 512;
/// How long answers are awaited when a sender is to hear who keeps it waiting.
const NAMING_QUESTION: Duration = Duration::from_millis(500);
/// How often to look whether anything moves meanwhile.
const RECEIPT_CHECK: Duration = Duration::from_secs(1);
/// For leaving after all is delivered.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// The same where it was said how long that may take.
const LEAVE_SOON: Duration = Duration::from_millis(500);
/// For leaving when somebody waits for the process to end.
const ASKED_PATIENCE: Duration = Duration::from_secs(2);
/// All of that, at most, when somebody waits for the process to end: where nothing is under way...
const ASKED_IDLE: Duration = Duration::from_secs(1);
/// ...and where messages of this member are, or it relays and is replaced first.
const ASKED_MOST: Duration = Duration::from_millis(3_500);
/// Beyond the patience of a step at the end, before it is left undone.
const GRACE: Duration = Duration::from_secs(2);

/// A member that goes because its input is over says so: a service may have none by mistake.
const FAREWELL: &str =
    "the input has ended: leaving the session (to stay in it, give it /dev/null as input)";

/// Runs a member to its end.
pub(super) async fn run(
    seat: Seat,
    plan: Plan,
    output: &Output,
    signals: Signals,
) -> Result<(), Failure> {
    let Seat { node, session, events, coordinator, name, nick, open } = seat;
    let server = local::serve(
        &plan.local,
        local::About { command: plan.command, name, nick, open },
        session.clone(),
    )?;
    let roster = Roster::new(session.member_id());
    let (tree_known, open) = watch::channel(false);
    let (begun, has_begun) = watch::channel(false);
    let outcomes: Option<Pin<Box<dyn Stream<Item = Outcome>>>> = plan
        .input
        .map(|(lines, format)| {
            let (session, node) = (session.clone(), node.clone());
            let (service, class, to) = (plan.service, plan.class, plan.to);
            Feed { format, session, node, service, class, to, open, begun, told: false }
                .start(lines)
        })
        .map(|outcomes| Box::pin(outcomes) as _);
    let is_awaited = plan.must_deliver || plan.style == Style::Chat;
    let mut running = Running {
        screen: Screen::new(output, plan.style, &plan.messages, roster),
        only: plan.only,
        wanted: plan.count,
        has_input: outcomes.is_some(),
        farewell: (!plan.must_deliver).then_some(FAREWELL),
        look: outcomes.as_ref().map(|_| every(waiting::LOOK)),
        outcomes,
        receipts: Receipts::default(),
        failed_lines: 0,
        tree_known,
        tree_deadline: Instant::now() + TREE_PATIENCE,
        stats: plan.stats_interval.map(every),
        has_begun,
        is_awaited,
        waiting: Waiting::default(),
        stalled: Stalled::default(),
        within: plan.within,
        input_over: None,
        check: None,
        seen: None,
        moved: Instant::now(),
        coordinator,
        signals,
        session,
        events,
    };
    let end = running.until_end(plan.ready).await;
    tracing::debug!(?end, "leaving");
    let signals = running.signals.clone();
    let most = if running.is_needed() { ASKED_MOST } else { ASKED_IDLE };
    let leaving = async {
        running.leave(&end).await;
        drop(server);
        if let Some(coordinator) = &running.coordinator {
            let _ = tokio::time::timeout(GRACE, coordinator.shutdown()).await;
        }
        let _ = tokio::time::timeout(GRACE, node.shutdown_within(Duration::ZERO)).await;
    };
    signals.or_soon(most, leaving).await;
    let Running { screen, receipts, failed_lines, .. } = running;
    let last = end.outcome(plan.must_deliver, &receipts, failed_lines, &screen);
    let outcome = signals.or_soon(ASKED_PATIENCE, last).await.unwrap_or(Ok(()));
    if let Messages::Saved(saved) = plan.messages {
        let unwritable = |error: std::io::Error| {
            Failure::failed("write_failed", format!("messages cannot be saved: {error}"))
        };
        saved.finish(None, Some(signals)).await.map_err(unwritable)?;
    }
    outcome
}

/// A member in the middle of it.
struct Running<'a> {
    session: Session,
    events: Events,
    coordinator: Option<Coordinator>,
    screen: Screen<'a>,
    only: Option<ServiceId>,
    /// Messages that are still to come before the command ends.
    wanted: Option<u64>,
    has_input: bool,
    /// What is told once when the input is over.
    farewell: Option<&'static str>,
    /// What comes of the input; `None` when it has ended, or there is none.
    outcomes: Option<Pin<Box<dyn Stream<Item = Outcome>>>>,
    receipts: Receipts,
    /// Lines of input that were not sent.
    failed_lines: u64,
    /// Opens the way for input.
    tree_known: watch::Sender<bool>,
    tree_deadline: Instant,
    stats: Option<Interval>,
    /// Input has come.
    has_begun: watch::Receiver<bool>,
    /// Somebody waits for receipts, also before the end of input.
    is_awaited: bool,
    /// What of it is told, and when to look.
    waiting: Waiting,
    stalled: Stalled,
    look: Option<Interval>,
    /// How long after the end of input receipts are waited for, if that is fixed...
    within: Option<Duration>,
    /// ...and when that was.
    input_over: Option<Instant>,
    /// After the end of input: when to look whether receipts still come...
    check: Option<Interval>,
    /// ...what was seen then, confirmed messages and frames sent...
    seen: Option<(u64, u64)>,
    /// ...and when that last changed. Time in which the reader kept us waiting does not count.
    moved: Instant,
    signals: Signals,
}

/// What a member waits for. To give up waiting loses nothing: all that was taken is in here, and
/// what is done with it is not given up.
#[derive(Debug)]
enum Turn {
    Asked,
    ReaderGone,
    CoordinatorEnded,
    Event(Option<Event>),
    Outcome(Option<Outcome>),
    Stats,
    Look,
    NoTree,
    Check,
}

impl Running<'_> {
    async fn until_end(&mut self, ready: Ready) -> End {
        match self.signals.or_soon(ASKED_PATIENCE, self.screen.ready(ready)).await {
            Some(Ok(())) => {}
            Some(Err(ReaderGone)) => return End::ReaderGone,
            None => return End::Asked,
        }
        loop {
            let turn = self.turn().await;
            let signals = self.signals.clone();
            let began = Instant::now();
            match signals.or_soon(ASKED_PATIENCE, self.act(turn)).await {
                Some(Ok(None)) => {}
                Some(Ok(Some(end))) => return end,
                Some(Err(ReaderGone)) => return End::ReaderGone,
                None => return End::Asked,
            }
            self.moved += began.elapsed();
            if self.outcomes.is_none() && self.has_input {
                self.farewell.take().into_iter().for_each(super::complain);
                if self.receipts.open() == 0 {
                    return End::Input;
                }
                if self.check.is_none() {
                    self.check = Some(every(RECEIPT_CHECK));
                    self.moved = Instant::now();
                    self.input_over = Some(self.moved);
                }
            }
        }
    }

    /// Waits for one thing.
    async fn turn(&mut self) -> Turn {
        tokio::select! {
            () = self.signals.asked() => Turn::Asked,
            () = self.screen.reader_gone() => Turn::ReaderGone,
            () = ended(&mut self.coordinator) => Turn::CoordinatorEnded,
            event = self.events.next() => Turn::Event(event),
            outcome = next(&mut self.outcomes) => Turn::Outcome(outcome),
            () = tick(&mut self.stats) => Turn::Stats,
            () = tick(&mut self.check) => Turn::Check,
            () = tick(&mut self.look) => Turn::Look,
            () = tokio::time::sleep_until(self.tree_deadline), if !*self.tree_known.borrow() => {
                Turn::NoTree
            }
        }
    }

    /// Does what it is time for.
    async fn act(&mut self, turn: Turn) -> Result<Option<End>, ReaderGone> {
        match turn {
            Turn::Asked => return Ok(Some(End::Asked)),
            Turn::ReaderGone => return Err(ReaderGone),
            Turn::CoordinatorEnded => {
                // It has ended: nothing is left to wait for.
                self.coordinator = None;
                return Ok(Some(End::CoordinatorEnded));
            }
            Turn::Event(Some(event)) => return self.on_event(event).await,
            Turn::Event(None) => return Ok(Some(End::Closed)),
            Turn::Outcome(Some(outcome)) => self.on_outcome(outcome).await?,
            Turn::Outcome(None) => self.outcomes = None,
            Turn::Stats => self.show_stats().await?,
            Turn::Look => self.tell_what_for().await?,
            Turn::NoTree => {
                tracing::warn!("no place in the tree yet; sending all the same");
                self.tree_known.send_replace(true);
            }
            Turn::Check => return self.check_receipts().await,
        }
        Ok(None)
    }

    async fn on_event(&mut self, event: Event) -> Result<Option<End>, ReaderGone> {
        if let Event::Message(message) = &event {
            if self.only.is_some_and(|only| only != message.service) {
                return Ok(None);
            }
            // While leaving: as many as were asked for, and no more.
            if self.wanted == Some(0) {
                return Ok(None);
            }
            self.screen.event(&event).await?;
            if let Some(wanted) = &mut self.wanted {
                *wanted = wanted.saturating_sub(1);
                if *wanted == 0 {
                    return Ok(Some(End::Enough));
                }
            }
            return Ok(None);
        }
        self.screen.event(&event).await?;
        match event {
            Event::Tree(_) if self.screen.roster.is_in_tree() => {
                self.tree_known.send_if_modified(|known| !std::mem::replace(known, true));
            }
            Event::Delivered { seq, members, to } => {
                self.receipts.on_delivered(seq, members, to);
                self.show_receipts().await?;
            }
            Event::Missed { to, from, last, .. } => {
                self.receipts.on_missed(to, from, last);
                self.show_receipts().await?;
            }
            Event::Ended(refusal) => return Ok(Some(End::Removed(refusal))),
            Event::Tree(_)
            | Event::Message(_)
            | Event::Joined(_)
            | Event::Left(_)
            | Event::Channel(_)
            | Event::Lost { .. }
            | Event::CoordinatorLost(_)
            | Event::Detached(_)
            | Event::CoordinatorBack
            // Its line is told of by what comes of the input.
            | Event::NotSent { .. }
            | Event::Warning(_) => {}
        }
        Ok(None)
    }

    async fn on_outcome(&mut self, outcome: Outcome) -> Result<(), ReaderGone> {
        match outcome {
            Ok(Done::Ruled(rule)) => self.screen.ruled(&rule).await,
            Ok(Done::Sent(Taken { seq, class, to })) => {
                match class {
                    Class::Reliable => self.receipts.on_taken(seq, to),
                    Class::Live => self.receipts.live += 1,
                }
                self.screen.taken(seq).await?;
                self.show_receipts().await
            }
            Err(problem) => {
                self.failed_lines += 1;
                self.screen.problem(problem.code, &problem.message).await
            }
        }
    }

    async fn show_receipts(&mut self) -> Result<(), ReaderGone> {
        while let Some(Receipt { seq, members, took, missed_by }) = self.receipts.next() {
            match missed_by {
                None => self.screen.delivered(seq, members, took).await?,
                Some(by) => self.screen.missed(seq, by).await?,
            }
        }
        Ok(())
    }

    async fn show_stats(&mut self) -> Result<(), ReaderGone> {
        match self.session.status().await {
            Some(status) => self.screen.json_line(&json::stats(&status)).await,
            None => Ok(()),
        }
    }

    /// Tells those who have waited for long what for, and for whom.
    async fn tell_what_for(&mut self) -> Result<(), ReaderGone> {
        let is_open = self.receipts.open() > 0 && self.screen.roster.is_in_tree();
        let stalled = self.stalled.look(is_open, self.receipts.confirmed(), Instant::now());
        if let Some(lasted) = stalled {
            self.name_who_is_behind(lasted).await?;
        }
        let reason = self.reason_to_wait().await;
        match self.waiting.look(reason, self.receipts.confirmed(), Instant::now()) {
            Some(text) => self.screen.problem("waiting", &text).await,
            None => Ok(()),
        }
    }

    /// Finds out who lacks the oldest of what is not confirmed, and tells it.
    async fn name_who_is_behind(&self, lasted: Duration) -> Result<(), ReaderGone> {
        let oldest: Vec<_> = self.receipts.oldest().take(QUESTIONS).collect();
        let session = &self.session;
        let answers = oldest.into_iter().map(|(to, seq)| session.confirm(to, seq, NAMING_QUESTION));
        let answers = futures::future::join_all(answers).await;
        let behind: BTreeSet<MemberId> =
            answers.into_iter().flatten().flat_map(|answer| answer.missing).collect();
        if behind.is_empty() {
            return Ok(());
        }
        self.screen.waiting(lasted + NAMING_QUESTION, &behind).await
    }

    /// What sending waits for now, and somebody with it.
    async fn reason_to_wait(&self) -> Option<Reason> {
        let open = self.receipts.open();
        let unsent = *self.has_begun.borrow() && !*self.tree_known.borrow();
        let unconfirmed = open > 0 && (self.is_awaited || self.outcomes.is_none());
        if !unsent && !unconfirmed {
            return None;
        }
        let roster = &self.screen.roster;
        if !roster.is_in_tree() {
            let channels = self.session.status().await?.channels.len();
            return Some(Reason::Tree { channels });
        }
        let mut by = BTreeSet::new();
        for to in self.receipts.awaited() {
            match to {
                Some(to) => by.extend([to]),
                None => by.extend(roster.others()),
            }
        }
        let by = by.into_iter().map(|member| roster.label(member)).collect();
        Some(Reason::Receipts { open, by })
    }

    /// After the last line of input: whether it is still worth to wait for receipts.
    async fn check_receipts(&mut self) -> Result<Option<End>, ReaderGone> {
        let Some(status) = self.session.status().await else { return Ok(Some(End::Closed)) };
        let now = (self.receipts.confirmed(), status.relay.total.frames_out);
        if self.seen != Some(now) {
            self.seen = Some(now);
            self.moved = Instant::now();
        }
        let alone = self.screen.roster.is_in_tree() && self.screen.roster.present() == 1;
        if alone && self.receipts.on_alone() {
            self.show_receipts().await?;
        } else if let Some(left) = self.patience_left().filter(|left| *left <= LAST_QUESTION) {
            self.ask_who_lacks(left).await?;
            return Ok(Some(End::Input));
        }
        Ok(None)
    }

    /// How long receipts are still waited for.
    fn patience_left(&self) -> Option<Duration> {
        Some(match self.within {
            Some(within) => within.saturating_sub(self.input_over?.elapsed()),
            None => (RECEIPT_PATIENCE + LAST_QUESTION).saturating_sub(self.moved.elapsed()),
        })
    }

    /// Finds out who lacks which message, within some time, and shows it.
    async fn ask_who_lacks(&mut self, within: Duration) -> Result<(), ReaderGone> {
        let open: Vec<_> = self.receipts.open_messages().take(QUESTIONS).collect();
        let session = &self.session;
        let answers = open
            .into_iter()
            .map(|(to, seq)| async move { (to, session.confirm(to, seq, within).await) });
        for (to, answer) in futures::future::join_all(answers).await {
            let Some(Confirmation { seq, members, missing, .. }) = answer else { continue };
            if missing.is_empty() {
                continue;
            }
            self.receipts.on_lacking(seq, to, &missing);
            self.screen.lacking(seq, members, &missing).await?;
        }
        // What is confirmed by now is among the events.
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.on_event(event).await?;
        }
        Ok(())
    }

    /// Whether something of this member is under way, or others are reached through it.
    fn is_needed(&self) -> bool {
        let tree = self.session.watch_tree();
        let relays = tree.borrow().as_ref().is_some_and(|tree| tree.neighbours.len() > 1);
        relays || self.receipts.open() > 0
    }

    /// Leaves, and shows what still comes.
    async fn leave(&mut self, end: &End) {
        let patience = match end {
            End::Input if self.within.is_some() => LEAVE_SOON,
            End::Input => LEAVE_PATIENCE,
            End::Enough | End::Asked | End::ReaderGone => ASKED_PATIENCE,
            End::Removed(_) | End::Closed => return,
            End::CoordinatorEnded => Duration::ZERO,
        };
        // By itself: the reader of what still comes may take its time.
        let session = self.session.clone();
        let mut left =
            tokio::spawn(tokio::time::timeout(patience + GRACE, session.leave_within(patience)));
        let signals = self.signals.clone();
        let showing = async {
            loop {
                let event = tokio::select! {
                    outcome = &mut left => {
                        if matches!(outcome, Ok(Err(_))) {
                            tracing::warn!("could not leave in time; the others will notice");
                        }
                        break;
                    }
                    Some(event) = self.events.next() => event,
                };
                // Nothing is over because of what comes now.
                let _ = self.on_event(event).await;
            }
            while let Some(Some(event)) = self.events.next().now_or_never() {
                let _ = self.on_event(event).await;
            }
        };
        if signals.or_soon(ASKED_PATIENCE + GRACE, showing).await.is_none() {
            tracing::warn!("not all that came was read");
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

async fn next(outcomes: &mut Option<Pin<Box<dyn Stream<Item = Outcome>>>>) -> Option<Outcome> {
    match outcomes {
        Some(outcomes) => outcomes.next().await,
        None => std::future::pending().await,
    }
}

/// Waits until the coordinator of this process ends; for ever if there is none.
async fn ended(coordinator: &mut Option<Coordinator>) {
    match coordinator {
        Some(coordinator) => coordinator.ended().await,
        None => std::future::pending().await,
    }
}
