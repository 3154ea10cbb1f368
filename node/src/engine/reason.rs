//! Why something did not go as it should: one enum for each kind of news, with words for people.

use arborcast_protocol::{id::MemberId, limits};

use super::event::Unanswered;

/// Why messages will never come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// Their source left in the middle of them.
    #[error("source left before the message was complete")]
    SourceLeft,
    /// Their source has been started twice since.
    #[error("source has started twice since")]
    SourceStartedAnew,
    /// This member was away, or behind, for longer than others keep messages.
    #[error("no longer kept by any member in reach")]
    NotKept,
    /// The pieces of a message do not fit each other.
    #[error("source sent inconsistent pieces")]
    Inconsistent,
    /// A frame's messages are not what its header says.
    #[error("source sent a frame that does not hold what its header says")]
    Malformed,
    /// The source counted them, and sent nothing.
    #[error("source left them out")]
    LeftOut,
    /// Larger than this session's messages may be.
    #[error("larger than messages of this session may be")]
    TooLarge,
}

/// Why the receiver of messages for it alone is not known to have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MissReason {
    /// It has been started anew.
    #[error("it has started anew before it had them")]
    StartedAnew,
    /// It left.
    #[error("it left before it had them")]
    Left,
    /// It never came.
    #[error("it did not come into the session")]
    NeverCame,
    /// It says nothing.
    #[error("it confirmed none for too long; it may not be there")]
    Unconfirmed,
}

/// Why a message cannot be sent at all, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It has too many bytes.
    #[error(
        "the message has {bytes} bytes, but this session takes at most {limit}; cut it into smaller messages"
    )]
    TooLarge {
        /// So many.
        bytes: u64,
        /// It may have so many.
        limit: u64,
    },
    /// It has too many bytes for one of class live.
    #[error(
        "the message has {bytes} bytes, but one of class live at most {limit}; cut it into smaller messages, \
         or send with class reliable"
    )]
    LiveTooLarge {
        /// So many.
        bytes: u64,
        /// It may have so many.
        limit: u64,
    },
    /// It is of class live and for one member.
    #[error("class live is for all members: leave the receiver out, or send with class reliable")]
    LiveForOne,
    /// Receivers are slow. Does not happen to who sends by a session, which waits.
    #[error("the queue is full because receivers are slow; wait until there is room")]
    QueueFull,
    /// It is for its sender.
    #[error(
        "a message for oneself alone has no way to go; leave the receiver out to send to all others"
    )]
    ForOneself,
    /// It is for somebody who is not in the session.
    #[error(
        "{0} is not in the session now; look who is there with `arborcast tree`, or leave the receiver out to \
         send to all"
    )]
    Absent(MemberId),
    /// This run has sent to as many members alone as it can.
    #[error(
        "one run of a member can send to {} others alone; start anew, or send to all",
        limits::MEMBERS
    )]
    TooManyReceivers,
    /// The tree is to go into the frames, and has no room there.
    #[error("the tree of {members} members does not fit into a frame; use --next-hops subscribe")]
    TreeTooLarge {
        /// It has so many.
        members: usize,
    },
}

impl Rejection {
    /// Whether it is for a member that is not in the session, or for this node itself.
    #[must_use]
    pub const fn is_unknown_peer(&self) -> bool {
        matches!(self, Self::ForOneself | Self::Absent(_))
    }
}

/// Why the coordinator counts as lost.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SilenceReason {
    /// There is no connection to it any more.
    #[error("the connection to the coordinator is gone")]
    Disconnected,
    /// Requests stay without an answer, the last one for this reason.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// What went wrong that people may want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// Messages that were to have the tree in them go without.
    #[error(
        "the session has grown: its tree does not fit into frames any more, and what was waiting is sent \
         without it; use --next-hops subscribe"
    )]
    TreeTooLarge,
}
