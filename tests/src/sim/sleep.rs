//! Processes that are stopped for a time: what is to happen to them waits until they go on.

use std::time::Duration;

use arborcast_protocol::id::MemberId;

use super::{Happening, World, edge::Side, setup::Act};

/// The coordinator's process is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asleep {
    from: Duration,
    until: Duration,
    /// Members know, and have closed their connections.
    pub(super) is_silent: bool,
}

impl World {
    /// A node's process is stopped, and goes on after that time.
    pub(super) fn sleep(&mut self, node: usize, time: Duration) {
        let (asleep, awake) = (self.instant(), self.instant() + time);
        self.hosts[node].asleep_until = Some(self.now + time);
        self.hosts[node].heard.turned(Some(asleep), awake);
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

    /// The coordinator's process is stopped, and goes on after that time.
    pub(super) fn pause(&mut self, time: Duration) {
        if self.coordinator.engine.is_none() || self.coordinator.is_asleep() {
            return;
        }
        self.coordinator.asleep =
            Some(Asleep { from: self.now, until: self.now + time, is_silent: false });
        let found = self.between(6_000, 11_000);
        if found < time {
            self.after(found, Happening::CoordinatorSilent);
        }
        self.after(time, Happening::CoordinatorAwake);
    }

    /// Nothing was heard of the coordinator for too long: all members close their connections.
    pub(super) fn coordinator_silent(&mut self) {
        let Some(asleep) = &mut self.coordinator.asleep else { return };
        asleep.is_silent = true;
        for number in 0..self.hosts.len() {
            self.hosts[number].gave_up = true;
            self.at(self.now, Happening::Disconnected(number));
            if let Some(who) = self.hosts[number].here() {
                let later = self.between(5, 3_000);
                self.after(later, Happening::Coordinated(who, false));
            }
        }
    }

    /// It goes on, and whoever had given it up comes back.
    pub(super) fn coordinator_awake(&mut self) {
        if self.coordinator.asleep.as_ref().is_none_or(|asleep| asleep.until > self.now) {
            return;
        }
        let slept = self.coordinator.asleep.take();
        let slept = slept.map(|asleep| self.now.saturating_sub(asleep.from));
        self.coordinator.slept = (self.now, slept.unwrap_or_default());
        self.wind_up_coordinator();
        for number in 0..self.hosts.len() {
            if let Some(who) = self.hosts[number].here().filter(|_| self.hosts[number].control) {
                let later = self.between(10, 5_000);
                self.after(later, Happening::Coordinated(who, true));
            }
        }
    }

    /// Until when a happening waits because the coordinator's process is stopped.
    pub(super) fn coordinator_waits(&self, happening: &Happening) -> Option<Duration> {
        let asleep = self.coordinator.asleep.as_ref()?;
        let until = asleep.until;
        concerns_coordinator(happening).then_some(until).filter(|until| self.now < *until)
    }

    /// The coordinator's process ends in its sleep: what waited for it is lost with it.
    pub(super) fn coordinator_dies(&mut self) {
        if let Some(asleep) = self.coordinator.asleep.take() {
            self.queue.retain(|(at, _), happening| {
                *at != asleep.until || !concerns_coordinator(happening)
            });
        }
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
            Happening::Looked(link, _, side) | Happening::NoAnswer(link, _, side, _) => {
                Some(self.links.get(*link)?.node(*side))
            }
            Happening::Act(_)
            | Happening::CoordinatorTick
            | Happening::Asked(..)
            | Happening::Noted(..)
            | Happening::Disconnected(_)
            | Happening::Mend(_)
            | Happening::Computed(..)
            | Happening::CoordinatorStart
            | Happening::CoordinatorSilent
            | Happening::CoordinatorAwake
            | Happening::Rise(_)
            | Happening::Whole(_)
            | Happening::Acquaint(_) => None,
        }
    }
}

const fn concerns_coordinator(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Asked(..)
            | Happening::Disconnected(_)
            | Happening::Noticed(..)
            | Happening::Noted(..)
            | Happening::Computed(..)
    )
}
