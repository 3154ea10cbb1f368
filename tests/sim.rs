//! The engines in simulated worlds with a script.
//!
//! `ARBORCAST_SEED` makes `replay::one_seed` run one world, and `ARBORCAST_TRACE` names a file for
//! all that happened in a world that failed.

mod admission;
mod gossip;
mod harness;
mod in_band;
mod joins;
mod killed;
mod live;
mod manners;
mod overlap;
mod partition;
mod patent;
mod pressure;
mod replay;
#[cfg(feature = "sabotage")]
mod sabotage;
mod slow;
