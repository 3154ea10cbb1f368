//! Group messages over a mesh of libp2p peers: each message crosses each channel once, along one
//! relay tree, and nothing is lost when the tree changes.
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! # async fn example(ticket: arborcast::protocol::ticket::Ticket) -> Result<(), Box<dyn std::error::Error>> {
//! let node = arborcast::Node::builder().nick("bea").spawn().await?;
//! let (session, mut events) = node.join(ticket).await?;
//! session.send("hello").await?;
//! while let Some(event) = events.next().await {
//!     if let arborcast::Event::Message(message) = event {
//!         println!("{}: {} bytes", message.source, message.payload.len());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The [`engine`] is pure: inputs and the time in, outputs out. The driver (feature `net`) owns
//! swarm, timers and tasks, and decides nothing.
//!
//! ```text
//! frames  ─► verify ─► Input ─► engine: dedup ─► store ─► poll_frame ─► edges
//!                                         └────► order ─► poll_delivery ─► Events
//! Session::send ─► Input ─► engine: drafts ─► sign, seal ─► Input::Made ─► store ─► …
//! ```

pub mod engine;
pub mod proof;

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "net")]
mod config;
#[cfg(feature = "net")]
mod driver;
#[cfg(feature = "net")]
mod error;
#[cfg(feature = "net")]
mod impairment;
#[cfg(feature = "net")]
mod invitation;
#[cfg(feature = "net")]
mod node;
#[cfg(feature = "net")]
mod session;

pub use arborcast_protocol as protocol;
#[cfg(feature = "net")]
pub use {
    config::Config,
    engine::event::{ChannelEvent, ChannelState, Message, Nicked, TreeEvent},
    error::{InvitationError, JoinError, SendError, SpawnError},
    impairment::{Impairment, ImpairmentError},
    invitation::Invitation,
    libp2p::{Multiaddr, identity},
    node::{Node, NodeBuilder},
    session::{Confirmation, Event, Events, Queued, Session, Status},
};

/// The `arborcast` command. It lies here, and not in the binary, so that the swarm is compiled once.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main as command;
