//! A joined session as the application holds it.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use arborcast_coordinator::Coordinator;
use arborcast_protocol::{
    id::{Class, Epoch, Incarnation, MemberId, SeqNo, SessionId},
    tree::Tree,
};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    driver::{self, Wake},
    engine::{
        self, Neighbour,
        event::{ChannelState, Message, Nicked, TreeEvent},
    },
    error::SendError,
};

mod event;
mod outgoing;
mod streams;

pub use event::Event;
pub use outgoing::{Confirmation, Outgoing, Queued};
pub(crate) use outgoing::{Handed, Publish};
pub(crate) use streams::Waiting;
pub use streams::{Events, Messages};

/// How long leaving waits until all that was sent is with everybody.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of messages that wait for the engine, or one larger one.
pub(crate) const HANDED_BYTES: usize = 4 << 20;

/// Messages that wait in [`Messages`], which are bounded in bytes as well.
const MESSAGES_AHEAD: usize = 1024;

/// A joined session. Cheap to clone; the session is left when [`Session::leave`] is called, or the
/// last clone, its [`Events`] and [`Messages`] are dropped.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) session: SessionId,
    pub(crate) member: MemberId,
    pub(crate) incarnation: Incarnation,
    pub(crate) publish: mpsc::Sender<Handed>,
    pub(crate) publish_live: mpsc::Sender<Handed>,
    pub(crate) driver: mpsc::Sender<driver::Command>,
    pub(crate) wake: Wake,
    /// Bytes that may wait for the engine.
    pub(crate) handed_room: Arc<Semaphore>,
    pub(crate) apart: Weak<Apart>,
    pub(crate) tree: watch::Receiver<Option<TreeEvent>>,
    /// Leaves when nobody has it any more.
    pub(crate) seat: Arc<Seat>,
}

/// Where messages go that somebody takes apart from other events. The node's end has it: it is gone with the
/// membership.
pub(crate) type Apart = Mutex<Option<mpsc::Sender<Waiting<Message>>>>;

/// Held by all who hold the session: when the last of them drops it, the session is left without waiting.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The node lives as long as this does.
    pub(crate) _node: mpsc::Sender<driver::Command>,
    /// So that the node looks whether anybody is left.
    pub(crate) wake: Wake,
    /// The session's coordinator, if this node hosts it.
    pub(crate) coordinator: OnceLock<Coordinator>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// What a node knows of its session at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
    pub tree: Option<Arc<Tree>>,
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

    /// The session's coordinator, if it was made by [`crate::Node::host`].
    #[must_use]
    pub fn coordinator(&self) -> Option<&Coordinator> {
        self.inner.seat.coordinator.get()
    }

    /// A message, to be said more of before it is sent:
    /// `session.message("42").to(peer).service(7).send().await`.
    pub fn message(&self, payload: impl Into<Bytes>) -> Outgoing<'_> {
        Outgoing::new(self, payload.into())
    }

    /// Sends a message to all members: hands it over, to be sent after all that were handed over before. Waits
    /// only while there is no room for it because the group is behind (back-pressure).
    ///
    /// What becomes of it: [`Queued::seq`] tells its number or why it cannot be sent at all,
    /// [`Event::Delivered`] when all present members have it; see also [`Outgoing::send_confirmed`].
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn send(&self, payload: impl Into<Bytes>) -> Result<Queued, SendError> {
        self.message(payload).send().await
    }

    /// Sends a message to all, and waits until all present members have it, for `within` at most from
    /// when it is taken in: then it tells who has not.
    ///
    /// # Errors
    /// [`SendError`]. That some have not got it in time is no error.
    pub async fn send_confirmed(
        &self,
        payload: impl Into<Bytes>,
        within: Duration,
    ) -> Result<Confirmation, SendError> {
        self.message(payload).send_confirmed(within).await
    }

    /// Waits until so many bytes can wait for the engine.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, SendError> {
        let bytes = u32::try_from(bytes.min(HANDED_BYTES)).unwrap_or(u32::MAX);
        let room = self.inner.handed_room.clone();
        room.acquire_many_owned(bytes).await.map_err(|_| SendError::Closed)
    }

    pub(crate) async fn hand_over(&self, class: Class, handed: Handed) -> Result<(), SendError> {
        let way = match class {
            Class::Reliable => &self.inner.publish,
            Class::Live => &self.inner.publish_live,
        };
        way.send(handed).await.map_err(|_| SendError::Closed)?;
        self.inner.wake.notify_one();
        Ok(())
    }

    /// Waits until all messages that were handed over before have their numbers and are in the session's care:
    /// from then on they are sent, repaired and confirmed whatever the application does, as long as the node
    /// runs.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn flush(&self) -> Result<(), SendError> {
        for class in [Class::Reliable, Class::Live] {
            let (done, flushed) = oneshot::channel();
            self.hand_over(class, Handed::Flush(done)).await?;
            flushed.await.map_err(|_| SendError::Closed)?;
        }
        Ok(())
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

    /// Messages from now on apart from all other events, which go on without them. Whoever asks last gets them;
    /// who asked before gets no more. That one was lost is told as [`Event::Lost`] by then.
    #[must_use]
    pub fn messages(&self) -> Messages {
        let (apart, inbox) = mpsc::channel(MESSAGES_AHEAD);
        if let Some(own) = self.inner.apart.upgrade() {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(apart);
        }
        self.inner.wake.notify_one();
        let (wake, seat) = (self.inner.wake.clone(), self.inner.seat.clone());
        Messages { inbox, wake, is_empty: false, _seat: seat }
    }

    /// The newest relay tree, `None` before the first one; wakes whenever there is another one.
    #[must_use]
    pub fn watch_tree(&self) -> watch::Receiver<Option<TreeEvent>> {
        self.inner.tree.clone()
    }

    /// The newest relay tree, if the node follows the whole of it.
    #[must_use]
    pub fn tree(&self) -> Option<(Epoch, Arc<Tree>)> {
        let newest = self.inner.tree.borrow();
        let newest = newest.as_ref()?;
        Some((newest.epoch, newest.tree.clone()?))
    }

    /// Who is in the newest relay tree, this node too, by id; empty if the node does not follow the whole of it.
    /// Changes come as [`Event::Joined`] and [`Event::Left`], and wake [`Session::watch_tree`].
    #[must_use]
    pub fn members(&self) -> Vec<Nicked> {
        let nicked = |member: &arborcast_protocol::tree::Member| Nicked {
            member: member.id,
            nick: member.nick.clone(),
        };
        self.tree().map(|(_, tree)| tree.members().map(nicked).collect()).unwrap_or_default()
    }

    /// What the node knows now; `None` if the session has ended.
    pub async fn status(&self) -> Option<Status> {
        let (answer, status) = oneshot::channel();
        let command = driver::Command::Status { session: self.id(), answer };
        self.inner.driver.send(command).await.ok()?;
        status.await.ok()
    }

    /// Leaves: what is queued is still sent and confirmed first, for five seconds at most.
    pub async fn leave(self) {
        self.leave_within(PATIENCE).await;
    }

    /// Leaves: what is queued is still sent and confirmed first, for `patience` at most. What is of class
    /// live is sent.
    pub async fn leave_within(self, patience: Duration) {
        let (done, left) = oneshot::channel();
        let command = driver::Command::Leave { session: self.id(), patience, done };
        if self.inner.driver.send(command).await.is_ok() {
            let _ = left.await;
        }
    }
}
