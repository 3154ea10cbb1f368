//! `/arborcast/path/1`: asking for next hops (R4) and following them (R5, R6).

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, MemberId, SessionId},
    refusal::Refusal,
    tree::{Member, SignedHeader, Update},
};

/// How much of the tree is wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The whole tree (patent: "the acyclic graph of the data distribution path").
    Tree,
    /// The asker's own neighbours (patent: "third", "fourth" and "fifth information").
    Neighbours,
}

/// From a member to the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The newest state, once (S302).
    Query {
        /// The session.
        session: SessionId,
        /// How much of it.
        scope: Scope,
    },
    /// The newest state now and each change after it (S302). A second one replaces the first.
    Subscribe {
        /// The session.
        session: SessionId,
        /// How much of it.
        scope: Scope,
    },
    /// No more changes.
    Unsubscribe {
        /// The session.
        session: SessionId,
    },
}

/// What the coordinator answers.
pub type Answer = Result<State, Refusal>;

/// The newest state in the scope asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The whole tree.
    Tree(Box<Update>),
    /// The neighbours.
    Neighbours(Box<Neighbours>),
    /// The subscription has ended.
    Unsubscribed,
}

/// A member's place in the tree. Trusted because the coordinator itself says it on a connection
/// that authenticates it; the header can be shown to others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Neighbours {
    /// Of which tree.
    pub header: SignedHeader,
    /// The members on the edges of the one told.
    pub neighbours: Vec<Member>,
    /// Those of them on old edges that are still in use beside the new ones.
    #[serde(default)]
    pub overlap: Vec<MemberId>,
    /// Those of them on edges of the tree that lie on a cycle with the overlap, wherever that is (see
    /// [`crate::tree::Tree::on_cycles`]). The one told cannot see that from its own place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cyclic: Vec<MemberId>,
    /// Hash of the roster (see [`crate::tree::Tree::roster`]).
    pub roster_hash: Digest,
    /// How many members the roster has.
    pub roster_len: u32,
    /// Which of them the one told is, in order of ids; `None` if it is not in the tree yet.
    pub roster_index: Option<u32>,
}
