//! The bandwidth of one channel: from short trains of bytes, and from data that waits.

use std::time::{Duration, Instant};

use crate::engine::{event::Spread, relay::Carried};

/// What is known of a channel's width, in kbit/s.
#[derive(Clone, Debug, Default)]
pub(super) struct Bandwidth {
    kbps: Option<u32>,
    /// The trains of a measurement under way: the widest so far, and how many may follow.
    measuring: Option<(u32, u32)>,
    /// What its edge had carried at some time.
    carried: Option<(Carried, Instant)>,
    /// What it took last while there was more.
    filled: Option<u32>,
}

impl Bandwidth {
    pub(super) const fn kbps(&self) -> Option<u32> {
        self.kbps
    }

    /// Takes in how a train arrived that `took` so long there and back on a channel of that round trip; `None`
    /// if it did not. True if another one is to follow: what is in the way for a moment makes a channel look
    /// narrow, and nothing makes it look wide but what waited for a loss and comes all at once.
    pub(super) fn on_train(
        &mut self,
        spread: Option<Spread>,
        took: Duration,
        round_trip: Duration,
    ) -> bool {
        let (best, left) = self.measuring.take().unwrap_or((0, TRAINS));
        let is_held_up = |spread: &Spread| took > round_trip + 2 * spread.time + HELD_UP;
        let width = spread.filter(|spread| !is_held_up(spread)).map_or(0, width_kbps);
        let (best, left) = (best.max(width), left.saturating_sub(1));
        if best < WIDE_KBPS && left > 0 {
            self.measuring = Some((best, left));
            return true;
        }
        if best > 0 {
            self.kbps = Some(best);
        }
        false
    }

    /// What its edge has carried so far. Live data shows a least bandwidth; and where there was more than the
    /// channel took, twice as long as one look takes, how wide it is.
    pub(super) fn on_carried(&mut self, after: Carried, now: Instant) {
        let Some((before, since)) = self.carried else {
            self.carried = Some((after, now));
            return;
        };
        let is_full = before.is_full && after.is_full;
        // Over less, one frame would look like a stream.
        let time = now.saturating_duration_since(since);
        if time < LOOK {
            self.carried = Some((Carried { is_full, ..before }, since));
            return;
        }
        self.carried = Some((after, now));
        let all = |carried: Carried| carried.came.saturating_add(carried.went);
        let least = kbps(all(after).saturating_sub(all(before)), time);
        self.kbps = self.kbps.map(|known| known.max(least));
        let filled = is_full.then(|| kbps(after.went.saturating_sub(before.went), time));
        if let Some((before, now)) = self.filled.zip(filled) {
            self.kbps = Some(before.max(now));
        }
        self.filled = filled;
    }
}

fn width_kbps(spread: Spread) -> u32 {
    kbps(spread.bytes.into(), spread.time)
}

fn kbps(bytes: u64, time: Duration) -> u32 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    u32::try_from(bytes.saturating_mul(8000) / micros).unwrap_or(u32::MAX).min(WIDEST_KBPS)
}

/// Trains of one measurement, at most.
const TRAINS: u32 = 3;

/// What looks narrower may have been held up.
const WIDE_KBPS: u32 = 20_000;

/// The widest that a train of 32 KiB can tell: at 1 Gbit/s it takes 0.2 ms, as long as a task may wait for its
/// turn.
const WIDEST_KBPS: u32 = 1_000_000;

/// A train that takes longer by this than its channel and its length explain was lost in part, and repeated.
const HELD_UP: Duration = Duration::from_millis(20);

/// Live data counts over at least this.
const LOOK: Duration = Duration::from_millis(1_500);

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(us: u64) -> Spread {
        Spread { bytes: 25_000, time: Duration::from_micros(us) }
    }

    fn train(bandwidth: &mut Bandwidth, us: u64) -> bool {
        bandwidth.on_train(Some(spread(us)), Duration::from_micros(us), Duration::ZERO)
    }

    #[test]
    fn r1_a_train_that_looks_narrow_is_repeated_and_the_widest_counts() {
        let mut bandwidth = Bandwidth::default();
        assert!(!train(&mut bandwidth, 1_000));
        assert_eq!(bandwidth.kbps(), Some(200_000));
        assert!(train(&mut bandwidth, 200_000) && train(&mut bandwidth, 100_000));
        assert_eq!(bandwidth.kbps(), Some(200_000), "not known yet");
        assert!(!train(&mut bandwidth, 400_000));
        assert_eq!(bandwidth.kbps(), Some(2_000));
        assert!(train(&mut bandwidth, 100_000) && !train(&mut bandwidth, 0));
        assert_eq!(bandwidth.kbps(), Some(1_000_000), "loopback");
        // What waited for a loss came all at once.
        let late = Duration::from_millis(200);
        assert!(bandwidth.on_train(Some(spread(1)), late, Duration::ZERO));
        assert!(bandwidth.on_train(None, late, Duration::ZERO));
        assert!(!bandwidth.on_train(None, late, Duration::ZERO));
        assert_eq!(bandwidth.kbps(), Some(1_000_000), "nothing was learnt");
    }

    #[test]
    fn r3_data_shows_how_wide_a_channel_is_at_least_and_what_waits_how_wide_at_most() {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let start = Instant::now();
        let carried = |s: u64, kbit: u64, is_full| {
            let carried = Carried { came: 0, went: kbit * 125, is_full };
            (carried, start + Duration::from_secs(s))
        };
        let mut bandwidth = Bandwidth::default();
        let see = |bandwidth: &mut Bandwidth, (carried, now)| {
            bandwidth.on_carried(carried, now);
            bandwidth.kbps()
        };
        see(&mut bandwidth, carried(0, 0, false));
        assert_eq!(see(&mut bandwidth, carried(2, 4_000, false)), None, "no more than a least one");
        train(&mut bandwidth, 8_000);
        while train(&mut bandwidth, 200_000) {}
        assert_eq!(see(&mut bandwidth, carried(4, 104_000, false)), Some(50_000));
        assert_eq!(see(&mut bandwidth, carried(6, 106_000, true)), Some(50_000));
        assert_eq!(
            see(&mut bandwidth, carried(8, 108_000, true)),
            Some(50_000),
            "once may be chance"
        );
        assert_eq!(see(&mut bandwidth, carried(10, 112_000, true)), Some(2_000));
    }
}
