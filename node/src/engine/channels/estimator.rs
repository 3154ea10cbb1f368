//! Delay, jitter and loss of one channel from its round trips (R1, patent: "second information").
//!
//! Channels are reliable: what is lost on them comes late, after a retransmission timeout (RFC 6298, RFC 9002).
//! So loss is the share of echoes that are late for what is usual, exponentially weighted; and only so many late
//! ones in a row as chance does not bring show that the way itself has become longer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arborcast_protocol::qos::{LOSS_WEIGHT, MILLION, Qos};

/// What the echoes of one channel have shown. All figures are integers, so that all machines compute the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Estimator {
    /// The last [`WINDOW`] round trips, and whether they waited behind data: so they show no jitter, and a longer
    /// way only where all of them do.
    recent: VecDeque<(Duration, bool)>,
    /// Late echoes in a row that are to count as lost once one comes in time, and what was in time before.
    late: Option<(u32, Duration)>,
    /// `lost_ppm` and `row` when the first of them came, for the way may turn out to have become longer.
    before: (u32, (u32, u32)),
    /// Messages that have crossed since the last one that did.
    crossed: u32,
    /// The last echo.
    last: Option<Echo>,
    /// Share of echoes that were late or never came, in parts per million.
    lost_ppm: u32,
    /// Echoes in time in a row, and the share when the row began.
    row: (u32, u32),
    /// What comes of all that.
    qos: Option<Qos>,
}

/// One echo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    /// When what it answers was sent.
    pub(super) sent: Instant,
    /// When it came.
    pub(super) came: Instant,
    /// How late both machines are at times: so much says nothing.
    pub(super) lag: Duration,
    /// Messages that crossed the channel either way since the last one, those that it is made of included. What is
    /// lost of them is repeated, and what came after it waits.
    pub(super) crossed: u32,
    /// It came behind data that waited: late as it may be, nothing need have been lost.
    pub(super) is_full: bool,
}

impl Echo {
    /// Whether it seems to have waited for the one before: it comes closer behind it than it was sent.
    fn waited_behind(self, last: Self) -> bool {
        let apart = self.sent.saturating_duration_since(last.sent);
        self.came.saturating_duration_since(last.came) <= apart / 2
    }
}

impl Estimator {
    /// Takes in an echo. True if it does not fit what is known: worth to be looked at again soon.
    pub(super) fn on_echo(&mut self, echo: Echo) -> bool {
        let is_strange = self.take_in(echo);
        self.qos = self.figures();
        is_strange
    }

    fn take_in(&mut self, echo: Echo) -> bool {
        let round_trip = echo.came.saturating_duration_since(echo.sent);
        let waited = self.last.replace(echo).is_some_and(|last| echo.waited_behind(last));
        let usual = self.usual().unwrap_or(round_trip);
        self.crossed = self.crossed.saturating_add(echo.crossed);
        // In a row of late ones by what was usual before it, for they are themselves becoming what is usual.
        let in_time = self.late.map_or_else(|| latest(usual), |(_, in_time)| in_time);
        let is_late = round_trip > in_time.saturating_add(echo.lag);
        if !(is_late && waited) || echo.is_full {
            // Behind what was lost and is repeated everything waits, which tells nothing of the way.
            push(&mut self.recent, (round_trip, echo.is_full));
        }
        if echo.is_full {
            return false;
        }
        if is_late {
            if self.late.is_none() {
                self.before = (self.lost_ppm, self.row);
            }
            let (late, _) = self.late.get_or_insert((0, in_time));
            *late += u32::from(!waited);
            if !waited && *late > FEW {
                // No few any more: known before the row ends, and taken back if it was no row of losses.
                self.on_lost();
            }
            if self.recent.iter().all(|(time, _)| *time > in_time) {
                // The way has become longer.
                self.late = None;
                (self.lost_ppm, self.row) = self.before;
            }
            return self.lost_ppm < EXPLAINED_PPM;
        }
        if round_trip > in_time {
            // It may be late or not.
            return false;
        }
        let late = self.late.take().map_or(0, |(late, _)| late);
        // So much of a window in a row was a way that was longer for a while: where half of them are late, chance brings that
        // once in 8,192 times.
        if (late as usize) * 8 < self.recent.len() * 7 {
            (0..late.min(FEW)).for_each(|_| self.on_lost());
        } else {
            (self.lost_ppm, self.row) = self.before;
        }
        // The others there and back came in time as well, or waited for these.
        let others = (self.crossed / 2).saturating_sub(late).clamp(1, LOSS_WEIGHT);
        self.crossed %= 2;
        (0..others).for_each(|_| self.on_in_time());
        usual > latest(round_trip) || self.is_promising()
    }

    /// No echo came. True if that does not fit what is known.
    pub(super) fn on_missing(&mut self) -> bool {
        self.on_lost();
        self.qos = self.figures();
        self.lost_ppm < EXPLAINED_PPM
    }

    fn on_lost(&mut self) {
        self.lost_ppm += (MILLION - self.lost_ppm) / LOSS_WEIGHT;
        self.row = (0, self.lost_ppm);
    }

    fn on_in_time(&mut self) {
        self.lost_ppm -= self.lost_ppm / LOSS_WEIGHT;
        self.row.0 = self.row.0.saturating_add(1);
        if self.evidence() >= DECIDED {
            // What was lost before was lost on another channel, so to speak.
            self.lost_ppm = 0;
        }
    }

    /// So many echoes would have been late in this row if the channel still lost as much as before. That none
    /// was has the chance `exp(-evidence)`.
    fn evidence(&self) -> u32 {
        let (row, before) = self.row;
        u32::try_from(u64::from(row) * u64::from(before) / u64::from(MILLION)).unwrap_or(u32::MAX)
    }

    /// Whether the channel seems to lose less than its figure says.
    fn is_promising(&self) -> bool {
        self.row.1 >= EXPLAINED_PPM && self.lost_ppm > 0 && self.evidence() >= PROMISING
    }

    /// The round trip of an echo that nothing holds up, as a rule: the lower quartile, for what is lost or waits
    /// comes later and never earlier.
    fn usual(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.recent.iter().map(|(time, _)| *time).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 4).copied()
    }

    /// The figures, without a bandwidth; `None` before the first echo.
    pub(super) const fn qos(&self) -> Option<Qos> {
        self.qos
    }

    /// Delay is half of the least round trip, as
    /// what holds packets up only adds to it; jitter by how much those in time come later on average (delay
    /// variation as in RFC 5481, section 1).
    fn figures(&self) -> Option<Qos> {
        let least = self.recent.iter().map(|(time, _)| *time).min()?;
        let in_time = latest(self.usual()?);
        let freely = self.recent.iter().filter(|(time, is_full)| !is_full && *time <= in_time);
        let more = freely.map(|(time, _)| time.abs_diff(least));
        let (sum, number) = more.fold((Duration::ZERO, 0), |(sum, number), more| {
            (sum.saturating_add(more), number + 1)
        });
        let jitter_us = micros(sum / number.max(1) / 2);
        Some(Qos { jitter_us, loss_ppm: self.lost_ppm, ..Qos::with_delay(least / 2) })
    }
}

/// When an echo is late that usually takes so long. A retransmission comes after a whole round trip more at least
/// (RFC 9002, section 6.2; RFC 6298 has 200 ms at least); jitter adds less as a rule.
fn latest(usual: Duration) -> Duration {
    usual.saturating_add(usual / 4 * 3).saturating_add(LATE)
}

fn push<T>(queue: &mut VecDeque<T>, time: T) {
    if queue.len() >= WINDOW {
        queue.pop_front();
    }
    queue.push_back(time);
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Round trips that are looked at together.
const WINDOW: usize = 16;

/// No echo is late by less: a retransmission takes at least the peer's delayed acknowledgement (25 ms in QUIC,
/// 40 ms in Linux TCP), a busy machine some milliseconds. A guess between them.
const LATE: Duration = Duration::from_millis(20);

/// So many late echoes in a row are not counted before it has ended.
const FEW: u32 = 3;

/// On a channel that is known to lose so much a late echo is nothing new.
const EXPLAINED_PPM: u32 = 150_000;

/// The chance of a row of echoes in time on a channel that loses as much as before, `exp(-7)`, below which it
/// is known to be another one.
const DECIDED: u32 = 7;

/// The same, `exp(-2)`, where it is worth a closer look.
const PROMISING: u32 = 2;

#[cfg(test)]
mod tests;
