//! All tests that need more than one part of Arborcast, in one binary, so that real processes that
//! wait and simulated worlds that compute share the machine. The names say what a test runs on:
//!
//! ```text
//! cargo test -p arborcast-tests                 # everything
//! cargo test -p arborcast-tests chaos::         # random worlds, in virtual time
//! cargo test -p arborcast-tests sim::           # worlds with a script, in virtual time
//! cargo test -p arborcast-tests network::       # the library on real sockets
//! cargo test -p arborcast-tests e2e::           # real processes on loopback
//! cargo test -p arborcast-tests lab::           # real processes in network namespaces (as root)
//! cargo test -p arborcast-tests deploy::        # what lies in deploy/
//! ```
//!
//! The test harness begins in the order of the names: the long computations of `chaos` first, beside
//! processes from then on.

#![cfg_attr(
    any(feature = "net", feature = "sabotage"),
    expect(clippy::print_stdout, reason = "figures and skips are shown with --nocapture")
)]

mod chaos;
#[cfg(feature = "net")]
mod deploy;
#[cfg(feature = "net")]
mod e2e;
#[cfg(feature = "net")]
mod lab;
#[cfg(feature = "net")]
mod network;
mod sim;
