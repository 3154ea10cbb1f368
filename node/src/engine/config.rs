//! What can be set on an engine.

use std::time::Duration;

use arborcast_protocol::{limits, path::Scope};

use super::relay;

/// Settings of one engine. The defaults are good for people's machines on the Internet.
#[derive(Clone, Debug)]
pub struct Config {
    /// How much of the tree to follow (R5). Default: the whole tree.
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
        Self {
            fanout: self.fanout.clamp(1, limits::FANOUT),
            poll: self.poll.clamp(Duration::from_secs(1), LONGEST),
            probe: self.probe.clamp(Duration::from_millis(100), LONGEST),
            ..self
        }
    }
}

/// No period is longer than a day, so that no deadline overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
