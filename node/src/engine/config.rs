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

/// Settings of one engine. The defaults are good for people's machines on the Internet.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to learn the next hops. Default: by subscribing.
    pub next_hops: NextHops,
    /// How much of the tree to follow (R5). Default: the whole tree, as always in manner 4.
    pub scope: Scope,
    /// Most tree neighbours this member will have, from 1 (a leaf) to [`limits::FANOUT`].
    /// Default 8: eight copies of a video stream of 2 Mbit/s fit an uplink of 20 Mbit/s.
    pub fanout: u16,
    /// The tree is asked for this often though updates are followed: the net below the pushes.
    /// Default 30 s (patent, manner 1; R10), at least 1 s.
    pub poll: Duration,
    /// Each channel is measured this often. Default 2 s, at least 100 ms.
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
            poll: Duration::from_secs(30),
            probe: Duration::from_secs(2),
            relay: relay::Config::default(),
        }
    }
}

impl Config {
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
            ..self
        }
    }
}

/// No period is longer than a day, so that no deadline overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
