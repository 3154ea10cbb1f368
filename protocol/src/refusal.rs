//! Why a request was not granted: always an answer, never a closed stream.

use serde::{Deserialize, Serialize};

/// The reason as a number that programs can act on. Unknown numbers of later versions are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u16);

impl Code {
    /// Never on the wire: a node says so to its own application when it has failed.
    pub const FAULT: Self = Self(0);
    /// The proof of admission is missing or wrong, or there is no such session. One code for all of
    /// these, so that it tells an outsider nothing.
    pub const NOT_ADMITTED: Self = Self(1);
    /// This coordinator holds no open sessions.
    pub const NO_OPEN_SESSIONS: Self = Self(2);
    /// The session has as many members as it may.
    pub const SESSION_FULL: Self = Self(3);
    /// The coordinator has as many sessions as it may.
    pub const TOO_MANY_SESSIONS: Self = Self(4);
    /// More requests than one peer may make.
    pub const RATE_LIMITED: Self = Self(5);
    /// The sender is not a member now; it may join again.
    pub const NOT_MEMBER: Self = Self(6);
    /// The request breaks a limit or contradicts itself.
    pub const INVALID: Self = Self(7);
    /// There is no tree yet.
    pub const NO_TREE: Self = Self(8);
    /// A newer incarnation of the same identity is in the session.
    pub const REPLACED: Self = Self(9);
    /// This peer is not a coordinator of the session.
    pub const NOT_COORDINATOR: Self = Self(10);
    /// The sender kept all others waiting and is not a member for now; it may join again once it takes
    /// what comes.
    pub const DETACHED: Self = Self(11);
    /// The challenge is used up, too old, or of an earlier start of the coordinator: ask for a new one.
    pub const STALE_CHALLENGE: Self = Self(12);
    /// Others are let in first; ask again after [`Refusal::again_ms`].
    pub const BUSY: Self = Self(13);
}

/// A refusal with words for people: the cause and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When to ask again, in milliseconds from now, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with this code and these words.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), again_ms: None }
    }
}
