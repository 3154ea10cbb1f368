//! Quality of a channel as it is measured and reported (R1, patent: "second information").
//!
//! Integers on the wire: no NaN, no negative, nothing that two machines could print differently.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Parts per million.
pub const MILLION: u32 = 1_000_000;

/// Quality of one channel as one end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Qos {
    /// One-way delay in microseconds (half a median round trip).
    pub delay_us: u32,
    /// Smoothed variation of the delay in microseconds (RFC 3550, section 6.4.1).
    pub jitter_us: u32,
    /// Share of probes lost or late by a retransmission, in parts per million, at most 1,000,000.
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

    /// The worse of two views of one channel, figure by figure.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            delay_us: self.delay_us.max(other.delay_us),
            jitter_us: self.jitter_us.max(other.jitter_us),
            loss_ppm: self.loss_ppm.max(other.loss_ppm),
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
