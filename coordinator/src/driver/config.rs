//! What the operator of a coordinator can set.

use std::path::PathBuf;

use arborcast_net::settings::{Docs, OutOfRange, Settings};
use documented::DocumentedFields;
use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use crate::engine;

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
    /// The folder to keep the term in; default: beside the key.
    pub state: PathBuf,
    /// Most connections at once; default 0, which is twice `engine.members` and 512: a member takes one or
    /// two. 512 are for peers that are no members yet. Each takes a file handle; what the system does not
    /// give room for is taken off `engine.members` at the start.
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
            state: PathBuf::new(),
            connections: 0,
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

impl Config {
    /// Most connections at once.
    #[must_use]
    pub fn most_connections(&self) -> u32 {
        let members = u32::try_from(self.engine.members).unwrap_or(u32::MAX);
        match self.connections {
            0 => members.saturating_mul(2).saturating_add(SPARE),
            most => most,
        }
    }

    /// Makes do with so many file handles. Gives what to tell the operator, if that is less than was asked
    /// for.
    pub fn fit(&mut self, files: u64) -> Option<String> {
        let room = u32::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX);
        if room >= self.most_connections() {
            return None;
        }
        self.connections = room.max(1);
        let members = (room.saturating_sub(SPARE) / 2).max(1) as usize;
        self.engine.members = self.engine.members.min(members);
        Some(format!(
            "the system gives this process {files} file handles: room for {room} connections, and so \
             sessions of {} members; raise the limit (ulimit -Hn, LimitNOFILE) for more",
            self.engine.members
        ))
    }
}

/// Connections beside those of members.
const SPARE: u32 = 512;

/// File handles for all that is no connection.
const OTHER_FILES: u64 = 64;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_room_and_what_does_not_fit_is_told() {
        let mut config = Config::default();
        assert_eq!(config.most_connections(), 20_512);
        assert_eq!(config.fit(1 << 20), None);
        let told = config.fit(4_096).expect("too few");
        assert!(told.contains("1760 members"), "{told}");
        assert_eq!((config.most_connections(), config.engine.members), (4_032, 1_760));
        let mut config = Config { connections: 10, ..Config::default() };
        assert_eq!((config.fit(1_024), config.most_connections()), (None, 10));
        assert!(config.fit(0).is_some());
        assert_eq!((config.most_connections(), config.engine.members), (1, 1));
    }
}
