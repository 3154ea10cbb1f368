//! `/arborcast/session/1`: being let in, staying, leaving.

use std::fmt;

use multiaddr::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{
    admission::Admission,
    certificate::Certificate,
    history::History,
    id::{Challenge, Epoch, Incarnation, MemberId, SessionId},
    limits,
    push::{PushAccess, PushKey},
    refusal::Refusal,
    tree::SignedHeader,
};

/// From a member to the coordinator. Boxed where one variant would blow up all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Where is this session coordinated? Any member answers as well as the coordinator.
    Locate {
        /// The session asked for.
        session: SessionId,
    },
    /// Asks for something to sign. Answered alike whether or not the session exists.
    Challenge {
        /// The session to be joined.
        session: SessionId,
    },
    /// Asks to be let in.
    Join(Box<Join>),
    /// Keeps the membership alive before the lease ends, and asks for candidates.
    Renew {
        /// The session.
        session: SessionId,
        /// The member's run.
        incarnation: Incarnation,
        /// Addresses the member can be dialled at now, as binary multiaddrs without `/p2p`.
        #[serde(default)]
        addresses: Vec<Address>,
        /// Whether the member's floors are settled (see `arborcast` crate, `engine::repair`).
        #[serde(default)]
        settled: bool,
        /// The newest [`PushKey`] that it holds; 0 for none.
        #[serde(default, skip_serializing_if = "is_zero")]
        push_key: u32,
    },
    /// Ends the membership.
    Leave {
        /// The session.
        session: SessionId,
        /// The member's run.
        incarnation: Incarnation,
    },
}

/// A binary multiaddr, at most [`limits::ADDRESS`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl Address {
    /// The multiaddr; `None` if the bytes are none, or too many.
    #[must_use]
    pub fn multiaddr(&self) -> Option<Multiaddr> {
        if self.0.len() > limits::ADDRESS {
            return None;
        }
        Multiaddr::try_from(self.0.clone()).ok()
    }
}

impl From<&Multiaddr> for Address {
    fn from(address: &Multiaddr) -> Self {
        Self(address.to_vec())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multiaddr() {
            Some(address) => address.fmt(f),
            None => write!(f, "no address, {} bytes", self.0.len()),
        }
    }
}

/// A request to be let in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Join {
    /// The session.
    pub session: SessionId,
    /// The run of the member that asks.
    pub incarnation: Incarnation,
    /// What shows that it may.
    pub admission: Admission,
    /// How people call it, at most [`limits::NICK`] bytes; may be empty.
    #[serde(default)]
    pub nick: String,
    /// Most tree neighbours that it will have, at least 1; a leaf says 1.
    pub fanout: u16,
    /// What it can send, in kbit/s, where it knows: fewer neighbours where the session needs more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_kbps: Option<u32>,
    /// Addresses it can be dialled at, as binary multiaddrs without `/p2p`.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// The newest signed tree it holds, if it was a member before.
    #[serde(default)]
    pub held: Option<SignedHeader>,
    /// Whether its floors are settled from an earlier membership of the same incarnation.
    #[serde(default)]
    pub settled: bool,
}

/// What a coordinator or member answers.
pub type Answer = Result<Granted, Refusal>;

/// A granted request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granted {
    /// Who coordinates the session.
    Located {
        /// Coordinators with their addresses.
        coordinators: Vec<Contact>,
    },
    /// What to sign.
    Challenge {
        /// Valid for one join, from the same peer, for half a minute.
        challenge: Challenge,
    },
    /// The member is in.
    Joined(Box<Joined>),
    /// The member stays in.
    Renewed(Box<Renewed>),
    /// The member is out.
    Left,
    /// The member relays: others take its place first, and it is to ask again.
    HandingOver {
        /// After so many milliseconds.
        again_ms: u32,
    },
}

/// A peer and where it can be dialled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub member: MemberId,
    /// Where, as binary multiaddrs without `/p2p`; at most [`limits::ADDRESSES`].
    pub addresses: Vec<Address>,
}

/// The answer to a successful join.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Shown on every edge and in every frame.
    pub certificate: Certificate,
    /// What the coordinator asks of its members.
    pub terms: Terms,
    /// True if the member's floors count as settled at once: the first of its session.
    pub settled: bool,
    /// Members to connect to; at most [`limits::CANDIDATES`].
    pub candidates: Vec<Contact>,
    /// What lets it follow pushes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushAccess>,
}

/// The answer to a renewal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// A new certificate when the old one is about to expire.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// True if the coordinator appoints this member to count as settled: nobody else it can reach
    /// does.
    #[serde(default)]
    pub settled: bool,
    /// Further members to connect to.
    #[serde(default)]
    pub candidates: Vec<Contact>,
    /// The coordinator's clock in seconds.
    pub now_s: u64,
    /// The newest tree: worth a query if the member has an older one. Not for those who are told their neighbours
    /// alone, for most trees do not concern them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The newest key of pushes, if the member does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_key: Option<PushKey>,
    /// Members with whom the bandwidth of the channel is to be measured: the tree depends on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measure: Vec<MemberId>,
}

/// Timing and limits of a session, set by its coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The coordinator's clock in seconds, the one certificates expire on.
    pub now_s: u64,
    /// A member that has not renewed for this long is dropped, in milliseconds.
    pub lease_ms: u32,
    /// Members renew this often, in milliseconds: at least twice in a lease.
    pub renew_ms: u32,
    /// Members report quality of service this often, in milliseconds.
    pub report_ms: u32,
    /// Largest message, in bytes.
    pub message_bytes: u64,
    /// Bytes of frames that a member keeps for others, in all.
    pub store_bytes: u64,
    /// Members that keep the others waiting are detached, as soon as after this many milliseconds where
    /// nothing is heard of them; 0 for never. Members report who keeps them waiting unless it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_ms: u32,
    /// What those who join get of what was sent before.
    #[serde(default, skip_serializing_if = "History::is_none")]
    pub history: History,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}
