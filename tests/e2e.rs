//! Real processes on loopback, used as a shell or a script uses them.
//!
//! ```text
//! cargo test -p arborcast-tests e2e::
//! ARBORCAST_E2E_LOG=arborcast=debug cargo test -p arborcast-tests e2e::chat
//! ```

mod channels;
mod chat;
mod churn;
mod demo;
mod direct;
mod examples;
mod failover;
mod history;
mod in_band;
mod live;
mod load;
mod local;
mod manners;
mod named;
mod paused;
mod plan;
mod readme;
mod refused;
mod restart;
mod saved;
mod send;
mod settings;
mod slow;
mod soak;
mod strategy;
