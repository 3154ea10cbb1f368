//! Processes that are stopped for a time: what is to happen to them waits until they go on.

use std::time::Duration;

use arborcast_protocol::id::MemberId;

use super::{Happening, World, edge::Side, setup::Act};

impl World {
    /// A node's process is stopped, and goes on after that time.
    pub(super) fn sleep(&mut self, node: usize, time: Duration) {
        self.hosts[node].asleep_until = Some(self.now + time);
    }

    /// Until when a happening waits because the process that it happens to is stopped.
    pub(super) fn waits_until(&mut self, happening: &Happening) -> Option<Duration> {
        let node = self.concerns(happening)?;
        let host = self.hosts.get_mut(node)?;
        host.asleep_until = host.asleep_until.filter(|until| self.now < *until);
        let until = host.asleep_until?;
        if matches!(happening, Happening::Tick(_)) {
            host.tick_at = Some(until);
        }
        Some(until)
    }

    /// The node whose process a happening is for; `None` if it is for no process but the coordinator's.
    fn concerns(&self, happening: &Happening) -> Option<usize> {
        let end = |edge: u64, side: Side| Some(self.edges.get(&edge)?.end(side).who.node);
        let number = |member: &MemberId| self.numbers.get(member).copied();
        match happening {
            Happening::Act(
                Act::Publish { node, .. } | Act::Tell { node, .. } | Act::Leave(node),
            ) => Some(*node),
            Happening::Tick(who)
            | Happening::Input(who, _)
            | Happening::Told(who, ..)
            | Happening::Unanswered(who, _)
            | Happening::Pushed(who, _)
            | Happening::Coordinated(who, _)
            | Happening::ChannelUp(who, ..)
            | Happening::ChannelDown(who, ..)
            | Happening::Made(who, ..)
            | Happening::Take(who)
            | Happening::Impatient(who) => Some(who.node),
            Happening::Noticed(to, _) => number(to),
            Happening::Hello(edge, _) => {
                let opener = self.edges.get(edge)?.opener;
                end(*edge, opener.other())
            }
            Happening::EdgeUp(edge, side, _)
            | Happening::EdgeFailed(edge, side)
            | Happening::EdgeDown(edge, side)
            | Happening::Arrived(edge, side)
            | Happening::Room(edge, side) => end(*edge, *side),
            Happening::Act(_)
            | Happening::CoordinatorTick
            | Happening::Asked(..)
            | Happening::Disconnected(_)
            | Happening::Mend(_)
            | Happening::CoordinatorStart
            | Happening::Rise(_)
            | Happening::Whole(_)
            | Happening::Acquaint(_) => None,
        }
    }
}
