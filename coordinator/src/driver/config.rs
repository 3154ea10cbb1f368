//! What the operator of a coordinator can set.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use documented::DocumentedFields;

use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use crate::{
    engine,
    settings::{Docs, OutOfRange, Settings},
};

/// Settings of a coordinator with their defaults. One struct for file, flags and environment.
#[derive(Clone, Debug, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; default: TCP and QUIC on free ports of all interfaces, IPv4 and IPv6.
    pub listen: Vec<Multiaddr>,
    /// Addresses that others reach this machine at, where they differ from those it listens on.
    /// Concrete listen addresses count by themselves.
    pub external: Vec<Multiaddr>,
    /// The file with the secret key, made if it is not there; the term is kept beside it. Default:
    /// `arborcast/coordinator.key` in the user's state folder. Read by the command: a coordinator in
    /// a program of its own is given the key itself.
    pub identity: PathBuf,
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
            identity: PathBuf::new(),
            connections: 4096,
            engine: engine::Config::default(),
        }
    }
}

impl Settings for Config {
    const PREFIX: &'static str = "ARBORCAST_COORDINATOR_";
    const FOREIGN: &'static [&'static str] = &["ARBORCAST_COORDINATOR_CONFIG"];

    fn docs() -> Vec<Docs> {
        vec![
            Docs { table: "", fields: Self::FIELD_NAMES, docs: Self::FIELD_DOCS },
            Docs {
                table: "engine",
                fields: engine::Config::FIELD_NAMES,
                docs: engine::Config::FIELD_DOCS,
            },
        ]
    }

    fn validate(&self) -> Result<(), OutOfRange> {
        if self.connections == 0 {
            return Err(OutOfRange::new("connections", "at least 1"));
        }
        if !self.external.iter().all(is_dialable) {
            return Err(OutOfRange::new(
                "external",
                "addresses that others can dial, neither of all interfaces nor with port 0",
            ));
        }
        self.engine
            .validate()
            .map_err(|error| OutOfRange::new(format!("engine.{}", error.field), error.must_be))
    }
}

/// Whether others could dial an address: it names one place, as far as it names any.
fn is_dialable(address: &Multiaddr) -> bool {
    !address.is_empty()
        && address.iter().all(|part| match part {
            Protocol::Ip4(ip) => !ip.is_unspecified(),
            Protocol::Ip6(ip) => !ip.is_unspecified(),
            Protocol::Tcp(port) | Protocol::Udp(port) => port != 0,
            _ => true,
        })
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
