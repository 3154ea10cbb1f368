//! Group messages over a mesh of libp2p peers: each message crosses each channel once, along one
//! relay tree, and nothing is lost when the tree changes.
//!
//! ```no_run
//! # #[cfg(feature = "net")]
//! # async fn example(ticket: arborcast::Ticket) -> Result<(), Box<dyn std::error::Error>> {
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

/// The engine of one session. It changes from one version to the next.
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
    arborcast_coordinator::{Config as CoordinatorConfig, Coordinator, StartError},
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
