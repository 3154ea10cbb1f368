//! What can be set about relaying, and the bounds that cannot.

use std::time::Duration;

use arborcast_protocol::limits;
use serde::{Deserialize, Serialize};

use super::token_bucket::Rate;
use crate::engine::config::{ConfigError, LONGEST, check};

/// Timing and memory of the data plane. Nothing here must be equal at two members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "net", derive(documented::DocumentedFields))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Receipts wait this long for more to report, so that a stream of frames costs one message
    /// each time and not one for each frame. Each hop adds it to the way back to the source.
    #[serde(rename = "receipt_delay_ms", with = "crate::engine::millis")]
    pub receipt_delay: Duration,
    /// A missing frame is asked for after this long; under normal traffic it is on its way. A guess:
    /// more than the round trip of most edges.
    #[serde(rename = "hole_delay_ms", with = "crate::engine::millis")]
    pub hole_delay: Duration,
    /// The delay doubles with each repetition up to this.
    #[serde(rename = "hole_delay_max_ms", with = "crate::engine::millis")]
    pub hole_delay_max: Duration,
    /// What no neighbour can supply is given up, and reported lost, after this long without any
    /// progress in the flow.
    #[serde(rename = "give_up_delay_ms", with = "crate::engine::millis")]
    pub give_up_delay: Duration,
    /// The same where nobody is known to have released the frames, but their source is gone. And
    /// messages for one receiver that is in no tree, and was in none before, are given up after this.
    #[serde(rename = "abandon_delay_ms", with = "crate::engine::millis")]
    pub abandon_delay: Duration,
    /// A source whose last frames are not confirmed by all after this long shows by a frame without
    /// messages that they exist; then after twice as long, up to 16 times. Much more than it takes
    /// when nothing goes wrong.
    #[serde(rename = "flush_delay_ms", with = "crate::engine::millis")]
    pub flush_delay: Duration,
    /// A frame with a tree in it waits this long at edges that its tree does not name, for it should
    /// come to their other ends by that tree. More than the way through most sessions and of receipts
    /// over one edge; as long as a missing frame waits before it is asked for.
    #[serde(rename = "in_band_grace_ms", with = "crate::engine::millis")]
    pub in_band_grace: Duration,
    /// How long live frames are waited for: a missing one where it is handed out, and one that waits
    /// where it is to be passed on; older ones give way. As much delay as a conversation bears at
    /// worst.
    #[serde(rename = "playout_ms", with = "crate::engine::millis")]
    pub playout: Duration,
    /// Live data that waits for one edge, or of one source for the application, or of this node to be
    /// sent, in bytes; beyond it the oldest gives way. At least 2 MiB. Of all sources together four
    /// times as much waits for the application.
    pub live_bytes: u64,
    /// Time between two heartbeats on an edge where nothing moves.
    #[serde(rename = "heartbeat_ms", with = "crate::engine::millis")]
    pub heartbeat: Duration,
    /// An edge on which nothing was heard for this long is dead; two missed heartbeats.
    #[serde(rename = "edge_timeout_ms", with = "crate::engine::millis")]
    pub edge_timeout: Duration,
    /// A retired edge is closed after this long even if the other end does not say fin.
    #[serde(rename = "fin_timeout_ms", with = "crate::engine::millis")]
    pub fin_timeout: Duration,
    /// The flow of a source that left is forgotten when nothing happened in it for this long, and
    /// after twice as long even if not all confirmed its last frames. So are flows for one receiver
    /// where they are only carried; without a tree their source gives them up then.
    #[serde(rename = "prune_after_ms", with = "crate::engine::millis")]
    pub prune_after: Duration,
    /// Messages waiting to be cut into frames, in bytes of payload. One message of any permitted
    /// size is taken whenever the queue is below this.
    pub publish_bytes: u64,
    /// The same in messages, for small ones.
    pub publish_messages: usize,
    /// Incomplete messages, by their declared size in bytes, of all sources together; at least one
    /// largest message. Beyond it new ones wait, and hold their sources back; only the message of
    /// the lowest flow never waits, lest two members wait for each other.
    pub assembly_bytes: u64,
    /// Bytes of frames kept for others, in all, before the coordinator's terms are known; at least
    /// 512 KiB.
    pub store_bytes: u64,
    /// Bytes of frames that all have, kept for members that were away and, if the session gives those
    /// history, for those that join later; default 4 MiB, and 0 for none. The oldest give way, and none is
    /// kept for more than 6 hours. They hold nobody back.
    pub history_bytes: u64,
    /// Largest message in bytes, before the coordinator's terms are known.
    pub message_bytes: u64,
    /// A bug on purpose.
    #[cfg(feature = "sabotage")]
    #[serde(skip)]
    pub sabotage: Option<super::Sabotage>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receipt_delay: Duration::from_millis(20),
            hole_delay: Duration::from_millis(500),
            hole_delay_max: Duration::from_secs(8),
            give_up_delay: Duration::from_secs(5),
            abandon_delay: Duration::from_secs(30),
            flush_delay: Duration::from_secs(5),
            in_band_grace: Duration::from_millis(500),
            playout: Duration::from_millis(500),
            live_bytes: LIVE_MIN,
            heartbeat: Duration::from_secs(5),
            edge_timeout: Duration::from_secs(10),
            fin_timeout: Duration::from_secs(2),
            prune_after: Duration::from_secs(60),
            publish_bytes: 4 * 1024 * 1024,
            publish_messages: 4096,
            assembly_bytes: 64 * 1024 * 1024,
            store_bytes: 32 * 1024 * 1024,
            history_bytes: 4 * 1024 * 1024,
            message_bytes: limits::MESSAGE as u64,
            #[cfg(feature = "sabotage")]
            sabotage: None,
        }
    }
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range, and the range.
    pub(in crate::engine) fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("relay.receipt_delay_ms", self.receipt_delay),
            ("relay.hole_delay_ms", self.hole_delay),
            ("relay.hole_delay_max_ms", self.hole_delay_max),
            ("relay.give_up_delay_ms", self.give_up_delay),
            ("relay.abandon_delay_ms", self.abandon_delay),
            ("relay.flush_delay_ms", self.flush_delay),
            ("relay.in_band_grace_ms", self.in_band_grace),
            ("relay.heartbeat_ms", self.heartbeat),
            ("relay.edge_timeout_ms", self.edge_timeout),
            ("relay.fin_timeout_ms", self.fin_timeout),
            ("relay.prune_after_ms", self.prune_after),
        ] {
            let good = (Duration::from_millis(1)..=LONGEST).contains(&value);
            check(field, good, "from 1 to 86400000 (a day)")?;
        }
        let playout = (Duration::from_millis(1)..=PLAYOUT_MAX).contains(&self.playout);
        check("relay.playout_ms", playout, "from 1 to 10000")?;
        check(
            "relay.live_bytes",
            (LIVE_MIN..=MEMORY_MAX).contains(&self.live_bytes),
            "from 2097152 (2 MiB) to 68719476736 (64 GiB)",
        )?;
        check(
            "relay.hole_delay_max_ms",
            self.hole_delay_max >= self.hole_delay,
            "at least hole_delay_ms",
        )?;
        check(
            "relay.edge_timeout_ms",
            self.edge_timeout >= 2 * self.heartbeat,
            "at least twice heartbeat_ms",
        )?;
        for (field, value) in [
            ("relay.publish_bytes", self.publish_bytes),
            ("relay.publish_messages", self.publish_messages as u64),
            ("relay.assembly_bytes", self.assembly_bytes),
        ] {
            check(field, (1..=MEMORY_MAX).contains(&value), "from 1 to 68719476736 (64 GiB)")?;
        }
        check(
            "relay.store_bytes",
            (STORE_MIN..=MEMORY_MAX).contains(&self.store_bytes),
            "from 524288 (512 KiB) to 68719476736 (64 GiB)",
        )?;
        check(
            "relay.history_bytes",
            self.history_bytes <= MEMORY_MAX,
            "from 0 to 68719476736 (64 GiB)",
        )?;
        check(
            "relay.message_bytes",
            (1..=limits::MESSAGE as u64).contains(&self.message_bytes),
            "from 1 to 16777216 (16 MiB)",
        )?;
        check(
            "relay.assembly_bytes",
            self.assembly_bytes >= self.message_bytes,
            "at least message_bytes",
        )
    }
}

/// More than any machine gives to this; keeps sums of such figures far from overflow.
const MEMORY_MAX: u64 = 64 << 30;

/// Least window of a source in bytes: some four full frames are under way even in a large session.
pub(super) const WINDOW_MIN: u64 = 256 * 1024;

/// Greatest window of a source in bytes: 1.3 Gbit/s over a round trip of 100 ms.
pub(super) const WINDOW_MAX: u64 = 16 * 1024 * 1024;

/// Bytes kept for others even if the coordinator's terms say less: two least windows.
pub(super) const STORE_MIN: u64 = 2 * WINDOW_MIN;

/// How long history is kept at most. Less than a third of a day, which is what is left at least of a
/// certificate when its holder seals a frame: older frames might not count as genuine any more.
pub(super) const HISTORY_AGE: Duration = Duration::from_secs(6 * 60 * 60);

/// Flows of members that have left that are kept for their history: each takes some 200 bytes of each
/// summary and, with a new neighbour, of receipts.
pub(super) const PAST_FLOWS: usize = 256;

/// Unreleased bytes of one flow of another source: twice the greatest window, because the source
/// hears of receipts, and sends more, before a relay far away hears of the same receipts.
pub(super) const FLOW_QUOTA: u64 = 2 * WINDOW_MAX;

/// Largest message of class live in bytes: more than a whole picture of most videos.
pub(super) const LIVE_MESSAGE: u64 = 1024 * 1024;

/// Least bytes of live data that wait: the largest message, though a piece of it comes late.
const LIVE_MIN: u64 = 2 * LIVE_MESSAGE;

/// Live data of all sources that waits for the application, by what may wait of one.
pub(super) const LIVE_TOTAL: u64 = 4;

/// Live flows in one message about what does not come: some 200 bytes each.
pub(super) const LIVE_FLOWS_TOLD: usize = 1024;

/// The longest that live data can wait: whoever bears more is served better by class reliable.
const PLAYOUT_MAX: Duration = Duration::from_secs(10);

/// Flows known at a time: each member of a full session in its newest two runs.
pub(super) const FLOWS: usize = 2 * limits::MEMBERS;

/// Receivers to whom a source has frames of their own under way at a time; the next one waits. Enough
/// to keep a window busy, few enough that a relay can keep them all for every source.
pub(super) const OPEN_RECEIVERS: usize = 64;

/// Flows of one source that are carried to single receivers. Twice what is open at a time, for the
/// news that one is over comes later than the next one. Beyond it the one that has been still for
/// longest is forgotten, and fetched again if need be.
pub(super) const CARRIED: usize = 2 * OPEN_RECEIVERS;

/// Runs of one source and class whose state is kept.
pub(super) const RUNS: usize = 2;

/// Forgotten flows whose floor is remembered, so that a replay of them is not new.
pub(super) const TOMBSTONES: usize = limits::MEMBERS;

/// Ranges above the floor of one flow; what would open one more is dropped and asked for later. A
/// source whose frames come in order has one or two.
pub(super) const FRAGMENTS: usize = 4 * limits::RANGES;

/// Ranges on one edge, over all its flows: 1 MiB. With the entries of so many flows themselves, some 6 MiB,
/// that is what one neighbour can make this node keep.
pub(super) const EDGE_RANGES: usize = 64 * 1024;

/// Summaries that a neighbour may send: one when its edge comes up, one when it is settled.
pub(super) const SUMMARIES: Rate = Rate { burst: 8, per_s: 1 };

/// Questions of a neighbour who has what: some of each member of a large session behind it.
pub(super) const QUESTIONS: Rate = Rate { burst: 256, per_s: 128 };

/// Trees of which the own place is remembered: half a minute of changes as fast as they can come; a
/// source is hardly ever further behind.
pub(super) const TREES: usize = 128;

/// Trees in frames that are remembered as none of this session's members: some for each source.
pub(super) const REFUSED_TREES: usize = 1024;

/// Frames held back at edges that their trees do not name. Beyond that the oldest is let go early,
/// since an edge looks through them for each frame that it sends.
pub(super) const HELD: usize = 1024;

/// Flows in one receipts message: some 200 bytes each, so half of [`limits::EDGE_MESSAGE`]; with
/// receivers 40 more.
pub(super) const RECEIPT_FLOWS: usize = limits::EDGE_MESSAGE / 2 / 200;

/// Ranges in one request for frames, over all its flows: what a receiver takes.
pub(super) const ASK_RANGES: usize = limits::RANGES;

/// Requests for the same frame on one edge before its peer is taken to have it no more.
pub(super) const ASKS: u32 = 5;
