//! `/arborcast/edge/1`: the control substream of a tree edge, one for each direction of opening,
//! used both ways. Messages are CBOR after a 32-bit big-endian length.
//!
//! Everything after the summary is a change against what was said before on the same substream,
//! which is reliable and in order.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    certificate::Certificate,
    id::{Digest, Epoch, Flow, FrameNo, SeqNo, SessionId},
    limits,
    numbers::NumberSet,
};

/// The first message each way: who is there, with proof. The connection has authenticated the peer,
/// so the certificate needs no further signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The session.
    pub session: SessionId,
    /// Of the one that says hello.
    pub certificate: Certificate,
    /// Its newest tree: the other side fetches that one before it refuses an edge it does not know.
    pub epoch: Epoch,
    /// Ties the data substream to this one: chosen at random by the opener, repeated in the answer.
    #[serde(with = "serde_bytes")]
    pub token: [u8; 16],
}

/// The first message on a data substream (`/arborcast/data/1`), from its opener alone; frames
/// follow both ways.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataHello {
    /// The session.
    pub session: SessionId,
    /// That of the edge's hello.
    #[serde(with = "serde_bytes")]
    pub token: [u8; 16],
}

/// What follows the hello on the control substream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// All that the sender has, once when the edge comes up, and again when it becomes settled. No
    /// frame is sent before the other side's summary came.
    Summary(Summary),
    /// At regular intervals, and when the epoch changed.
    Heartbeat(Heartbeat),
    /// What changed in floors and receipts.
    Receipts(Receipts),
    /// Asks for frames that the sender lacks although nothing is on its way any more. At most
    /// [`limits::RANGES`] gaps over all flows.
    Ask(#[serde(deserialize_with = "few_ranges")] Vec<Missing>),
    /// Asks who has been given everything of a flow up to a number, on the receiver's side of the edge.
    Inquire(Inquire),
    /// The answer to that.
    Have(Have),
    /// Old live frames gave way to new ones on this edge: nobody needs to wait for them here. Only to
    /// whoever said that it takes live frames.
    Passed(Vec<Passed>),
    /// The sender will send no more frames on this edge: its queue is empty and the tree has dropped
    /// the edge. Closed when both have said so.
    Fin,
}

/// What somebody has of all flows it knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Whether a joiner may adopt these floors.
    pub settled: bool,
    /// One entry for each flow; flows of live frames have none.
    pub flows: Vec<FlowSummary>,
    /// It takes frames of class live, and knows [`Message::Passed`]. Older nodes would keep them like
    /// reliable ones, and are sent none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
}

/// What somebody has of one flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowSummary {
    /// The flow.
    pub flow: Flow,
    /// The numbers it has or gave up.
    pub has: NumberSet,
    /// Up to here nobody who is present needs anything from it. It keeps nothing of that, so it cannot
    /// send that; but for what `begin` says.
    pub released: FrameNo,
    /// It keeps all after this number, which is below `released`: those in between as history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<FrameNo>,
    /// Where a joiner begins by the history that the session's terms grant; `None`: after `released`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
}

impl FlowSummary {
    /// The sender can send all frames after this number that it has.
    #[must_use]
    pub fn kept_above(&self) -> FrameNo {
        self.begin.map_or(self.released, |begin| begin.min(self.released))
    }
}

/// Where in a flow a joiner begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// With the frame after this number.
    pub after: FrameNo,
    /// With this message, which is in that frame: the first of it, or a later one.
    pub first: SeqNo,
}

/// A sign of life with what the other end needs to find out that it has missed something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's newest tree.
    pub epoch: Epoch,
    /// Frames that the sender has put on this edge's data substream so far. What is still missing
    /// when that many have come is not on its way.
    pub sent: u64,
    /// In how many milliseconds the next heartbeat is due, while data moves; `None`: at leisure. So its
    /// absence can be noticed early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u32>,
    /// Frames that have come on this edge's data substream so far: shows the other side how long live
    /// frames are under way. Only to whoever takes those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// When it was sent, in microseconds of a clock of the sender's own: comes back at once in a heartbeat's
    /// `echo`, as with the timestamps of RFC 7323. Who answers asks in turn, so that both ends measure; whoever
    /// answers that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp_us: Option<u64>,
    /// The other side's stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_us: Option<u64>,
    /// By how many microseconds the sender is late at times, for its machine is busy: no fault of the
    /// channel's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag_us: u32,
    /// There is more to be sent than the channel takes: what comes waits behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_full: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Live frames of a flow that do not come on this edge any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// The flow.
    pub flow: Flow,
    /// Everything up to here that has not come.
    pub up_to: FrameNo,
}

/// Aggregated receipts of the part of the tree on the sender's side of the edge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Receipts {
    /// The sender's roster; a receiver with another one does not count `covered`.
    pub roster: Digest,
    /// Which members of the roster the figures cover: bit i (least significant first) of byte i / 8
    /// stands for the i-th in order of ids.
    #[serde(with = "serde_bytes")]
    pub covered: Vec<u8>,
    /// Flows whose figures changed.
    pub flows: Vec<FlowReceipt>,
}

/// One flow in [`Receipts`].
///
/// Of a flow for one receiver alone, `delivered` is what that receiver was given, whoever says so,
/// and `covered` does not matter; what its source has given up counts as `released`. A member off
/// the way may forget such a flow before it is released, and says so by a `top` of 0: then it has
/// nothing of it any more, whatever it said and was sent before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowReceipt {
    /// The flow.
    pub flow: Flow,
    /// The sender's own floor.
    pub floor: FrameNo,
    /// The highest number that the sender knows to exist.
    pub top: FrameNo,
    /// The lowest number up to which a covered member's application was given everything.
    pub delivered: FrameNo,
    /// The sender keeps nothing up to here any more; but for what `begin` says.
    pub released: FrameNo,
    /// See [`FlowSummary::begin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<FrameNo>,
}

impl FlowReceipt {
    /// The sender can send all frames after this number that it has.
    #[must_use]
    pub fn kept_above(&self) -> FrameNo {
        self.begin.map_or(self.released, |begin| begin.min(self.released))
    }

    /// Whether the sender has forgotten a flow for one receiver alone before it was released.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.flow.to.is_some() && self.top == FrameNo(0)
    }
}

/// A question that goes on to all further edges that lead to members of whom the answer is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inquire {
    /// Of which flow.
    pub flow: Flow,
    /// Everything up to this number.
    pub number: FrameNo,
    /// For how many milliseconds the sender waits for the answer.
    pub wait_ms: u32,
}

/// Each of these members was given everything up to a number. Others may have it too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Have {
    /// Of which flow.
    pub flow: Flow,
    /// Up to this number.
    pub number: FrameNo,
    /// The sender's roster; a receiver with another one does not count `members`.
    pub roster: Digest,
    /// Positions in the roster, as in [`Receipts::covered`].
    #[serde(with = "serde_bytes")]
    pub members: Vec<u8>,
}

/// Frames of one flow that are asked for, as (first, last), lowest first, none of them
/// overlapping.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missing {
    /// The flow.
    pub flow: Flow,
    /// The gaps.
    pub ranges: Vec<(FrameNo, FrameNo)>,
}

/// Reads what is missing in all flows, unless there are more gaps than one request may name. A flow
/// without any counts like one with one gap.
fn few_ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Missing>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Missing>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {} ranges over all flows", limits::RANGES)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut all: Vec<Missing> = Vec::new();
            let mut room = limits::RANGES;
            while let Some(missing) = seq.next_element::<Missing>()? {
                room = room
                    .checked_sub(missing.ranges.len().max(1))
                    .ok_or_else(|| de::Error::custom("too many ranges"))?;
                all.push(missing);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_seq(Few)
}

#[cfg(test)]
mod tests;
