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

use super::Wake;
use crate::{
    engine::{
        Engine,
        event::{ConfirmId, Input, Message, PublishId},
    },
    error::SendError,
    session::{Confirmation, Event, Events, Publish},
};

/// Messages that wait between a [`crate::Session`] handle and the engine.
const PUBLISHED_AHEAD: usize = 16;
/// Events that wait for the application; messages are bounded by bytes as well.
const EVENTS_AHEAD: usize = 1024;
/// Events, messages not counted, that wait for room among those.
const BACKLOG: usize = 4096;
/// What an event takes of the room for messages, beside the payload, in bytes.
const EVENT_WEIGHT: usize = 64;

/// Who is to confirm a message: its only receiver, or all, under `None`. Nobody confirms one of class
/// live.
type Awaited = Option<Option<MemberId>>;

/// An event, and what it takes of the room for messages, if it is one.
type Waiting = (Event, Option<OwnedSemaphorePermit>);

/// Where the outcome of a message goes.
type Outcome = oneshot::Sender<Result<SeqNo, SendError>>;

pub(super) struct Application {
    events: mpsc::Sender<Waiting>,
    backlog: VecDeque<Waiting>,
    /// Bytes of messages that may still wait.
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
        (application, [publish, publish_live], Events { inbox, wake })
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
        let room = self.take_room(&message);
        self.put((Event::Message(message), room));
    }

    fn put(&mut self, waiting: Waiting) {
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
        while !self.backlog.is_empty()
            && let Ok(room) = self.events.try_reserve()
        {
            if let Some(waiting) = self.backlog.pop_front() {
                room.send(waiting);
            }
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

    /// Takes what a message weighs of the room, or whatever room is left if it weighs more.
    fn take_room(&self, message: &Message) -> Option<OwnedSemaphorePermit> {
        let weight = (message.payload.len() + EVENT_WEIGHT)
            .min(self.room_bytes)
            .min(self.room.available_permits());
        self.room.clone().try_acquire_many_owned(u32::try_from(weight).ok()?).ok()
    }

    /// The session is over: lets the application have what still waits for it.
    pub(super) fn end(self) {
        let Self { events, backlog, .. } = self;
        if !backlog.is_empty() {
            tokio::spawn(async move {
                for waiting in backlog {
                    if events.send(waiting).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use arborcast_protocol::{
        id::{Flow, ServiceId},
        testing,
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

    #[test]
    fn an_application_that_takes_nothing_for_long_still_hears_of_each_loss_before_what_comes_after()
    {
        let (mut application, _handles, mut events) = Application::new(1 << 20, Wake::default());
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
