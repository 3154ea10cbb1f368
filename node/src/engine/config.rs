//! What can be set on an engine.

use std::{str::FromStr, time::Duration};

use arborcast_protocol::{limits, path::Scope};
use serde::{Deserialize, Serialize};

use super::relay;

/// How a member learns to whom it passes group data on (patent, S304, manners 1 to 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHops {
    /// Manner 1: by asking at intervals that follow how often the tree changes (R10).
    Poll,
    /// Manner 2: by asking when group data that waits to be passed on overflows its buffer (R11).
    Overflow,
    /// Manner 3: by subscribing once, and following the updates (R12).
    #[default]
    Subscribe,
    /// Manner 4: as manner 3, and its own frames carry the tree, which relays then obey (R13).
    InBand,
}

impl NextHops {
    /// All of them, in the patent's order.
    pub const ALL: [Self; 4] = [Self::Poll, Self::Overflow, Self::Subscribe, Self::InBand];

    /// Its name in flags and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Overflow => "overflow",
            Self::Subscribe => "subscribe",
            Self::InBand => "in-band",
        }
    }
}

/// A name that no manner has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is none of poll, overflow, subscribe and in-band")]
pub struct UnknownNextHops(String);

impl FromStr for NextHops {
    type Err = UnknownNextHops;

    fn from_str(text: &str) -> Result<Self, UnknownNextHops> {
        let found = Self::ALL.into_iter().find(|manner| manner.name() == text);
        found.ok_or_else(|| UnknownNextHops(text.to_owned()))
    }
}

/// Settings of one engine. The defaults are good for people's machines on the Internet. In files a
/// duration is a whole number of milliseconds, and its name says so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "net", derive(documented::DocumentedFields))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How to learn the next hops. Default: by subscribing.
    pub next_hops: NextHops,
    /// How much of the tree to follow (R5). Default: the whole tree, as always in manner 4.
    pub scope: Scope,
    /// Most tree neighbours this member will have, from 1 (a leaf, which relays nothing) to 64.
    /// Default 8: eight copies of a video stream of 2 Mbit/s fit an uplink of 20 Mbit/s.
    pub fanout: u16,
    /// What this member can send, in kbit/s. In a session with a rate it has no more neighbours than that is enough
    /// for. Default 0: not known.
    pub upload_kbps: u32,
    /// How often the tree is asked for without a reason. Default 30 s (patent, manner 1), at least
    /// 1 s. With [`NextHops::Poll`] the period begins with this and adapts, from a sixth to four times
    /// of it: halved when an answer brings a new tree, half as long again when it does not (R10).
    /// Members that follow updates of their neighbours alone ask this often all the same, as a net below the
    /// notices; those with [`NextHops::Overflow`], and those who follow the whole tree, a quarter as often: renewals
    /// tell them of a newer one.
    #[serde(rename = "poll_ms", with = "super::millis")]
    pub poll: Duration,
    /// With [`NextHops::Overflow`], how much data is held until the next hops are asked for (R11).
    pub buffering: relay::Buffering,
    /// While data moves, each channel outside of the tree is measured this often; where there are more than eight,
    /// less often, and where nothing moves, a fifteenth as often. Default 2 s, at least 100 ms.
    #[serde(rename = "probe_ms", with = "super::millis")]
    pub probe: Duration,
    /// The data plane.
    pub relay: relay::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            next_hops: NextHops::default(),
            scope: Scope::Tree,
            fanout: 8,
            upload_kbps: 0,
            poll: Duration::from_secs(30),
            buffering: relay::Buffering::default(),
            probe: Duration::from_secs(2),
            relay: relay::Config::default(),
        }
    }
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range, and the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(
            "fanout",
            (1..=limits::FANOUT).contains(&self.fanout),
            "from 1 (a leaf) to 64, the most channels a member has",
        )?;
        let between = |least: u64, value| (Duration::from_millis(least)..=LONGEST).contains(&value);
        check("poll_ms", between(1_000, self.poll), "from 1000 to 86400000 (a day)")?;
        check("probe_ms", between(100, self.probe), "from 100 to 86400000 (a day)")?;
        self.buffering.validate()?;
        self.relay.validate()
    }

    /// The same with each figure brought into its range.
    #[must_use]
    pub fn clamped(self) -> Self {
        let scope = match self.next_hops {
            // The tree that frames carry is the whole one.
            NextHops::InBand => Scope::Tree,
            NextHops::Poll | NextHops::Overflow | NextHops::Subscribe => self.scope,
        };
        Self {
            scope,
            fanout: self.fanout.clamp(1, limits::FANOUT),
            poll: self.poll.clamp(Duration::from_secs(1), LONGEST),
            probe: self.probe.clamp(Duration::from_millis(100), LONGEST),
            buffering: self.buffering.clamped(),
            ..self
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: must be {must_be}")]
pub struct ConfigError {
    /// Which, as files name it, with its table.
    pub field: &'static str,
    /// What it may be.
    pub must_be: &'static str,
}

/// An error unless a field is good.
pub(super) fn check(
    field: &'static str,
    good: bool,
    must_be: &'static str,
) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(ConfigError { field, must_be }) }
}

/// No period is longer than a day, so that no deadline overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
