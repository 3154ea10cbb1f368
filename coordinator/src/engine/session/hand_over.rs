//! A relay that leaves hands over first: it becomes a leaf of the next tree, and goes once the edges
//! that replace its own carry. So nothing that is under way is cut off, and nothing has to be repaired.

use std::time::Instant;

use arborcast_protocol::{
    id::{Incarnation, MemberId},
    refusal::Refusal,
    session::Granted,
    tree::Edge,
};

use super::{Session, Urgency};
use crate::engine::context::{Context, ms};

/// A member wants to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    since: Instant,
    /// A tree was computed in which it need be no relay.
    is_considered: bool,
}

impl Session {
    /// Lets a member go, at once or as soon as it is a leaf.
    pub(crate) fn on_leave(
        &mut self,
        from: MemberId,
        incarnation: Incarnation,
        context: &mut Context,
        now: Instant,
    ) -> Result<Granted, Refusal> {
        let present = self.present(from, incarnation)?;
        let is_new = present.leaving.is_none();
        let leaving = *present.leaving.get_or_insert(Leaving { since: now, is_considered: false });
        if self.is_relay(from) && !self.has_handed_over(leaving, context, now) {
            if is_new {
                self.touch(Urgency::AtOnce, context, now);
            }
            return Ok(Granted::HandingOver { again_ms: AGAIN_MS });
        }
        context.stats.leaves += 1;
        self.remove(from, context, now);
        Ok(Granted::Left)
    }

    /// Whether others hear of each other through it.
    pub(super) fn is_relay(&self, member: MemberId) -> bool {
        let Some(published) = &self.published else { return false };
        let own = |edge: &Edge| {
            let (a, b) = edge.ends();
            a == member || b == member
        };
        published.tree.edges().chain(published.tree.overlap()).filter(own).count() > 1
    }

    /// Whether nothing more can be done for a relay that wants to leave: the tree does without it, as far
    /// as there are other channels, and no old edge is in use any more; or it took too long.
    fn has_handed_over(&self, leaving: Leaving, context: &Context, now: Instant) -> bool {
        (leaving.is_considered && !self.has_overlap())
            || now >= leaving.since + ms(context.config.hand_over_ms)
    }

    /// A tree is computed that takes into account who leaves.
    pub(super) fn note_leaving(&mut self) {
        for leaving in self.members.values_mut().filter_map(|present| present.leaving.as_mut()) {
            leaving.is_considered = true;
        }
    }
}

/// A leaver asks again after this many milliseconds.
const AGAIN_MS: u32 = 100;
