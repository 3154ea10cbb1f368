//! The rendezvous node of Arborcast sessions: learns channels and their quality, computes one relay
//! tree for each session, pushes it.
//!
//! ```text
//! reports, joins, queries ─► driver ─► Input ─► engine: session ─► topology ─► tree ─► subscription
//!                                                                                │
//!                   gossipsub, answers, notices ◄─ driver ◄─ Output ◄────────────┘
//! ```
//!
//! The engine is pure (public with `unstable-engine`): inputs and the time in, outputs out. The driver (`net`) owns
//! swarm, timer and files, and decides nothing. A coordinator never holds a session's secret.

#[cfg(feature = "unstable-engine")]
pub mod engine;
#[cfg(not(feature = "unstable-engine"))]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "with the feature it is public")]
mod engine;

#[cfg(feature = "cli")]
mod command;
#[cfg(feature = "net")]
mod driver;

#[cfg(feature = "net")]
pub use {
    driver::{Config, Coordinator, StartError, Stats},
    engine::{Config as EngineConfig, Stats as EngineStats, tree::Strategy},
};

/// The `arborcast-coordinator` command. It lies here, and not in the binary, so that the swarm is
/// compiled once.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use command::main as command;
