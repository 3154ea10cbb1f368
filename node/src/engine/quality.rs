//! Delay, jitter, loss and bandwidth of one channel from its probes (R1, patent: "second
//! information").

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arborcast_protocol::qos::{MILLION, Qos};

use super::event::{Echoed, Spread};

/// What the probes of one channel have shown. All figures are integers, so that all machines
/// compute the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// The last [`WINDOW`] round trips.
    round_trips: VecDeque<Duration>,
    /// The last [`RECENT`] of them without what busy machines added.
    recent: VecDeque<Duration>,
    /// What became of the last [`OUTCOMES`] probes.
    outcomes: VecDeque<Outcome>,
    /// When the last late echo came: what was sent before that waited behind it.
    late_at: Option<Instant>,
    /// When the last probe that counted among the outcomes was sent.
    counted: Option<Instant>,
    /// The last round trip that was not late.
    in_time: Option<Duration>,
    /// Smoothed jitter in sixteenths of a microsecond (RFC 3550, appendix A.8, but that the first
    /// differences weigh as much as those to come: it begins with nothing, and is not known better).
    jitter_16: u64,
    /// Differences that it was taken of, at most [`JITTER_GAPS`].
    gaps: u64,
    /// What the last [`WIDTHS`] trains showed, in kbit/s.
    widths: VecDeque<u32>,
    /// These are no more than what heavy probes can tell; the next train knows better.
    is_least: bool,
    /// A train showed it to be narrow, and nothing else has.
    is_suspect: bool,
    /// How much longer the last [`AGREE`] heavy probes took than light ones.
    heavy: VecDeque<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Good,
    /// Later than the others by what a retransmission takes.
    Late,
    Missing,
}

/// What a probe says about those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// More of the same.
    Same,
    /// Far from the others: worth to be looked at again at once.
    Strange,
    /// The channel is another one now.
    Changed,
}

impl Meter {
    /// Takes in, at `now`, the outcome of a probe that was sent at that time; `None` if no echo came.
    pub(super) fn record(&mut self, sent: Instant, echo: Option<Echoed>, now: Instant) -> Verdict {
        let Some(echo) = echo else {
            push(&mut self.outcomes, Outcome::Missing, OUTCOMES);
            return Verdict::Strange;
        };
        // What a busy machine adds is no fault of the channel: it makes no echo late, and no step.
        let (round_trip, travelled) = (echo.round_trip, echo.travelled());
        let usual = self.usual();
        let is_late = usual.is_some_and(|usual| travelled > latest(usual));
        let is_far = usual.is_some_and(|usual| far(usual, travelled));
        // Behind what was lost and is repeated everything waits: that is one loss and not many.
        let waited = is_late && self.late_at.is_some_and(|late| sent < late);
        if is_late {
            self.late_at = Some(now);
        }
        // But what lasts longer than one retransmission takes is more than one loss.
        if !waited || self.counted.is_none_or(|counted| sent >= counted + RETRANSMITTED) {
            self.counted = Some(sent);
            push(&mut self.outcomes, if is_late { Outcome::Late } else { Outcome::Good }, OUTCOMES);
        }
        if let Some(losing) = self.losing() {
            // What it did before, when it was a better one, counts no more.
            let skip = self.outcomes.len().saturating_sub(losing);
            self.outcomes.drain(..skip);
        }
        if waited {
            return Verdict::Same;
        }
        if self.to_confirm() == Some(0) {
            // What was lost before was lost on another channel, so to speak.
            self.outcomes.iter_mut().for_each(|outcome| *outcome = Outcome::Good);
        }
        push(&mut self.round_trips, round_trip, WINDOW);
        // The first of all may have been late without anybody knowing.
        let was_late = |last: Duration| self.usual().is_some_and(|usual| last > latest(usual));
        if !is_late && let Some(last) = self.in_time.filter(|last| !was_late(*last)) {
            // Half of a round trip stands for the transit time of RFC 3550.
            let change = micros(round_trip.abs_diff(last) / 2);
            self.gaps = (self.gaps + 1).min(JITTER_GAPS);
            let (old, new) = (self.jitter_16, 16 * change);
            let step = old.abs_diff(new) / self.gaps;
            self.jitter_16 = if new > old { old + step } else { old - step };
        }
        if !is_late {
            self.in_time = Some(round_trip);
        }
        push(&mut self.recent, travelled, RECENT);
        if usual.is_some_and(|usual| self.has_changed(usual)) {
            self.begin_anew();
            return Verdict::Changed;
        }
        // Towards shorter times the quartile gets there before all of the last few agree.
        match usual.zip(self.usual()) {
            Some((before, after)) if far(before, after) => Verdict::Changed,
            _ if is_far => Verdict::Strange,
            _ => Verdict::Same,
        }
    }

    /// Whether the channel looks better of late than its figures say: worth to be looked at more often,
    /// until they say so, too.
    pub(super) fn is_recovering(&self) -> bool {
        let lost = self.to_confirm().is_some_and(|probes| probes > 0);
        let travelled = self.recent.iter().max().zip(self.recent.iter().min());
        let spread = travelled.map_or(0, |(most, least)| micros(most.saturating_sub(*least)));
        let jitter = self.jitter_16 >> 4;
        lost || (self.recent.len() == RECENT && jitter > u64::from(NOISE_US).max(2 * spread))
    }

    /// After so many more good probes those lost before count no more; `None` where the last few were
    /// not good, or where so little is lost that chance alone may bring such a row. What counts is how much
    /// it lost when it lost most, until the row began: before that it may have been a good one for long.
    fn to_confirm(&self) -> Option<usize> {
        let run =
            self.outcomes.iter().rev().take_while(|outcome| **outcome == Outcome::Good).count();
        let before = self.outcomes.len() - run;
        let (mut bad, mut needed) = (0, usize::MAX);
        for (probes, outcome) in (1..).zip(self.outcomes.iter().rev().skip(run)) {
            bad += usize::from(*outcome != Outcome::Good);
            if (bad >= EVIDENCE && probes >= STRETCH) || (bad > 0 && probes == before) {
                needed = needed.min((EVIDENCE * probes).div_ceil(bad));
            }
        }
        let is_clear = needed <= LONGEST_RUN && run >= PROMISING;
        is_clear.then(|| needed.saturating_sub(run))
    }

    /// The last probes that show together, beyond chance, that the channel loses much; how many they are.
    /// A cumulative sum of log likelihood ratios (E. S. Page, 1954), whose highest point tells where it began.
    fn losing(&self) -> Option<usize> {
        let mut evidence = 0_i64;
        let mut most = (DECIDED, None);
        for (probes, outcome) in (1..).zip(self.outcomes.iter().rev()) {
            evidence += if *outcome == Outcome::Good { -KEPT } else { LOST };
            if evidence >= most.0 {
                most = (evidence, Some(probes));
            }
        }
        most.1
    }

    /// The round trip of an echo that nothing holds up: the lower quartile, for what is lost, or waits
    /// for a busy machine, comes later and never earlier.
    fn usual(&self) -> Option<Duration> {
        lower_quartile(&self.round_trips)
    }

    /// Whether the last few are far from `before`, all of them to the same side. Were most of them
    /// enough, a channel that loses much would seem to be slow at times, and its losses forgotten.
    fn has_changed(&self, before: Duration) -> bool {
        let (Some(least), Some(most)) = (self.recent.iter().min(), self.recent.iter().max()) else {
            return false;
        };
        let is_one_sided = *least > before || *most < before;
        self.recent.len() == RECENT
            && self.round_trips.len() > RECENT
            && is_one_sided
            && far(before, *least)
            && far(before, *most)
    }

    /// Goes on from the last few alone. What was late among them is how the channel is now.
    fn begin_anew(&mut self) {
        let skip = self.round_trips.len().saturating_sub(RECENT);
        self.round_trips.drain(..skip);
        self.in_time = self.round_trips.back().copied();
        let skip = self.outcomes.len().saturating_sub(RECENT);
        self.outcomes.drain(..skip);
        self.heavy.clear();
        self.forgive_late();
    }

    /// What was late was not lost: there is another reason for it.
    fn forgive_late(&mut self) {
        for outcome in &mut self.outcomes {
            match outcome {
                Outcome::Late => *outcome = Outcome::Good,
                Outcome::Good | Outcome::Missing => {}
            }
        }
    }

    /// Takes in how a train arrived that `took` so long there and back. True if it was far from what is known, or the first one and not fast:
    /// worth another one. That a channel is so narrow that heavy probes of `bytes` show it is left to those:
    /// what is lost amid a train makes it as long.
    pub(super) fn record_train(&mut self, spread: Spread, took: Duration, bytes: u32) -> bool {
        let delay = self.usual().unwrap_or(took);
        if took > delay + 2 * spread.time + LATE {
            // Its first bytes were repeated, and the others, which had waited, came all at once.
            return true;
        }
        // Pieces that come later by chance are not held up by a narrow way.
        let time = spread.time.saturating_sub(self.chance());
        let width = width_kbps(Spread { time, ..spread });
        if shows(bytes, width) && !self.is_narrow(bytes) {
            self.is_suspect = true;
            return false;
        }
        self.is_suspect = false;
        let is_first = self.widths.is_empty();
        self.record_width(width) || (is_first && width < DOUBTFUL_KBPS)
    }

    /// Takes in at what rate live data went while there was more than the channel took. True if that
    /// is far from what is known.
    pub(super) fn filled(&mut self, kbps: u32) -> bool {
        self.record_width(kbps.min(WIDEST_KBPS))
    }

    /// Takes in what a probe of `bytes` took, right after a light one that took `light`.
    pub(super) fn record_heavy(&mut self, bytes: u32, light: Duration, heavy: Duration) -> Verdict {
        // What held the light one up for a moment did not wait for the heavy one. If it lasts, so many
        // light ones show before as many heavy ones do that the channel has changed.
        let usual = self.usual().unwrap_or(light);
        let light = if light.abs_diff(usual) < STEP { light } else { usual };
        let took = heavy.saturating_sub(light);
        push(&mut self.heavy, took, AGREE);
        let chance = self.chance();
        let known = self.width().map_or(Duration::ZERO, |width| time(bytes, width));
        let is_narrower = |took: Duration| {
            let sure = took.saturating_sub(chance);
            sure >= NARROW && sure / 2 > known
        };
        let is_wider = |took: Duration| known > NARROW && took < known / 2;
        let mut sorted: Vec<Duration> = self.heavy.iter().copied().collect();
        sorted.sort_unstable();
        // One that was held up by something else does not make a narrow channel of a wide one.
        let agree = sorted.first().copied().is_some_and(is_narrower)
            || sorted.get(AGREE - 2).copied().is_some_and(is_wider);
        if let Some(median) = sorted.get(AGREE / 2).filter(|_| agree && sorted.len() == AGREE) {
            // What takes no time makes no channel look wide: it may be wider than this.
            self.is_least = *median <= NARROW;
            let time = (*median).max(NARROW);
            self.widths = [width_kbps(Spread { bytes, time }); WIDTHS].into();
            self.heavy.clear();
            self.forgive_late();
            self.is_suspect = false;
            return Verdict::Changed;
        }
        let is_cleared = |median: &Duration| sorted.len() == AGREE && !is_narrower(*median);
        if self.is_suspect && sorted.get(AGREE / 2).is_some_and(is_cleared) {
            // The next train may say how wide it is.
            self.is_suspect = false;
            return Verdict::Changed;
        }
        if is_narrower(took) || is_wider(took) { Verdict::Strange } else { Verdict::Same }
    }

    /// Whether it is known to be so narrow that heavy probes of `bytes` show it.
    pub(super) fn is_narrow(&self, bytes: u32) -> bool {
        self.width().is_some_and(|width| shows(bytes, width))
    }

    /// Whether heavy probes are to tell if it is narrow.
    pub(super) const fn is_suspect(&self) -> bool {
        self.is_suspect
    }

    /// Whether it is known to be no narrower than heavy probes can tell, and nothing else.
    pub(super) const fn is_least(&self) -> bool {
        self.is_least
    }

    /// What may be later by chance: four times as much as the median of the last round trips is above the
    /// usual one. A few that are far from the others say nothing about the rest, as they would in a mean.
    fn chance(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.round_trips.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied();
        median
            .zip(self.usual())
            .map_or(Duration::ZERO, |(median, usual)| 4 * median.saturating_sub(usual))
    }

    fn record_width(&mut self, width: u32) -> bool {
        let known = self.width();
        if std::mem::take(&mut self.is_least) && known.is_some_and(|known| width > known) {
            self.widths.clear();
        }
        push(&mut self.widths, width, WIDTHS);
        known.is_some_and(|known| is_other_width(known, width))
    }

    /// The median, of two the larger: what is in the way for a moment makes a channel look narrow, and what a lost packet
    /// held up comes all at once and makes it look wide.
    fn width(&self) -> Option<u32> {
        let mut sorted: Vec<u32> = self.widths.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Live data came or went at this rate, so the channel is at least as wide. Says nothing where no
    /// train has shown how wide it is at most.
    pub(super) fn carried(&mut self, kbps: u32) {
        for width in &mut self.widths {
            *width = (*width).max(kbps.min(WIDEST_KBPS));
        }
    }

    /// Whether any echo came.
    pub(super) fn has_echo(&self) -> bool {
        !self.round_trips.is_empty()
    }

    /// The share of probes that were lost or late, in parts per million. Of few of them less counts, by
    /// what chance can add to their share beyond what it can to that of [`OUTCOMES`] (four standard
    /// deviations each, three where it is decided that the channel loses much): whoever compares channels
    /// need not know how old they are.
    fn loss_ppm(&self) -> u32 {
        let probes = self.outcomes.len();
        if probes < OUTCOMES_AT_LEAST {
            return 0;
        }
        let bad = self.outcomes.iter().filter(|outcome| **outcome != Outcome::Good).count();
        let million = MILLION as usize;
        let share = bad * million / probes;
        let deviation = |probes: usize| (share * (million - share) / probes).isqrt();
        let deviations = if self.losing().is_some() { 3 } else { 4 };
        let chance = deviations * (deviation(probes) - deviation(OUTCOMES));
        u32::try_from(share.saturating_sub(chance)).unwrap_or(MILLION)
    }

    /// The figures; `None` before the first echo.
    pub(super) fn qos(&self) -> Option<Qos> {
        let delay = self.usual()? / 2;
        let loss_ppm = self.loss_ppm();
        Some(Qos {
            jitter_us: u32::try_from(self.jitter_16 >> 4).unwrap_or(u32::MAX),
            loss_ppm,
            bandwidth_kbps: self.width(),
            ..Qos::with_delay(delay)
        })
    }
}

/// The largest of the lowest quarter.
fn lower_quartile(figures: &VecDeque<Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = figures.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 4).copied()
}

/// The longest round trip that no loss explains. Four times the usual one where that is short; but a
/// retransmission adds no more than a timeout does ([`RETRANSMISSION`], or one more round trip where
/// that takes longer; RFC 9002, section 6.2), which on a slow channel is less than three of its round
/// trips.
fn latest(usual: Duration) -> Duration {
    let late_by = usual.saturating_mul(3).min(RETRANSMISSION).max(usual).max(LATE);
    usual.saturating_add(late_by)
}

/// Whether a round trip is so far from the usual one that the channel may have changed: more than twice
/// as long, or less than half.
fn far(usual: Duration, round_trip: Duration) -> bool {
    let apart = round_trip.abs_diff(usual);
    apart >= STEP && apart > usual.min(round_trip)
}

fn width_kbps(spread: Spread) -> u32 {
    let micros = u64::try_from(spread.time.as_micros()).unwrap_or(u64::MAX).max(1);
    let kbps = u64::from(spread.bytes) * 8 * 1000 / micros;
    u32::try_from(kbps).unwrap_or(u32::MAX).min(WIDEST_KBPS)
}

/// Whether so many bytes take longer on a channel of this width than they need to on others.
fn shows(bytes: u32, kbps: u32) -> bool {
    time(bytes, kbps) > NARROW
}

/// How long so many bytes take.
fn time(bytes: u32, kbps: u32) -> Duration {
    Duration::from_micros(u64::from(bytes) * 8000 / u64::from(kbps.max(1)))
}

const fn is_other_width(a: u32, b: u32) -> bool {
    a / 2 > b || b / 2 > a
}

/// Whether two views of a channel differ by more than `percent` and by more than noise.
pub(super) fn differ(a: Option<Qos>, b: Option<Qos>, percent: u32) -> bool {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (None, None) => return false,
        (Some(_), None) | (None, Some(_)) => return true,
    };
    let time = |a: u32, b: u32| {
        let share = u64::from(a) * u64::from(percent) / 100;
        u64::from(a.abs_diff(b)) > share && a.abs_diff(b) >= NOISE_US
    };
    let width = match (a.bandwidth_kbps, b.bandwidth_kbps) {
        (Some(a), Some(b)) => is_other_width(a, b),
        (a, b) => a.is_some() != b.is_some(),
    };
    time(a.delay_us, b.delay_us)
        || time(a.jitter_us, b.jitter_us)
        || a.loss_ppm.abs_diff(b.loss_ppm) >= NOISE_PPM
        || width
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn micros(time: Duration) -> u64 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).into()
}

/// Round trips that the usual one is taken of: half a minute at the default rate.
const WINDOW: usize = 16;

/// Probes that loss is counted over: a minute on a channel of the tree, four on others, at the default rate.
const OUTCOMES: usize = 128;

/// So many times what was lost of them before, were it still so, the last ones would have lost: by
/// chance alone none of them does once in a thousand times (`exp(-7)`).
const EVIDENCE: usize = 7;

/// What a probe that is lost says for a channel that loses a fifth of them, against one that loses one of
/// twenty-five (2 % each way: noise): `ln(0.20 / 0.04)`, in thousandths.
const LOST: i64 = 1609;

/// What one that is not lost says against it: `ln(0.96 / 0.80)`.
const KEPT: i64 = 182;

/// When it is decided: chance alone brings it about once in 60,000 losses (`exp(-11)`).
const DECIDED: i64 = 11_000;

/// A channel that loses less than a tenth would need a longer row. What it had lost is forgotten as it
/// leaves the window.
const LONGEST_RUN: usize = 72;

/// Over fewer probes much is lost by chance now and then.
const STRETCH: usize = 48;

/// After so many good ones it may be better than its figures say.
const PROMISING: usize = 2;

/// A new difference weighs one in so many.
const JITTER_GAPS: u64 = 16;

/// Below so many, late echoes may be those of a machine that is busy with the new channel.
const OUTCOMES_AT_LEAST: usize = 8;

/// No echo is late by less: a retransmission takes at least the peer's delayed acknowledgement
/// (25 ms in QUIC, 40 ms in Linux TCP), a busy machine some milliseconds. A guess between them.
const LATE: Duration = Duration::from_millis(20);

/// No echo need be later than this to be a retransmission; Linux waits 200 ms at least.
const RETRANSMISSION: Duration = Duration::from_millis(150);

/// What is lost is repeated by then, and what is lost again is not (RFC 6298, section 5: 200 ms in Linux, and twice
/// as long each time).
const RETRANSMITTED: Duration = Duration::from_millis(400);

/// Probes that must show, all of them, that a channel has changed. What lasts for a moment only does
/// not last for so many, see [`super::channels`] for when they are sent; and of a channel that loses
/// half of them one in 256 times so many in a row are late.
const RECENT: usize = 8;

/// Round trips that differ by less are the same channel: a busy machine's hiccup.
const STEP: Duration = Duration::from_millis(8);

/// Trains, and looks at live data, that the median is taken of.
const WIDTHS: usize = 3;

/// What the first train shows below this may be due to what was lost and soon repeated.
const DOUBTFUL_KBPS: u32 = 20_000;

/// Heavy probes that have to agree that a channel got narrower, or wider. Each comes after a light one.
const AGREE: usize = RECENT;

/// A heavy probe that takes no longer than a light one by this says nothing: 2 KiB at 4 Mbit/s.
const NARROW: Duration = Duration::from_millis(4);

/// The widest that a train of 32 KiB can tell, in kbit/s: at 1 Gbit/s it takes 0.2 ms, as long as a
/// task may wait for its turn.
const WIDEST_KBPS: u32 = 1_000_000;

/// Times that differ by less are equal.
const NOISE_US: u32 = 1000;

/// Shares that differ by less are equal: about two probes of [`OUTCOMES`].
const NOISE_PPM: u32 = 20_000;

#[cfg(test)]
mod tests;
