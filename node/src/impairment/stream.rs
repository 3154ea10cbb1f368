//! Substreams of channels that the user makes worse: what is written is held before it goes out, what comes in is held
//! after it was read. So one end alone suffices, and everything that crosses the channel on our substreams is treated
//! alike: frames, control of edges, probes.
//!
//! Where nothing has been impaired, bytes pass straight through: nothing is shared, locked or copied.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::wire::{Direction, Held, Wire, lock};
use crate::driver::now;

/// A substream of a channel.
#[derive(Debug)]
pub(crate) struct Stream<S = libp2p::Stream> {
    wire: Arc<Wire>,
    /// Until its channel is impaired for the first time.
    straight: Option<S>,
    /// From then on.
    shared: Option<Arc<Mutex<Shared<S>>>>,
    /// For what comes in.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// How one direction of a substream ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Closed,
    Broken(io::ErrorKind),
}

/// What a substream and the task that writes what it holds have in common.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they change one by one")]
struct Shared<S> {
    inner: S,
    wire: Arc<Wire>,
    out: Held,
    /// There is a task that writes what is held.
    pumping: bool,
    pump: Option<Waker>,
    /// Who waits to write or close.
    writer: Option<Waker>,
    is_closing: bool,
    is_closed: bool,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
    incoming: Held,
    /// How what comes in ended.
    end: Option<End>,
    /// The substream was dropped.
    is_gone: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream<S> {
    pub(crate) fn new(inner: S, wire: Arc<Wire>) -> Self {
        Self { wire, straight: Some(inner), shared: None, alarm: None }
    }

    /// The substream itself, while nothing has impaired it.
    fn straight(&mut self) -> Option<Pin<&mut S>> {
        if self.wire.is_impaired() {
            return None;
        }
        self.straight.as_mut().map(Pin::new)
    }

    /// What it shares with the task that writes what is held.
    fn shared(&mut self) -> io::Result<Arc<Mutex<Shared<S>>>> {
        if let Some(inner) = self.straight.take() {
            let shared = Shared::new(inner, Arc::clone(&self.wire));
            self.shared = Some(Arc::new(Mutex::new(shared)));
        }
        self.shared.clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Shared<S> {
    fn new(inner: S, wire: Arc<Wire>) -> Self {
        Self {
            inner,
            wire,
            out: Held::default(),
            pumping: false,
            pump: None,
            writer: None,
            is_closing: false,
            is_closed: false,
            broken: None,
            incoming: Held::default(),
            end: None,
            is_gone: false,
        }
    }
}

impl<S> Drop for Stream<S> {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut shared = lock(shared);
        shared.is_gone = true;
        if let Some(pump) = shared.pump.take() {
            pump.wake();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(inner) = self.straight() {
            return inner.poll_write(cx, bytes);
        }
        let held = self.shared()?;
        let mut shared = lock(&held);
        if let Some(kind) = shared.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if !shared.pumping && !shared.wire.is_impaired() {
            return Pin::new(&mut shared.inner).poll_write(cx, bytes);
        }
        let now = now();
        if !shared.out.has_room(now) {
            shared.wait_to_write(cx);
            return Poll::Pending;
        }
        let piece = bytes.get(..bytes.len().min(shared.wire.piece())).unwrap_or(bytes);
        let passage = shared.wire.pass(Direction::Out, piece.len(), now);
        shared.out.hold(passage, Bytes::copy_from_slice(piece));
        if !std::mem::replace(&mut shared.pumping, true) {
            shared.wire.tasks.spawn(pump(Arc::clone(&held)));
        }
        Poll::Ready(Ok(piece.len()))
    }

    /// What is held has left this process as far as its writer can know.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(inner) = self.straight() {
            return inner.poll_flush(cx);
        }
        let held = self.shared()?;
        let mut shared = lock(&held);
        match (shared.broken, shared.pumping) {
            (Some(kind), _) => Poll::Ready(Err(kind.into())),
            (None, true) => Poll::Ready(Ok(())),
            (None, false) => Pin::new(&mut shared.inner).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(inner) = self.straight() {
            return inner.poll_close(cx);
        }
        let held = self.shared()?;
        let mut shared = lock(&held);
        if let Some(kind) = shared.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if shared.is_closed {
            return Poll::Ready(Ok(()));
        }
        if shared.pumping {
            shared.is_closing = true;
            shared.wait_to_write(cx);
            return Poll::Pending;
        }
        Pin::new(&mut shared.inner).poll_close(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(inner) = self.straight() {
            return inner.poll_read(cx, buffer);
        }
        let held = self.shared()?;
        let alarm = &mut self.alarm;
        let mut shared = lock(&held);
        loop {
            let is_held = !shared.incoming.queue.is_empty() || shared.end.is_some();
            if !is_held && !shared.wire.is_impaired() {
                return Pin::new(&mut shared.inner).poll_read(cx, buffer);
            }
            let now = now();
            shared.take_in(cx, now);
            if let Some(bytes) = shared.incoming.arrived(now) {
                let len = bytes.len().min(buffer.len());
                if let (Some(to), Some(from)) = (buffer.get_mut(..len), bytes.get(..len)) {
                    to.copy_from_slice(from);
                }
                shared.incoming.advance(len);
                return Poll::Ready(Ok(len));
            }
            let Some(mut next) = shared.incoming.next() else {
                return match shared.end {
                    Some(End::Closed) => Poll::Ready(Ok(0)),
                    Some(End::Broken(kind)) => Poll::Ready(Err(kind.into())),
                    None => Poll::Pending,
                };
            };
            if let Some(room_at) = shared.incoming.room_at(now).filter(|at| *at > now) {
                next = next.min(room_at);
            }
            if !rings(alarm, next, cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    /// Has the writer woken when it can go on, and the pump look when that is.
    fn wait_to_write(&mut self, cx: &Context<'_>) {
        self.writer = Some(cx.waker().clone());
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// Reads what is there, as far as there is room for it on its way.
    fn take_in(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.end.is_none() && self.incoming.has_room(now) {
            let mut piece = vec![0; self.wire.piece()];
            match Pin::new(&mut self.inner).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(0)) => self.end = Some(End::Closed),
                Poll::Ready(Ok(len)) => {
                    piece.truncate(len);
                    let passage = self.wire.pass(Direction::In, len, now);
                    self.incoming.hold(passage, piece.into());
                }
                Poll::Ready(Err(error)) => self.end = Some(End::Broken(error.kind())),
                Poll::Pending => return,
            }
        }
    }

    /// Writes what is due. Ready once nothing is held any more.
    fn drive(&mut self, alarm: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
        self.pump = Some(cx.waker().clone());
        loop {
            if self.is_gone {
                return Poll::Ready(());
            }
            let now = now();
            let mut is_blocked = false;
            let Self { inner, out, .. } = self;
            while let Some(bytes) = out.arrived(now) {
                match Pin::new(&mut *inner).poll_write(cx, bytes) {
                    Poll::Ready(Ok(0)) => return self.give_up(io::ErrorKind::WriteZero),
                    Poll::Ready(Ok(len)) => out.advance(len),
                    Poll::Ready(Err(error)) => return self.give_up(error.kind()),
                    Poll::Pending => {
                        is_blocked = true;
                        break;
                    }
                }
            }
            if self.out.queue.is_empty() {
                return self.finish(cx);
            }
            if is_blocked {
                return Poll::Pending;
            }
            if self.out.has_room(now) && !self.is_closing {
                self.wake_writer();
            }
            match Pin::new(&mut self.inner).poll_flush(cx) {
                Poll::Ready(Err(error)) => return self.give_up(error.kind()),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            let room_at = self.out.room_at(now).filter(|at| *at > now && self.writer.is_some());
            let next = self.out.next().into_iter().chain(room_at).min().unwrap_or(now);
            if !rings(alarm, next, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Nothing is held: flushes, closes if that was asked for, and lets the writer go on by itself.
    fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let result = if self.is_closing {
            Pin::new(&mut self.inner).poll_close(cx)
        } else {
            Pin::new(&mut self.inner).poll_flush(cx)
        };
        match result {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return self.give_up(error.kind()),
            Poll::Ready(Ok(())) => self.is_closed = self.is_closing,
        }
        self.pumping = false;
        self.wake_writer();
        Poll::Ready(())
    }

    fn give_up(&mut self, kind: io::ErrorKind) -> Poll<()> {
        self.broken = Some(kind);
        self.out = Held::default();
        self.wake_writer();
        Poll::Ready(())
    }
}

/// Writes what a substream holds when it is due. Ends when nothing is held; the next that is begins
/// another one.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(shared: Arc<Mutex<Shared<S>>>) {
    let mut alarm = None;
    std::future::poll_fn(|cx| lock(&shared).drive(&mut alarm, cx)).await;
}

/// Whether it is time already; else the task is woken then.
fn rings(alarm: &mut Option<Pin<Box<Sleep>>>, at: Instant, cx: &mut Context<'_>) -> bool {
    let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
    alarm.as_mut().reset(at.into());
    alarm.as_mut().poll(cx).is_ready()
}
