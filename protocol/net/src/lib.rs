//! What nodes and coordinators share on the network: control exchanges, gossipsub as all must run it, who
//! may connect and how often, listening, and the file with the key.
//!
//! Nothing here knows an engine. The feature `command` adds what the two commands share beside the network.

#![expect(clippy::wildcard_enum_match_arm, reason = "libp2p's enums are open and we follow few")]

#[cfg(feature = "command")]
pub mod command;
pub mod exchange;
pub mod gate;
mod gossip;
pub mod listen;
pub mod settings;
pub mod slots;
pub mod store;

pub use gossip::gossipsub;

/// Identify's protocol version of Arborcast peers.
pub const IDENTIFY: &str = "arborcast/1";
