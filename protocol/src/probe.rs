//! `/arborcast/probe/2`: measuring a channel by echoes and short trains.
//!
//! One substream carries the probes of a channel one way and their echoes the other way, in order, for as long as
//! it is measured. Messages are CBOR after a 32-bit big-endian length.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{certificate::Certificate, id::SessionId};

/// From one member to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The session in which both are members.
    pub session: SessionId,
    /// Comes back with the echo.
    pub serial: u64,
    /// Weight for measuring bandwidth, at most [`crate::limits::TRAIN`] bytes: empty for an echo;
    /// answered by its length and the time that it took to arrive.
    #[serde(default)]
    pub train: ByteBuf,
    /// Shows that the sender is a member, in the first probe on a substream: nobody else is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// The answer to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Echo {
    /// That of the probe.
    pub serial: u64,
    /// Bytes of the train that arrived.
    #[serde(default)]
    pub train_bytes: u32,
    /// Bytes of the probe that arrived after its first fifth, which wakes everybody up...
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_bytes: u32,
    /// ...and over how many microseconds, as the receiver saw. 0 where it does not say, at least 1
    /// where it does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_us: u32,
    /// By how many microseconds the receiver is late at times: a busy machine, not a bad channel.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag_us: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
