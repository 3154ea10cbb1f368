//! `/arborcast/probe/1`: measuring a channel by echoes and short trains.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::id::SessionId;

/// From one member to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The session in which both are members.
    pub session: SessionId,
    /// Comes back with the echo.
    pub serial: u64,
    /// Weight for measuring bandwidth: empty for an echo; answered by its length alone.
    #[serde(default)]
    pub train: ByteBuf,
}

/// The answer to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// That of the probe.
    pub serial: u64,
    /// Bytes of the train that arrived.
    #[serde(default)]
    pub train_bytes: u32,
}
