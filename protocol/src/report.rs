//! `/arborcast/report/1`: adjacency (R1, patent: "first information") and quality of service
//! (R1 and R3, patent: "second information").

use serde::{Deserialize, Serialize};

use crate::{
    id::{Incarnation, MemberId, SessionId},
    qos::{ChannelKind, Qos, Transport},
    refusal::Refusal,
    session::Contact,
    tree::SignedHeader,
};

/// What a member knows of its channels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The session.
    pub session: SessionId,
    /// The member's run.
    pub incarnation: Incarnation,
    /// Which channels there are, if that changed.
    #[serde(default)]
    pub adjacency: Option<Adjacency>,
    /// How good they are, for those whose figures changed; at most [`crate::limits::CHANNELS`].
    #[serde(default)]
    pub qos: Vec<ChannelQos>,
    /// The newest signed tree that the member holds.
    #[serde(default)]
    pub held: Option<SignedHeader>,
    /// New edges of that tree that carry data now (make before break).
    #[serde(default)]
    pub carrying: Vec<MemberId>,
    /// Whether the member's floors are settled.
    #[serde(default)]
    pub settled: bool,
    /// Neighbours in the tree of whom nothing is heard, although the channel with them may still look
    /// alive; at most [`crate::limits::CHANNELS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<MemberId>,
    /// Neighbours in the tree that keep others waiting: so much waits for them, and they confirm so little
    /// of it; the reporter itself, if it is its own application that takes nothing. All of them each time:
    /// who is not listed any more is taken back. At most [`crate::limits::CHANNELS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<MemberId>,
}

/// First information: the members that the reporter has a channel with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjacency {
    /// All channels; whatever is not listed is gone.
    Full(Vec<Channel>),
    /// Channels that came up or changed their kind, and members with whom there is none any more.
    Change {
        /// Up or changed.
        up: Vec<Channel>,
        /// Gone.
        down: Vec<MemberId>,
    },
}

/// One channel as one end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    /// The member at the other end.
    pub peer: MemberId,
    /// Direct or over a circuit.
    pub kind: ChannelKind,
    /// What carries it.
    pub transport: Transport,
}

/// Second information: the quality of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelQos {
    /// The member at the other end.
    pub peer: MemberId,
    /// The figures.
    pub qos: Qos,
}

/// What the coordinator answers.
pub type Answer = Result<Accepted, Refusal>;

/// The report counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Members to connect to, when the graph needs more channels here.
    #[serde(default)]
    pub candidates: Vec<Contact>,
    /// Ask for this: the coordinator lacks the reporter's adjacency (after a restart) and wants a
    /// full report.
    #[serde(default)]
    pub report_full: bool,
}
