//! What is said to whom is refused: the cause and what to do.

use std::time::Duration;

use arborcast_protocol::{
    limits,
    refusal::{Code, Refusal},
    session::{Address, Join},
};

/// One text for all causes, so that it tells an outsider nothing.
pub(crate) fn not_admitted() -> Refusal {
    Refusal::new(
        Code::NOT_ADMITTED,
        "not admitted: the proof for this session is missing or wrong; check the ticket and try again",
    )
}

/// Says nothing of any session either: it is found out before that.
pub(crate) fn stale_challenge() -> Refusal {
    Refusal::new(
        Code::STALE_CHALLENGE,
        "the challenge is used up, too old, or of an earlier start; ask for a new one",
    )
}

pub(crate) fn busy(wait: Duration) -> Refusal {
    let again_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let message = format!("others are let in first; come again in {again_ms} ms");
    Refusal { again_ms: Some(again_ms), ..Refusal::new(Code::BUSY, message) }
}

pub(crate) fn no_open_sessions() -> Refusal {
    Refusal::new(
        Code::NO_OPEN_SESSIONS,
        "this coordinator holds no open sessions; use a ticket, or another coordinator",
    )
}

pub(crate) fn session_full(members: usize) -> Refusal {
    Refusal::new(
        Code::SESSION_FULL,
        format!("the session has {members} members and takes no more; try again when some left"),
    )
}

pub(crate) fn too_many_sessions_of_one(sessions: usize) -> Refusal {
    Refusal::new(
        Code::TOO_MANY_SESSIONS,
        format!(
            "{sessions} sessions were opened from here and are still held, and no more are taken; end \
             some, or use another coordinator"
        ),
    )
}

pub(crate) fn too_many_sessions(sessions: usize) -> Refusal {
    Refusal::new(
        Code::TOO_MANY_SESSIONS,
        format!("this coordinator holds {sessions} sessions and takes no more; try another one"),
    )
}

pub(crate) fn rate_limited(per_s: u32) -> Refusal {
    Refusal::new(
        Code::RATE_LIMITED,
        format!("more than {per_s} requests per second; wait a second and send fewer"),
    )
}

pub(crate) fn not_member() -> Refusal {
    Refusal::new(Code::NOT_MEMBER, "not a member of this session now; join it again")
}

pub(crate) fn replaced() -> Refusal {
    Refusal::new(
        Code::REPLACED,
        "a newer run with the same identity has taken this place; give each run its own identity",
    )
}

pub(crate) fn expired(lease: Duration) -> Refusal {
    Refusal::new(
        Code::NOT_MEMBER,
        format!("the membership ended: it was not renewed for {lease:?}; join again"),
    )
}

/// Why a member was detached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// Its own application takes nothing.
    Application,
    /// Nothing is heard of it.
    Silence,
    /// It confirms too little.
    Channel,
}

pub(crate) fn detached(cause: Cause) -> Refusal {
    let why = match cause {
        Cause::Application => {
            "its application takes no messages; have it read what comes, or close what it does not \
             read"
        }
        Cause::Silence => "nothing was heard of it while data waited for it, as if it was stopped",
        Cause::Channel => "it takes far less than is sent; it needs a better way to the others",
    };
    Refusal::new(
        Code::DETACHED,
        format!(
            "detached for keeping the others waiting: {why}. It joins again once it can take messages"
        ),
    )
}

pub(crate) fn no_tree() -> Refusal {
    Refusal::new(Code::NO_TREE, "there is no tree yet; ask again in a moment")
}

pub(crate) fn invalid(cause: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::INVALID, format!("invalid request: {cause}"))
}

/// Checks what can be said of a join without knowing any session.
pub(crate) fn check_join(join: &Join) -> Result<(), Refusal> {
    if join.nick.len() > limits::NICK {
        let limit = limits::NICK;
        return Err(invalid(format!("the nickname has more than {limit} bytes; shorten it")));
    }
    if join.nick.chars().any(char::is_control) {
        return Err(invalid("the nickname has control characters; leave them out"));
    }
    if join.fanout == 0 {
        return Err(invalid("the fan-out is 0; a leaf says 1"));
    }
    check_addresses(&join.addresses)
}

/// Checks addresses that a member tells of itself.
pub(crate) fn check_addresses(addresses: &[Address]) -> Result<(), Refusal> {
    if addresses.len() > limits::ADDRESSES {
        let limit = limits::ADDRESSES;
        return Err(invalid(format!("more than {limit} addresses; keep the best of them")));
    }
    if addresses.iter().any(|address| address.0.is_empty() || address.0.len() > limits::ADDRESS) {
        let limit = limits::ADDRESS;
        return Err(invalid(format!("an address is empty or has more than {limit} bytes")));
    }
    Ok(())
}

/// Checks a list whose entries stand for channels.
pub(crate) fn check_channels(len: usize) -> Result<(), Refusal> {
    if len > limits::CHANNELS {
        let limit = limits::CHANNELS;
        return Err(invalid(format!("figures for more than {limit} channels; send them in turns")));
    }
    Ok(())
}
