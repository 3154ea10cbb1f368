//! A message on its way out: whom it is for, how it is sent, and what becomes of it.

use std::time::Duration;

use arborcast_protocol::id::{Class, MemberId, SeqNo, ServiceId};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Session;
use crate::error::SendError;

/// What the application hands to its session, in order.
#[derive(Debug)]
pub(crate) enum Handed {
    Message(Publish),
    /// Tell when all that was handed over before is taken in.
    Flush(oneshot::Sender<()>),
}

/// A message for the engine.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) service: ServiceId,
    pub(crate) class: Class,
    pub(crate) to: Option<MemberId>,
    pub(crate) payload: Bytes,
    pub(crate) outcome: oneshot::Sender<Result<SeqNo, SendError>>,
    /// Its share of the room, given back when the engine has it.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// A message that is not sent yet; made by [`Session::message`]. For all members, reliable, of service 0, unless
/// said otherwise.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send` or `send_confirmed`"]
pub struct Outgoing<'a> {
    session: &'a Session,
    service: ServiceId,
    class: Class,
    to: Option<MemberId>,
    payload: Bytes,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(session: &'a Session, payload: Bytes) -> Self {
        let (service, class) = (ServiceId::default(), Class::Reliable);
        Self { session, service, class, to: None, payload }
    }

    /// For one member alone (R9): along the path of the tree, handed out nowhere else. Members on that path can
    /// read it, as can all who hold the session's key. Numbers count all messages of this node, whomever
    /// they are for; [`crate::Event::Delivered`] with this receiver tells when it has the message,
    /// [`crate::Event::Missed`] that it left without.
    pub fn to(mut self, member: MemberId) -> Self {
        self.to = Some(member);
        self
    }

    /// What kind of data it is, as the applications have agreed.
    pub fn service(mut self, service: impl Into<ServiceId>) -> Self {
        self.service = service.into();
        self
    }

    /// Of class live, for audio and video: it is sent at once, and where there is no room for all, old ones
    /// give way to new ones. A slow member loses some for itself alone, and holds nobody back; nothing is
    /// repaired, confirmed or reported lost, but what comes is in order. At most 1 MiB, for all members.
    pub fn live(self) -> Self {
        self.class(Class::Live)
    }

    /// Of this class.
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Hands it over, to be sent after all that were handed over before. Waits only while there is no room for
    /// it because the group is behind, so many small ones share a frame.
    ///
    /// The [`Queued`] brings its number, or why it cannot be sent at all, which [`crate::Event::NotSent`] tells
    /// as well; it need not be awaited.
    ///
    /// # Errors
    /// [`SendError::Closed`].
    pub async fn send(self) -> Result<Queued, SendError> {
        let Self { session, service, class, to, payload } = self;
        let (outcome, answer) = oneshot::channel();
        let room = session.room(payload.len()).await?;
        let publish = Publish { service, class, to, payload, outcome, _room: room };
        session.hand_over(class, Handed::Message(publish)).await?;
        Ok(Queued { answer })
    }

    /// Sends it, and waits until all who should have it do, for `within` at most from when it is taken in:
    /// then it tells who has not. Nobody confirms messages of class live.
    ///
    /// # Errors
    /// [`SendError`]. That some have not got it in time is no error.
    pub async fn send_confirmed(self, within: Duration) -> Result<Confirmation, SendError> {
        let (session, to) = (self.session, self.to);
        let seq = self.send().await?.seq().await?;
        session.confirm(to, seq, within).await.ok_or(SendError::Closed)
    }
}

/// A message that was handed over.
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
