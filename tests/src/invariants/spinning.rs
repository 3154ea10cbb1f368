//! Nobody spins: after a tick the next deadline lies ahead, and deadlines do not come too thick.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::sim::Who;

/// Most ticks of one engine within a second. Engines have some ten timers, none below 10 ms.
const TICKS_PER_SECOND: u32 = 500;

/// Counts ticks.
#[derive(Debug, Default)]
pub struct Spinning {
    ticks: BTreeMap<Option<Who>, (u64, u32)>,
    /// All ticks.
    pub count: u64,
}

impl Spinning {
    fn count(&mut self, who: Option<Who>, at: Duration) -> u32 {
        self.count += 1;
        let (second, ticks) = self.ticks.entry(who).or_default();
        if *second != at.as_secs() {
            (*second, *ticks) = (at.as_secs(), 0);
        }
        *ticks += 1;
        *ticks
    }

    /// A node had its tick.
    pub fn ticked(
        &mut self,
        who: Who,
        at: Duration,
        now: Instant,
        next: Option<Instant>,
    ) -> Result<(), String> {
        if next.is_some_and(|next| next <= now) {
            return Err(format!("{who:?} wants a tick again at the same moment"));
        }
        let ticks = self.count(Some(who), at);
        if ticks > TICKS_PER_SECOND {
            return Err(format!("{who:?} has {ticks} ticks in one second"));
        }
        Ok(())
    }

    /// The coordinator had its tick.
    pub fn coordinator_ticked(
        &mut self,
        at: Duration,
        now: Instant,
        next: Option<Instant>,
    ) -> Result<(), String> {
        if next.is_some_and(|next| next <= now) {
            return Err("the coordinator wants a tick again at the same moment".to_owned());
        }
        let ticks = self.count(None, at);
        if ticks > TICKS_PER_SECOND {
            return Err(format!("the coordinator has {ticks} ticks in one second"));
        }
        Ok(())
    }
}
