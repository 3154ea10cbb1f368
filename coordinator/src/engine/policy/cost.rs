//! What a channel is worth: its cost, what of that may be chance, when it is poor, and what is to be known better.

use arborcast_protocol::qos::{LOSS_WEIGHT, MILLION, Qos};

use crate::engine::Config;

/// Longest delay or jitter that counts, in microseconds: ten seconds. What is above is nonsense or
/// of no use, and must not push others out of range.
const LONGEST_US: u32 = 10_000_000;

/// What counts for a channel that nobody has measured.
const UNKNOWN: Qos = Qos { delay_us: 50_000, jitter_us: 0, loss_ppm: 0, bandwidth_kbps: None };

/// Time that a relay takes to pass a frame on, in microseconds.
const HOP_US: u64 = 500;

/// Allowance of a probe timeout beside round trip and jitter, in microseconds: the longest that a
/// receiver holds an acknowledgement back (RFC 9002, section 6.2).
const PROBE_TIMEOUT_US: u64 = 25_000;

/// What a relay has to send before the next member has it, in bits: 4 KiB, a frame of some messages.
const FRAME_BITS: u64 = 4096 * 8;

/// Loss above this costs no more, in parts per million: the channel is poor anyway.
const COSTLIEST_LOSS_PPM: u32 = MILLION / 2;

/// Whether the figures of a report are such as can be: no channel loses more than all, and none that
/// a report is about has no bandwidth at all.
pub(crate) fn is_sane(qos: Qos) -> bool {
    qos == sane(qos) && qos.bandwidth_kbps != Some(0)
}

/// Brings the figures of a report into range.
pub(crate) fn sane(qos: Qos) -> Qos {
    Qos {
        delay_us: qos.delay_us.min(LONGEST_US),
        jitter_us: qos.jitter_us.min(LONGEST_US),
        ..qos.clamped()
    }
}

/// What a channel adds to the delay of a message, in microseconds: a relay's forwarding time, delay,
/// jitter, the time to send a frame where the bandwidth is known (as in the metric of RFC 7868, section
/// 5.6), and the expected wait for the repair of a loss,
/// `loss / (1 - loss) * (2 * delay + 4 * jitter + 25 ms)` (one probe timeout, RFC 9002, section 6.2).
///
/// So a channel that has become narrow is left for one that is wider, whatever the session needs; above
/// some 16 Mbit/s differences are noise.
pub(crate) fn cost_us(qos: Option<Qos>) -> u64 {
    let qos = sane(qos.unwrap_or(UNKNOWN));
    let (delay, jitter) = (u64::from(qos.delay_us), u64::from(qos.jitter_us));
    let loss = u64::from(qos.loss_ppm.min(COSTLIEST_LOSS_PPM));
    let timeout = 2 * delay + 4 * jitter + PROBE_TIMEOUT_US;
    let sending = qos.bandwidth_kbps.map_or(0, |kbps| FRAME_BITS * 1000 / u64::from(kbps.max(1)));
    HOP_US + delay + jitter + sending + loss * timeout / (u64::from(MILLION) - loss)
}

/// How much of a channel's cost may be due to chance, in microseconds: half of its jitter, for delay and
/// jitter themselves are known no better where it is large; and what the losses cost that it may not have.
pub(crate) fn noise_us(qos: Option<Qos>) -> u64 {
    let qos = sane(qos.unwrap_or(UNKNOWN));
    let surely = Qos { loss_ppm: surely_lost_ppm(qos.loss_ppm), ..qos };
    u64::from(qos.jitter_us) / 2 + cost_us(Some(qos)).saturating_sub(cost_us(Some(surely)))
}

/// What a channel surely loses that lost such a share of [`PROBES`]: the lower bound of Wilson's score
/// interval at three standard deviations (E. B. Wilson, 1927), in parts per million.
fn surely_lost_ppm(loss_ppm: u32) -> u32 {
    let (million, lost) = (u64::from(MILLION), u64::from(loss_ppm.min(MILLION)));
    // z * z / n, in parts per million, for z = 3.
    let weight = 9 * million / PROBES;
    let variance = lost * (million - lost) / PROBES + weight * million / (4 * PROBES);
    let bound =
        (lost + weight / 2).saturating_sub(3 * variance.isqrt()) * million / (million + weight);
    u32::try_from(bound).unwrap_or(MILLION)
}

/// So many probes of the same weight would tell the share of losses as surely.
const PROBES: u64 = 2 * LOSS_WEIGHT as u64 - 1;

/// What chance alone adds to the share of losses, in parts per million: where 4 % of all probes are lost, and some
/// more look so since what comes behind a loss waits, chance alone brings their weighted share above 15 % once in
/// hours.
const LOSS_NOISE_PPM: u32 = 100_000;

/// What a session can bear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Needs {
    /// Most loss, in parts per million.
    pub(crate) loss_ppm: u32,
    /// Least bandwidth, in kbit/s; 0 for any.
    pub(crate) rate_kbps: u32,
}

impl Needs {
    pub(crate) const fn of(config: &Config) -> Self {
        Self { loss_ppm: config.poor_loss_ppm, rate_kbps: config.session_rate_kbps }
    }

    /// How many neighbours an uplink can feed in a session of so many members; `None` where its rate is not known. Each
    /// gets what all send, but for its own share: with `d` neighbours a member sends `rate * (d - 1)`, and what it says
    /// itself.
    pub(crate) fn neighbours(self, upload_kbps: u32, members: usize) -> Option<u32> {
        let members = u32::try_from(members).unwrap_or(u32::MAX).max(1);
        let rest = upload_kbps.saturating_sub(self.rate_kbps / members);
        Some(rest.checked_div(self.rate_kbps)?.saturating_add(1))
    }

    /// Whether a channel is to be avoided while the session stays connected without it. One that
    /// nobody has measured is not. What is in use has to be worse than noise alone would have it.
    pub(crate) fn is_poor(self, qos: Option<Qos>, is_in_use: bool) -> bool {
        let (loss_ppm, rate_kbps) = if is_in_use {
            (self.loss_ppm.saturating_add(LOSS_NOISE_PPM), self.rate_kbps / 4 * 3)
        } else {
            (self.loss_ppm, self.rate_kbps)
        };
        qos.is_some_and(|qos| {
            qos.loss_ppm > loss_ppm || qos.bandwidth_kbps.is_some_and(|width| width < rate_kbps)
        })
    }

    /// Whether the tree may depend on how wide a channel is that is not in use: it counts as narrow, and would
    /// count for much more if it were wide; or the session needs a rate, and nobody has measured it.
    pub(crate) fn asks_for_bandwidth(self, qos: Qos, hysteresis_us: u64) -> bool {
        if qos.bandwidth_kbps.is_none() {
            return self.rate_kbps > 0;
        }
        let wide = Some(Qos { bandwidth_kbps: None, ..qos });
        let costs = cost_us(Some(qos)).saturating_sub(cost_us(wide));
        costs > hysteresis_us || self.is_poor(Some(qos), false) != self.is_poor(wide, false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NEEDS: Needs = Needs { loss_ppm: 50_000, rate_kbps: 1_000 };

    #[test]
    fn r3_cost_is_delay_jitter_hop_sending_time_and_the_wait_for_repairs() {
        assert_eq!(cost_us(None), 50_500);
        assert_eq!(cost_us(Some(Qos::with_delay(Duration::from_millis(10)))), 10_500);
        let qos = Qos { delay_us: 10_000, jitter_us: 5_000, loss_ppm: 200_000, ..Qos::default() };
        // 0.2 / 0.8 * (20 + 20 + 25) ms = 16.25 ms
        assert_eq!(cost_us(Some(qos)), 500 + 15_000 + 16_250);
        let wide = |kbps| Some(Qos { bandwidth_kbps: Some(kbps), ..Qos::default() });
        assert_eq!(
            [1_000_000, 16_384, 1_000, 64].map(|kbps| cost_us(wide(kbps))),
            [532, 2_500, 33_268, 512_500]
        );
    }

    #[test]
    fn r3_what_may_be_chance_grows_with_jitter_and_loss() {
        assert_eq!(
            [0, 60_000, 150_000, 1_000_000].map(surely_lost_ppm),
            [0, 21_442, 78_432, 933_823]
        );
        let qos = |jitter_us, loss_ppm| {
            Some(Qos { delay_us: 10_000, jitter_us, loss_ppm, ..Qos::default() })
        };
        assert_eq!(noise_us(qos(0, 0)), 0);
        assert_eq!(noise_us(qos(6_000, 0)), 3_000);
        // 6.0 of 100 lost, 2.2 of them surely: (0.060 / 0.940 - 0.022 / 0.978) * 45 ms
        assert_eq!(noise_us(qos(0, 60_000)), 1_886);
        assert_eq!(noise_us(None), noise_us(Some(UNKNOWN)));
    }

    #[test]
    fn nonsense_costs_much_but_stays_in_range() {
        let nonsense = Qos {
            delay_us: u32::MAX,
            jitter_us: u32::MAX,
            loss_ppm: u32::MAX,
            bandwidth_kbps: Some(0),
        };
        assert_eq!(cost_us(Some(nonsense)), 500 + 20_000_000 + 32_768_000 + 60_025_000);
        assert!(NEEDS.is_poor(Some(sane(nonsense)), true));
    }

    #[test]
    fn an_uplink_feeds_as_many_neighbours_as_it_can_carry_all_for() {
        let needs = |rate_kbps| Needs { rate_kbps, ..NEEDS };
        assert_eq!(needs(0).neighbours(1_000, 3), None);
        assert_eq!(
            [0, 999, 1_099, 1_100, 2_100, 1_000_000].map(|kbps| needs(1_000).neighbours(kbps, 10)),
            [1, 1, 1, 2, 3, 1_000].map(Some)
        );
    }

    #[test]
    fn poor_is_too_lossy_or_too_narrow_and_never_unknown() {
        let good = Qos { loss_ppm: 50_000, bandwidth_kbps: Some(1_000), ..Qos::default() };
        assert!(!NEEDS.is_poor(Some(good), false));
        assert!(NEEDS.is_poor(Some(Qos { loss_ppm: 50_001, ..good }), false));
        assert!(NEEDS.is_poor(Some(Qos { bandwidth_kbps: Some(999), ..good }), false));
        assert!(!NEEDS.is_poor(Some(Qos { bandwidth_kbps: None, ..good }), false));
        assert!(!NEEDS.is_poor(None, false));
        // What is in use is left for more than noise.
        let used = |loss_ppm, kbps| {
            NEEDS.is_poor(Some(Qos { loss_ppm, bandwidth_kbps: Some(kbps), ..good }), true)
        };
        assert!(!used(150_000, 750) && used(150_001, 750) && used(0, 749));
    }

    #[test]
    fn r3_bandwidth_is_asked_for_where_it_decides() {
        let asks = |needs: Needs, kbps| {
            let qos = Qos { bandwidth_kbps: kbps, ..Qos::with_delay(Duration::from_millis(10)) };
            needs.asks_for_bandwidth(qos, 2_000)
        };
        let any = Needs { rate_kbps: 0, ..NEEDS };
        assert!(!asks(any, None) && asks(NEEDS, None));
        assert!(asks(any, Some(1_000)) && !asks(any, Some(20_000)));
        assert!(asks(Needs { rate_kbps: 30_000, ..NEEDS }, Some(20_000)));
    }
}
