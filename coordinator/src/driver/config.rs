//! What the operator of a coordinator can set.

use std::net::{Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use crate::engine;

/// Settings of a coordinator with their defaults. One struct for file, flags and environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; default: TCP and QUIC on free ports of all interfaces, IPv4 and IPv6.
    pub listen: Vec<Multiaddr>,
    /// Addresses that others reach this machine at, where they differ from those it listens on.
    /// Concrete listen addresses count by themselves.
    pub external: Vec<Multiaddr>,
    /// Most connections at once; default 4096. A member takes two or three.
    pub connections: u32,
    /// Sessions, leases, trees.
    pub engine: engine::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            connections: 4096,
            engine: engine::Config::default(),
        }
    }
}

impl Config {
    /// Checks what a type cannot.
    ///
    /// # Errors
    /// Names the field and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        if self.connections == 0 {
            return Err("connections: must be at least 1".to_owned());
        }
        self.engine.validate().map_err(|error| format!("engine.{error}"))
    }
}

/// TCP and QUIC on free ports of all interfaces.
#[must_use]
pub fn default_listen() -> Vec<Multiaddr> {
    let hosts = [Protocol::from(Ipv4Addr::UNSPECIFIED), Protocol::from(Ipv6Addr::UNSPECIFIED)];
    hosts
        .into_iter()
        .flat_map(|host| {
            let host = Multiaddr::empty().with(host);
            [
                host.clone().with(Protocol::Tcp(0)),
                host.with(Protocol::Udp(0)).with(Protocol::QuicV1),
            ]
        })
        .collect()
}
