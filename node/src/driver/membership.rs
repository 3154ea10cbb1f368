//! One joined session of this node: its engine, the I/O of its edges, the application's channels.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    codec,
    id::{Incarnation, MemberId, SeqNo, SessionId},
    keys::Access,
    limits,
    push::{Push, PushError},
    refusal::Code,
    seal::PayloadRoot,
    session::Joined,
};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    gossipsub::{IdentTopic, TopicHash},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::{
    Asked, Behaviour, Driver, Exchange, FromEdge, Internal, Link, Opened, Wake, address,
    application::Application,
    edge::{self, CoordinatorClock, Door, EdgeIo, Inbox},
    joining::{ANSWERS, Joining, Outcome},
    now,
    tasks::Tasks,
};
use crate::{
    engine::{
        Engine, Identity,
        event::{self, Draft, EdgeId, Input, Output},
        silence,
    },
    error::{JoinError, SendError},
    impairment::Stream,
    proof::{FrameChecker, FrameMaker},
    session::{Confirmation, Event, Events, HANDED_BYTES, Inner, Seat, Session, Status},
};

/// Frames sealed and signed as one batch.
const DRAFTS_PER_BATCH: usize = 16;
/// A renewal that is due is answered by then, or the coordinator is looked at.
const RENEWED: Duration = Duration::from_secs(1);
/// Batches that wait to be sealed and signed.
const BATCHES_AHEAD: usize = 2;

/// What is there once the coordinator has let the node in.
struct Admission {
    checker: Arc<FrameChecker>,
    maker: Arc<Mutex<FrameMaker>>,
    drafts: mpsc::Sender<Vec<Draft>>,
    clock: watch::Sender<CoordinatorClock>,
}

/// A leave that waits until everything is delivered, or its time is over.
struct Leaving {
    deadline: Instant,
    done: Vec<oneshot::Sender<()>>,
    asked: bool,
}

/// A join that the coordinator has not answered yet.
struct Waiting {
    answer: oneshot::Sender<Outcome>,
    deadline: Instant,
    /// The coordinator had said to come again when it was over.
    is_extended: bool,
    session: Session,
    events: Events,
}

pub(super) struct Membership {
    session: SessionId,
    coordinator: MemberId,
    coordinator_addresses: address::Known,
    /// Where trees are pushed; known once the coordinator has let it in.
    topic: Option<IdentTopic>,
    incarnation: Incarnation,
    payload_root: Option<PayloadRoot>,
    engine: Engine,
    waiting: Option<Waiting>,
    admission: Option<Admission>,
    edges: BTreeMap<EdgeId, EdgeIo>,
    application: Application,
    /// Whether anybody holds the session.
    held: Weak<Seat>,
    leaving: Option<Leaving>,
    over: bool,
}

impl Membership {
    /// Begins to join through a coordinator that is connected.
    pub(super) fn new(
        driver: &Driver,
        joining: Joining,
        coordinator: MemberId,
        coordinator_addresses: Vec<Multiaddr>,
    ) -> Result<Self, Box<(Joining, JoinError)>> {
        let Some(commands) = driver.commands.upgrade() else {
            return Err(Box::new((joining, JoinError::Closed)));
        };
        let (mut incarnation, mut seed) = ([0; Incarnation::LEN], [0; 32]);
        if getrandom::fill(&mut incarnation).and_then(|()| getrandom::fill(&mut seed)).is_err() {
            let error = "the system gives no random numbers".to_owned();
            let address = coordinator_addresses.first().cloned().unwrap_or_else(Multiaddr::empty);
            return Err(Box::new((joining, JoinError::Address { address, reason: error })));
        }
        let Joining { invitation, answer, deadline, .. } = joining;
        let deadline = deadline.max(now() + ANSWERS);
        let access: Access = invitation.access;
        let session = access.session();
        let payload_root = access.payload_root();
        let incarnation = Incarnation::from_bytes(incarnation);
        let identity =
            Identity { member: driver.me, incarnation, nick: driver.config.nick.clone() };
        let engine =
            Engine::new(driver.config.session.clone(), identity, access, coordinator, seed, now());
        let seat = Arc::new(Seat {
            _node: commands.clone(),
            wake: driver.wake.clone(),
            coordinator: OnceLock::new(),
        });
        let held = Arc::downgrade(&seat);
        let (application, handles) = Application::new(
            driver.config.inbox_bytes,
            driver.wake.clone(),
            driver.fault.clone(),
            seat.clone(),
        );
        let handle = Session {
            inner: Arc::new(Inner {
                session,
                member: driver.me,
                incarnation,
                publish: handles.publish,
                publish_live: handles.publish_live,
                driver: commands,
                wake: driver.wake.clone(),
                handed_room: Arc::new(Semaphore::new(HANDED_BYTES)),
                apart: handles.apart,
                tree: handles.tree,
                seat,
            }),
        };
        Ok(Self {
            session,
            coordinator,
            coordinator_addresses: address::Known::new(coordinator_addresses),
            topic: None,
            incarnation,
            payload_root,
            engine,
            waiting: Some(Waiting {
                answer,
                deadline,
                is_extended: false,
                session: handle,
                events: handles.events,
            }),
            admission: None,
            edges: BTreeMap::new(),
            application,
            held,
            leaving: None,
            over: false,
        })
    }

    pub(super) const fn coordinator(&self) -> MemberId {
        self.coordinator
    }

    pub(super) fn coordinator_addresses(&self) -> &[Multiaddr] {
        self.coordinator_addresses.all()
    }

    /// The coordinator says where it can be reached.
    pub(super) fn learn_addresses(&mut self, told: &[Multiaddr]) {
        self.coordinator_addresses.learn(told);
    }

    pub(super) fn topic(&self) -> Option<TopicHash> {
        self.topic.as_ref().map(IdentTopic::hash)
    }

    /// What a push tells; `None` if it is not the coordinator's.
    pub(super) fn open_push(&self, source: Option<PeerId>, bytes: &[u8]) -> Option<Input> {
        let push: Push = codec::decode(bytes, limits::GOSSIP).ok()?;
        if source != Some(self.coordinator.peer_id()) {
            return None;
        }
        match self.engine.open(&push) {
            Ok(update) => update
                .header
                .verify(self.session, &[self.coordinator])
                .then(|| Input::Pushed(Box::new(update))),
            Err(PushError::UnknownKey) => Some(Input::Unopened { epoch: push.epoch }),
            Err(PushError::Malformed) => None,
        }
    }

    /// Whether a peer is known to be a member, or is the coordinator.
    pub(super) fn knows(&self, peer: MemberId) -> bool {
        let tree = self.engine.tree().and_then(|(_, tree)| tree);
        peer == self.coordinator || tree.is_some_and(|tree| tree.member(peer).is_some())
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// For how long a peer may be silent before it is looked at.
    pub(super) fn patience(&self, peer: PeerId) -> Duration {
        if peer == self.coordinator.peer_id() {
            return silence::CLOSE.max(self.engine.renews_within() + RENEWED);
        }
        let is_neighbour = self.edges.values().any(|io| io.peer.peer_id() == peer);
        if is_neighbour { silence::CLOSE } else { silence::FAR }
    }

    /// How late this node is at times.
    pub(super) fn lag(&self) -> Duration {
        self.engine.lag()
    }

    /// This node was late by so much.
    pub(super) fn be_patient(&mut self, late: Duration) {
        if let Some(waiting) = &mut self.waiting {
            waiting.deadline += late;
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.engine.handle(input, now());
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().filter(|leaving| !leaving.asked);
        [
            self.engine.poll_timeout(),
            self.waiting.as_ref().map(|waiting| waiting.deadline),
            leaving.map(|leaving| leaving.deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.engine.handle(Input::Tick, now);
        // One that says when to come again is there.
        let is_told = self.engine.put_off().is_some_and(|refusal| refusal.code == Code::BUSY);
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.deadline <= now)
            && is_told
            && !waiting.is_extended
        {
            waiting.deadline = now + ANSWERS;
            waiting.is_extended = true;
        }
        if self.waiting.as_ref().is_some_and(|waiting| waiting.deadline <= now)
            && let Some(waiting) = self.waiting.take()
        {
            let tried = self.engine.put_off().map_or_else(
                || "it was reached, but does not answer".to_owned(),
                |refusal| format!("it was reached, but puts this node off: {refusal}"),
            );
            let _ = waiting.answer.send(Err(JoinError::Unreachable { tried }));
            self.over = true;
        }
    }

    /// Leaves as soon as everything is delivered, at `deadline` at the latest.
    pub(super) fn leave(&mut self, deadline: Instant, done: Option<oneshot::Sender<()>>) {
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            deadline,
            done: Vec::new(),
            asked: false,
        });
        leaving.deadline = leaving.deadline.min(deadline);
        leaving.done.extend(done);
    }

    /// A peer's best connection changed.
    pub(super) fn link_changed(
        &mut self,
        peer: MemberId,
        before: Option<Link>,
        after: Option<Link>,
    ) {
        if peer == self.coordinator {
            match (before, after) {
                (None, Some(_)) => self.handle(Input::CoordinatorUp),
                (Some(_), None) => self.handle(Input::CoordinatorDown),
                (Some(_), Some(_)) | (None, None) => {}
            }
            return;
        }
        match after {
            Some(link) if before != after => {
                self.handle(Input::ChannelUp { peer, kind: link.kind, transport: link.transport });
            }
            None if before.is_some() => {
                let gone: Vec<EdgeId> = self
                    .edges
                    .iter()
                    .filter(|(_, io)| io.peer == peer)
                    .map(|(edge, _)| *edge)
                    .collect();
                for edge in gone {
                    self.edge_down(edge);
                }
                self.handle(Input::ChannelDown { peer });
            }
            Some(_) | None => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them are the edge's parts")]
    pub(super) fn edge_up(
        &mut self,
        edge: EdgeId,
        peer: MemberId,
        opened: Opened,
        data: Stream,
        inbox: &Inbox,
        wake: &Wake,
        tasks: &Tasks,
    ) {
        let Some(admission) = &self.admission else { return };
        let io = edge::run(
            self.session,
            edge,
            peer,
            opened.stream,
            data,
            admission.checker.clone(),
            admission.clock.subscribe(),
            inbox,
            wake,
            tasks,
        );
        self.edges.insert(edge, io);
        self.handle(Input::EdgeUp { edge, peer, epoch: opened.epoch });
    }

    fn edge_down(&mut self, edge: EdgeId) {
        if self.edges.remove(&edge).is_some() {
            self.handle(Input::EdgeDown { edge });
        }
    }

    /// With whom an edge is.
    pub(super) fn edge_peer(&self, edge: EdgeId) -> Option<PeerId> {
        self.edges.get(&edge).map(|io| io.peer.peer_id())
    }

    pub(super) fn on_edge(&mut self, edge: EdgeId, news: FromEdge) {
        // What was read before an edge was closed is of no use after.
        if !self.edges.contains_key(&edge) {
            return;
        }
        match news {
            FromEdge::Message(message) => self.handle(Input::EdgeMessage { edge, message }),
            FromEdge::Frame(frame, payload) => self.handle(Input::Frame { edge, frame, payload }),
            FromEdge::Alive => self.handle(Input::EdgeAlive { edge }),
            FromEdge::BadFrame => self.handle(Input::BadFrame { edge }),
            FromEdge::Closed => self.edge_down(edge),
        }
    }

    /// Does all that can be done now without waiting.
    pub(super) fn pump(&mut self, driver: &mut Driver) {
        loop {
            self.take_outputs(driver);
            let progress = self.application.publish(&mut self.engine, now())
                | self.make_frames()
                | self.fill_edges()
                | self.deliver(driver)
                | self.leave_if_due();
            if !progress {
                break;
            }
        }
        for (edge, io) in &self.edges {
            let may_read = self.engine.may_read(*edge);
            io.may_read.send_if_modified(|was| std::mem::replace(was, may_read) != may_read);
        }
    }

    fn take_outputs(&mut self, driver: &mut Driver) {
        while let Some(output) = self.engine.poll_output() {
            self.on_output(output, driver);
        }
    }

    /// Gives the application what it has room for. True if there was anything.
    fn deliver(&mut self, driver: &mut Driver) -> bool {
        let mut progress = false;
        while let Some(message) = self.application.take(&mut self.engine, now()) {
            self.take_outputs(driver);
            self.application.give(message);
            progress = true;
        }
        progress
    }

    fn on_output(&mut self, output: Output, driver: &mut Driver) {
        let coordinator = self.coordinator.peer_id();
        let behaviour = driver.swarm.behaviour_mut();
        let mut asked = |exchange, id, request| {
            driver.requests.insert((exchange, id), Asked::Engine(self.session, request));
        };
        match output {
            Output::SessionRequest { request, body } => {
                let id = behaviour.session.send_request(&coordinator, Ok(body));
                asked(Exchange::Session, id, request);
            }
            Output::ReportRequest { request, body } => {
                let id = behaviour.report.send_request(&coordinator, Ok(*body));
                asked(Exchange::Report, id, request);
            }
            Output::PathRequest { request, body } => {
                let id = behaviour.path.send_request(&coordinator, Ok(body));
                asked(Exchange::Path, id, request);
            }
            Output::Dial(contact) => {
                if !driver.dial_candidate(&contact) {
                    self.handle(Input::DialFailed { peer: contact.member });
                }
            }
            Output::Probe { peer, serial, train } => {
                driver.probe(self.session, peer, serial, train);
            }
            Output::OpenEdge { peer } => driver.open_edge(self.session, peer),
            Output::CloseEdge { edge } => self.edge_down(edge),
            Output::Event(event) => self.on_event(event, driver),
        }
    }

    fn on_event(&mut self, event: event::Event, driver: &mut Driver) {
        let news = match event {
            event::Event::Admitted(joined) => return self.admitted(&joined, driver),
            event::Event::Recertified(certificate) => {
                if let Some(admission) = &self.admission {
                    admission
                        .maker
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .set_certificate(&certificate);
                }
                driver.doors.update(self.session, |door| door.certificate = *certificate);
                return;
            }
            event::Event::Refused(refusal) => {
                self.over = true;
                match self.waiting.take() {
                    Some(waiting) => {
                        let _ = waiting.answer.send(Err(JoinError::Refused(refusal)));
                        return;
                    }
                    None => Event::Ended(refusal),
                }
            }
            event::Event::Queued { id, seq } => {
                self.application.published(id, Ok(seq));
                return;
            }
            event::Event::Rejected { id, why } => {
                self.application.published(id, Err(SendError::Rejected(why)));
                return;
            }
            event::Event::Ended => {
                self.over = true;
                return;
            }
            event::Event::Delivered { seq, members, to } => {
                self.application.confirmed(to, seq);
                Event::Delivered { seq, members, to }
            }
            event::Event::Confirmed { id, seq, members, complete, missing } => {
                let confirmation = Confirmation { seq, members, complete, missing };
                self.application.answer(id, confirmation);
                return;
            }
            event::Event::Missed { to, from, last, reason } => {
                warn!(session = ?self.session, %to, %from, %last, %reason, "messages given up");
                self.application.confirmed(Some(to), last);
                Event::Missed { to, from, last, reason }
            }
            event::Event::Tree(tree) => {
                driver.members_changed = true;
                driver.doors.update(self.session, |door| door.epoch = tree.epoch);
                Event::Tree(tree)
            }
            event::Event::Lost { flow, from, to, reason } => {
                warn!(session = ?self.session, ?flow, %from, %to, %reason, "messages lost");
                Event::Lost { flow, from, to, reason }
            }
            event::Event::CoordinatorLost(reason) => Event::CoordinatorLost(reason),
            event::Event::Detached(refusal) => {
                warn!(session = ?self.session, reason = refusal.message, "detached");
                Event::Detached(refusal)
            }
            event::Event::CoordinatorBack => Event::CoordinatorBack,
            event::Event::Joined(who) => Event::Joined(who),
            event::Event::Left(who) => Event::Left(who),
            event::Event::Channel(channel) => Event::Channel(channel),
            event::Event::Warning(warning) => Event::Warning(warning),
        };
        self.application.tell(news);
    }

    /// The coordinator let the node in, for the first time or again.
    fn admitted(&mut self, joined: &Joined, driver: &mut Driver) {
        info!(session = %self.session, coordinator = %self.coordinator, "admitted");
        let clock = CoordinatorClock::new(joined.terms.now_s);
        let door = Door {
            coordinators: vec![self.coordinator],
            certificate: joined.certificate,
            clock,
            epoch: self.engine.tree().map(|(epoch, _)| epoch).unwrap_or_default(),
        };
        driver.doors.set(self.session, door);
        if let Some(admission) = &self.admission {
            admission
                .maker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .set_certificate(&joined.certificate);
            admission.clock.send_replace(clock);
        } else {
            self.admission = Some(self.admission(joined, clock, driver));
        }
        let topic = joined.push.as_ref().filter(|_| self.engine.follows_pushes());
        self.follow(topic.map(|push| IdentTopic::new(push.topic())), &mut driver.swarm);
        if let Some(waiting) = self.waiting.take() {
            // If nobody waits any more, dropping the handle leaves the session.
            let _ = waiting.answer.send(Ok((waiting.session, waiting.events)));
        }
    }

    /// Follows this topic from now on, and no other. Another start of the coordinator has another one.
    fn follow(&mut self, topic: Option<IdentTopic>, swarm: &mut Swarm<Behaviour>) {
        let gossipsub = swarm.behaviour_mut().gossipsub.inner();
        if topic.as_ref().map(IdentTopic::hash) == self.topic() {
            return;
        }
        if let Some(before) = &self.topic {
            gossipsub.unsubscribe(before);
        }
        if let Some(topic) = &topic
            && let Err(error) = gossipsub.subscribe(topic)
        {
            warn!(%error, "cannot follow the session's topic");
        }
        self.topic = topic;
    }

    fn admission(&self, joined: &Joined, clock: CoordinatorClock, driver: &Driver) -> Admission {
        let maker = Arc::new(Mutex::new(FrameMaker::new(
            driver.keypair.clone(),
            &joined.certificate,
            self.payload_root.clone(),
        )));
        let checker = Arc::new(FrameChecker::new(
            self.session,
            vec![self.coordinator],
            self.payload_root.clone(),
        ));
        let (drafts, mut batches) = mpsc::channel::<Vec<Draft>>(BATCHES_AHEAD);
        let (session, internal, making) = (self.session, driver.internal.clone(), maker.clone());
        driver.tasks.spawn(async move {
            while let Some(batch) = batches.recv().await {
                let frames = making.lock().unwrap_or_else(PoisonError::into_inner).make(batch);
                if internal.send(Internal::Made { session, frames }).await.is_err() {
                    return;
                }
            }
        });
        Admission { checker, maker, drafts, clock: watch::Sender::new(clock) }
    }

    /// Hands what is to be sealed and signed to the task that does it.
    fn make_frames(&mut self) -> bool {
        let Some(admission) = &self.admission else { return false };
        let mut progress = false;
        while let Ok(room) = admission.drafts.try_reserve() {
            let batch: Vec<Draft> = std::iter::from_fn(|| self.engine.poll_draft(now()))
                .take(DRAFTS_PER_BATCH)
                .collect();
            if batch.is_empty() {
                break;
            }
            room.send(batch);
            progress = true;
        }
        progress
    }

    fn fill_edges(&mut self) -> bool {
        let mut progress = false;
        for (edge, io) in &self.edges {
            while let Ok(room) = io.control.try_reserve()
                && let Some(message) = self.engine.poll_edge_message(*edge, now())
            {
                room.send(message);
                progress = true;
            }
            while let Ok(room) = io.data.try_reserve()
                && let Some(frame) = self.engine.poll_frame(*edge, now())
            {
                room.send(frame);
                progress = true;
            }
        }
        progress
    }

    fn leave_if_due(&mut self) -> bool {
        if self.held.strong_count() == 0 && self.leaving.is_none() {
            self.leave(now(), None);
        }
        let Some(leaving) = &mut self.leaving else { return false };
        if leaving.asked {
            return false;
        }
        let sent = self.application.is_drained()
            && self.application.is_confirmed()
            && self.engine.live_has_gone();
        if !sent && leaving.deadline > now() {
            return false;
        }
        leaving.asked = true;
        debug!(session = ?self.session, everything_delivered = sent, "leaving");
        self.application.close();
        self.handle(Input::Leave);
        true
    }

    /// Finds out whether all who should have a message do.
    pub(super) fn confirm(
        &mut self,
        to: Option<MemberId>,
        seq: SeqNo,
        within: Duration,
        answer: oneshot::Sender<Confirmation>,
    ) {
        let id = self.application.ask(answer);
        self.handle(Input::Confirm { id, to, seq, within });
    }

    pub(super) fn status(&self, session: SessionId, member: MemberId) -> Status {
        let (tree, stats) = (self.engine.tree(), self.engine.stats());
        Status {
            session,
            member,
            incarnation: self.incarnation,
            coordinator: self.coordinator,
            epoch: tree.map(|(epoch, _)| epoch),
            tree: self.application.tree().and_then(|newest| newest.tree),
            neighbours: self.engine.neighbours().collect(),
            channels: self.engine.channels().collect(),
            control: stats.control,
            relay: stats.relay.clone(),
        }
    }

    /// The session is over: lets go of everything, and of the application last.
    pub(super) fn end(mut self, swarm: &mut Swarm<Behaviour>, tasks: &Tasks) {
        self.follow(None, swarm);
        self.application.end(tasks);
        for done in self.leaving.into_iter().flat_map(|leaving| leaving.done) {
            let _ = done.send(());
        }
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("session", &self.session).finish_non_exhaustive()
    }
}
