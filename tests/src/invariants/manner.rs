//! Members learn their next hops in the manner that they were set to, as their counters show.

use arborcast::engine::{NextHops, Stats};

use crate::sim::Who;

/// What all members asked for so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Manner {
    /// Queries.
    pub queries: u64,
    /// Subscriptions.
    pub subscribes: u64,
    /// Buffers that overflowed.
    pub overflows: u64,
}

impl Manner {
    /// A life of a node is over, or the world is.
    pub fn over(&mut self, who: Who, manner: NextHops, stats: &Stats<'_>) -> Result<(), String> {
        let (control, relay) = (stats.control, stats.relay);
        self.queries += control.queries;
        self.subscribes += control.subscribes;
        self.overflows += relay.overflows;
        let wrong = match manner {
            NextHops::Poll => control.subscribes > 0 || relay.overflows > 0,
            NextHops::Overflow => control.subscribes > 0,
            NextHops::Subscribe | NextHops::InBand => {
                // A tree may come by gossip before the coordinator has let anybody in.
                relay.overflows > 0 || (control.subscribes == 0 && control.joins > 0)
            }
        };
        if wrong {
            return Err(format!(
                "{who:?} was set to {}, but has {} queries, {} subscriptions and {} overflows",
                manner.name(),
                control.queries,
                control.subscribes,
                relay.overflows
            ));
        }
        Ok(())
    }
}
