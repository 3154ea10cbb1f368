//! Quality of a channel as it is measured and reported (R1, patent: "second information").
//!
//! Integers on the wire: no NaN, no negative, nothing that two machines could print differently.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Parts per million.
pub const MILLION: u32 = 1_000_000;

/// In a share of losses what became of one probe weighs one in so many, and what became of those before it the
/// rest. So it is as sure as the share of `2 * LOSS_WEIGHT - 1` probes that weigh the same.
pub const LOSS_WEIGHT: u32 = 64;

/// Quality of one channel as one end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Qos {
    /// One-way delay in microseconds: half of the least round trip of late.
    pub delay_us: u32,
    /// By how much packets come later than that on average, in microseconds (RFC 5481, section 1), but for those
    /// that count as lost.
    pub jitter_us: u32,
    /// Share of probes lost or late by a retransmission, in parts per million, at most 1,000,000; see
    /// [`LOSS_WEIGHT`].
    pub loss_ppm: u32,
    /// Bandwidth in kbit/s; `None` while nobody has measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_kbps: Option<u32>,
}

impl Qos {
    /// A channel with this delay and nothing else known against it.
    #[must_use]
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay_us: u32::try_from(delay.as_micros()).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// The same with each figure brought into its range.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self { loss_ppm: self.loss_ppm.min(MILLION), ..self }
    }

    /// What two views of one channel, from its ends, come to: the worse, figure by figure; but of losses the mean,
    /// for what either end counts was lost on the way there or back.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            delay_us: self.delay_us.max(other.delay_us),
            jitter_us: self.jitter_us.max(other.jitter_us),
            loss_ppm: self.loss_ppm.midpoint(other.loss_ppm),
            bandwidth_kbps: match (self.bandwidth_kbps, other.bandwidth_kbps) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// How two members reach each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Without anybody between.
    Direct,
    /// Over a circuit through a third peer.
    Relayed,
}

/// What carries a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP with noise and yamux.
    Tcp,
    /// QUIC.
    Quic,
    /// Anything else.
    #[serde(other)]
    Other,
}
