//! What somebody needs to join a session: the right to come in, and where to ask.

use arborcast_protocol::{
    id::SessionId,
    keys::{Access, Secret},
    limits, opaque,
    session::Contact,
    ticket::Ticket,
};
use libp2p::Multiaddr;

use crate::error::InvitationError;

/// A session to be joined. Made from a ticket, or from a name and addresses.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub(crate) access: Access,
    pub(crate) coordinators: Vec<Contact>,
    pub(crate) peers: Vec<Multiaddr>,
}

impl Invitation {
    /// An open session by its name: no secret, no encryption, anybody who knows the name reads.
    ///
    /// # Errors
    /// [`InvitationError::Name`].
    pub fn open(name: &str) -> Result<Self, InvitationError> {
        if name.is_empty() || name.len() > limits::SESSION_NAME {
            return Err(InvitationError::Name);
        }
        let name = opaque::typed(name).map_err(|_| InvitationError::Name)?;
        Ok(Self::new(Access::Open { name: name.to_string() }))
    }

    /// A named session that a passphrase makes private. Its public id can be guessed against
    /// offline by whoever knows the name, so take a passphrase that is hard to guess.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn passphrase(name: &str, passphrase: &str) -> Result<Self, InvitationError> {
        if name.is_empty() || name.len() > limits::SESSION_NAME {
            return Err(InvitationError::Name);
        }
        Ok(Self::new(Access::Private(Secret::from_passphrase(name, passphrase)?)))
    }

    fn new(access: Access) -> Self {
        Self { access, coordinators: Vec::new(), peers: Vec::new() }
    }

    /// Adds an address to ask at: a coordinator's, or any member's, which knows the coordinator.
    /// One without `/p2p` is taken at its word, so it does not protect against somebody in between.
    #[must_use]
    pub fn peer(mut self, address: Multiaddr) -> Self {
        self.peers.push(address);
        self
    }

    /// Which session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.access.session()
    }

    /// Whether anybody who knows its name may come in and read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.access.is_open()
    }
}

impl From<Ticket> for Invitation {
    fn from(ticket: Ticket) -> Self {
        Self { access: ticket.access, coordinators: ticket.coordinators, peers: Vec::new() }
    }
}
