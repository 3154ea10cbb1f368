//! A joined session as the application holds it.

use std::{sync::Arc, time::Duration};

use arborcast_protocol::{
    id::{Class, Epoch, Flow, Incarnation, MemberId, SeqNo, ServiceId, SessionId},
    refusal::{Code, Refusal},
    tree::Tree,
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    driver::{self, Fault, Wake},
    engine::{
        self, Neighbour,
        event::{ChannelEvent, ChannelState, Message, Nicked, TreeEvent},
    },
    error::SendError,
};

/// A joined session. Cheap to clone; the session is left when [`Session::leave`] is called, or the
/// last clone and its [`Events`] are dropped.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) session: SessionId,
    pub(crate) member: MemberId,
    pub(crate) incarnation: Incarnation,
    pub(crate) publish: mpsc::Sender<Publish>,
    pub(crate) publish_live: mpsc::Sender<Publish>,
    pub(crate) driver: mpsc::Sender<driver::Command>,
    pub(crate) wake: Wake,
    /// Leaves when nobody has it any more.
    pub(crate) _seat: Arc<Seat>,
}

/// Held by all who hold the session: when the last of them drops it, the session is left without waiting.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The node lives as long as this does.
    pub(crate) _node: mpsc::Sender<driver::Command>,
    /// So that the node looks whether anybody is left.
    pub(crate) wake: Wake,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// A message on its way from the application to the engine.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) service: ServiceId,
    pub(crate) class: Class,
    pub(crate) to: Option<MemberId>,
    pub(crate) payload: Bytes,
    pub(crate) outcome: oneshot::Sender<Result<SeqNo, SendError>>,
}

/// A message that was handed over with [`Session::queue`].
#[derive(Debug)]
pub struct Queued {
    answer: oneshot::Receiver<Result<SeqNo, SendError>>,
}

impl Queued {
    /// The message's number, once it is taken in.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn seq(self) -> Result<SeqNo, SendError> {
        self.answer.await.map_err(|_| SendError::Closed)?
    }
}

/// Who has a message, as far as that was found out in time.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Confirmation {
    /// Which message.
    pub seq: SeqNo,
    /// How many members are known to have it, its sender not counted.
    pub members: u32,
    /// All present members do, or its only receiver.
    pub complete: bool,
    /// Who is not known to have it, as far as this node knows who is there.
    pub missing: Vec<MemberId>,
}

/// What happens in a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message, in order per source; those for this node alone are in an order of their own.
    Message(Message),
    /// Somebody came into the relay tree.
    Joined(Nicked),
    /// Somebody left it.
    Left(Nicked),
    /// A new relay tree.
    Tree(TreeEvent),
    /// A channel came up, went down or changed.
    Channel(ChannelEvent),
    /// All present members have all messages of this node for all up to this one; or the only
    /// receiver has those for it alone.
    Delivered {
        /// The highest such message.
        seq: SeqNo,
        /// How many members that are, this node not counted.
        members: u32,
        /// The only receiver of those messages; `None` for messages for all.
        to: Option<MemberId>,
    },
    /// A receiver is not known to have messages that this node sent to it alone, and never will: it
    /// has left.
    Missed {
        /// The receiver.
        to: MemberId,
        /// The first of them. Messages for others may lie between.
        from: SeqNo,
        /// The last of them.
        last: SeqNo,
        /// Why.
        reason: String,
    },
    /// Messages that will never come.
    Lost {
        /// Of which flow.
        flow: Flow,
        /// The first lost message.
        from: SeqNo,
        /// The last lost message. Messages that were not for this node may lie between.
        to: SeqNo,
        /// Why.
        reason: String,
    },
    /// This node kept the others waiting, for the reason told, and is not a member for now. It joins again
    /// by itself once it can take messages; what it missed and nobody has kept is told as lost then.
    Detached(Refusal),
    /// The coordinator does not answer; messages still flow, joins wait.
    CoordinatorLost(String),
    /// The coordinator answers again.
    CoordinatorBack,
    /// Something went wrong that people may want to know.
    Warning(String),
    /// The coordinator ended this node's membership, or the node has failed ([`Code::FAULT`]). The last
    /// event.
    Ended(Refusal),
}

/// The events of a session, one after another. As long as they are there, or a [`Session`], it is not left.
#[derive(Debug)]
pub struct Events {
    pub(crate) inbox: mpsc::Receiver<(Event, Option<OwnedSemaphorePermit>)>,
    pub(crate) wake: Wake,
    pub(crate) fault: Fault,
    /// The last event was told.
    pub(crate) is_over: bool,
    pub(crate) _seat: Arc<Seat>,
}

impl Events {
    /// The next event; `None` once the session has ended and all events were taken.
    ///
    /// While the application takes no events, messages wait for it within
    /// [`crate::Config::inbox_bytes`], and then their sources are held back. Drop the `Events` to
    /// go on without: messages are then received and thrown away.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some((event, room)) = self.inbox.recv().await {
            drop(room);
            self.wake.notify_one();
            self.is_over |= matches!(event, Event::Ended(_));
            return Some(event);
        }
        let fault = self.fault.get().filter(|_| !std::mem::replace(&mut self.is_over, true))?;
        Some(Event::Ended(Refusal::new(Code::FAULT, fault)))
    }
}

/// What a node knows of its session at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which session.
    pub session: SessionId,
    /// This node.
    pub member: MemberId,
    /// Its run.
    pub incarnation: Incarnation,
    /// The coordinator.
    pub coordinator: MemberId,
    /// The tree in force, if any came yet.
    pub epoch: Option<Epoch>,
    /// The whole tree, if the node follows it.
    pub tree: Option<Tree>,
    /// This node's tree neighbours.
    pub neighbours: Vec<Neighbour>,
    /// This node's channels.
    pub channels: Vec<(MemberId, ChannelState)>,
    /// Counters towards the coordinator and about edges.
    pub control: engine::Control,
    /// Counters and sizes of the data plane.
    pub relay: engine::relay::Stats,
}

impl Session {
    /// Which session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.inner.session
    }

    /// This node as member.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.inner.member
    }

    /// This run of the node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    /// Sends a message to all members. Waits while the session is behind (back-pressure), and
    /// returns the message's number once it is taken in; [`Event::Delivered`] tells when all
    /// present members have it.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<SeqNo, SendError> {
        self.send_as(ServiceId::default(), payload).await
    }

    /// The same with a service id.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_as(
        &self,
        service: ServiceId,
        payload: impl Into<Bytes>,
    ) -> Result<SeqNo, SendError> {
        self.queue(service, payload).await?.seq().await
    }

    /// Sends a message to one member alone (R9): along the path of the tree, handed out nowhere else.
    /// Members on that path can read it, as can all who hold the session's key. Numbers count all
    /// messages of this node, whomever they are for; [`Event::Delivered`] with this receiver tells
    /// when it has the message, [`Event::Missed`] that it left without.
    ///
    /// # Errors
    /// [`SendError::UnknownPeer`] if `to` is not in the session, or this node itself. A node that does
    /// not follow the whole tree cannot know; then [`Event::Missed`] comes after a while.
    pub async fn send_to(
        &self,
        to: MemberId,
        service: ServiceId,
        payload: impl Into<Bytes>,
    ) -> Result<SeqNo, SendError> {
        self.queue_to(Some(to), service, payload).await?.seq().await
    }

    /// Hands a message over, to be sent after all that were handed over before. Waits only until
    /// there is room for it, so that many small ones can share a frame; the [`Queued`] brings its
    /// number, and need not be awaited.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn queue(
        &self,
        service: ServiceId,
        payload: impl Into<Bytes>,
    ) -> Result<Queued, SendError> {
        self.queue_to(None, service, payload).await
    }

    /// The same to one member alone, or to all; see [`Session::send_to`].
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn queue_to(
        &self,
        to: Option<MemberId>,
        service: ServiceId,
        payload: impl Into<Bytes>,
    ) -> Result<Queued, SendError> {
        self.hand_over(Class::Reliable, to, service, payload.into()).await
    }

    /// Sends a message of class live to all members, for audio and video: it is sent at once, and where
    /// there is no room for all, old ones give way to new ones. A slow member loses some for itself
    /// alone, and holds nobody back; nothing is repaired, confirmed or reported lost, but what comes is
    /// in order. Returns the message's number; numbers count the messages of all classes.
    ///
    /// # Errors
    /// [`SendError::Rejected`] if it has more than 1 MiB, [`SendError::Closed`].
    pub async fn send_live(&self, payload: impl Into<Bytes>) -> Result<SeqNo, SendError> {
        self.queue_live(ServiceId::default(), payload).await?.seq().await
    }

    /// Hands over a message of class live with a service id; see [`Session::send_live`]. The
    /// [`Queued`] brings its number, and need not be awaited.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn queue_live(
        &self,
        service: ServiceId,
        payload: impl Into<Bytes>,
    ) -> Result<Queued, SendError> {
        self.hand_over(Class::Live, None, service, payload.into()).await
    }

    async fn hand_over(
        &self,
        class: Class,
        to: Option<MemberId>,
        service: ServiceId,
        payload: Bytes,
    ) -> Result<Queued, SendError> {
        let (outcome, answer) = oneshot::channel();
        let publish = Publish { service, class, to, payload, outcome };
        let way = match class {
            Class::Reliable => &self.inner.publish,
            Class::Live => &self.inner.publish_live,
        };
        way.send(publish).await.map_err(|_| SendError::Closed)?;
        self.inner.wake.notify_one();
        Ok(Queued { answer })
    }

    /// Sends a message to all, and waits until all present members have it, for `within` at most from
    /// when it is taken in: then it tells who has not.
    ///
    /// # Errors
    /// [`SendError`]. That some have not got it in time is no error.
    pub async fn send_confirmed(
        &self,
        service: ServiceId,
        payload: impl Into<Bytes>,
        within: Duration,
    ) -> Result<Confirmation, SendError> {
        let seq = self.send_as(service, payload).await?;
        self.confirm(None, seq, within).await.ok_or(SendError::Closed)
    }

    /// Waits until all who should have a message of this node do, for `within` at most, and tells who
    /// does not. `to` is the message's only receiver, or `None` if it is for all. `None` if the session
    /// has ended.
    ///
    /// More than a thousand questions at a time are answered at once by what is known.
    pub async fn confirm(
        &self,
        to: Option<MemberId>,
        seq: SeqNo,
        within: Duration,
    ) -> Option<Confirmation> {
        let (answer, confirmation) = oneshot::channel();
        let command = driver::Command::Confirm { session: self.id(), to, seq, within, answer };
        self.inner.driver.send(command).await.ok()?;
        confirmation.await.ok()
    }

    /// What the node knows now; `None` if the session has ended.
    pub async fn status(&self) -> Option<Status> {
        let (answer, status) = oneshot::channel();
        let command = driver::Command::Status { session: self.id(), answer };
        self.inner.driver.send(command).await.ok()?;
        status.await.ok()
    }

    /// The relay tree, if the node follows the whole of it.
    pub async fn tree(&self) -> Option<(Epoch, Tree)> {
        let status = self.status().await?;
        Some((status.epoch?, status.tree?))
    }

    /// Leaves: what is queued is still sent and confirmed first, for `patience` at most. What is of class
    /// live is sent.
    pub async fn leave(self, patience: Duration) {
        let (done, left) = oneshot::channel();
        let command = driver::Command::Leave { session: self.id(), patience, done };
        if self.inner.driver.send(command).await.is_ok() {
            let _ = left.await;
        }
    }
}
