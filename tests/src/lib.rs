//! Tests of Arborcast that need more than one part of it.
//!
//! The simulator ([`sim`]) runs one coordinator engine and many node engines in virtual time: no
//! socket, no clock, no thread. Everything random follows from one seed, so every failure can be
//! run again. The [`model`] says what must come true, the [`invariants`] what must always hold.
//!
//! ```text
//! cargo test -p arborcast-tests sim::
//! ARBORCAST_SEEDS=2000 ARBORCAST_MEMBERS=50 cargo test -p arborcast-tests chaos::
//! ARBORCAST_SEED=17 cargo test -p arborcast-tests sim::replay::one_seed -- --nocapture
//! ```
//!
//! [`process`] runs the real binaries on loopback and reads the JSON lines they print, [`lab`] puts them
//! into network namespaces, as root; [`scenario`] is what tests and the benchmark `figures` have in
//! common. Whatever starts processes or a swarm has a [`slot`].
//!
//! Without its default feature `net` this package builds the engines without their drivers, and the
//! simulator with them: they need neither tokio nor the swarm.

pub mod group;
pub mod invariants;
pub mod lab;
pub mod model;
pub mod process;
pub mod scenario;
pub mod sim;
pub mod slot;
