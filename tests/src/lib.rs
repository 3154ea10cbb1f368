//! Tests of Arborcast that need more than one part of it.
//!
//! The simulator ([`sim`]) runs one coordinator engine and many node engines in virtual time: no
//! socket, no clock, no thread. Everything random follows from one seed, so every failure can be
//! run again. The [`model`] says what must come true, the [`invariants`] what must always hold.
//!
//! ```text
//! cargo nextest run -p arborcast-tests --test sim
//! ARBORCAST_SEEDS=2000 ARBORCAST_MEMBERS=50 cargo nextest run -p arborcast-tests --test sim churn
//! ARBORCAST_SEED=17 cargo nextest run -p arborcast-tests --test sim replay::one_seed --no-capture
//! ```
//!
//! [`process`] runs the real binaries on loopback and reads the JSON lines they print:
//!
//! ```text
//! cargo nextest run -p arborcast-tests --test e2e
//! ```
//!
//! [`lab`] puts them into network namespaces, as root:
//!
//! ```text
//! cargo nextest run -p arborcast-tests --test lab
//! ```
//!
//! Without its default feature `net` this package builds the engines without their drivers, and the
//! simulator with them: they need neither tokio nor the swarm.

pub mod invariants;
pub mod lab;
pub mod model;
pub mod process;
pub mod sim;
