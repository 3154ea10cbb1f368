//! The wire of Arborcast: identifiers, messages, limits, keys and tickets. No I/O, no clock.
//!
//! | protocol | from → to | request | answer |
//! |---|---|---|---|
//! | [`SESSION`] | member → coordinator (or member, for `Locate`) | [`session::Request`] | [`session::Answer`] |
//! | [`REPORT`] | member → coordinator | [`report::Report`] | [`report::Answer`] |
//! | [`PATH`] | member → coordinator | [`path::Request`] | [`path::Answer`] |
//! | [`NOTICE`] | coordinator → member | [`notice::Notice`] | [`notice::Noted`] |
//! | [`PROBE`] | member → member | [`probe::Probe`] | [`probe::Echo`] |
//! | [`EDGE`] | member ↔ member | [`edge::Hello`], then [`edge::Message`]s both ways | |
//! | [`DATA`] | member ↔ member | [`edge::DataHello`], then [`frame::Frame`]s both ways | |
//! | [`push::topic`] | coordinator → all | [`push::Push`] by gossipsub | |
//!
//! # Words
//! *Session*: the group. *Channel*: a connection of two members, direct or over a circuit. *Tree*:
//! the relay tree, an acyclic choice of channels; *edge*: a channel that the tree uses; *neighbour*:
//! the member at its other end; *next hops*: the neighbours but the one it came from. *Message*: what
//! the application sends; *frame*: what crosses edges; *piece*: a numbered part of a large message.
//! *Carries*: said of an edge once both ends have got a summary over it and sent their own; until then it is *added*,
//! or *half* of it carries. *Overlap*: *old* edges that stay in use until their successors carry. *Suspect*: an edge
//! that did not carry in time, or on which one end hears nothing. *Held down*: what failed or flapped counts as bad
//! for a time. *Silent*: a neighbour of which nothing is heard; *slow*: one that keeps others waiting. *Settled*: a
//! member whose floors others may adopt; *floor*: where a flow begins for a member.
//! *Flow*: the frames of one source, incarnation and class. *Relay*: a member that passes frames on;
//! libp2p's relay is always called *circuit*.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

pub mod admission;
pub mod certificate;
pub mod codec;
pub mod edge;
pub mod frame;
pub mod history;
pub mod id;
pub mod keys;
pub mod limits;
pub mod notice;
pub mod numbers;
pub mod opaque;
pub mod origin;
pub mod path;
pub mod probe;
pub mod push;
pub mod qos;
pub mod refusal;
pub mod report;
pub mod seal;
pub mod session;
pub mod signature;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod ticket;
pub mod tree;

pub use libp2p_identity as identity;

/// Joining, renewing, leaving.
pub const SESSION: &str = "/arborcast/session/1";
/// Adjacency and quality of service.
pub const REPORT: &str = "/arborcast/report/1";
/// Queries and subscriptions.
pub const PATH: &str = "/arborcast/path/1";
/// Subscription updates for scope `neighbours`.
pub const NOTICE: &str = "/arborcast/notice/1";
/// Measuring a channel.
pub const PROBE: &str = "/arborcast/probe/2";
/// Control substream of an edge.
pub const EDGE: &str = "/arborcast/edge/1";
/// Data substream of an edge.
pub const DATA: &str = "/arborcast/data/1";
