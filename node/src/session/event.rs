//! What a session tells the application beside messages.

use arborcast_protocol::{
    id::{Flow, MemberId, SeqNo},
    refusal::Refusal,
};

use crate::engine::event::{
    ChannelEvent, LossReason, Message, MissReason, Nicked, Rejection, SilenceReason, TreeEvent,
    Warning,
};

/// What happens in a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message, in order per source; those for this node alone are in an order of their own.
    Message(Message),
    /// Somebody came into the relay tree.
    Joined(Nicked),
    /// Somebody left it.
    Left(Nicked),
    /// A new relay tree.
    Tree(TreeEvent),
    /// A channel came up, went down or changed.
    Channel(ChannelEvent),
    /// All present members have all messages of this node for all up to this one; or the only
    /// receiver has those for it alone.
    Delivered {
        /// The highest such message.
        seq: SeqNo,
        /// How many members that are, this node not counted.
        members: u32,
        /// The only receiver of those messages; `None` for messages for all.
        to: Option<MemberId>,
    },
    /// A receiver is not known to have messages that this node sent to it alone, and never will: it
    /// has left.
    Missed {
        /// The receiver.
        to: MemberId,
        /// The first of them. Messages for others may lie between.
        from: SeqNo,
        /// The last of them.
        last: SeqNo,
        /// Why.
        reason: MissReason,
    },
    /// A message that was handed over cannot be sent at all. Its [`crate::Queued`] says so too, to whoever
    /// waits for that.
    NotSent {
        /// Its only receiver; `None` if it was for all.
        to: Option<MemberId>,
        /// Why, and what to do.
        why: Rejection,
    },
    /// Messages that will never come.
    Lost {
        /// Of which flow.
        flow: Flow,
        /// The first lost message.
        from: SeqNo,
        /// The last lost message. Messages that were not for this node may lie between.
        to: SeqNo,
        /// Why.
        reason: LossReason,
    },
    /// This node kept the others waiting, for the reason told, and is not a member for now. It joins again
    /// by itself once it can take messages; what it missed and nobody has kept is told as lost then.
    Detached(Refusal),
    /// The coordinator does not answer; messages still flow, joins wait.
    CoordinatorLost(SilenceReason),
    /// The coordinator answers again.
    CoordinatorBack,
    /// Something went wrong that people may want to know.
    Warning(Warning),
    /// The coordinator ended this node's membership, or the node has failed ([`crate::Code::FAULT`]). The last
    /// event.
    Ended(Refusal),
}
