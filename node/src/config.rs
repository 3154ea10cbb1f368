//! What the user of a node can set.

use std::time::Duration;

use arborcast_protocol::limits;
use libp2p::Multiaddr;

use crate::engine;

/// Settings of a node with their defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; default: TCP and QUIC on free ports of all interfaces, IPv4 and IPv6.
    pub listen: Vec<Multiaddr>,
    /// How people call the node; at most [`limits::NICK`] bytes, may be empty.
    pub nick: String,
    /// How long to try to reach a coordinator when joining, in seconds; default 10.
    pub connect_timeout_s: u64,
    /// Most connections at once; default 256. A channel may take two for a while.
    pub connections: u32,
    /// Most bytes of messages that wait for the application to take them; default 8 MiB. Beyond
    /// that the sources are held back.
    pub inbox_bytes: usize,
    /// How the node behaves in a session.
    pub session: engine::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            nick: String::new(),
            connect_timeout_s: 10,
            connections: 256,
            inbox_bytes: 8 << 20,
            session: engine::Config::default(),
        }
    }
}

impl Config {
    /// [`Config::connect_timeout_s`] as a duration.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s)
    }

    /// Checks what a type cannot.
    ///
    /// # Errors
    /// Names the field and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        for (field, value) in [
            ("connect_timeout_s", self.connect_timeout_s),
            ("connections", u64::from(self.connections)),
            ("inbox_bytes", self.inbox_bytes as u64),
        ] {
            if value == 0 {
                return Err(format!("{field}: must be at least 1"));
            }
        }
        if self.inbox_bytes > 1 << 30 {
            return Err("inbox_bytes: at most 1 GiB".to_owned());
        }
        if self.nick.len() > limits::NICK {
            return Err(format!("nick: at most {} bytes", limits::NICK));
        }
        Ok(())
    }
}
