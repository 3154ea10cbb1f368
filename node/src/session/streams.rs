//! What comes out of a session: events, and messages apart from them for whoever wants that.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arborcast_protocol::refusal::{Code, Refusal};
use futures::{Stream, stream::FusedStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Event, Seat};
use crate::{
    driver::{Fault, Wake},
    engine::event::Message,
};

/// What comes, with the room that it takes while it waits.
pub(crate) type Waiting<T> = (T, Option<OwnedSemaphorePermit>);

/// The events of a session, one after another. As long as they are there, or a [`crate::Session`], it is not
/// left.
///
/// While the application takes no events, messages wait for it within [`crate::Config::inbox_bytes`], and then
/// their sources are held back. Drop the `Events` to go on without: messages are then received and thrown
/// away, unless [`crate::Session::messages`] takes them.
#[derive(Debug)]
pub struct Events {
    pub(crate) inbox: mpsc::Receiver<Waiting<Event>>,
    pub(crate) wake: Wake,
    pub(crate) fault: Fault,
    /// The last event was told.
    pub(crate) is_over: bool,
    /// Nothing comes any more.
    pub(crate) is_empty: bool,
    pub(crate) _seat: Arc<Seat>,
}

impl Events {
    /// The next event; `None` once the session has ended and all events were taken.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Poll::Ready(next) = self.inbox.poll_recv(cx) else { return Poll::Pending };
        if let Some((event, room)) = next {
            drop(room);
            self.wake.notify_one();
            self.is_over |= matches!(event, Event::Ended(_));
            return Poll::Ready(Some(event));
        }
        let fault = self.fault.get().filter(|_| !std::mem::replace(&mut self.is_over, true));
        self.is_empty = fault.is_none();
        Poll::Ready(fault.map(|fault| Event::Ended(Refusal::new(Code::FAULT, fault))))
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(cx)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.is_empty
    }
}

/// The messages of a session apart from all else, in order per source; see [`crate::Session::messages`].
///
/// While the application takes none they wait within [`crate::Config::inbox_bytes`], and then their sources are
/// held back. Once this is dropped, messages are among the [`Events`] again.
#[derive(Debug)]
pub struct Messages {
    pub(crate) inbox: mpsc::Receiver<Waiting<Message>>,
    pub(crate) wake: Wake,
    pub(crate) is_empty: bool,
    pub(crate) _seat: Arc<Seat>,
}

impl Messages {
    /// The next message; `None` once the session has ended and all were taken.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let Poll::Ready(next) = self.inbox.poll_recv(cx) else { return Poll::Pending };
        self.is_empty = next.is_none();
        self.wake.notify_one();
        Poll::Ready(next.map(|(message, _)| message))
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.inbox.close();
        // Those that come next are among the events.
        self.wake.notify_one();
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll(cx)
    }
}

impl FusedStream for Messages {
    fn is_terminated(&self) -> bool {
        self.is_empty
    }
}
