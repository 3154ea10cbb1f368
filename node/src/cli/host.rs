//! `arborcast host`: an embedded coordinator, and the first member beside it.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    Hosted, Multiaddr, Node,
    hosting::fresh_secret,
    identity::Keypair,
    protocol::{
        history::History,
        id::{MemberId, ParseMemberIdError, SessionId, Term},
        keys::{Access, Secret},
        ticket::Ticket,
    },
};
use arborcast_coordinator::{Coordinator, StartError, Strategy};
use arborcast_net::{
    command::file_limit,
    listen::ListenError,
    settings::{Layers, SettingsError},
    store::Identity,
};
use libp2p::multiaddr::Protocol;

use super::{
    external::External,
    failure::Failure,
    join::{OPEN, standard_input, unless_asked},
    keep,
    member::{self, Plan, Seat},
    options::{MemberArgs, Passphrase, PassphraseArgs, SendArgs, session_name},
    output::Output,
    screen::{Ready, Style},
    signals::Signals,
    terminal, words,
};

/// What `host` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What people call the session. With a name, key, secret and (without --listen) ports are
    /// kept, so that tickets stay good from one start to the next.
    name: Option<String>,
    /// Let anybody in who knows the name. Nothing is encrypted.
    #[arg(long, requires = "name")]
    open: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// What those who join later get of what was sent before, as far as members keep it (4 MiB, 6
    /// hours): nothing, the last N messages of each source, or all. Default: none. The session has it, not
    /// its members: `join` has no such flag.
    #[arg(long, value_name = "none|N|all")]
    history: Option<History>,
    /// How the tree is chosen: `routing-cost` (the default) has all as near to all as can be, `mst` is the spanning tree
    /// of least cost, `spt` has the shortest paths from a root, `min-diameter` the least delay between the two that are
    /// farthest apart, `widest` the widest channels.
    #[arg(long, value_name = "NAME", value_parser = strategy)]
    strategy: Option<Strategy>,
    /// What all members together send: `chat` (0.25 Mbit/s), `conf` (4 Mbit/s, at most 2 % lost), or `RATE:LOSS` with
    /// Mbit/s and the share of losses that is borne, as `10:0.02`. Channels that cannot carry it are avoided, and members
    /// with `--max-upload` have no more neighbours than they can feed.
    #[arg(long, value_name = "chat|conf|RATE:LOSS")]
    load: Option<Load>,
    /// Who sends most of it, by peer id, or `self`: the tree has this member nearest to all.
    #[arg(long, value_name = "PEER|self", value_parser = source)]
    main_source: Option<Source>,
    /// Where others reach this machine, where it cannot know by itself: behind a router that forwards ports, or
    /// by a name that stays. Repeatable. Without PORT the ports are those that the session listens on; a
    /// multiaddr says it in full.
    #[arg(long, value_name = "NAME[:PORT]|ADDR")]
    external: Vec<External>,
    #[command(flatten)]
    send: SendArgs,
    /// `--listen` and `--identity` are the coordinator's; the member beside it has its own identity
    /// and free ports.
    #[command(flatten)]
    pub(super) member: MemberArgs,
}

/// Who sends most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Own,
    Peer(MemberId),
}

fn source(text: &str) -> Result<Source, String> {
    match text {
        "self" => Ok(Source::Own),
        peer => peer
            .parse()
            .map(Source::Peer)
            .map_err(|error: ParseMemberIdError| format!("{error}; `self` is this process")),
    }
}

fn strategy(text: &str) -> Result<Strategy, String> {
    let found = Strategy::ALL.into_iter().find(|strategy| strategy.name() == text);
    found.ok_or_else(|| format!("one of {}", Strategy::ALL.map(Strategy::name).join(", ")))
}

/// What a session is to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Load {
    rate_kbps: u32,
    loss_ppm: u32,
}

impl FromStr for Load {
    type Err = &'static str;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds"
    )]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "chat, conf, or RATE:LOSS with Mbit/s from 0 to 1000000 and a share from 0 to 1, as 10:0.02";
        let (rate, loss) = match text {
            "chat" => ("0.25", "0.05"),
            "conf" => ("4", "0.02"),
            other => other.split_once(':').ok_or(WRONG)?,
        };
        let within = |text: &str, most: f64| {
            text.trim().parse().ok().filter(|figure| (0.0..=most).contains(figure)).ok_or(WRONG)
        };
        let (mbps, share): (f64, f64) = (within(rate, 1e6)?, within(loss, 1.0)?);
        Ok(Self { rate_kbps: (mbps * 1e3).round() as u32, loss_ppm: (share * 1e6).round() as u32 })
    }
}

impl Args {
    /// Lays what only this command has a flag for over the settings as well.
    pub(super) const fn lay_over(&mut self) {
        self.member.history = self.history;
    }
}

/// Settings of the coordinator beside the member, from where `arborcast-coordinator` has its own: a file
/// that `ARBORCAST_COORDINATOR_CONFIG` names, and variables. Where it listens and its key are this
/// command's to say.
fn coordinator_config() -> Result<arborcast_coordinator::Config, SettingsError> {
    Layers::of_process(None)?.finish()
}

/// The coordinator's key: kept, which locks its file, or for this process alone.
#[derive(Debug)]
enum Key {
    Kept(Identity),
    Fresh(Keypair),
}

/// Starts the session and stays in it until the end of input.
pub(super) async fn run(
    args: Args,
    json: bool,
    output: &Output,
    signals: Signals,
) -> Result<(), Failure> {
    let style = Style::for_standard_output(json);
    let (of_member, of_passphrase) = (args.member.clone(), args.passphrase.clone());
    // A passphrase is of use with a name alone, and never with --open.
    let has_passphrase = args.name.is_some() && !args.open;
    let reading = move || {
        let passphrase = if has_passphrase { of_passphrase.read()? } else { None };
        Ok::<_, Failure>((of_member.config()?, passphrase))
    };
    let Some(read) = signals.unless_asked(reading).await else { return Ok(()) };
    let (mut own, passphrase) = read?;
    let name = args.name.as_deref().map(session_name).transpose()?;
    let (key, file) = coordinator_key(&own.identity, name.as_deref())?;
    let by_passphrase = passphrase.is_some();
    let access = access(&args, name.as_deref(), passphrase, file.as_deref())?;
    let by_name = access.is_open() || by_passphrase;
    let (keypair, term) = match &key {
        Key::Kept(identity) => (identity.keypair().clone(), identity.next_term()?),
        Key::Fresh(keypair) => (keypair.clone(), Term(1)),
    };
    let mut config = coordinator_config()?;
    config.listen.clone_from(&own.listen);
    config.engine.open_sessions = args.open;
    config.engine.session_history = own.history;
    config.engine.strategy = args.strategy.unwrap_or(config.engine.strategy);
    if let Some(Load { rate_kbps, loss_ppm }) = args.load {
        (config.engine.session_rate_kbps, config.engine.poor_loss_ppm) = (rate_kbps, loss_ppm);
    }
    // The member beside the coordinator has a fresh identity.
    let own_keypair = Keypair::generate_ed25519();
    config.engine.main_source = match args.main_source {
        Some(Source::Own) => MemberId::try_from(&own_keypair.public()).ok(),
        Some(Source::Peer(peer)) => Some(peer),
        None => None,
    };
    // It is here for this session alone: neither a wrong name or passphrase nor a stranger who comes first
    // opens another one.
    config.engine.sessions = 1;
    if let Some(told) = file_limit::raise().and_then(|files| config.fit(files)) {
        tracing::info!("{told}");
    }
    let coordinator = match file.as_deref().filter(|_| own.listen.is_empty()) {
        Some(file) => start_where_it_was(access.session(), config, &keypair, term, file).await?,
        None => Coordinator::start_for(access.session(), config, keypair, term).await?,
    };
    let label = name.clone().unwrap_or_else(|| words::name_of(access.session()));
    for external in &args.external {
        for address in external.addresses(&coordinator.addresses()) {
            coordinator.add_external(address).await;
        }
    }
    let open = access.is_open();
    // Nobody has to be told a name that follows from the session.
    let in_ticket = name.filter(|_| !open);

    let history = own.history;
    own.listen = beside(&own.listen);
    own.identity = PathBuf::new();
    let nick = own.nick.clone();
    let entering = Box::pin(async {
        let node = Node::builder().config(own).identity(own_keypair).spawn().await?;
        args.member.rules.apply(&node).await?;
        let hosted = node.enter(coordinator.clone(), access, in_ticket).await?;
        Ok::<_, Failure>((node, hosted))
    });
    let Some(entered) = unless_asked(entering, &signals).await else {
        coordinator.shutdown().await;
        return Ok(());
    };
    let (node, Hosted { ticket, session, events }) = entered?;
    let addresses = coordinator.dialable();
    let listen = addresses.iter().cloned().chain(node.listen_addresses()).collect();
    let ready = Ready {
        peer_id: node.member_id().to_string(),
        listen,
        session: session.id().to_string(),
        text: greeting(&label, &ticket, by_name, &addresses, history),
        ticket: Some(ticket.to_string()),
        text_is_result: true,
    };
    let seat =
        Seat { node, session, events, coordinator: Some(coordinator), name: label, nick, open };
    let plan = Plan {
        input: standard_input(json),
        service: args.send.service(),
        class: args.send.class,
        ..Plan::new("host", style, ready, &args.member)
    };
    let outcome = member::run(seat, plan, output, signals).await;
    drop(key);
    outcome
}

/// The coordinator's key and, if it is kept, its file.
fn coordinator_key(identity: &Path, name: Option<&str>) -> Result<(Key, Option<PathBuf>), Failure> {
    let file = match name {
        _ if !identity.as_os_str().is_empty() => identity.to_owned(),
        Some(name) => keep::host_identity(name, Access::Open { name: name.to_owned() }.session())?,
        None => return Ok((Key::Fresh(Keypair::generate_ed25519()), None)),
    };
    Ok((Key::Kept(Identity::open(&file, Path::new(""))?), Some(file)))
}

/// What lets people into the session.
fn access(
    args: &Args,
    name: Option<&str>,
    passphrase: Option<Passphrase>,
    file: Option<&Path>,
) -> Result<Access, Failure> {
    let wrong = |message: &str| Err(Failure::usage("usage", message));
    match (name, args.open) {
        (None, _) if args.passphrase.given() => {
            wrong("a passphrase needs a NAME: the two together make the session")
        }
        (Some(_), true) if args.passphrase.given() => {
            wrong("--open lets anybody in, a passphrase does not: give one of them")
        }
        (Some(name), true) => Ok(Access::Open { name: name.to_owned() }),
        (Some(name), false) => match (passphrase, file) {
            (Some(passphrase), _) => Secret::from_passphrase(name, passphrase.text())
                .map(Access::Private)
                .map_err(|error| Failure::usage("bad_session", error.to_string())),
            (None, Some(file)) => {
                let open = Access::Open { name: name.to_owned() }.session();
                Ok(Access::Private(keep::secret(file, name, open)?))
            }
            (None, None) => Ok(Access::Private(fresh_secret()?)),
        },
        (None, _) => Ok(Access::Private(fresh_secret()?)),
    }
}

/// Starts a coordinator on the ports that it had last, so that its tickets still lead here. Where one
/// is taken, on a free one.
async fn start_where_it_was(
    session: SessionId,
    mut config: arborcast_coordinator::Config,
    keypair: &Keypair,
    term: Term,
    file: &Path,
) -> Result<Coordinator, Failure> {
    config.listen = keep::listen(file);
    loop {
        let error =
            match Coordinator::start_for(session, config.clone(), keypair.clone(), term).await {
                Ok(coordinator) => {
                    keep::keep_listen(file, &ports(&coordinator.addresses()));
                    return Ok(coordinator);
                }
                Err(error) => error,
            };
        let StartError::Listen(ListenError::Address { address, reason }) = &error else {
            return Err(error.into());
        };
        let Some(at) = config.listen.iter().position(|listen| listen == address) else {
            return Err(error.into());
        };
        // Each round turns one address into one on a free port, or takes that away too: it ends.
        let free = with_free_port(address);
        if free == *address {
            tracing::warn!(%address, reason, "cannot listen there any more");
            config.listen.remove(at);
        } else {
            tracing::warn!(
                %address, reason,
                "cannot listen where the session was before: older tickets may not lead here"
            );
            config.listen.splice(at..=at, [free]);
        }
    }
}

/// Where to listen next time: on all interfaces, on the ports of these addresses. TCP comes first,
/// because a port of QUIC is given back only a while after an attempt that failed.
fn ports(addresses: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut found = std::collections::BTreeMap::new();
    for address in addresses {
        let mut parts = address.iter();
        let (v6, all) = match parts.next() {
            Some(Protocol::Ip4(_)) => (false, Multiaddr::from(Ipv4Addr::UNSPECIFIED)),
            Some(Protocol::Ip6(_)) => (true, Multiaddr::from(Ipv6Addr::UNSPECIFIED)),
            // No address that a coordinator listens on by itself.
            _ => continue,
        };
        match (parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), None) => {
                found.entry((false, v6)).or_insert_with(|| all.with(Protocol::Tcp(port)));
            }
            (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => {
                let all = all.with(Protocol::Udp(port)).with(Protocol::QuicV1);
                found.entry((true, v6)).or_insert(all);
            }
            _ => {}
        }
    }
    found.into_values().collect()
}

/// Where the member beside the coordinator listens: on the same interfaces, on free ports.
fn beside(coordinator: &[Multiaddr]) -> Vec<Multiaddr> {
    coordinator.iter().map(with_free_port).collect()
}

/// An address with whatever port is free.
fn with_free_port(address: &Multiaddr) -> Multiaddr {
    let free_port = |part| {
        if matches!(part, Protocol::Tcp(_)) {
            Protocol::Tcp(0)
        } else if matches!(part, Protocol::Udp(_)) {
            Protocol::Udp(0)
        } else {
            part
        }
    };
    address.iter().map(free_port).collect()
}

/// What people are shown first.
fn greeting(
    label: &str,
    ticket: &Ticket,
    by_name: bool,
    addresses: &[Multiaddr],
    history: History,
) -> Vec<String> {
    let transports: Vec<&str> = [
        addresses.iter().any(is_over_tcp).then_some("tcp"),
        addresses.iter().any(is_over_quic).then_some("quic"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut text = vec![
        format!("  session  {}  (you are the coordinator; Ctrl-C to end)", terminal::name(label)),
        format!(
            "  reach    {} · {}",
            transports.join("+"),
            match addresses.len() {
                1 => "1 address".to_owned(),
                several => format!("{several} addresses"),
            }
        ),
        format!("  join     arborcast join {ticket}"),
    ];
    if by_name {
        for address in addresses {
            text.push(format!("  or       arborcast join {} --peer {address}", quoted(label)));
        }
    }
    match history {
        History::None => {}
        History::Last(messages) => text.push(format!(
            "  history  who joins later gets the last {messages} messages of each source"
        )),
        History::All => {
            text.push("  history  who joins later gets what members still keep".to_owned());
        }
    }
    if ticket.access.is_open() {
        text.push(OPEN.to_owned());
    } else {
        text.push("  private: whoever has the ticket can join and read".to_owned());
    }
    text
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

fn is_over_tcp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

fn is_over_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::QuicV1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_beside_has_the_same_interfaces_and_free_ports() {
        let listen = ["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/udp/4001/quic-v1"]
            .map(|address| address.parse().expect("an address"));
        let own: Vec<String> = beside(&listen).iter().map(ToString::to_string).collect();
        assert_eq!(own, ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/udp/0/quic-v1"]);
    }

    #[test]
    fn the_ports_of_all_interfaces_are_kept_once_each() {
        let addresses = [
            "/ip4/127.0.0.1/udp/2/quic-v1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.0.2.1/tcp/1",
            "/ip6/::1/tcp/3",
            "/ip6/::1/udp/4/quic-v1",
            "/dns4/example.org/tcp/5",
        ]
        .map(|address| address.parse().expect("an address"));
        let kept: Vec<String> = ports(&addresses).iter().map(ToString::to_string).collect();
        assert_eq!(
            kept,
            [
                "/ip4/0.0.0.0/tcp/1",
                "/ip6/::/tcp/3",
                "/ip4/0.0.0.0/udp/2/quic-v1",
                "/ip6/::/udp/4/quic-v1"
            ]
        );
    }

    #[test]
    fn a_name_is_one_word_for_the_shell() {
        assert_eq!(quoted("lobby"), "lobby");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
