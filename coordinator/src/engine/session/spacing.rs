//! How soon trees follow each other: repairs at once, what is chosen to be better with growing distance, as long as
//! one choice follows the other (the exponential back-off of link-state routing, RFC 8405).

use std::time::{Duration, Instant};

use arborcast_protocol::{id::MemberId, report::ChannelQos, tree::Edge};

use super::{Session, Timer};
use crate::engine::{
    Config,
    context::{Context, ms},
    policy::{self, Needs},
};

/// Even repairs of a session are at least one millisecond apart for so many members: computing,
/// signing and telling a tree takes about 8 µs for each, so that one session takes a third of a
/// core at most, whatever its members do.
const MEMBERS_PER_MS: u32 = 40;

/// What has worn waits for at most such a part of the back-off.
const WORN: u32 = 6;

/// How soon a change is to be in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    /// Something may be better than what there is: once it is quiet.
    Better,
    /// An edge is worse than it was: soon, though what others measure goes up and down.
    Worn,
    /// With others that arrive meanwhile.
    Batched,
    /// Something is broken, or somebody waits.
    AtOnce,
}

/// When the last trees were.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    computed: Option<Instant>,
    /// A tree that has healthy edges give way, and how long the next such waits.
    moved: Option<(Instant, Duration)>,
    /// The next tree repairs something.
    is_repair: bool,
}

impl Spacing {
    /// A tree is computed; whether it is to repair something.
    pub(super) fn on_computed(&mut self, now: Instant) -> bool {
        self.computed = Some(now);
        std::mem::take(&mut self.is_repair)
    }

    /// Healthy edges give way.
    pub(super) fn on_moved(&mut self, config: &Config, now: Instant) {
        let wait = match self.moved {
            Some((at, wait)) if now < at + wait * 2 => (wait * 2).min(ms(config.backoff_ms)),
            Some(_) | None => ms(config.epoch_spacing_ms),
        };
        self.moved = Some((now, wait));
    }

    fn due(&self, urgency: Urgency, members: usize, config: &Config, now: Instant) -> Instant {
        let (wait_ms, spacing_ms) = match urgency {
            Urgency::Better | Urgency::Worn | Urgency::Batched => {
                (config.batch_ms, config.epoch_spacing_ms)
            }
            Urgency::AtOnce => {
                let members = u32::try_from(members).unwrap_or(u32::MAX);
                let work_ms = (members / MEMBERS_PER_MS).min(config.epoch_spacing_ms);
                (0, config.repair_spacing_ms.max(work_ms))
            }
        };
        let most = match urgency {
            Urgency::Better => ms(config.backoff_ms),
            Urgency::Worn => ms(config.backoff_ms) / WORN,
            Urgency::Batched | Urgency::AtOnce => Duration::ZERO,
        };
        let moved = self.moved.map(|(at, wait)| at + wait.min(most));
        let spaced = self.computed.map(|computed| computed + ms(spacing_ms));
        [spaced, moved].into_iter().flatten().fold(now + ms(wait_ms), Instant::max)
    }
}

impl Session {
    /// Sees to it that a tree is computed soon enough, but not too soon after the one before.
    pub(super) fn touch(&mut self, urgency: Urgency, context: &Context, now: Instant) {
        self.spacing.is_repair |= urgency == Urgency::AtOnce;
        let due = self.spacing.due(urgency, self.members.len(), &context.config, now);
        self.timers.bring_forward(Timer::Recompute, due);
    }

    /// Whether an edge of the tree is worse by now than it was when it was chosen, by these figures of one end.
    pub(super) fn has_worn(&self, from: MemberId, figures: &[ChannelQos], config: &Config) -> bool {
        let needs = Needs::of(config);
        let mut edges = figures.iter().filter_map(|one| Edge::new(from, one.peer));
        edges.any(|edge| {
            let state = self.edges.state(edge);
            let merged = self.topology.merged(edge).filter(|_| state.is_chosen());
            merged.is_some_and(|merged| {
                let looks = policy::looks(merged, state, needs);
                self.edges.has_worn(edge, looks, config.hysteresis_us.into())
            })
        })
    }
}
