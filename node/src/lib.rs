//! Group messages over a mesh of libp2p peers: each message crosses each channel once, along one
//! relay tree, and nothing is lost when the tree changes.
//!
//! One program makes a session, and passes its ticket on:
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = arborcast::Node::builder().nick("ada").spawn().await?;
//! let hosted = node.host(arborcast::HostOptions::new()).await?;
//! println!("join with {}", hosted.ticket);
//! let mut messages = hosted.session.messages();
//! while let Some(message) = messages.next().await {
//!     println!("{}: {} bytes", message.source, message.payload.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Others join with it and send:
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! # async fn example(ticket: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let node = arborcast::Node::builder().nick("bea").spawn().await?;
//! let (session, mut events) = node.join(ticket.parse::<arborcast::Ticket>()?).await?;
//! session.send("hello").await?;
//! session.leave().await;
//! # Ok(())
//! # }
//! ```
//!
//! `node/examples/` has a chat, a pipe, sensors and a host inside an application.
//!
//! | feature | what it adds |
//! |---|---|
//! | `net` | all of the above |
//! | `cli` (default) | the command `arborcast` |
//! | `impairment` | worse channels, for demonstrations and tests |
//! | `unstable-engine` | engine, frames and wire types as public modules, which any version may change |
//!
//! The engine is pure: inputs and the time in, outputs out. The driver (feature `net`) owns
//! swarm, timers and tasks, and decides nothing.
//!
//! ```text
//! frames  ─► verify ─► Input ─► engine: dedup ─► store ─► poll_frame ─► edges
//!                                         └────► order ─► poll_delivery ─► Events
//! Session::send ─► Input ─► engine: drafts ─► sign, seal ─► Input::Made ─► store ─► …
//! ```

#[cfg(feature = "unstable-engine")]
pub mod engine;
#[cfg(not(feature = "unstable-engine"))]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "with the feature it is public")]
mod engine;
#[cfg(feature = "unstable-engine")]
pub mod proof;
#[cfg(not(feature = "unstable-engine"))]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "with the feature it is public")]
mod proof;

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "net")]
mod config;
#[cfg(feature = "net")]
mod driver;
#[cfg(feature = "net")]
mod error;
#[cfg(feature = "net")]
mod hosting;
#[cfg(feature = "net")]
#[cfg_attr(
    not(feature = "impairment"),
    allow(dead_code, unreachable_pub, reason = "with the feature it is public")
)]
mod impairment;
#[cfg(feature = "net")]
mod invitation;
#[cfg(feature = "net")]
mod node;
#[cfg(feature = "net")]
mod session;

#[cfg(all(feature = "cli", not(feature = "unstable-engine")))]
use arborcast_protocol as protocol;
#[cfg(feature = "unstable-engine")]
pub use arborcast_protocol as protocol;
#[cfg(feature = "impairment")]
pub use impairment::{Impairment, ImpairmentError};
#[cfg(feature = "net")]
pub use {
    arborcast_coordinator::{Config as CoordinatorConfig, Coordinator, StartError, Strategy},
    arborcast_net::{listen::ListenError, store::IdentityError},
    arborcast_protocol::{
        history::History,
        id::{Class, Epoch, Flow, Incarnation, MemberId, SeqNo, ServiceId, SessionId},
        qos::{ChannelKind, Qos, Transport},
        refusal::{Code, Refusal},
        ticket::{Ticket, TicketError},
        tree::{Edge, Member, Tree},
    },
    config::Config,
    engine::{
        Config as SessionConfig, ConfigError, Control, Neighbour, NextHops, UnknownNextHops,
        event::{
            ChannelEvent, ChannelState, LossReason, Message, MissReason, Nicked, Rejection,
            SilenceReason, TreeEvent, Unanswered, Warning,
        },
        relay::{Buffering, Config as RelayConfig, Stats as RelayStats},
    },
    error::{HostError, InvitationError, JoinError, SendError, SpawnError},
    hosting::{HostOptions, Hosted},
    invitation::Invitation,
    libp2p::{Multiaddr, identity},
    node::{Node, NodeBuilder},
    session::{Confirmation, Event, Events, Messages, Outgoing, Queued, Session, Status},
};

/// The `arborcast` command. It lies here, and not in the binary, so that the swarm is compiled once.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main as command;

/// The README's program compiles.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../../README.md")]
struct Readme;
