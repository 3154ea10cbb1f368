//! Real processes on loopback, used as a shell or a script uses them.
//!
//! ```text
//! cargo nextest run -p arborcast-tests --test e2e
//! ARBORCAST_E2E_LOG=arborcast=debug cargo nextest run -p arborcast-tests --test e2e chat
//! ```

#![expect(clippy::print_stdout, reason = "figures are shown with --no-capture")]

mod channels;
mod chat;
mod churn;
mod demo;
mod direct;
mod failover;
mod group;
mod history;
mod in_band;
mod live;
mod load;
mod local;
mod manners;
mod named;
mod refused;
mod restart;
mod send;
mod settings;
mod slow;
mod soak;
