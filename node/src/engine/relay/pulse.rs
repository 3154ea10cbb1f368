//! How long an edge may be silent before its other end counts as dead.
//!
//! While data moves, and for a while after, heartbeats are frequent, and each says when the next one
//! is due; so a neighbour that died without a word is noticed within tenths of a second on a quiet
//! local network. How late they may be follows the channel's delay and how late they have been before:
//! an accrual of suspicion in its simplest form (Hayashibara et al., "The φ accrual failure detector",
//! 2004; the estimate of a timeout from lateness is that of RFC 6298). When nothing moves nobody misses
//! anything, and small devices are left in peace.
//!
//! Heartbeats measure the channel, too: each that is due carries a stamp, which comes back at once with a stamp
//! of the other side's, which goes back at once. So both ends have a round trip of it, and three messages are
//! all that crosses an idle edge in a period.

use std::time::{Duration, Instant};

use arborcast_protocol::edge::Heartbeat;

use super::{Config, Output, Relay, edge::Edge};
use crate::engine::event::EdgeId;

/// Time between two heartbeats on a busy edge, on top of what follows from the delay.
const BUSY: Duration = Duration::from_millis(100);

/// Plus so many one-way delays: on a slow channel nothing is noticed within tenths of a second anyway.
const DELAYS: u32 = 8;

/// An edge counts as busy for so long after the last frame.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// What was sent for less than one such time, or two, may still be under way.
const RECENT: Duration = Duration::from_secs(1);

/// Later than told by less than this is nothing: a lost packet costs TCP 200 ms on Linux.
const MARGIN: Duration = Duration::from_millis(200);

/// Lateness is forgotten by this part with each heartbeat: by half in nine seconds.
const FORGOTTEN: u32 = 64;

/// A look that comes later than it should by more shows that this node was not awake itself.
const ASLEEP: Duration = Duration::from_millis(100);

/// What came in meanwhile is taken in within this time.
const AWAKE: Duration = Duration::from_millis(250);

/// The signs of life on one edge.
#[derive(Debug)]
pub(super) struct Pulse {
    /// One-way delay of the channel, as far as it was measured.
    delay: Duration,
    /// A frame moved last.
    moved: Option<Instant>,
    /// The other side's last heartbeat, if it said when the next one is due, and when.
    announced: Option<(Instant, Duration)>,
    /// How late heartbeats were, at worst, less what is forgotten.
    late: Duration,
    /// This node was not awake itself: what came meanwhile is taken in by then.
    awake_at: Option<Instant>,
    /// Heartbeats are to come as often, for the channel is to be known better.
    asked: Option<Duration>,
    /// The next heartbeat asks for an echo.
    asks: bool,
    /// An echo is awaited.
    awaits: bool,
    /// This side asks first; else only when the other side does not for longer than it would.
    begins: bool,
    /// A stamp of the other side's that is to go back with it.
    stamp: Option<u64>,
}

/// What a heartbeat showed of the channel below an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoundTrip {
    /// When the stamp was sent that came back.
    pub sent: Instant,
    /// By how much this was late for reasons of the other machine's, as it says.
    pub lag: Duration,
    /// Data waited at an end: what was measured is their queue.
    pub is_full: bool,
    /// Messages and frames that have crossed either way since the last one: any of them could have been lost, and
    /// what came behind it late.
    pub crossed: u32,
}

impl Pulse {
    pub(super) const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
            moved: None,
            announced: None,
            late: Duration::ZERO,
            awake_at: None,
            asked: None,
            asks: false,
            awaits: false,
            begins: true,
            stamp: None,
        }
    }

    /// A heartbeat is due.
    pub(super) const fn is_due(&mut self) {
        (self.asks, self.begins) = (true, true);
    }

    /// The stamp of a heartbeat that goes out, and the echo in it.
    fn stamps(&mut self, now_us: u64) -> (Option<u64>, Option<u64>) {
        let asks = std::mem::take(&mut self.asks);
        self.awaits |= asks;
        (asks.then_some(now_us), self.stamp.take())
    }

    /// Time until the next heartbeat of this side; the second figure is what the other side is told of
    /// it.
    pub(super) fn period(&self, config: &Config, now: Instant) -> (Duration, Option<u32>) {
        let longer = |period: Duration| if self.begins { period } else { period * 5 / 4 };
        let busy = BUSY.saturating_add(self.delay.saturating_mul(DELAYS));
        let idle = self.asked.map_or(config.heartbeat, |asked| asked.min(config.heartbeat));
        if !self.is_busy(now) || busy >= idle {
            return (longer(idle), None);
        }
        let busy = longer(busy);
        (busy, u32::try_from(busy.as_millis()).ok())
    }

    /// Whether data moves, or did lately.
    fn is_busy(&self, now: Instant) -> bool {
        self.moved.is_some_and(|at| now < at + BUSY_FOR)
    }

    /// How long it takes at most to hear that a frame has come, where no more waits on the way than it
    /// should.
    pub(super) fn acknowledges_within(&self, config: &Config, now: Instant) -> Duration {
        self.delay.saturating_mul(2).saturating_add(self.period(config, now).0)
    }

    /// A frame moves. True if the edge was not busy: the other side is to be told at once.
    fn moves(&mut self, now: Instant) -> bool {
        let before = self.moved.replace(now);
        before.is_none_or(|before| before + BUSY_FOR <= now)
    }

    /// A heartbeat came.
    pub(super) fn beat(&mut self, next_ms: Option<u32>, now: Instant) {
        // What came while this node was asleep was not late.
        let slept = self.awake_at.take().is_some_and(|awake| now <= awake);
        if let Some((at, next)) = self.announced.filter(|_| !slept) {
            let late = now.saturating_duration_since(at).saturating_sub(next);
            self.late = late.max(self.late.saturating_sub(self.late / FORGOTTEN));
        }
        self.announced = next_ms.map(|next| (now, Duration::from_millis(next.into())));
    }

    /// How long nothing may be heard.
    fn patience(&self, config: &Config) -> Duration {
        let Some((_, next)) = self.announced else { return config.edge_timeout };
        // One heartbeat may be missing.
        let late = self.late.saturating_mul(3).saturating_add(self.delay.saturating_mul(4));
        let patience = next.saturating_add(MARGIN).saturating_add(late);
        patience.min(config.edge_timeout)
    }
}

impl Edge {
    /// When the other end counts as dead if nothing comes.
    pub(super) fn silent_at(&self, config: &Config) -> Instant {
        let at = self.heard + self.pulse.patience(config);
        let awake = self.pulse.awake_at.map_or(at, |awake| at.max(awake));
        awake.min(self.heard + config.edge_timeout)
    }

    /// Whether the other end has been silent for too long.
    pub(super) fn is_silent(&mut self, config: &Config, now: Instant) -> bool {
        let at = self.silent_at(config);
        if now < at {
            return false;
        }
        let slept = now.saturating_duration_since(at) > ASLEEP;
        if slept && self.pulse.announced.is_some() {
            self.pulse.awake_at = Some(now + AWAKE);
        }
        now >= self.silent_at(config)
    }
}

impl Relay {
    /// Whether data moves on an edge, or did lately.
    #[must_use]
    pub fn is_busy(&self, edge: EdgeId, now: Instant) -> bool {
        self.edges.get(&edge).is_some_and(|edge| edge.pulse.is_busy(now))
    }

    /// Heartbeats on an edge are to come as often; `None`: as often as they would. Those of busy edges come
    /// often enough.
    pub fn set_heartbeat(&mut self, edge: EdgeId, period: Option<Duration>, now: Instant) {
        let Some(edge) = self.edges.get_mut(&edge) else { return };
        if std::mem::replace(&mut edge.pulse.asked, period) != period {
            let (period, _) = edge.pulse.period(&self.config, now);
            edge.heartbeat_at = edge.heartbeat_at.min(now + period);
        }
    }

    /// By how much this node is late at times: told with heartbeats.
    pub const fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
    }

    /// The heartbeat that is owed on an edge.
    pub(super) fn pull_heartbeat(&mut self, id: EdgeId, now: Instant) -> Option<Heartbeat> {
        if !std::mem::take(&mut self.edges.get_mut(&id)?.owes.heartbeat) {
            return None;
        }
        let is_full = self.has_more(id);
        let edge = self.edges.get_mut(&id)?;
        edge.heartbeat_sent(RECENT, now);
        let (period, next_ms) = edge.pulse.period(&self.config, now);
        edge.heartbeat_at = edge.heartbeat_at.min(now + period);
        let (stamp_us, echo_us) = edge.pulse.stamps(micros(now, self.origin));
        Some(Heartbeat {
            epoch: self.epoch,
            sent: edge.sent,
            next_ms,
            received: edge.live.came.then_some(edge.received),
            stamp_us,
            echo_us,
            lag_us: u32::try_from(self.lag.as_micros()).unwrap_or(u32::MAX),
            is_full,
        })
    }

    pub(super) fn on_heartbeat(&mut self, id: EdgeId, heartbeat: Heartbeat, now: Instant) {
        let is_full = heartbeat.is_full || self.has_more(id);
        let Some(edge) = self.edges.get_mut(&id) else { return };
        edge.pulse.beat(heartbeat.next_ms, now);
        if let Some(received) = heartbeat.received {
            edge.live.arrived(received);
        }
        edge.peer_sent = Some((now, heartbeat.sent));
        edge.pulse.awaits &= heartbeat.echo_us.is_none();
        if let Some(stamp) = heartbeat.stamp_us {
            // Whoever was asked asks in turn, and leaves the next beginning to the one who has begun.
            edge.pulse.begins = heartbeat.echo_us.is_some();
            edge.pulse.asks |= !edge.pulse.begins && !edge.pulse.awaits;
            edge.pulse.stamp = Some(stamp);
            edge.owes.heartbeat |= edge.is_wanted();
            // Who has begun goes on when it said that it would, however long answers take.
            if !edge.pulse.begins {
                edge.heartbeat_at = now + edge.pulse.period(&self.config, now).0;
            }
        }
        let sent = |stamp| self.origin.checked_add(Duration::from_micros(stamp));
        if let Some(sent) = heartbeat.echo_us.and_then(sent).filter(|sent| *sent <= now) {
            let lag = Duration::from_micros(heartbeat.lag_us.into());
            let crossed = std::mem::take(&mut edge.crossed);
            let round_trip = RoundTrip { sent, lag, is_full, crossed };
            self.outputs.push_back(Output::RoundTrip { edge: id, round_trip });
        }
        self.outputs.push_back(Output::PeerEpoch { edge: id, epoch: heartbeat.epoch });
        self.finish(id, now);
    }

    /// The one-way delay of the channel below an edge was measured.
    pub fn set_delay(&mut self, edge: EdgeId, delay: Duration) {
        if let Some(edge) = self.edges.get_mut(&edge) {
            edge.pulse.delay = delay;
        }
    }

    /// A frame moves on an edge.
    pub(super) fn moves(&mut self, id: EdgeId, now: Instant) {
        if let Some(edge) = self.edges.get_mut(&id)
            && edge.pulse.moves(now)
        {
            edge.owes.heartbeat |= edge.is_wanted();
        }
    }
}

fn micros(now: Instant, origin: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(origin).as_micros()).unwrap_or(u64::MAX)
}
