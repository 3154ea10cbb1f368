//! Delay, jitter and loss of one channel from its probes (R1, patent: "second information").

use std::{collections::VecDeque, time::Duration};

use arborcast_protocol::qos::{MILLION, Qos};

/// What the probes of one channel have shown. All figures are integers, so that all machines
/// compute the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// The last [`WINDOW`] round trips.
    round_trips: VecDeque<Duration>,
    /// For the last [`OUTCOMES`] probes: whether the echo was missing or late.
    bad: VecDeque<bool>,
    /// The last round trips, as far as they are all far from the median; fewer than [`STEPS`].
    run: VecDeque<Duration>,
    /// Smoothed jitter in sixteenths of a microsecond (RFC 3550, appendix A.8).
    jitter_16: u64,
}

impl Meter {
    /// Takes in the outcome of a probe; `None` if no echo came.
    pub(super) fn record(&mut self, round_trip: Option<Duration>) {
        let late = match (round_trip, self.median()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(took), Some(median)) => {
                took > median.saturating_mul(4) && took > median.saturating_add(LATE)
            }
        };
        push(&mut self.bad, late, OUTCOMES);
        let Some(took) = round_trip else { return self.run.clear() };
        if let Some(last) = self.round_trips.back() {
            // Half of a round trip stands for the transit time of RFC 3550.
            let change = micros(took.abs_diff(*last) / 2);
            self.jitter_16 = (self.jitter_16 + change).saturating_sub((self.jitter_16 + 8) >> 4);
        }
        push(&mut self.round_trips, took, WINDOW);
        self.look_for_step(took);
    }

    /// Several round trips in a row that agree with each other and are far from the median on one side
    /// show a channel that has changed, not noise: what was before says nothing any more. Else the
    /// median would follow only after half a window.
    fn look_for_step(&mut self, took: Duration) {
        let Some(median) = self.median() else { return };
        let far = took.abs_diff(median) > STEP && took.max(median) / 2 > took.min(median);
        let agrees = self.run.back().is_none_or(|last| {
            (*last > median) == (took > median) && took.max(*last) / 2 <= took.min(*last)
        });
        if !far || !agrees {
            self.run.clear();
        }
        if !far {
            return;
        }
        self.run.push_back(took);
        if self.run.len() >= STEPS {
            self.round_trips = std::mem::take(&mut self.run);
            // They came late only by the measure of before.
            self.bad.iter_mut().rev().take(STEPS).for_each(|bad| *bad = false);
        }
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.round_trips.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// The figures; `None` before the first echo.
    pub(super) fn qos(&self) -> Option<Qos> {
        let delay = self.median()? / 2;
        let bad = self.bad.iter().filter(|bad| **bad).count();
        let loss_ppm = if self.bad.len() < OUTCOMES_AT_LEAST {
            0
        } else {
            u32::try_from(bad * MILLION as usize / self.bad.len()).unwrap_or(MILLION)
        };
        Some(Qos {
            jitter_us: u32::try_from(self.jitter_16 >> 4).unwrap_or(u32::MAX),
            loss_ppm,
            ..Qos::with_delay(delay)
        })
    }
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
    time(a.delay_us, b.delay_us)
        || time(a.jitter_us, b.jitter_us)
        || a.loss_ppm.abs_diff(b.loss_ppm) >= NOISE_PPM
        || a.bandwidth_kbps.is_some() != b.bandwidth_kbps.is_some()
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

/// Round trips that the median is taken of: half a minute at the default rate.
const WINDOW: usize = 16;

/// So many in a row make a step: at the default rate it shows within six seconds, so that an edge that
/// has become bad can be left within two report periods.
const STEPS: usize = 3;

/// Round trips that differ by less make no step, whatever their ratio.
const STEP: Duration = Duration::from_millis(10);

/// Probes that loss is counted over: two minutes at the default rate.
const OUTCOMES: usize = 64;

/// Below so many, one late echo would look like a broken channel.
const OUTCOMES_AT_LEAST: usize = 16;

/// No echo is late by less: a retransmission takes at least the peer's delayed acknowledgement
/// (25 ms in QUIC, 40 ms in Linux TCP), a busy machine some milliseconds. A guess between them.
const LATE: Duration = Duration::from_millis(20);

/// Times that differ by less are equal.
const NOISE_US: u32 = 1000;

/// Shares that differ by less are equal: about two probes of [`OUTCOMES`].
const NOISE_PPM: u32 = 20_000;

#[cfg(test)]
mod tests;
