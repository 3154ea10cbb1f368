//! From what a session knows to a new tree: compute, number, sign, tell.

use std::{collections::BTreeMap, time::Instant};

use arborcast_protocol::{
    id::MemberId,
    notice::News,
    path::Scope,
    tree::{Edge, Member, Tree, TreeError},
};

use super::{Computing, Present, Session, Settled, Timer, spacing::Urgency};
use crate::engine::{
    Config, Output,
    context::{Context, ms},
    policy::{self, Needs, State},
    subscription::Published,
    tree::{self, Channel, Settings, Strategy, Tier, View},
};

/// An edge that gives way, and how good its channel counts.
type Left = (Edge, (Tier, u64));

/// A computation that takes long, with all that it needs: to be run wherever it is in nobody's way. What
/// comes of it goes back as [`crate::engine::Input::Computed`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    serial: u64,
    strategy: Strategy,
    settings: Settings,
    /// The channels of the view, in its order.
    edges: Vec<Edge>,
    view: View,
}

impl Job {
    /// Tells it from others.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Computes. A pure function; takes some tens of milliseconds for thousands of members.
    #[must_use]
    pub fn run(self) -> Computed {
        let chosen = tree::compute(self.strategy, &self.view, &self.settings);
        Computed { chosen, job: self }
    }
}

/// What came of a [`Job`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Computed {
    job: Job,
    /// Positions of channels.
    chosen: Vec<usize>,
}

impl Session {
    /// Computes the tree anew; a new epoch if it is another one. For many members that is done elsewhere,
    /// and meanwhile the session goes on.
    pub(super) fn recompute(&mut self, context: &mut Context, now: Instant) {
        self.timers.clear(Timer::Recompute);
        if let Some(computing) = &mut self.computing {
            computing.is_outdated = true;
            return;
        }
        if let Some(until) = self.is_resuming(context, now) {
            self.timers.set(Timer::Recompute, until);
            return;
        }
        let is_repair = self.spacing.on_computed(now);
        if is_repair {
            // What was mended in haste may be better.
            self.touch(Urgency::Better, context, now);
        }
        self.note_leaving();
        if self.members.is_empty() {
            return;
        }
        context.stats.recomputes += 1;
        let job = self.job(context.stats.recomputes, is_repair, &context.config, now);
        if self.members.len() < context.config.compute_apart {
            return self.apply(job.run(), context, now);
        }
        self.computing = Some(Computing { serial: job.serial, is_outdated: false });
        context.outputs.push_back(Output::Compute { session: self.id, job: Box::new(job) });
    }

    /// A computation is done, or came to nothing.
    pub(crate) fn on_computed(
        &mut self,
        serial: u64,
        computed: Option<Computed>,
        context: &mut Context,
        now: Instant,
    ) {
        let Some(computing) = self.computing.take_if(|computing| computing.serial == serial) else {
            return;
        };
        match computed {
            Some(computed) if computed.job.serial == serial => self.apply(computed, context, now),
            Some(_) | None => {
                tracing::error!(session = %self.id, "a computation failed");
                self.touch(Urgency::Batched, context, now);
            }
        }
        if computing.is_outdated {
            self.touch(Urgency::AtOnce, context, now);
        }
    }

    /// Puts what was computed in force, as far as its channels are still there.
    fn apply(&mut self, computed: Computed, context: &mut Context, now: Instant) {
        let Computed { job: Job { edges, view, .. }, chosen } = computed;
        let looks =
            |at: usize| view.channels.get(at).map(|channel| (channel.tier, channel.cost_us));
        let chosen: BTreeMap<Edge, (Tier, u64)> = chosen
            .into_iter()
            .filter_map(|at| Some((*edges.get(at)?, looks(at)?)))
            .filter(|(edge, _)| {
                let (a, b) = edge.ends();
                [a, b].iter().all(|end| self.members.contains_key(end)) && self.topology.has(*edge)
            })
            .collect();
        let giving_way = self.giving_way(&edges, &view, &chosen);
        if !giving_way.is_empty() {
            self.spacing.on_moved(&context.config, now);
        }
        for (edge, looks) in giving_way {
            self.edges.give_way(edge, looks, ms(context.config.flap_hold_down_ms), now);
        }
        let retired = self.edges.choose(&chosen, self.epoch.next());
        self.edges.keep(&self.still_needed(&retired), now);
        self.attach();
        match self.build(context, now) {
            Ok(tree) => self.publish(tree, context, now),
            // Kruskal's forest has no cycles and names members alone, so this cannot be; members
            // keep the tree they have.
            Err(error) => tracing::error!(session = %self.id, %error, "no tree"),
        }
        self.watch_edges(context, now);
        self.watch_settling(context, now);
        self.watch_split(now);
    }

    /// All that the strategy needs to choose edges.
    fn job(&self, serial: u64, is_repair: bool, config: &Config, now: Instant) -> Job {
        let position: BTreeMap<MemberId, usize> =
            self.members.keys().zip(0..).map(|(member, position)| (*member, position)).collect();
        let needs = Needs::of(config);
        let old_come_back = self.has_lost_an_edge(now);
        let in_force = |edge: Edge| {
            let is_in_force = self.edges.state(edge) != State::Old || old_come_back;
            self.edges.tier(edge).filter(|_| is_in_force)
        };
        let (edges, channels): (Vec<Edge>, Vec<Channel>) = self
            .topology
            .channels()
            .into_iter()
            .filter_map(|(edge, merged)| {
                let (low, high) = edge.ends();
                let looks = policy::looks(merged, self.edges.state(edge), needs);
                let (tier, cost_us) = self.edges.counts_as(edge, looks, now);
                let channel = Channel {
                    low: *position.get(&low)?,
                    high: *position.get(&high)?,
                    tier,
                    cost_us,
                    noise_us: policy::noise_us(merged.qos),
                    width_kbps: merged.qos.and_then(|qos| qos.bandwidth_kbps),
                    in_force: in_force(edge),
                };
                Some((edge, channel))
            })
            .unzip();
        let cap = |(member, present): (&MemberId, &Present)| {
            let is_leaf = present.leaving.is_some() || self.slow.is_leaf(*member, now);
            let room = present.upload_kbps.and_then(|kbps| needs.neighbours(kbps, position.len()));
            let fanout = u32::from(present.fanout);
            if is_leaf { 1 } else { room.map_or(fanout, |room| room.min(fanout)) }
        };
        let caps = self.members.iter().map(cap).collect();
        let main = config.main_source.and_then(|main| position.get(&main).copied());
        let view = View { caps, main, channels };
        let settings = Settings {
            hysteresis_us: config.hysteresis_us.into(),
            hysteresis_percent: config.hysteresis_percent.into(),
            steps: config.tree_steps,
            is_repair,
        };
        Job { serial, strategy: config.strategy, settings, edges, view }
    }

    /// The edges of the tree in force that are there and not chosen any more, with how good they count.
    fn giving_way(
        &self,
        edges: &[Edge],
        view: &View,
        chosen: &BTreeMap<Edge, (Tier, u64)>,
    ) -> Vec<Left> {
        let gives_way = |(edge, channel): &(&Edge, &Channel)| {
            self.edges.state(**edge).is_chosen()
                && !chosen.contains_key(edge)
                && channel.tier != Tier::HeldDown
        };
        edges
            .iter()
            .zip(&view.channels)
            .filter(gives_way)
            .map(|(edge, channel)| (*edge, (channel.tier, channel.cost_us)))
            .collect()
    }

    /// Members with an edge are in the tree from now on, also while they have none later. With
    /// nobody in it, the one that has been there for longest is.
    fn attach(&mut self) {
        for edge in self.edges.which(State::is_chosen) {
            let (a, b) = edge.ends();
            for end in [a, b] {
                if let Some(present) = self.members.get_mut(&end) {
                    present.is_attached = true;
                }
            }
        }
        if !self.members.values().any(|present| present.is_attached)
            && let Some(first) = self.members.values_mut().min_by_key(|present| present.arrival)
        {
            first.is_attached = true;
        }
    }

    /// The tree of the chosen edges, with groups brought up to date.
    fn build(&mut self, context: &Context, now: Instant) -> Result<Tree, TreeError> {
        let draft = self.with_groups()?;
        let parts = draft.components();
        let since = |member| self.members.get(&member).map_or(u64::MAX, |own| own.arrival);
        let grace = ms(context.config.partition_grace_ms);
        match self.groups.update(&parts, since, grace, now) {
            Some(due) => self.timers.set(Timer::Partition, due),
            None => self.timers.clear(Timer::Partition),
        }
        if draft.members().all(|member| member.group == self.groups.of(member.id)) {
            return Ok(draft);
        }
        self.with_groups()
    }

    fn with_groups(&self) -> Result<Tree, TreeError> {
        let attached = self.members.iter().filter(|(_, present)| present.is_attached);
        let members = attached.map(|(id, present)| Member {
            id: *id,
            incarnation: present.incarnation,
            nick: present.nick.clone(),
            group: self.groups.of(*id),
        });
        let old = self.edges.which(|state| state == State::Old);
        Tree::new(members, self.edges.which(State::is_chosen), old)
    }

    /// Numbers, signs and tells a tree, if it differs from the one before.
    fn publish(&mut self, tree: Tree, context: &mut Context, now: Instant) {
        if self.published.as_ref().is_some_and(|before| before.tree == tree) {
            return;
        }
        self.epoch = self.epoch.next();
        context.saw_epoch(self.epoch);
        context.stats.epochs += 1;
        self.await_edges(context, now);
        let published = Published::new(tree, self.id, self.epoch, &context.keypair);
        let before = self.published.replace(published);
        let Some(published) = &self.published else { return };
        tracing::debug!(session = %self.id, epoch = %self.epoch, edges = published.tree.edges().len(), "new tree");
        context.outputs.push_back(Output::Publish {
            session: self.id,
            topic: self.push_keys.topic().clone(),
            key: self.push_keys.in_force().clone(),
            update: Box::new(published.update(before.as_ref())),
        });
        for (member, present) in &self.members {
            let follows = present.subscription == Some(Scope::Neighbours);
            if follows && before.as_ref().is_none_or(|old| published.differs_for(*member, old)) {
                let neighbours = published.neighbours(*member);
                context.notify(*member, self.id, News::Neighbours(Box::new(neighbours)));
            }
        }
    }

    /// Notes which parts of the tree have no settled member, and since when.
    fn watch_settling(&mut self, context: &Context, now: Instant) {
        let mut unsettled = BTreeMap::new();
        for part in self.published.iter().flat_map(Published::parts) {
            let present = || part.iter().filter_map(|id| Some((id, self.members.get(id)?)));
            if present().any(|(_, present)| present.settled != Settled::No) {
                continue;
            }
            let since = part.iter().filter_map(|id| self.unsettled.get(id).copied()).min();
            if let Some((oldest, _)) = present().min_by_key(|(_, present)| present.arrival) {
                unsettled.insert(*oldest, since.unwrap_or(now));
            }
        }
        match unsettled.values().min() {
            Some(since) => self.timers.set(Timer::Settle, *since + ms(context.config.settle_ms)),
            None => self.timers.clear(Timer::Settle),
        }
        self.unsettled = unsettled;
    }

    /// Appoints a member of each part that has had no settled one for long enough.
    pub(super) fn appoint(&mut self, context: &mut Context, now: Instant) {
        // Somebody may have become settled meanwhile.
        self.watch_settling(context, now);
        let settle = ms(context.config.settle_ms);
        for (member, since) in &self.unsettled {
            if *since + settle <= now
                && let Some(present) = self.members.get_mut(member)
            {
                present.settled = Settled::Appointed;
                context.stats.appointed += 1;
            }
        }
        self.watch_settling(context, now);
    }

    /// Members that have just come apart are told of each other at once.
    fn watch_split(&mut self, now: Instant) {
        let parts = self.published.as_ref().map_or(0, |published| published.parts().len());
        if parts > 1 && !self.is_split {
            self.timers.set(Timer::Mend, now);
        }
        self.is_split = parts > 1;
    }
}
