//! The rendezvous node of Arborcast sessions: learns channels and their quality, computes one relay
//! tree for each session, pushes it.
//!
//! ```text
//! reports, joins, queries ─► driver ─► Input ─► engine: session ─► topology ─► tree ─► subscription
//!                                                                                │
//!                   gossipsub, answers, notices ◄─ driver ◄─ Output ◄────────────┘
//! ```
//!
//! The [`engine`] is pure: inputs and the time in, outputs out. The driver (feature `net`) owns
//! swarm, timer and files, and decides nothing. A coordinator never holds a session's secret.

pub mod engine;

#[cfg(feature = "net")]
mod command;
#[cfg(feature = "net")]
pub mod driver;
#[cfg(feature = "net")]
pub mod exchange;
#[cfg(feature = "net")]
pub mod file_limit;
mod origin;
#[cfg(feature = "net")]
pub mod panics;
#[cfg(feature = "net")]
pub mod settings;
#[cfg(feature = "net")]
pub mod signals;

pub use origin::Origin;

#[cfg(feature = "net")]
pub use driver::{Config, Coordinator, StartError};

/// The `arborcast-coordinator` command. It lies here, and not in the binary, so that the swarm is
/// compiled once.
#[cfg(feature = "net")]
#[doc(hidden)]
pub use command::main as command;
