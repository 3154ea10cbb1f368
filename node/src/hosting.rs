//! Making a session: a coordinator beside the node, the ticket that leads to it, and the node as the first
//! member.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use arborcast_coordinator::{Coordinator, Strategy};
use arborcast_net::store::Identity;
use arborcast_protocol::{
    history::History,
    id::Term,
    keys::{Access, Secret},
    limits,
    session::{Address, Contact},
    ticket::{Ticket, TicketError},
};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use zeroize::Zeroizing;

use crate::{
    error::{HostError, InvitationError},
    invitation::Invitation,
    node::Node,
    session::{Events, Session},
};

mod lasting;

/// A session to be made, by [`Node::host`]. Unless said otherwise it is private, with a secret that nobody has
/// seen, and its coordinator has a fresh key and listens on free ports of all interfaces.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HostOptions {
    /// `None`: a fresh secret.
    access: Option<Access>,
    name: Option<String>,
    identity: PathBuf,
    config: arborcast_coordinator::Config,
}

impl HostOptions {
    /// A private session with a fresh secret.
    pub fn new() -> Self {
        Self::default()
    }

    /// An open session: no secret, no encryption, anybody who knows the name and an address reads.
    ///
    /// # Errors
    /// [`InvitationError::Name`].
    pub fn open(name: &str) -> Result<Self, InvitationError> {
        let access = Invitation::open(name)?.access;
        Ok(Self { access: Some(access), ..Self::default() })
    }

    /// A named session that a passphrase makes private; see [`Invitation::passphrase`].
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn passphrase(name: &str, passphrase: &str) -> Result<Self, InvitationError> {
        let access = Invitation::passphrase(name, passphrase)?.access;
        Ok(Self { access: Some(access), name: Some(name.to_owned()), ..Self::default() })
    }

    /// What people call a private session; it stands in the ticket.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What those who join later get of what was sent before, as far as members keep it; default: nothing.
    pub fn history(mut self, history: History) -> Self {
        self.config.engine.session_history = history;
        self
    }

    /// How the tree is chosen; default: all members as near to all as can be.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.config.engine.strategy = strategy;
        self
    }

    /// An address for the coordinator to listen on; repeatable.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.config.listen.push(address);
        self
    }

    /// An address that others reach the coordinator at, where it differs from those it listens on; repeatable.
    pub fn external(mut self, address: Multiaddr) -> Self {
        self.config.external.push(address);
        self
    }

    /// Keeps the coordinator's key in a file, made if it is not there, and its term beside it. With fixed
    /// addresses to listen on tickets stay good from one start to the next.
    pub fn identity(mut self, file: impl Into<PathBuf>) -> Self {
        self.identity = file.into();
        self
    }

    /// All settings of the coordinator. Those that other methods here set are to be set after this.
    pub fn coordinator(mut self, config: arborcast_coordinator::Config) -> Self {
        self.config = config;
        self
    }
}

/// A session that this node made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hosted {
    /// Whoever has it can join: `arborcast join TICKET`, [`Node::join`].
    pub ticket: Ticket,
    /// The node's own membership. The coordinator runs as long as this or the events are there.
    pub session: Session,
    /// What happens in it.
    pub events: Events,
}

impl Node {
    /// Makes a session and joins it. The coordinator runs beside this node, under an identity of its own, as long
    /// as the session or its events are there; [`Session::coordinator`] leads to it.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn host(&self, options: HostOptions) -> Result<Hosted, HostError> {
        let HostOptions { access, name, identity, mut config } = options;
        let access = match access {
            Some(access) => access,
            None => Access::Private(fresh_secret()?),
        };
        let name = name.filter(|_| !access.is_open());
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > limits::SESSION_NAME) {
            return Err(InvitationError::Name.into());
        }
        config.engine.open_sessions = access.is_open();
        // It is here for this session alone: nobody else opens one.
        config.engine.sessions = 1;
        let (keypair, term, kept) = if identity.as_os_str().is_empty() {
            (Keypair::generate_ed25519(), Term(1), None)
        } else {
            let kept = Identity::open(&identity, Path::new(""))?;
            (kept.keypair().clone(), kept.next_term()?, Some(kept))
        };
        let starting = Coordinator::start_for(access.session(), config, keypair, term);
        let coordinator = Box::pin(starting).await?.keep(kept);
        self.enter(coordinator, access, name).await
    }

    /// Joins the session of a coordinator in the same process, which then runs as long as the session.
    pub(crate) async fn enter(
        &self,
        coordinator: Coordinator,
        access: Access,
        name: Option<String>,
    ) -> Result<Hosted, HostError> {
        let ticket = ticket(&access, name.as_deref(), &coordinator)?;
        let (session, events) = self.join(ticket.clone()).await?;
        let _ = session.inner.seat.coordinator.set(coordinator);
        Ok(Hosted { ticket, session, events })
    }
}

/// A secret that nobody has seen.
pub(crate) fn fresh_secret() -> Result<Secret, HostError> {
    let mut bytes = Zeroizing::new([0; Secret::LEN]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| HostError::NoRandomness)?;
    Ok(Secret::from_bytes(*bytes))
}

/// The session's ticket, with as many of the coordinator's addresses as it holds: those that last, or else all.
pub(crate) fn ticket(
    access: &Access,
    name: Option<&str>,
    coordinator: &Coordinator,
) -> Result<Ticket, TicketError> {
    let all = coordinator.addresses();
    let mut addresses = lasting::only_lasting(all.clone());
    if addresses.is_empty() {
        addresses = all;
    }
    // Whoever is on this machine comes by the short one of the two.
    if addresses
        .iter()
        .any(|address| address.iter().any(|part| part == Protocol::Ip4(Ipv4Addr::LOCALHOST)))
    {
        addresses.retain(|address| {
            address.iter().all(|part| part != Protocol::Ip6(Ipv6Addr::LOCALHOST))
        });
    }
    // Those that lead here from other machines come first, and stay when there are too many.
    addresses.sort_by_key(is_loopback);
    addresses.truncate(limits::ADDRESSES);
    loop {
        let contact = Contact {
            member: coordinator.member_id(),
            addresses: addresses.iter().map(Address::from).collect(),
        };
        match Ticket::new(access.clone(), name.map(str::to_owned), vec![contact]) {
            Err(TicketError::TooLong) if addresses.pop().is_some() => {}
            outcome => return outcome,
        }
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| {
        matches!(part, Protocol::Ip4(ip) if ip.is_loopback())
            || matches!(part, Protocol::Ip6(ip) if ip.is_loopback())
    })
}
