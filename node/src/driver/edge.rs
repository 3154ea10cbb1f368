//! One tree edge on the network: handshake, and the four tasks that read and write its two
//! substreams.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    certificate::Certificate,
    codec::{self, DecodeError},
    edge::{DataHello, Hello, Message},
    frame::Frame,
    id::{Epoch, MemberId, SessionId},
    limits,
};
use bytes::Bytes;
use futures::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _,
    io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, BufWriter, ReadHalf, WriteHalf},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use tracing::debug;

use super::{Wake, now, tasks::Tasks};
use crate::{engine::event::EdgeId, impairment::Stream, proof::FrameChecker};

/// Frames that wait for the substream's writer; the engine keeps the rest.
const FRAMES_AHEAD: usize = 4;
/// Control messages that wait for their writer.
const MESSAGES_AHEAD: usize = 8;
/// Bytes gathered before a write; yamux splits at this size anyway.
const WRITE_BUFFER: usize = 16 * 1024;
/// A peer that takes no control message for this long is as good as gone: readers of control never
/// wait for data.
const CONTROL_WRITE: Duration = Duration::from_secs(10);
/// What is allocated at once for a length that a peer announced.
const TRUSTED_LENGTH: usize = 128 * 1024;
/// While a large frame comes slowly, that it comes is told this often.
const ALIVE: Duration = Duration::from_millis(50);
/// Frames in a row that are not genuine: the peer does not check what it passes on.
const BAD_FRAMES: u32 = 16;

/// What ties the two substreams of an edge together.
pub(super) type Token = [u8; 16];

/// The coordinator's clock as a node knows it: what the coordinator said, and how long ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoordinatorClock {
    said_s: u64,
    at: Instant,
}

impl CoordinatorClock {
    pub(super) fn new(said_s: u64) -> Self {
        Self { said_s, at: now() }
    }

    pub(super) fn now_s(&self) -> u64 {
        self.said_s.saturating_add(now().saturating_duration_since(self.at).as_secs())
    }
}

/// What an edge's handshake needs to know of a session.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) coordinators: Vec<MemberId>,
    pub(super) certificate: Certificate,
    pub(super) clock: CoordinatorClock,
    pub(super) epoch: Epoch,
}

/// The doors of all joined sessions, read by handshakes in tasks of their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<SessionId, Door>>>);

impl Doors {
    fn get(&self, session: SessionId) -> Option<Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&session).cloned()
    }

    /// What this node shows in a session.
    pub(super) fn certificate(&self, session: SessionId) -> Option<Certificate> {
        self.get(session).map(|door| door.certificate)
    }

    /// Whether a certificate makes a peer a member of a session of this node.
    pub(super) fn check(
        &self,
        session: SessionId,
        peer: MemberId,
        certificate: &Certificate,
    ) -> Result<(), HandshakeError> {
        let door = self.get(session).ok_or(HandshakeError::UnknownSession)?;
        check(&door, session, peer, certificate)
    }

    pub(super) fn set(&self, session: SessionId, door: Door) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(session, door);
    }

    pub(super) fn update(&self, session: SessionId, change: impl FnOnce(&mut Door)) {
        if let Some(door) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&session)
        {
            change(door);
        }
    }

    pub(super) fn remove(&self, session: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }
}

/// Why a handshake failed. For logs: the engine tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the hello was not understood: {0}")]
    Decode(#[from] DecodeError),
    #[error("the peer took too long to say hello")]
    Timeout,
    #[error("the hello is for a session that is not joined here")]
    UnknownSession,
    #[error("the answer does not belong to the hello")]
    Mismatch,
    #[error("{0}")]
    Certificate(#[from] arborcast_protocol::certificate::CertificateError),
    #[error("the connection ended")]
    Gone,
}

/// An edge whose peer proved its membership.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
    pub(super) token: Token,
    pub(super) stream: Stream,
}

/// A substream that is being opened.
pub(super) type Opening = tokio::sync::oneshot::Receiver<io::Result<Stream>>;

/// Opens an edge: hello and answer on the control substream, then the data substream's own hello.
pub(super) async fn open(
    doors: Doors,
    session: SessionId,
    peer: MemberId,
    token: Token,
    control: Opening,
    data: Opening,
) -> Result<(Opened, Stream), HandshakeError> {
    let handshake = async {
        let door = doors.get(session).ok_or(HandshakeError::UnknownSession)?;
        let mut control = control.await.map_err(|_| HandshakeError::Gone)??;
        let mut data = data.await.map_err(|_| HandshakeError::Gone)??;
        let hello = Hello { session, certificate: door.certificate, epoch: door.epoch, token };
        write(&mut control, &hello).await?;
        control.flush().await?;
        let answer: Hello = read(&mut control, limits::HELLO).await?;
        if answer.session != session || answer.token != token {
            return Err(HandshakeError::Mismatch);
        }
        check(&door, session, peer, &answer.certificate)?;
        write(&mut data, &DataHello { session, token }).await?;
        data.flush().await?;
        Ok((Opened { session, epoch: answer.epoch, token, stream: control }, data))
    };
    timeout(limits::HELLO_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Timeout)?
}

/// Answers the hello on a control substream that a peer opened.
pub(super) async fn accept(
    doors: Doors,
    peer: MemberId,
    mut stream: Stream,
) -> Result<Opened, HandshakeError> {
    let handshake = async {
        let hello: Hello = read(&mut stream, limits::HELLO).await?;
        let door = doors.get(hello.session).ok_or(HandshakeError::UnknownSession)?;
        check(&door, hello.session, peer, &hello.certificate)?;
        let answer = Hello {
            session: hello.session,
            certificate: door.certificate,
            epoch: door.epoch,
            token: hello.token,
        };
        write(&mut stream, &answer).await?;
        stream.flush().await?;
        Ok(Opened { session: hello.session, epoch: hello.epoch, token: hello.token, stream })
    };
    timeout(limits::HELLO_TIMEOUT, handshake).await.map_err(|_| HandshakeError::Timeout)?
}

/// Reads the hello on a data substream that a peer opened.
pub(super) async fn accept_data(
    mut stream: Stream,
) -> Result<(SessionId, Token, Stream), HandshakeError> {
    let hello: DataHello = timeout(limits::HELLO_TIMEOUT, read(&mut stream, limits::HELLO))
        .await
        .map_err(|_| HandshakeError::Timeout)??;
    Ok((hello.session, hello.token, stream))
}

fn check(
    door: &Door,
    session: SessionId,
    peer: MemberId,
    certificate: &Certificate,
) -> Result<(), HandshakeError> {
    certificate.verify(session, peer, &door.coordinators)?;
    certificate.in_time(door.clock.now_s())?;
    Ok(())
}

/// What an edge's tasks tell the driver.
#[derive(Debug)]
pub(super) enum FromEdge {
    Message(Message),
    Frame(Frame, Bytes),
    BadFrame,
    /// A part of a frame came.
    Alive,
    Closed,
}

/// The driver's end of a running edge. Dropping it ends the tasks.
#[derive(Debug)]
pub(super) struct EdgeIo {
    pub(super) peer: MemberId,
    pub(super) control: mpsc::Sender<Message>,
    pub(super) data: mpsc::Sender<Frame>,
    pub(super) may_read: watch::Sender<bool>,
    /// All but the writer of control messages, which ends by itself when it has said the last word.
    tasks: [AbortHandle; 3],
}

impl Drop for EdgeIo {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Where the tasks of all edges of a session send what they read.
pub(super) type Inbox = mpsc::Sender<(SessionId, EdgeId, FromEdge)>;

/// Starts the tasks of an edge.
#[expect(clippy::too_many_arguments, reason = "all of them are the edge's parts")]
pub(super) fn run(
    session: SessionId,
    edge: EdgeId,
    peer: MemberId,
    control: Stream,
    data: Stream,
    checker: Arc<FrameChecker>,
    clock: watch::Receiver<CoordinatorClock>,
    inbox: &Inbox,
    wake: &Wake,
    tasks: &Tasks,
) -> EdgeIo {
    let (control_read, control_write) = control.split();
    let (data_read, data_write) = data.split();
    let (control, messages) = mpsc::channel(MESSAGES_AHEAD);
    let (data, frames) = mpsc::channel(FRAMES_AHEAD);
    let (may_read, gate) = watch::channel(false);
    let closing = move |result: io::Result<()>, what: &'static str| {
        if let Err(error) = result {
            debug!(?session, ?peer, %error, "edge: {what}");
        }
    };
    let read_control = {
        let inbox = inbox.clone();
        async move {
            closing(read_messages(control_read, session, edge, &inbox).await, "control read");
            let _ = inbox.send((session, edge, FromEdge::Closed)).await;
        }
    };
    let write_control = {
        let (inbox, wake) = (inbox.clone(), wake.clone());
        async move {
            closing(write_messages(control_write, messages, &wake).await, "control write");
            let _ = inbox.send((session, edge, FromEdge::Closed)).await;
        }
    };
    let read_data = {
        let inbox = inbox.clone();
        async move {
            let reader = FrameReader { session, edge, checker, clock, gate, inbox: inbox.clone() };
            closing(reader.run(data_read).await, "data read");
            let _ = inbox.send((session, edge, FromEdge::Closed)).await;
        }
    };
    let write_data = {
        let (inbox, wake) = (inbox.clone(), wake.clone());
        async move {
            closing(write_frames(data_write, frames, &wake).await, "data write");
            let _ = inbox.send((session, edge, FromEdge::Closed)).await;
        }
    };
    tasks.spawn(write_control);
    let aborts = [tasks.spawn(read_control), tasks.spawn(read_data), tasks.spawn(write_data)];
    EdgeIo { peer, control, data, may_read, tasks: aborts }
}

async fn read_messages(
    stream: ReadHalf<Stream>,
    session: SessionId,
    edge: EdgeId,
    inbox: &Inbox,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let message = match read(&mut stream, limits::EDGE_MESSAGE).await {
            Ok(message) => message,
            Err(HandshakeError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        if inbox.send((session, edge, FromEdge::Message(message))).await.is_err() {
            return Ok(());
        }
    }
}

async fn write_messages(
    stream: WriteHalf<Stream>,
    mut messages: mpsc::Receiver<Message>,
    wake: &Wake,
) -> io::Result<()> {
    let mut stream = BufWriter::with_capacity(WRITE_BUFFER, stream);
    while let Some(message) = messages.recv().await {
        wake.notify_one();
        let written = async {
            write(&mut stream, &message).await?;
            if messages.is_empty() { stream.flush().await } else { Ok(()) }
        };
        timeout(CONTROL_WRITE, written).await??;
    }
    timeout(CONTROL_WRITE, stream.close()).await?
}

/// Writes frames; flushes when none waits, so that batching follows from load alone.
async fn write_frames(
    stream: WriteHalf<Stream>,
    mut frames: mpsc::Receiver<Frame>,
    wake: &Wake,
) -> io::Result<()> {
    let mut stream = BufWriter::with_capacity(WRITE_BUFFER, stream);
    while let Some(frame) = frames.recv().await {
        wake.notify_one();
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?.to_be_bytes();
        stream.write_all(&len).await?;
        // A write that does not fit the buffer sends off what is in it first, as a packet of its own:
        // so the frame is to begin with what fills the buffer.
        let room = WRITE_BUFFER.saturating_sub(stream.buffer().len());
        let (head, rest) = frame.bytes().split_at(frame.len().min(room));
        stream.write_all(head).await?;
        stream.write_all(rest).await?;
        if frames.is_empty() {
            // Let the event loop, just woken, put the next frame before the flush.
            tokio::task::yield_now().await;
            if frames.is_empty() {
                stream.flush().await?;
            }
        }
    }
    stream.close().await
}

struct FrameReader {
    session: SessionId,
    edge: EdgeId,
    checker: Arc<FrameChecker>,
    clock: watch::Receiver<CoordinatorClock>,
    gate: watch::Receiver<bool>,
    inbox: Inbox,
}

impl FrameReader {
    async fn run(mut self, stream: ReadHalf<Stream>) -> io::Result<()> {
        let mut stream = BufReader::with_capacity(WRITE_BUFFER, stream);
        let mut bad = 0;
        loop {
            if self.gate.wait_for(|open| *open).await.is_err() {
                return Ok(());
            }
            let bytes = self.read(&mut stream).await?;
            let frame = Frame::decode(Bytes::from(bytes))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let now_s = self.clock.borrow().now_s();
            let news = match self.checker.check(&frame, now_s) {
                Ok(payload) => {
                    bad = 0;
                    FromEdge::Frame(frame, payload)
                }
                Err(error) => {
                    debug!(session = ?self.session, ?frame, %error, "frame dropped");
                    bad += 1;
                    FromEdge::BadFrame
                }
            };
            if self.inbox.send((self.session, self.edge, news)).await.is_err() {
                return Ok(());
            }
            if bad >= BAD_FRAMES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the peer passes on frames that are not genuine",
                ));
            }
        }
    }
}

impl FrameReader {
    /// The bytes of the next frame. A large one may take seconds on a narrow channel, and what else
    /// comes waits behind it there: so that it comes at all is told from time to time.
    async fn read(&self, stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
        let len = read_length(stream, limits::FRAME).await?;
        let mut bytes = Vec::with_capacity(len);
        let mut told = now();
        loop {
            let missing = len - bytes.len();
            if missing == 0 {
                return Ok(bytes);
            }
            let part = stream.fill_buf().await?;
            if part.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let part = part.get(..missing).unwrap_or(part);
            bytes.extend_from_slice(part);
            let read = part.len();
            stream.consume_unpin(read);
            if now().saturating_duration_since(told) >= ALIVE {
                told = now();
                // If there is no room, there is news enough.
                let _ = self.inbox.try_send((self.session, self.edge, FromEdge::Alive));
            }
        }
    }
}

pub(super) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let bytes = codec::encode(value);
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(&bytes).await
}

pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, HandshakeError> {
    let bytes = read_prefixed(stream, limit).await?;
    Ok(codec::decode(&bytes, limit)?)
}

/// Reads a 32-bit big-endian length and that many bytes. Memory grows with what arrives, not with
/// what was announced.
async fn read_prefixed(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let len = read_length(stream, limit).await?;
    if len <= TRUSTED_LENGTH {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).await?;
        return Ok(bytes);
    }
    let mut bytes = Vec::with_capacity(TRUSTED_LENGTH);
    let read = stream.take(len as u64).read_to_end(&mut bytes).await?;
    if read == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> io::Result<usize> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > limit {
        let error = DecodeError::TooLarge { len, limit };
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(len)
}
