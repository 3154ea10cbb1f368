//! Probes on the network: one substream for each channel and session, over the connection that the edges use,
//! for as long as the channel is measured.
//!
//! Times are taken where bytes are written and read, not in the event loop.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arborcast_protocol::{
    PROBE, codec,
    id::{MemberId, SessionId},
    limits,
    probe::{Echo, Probe},
};
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWriteExt as _,
    io::{ReadHalf, WriteHalf},
};
use libp2p::StreamProtocol;
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tracing::debug;

use super::{
    Driver, Internal,
    edge::{self, Doors, Opening},
    now,
    streams::Inbound,
};
use crate::{
    engine::event::{Echoed, Input, Spread},
    impairment::Stream,
};

/// From a probe to its echo.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Substreams with probes of one peer at once.
const STREAMS_PER_PEER: u32 = 16;
/// The same of a peer that is not known as a member: until it has shown that it is.
const STREAMS_PER_STRANGER: u32 = 2;
/// Probes that wait to be written.
const AHEAD: usize = 16;
/// Bytes of the probe by which a peer shows that it is a member, at most.
const FIRST_PROBE: usize = 4096;
/// An encoded echo is smaller.
const ECHO: usize = 512;
/// A train is read, and its parts are timed, in pieces of at least a quarter of this.
const PIECE: usize = 4096;

/// The probes of one channel. Dropping it ends them.
pub(super) type Prober = mpsc::Sender<(u64, u32)>;

impl Driver {
    /// Sends a probe; what comes of it comes as [`Input::Probed`].
    pub(super) fn probe(&mut self, session: SessionId, peer: MemberId, serial: u64, train: u32) {
        let key = (session, peer);
        if self.probers.get(&key).is_none_or(mpsc::Sender::is_closed) {
            let peer_id = peer.peer_id();
            let certificate = self.doors.certificate(session);
            let link = self.best_link(peer_id).filter(|_| certificate.is_some());
            let opening = link.map(|(connection, _)| {
                let protocol = StreamProtocol::new(PROBE);
                self.swarm.behaviour_mut().streams.open(peer_id, connection, protocol)
            });
            let (prober, asked) = mpsc::channel(AHEAD);
            let first = Probe { session, serial: 0, train: Vec::new().into(), certificate };
            let internal = self.internal.clone();
            self.tasks.spawn(async move {
                let mut stream = Probing { asked, under_way: VecDeque::new() };
                if let Err(error) = stream.run(opening, first, peer, &internal).await {
                    debug!(?peer, %error, "no echo");
                }
                // Each probe has an outcome.
                while let Some(serial) = stream.next_lost() {
                    let lost = Box::new(Input::Probed { peer, serial, echo: None });
                    let _ = internal.send(Internal::Probed { session, probed: lost }).await;
                }
            });
            self.probers.insert(key, prober);
        }
        let lost =
            self.probers.get(&key).is_none_or(|prober| prober.try_send((serial, train)).is_err());
        if lost {
            self.input(session, Input::Probed { peer, serial, echo: None });
        }
    }

    /// The channel with a peer is gone or another one.
    pub(super) fn forget_probers(&mut self, peer: MemberId) {
        self.probers.retain(|(_, other), _| *other != peer);
    }

    /// Answers the probes that a member sends on a substream.
    pub(super) fn on_probes(&mut self, peer: MemberId, inbound: Inbound) {
        let is_known = self.memberships.values().any(|session| session.knows(peer));
        let doors = (!is_known).then(|| self.doors.clone());
        let most = if is_known { STREAMS_PER_PEER } else { STREAMS_PER_STRANGER };
        let count = self.answering.entry(peer).or_default();
        if *count >= most {
            debug!(?peer, "too many substreams with probes");
            return;
        }
        *count += 1;
        let (internal, lag) = (self.internal.clone(), Arc::clone(&self.lag));
        self.tasks.spawn(async move {
            if let Err(error) = answer(inbound.stream, peer, doors, &lag).await {
                debug!(?peer, %error, "probes not answered any more");
            }
            let _ = internal.send(Internal::ProbesEnded { peer }).await;
        });
    }

    pub(super) fn probes_ended(&mut self, peer: MemberId) {
        if let Some(count) = self.answering.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.answering.remove(&peer);
            }
        }
    }
}

/// One substream of probes.
struct Probing {
    asked: mpsc::Receiver<(u64, u32)>,
    /// What was written and when, oldest first; at most [`AHEAD`] and one.
    under_way: VecDeque<(u64, Instant)>,
}

impl Probing {
    /// Writes probes and reads their echoes until nobody asks any more.
    async fn run(
        &mut self,
        opening: Option<Opening>,
        first: Probe,
        peer: MemberId,
        internal: &mpsc::Sender<Internal>,
    ) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let opening = timeout(TIMEOUT, opening.ok_or_else(gone)?).await?;
        let (reading, mut writing) = opening.map_err(|_| gone())??.split();
        let session = first.session;
        let mut certificate = first.certificate;
        let mut echo = Box::pin(next_echo(reading));
        loop {
            let until = self.under_way.front().map(|(_, sent)| *sent + TIMEOUT);
            let read = async {
                match until {
                    Some(until) => timeout_at(until.into(), &mut echo).await.ok(),
                    None => Some((&mut echo).await),
                }
            };
            tokio::select! {
                read = read => {
                    let read = read.ok_or(io::ErrorKind::TimedOut)?;
                    let came = now();
                    let (reading, read) = read?;
                    echo = Box::pin(next_echo(reading));
                    let (serial, sent) = self.under_way.pop_front().ok_or(io::ErrorKind::InvalidData)?;
                    if read.serial != serial {
                        return Err(io::Error::other("the echo is of another probe"));
                    }
                    let echo = Some(echoed(read, came.saturating_duration_since(sent)));
                    let probed = Box::new(Input::Probed { peer, serial, echo });
                    if internal.send(Internal::Probed { session, probed }).await.is_err() {
                        return Ok(());
                    }
                }
                asked = self.asked.recv(), if self.under_way.len() < AHEAD => {
                    let Some((serial, train)) = asked else { return Ok(()) };
                    let train = vec![0; (train as usize).min(limits::TRAIN)].into();
                    let probe = Probe { session, serial, train, certificate: certificate.take() };
                    self.under_way.push_back((serial, now()));
                    timeout(TIMEOUT, write(&mut writing, &probe)).await??;
                }
            }
        }
    }

    fn next_lost(&mut self) -> Option<u64> {
        self.asked.close();
        let waiting = || self.asked.try_recv().ok().map(|(serial, _)| serial);
        self.under_way.pop_front().map(|(serial, _)| serial).or_else(waiting)
    }
}

async fn write(stream: &mut WriteHalf<Stream>, probe: &Probe) -> io::Result<()> {
    edge::write(stream, probe).await?;
    stream.flush().await
}

async fn next_echo(mut stream: ReadHalf<Stream>) -> io::Result<(ReadHalf<Stream>, Echo)> {
    let echo = edge::read(&mut stream, ECHO).await.map_err(io::Error::other)?;
    Ok((stream, echo))
}

fn echoed(echo: Echo, round_trip: Duration) -> Echoed {
    let spread = (echo.spread_us > 0 && echo.spread_bytes > 0).then(|| Spread {
        bytes: echo.spread_bytes.min(echo.train_bytes),
        time: Duration::from_micros(echo.spread_us.into()),
    });
    Echoed { round_trip, lag: Duration::from_micros(echo.lag_us.into()), spread }
}

/// Answers probes until the substream ends. Where `doors` are given, the peer is not known as a member, and has
/// to show with the first one that it is. `lag` is how late this node is at times, in microseconds.
async fn answer(
    mut stream: Stream,
    peer: MemberId,
    doors: Option<Doors>,
    lag: &AtomicU32,
) -> io::Result<()> {
    let mut doors = doors;
    loop {
        let (bytes, arrivals) = if doors.is_some() {
            timeout(TIMEOUT, next_probe(&mut stream, FIRST_PROBE)).await??
        } else {
            next_probe(&mut stream, limits::PROBE).await?
        };
        // A probe that makes no sense gets no echo: it measures nothing.
        let probe: Probe = codec::decode(&bytes, limits::PROBE).map_err(io::Error::other)?;
        if let Some(doors) = doors.take() {
            let shown = probe.certificate.as_ref();
            if shown.is_none_or(|shown| doors.check(probe.session, peer, shown).is_err()) {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "it shows no membership",
                ));
            }
        }
        let (spread_bytes, spread_us) =
            if probe.train.is_empty() { (0, 0) } else { spread(&arrivals) };
        let echo = Echo {
            serial: probe.serial,
            train_bytes: u32::try_from(probe.train.len()).unwrap_or(u32::MAX),
            spread_bytes,
            spread_us,
            lag_us: lag.load(Ordering::Relaxed),
        };
        timeout(TIMEOUT, async {
            edge::write(&mut stream, &echo).await?;
            stream.flush().await
        })
        .await??;
    }
}

/// Bytes that had come by some time.
type Arrival = (usize, Instant);

/// The bytes of the next probe, of at most `most`, and how they came.
async fn next_probe(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<(Vec<u8>, Vec<Arrival>)> {
    let len = edge::read_length(stream, most).await?;
    let mut bytes = Vec::new();
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut piece = [0; PIECE];
    while bytes.len() < len {
        let room = piece.len().min(len - bytes.len());
        let read = stream.read(piece.get_mut(..room).unwrap_or_default()).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(piece.iter().take(read));
        // So the list stays short, however small the pieces are.
        if arrivals.last().is_none_or(|(before, _)| bytes.len() - before >= PIECE / 4)
            || bytes.len() == len
        {
            arrivals.push((bytes.len(), now()));
        }
    }
    Ok((bytes, arrivals))
}
/// Bytes after the first fifth of what arrived, and microseconds from there to the end; zeros if all
/// came at once.
fn spread(arrivals: &[(usize, Instant)]) -> (u32, u32) {
    let Some((all, end)) = arrivals.last() else { return (0, 0) };
    let Some((len, begin)) = arrivals.iter().find(|(len, _)| *len >= all / 5) else {
        return (0, 0);
    };
    let bytes = u32::try_from(all - len).unwrap_or(u32::MAX);
    if bytes == 0 {
        return (0, 0);
    }
    (bytes, micros(end.saturating_duration_since(*begin)).max(1))
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_a_train_is_timed_without_its_first_fifth() {
        let begin = now();
        let at = |ms| begin + Duration::from_millis(ms);
        // The first pieces wait for a congestion window; those after come each millisecond.
        let arrivals = [(4_096, at(0)), (8_192, at(50)), (20_480, at(53)), (32_768, at(56))];
        assert_eq!(spread(&arrivals), (24_576, 6_000));
        assert_eq!(spread(&[(32_768, at(0))]), (0, 0), "all at once says nothing");
        assert_eq!(spread(&[(8_192, at(0)), (32_768, at(0))]), (24_576, 1));
        assert_eq!(spread(&[]), (0, 0));
    }
}
