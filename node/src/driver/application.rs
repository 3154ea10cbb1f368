//! The application's end of a session: what it publishes, what it is told, and how much of that may
//! wait for it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use arborcast_protocol::id::{Class, MemberId, SeqNo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::warn;

use super::{Fault, Wake, tasks::Tasks};
use crate::{
    engine::{
        Engine,
        event::{ConfirmId, Input, Message, PublishId, TreeEvent},
    },
    error::SendError,
    session::{Confirmation, Event, Events, Publish, Seat},
};

/// Messages that wait between a [`crate::Session`] handle and the engine.
const PUBLISHED_AHEAD: usize = 16;
/// Events that wait for the application; all of them are bounded by bytes as well.
const EVENTS_AHEAD: usize = 1024;
/// Events that wait for room among those: no messages, and one tree at most.
const BACKLOG: usize = 4096;
/// What an event takes of the room, beside what it holds, in bytes.
const EVENT_WEIGHT: usize = 64;
/// What a tree takes for each member and each edge.
const MEMBER_WEIGHT: usize = 200;

/// Who is to confirm a message: its only receiver, or all, under `None`. Nobody confirms one of class
/// live.
type Awaited = Option<Option<MemberId>>;

/// An event, and what it takes of the room.
type Waiting = (Event, Option<OwnedSemaphorePermit>);

/// Where the outcome of a message goes.
type Outcome = oneshot::Sender<Result<SeqNo, SendError>>;

pub(super) struct Application {
    events: mpsc::Sender<Waiting>,
    backlog: VecDeque<Waiting>,
    /// Bytes that may still wait.
    room: Arc<Semaphore>,
    room_bytes: usize,
    publish: mpsc::Receiver<Publish>,
    /// The same for messages of class live, which do not wait behind others.
    live: mpsc::Receiver<Publish>,
    outcomes: HashMap<PublishId, (Awaited, Outcome)>,
    /// Whom to tell what the engine finds out about a message. Bounded by the engine's questions, and
    /// by what is answered at once.
    asked: HashMap<ConfirmId, oneshot::Sender<Confirmation>>,
    next_question: u64,
    next_publish: u64,
    /// The last message that is not confirmed yet, of those for all and of those for one receiver
    /// each. Bounded by the engine's receivers.
    unconfirmed: BTreeMap<Option<MemberId>, SeqNo>,
}

impl Application {
    /// Both ends: this one, and what goes into the handles: for messages that wait for room, and for
    /// those of class live, and the events.
    pub(super) fn new(
        inbox_bytes: usize,
        wake: Wake,
        fault: Fault,
        seat: Arc<Seat>,
    ) -> (Self, [mpsc::Sender<Publish>; 2], Events) {
        let (publish, published) = mpsc::channel(PUBLISHED_AHEAD);
        let (publish_live, live) = mpsc::channel(PUBLISHED_AHEAD);
        let (events, inbox) = mpsc::channel(EVENTS_AHEAD);
        let application = Self {
            events,
            backlog: VecDeque::new(),
            room: Arc::new(Semaphore::new(inbox_bytes)),
            room_bytes: inbox_bytes,
            publish: published,
            live,
            outcomes: HashMap::new(),
            asked: HashMap::new(),
            next_question: 0,
            next_publish: 0,
            unconfirmed: BTreeMap::new(),
        };
        let events = Events { inbox, wake, fault, is_over: false, _seat: seat };
        (application, [publish, publish_live], events)
    }

    /// Hands the engine what was published, as long as it takes more. True if there was anything.
    pub(super) fn publish(&mut self, engine: &mut Engine, now: Instant) -> bool {
        let mut progress = false;
        // What is published while this runs is for the next time: there is always room for it.
        for _ in 0..PUBLISHED_AHEAD {
            if engine.may_publish_live()
                && let Ok(publish) = self.live.try_recv()
            {
                self.hand_over(publish, engine, now);
                progress = true;
            }
        }
        while engine.may_publish()
            && let Ok(publish) = self.publish.try_recv()
        {
            self.hand_over(publish, engine, now);
            progress = true;
        }
        progress
    }

    fn hand_over(&mut self, publish: Publish, engine: &mut Engine, now: Instant) {
        let Publish { service, class, to, payload, outcome } = publish;
        self.next_publish += 1;
        let id = PublishId(self.next_publish);
        let awaited = match class {
            Class::Reliable => Some(to),
            Class::Live => None,
        };
        self.outcomes.insert(id, (awaited, outcome));
        engine.handle(Input::Publish { id, service, class, to, payload }, now);
    }

    /// What became of a message.
    pub(super) fn published(&mut self, id: PublishId, outcome: Result<SeqNo, SendError>) {
        if let Some((awaited, answer)) = self.outcomes.remove(&id) {
            if let (Ok(seq), Some(to)) = (&outcome, awaited) {
                self.unconfirmed.insert(to, *seq);
            }
            // The sender may not have waited for it.
            let _ = answer.send(outcome);
        }
    }

    /// Names a question, for its answer.
    pub(super) fn ask(&mut self, answer: oneshot::Sender<Confirmation>) -> ConfirmId {
        self.next_question += 1;
        let id = ConfirmId(self.next_question);
        self.asked.insert(id, answer);
        id
    }

    /// The answer came.
    pub(super) fn answer(&mut self, id: ConfirmId, confirmation: Confirmation) {
        if let Some(answer) = self.asked.remove(&id) {
            // Whoever asked may not have waited for it.
            let _ = answer.send(confirmation);
        }
    }

    /// All messages for `to` up to `seq` are where they should be, or given up.
    pub(super) fn confirmed(&mut self, to: Option<MemberId>, seq: SeqNo) {
        if self.unconfirmed.get(&to).is_some_and(|last| *last <= seq) {
            self.unconfirmed.remove(&to);
        }
    }

    /// Whether nothing is waited for.
    pub(super) fn is_confirmed(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// Whether everything that was published is with the engine.
    pub(super) fn is_drained(&self) -> bool {
        self.publish.is_empty() && self.live.is_empty() && self.outcomes.is_empty()
    }

    /// Takes nothing more.
    pub(super) fn close(&mut self) {
        self.publish.close();
        self.live.close();
    }

    /// Tells an event, now or when there is room, after all that was told before.
    pub(super) fn tell(&mut self, event: Event) {
        self.put((event, None));
    }

    /// Gives the application a message, after all that was told before.
    pub(super) fn give(&mut self, message: Message) {
        let room = self.take_room(message.payload.len() + EVENT_WEIGHT);
        self.put((Event::Message(message), room));
    }

    fn put(&mut self, waiting: Waiting) {
        if let Some(older) = self.backlog.iter().rposition(|(older, _)| replaces(&waiting.0, older))
        {
            self.backlog.remove(older);
        }
        self.backlog.push_back(waiting);
        self.flush();
        if self.backlog.len() > BACKLOG {
            // What is lost is never lost in silence.
            let may_go =
                |(event, _): &Waiting| !matches!(event, Event::Message(_) | Event::Lost { .. });
            if let Some(oldest) = self.backlog.iter().position(may_go) {
                warn!("the application takes no events; the oldest is dropped");
                self.backlog.remove(oldest);
            }
        }
    }

    fn flush(&mut self) {
        if self.events.is_closed() {
            // Nobody listens: received and thrown away, so that no source is held back.
            self.backlog.clear();
        }
        while let Some((event, _)) = self.backlog.front() {
            // A message has its room already.
            let is_message = matches!(event, Event::Message(_));
            let weight = weight(event).min(self.room_bytes);
            if !is_message && weight > self.room.available_permits() {
                return;
            }
            let Ok(place) = self.events.try_reserve() else { return };
            let Some((event, room)) = self.backlog.pop_front() else { return };
            let room = if is_message { room } else { self.take_room(weight) };
            place.send((event, room));
        }
    }

    /// Takes the next message from the engine, if the application has room for it. What the engine puts
    /// out then, a loss before the message, has to be told before the message is [given](Self::give).
    pub(super) fn take(&mut self, engine: &mut Engine, now: Instant) -> Option<Message> {
        self.flush();
        let has_room = self.backlog.is_empty()
            && self.events.capacity() > 0
            // Room for the smallest message; what the real one takes is taken after it is known.
            && self.room.available_permits() > EVENT_WEIGHT;
        if has_room || self.events.is_closed() { engine.poll_delivery(now) } else { None }
    }

    /// Takes so much of the room, or whatever is left if it weighs more.
    fn take_room(&self, weight: usize) -> Option<OwnedSemaphorePermit> {
        let weight = weight.min(self.room_bytes).min(self.room.available_permits());
        self.room.clone().try_acquire_many_owned(u32::try_from(weight).ok()?).ok()
    }

    /// The session is over: lets the application have what still waits for it.
    pub(super) fn end(self, tasks: &Tasks) {
        let Self { events, backlog, .. } = self;
        if !backlog.is_empty() {
            tasks.spawn(async move {
                for waiting in backlog {
                    if events.send(waiting).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

/// Bytes that an event makes wait, about.
fn weight(event: &Event) -> usize {
    let Event::Tree(TreeEvent { tree: Some(tree), .. }) = event else { return EVENT_WEIGHT };
    EVENT_WEIGHT + MEMBER_WEIGHT * (tree.members().len() + tree.edges().len())
}

/// Whether the older event says nothing any more once the newer one is told.
fn replaces(newer: &Event, older: &Event) -> bool {
    match (newer, older) {
        (Event::Tree(_), Event::Tree(_)) => true,
        (Event::Delivered { to: newer, .. }, Event::Delivered { to: older, .. }) => newer == older,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::{
        id::{Epoch, Flow, ServiceId, Term},
        testing,
        tree::{Member, Tree},
    };
    use bytes::Bytes;

    use super::*;

    fn message() -> Message {
        Message {
            source: testing::member(1),
            incarnation: testing::incarnation(1),
            class: Class::Reliable,
            seq: SeqNo(9),
            service: ServiceId(0),
            to: None,
            payload: Bytes::from_static(b"after the loss"),
        }
    }

    fn loss() -> Event {
        let (source, incarnation) = (testing::member(1), testing::incarnation(1));
        let flow = Flow { source, incarnation, class: Class::Reliable, to: None };
        Event::Lost { flow, from: SeqNo(1), to: SeqNo(8), reason: "gone".to_owned() }
    }

    fn application(inbox_bytes: usize) -> (Application, [mpsc::Sender<Publish>; 2], Events) {
        let seat = Seat { _node: mpsc::channel(1).0, wake: Wake::default() };
        Application::new(inbox_bytes, Wake::default(), Fault::default(), Arc::new(seat))
    }

    #[test]
    fn trees_that_nobody_takes_are_bounded_in_bytes_and_the_newest_comes() {
        const ROOM: usize = 1 << 20;
        let (mut application, _handles, mut events) = application(ROOM);
        let members = (0..1_000).map(|n| Member {
            id: testing::member(n),
            incarnation: testing::incarnation(n),
            nick: String::new(),
            group: 0,
        });
        let tree = Arc::new(Tree::new(members, [], []).expect("a forest"));
        for counter in 1..=5_000 {
            application.tell(Event::Tree(TreeEvent {
                epoch: Epoch { term: Term(1), counter },
                tree: Some(tree.clone()),
                neighbours: Vec::new(),
                overlap: Vec::new(),
            }));
        }
        let waiting = application.backlog.len() + events.inbox.len();
        assert!(waiting <= 1 + ROOM / (1_000 * MEMBER_WEIGHT), "{waiting} trees wait");
        let mut newest = None;
        while let Ok((event, room)) = events.inbox.try_recv() {
            drop(room);
            if let Event::Tree(tree) = event {
                newest = Some(tree.epoch.counter);
            }
            application.flush();
        }
        assert_eq!(newest, Some(5_000));
    }

    #[test]
    fn an_application_that_takes_nothing_for_long_still_hears_of_each_loss_before_what_comes_after()
    {
        let (mut application, _handles, mut events) = application(1 << 20);
        for _ in 0..EVENTS_AHEAD {
            application.tell(Event::CoordinatorBack);
        }
        application.tell(loss());
        application.give(message());
        for _ in 0..2 * BACKLOG {
            application.tell(Event::CoordinatorBack);
        }
        assert!(application.backlog.len() <= BACKLOG);
        let mut told = Vec::new();
        while let Ok((event, _)) = events.inbox.try_recv() {
            told.push(event);
            application.flush();
        }
        let told: Vec<_> = told
            .into_iter()
            .filter(|event| matches!(event, Event::Lost { .. } | Event::Message(_)))
            .collect();
        assert!(matches!(told.as_slice(), [Event::Lost { .. }, Event::Message(_)]), "{told:?}");
    }
}
