//! The application's end of a session: what it publishes, what it is told, and how much of that may
//! wait for it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, PoisonError, Weak},
    time::Instant,
};

use arborcast_protocol::id::{Class, MemberId, SeqNo};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::warn;

use super::{Fault, Wake, tasks::Tasks};
use crate::{
    engine::{
        Engine,
        event::{ConfirmId, Input, Message, PublishId, TreeEvent},
    },
    error::SendError,
    session::{Apart, Confirmation, Event, Events, Handed, Publish, Seat, Waiting},
};

/// Messages that wait between a [`crate::Session`] handle and the engine; their bytes are bounded as well.
const PUBLISHED_AHEAD: usize = 128;
/// The same of class live, which grow old there.
const LIVE_AHEAD: usize = 16;
/// Events that wait for the application; all of them are bounded by bytes as well.
const EVENTS_AHEAD: usize = 1024;
/// Events that wait for room among those: no messages, and one tree at most.
const BACKLOG: usize = 4096;
/// Bytes of events that wait, messages not counted; a tree of a thousand members has some 400 KB.
const EVENTS_ROOM: usize = 1 << 20;
/// What an event takes of the room, beside what it holds, in bytes.
const EVENT_WEIGHT: usize = 64;
/// What a tree takes for each member and each edge.
const MEMBER_WEIGHT: usize = 200;

/// Who is to confirm a message: its only receiver, or all, under `None`. Nobody confirms one of class
/// live.
type Awaited = Option<Option<MemberId>>;

/// A message that the engine was given, until its outcome is known.
struct Published {
    awaited: Awaited,
    to: Option<MemberId>,
    outcome: oneshot::Sender<Result<SeqNo, SendError>>,
}

/// Bytes that may wait.
struct Room {
    free: Arc<Semaphore>,
    bytes: usize,
}

impl Room {
    fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes)), bytes }
    }

    /// Whether so much may still come.
    fn has(&self, weight: usize) -> bool {
        self.free.available_permits() >= weight.min(self.bytes)
    }

    /// Takes so much of it, or whatever is left if it weighs more.
    fn take(&self, weight: usize) -> Option<OwnedSemaphorePermit> {
        let weight = weight.min(self.free.available_permits());
        self.free.clone().try_acquire_many_owned(u32::try_from(weight).ok()?).ok()
    }
}

/// What the handles of a session hold.
pub(super) struct Handles {
    pub(super) publish: mpsc::Sender<Handed>,
    pub(super) publish_live: mpsc::Sender<Handed>,
    pub(super) events: Events,
    pub(super) apart: Weak<Apart>,
    pub(super) tree: watch::Receiver<Option<TreeEvent>>,
}

pub(super) struct Application {
    events: mpsc::Sender<Waiting<Event>>,
    backlog: VecDeque<Waiting<Event>>,
    /// Where messages go if not among the events.
    apart: Arc<Apart>,
    /// Of messages.
    room: Room,
    /// Of all other events, so that nobody who takes messages alone is held up by those.
    events_room: Room,
    publish: mpsc::Receiver<Handed>,
    /// The same for messages of class live, which do not wait behind others.
    live: mpsc::Receiver<Handed>,
    outcomes: BTreeMap<PublishId, Published>,
    /// Whom to tell when all messages up to one have their outcome. As many as fit into the two above, and
    /// those that are waited for.
    flushes: Vec<(PublishId, oneshot::Sender<()>)>,
    tree: watch::Sender<Option<TreeEvent>>,
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
    /// This end; the handles' are in what [`Handles`] has.
    pub(super) fn new(
        inbox_bytes: usize,
        wake: Wake,
        fault: Fault,
        seat: Arc<Seat>,
    ) -> (Self, Handles) {
        let (publish, published) = mpsc::channel(PUBLISHED_AHEAD);
        let (publish_live, live) = mpsc::channel(LIVE_AHEAD);
        let (events, inbox) = mpsc::channel(EVENTS_AHEAD);
        let (tree, newest) = watch::channel(None);
        let apart = Arc::new(Apart::default());
        let shared = Arc::downgrade(&apart);
        let application = Self {
            events,
            backlog: VecDeque::new(),
            apart,
            room: Room::new(inbox_bytes),
            events_room: Room::new(EVENTS_ROOM),
            publish: published,
            live,
            outcomes: BTreeMap::new(),
            flushes: Vec::new(),
            tree,
            asked: HashMap::new(),
            next_question: 0,
            next_publish: 0,
            unconfirmed: BTreeMap::new(),
        };
        let events = Events { inbox, wake, fault, is_over: false, is_empty: false, _seat: seat };
        (application, Handles { publish, publish_live, events, apart: shared, tree: newest })
    }

    /// The newest tree.
    pub(super) fn tree(&self) -> Option<TreeEvent> {
        self.tree.borrow().clone()
    }

    /// Hands the engine what was published, as long as it takes more. True if there was anything.
    pub(super) fn publish(&mut self, engine: &mut Engine, now: Instant) -> bool {
        let mut progress = false;
        // What is published while this runs is for the next time: there is always room for it.
        for _ in 0..LIVE_AHEAD {
            if engine.may_publish_live()
                && let Ok(handed) = self.live.try_recv()
            {
                self.hand_over(handed, engine, now);
                progress = true;
            }
        }
        while engine.may_publish()
            && let Ok(handed) = self.publish.try_recv()
        {
            self.hand_over(handed, engine, now);
            progress = true;
        }
        progress
    }

    fn hand_over(&mut self, handed: Handed, engine: &mut Engine, now: Instant) {
        let Publish { service, class, to, payload, outcome, _room } = match handed {
            Handed::Message(publish) => publish,
            Handed::Flush(done) => {
                self.flushes.push((PublishId(self.next_publish), done));
                return self.flushed();
            }
        };
        self.next_publish += 1;
        let id = PublishId(self.next_publish);
        let awaited = match class {
            Class::Reliable => Some(to),
            Class::Live => None,
        };
        self.outcomes.insert(id, Published { awaited, to, outcome });
        engine.handle(Input::Publish { id, service, class, to, payload }, now);
    }

    /// What became of a message.
    pub(super) fn published(&mut self, id: PublishId, outcome: Result<SeqNo, SendError>) {
        let Some(published) = self.outcomes.remove(&id) else { return };
        if let (Ok(seq), Some(to)) = (&outcome, published.awaited) {
            self.unconfirmed.insert(to, *seq);
        }
        if let Err(SendError::Rejected(why)) = &outcome {
            self.tell(Event::NotSent { to: published.to, why: why.clone() });
        }
        // The sender may not have waited for it.
        let _ = published.outcome.send(outcome);
        self.flushed();
    }

    /// Tells whoever waits until all before has its outcome.
    fn flushed(&mut self) {
        let open = self.outcomes.first_key_value().map(|(id, _)| *id);
        let is_over = |upto: &PublishId| open.is_none_or(|open| open > *upto);
        for (_, done) in self.flushes.extract_if(.., |(upto, _)| is_over(upto)) {
            // Whoever asked may not have waited.
            let _ = done.send(());
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
        if let Event::Tree(tree) = &event {
            self.tree.send_replace(Some(tree.clone()));
        }
        self.put((event, None));
    }

    /// Gives the application a message, after all that was told before; one that goes apart, at once.
    pub(super) fn give(&mut self, message: Message) {
        let room = self.room.take(message.payload.len() + EVENT_WEIGHT);
        match self.apart() {
            // There was room when it was taken. If nobody listens any more, the next one goes elsewhere.
            Some(apart) => drop(apart.try_send((message, room))),
            None => self.put((Event::Message(message), room)),
        }
    }

    /// Where messages go, if somebody takes them apart.
    fn apart(&self) -> Option<mpsc::Sender<Waiting<Message>>> {
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.clone().filter(|apart| !apart.is_closed())
    }

    fn put(&mut self, waiting: Waiting<Event>) {
        if let Some(older) = self.backlog.iter().rposition(|(older, _)| replaces(&waiting.0, older))
        {
            self.backlog.remove(older);
        }
        self.backlog.push_back(waiting);
        self.flush();
        if self.backlog.len() > BACKLOG {
            // What is lost is never lost in silence, unless whoever takes the messages takes no events at all.
            let is_apart = self.apart().is_some();
            let may_go = |(event, _): &Waiting<Event>| {
                is_apart || !matches!(event, Event::Message(_) | Event::Lost { .. })
            };
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
            let weight = weight(event);
            if !is_message && !self.events_room.has(weight) {
                return;
            }
            let Ok(place) = self.events.try_reserve() else { return };
            let Some((event, room)) = self.backlog.pop_front() else { return };
            let room = if is_message { room } else { self.events_room.take(weight) };
            place.send((event, room));
        }
    }

    /// Takes the next message from the engine, if the application has room for it. What the engine puts
    /// out then, a loss before the message, has to be told before the message is [given](Self::give).
    pub(super) fn take(&mut self, engine: &mut Engine, now: Instant) -> Option<Message> {
        self.flush();
        let (has_place, is_heard) = match self.apart() {
            Some(apart) => (apart.capacity() > 0, true),
            None => {
                (self.backlog.is_empty() && self.events.capacity() > 0, !self.events.is_closed())
            }
        };
        // Room for the smallest message; what the real one takes is taken after it is known.
        let has_room = has_place && self.room.has(EVENT_WEIGHT + 1);
        if has_room || !is_heard { engine.poll_delivery(now) } else { None }
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

    use std::sync::OnceLock;

    use super::*;
    use crate::engine::event::LossReason;

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
        Event::Lost { flow, from: SeqNo(1), to: SeqNo(8), reason: LossReason::NotKept }
    }

    fn application(inbox_bytes: usize) -> (Application, Handles) {
        let seat = Seat {
            _node: mpsc::channel(1).0,
            wake: Wake::default(),
            coordinator: OnceLock::default(),
        };
        Application::new(inbox_bytes, Wake::default(), Fault::default(), Arc::new(seat))
    }

    #[test]
    fn trees_that_nobody_takes_are_bounded_in_bytes_and_the_newest_comes() {
        let (mut application, mut handles) = application(1 << 20);
        let events = &mut handles.events;
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
        assert!(waiting <= 1 + EVENTS_ROOM / (1_000 * MEMBER_WEIGHT), "{waiting} trees wait");
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
        let (mut application, mut handles) = application(1 << 20);
        let events = &mut handles.events;
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
