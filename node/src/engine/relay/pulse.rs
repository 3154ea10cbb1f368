//! How long an edge may be silent before its other end counts as dead.
//!
//! While data moves, and for a while after, heartbeats are frequent, and each says when the next one
//! is due; so a neighbour that died without a word is noticed within tenths of a second on a quiet
//! local network. How late they may be follows the channel's delay and how late they have been before:
//! an accrual of suspicion in its simplest form (Hayashibara et al., "The φ accrual failure detector",
//! 2004; the estimate of a timeout from lateness is that of RFC 6298). When nothing moves nobody misses
//! anything, and small devices are left in peace.

use std::time::{Duration, Instant};

use super::{Config, Relay, edge::Edge};
use crate::engine::event::EdgeId;

/// Time between two heartbeats on a busy edge, on top of what follows from the delay.
const BUSY: Duration = Duration::from_millis(100);

/// Plus so many one-way delays: on a slow channel nothing is noticed within tenths of a second anyway.
const DELAYS: u32 = 8;

/// An edge counts as busy for so long after the last frame.
const BUSY_FOR: Duration = Duration::from_secs(10);

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
    told: Option<(Instant, Duration)>,
    /// How late heartbeats were, at worst, less what is forgotten.
    late: Duration,
    /// This node was not awake itself: what came meanwhile is taken in by then.
    awake_at: Option<Instant>,
}

impl Pulse {
    pub(super) const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
            moved: None,
            told: None,
            late: Duration::ZERO,
            awake_at: None,
        }
    }

    /// Time until the next heartbeat of this side; the second figure is what the other side is told of
    /// it.
    pub(super) fn period(&self, config: &Config, now: Instant) -> (Duration, Option<u32>) {
        let busy = BUSY.saturating_add(self.delay.saturating_mul(DELAYS));
        let is_busy = self.moved.is_some_and(|at| now < at + BUSY_FOR);
        if !is_busy || busy >= config.heartbeat {
            return (config.heartbeat, None);
        }
        (busy, u32::try_from(busy.as_millis()).ok())
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
        if let Some((at, next)) = self.told.filter(|_| !slept) {
            let late = now.saturating_duration_since(at).saturating_sub(next);
            self.late = late.max(self.late.saturating_sub(self.late / FORGOTTEN));
        }
        self.told = next_ms.map(|next| (now, Duration::from_millis(next.into())));
    }

    /// How long nothing may be heard.
    fn patience(&self, config: &Config) -> Duration {
        let Some((_, next)) = self.told else { return config.edge_timeout };
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
        if slept && self.pulse.told.is_some() {
            self.pulse.awake_at = Some(now + AWAKE);
        }
        now >= self.silent_at(config)
    }
}

impl Relay {
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
