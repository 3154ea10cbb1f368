//! A member while it runs: shows what comes, sends what is fed, ends when asked to. `host`, `join`,
//! `send` and `recv` differ in what they plan, not in how they run.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use arborcast::{
    Event, Events, Node, Session,
    protocol::{
        id::{SeqNo, ServiceId},
        refusal::Refusal,
    },
};
use arborcast_coordinator::Coordinator;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    Exit,
    failure::{Failure, refusal_code},
    feed::{self, Format, Outcome},
    input::Line,
    json, local,
    output::{Output, ReaderGone},
    roster::Roster,
    screen::{Ready, Screen, Style},
    signals::Signals,
    terminal,
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
    /// Messages are shown...
    pub(super) messages: bool,
    /// ...of this service alone, if one is given...
    pub(super) only: Option<ServiceId>,
    /// ...and the command ends after so many.
    pub(super) count: Option<u64>,
    /// What is sent. Its end is the end of the command; `None`: nothing, and no end.
    pub(super) input: Option<(mpsc::Receiver<Line>, Format)>,
    /// The service of what is sent.
    pub(super) service: ServiceId,
    /// The command is about sending: it fails unless all is delivered, and says so if it is.
    pub(super) must_deliver: bool,
    pub(super) stats_interval: Option<Duration>,
    pub(super) local: local::Place,
}

/// Why a member stops.
#[derive(Debug)]
enum End {
    /// All input is sent, and delivered as far as could be waited for.
    Input,
    /// As many messages as were asked for have come.
    Enough,
    /// The process was asked to end.
    Asked,
    /// Nobody reads what is shown.
    ReaderGone,
    /// The coordinator ended the membership.
    Removed(Refusal),
    /// The node ended for no reason that it told.
    Closed,
    /// The coordinator of this process ended by itself.
    CoordinatorEnded,
}

/// How long input waits for the first tree with this member in it. Longer than a coordinator takes
/// to drop a member that died without a word and whose channels everybody waits for.
const TREE_PATIENCE: Duration = Duration::from_secs(20);
/// After the end of input: how long to wait while nobody confirms anything. Longer than a lease, so
/// that a member that died without a word does not count as present any more.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(20);
/// How often to look whether anything moves meanwhile.
const RECEIPT_CHECK: Duration = Duration::from_secs(1);
/// For leaving after all is delivered.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// For leaving when somebody waits for the process to end.
const ASKED_PATIENCE: Duration = Duration::from_secs(2);
/// Beyond the patience of a step at the end, before it is left undone.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a member to its end.
pub(super) async fn run(
    seat: Seat,
    plan: Plan,
    output: &Output,
    mut signals: Signals,
) -> Result<(), Failure> {
    let Seat { node, session, events, coordinator, name, nick, open } = seat;
    let server = local::serve(
        &plan.local,
        local::About { command: plan.command, name, nick, open },
        session.clone(),
    )?;
    let roster = Roster::new(session.member_id());
    let (tree_known, gate) = watch::channel(false);
    let outcomes: Option<Pin<Box<dyn Stream<Item = Outcome>>>> = plan
        .input
        .map(|(lines, format)| feed::start(lines, format, session.clone(), plan.service, gate))
        .map(|outcomes| Box::pin(outcomes) as _);
    let mut running = Running {
        screen: Screen::new(output, plan.style, plan.messages, roster),
        only: plan.only,
        wanted: plan.count,
        has_input: outcomes.is_some(),
        outcomes,
        receipts: Receipts::default(),
        failed_lines: 0,
        tree_known,
        tree_deadline: Instant::now() + TREE_PATIENCE,
        stats: plan.stats_interval.map(every),
        coordinator,
        session,
        events,
    };
    let end = tokio::select! {
        biased;
        () = signals.asked() => End::Asked,
        end = running.until_end(plan.ready) => end,
    };
    tracing::debug!(?end, "leaving");
    running.leave(&end).await;
    drop(server);
    let Running { screen, receipts, failed_lines, coordinator, .. } = running;
    if let Some(coordinator) = coordinator {
        let _ = tokio::time::timeout(GRACE, coordinator.shutdown()).await;
    }
    let _ = tokio::time::timeout(GRACE, node.shutdown()).await;
    outcome(&end, plan.must_deliver, &receipts, failed_lines, &screen).await
}

/// How the command ends.
async fn outcome(
    end: &End,
    must_deliver: bool,
    receipts: &Receipts,
    failed_lines: u64,
    screen: &Screen<'_>,
) -> Result<(), Failure> {
    let open = receipts.open.len() as u64;
    let not_delivered = || {
        format!(
            "{} of {} not confirmed by all present members; `arborcast tree` shows who is there",
            open,
            terminal::count(receipts.taken, "message"),
        )
    };
    match end {
        End::Asked if must_deliver && (open > 0 || failed_lines > 0) => {
            Err(Failure::failed("interrupted", format!("interrupted: {}", not_delivered())))
        }
        End::Input if must_deliver && failed_lines > 0 => Err(Failure::failed(
            "not_sent",
            format!("{} not sent; see above", terminal::count(failed_lines, "message")),
        )),
        End::Input if open > 0 => {
            if must_deliver {
                return Err(Failure::failed("not_delivered", not_delivered()));
            }
            let _ = screen.problem("not_delivered", &not_delivered()).await;
            Ok(())
        }
        End::Input if must_deliver && receipts.taken > 0 => {
            let messages = terminal::count(receipts.taken, "message");
            let text = match receipts.members {
                0 => format!("nobody else is in the session: {messages} delivered to 0 members"),
                members => {
                    let members = terminal::count(u64::from(members), "member");
                    format!("delivered {messages} to {members}")
                }
            };
            let _ = screen.result(&text).await;
            Ok(())
        }
        End::Input | End::Enough | End::Asked | End::ReaderGone => Ok(()),
        End::Removed(refusal) => Err(Failure {
            exit: match refusal_code(refusal.code) {
                "replaced" => Exit::Failed,
                _ => Exit::NotAdmitted,
            },
            code: refusal_code(refusal.code),
            message: refusal.message.clone(),
        }),
        End::Closed => Err(Failure::failed("closed", "the session has ended")),
        End::CoordinatorEnded => {
            Err(Failure::failed("coordinator_ended", "the coordinator of this process ended"))
        }
    }
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
    /// What comes of the input; `None` when it has ended, or there is none.
    outcomes: Option<Pin<Box<dyn Stream<Item = Outcome>>>>,
    receipts: Receipts,
    /// Lines of input that were not sent.
    failed_lines: u64,
    /// Opens the way for input.
    tree_known: watch::Sender<bool>,
    tree_deadline: Instant,
    stats: Option<Interval>,
}

impl Running<'_> {
    async fn until_end(&mut self, ready: Ready) -> End {
        if self.screen.ready(ready).await.is_err() {
            return End::ReaderGone;
        }
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(ReaderGone) => return End::ReaderGone,
            }
            if self.outcomes.is_none() && self.has_input {
                return self.until_delivered().await;
            }
        }
    }

    /// Waits for one thing and does it.
    async fn step(&mut self) -> Result<Option<End>, ReaderGone> {
        tokio::select! {
            () = self.screen.reader_gone() => return Err(ReaderGone),
            () = ended(&mut self.coordinator) => return Ok(Some(End::CoordinatorEnded)),
            event = self.events.next() => match event {
                Some(event) => return self.on_event(event).await,
                None => return Ok(Some(End::Closed)),
            },
            outcome = next(&mut self.outcomes) => match outcome {
                Some(outcome) => self.on_outcome(outcome).await?,
                None => self.outcomes = None,
            },
            () = tick(&mut self.stats) => self.show_stats().await?,
            () = tokio::time::sleep_until(self.tree_deadline), if !*self.tree_known.borrow() => {
                tracing::warn!("no place in the tree yet; sending all the same");
                self.tree_known.send_replace(true);
            }
        }
        Ok(None)
    }

    async fn on_event(&mut self, event: Event) -> Result<Option<End>, ReaderGone> {
        if let Event::Message(message) = &event {
            if self.only.is_some_and(|only| only != message.service) {
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
            Event::Delivered { seq, members } => {
                self.receipts.on_delivered(seq, members);
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
            | Event::CoordinatorBack
            | Event::Warning(_)
            | _ => {}
        }
        Ok(None)
    }

    async fn on_outcome(&mut self, outcome: Outcome) -> Result<(), ReaderGone> {
        match outcome {
            Ok(seq) => {
                self.receipts.on_taken(seq);
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
        while let Some((seq, members, took)) = self.receipts.next() {
            self.screen.delivered(seq, members, took).await?;
        }
        Ok(())
    }

    async fn show_stats(&mut self) -> Result<(), ReaderGone> {
        match self.session.status().await {
            Some(status) => self.screen.json_line(&json::stats(&status)).await,
            None => Ok(()),
        }
    }

    /// After the last line of input: until all present members have all, or nothing moves.
    async fn until_delivered(&mut self) -> End {
        let mut check = every(RECEIPT_CHECK);
        let mut seen = None;
        let mut moved = Instant::now();
        while !self.receipts.open.is_empty() {
            let step = tokio::select! {
                step = self.step() => step,
                _ = check.tick() => {
                    let Some(status) = self.session.status().await else { return End::Closed };
                    let now = (self.receipts.confirmed, status.relay.total.frames_out);
                    if seen != Some(now) {
                        seen = Some(now);
                        moved = Instant::now();
                    }
                    let alone = self.screen.roster.is_in_tree() && self.screen.roster.present() == 1;
                    if alone && self.receipts.on_alone() {
                        self.show_receipts().await.map(|()| None)
                    } else if moved.elapsed() >= RECEIPT_PATIENCE {
                        return End::Input;
                    } else {
                        Ok(None)
                    }
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(ReaderGone) => return End::ReaderGone,
            }
        }
        End::Input
    }

    /// Leaves, and shows what still comes.
    async fn leave(&mut self, end: &End) {
        let patience = match end {
            End::Input => LEAVE_PATIENCE,
            End::Enough | End::Asked | End::ReaderGone => ASKED_PATIENCE,
            End::Removed(_) | End::Closed => return,
            End::CoordinatorEnded => Duration::ZERO,
        };
        let session = self.session.clone();
        let leaving = async {
            let left = session.leave(patience);
            tokio::pin!(left);
            loop {
                tokio::select! {
                    () = &mut left => break,
                    Some(event) = self.events.next() => {
                        // Nothing is over because of what comes now.
                        let _ = self.on_event(event).await;
                    }
                }
            }
            while let Some(Some(event)) = self.events.next().now_or_never() {
                let _ = self.on_event(event).await;
            }
        };
        if tokio::time::timeout(patience + GRACE, leaving).await.is_err() {
            tracing::warn!("could not leave in time; the others will notice");
        }
    }
}

/// Which messages of this member are not confirmed yet.
#[derive(Debug, Default)]
struct Receipts {
    /// In order. Bounded by what the session takes in.
    open: VecDeque<(u64, Instant)>,
    /// All up to this one are confirmed.
    confirmed: u64,
    /// By so many members.
    members: u32,
    /// Messages taken in.
    taken: u64,
}

impl Receipts {
    fn on_taken(&mut self, seq: SeqNo) {
        self.taken += 1;
        self.open.push_back((seq.0, Instant::now()));
    }

    fn on_delivered(&mut self, seq: SeqNo, members: u32) {
        self.confirmed = self.confirmed.max(seq.0);
        self.members = members;
    }

    /// Nobody else is there to confirm anything. Whether that closes any.
    fn on_alone(&mut self) -> bool {
        let Some((last, _)) = self.open.back() else { return false };
        self.confirmed = self.confirmed.max(*last);
        self.members = 0;
        true
    }

    /// The next message that is confirmed: its number, by how many, how long it took.
    fn next(&mut self) -> Option<(u64, u32, Duration)> {
        let (seq, taken) = *self.open.front()?;
        if seq > self.confirmed {
            return None;
        }
        self.open.pop_front();
        Some((seq, self.members, taken.elapsed()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_that_comes_before_its_number_is_not_lost() {
        let mut receipts = Receipts::default();
        receipts.on_delivered(SeqNo(2), 3);
        assert_eq!(receipts.next(), None);
        for seq in 1..=3 {
            receipts.on_taken(SeqNo(seq));
        }
        assert_eq!(receipts.next().map(|(seq, members, _)| (seq, members)), Some((1, 3)));
        assert_eq!(receipts.next().map(|(seq, ..)| seq), Some(2));
        assert_eq!(receipts.next(), None);
        assert_eq!(receipts.open.len(), 1);
    }

    #[test]
    fn alone_everything_counts_as_delivered_to_nobody() {
        let mut receipts = Receipts::default();
        assert!(!receipts.on_alone());
        receipts.on_taken(SeqNo(1));
        assert!(receipts.on_alone());
        assert_eq!(receipts.next().map(|(seq, members, _)| (seq, members)), Some((1, 0)));
    }
}
