//! Probes on the network: one substream each, over the connection that the edges use.
//!
//! Times are taken where bytes are written and read, not in the event loop. What a process adds by
//! being busy is told apart from the channel's own time, as far as it can be known: by how late a timer
//! rings meanwhile at the prober, by how long a probe waited for its task at the other end.

use std::{
    collections::HashSet,
    io,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    PROBE, codec,
    id::{MemberId, SessionId},
    limits,
    probe::{Echo, Probe},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::StreamProtocol;
use tokio::time::timeout;
use tracing::debug;

use super::{
    Driver, Internal,
    edge::{Doors, Opening},
    impair::Stream,
    now,
    streams::Inbound,
};
use crate::engine::event::{Echoed, Input, Spread};

/// For a whole exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Probes of one peer that are answered at once; who sends more gets no echo.
const ECHOES_PER_PEER: u32 = 16;
/// The same of a peer that is not known as a member.
const ECHOES_PER_STRANGER: u32 = 2;
/// Bytes of the probe by which a peer shows that it is a member, at most.
const FIRST_PROBE: usize = 4096;
/// An encoded echo is smaller.
const ECHO: u64 = 512;
/// A train is written and timed in pieces of so many bytes.
const PIECE: usize = 4096;
/// How often a prober looks at the clock while it waits...
const TICK: Duration = Duration::from_millis(10);
/// ...and how late that may be without anybody being busy.
const SLACK: Duration = Duration::from_millis(3);

/// Which connected peers know each other as members by probes.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    /// They have answered this node.
    knowing_us: HashSet<MemberId>,
    /// They have shown that they are members.
    shown: HashSet<MemberId>,
}

impl Acquaintances {
    /// A peer has answered a probe, or has not: then it may be that it does not know this node any more.
    pub(super) fn knows_us(&mut self, peer: MemberId, has_answered: bool) {
        if has_answered {
            self.knowing_us.insert(peer);
        } else {
            self.knowing_us.remove(&peer);
        }
    }

    /// A peer that is connected was answered as a member.
    pub(super) fn has_shown(&mut self, peer: MemberId) {
        self.shown.insert(peer);
    }

    /// A peer is not connected any more; another process may come next time.
    pub(super) fn forget(&mut self, peer: MemberId) {
        self.knowing_us.remove(&peer);
        self.shown.remove(&peer);
    }
}

impl Driver {
    /// Sends a probe; what comes of it comes as [`Input::Probed`].
    pub(super) fn probe(&mut self, session: SessionId, peer: MemberId, serial: u64, train: u32) {
        let peer_id = peer.peer_id();
        let opening = self.best_link(peer_id).map(|(connection, _)| {
            let protocol = StreamProtocol::new(PROBE);
            self.swarm.behaviour_mut().streams.open(peer_id, connection, protocol)
        });
        // The other end may not know this node as a member yet.
        let is_new = !self.acquaintances.knowing_us.contains(&peer);
        let certificate = is_new.then(|| self.doors.certificate(session)).flatten();
        let train = if is_new { 0 } else { (train as usize).min(limits::TRAIN) };
        let probe = Probe { session, serial, train: vec![0; train].into(), certificate };
        let internal = self.internal.clone();
        self.tasks.spawn(async move {
            let echo = match opening {
                Some(opening) => match timeout(TIMEOUT, send(opening, &probe)).await {
                    Ok(Ok(echo)) => Some(echo),
                    Ok(Err(error)) => {
                        debug!(?peer, %error, "no echo");
                        None
                    }
                    Err(_) => None,
                },
                None => None,
            };
            let probed = Input::Probed { peer, serial, echo };
            let _ = internal.send(Internal::Probed { session, probed: Box::new(probed) }).await;
        });
    }

    /// Answers a probe, of a member.
    pub(super) fn on_probe(&mut self, peer: MemberId, inbound: Inbound) {
        let is_known = self.acquaintances.shown.contains(&peer)
            || self.memberships.values().any(|session| session.knows(peer));
        let doors = (!is_known).then(|| self.doors.clone());
        let most = if is_known { ECHOES_PER_PEER } else { ECHOES_PER_STRANGER };
        let count = self.echoes.entry(peer).or_default();
        if *count >= most {
            debug!(?peer, "too many probes");
            return;
        }
        *count += 1;
        let internal = self.internal.clone();
        self.tasks.spawn(async move {
            let answering = answer(inbound.stream, inbound.since, peer, doors);
            let is_member = match timeout(TIMEOUT, answering).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    debug!(?peer, %error, "probe not answered");
                    false
                }
                Err(_) => false,
            };
            let _ = internal.send(Internal::Echoed { peer, is_member }).await;
        });
    }

    pub(super) fn echoed(&mut self, peer: MemberId) {
        if let Some(count) = self.echoes.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.echoes.remove(&peer);
            }
        }
    }
}

/// Sends a probe and waits for its echo.
async fn send(opening: Opening, probe: &Probe) -> io::Result<Echoed> {
    let mut stream = opening.await.map_err(|_| io::ErrorKind::NotConnected)??;
    let bytes = codec::encode(probe);
    // Negotiating the protocol took a round trip of its own, which is not to count.
    let sent = now();
    for piece in bytes.chunks(PIECE) {
        stream.write_all(piece).await?;
    }
    stream.close().await?;
    let mut answer = Vec::new();
    let own_lag = {
        let mut answered = stream.take(ECHO);
        let mut reading = std::pin::pin!(answered.read_to_end(&mut answer));
        let mut lag = Duration::ZERO;
        loop {
            let due = now() + TICK;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.into()) => {
                    lag += now().saturating_duration_since(due + SLACK);
                }
                read = &mut reading => break read.map(|_| lag)?,
            }
        }
    };
    let round_trip = now().saturating_duration_since(sent);
    let echo: Echo = codec::decode(&answer, answer.len()).map_err(io::Error::other)?;
    if echo.serial != probe.serial {
        return Err(io::Error::other("the echo is of another probe"));
    }
    let lag = own_lag.saturating_add(Duration::from_micros(echo.lag_us.into()));
    let spread = (echo.spread_us > 0 && echo.spread_bytes > 0).then(|| Spread {
        bytes: echo.spread_bytes.min(echo.train_bytes),
        time: Duration::from_micros(echo.spread_us.into()),
    });
    Ok(Echoed { round_trip, lag: lag.min(round_trip), spread })
}

/// Reads a probe that came on a substream which has been there `since`, and answers it. Where `doors` are
/// given, the peer is not known as a member, and has to show that it is.
async fn answer(
    mut stream: Stream,
    since: Instant,
    peer: MemberId,
    doors: Option<Doors>,
) -> io::Result<()> {
    let most = if doors.is_some() { FIRST_PROBE } else { limits::PROBE };
    let began = now();
    let mut bytes = Vec::new();
    let mut arrivals: Vec<(usize, Instant)> = Vec::new();
    let mut lag = Duration::ZERO;
    let mut piece = [0; PIECE];
    loop {
        let read = match stream.read(&mut piece).now_or_never() {
            Some(read) => {
                // It was there before this task was: the event loop was busy with other things.
                if bytes.is_empty() {
                    lag = began.saturating_duration_since(since);
                }
                read?
            }
            None => stream.read(&mut piece).await?,
        };
        if read == 0 {
            break;
        }
        if bytes.len() + read > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the probe is too long"));
        }
        bytes.extend(piece.iter().take(read));
        // So the list stays short, however small the pieces are.
        if arrivals.last().is_none_or(|(len, _)| bytes.len() - len >= PIECE / 4) {
            arrivals.push((bytes.len(), now()));
        }
    }
    // A probe that makes no sense gets no echo: it measures nothing.
    let probe: Probe = codec::decode(&bytes, limits::PROBE).map_err(io::Error::other)?;
    if let Some(doors) = doors {
        let shown = probe.certificate.as_ref();
        if shown.is_none_or(|shown| doors.check(probe.session, peer, shown).is_err()) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it shows no membership"));
        }
    }
    let (spread_bytes, spread_us) = if probe.train.is_empty() { (0, 0) } else { spread(&arrivals) };
    let echo = Echo {
        serial: probe.serial,
        train_bytes: u32::try_from(probe.train.len()).unwrap_or(u32::MAX),
        spread_bytes,
        spread_us,
        lag_us: micros(lag),
    };
    stream.write_all(&codec::encode(&echo)).await?;
    stream.close().await
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
