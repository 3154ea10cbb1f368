//! No queue and no store goes over its bound.

use arborcast::engine::{Stats, relay::Config};
use arborcast_coordinator::engine as coordinator;
use arborcast_protocol::limits;

use crate::sim::Who;

/// The highest figures seen, over all nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Bytes that a member keeps for others at most, as the coordinator's terms say.
    limit: u64,
    /// Bytes that it keeps of what all have.
    history: u64,
    /// Bytes of frames in one store.
    pub store_bytes: u64,
    /// Bytes of messages waiting in one queue.
    pub queue_bytes: u64,
}

/// Stores are never smaller than this, in bytes: two sources with the least window.
const STORE_MIN: u64 = 512 * 1024;

/// What may come on top of a bound: it is looked at before one more frame is taken.
const ONE_MORE: u64 = limits::FRAME as u64;

impl Bounds {
    /// With stores of this many bytes, and as many of history.
    #[must_use]
    pub fn new(limit: u64, history: u64) -> Self {
        Self { limit, history, ..Self::default() }
    }

    /// What a node says of itself.
    pub fn node(&mut self, who: Who, stats: &Stats<'_>) -> Result<(), String> {
        let config = Config::default();
        let relay = stats.relay;
        self.store_bytes = self.store_bytes.max(relay.store_bytes);
        self.queue_bytes = self.queue_bytes.max(relay.queue_bytes);
        // What others sent and a quarter of it on top, for what is released at its source comes before
        // the news of that; as much of the node's own; and of each flow the frame that all wait for.
        let store = self.limit.max(STORE_MIN);
        let edges = relay.edges.len() as u64;
        for (what, figure, bound) in [
            ("store", relay.store_bytes, 2 * store + store / 4 + relay.flows * ONE_MORE),
            ("history", relay.history_bytes, self.history),
            // For each edge, for the application four times as much, and what this node has not sent.
            (
                "live data for others",
                relay.live_queue_bytes,
                edges * config.live_bytes + config.live_bytes,
            ),
            (
                "live data",
                relay.live_undelivered_bytes,
                4 * config.live_bytes + limits::MESSAGE as u64,
            ),
            // One message of any permitted size is taken while the queue is below its bound.
            ("queue", relay.queue_bytes, config.publish_bytes + limits::MESSAGE as u64),
            // A message of the lowest flow is let in above the budget, so that no two members wait for
            // each other: once for each flow that comes below all begun ones.
            ("assembly", relay.assembly_bytes, config.assembly_bytes + 4 * limits::MESSAGE as u64),
            ("flow table", relay.flows, 2 * limits::MEMBERS as u64),
            ("edge table", edges, 4 * u64::from(limits::FANOUT)),
        ] {
            if figure > bound {
                return Err(format!(
                    "the {what} of {who:?} holds {figure}, but {bound} is its bound"
                ));
            }
        }
        Ok(())
    }

    /// What the coordinator says of itself; `most` nodes there are.
    pub fn coordinator(&mut self, stats: &coordinator::Stats, most: u64) -> Result<(), String> {
        if stats.sessions > 1 {
            return Err(format!("the coordinator holds {} sessions", stats.sessions));
        }
        if stats.members > most {
            return Err(format!("the coordinator counts {} members of {most}", stats.members));
        }
        Ok(())
    }
}
