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

/// Where the outcome of a message goes.
type Outcome = oneshot::Sender<Result<SeqNo, SendError>>;

pub(super) struct Application {
    events: mpsc::Sender<(Event, Option<OwnedSemaphorePermit>)>,
    backlog: VecDeque<Event>,
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

    /// Tells an event, now or when there is room.
    pub(super) fn tell(&mut self, event: Event) {
        if self.events.is_closed() {
            return;
        }
        self.backlog.push_back(event);
        if self.backlog.len() > BACKLOG {
            warn!("the application takes no events; the oldest is dropped");
            self.backlog.pop_front();
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.backlog.is_empty()
            && let Ok(room) = self.events.try_reserve()
        {
            if let Some(event) = self.backlog.pop_front() {
                room.send((event, None));
            }
        }
    }

    /// Takes messages from the engine as long as the application has room. True if there was any.
    pub(super) fn deliver(&mut self, engine: &mut Engine, now: Instant) -> bool {
        self.flush();
        let mut progress = false;
        if self.events.is_closed() {
            // Nobody listens: received and thrown away, so that no source is held back.
            while engine.poll_delivery(now).is_some() {
                progress = true;
            }
            return progress;
        }
        while self.backlog.is_empty()
            && let Ok(slot) = self.events.clone().try_reserve_owned()
            // Room for the smallest message; what the real one takes is taken after it is known.
            && self.room.available_permits() > EVENT_WEIGHT
            && let Some(message) = engine.poll_delivery(now)
        {
            let room = self.take_room(&message);
            slot.send((Event::Message(message), room));
            progress = true;
        }
        progress
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
                for event in backlog {
                    if events.send((event, None)).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}
