//! One error type for each operation, causes kept.

use arborcast_coordinator::StartError;
use arborcast_net::{listen::ListenError, store::IdentityError};
use arborcast_protocol::{
    id::MemberId,
    keys::PassphraseError,
    refusal::{Code, Refusal},
    ticket::TicketError,
};
use libp2p::Multiaddr;

use crate::engine::event::Rejection;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The identity is not Ed25519.
    #[error("a node needs an Ed25519 identity")]
    NotEd25519,
    /// A figure in the configuration cannot be.
    #[error("configuration: {0}")]
    Config(String),
    /// The file with its key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An address, or any, cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A transport or protocol did not come up.
    #[error("the network did not start: {0}")]
    Network(String),
}

/// Why a session was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No address of a coordinator was given.
    #[error(
        "no coordinator is known; give a ticket, or --peer with the address of a coordinator or member"
    )]
    NoCoordinator,
    /// An address cannot be used.
    #[error("{address}: {reason}")]
    Address {
        /// Which.
        address: Multiaddr,
        /// Why.
        reason: String,
    },
    /// Nobody answered at any address.
    #[error(
        "the coordinator cannot be reached ({tried}); is it running, and can this machine reach it?"
    )]
    Unreachable {
        /// Each address with what came of it.
        tried: String,
    },
    /// Somebody else than the expected coordinator answered.
    #[error(
        "{found} answers at {address} where {expected} was expected; the ticket or address is out of date, or somebody is in between"
    )]
    WrongPeer {
        /// Where.
        address: Multiaddr,
        /// Who should be there.
        expected: MemberId,
        /// Who is there.
        found: String,
    },
    /// The peers that were reached do not know where the session is coordinated.
    #[error("no coordinator of this session is known at the given addresses: {0}")]
    NotLocated(String),
    /// The coordinator said no.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The session is joined already by this node.
    #[error("this node has joined the session already")]
    AlreadyJoined,
    /// The node has ended.
    #[error("the node has ended")]
    Closed,
}

impl JoinError {
    /// Whether the coordinator was reached and would not let the node in.
    #[must_use]
    pub fn is_not_admitted(&self) -> bool {
        matches!(self, Self::Refused(refusal) if [
            Code::NOT_ADMITTED,
            Code::NO_OPEN_SESSIONS,
            Code::SESSION_FULL,
            Code::TOO_MANY_SESSIONS,
            Code::REPLACED,
        ]
        .contains(&refusal.code))
    }

    /// Whether no coordinator of the session was reached.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::NoCoordinator
                | Self::Unreachable { .. }
                | Self::WrongPeer { .. }
                | Self::NotLocated(_)
        )
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It cannot be sent at all.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
}

/// Why a session was not hosted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Its coordinator did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file with its coordinator's key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The session's name cannot be used.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The session's ticket cannot be made.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The node did not come in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// Why an invitation could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// The passphrase cannot be used.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The session's name cannot be used.
    #[error(
        "a session's name has 1 to {} bytes, no control characters and no signs that cannot be typed",
        arborcast_protocol::limits::SESSION_NAME
    )]
    Name,
}
