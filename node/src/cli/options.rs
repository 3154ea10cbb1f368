//! Flags that several commands share, and what is made of them.

use std::{fmt, io::Read as _, path::PathBuf, time::Duration};

use crate::{
    Config, Invitation, Multiaddr,
    engine::NextHops,
    protocol::{
        history::History,
        id::{Class, ServiceId},
        keys::Access,
        limits, opaque,
        ticket::Ticket,
    },
};
use arborcast_net::settings::{Layers, SettingsError};

use super::{failure::Failure, rules::RuleArgs};

/// Which session, for those that join one.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct SessionArgs {
    /// The ticket that `arborcast host` printed, `@` and the file that holds it, or the name of a
    /// session. Other users of this machine may see a ticket among the processes; a file hides it.
    #[arg(value_name = "TICKET|@FILE|NAME", required_unless_present = "print_config")]
    session: Option<String>,
    /// Where to ask for a session that is known by name: the address of its coordinator or of any
    /// member; repeatable. One without `/p2p/…` is taken at its word.
    #[arg(long, value_name = "ADDR")]
    peer: Vec<Multiaddr>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// A session that can be joined, and what people call it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) invitation: Invitation,
    pub(super) name: Option<String>,
    /// Whether a passphrase led to it, which may be wrong.
    pub(super) by_passphrase: bool,
}

impl SessionArgs {
    /// Reads the ticket, or makes an invitation from name, passphrase and addresses.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let with_peers = |invitation| {
            self.peer.iter().fold(invitation, |all: Invitation, peer| all.peer(peer.clone()))
        };
        let given = self.session.as_deref().unwrap_or_default();
        let kept = given.strip_prefix(TICKET_FILE).map(ticket_in).transpose()?;
        let session = kept.as_deref().map_or(given, String::as_str);
        if kept.is_some() || Ticket::looks_like(session) {
            if self.passphrase.given() {
                return Err(Failure::usage("usage", "a ticket needs no passphrase; leave it out"));
            }
            let ticket: Ticket = session
                .parse()
                .map_err(|error| Failure::usage("bad_ticket", format!("{error}")))?;
            let name = match &ticket.access {
                Access::Open { name } => Some(name.clone()),
                Access::Private(_) => ticket.name.clone(),
            };
            let invitation = with_peers(Invitation::from(ticket));
            return Ok(Target { invitation, name, by_passphrase: false });
        }
        let name = session_name(session)?;
        if self.peer.is_empty() {
            return Err(Failure::usage(
                "no_coordinator",
                format!(
                    "{name:?} is not a ticket (a ticket begins with arb1), and to join a session \
                     by name you must say where: add --peer with the address of its coordinator or \
                     of a member"
                ),
            ));
        }
        for peer in &self.peer {
            let pinned =
                peer.iter().any(|part| matches!(part, libp2p::multiaddr::Protocol::P2p(_)));
            if !pinned {
                tracing::warn!(
                    %peer,
                    "the address does not say whose it is: whoever answers is believed; \
                     add /p2p/ and the id to be sure"
                );
            }
        }
        let passphrase = self.passphrase.read()?;
        let by_passphrase = passphrase.is_some();
        let invitation = match passphrase {
            Some(passphrase) => Invitation::passphrase(&name, passphrase.text())?,
            None => Invitation::open(&name)?,
        };
        Ok(Target { invitation: with_peers(invitation), name: Some(name), by_passphrase })
    }
}

/// What stands before the name of a file with a ticket.
const TICKET_FILE: char = '@';
/// The most that is read of such a file: far more than a ticket has.
const TICKET_FILE_BYTES: u64 = 64 << 10;

/// The text of a file that holds a ticket.
fn ticket_in(path: &str) -> Result<zeroize::Zeroizing<String>, Failure> {
    let mut text = zeroize::Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(TICKET_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| Failure::usage("bad_ticket", format!("{path}: {error}")))?;
    Ok(zeroize::Zeroizing::new(text.trim().to_owned()))
}

/// Checks the name of a session.
pub(super) fn session_name(name: &str) -> Result<String, Failure> {
    let is_other = name.len() > limits::SESSION_NAME
        || name.starts_with(TICKET_FILE)
        || Ticket::looks_like(name);
    match opaque::typed(name) {
        Ok(name) if !is_other => Ok(name.to_string()),
        Ok(_) | Err(_) => Err(Failure::usage(
            "bad_session",
            format!(
                "a session's name has 1 to {} bytes, no control characters nor signs that cannot be typed, \
                 and does not begin with arb1 as tickets do, nor with {TICKET_FILE} as their files do",
                limits::SESSION_NAME
            ),
        )),
    }
}

/// A passphrase, which is never printed.
#[derive(Clone)]
pub(super) struct Passphrase(zeroize::Zeroizing<String>);

impl Passphrase {
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl From<String> for Passphrase {
    fn from(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }
}

/// Where a passphrase can come from.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct PassphraseArgs {
    /// Makes a NAME private: only those who know the passphrase come in and read. Other users of
    /// this machine may see it among the processes; `ARBORCAST_PASSPHRASE` or a file hides it.
    #[arg(long, value_name = "PHRASE", conflicts_with = "passphrase_file")]
    passphrase: Option<Passphrase>,
    /// A file whose first line is the passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Where a passphrase is looked for that no flag gives.
const PASSPHRASE_ENV: &str = "ARBORCAST_PASSPHRASE";

impl PassphraseArgs {
    /// Whether a flag gives one.
    pub(super) const fn given(&self) -> bool {
        self.passphrase.is_some() || self.passphrase_file.is_some()
    }

    /// The passphrase from flag, file or environment.
    pub(super) fn read(&self) -> Result<Option<Passphrase>, Failure> {
        if let Some(passphrase) = &self.passphrase {
            return Ok(Some(passphrase.clone()));
        }
        if let Some(path) = &self.passphrase_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage("usage", format!("--passphrase-file {}: {error}", path.display()))
            })?;
            let text = zeroize::Zeroizing::new(text);
            return Ok(Some(text.lines().next().unwrap_or_default().to_owned().into()));
        }
        match std::env::var(PASSPHRASE_ENV) {
            Ok(text) if !text.is_empty() => Ok(Some(text.into())),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Failure::usage("usage", format!("{PASSPHRASE_ENV} is not UTF-8")))
            }
        }
    }
}

/// How the member runs.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct MemberArgs {
    /// Where to listen, as a multiaddr; repeatable. Default: TCP and QUIC, IPv4 and IPv6, on free
    /// ports.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Multiaddr>,
    /// A file with the secret key, made if it is not there. Default: a fresh identity for each
    /// process; `host NAME` keeps its own. With `host` it is the coordinator's, and the member beside
    /// it has a fresh one.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// How people call you; default: your user name.
    #[arg(long, value_name = "NAME", value_parser = nick)]
    nick: Option<String>,
    /// Most tree neighbours this member will have; default: 8.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(limits::FANOUT)))]
    fanout: Option<u16>,
    /// Relay nothing: one tree neighbour, unless others can be reached through this member alone. For
    /// small devices, thin uplinks and batteries.
    #[arg(long, conflicts_with = "fanout")]
    leaf: bool,
    /// What this machine's line can send, as `500kbit`, `20mbit` or `1gbit`: in a session made with `--load` it has no
    /// more tree neighbours than that is enough for.
    #[arg(long, value_name = "RATE", value_parser = kbps)]
    max_upload: Option<u32>,
    /// How this member learns to whom it passes messages on: `poll` asks at intervals, `overflow`
    /// when what waits overflows its buffer, `subscribe` follows updates, `in-band` also puts the
    /// tree into what it sends. Default: `subscribe`.
    #[arg(long, value_name = "MANNER")]
    next_hops: Option<NextHops>,
    /// How long messages can wait here before they are passed on, with `--next-hops overflow`; the
    /// buffer is the smaller the shorter that is, and 256 KiB for 200 ms.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=5_000))]
    delay_bound: Option<u64>,
    /// Print counters this often.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) stats_interval: Option<Duration>,
    /// How long to try to reach a coordinator; default: 10.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    connect_timeout: Option<u64>,
    /// Settings, as TOML; default: the file that `ARBORCAST_CONFIG` names. Over them go variables of
    /// the environment, as `ARBORCAST_NICK` or `ARBORCAST_SESSION__FANOUT`, and over those the flags.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings that file, environment and flags come to, as such a file, and end.
    #[arg(long)]
    pub(super) print_config: bool,
    /// What joiners get in a session that this process makes; see [`super::host::Args`].
    #[arg(skip)]
    pub(super) history: Option<History>,
    #[command(flatten)]
    pub(super) local: LocalArgs,
    #[command(flatten)]
    pub(super) rules: RuleArgs,
}

/// What is sent, for those commands that send.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(super) struct SendArgs {
    /// The service id of what is sent, where a line of input does not name another one: a number that
    /// tells receivers what a message is for; default: 0.
    #[arg(long, value_name = "ID")]
    service: Option<u32>,
    /// The class of what is sent, where a line of input does not name another one: `reliable` holds the
    /// sender back when somebody is slow, `live` lets old messages give way to new ones, for audio and
    /// video, and is not confirmed; at most 1 MiB each.
    #[arg(long, value_name = "CLASS", value_parser = class, default_value = "reliable")]
    pub(super) class: Class,
}

/// A rate as it is given on the command line, in kbit/s.
fn kbps(text: &str) -> Result<u32, String> {
    let units = [("kbit", 1.0), ("mbit", 1e3), ("gbit", 1e6)];
    let scaled = units.iter().find_map(|(unit, kbps)| {
        let figure: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(figure * kbps)
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds"
    )]
    scaled
        .filter(|kbps| (1.0..=1e9).contains(kbps))
        .map(|kbps| kbps as u32)
        .ok_or_else(|| "a rate from 1kbit to 1000gbit, as 500kbit, 20mbit or 1gbit".to_owned())
}

/// A class as it is given on the command line.
fn class(text: &str) -> Result<Class, String> {
    match text {
        "reliable" => Ok(Class::Reliable),
        "live" => Ok(Class::Live),
        _ => Err("reliable or live".to_owned()),
    }
}

impl SendArgs {
    /// The service of what is sent.
    pub(super) fn service(self) -> ServiceId {
        self.service.map(ServiceId).unwrap_or_default()
    }
}

/// Where running members and `tree` and `status` meet.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct LocalArgs {
    /// The local socket at which `arborcast tree` and `status` ask a running member.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

impl MemberArgs {
    /// What file, environment and flags come to.
    fn settings(&self) -> Result<Config, SettingsError> {
        let layers = Layers::of_process(self.config.as_deref())?;
        let config = layers.flags(|config| self.lay_over(config))?.finish()?;
        if self.delay_bound.is_some() && config.session.next_hops != NextHops::Overflow {
            tracing::warn!(
                "--delay-bound has no effect: nothing waits here unless next hops are learnt with \
                 --next-hops overflow, and this is {}",
                config.session.next_hops.name()
            );
        }
        Ok(config)
    }

    /// Lays the flags over what is set already.
    fn lay_over(&self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if let Some(identity) = &self.identity {
            config.identity.clone_from(identity);
        }
        if let Some(nick) = &self.nick {
            config.nick.clone_from(nick);
        }
        if let Some(seconds) = self.connect_timeout {
            config.connect_timeout_s = seconds;
        }
        config.history = self.history.unwrap_or(config.history);
        let fanout = if self.leaf { Some(1) } else { self.fanout };
        config.session.fanout = fanout.unwrap_or(config.session.fanout);
        config.session.upload_kbps = self.max_upload.unwrap_or(config.session.upload_kbps);
        config.session.next_hops = self.next_hops.unwrap_or(config.session.next_hops);
        if let Some(delay) = self.delay_bound {
            config.session.buffering.delay = Duration::from_millis(delay);
        }
    }

    /// The settings of the member's node. It always has a nick.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let mut config = self.settings()?;
        if config.nick.is_empty() {
            config.nick = ["USER", "LOGNAME", "USERNAME"]
                .into_iter()
                .filter_map(|variable| std::env::var(variable).ok())
                .find_map(|name| nick(&name).ok())
                .unwrap_or_else(|| "anonymous".to_owned());
        }
        Ok(config)
    }
}

/// A nickname as it is given on the command line.
fn nick(text: &str) -> Result<String, String> {
    match opaque::typed(text.trim()) {
        Ok(nick) if nick.len() <= limits::NICK => Ok(nick.to_string()),
        Ok(_) | Err(_) => Err(format!(
            "a nickname has 1 to {} bytes, no control characters and no signs that cannot be typed",
            limits::NICK
        )),
    }
}

/// A time span as it is given on the command line.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.1..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a number of seconds from 0.1 to 86400".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(text: &str, peer: &[&str]) -> SessionArgs {
        SessionArgs {
            session: Some(text.to_owned()),
            peer: peer.iter().map(|peer| peer.parse().expect("an address")).collect(),
            passphrase: PassphraseArgs { passphrase: None, passphrase_file: None },
        }
    }

    #[test]
    fn a_mistyped_ticket_is_never_taken_for_a_name() {
        let args = session("ARB1qqqq", &["/ip4/127.0.0.1/tcp/1"]);
        let failure = args.target().expect_err("is no ticket");
        assert_eq!((failure.exit, failure.code), (super::super::Exit::Usage, "bad_ticket"));
    }

    #[test]
    fn a_name_needs_an_address() {
        let failure = session("lobby", &[]).target().expect_err("nowhere to ask");
        assert_eq!(failure.exit, super::super::Exit::Usage);
        assert!(failure.message.contains("--peer"), "{}", failure.message);
    }

    #[test]
    fn names_of_sessions_are_checked() {
        assert!(session_name("lobby").is_ok());
        assert!(session_name("Besprechung Raum 1").is_ok());
        for bad in ["", "a\nb", "arb1abc", "@lobby", &"x".repeat(limits::SESSION_NAME + 1)] {
            assert!(session_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nicknames_are_trimmed_and_bounded() {
        assert_eq!(nick(" bea "), Ok("bea".to_owned()));
        assert_eq!(nick("Zoe\u{308}"), nick("Zo\u{eb}"));
        assert!(nick("").is_err());
        assert!(nick("a\u{1b}[2J").is_err());
        assert!(nick(&"ä".repeat(33)).is_err());
    }

    #[test]
    fn time_spans_are_positive_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
