//! What the user of a node can set.

use std::{path::PathBuf, time::Duration};

use arborcast_net::settings::{Docs, OutOfRange, Settings};
use arborcast_protocol::{history::History, limits};
use documented::DocumentedFields;
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::engine;

/// Settings of a node with their defaults. One struct for library, file, flags and environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; default: TCP and QUIC on free ports of all interfaces, IPv4 and IPv6.
    pub listen: Vec<Multiaddr>,
    /// A file with the secret key, made if it is not there, and locked while the node runs. Default:
    /// a fresh identity for each run; `arborcast host NAME` keeps its own.
    pub identity: PathBuf,
    /// How people call the node; at most 64 bytes, may be empty. The command's default is the name
    /// of the user.
    pub nick: String,
    /// How long to try to reach a coordinator when joining, in seconds; default 10.
    pub connect_timeout_s: u64,
    /// Most connections at once; default 256. A channel may take two for a while.
    pub connections: u32,
    /// Most bytes of messages that wait for the application to take them; default 8 MiB. Beyond
    /// that the sources are held back.
    pub inbox_bytes: usize,
    /// What those who join a session of `arborcast host` late get of what was sent before, as far as
    /// members keep it: `none`, the last so many messages of each source, or `all`; default `none`. What
    /// counts is what the session was made with, so it changes nothing for those who join one.
    pub history: History,
    /// How the node behaves in a session.
    pub session: engine::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            identity: PathBuf::new(),
            nick: String::new(),
            connect_timeout_s: 10,
            connections: 256,
            inbox_bytes: 8 << 20,
            history: History::None,
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
}

impl Settings for Config {
    const PREFIX: &'static str = "ARBORCAST_";
    const FOREIGN: &'static [&'static str] =
        // The last one is of the tests.
        &[
            "ARBORCAST_CONFIG",
            "ARBORCAST_COORDINATOR_",
            "ARBORCAST_LOG",
            "ARBORCAST_PASSPHRASE",
            "ARBORCAST_BIN_DIR",
        ];

    fn docs() -> Vec<Docs> {
        use engine::relay;
        vec![
            Docs { table: "", fields: Self::FIELD_NAMES, docs: Self::FIELD_DOCS },
            Docs {
                table: "session",
                fields: engine::Config::FIELD_NAMES,
                docs: engine::Config::FIELD_DOCS,
            },
            Docs {
                table: "session.buffering",
                fields: relay::Buffering::FIELD_NAMES,
                docs: relay::Buffering::FIELD_DOCS,
            },
            Docs {
                table: "session.relay",
                fields: relay::Config::FIELD_NAMES,
                docs: relay::Config::FIELD_DOCS,
            },
        ]
    }

    fn validate(&self) -> Result<(), OutOfRange> {
        let check = |field, good, must_be| {
            if good { Ok(()) } else { Err(OutOfRange::new(field, must_be)) }
        };
        let nick = self.nick.len() <= limits::NICK && !self.nick.chars().any(char::is_control);
        check("nick", nick, "at most 64 bytes without control characters")?;
        let timeout = (1..=86_400).contains(&self.connect_timeout_s);
        check("connect_timeout_s", timeout, "from 1 to 86400 (a day)")?;
        check("connections", self.connections >= 1, "at least 1")?;
        let inbox = (1..=1 << 30).contains(&self.inbox_bytes);
        check("inbox_bytes", inbox, "from 1 to 1073741824 (1 GiB)")?;
        self.session
            .validate()
            .map_err(|error| OutOfRange::new(format!("session.{}", error.field), error.must_be))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use arborcast_net::settings::{Layers, to_toml};

    use super::*;

    #[test]
    fn what_is_printed_reads_as_the_same_and_tells_about_every_field() {
        let mut config = Config { nick: "bea".to_owned(), ..Config::default() };
        config.session.fanout = 3;
        config.session.relay.heartbeat = Duration::from_millis(1_500);
        let service = arborcast_protocol::id::ServiceId(7);
        config.session.buffering.services.insert(service, Duration::from_millis(50));
        let text = to_toml(&config).expect("can be written");
        assert!(text.contains("heartbeat_ms = 1500"), "{text}");
        let file = std::env::temp_dir().join(format!("arborcast-node-{}.toml", std::process::id()));
        std::fs::write(&file, &text).expect("a file for the test can be written");
        let again = Layers::<Config>::load(Some(&file), []).and_then(Layers::finish);
        std::fs::remove_file(&file).expect("is there");
        assert_eq!(again.expect("reads"), config);
        for field in Config::docs().iter().flat_map(|docs| docs.fields) {
            let known =
                ["", "_ms"].map(|unit| [format!("{field}{unit} = "), format!("{field}{unit}]")]);
            let mut known = known.as_flattened().iter();
            assert!(known.any(|form| text.contains(form)), "no {field} in {text}");
        }
    }

    #[test]
    fn defaults_are_in_range_and_what_is_not_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let field = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().expect_err("is out of range").field
        };
        assert_eq!(field(|config| config.nick = "x".repeat(65)), "nick");
        assert_eq!(field(|config| config.inbox_bytes = 0), "inbox_bytes");
        assert_eq!(field(|config| config.session.fanout = 0), "session.fanout");
        assert_eq!(field(|config| config.session.poll = Duration::ZERO), "session.poll_ms");
        assert_eq!(
            field(|config| config.session.relay.edge_timeout = Duration::from_millis(1)),
            "session.relay.edge_timeout_ms"
        );
        assert_eq!(
            field(|config| config.session.relay.assembly_bytes = 1),
            "session.relay.assembly_bytes"
        );
    }
}
