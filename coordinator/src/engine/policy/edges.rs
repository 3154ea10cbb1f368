//! The edges of one session, each with its state; see the drawing in [`super`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{Epoch, MemberId},
    tree::Edge,
};

use crate::engine::tree::Tier;

/// The ledger of one session's edges: those of the newest tree, those beside it, and past ones that something is
/// held against. Before the first tree after a restart those that members say they have.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    records: BTreeMap<Edge, Record>,
}

/// One of the two ends of an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The member with the lower id.
    Low,
    /// The one with the higher id.
    High,
}

/// How far an edge has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not in use; remembered for its penalty.
    HeldDown,
    /// In the tree.
    Added,
    /// In the tree, and this end says that it carries.
    Half(End),
    /// In the tree, and it carries.
    Carrying,
    /// In the tree, but it did not carry in time, or one end hears nothing of the other; since then this end says
    /// that it carries.
    Suspect(Option<End>),
    /// Not in the tree any more, but it carries and stays in use until its successors do.
    Old,
}

/// What happens to an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// It is in the newest tree...
    Chosen,
    /// ...or is not.
    NotChosen,
    /// Its successors carry.
    NotNeeded,
    /// This end says that it carries.
    Said(End),
    /// One end's word is enough.
    Trusted,
    /// It does not carry in time.
    Late,
    /// One end hears nothing of the other.
    Silent,
    /// Its channel has gone, or what was heard of it is out of date.
    Reset,
}

impl State {
    /// Whether data flows across it, for all that is known.
    pub(crate) const fn carries(self) -> bool {
        matches!(self, Self::Carrying | Self::Old)
    }

    /// Whether it is in the newest tree.
    pub(crate) const fn is_chosen(self) -> bool {
        !matches!(self, Self::HeldDown | Self::Old)
    }

    /// Whether it is in the newest tree or beside it.
    pub(crate) const fn is_in_use(self) -> bool {
        !matches!(self, Self::HeldDown)
    }

    /// The end that alone says that it carries.
    const fn said(self) -> Option<End> {
        match self {
            Self::Half(end) | Self::Suspect(Some(end)) => Some(end),
            Self::HeldDown | Self::Added | Self::Carrying | Self::Suspect(None) | Self::Old => None,
        }
    }

    fn after(self, event: Event) -> Self {
        match (event, self) {
            (Event::Chosen, Self::HeldDown) | (Event::Reset, Self::Half(_) | Self::Carrying) => {
                Self::Added
            }
            (Event::Said(end), Self::Added) => Self::Half(end),
            (Event::Said(end), Self::Half(first) | Self::Suspect(Some(first))) if end != first => {
                Self::Carrying
            }
            (Event::Chosen, Self::Old)
            | (Event::Trusted, Self::Half(_) | Self::Suspect(Some(_))) => Self::Carrying,
            (Event::Said(end), Self::Suspect(None)) | (Event::Late, Self::Half(end)) => {
                Self::Suspect(Some(end))
            }
            (Event::Silent, Self::Added | Self::Half(_) | Self::Carrying | Self::Suspect(_))
            | (Event::Late, Self::Added)
            | (Event::Reset, Self::Suspect(_)) => Self::Suspect(None),
            (Event::NotChosen, Self::Carrying) => Self::Old,
            (Event::NotChosen, Self::Added | Self::Half(_) | Self::Suspect(_))
            | (Event::NotNeeded | Event::Silent | Event::Reset, Self::Old) => Self::HeldDown,
            (_, state) => state,
        }
    }
}

/// What is known of one edge.
#[derive(Clone, Copy, Debug)]
struct Record {
    state: State,
    /// Since which tree it is in use.
    since: Epoch,
    /// As how good it counted when it was chosen last.
    tier: Tier,
    cost_us: u64,
    /// When it is looked at, if it does not carry by then; `None` before the first tree.
    due: Option<Instant>,
    /// One end had floors when `due` was set, so that the other could adopt them, and it could carry.
    could_carry: bool,
    penalty: Option<Penalty>,
}

/// What is held against an edge.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    /// How often it has failed or given way before.
    times: u32,
    /// Until then it counts as no better than this.
    until: Instant,
    tier: Tier,
    cost_us: u64,
    /// From then on it counts as good again.
    forgotten: Instant,
}

/// How long edges are held down.
struct Damping {
    /// So many times cost nothing.
    free: u32,
    /// Each time the hold-down is twice as long, but no more often than this.
    doublings: u32,
    /// So many first hold-downs after the last one an edge counts as good again.
    memory: u32,
}

/// For edges that fail: not longer than 64 times the first hold-down.
const FAILED: Damping = Damping { free: 0, doublings: 6, memory: 16 };

/// For edges that give way, where the first hold-down is short, lest one that has got better be missed: not
/// longer than 256 times that.
const FLAPPING: Damping = Damping { free: 1, doublings: 8, memory: 64 };

/// Edges out of use that are remembered; what is soonest over gives way. More than one member can fill with all
/// its channels (64), so that one alone cannot drive out what is known of others.
const KEPT: usize = 4096;

impl Record {
    fn new(since: Epoch, (tier, cost_us): (Tier, u64)) -> Self {
        let state = State::HeldDown;
        Self { state, since, tier, cost_us, due: None, could_carry: false, penalty: None }
    }

    /// Goes on to the next state; true if it carries now and did not before.
    fn on(&mut self, event: Event) -> bool {
        let before = self.state;
        self.state = before.after(event);
        let has_come_up = self.state.carries() && !before.carries();
        if has_come_up && let Some(failed) = self.penalty.as_mut().filter(|old| old.has_failed()) {
            failed.tier = Tier::Good;
        }
        has_come_up
    }

    /// When it is looked at, if it is to carry and does not.
    fn awaited(&self) -> Option<Instant> {
        self.due.filter(|_| self.state.is_chosen() && !self.state.carries())
    }

    fn look_at(&mut self, due: Instant, could_carry: bool) {
        (self.due, self.could_carry) = (Some(due), could_carry);
    }

    /// Holds it down from now on; until when.
    fn hold_down(
        &mut self,
        damping: &Damping,
        (tier, cost_us): (Tier, u64),
        first: Duration,
        now: Instant,
    ) -> Instant {
        let old = self.penalty.filter(|old| now < old.forgotten);
        let times = old.map_or(0, |old| old.times.saturating_add(1));
        let wait = |counted: u32| first * (1 << counted.min(damping.doublings));
        let until = now + times.checked_sub(damping.free).map_or(Duration::ZERO, wait);
        let forgotten = until + first * damping.memory;
        self.penalty = Some(Penalty { times, until, tier, cost_us, forgotten });
        until
    }
}

impl Penalty {
    /// It is held down because it carried nothing.
    fn has_failed(&self) -> bool {
        self.tier == Tier::HeldDown
    }
}

impl Edges {
    /// The state of an edge; one of which nothing is known is not in use.
    pub(crate) fn state(&self, edge: Edge) -> State {
        self.records.get(&edge).map_or(State::HeldDown, |record| record.state)
    }

    /// The edges in such a state, in order.
    pub(crate) fn which(&self, is: impl Fn(State) -> bool) -> impl Iterator<Item = Edge> {
        self.records.iter().filter(move |(_, record)| is(record.state)).map(|(edge, _)| *edge)
    }

    /// The tier that an edge in use had when it was chosen.
    pub(crate) fn tier(&self, edge: Edge) -> Option<Tier> {
        let record = self.records.get(&edge).filter(|record| record.state.is_in_use());
        record.map(|record| record.tier)
    }

    /// These edges make up the newest tree, which is to be that of `epoch` if it is another one. Gives
    /// those that were in the one before and are not in this.
    pub(crate) fn choose(
        &mut self,
        chosen: &BTreeMap<Edge, (Tier, u64)>,
        epoch: Epoch,
    ) -> BTreeSet<Edge> {
        for (edge, looks) in chosen {
            let new = Record::new(epoch, *looks);
            let record = self.records.entry(*edge).or_insert(new);
            if !record.state.is_in_use() {
                *record = Record { penalty: record.penalty, ..new };
            }
            (record.tier, record.cost_us) = *looks;
            record.on(Event::Chosen);
        }
        let mut retired = BTreeSet::new();
        for (edge, record) in self.records.iter_mut().filter(|(edge, _)| !chosen.contains_key(edge))
        {
            if record.state.is_chosen() {
                record.on(Event::NotChosen);
                retired.insert(*edge);
            }
        }
        retired
    }

    /// Of the old edges only these stay in use.
    pub(crate) fn keep(&mut self, needed: &BTreeSet<Edge>, now: Instant) {
        for (edge, record) in &mut self.records {
            if record.state == State::Old && !needed.contains(edge) {
                record.on(Event::NotNeeded);
            }
        }
        self.forget_past(now);
    }

    /// The tree is told. What is looked at for the first time is looked at when `due`; `could_carry` says whether
    /// it can carry by then.
    pub(crate) fn watch(
        &mut self,
        due: impl Fn(Edge) -> Instant,
        could_carry: impl Fn(Edge) -> bool,
    ) {
        for (edge, record) in &mut self.records {
            if record.state.is_in_use() && record.due.is_none() {
                record.look_at(due(*edge), could_carry(*edge));
            }
        }
    }

    /// `from`, whose newest tree is that of `held`, says that its edge with `peer` carries. Gives the edge if
    /// it did not before, and does now.
    pub(crate) fn say(&mut self, from: MemberId, peer: MemberId, held: Epoch) -> Option<Edge> {
        let edge = Edge::new(from, peer)?;
        let record = self.records.get_mut(&edge).filter(|record| held >= record.since)?;
        let end = if edge.ends().0 == from { End::Low } else { End::High };
        record.on(Event::Said(end)).then_some(edge)
    }

    /// The same before there is a tree: the edge is of one that was made before a restart. Whatever its channel
    /// turns out to be, it has not become worse since it was chosen.
    pub(crate) fn claim(&mut self, from: MemberId, peer: MemberId, held: Epoch) {
        let Some(edge) = Edge::new(from, peer) else { return };
        let record =
            self.records.entry(edge).or_insert(Record::new(held, (Tier::HeldDown, u64::MAX)));
        record.on(Event::Chosen);
        record.since = record.since.min(held);
        self.say(from, peer, held);
    }

    /// Looks at the edges that do not carry in time. Where one end alone says that an edge carries, and the other
    /// cannot be heard, the word is enough; nobody can know yet where neither can be heard, or neither had floors
    /// that the other could adopt: such an edge is looked at `again`. The others have failed. They come last for a
    /// while, `first` at the first time; one that nothing can replace stays, and has another chance after that.
    ///
    /// Gives those that carry, and those that have failed.
    pub(crate) fn judge(
        &mut self,
        is_connected: impl Fn(MemberId) -> bool,
        could_carry: impl Fn(Edge) -> bool,
        (again, first): (Instant, Duration),
        now: Instant,
    ) -> (Vec<Edge>, Vec<Edge>) {
        let (mut up, mut failed) = (Vec::new(), Vec::new());
        for (edge, record) in &mut self.records {
            if record.awaited().is_none_or(|due| now < due) {
                continue;
            }
            let (low, high) = edge.ends();
            match (record.state.said(), is_connected(low), is_connected(high)) {
                (None, false, false) => record.look_at(again, could_carry(*edge)),
                _ if !record.could_carry => record.look_at(again, could_carry(*edge)),
                (Some(End::Low), _, false) | (Some(End::High), false, _) => {
                    record.on(Event::Trusted);
                    up.push(*edge);
                }
                _ => {
                    record.on(Event::Late);
                    let until = record.hold_down(&FAILED, (Tier::HeldDown, 0), first, now);
                    record.look_at(until, true);
                    failed.push(*edge);
                }
            }
        }
        (up, failed)
    }

    /// One end of an edge hears nothing of the other: it comes last for a while, `first` at the first time, and is
    /// to show until `due` that it carries.
    pub(crate) fn silent(&mut self, edge: Edge, first: Duration, due: Instant, now: Instant) {
        if let Some(record) = self.records.get_mut(&edge) {
            record.on(Event::Silent);
            record.hold_down(&FAILED, (Tier::HeldDown, 0), first, now);
            record.due = record.due.map(|_| due);
        }
    }

    /// What was said of an edge counts for nothing any more; it is to show until `due` that it carries.
    pub(crate) fn reset(&mut self, edge: Edge, due: Instant) {
        if let Some(record) = self.records.get_mut(&edge) {
            record.on(Event::Reset);
            record.due = record.due.map(|_| due);
        }
    }

    /// The channel of an edge is gone; another one may be better.
    pub(crate) fn acquit(&mut self, edge: Edge) {
        if let Some(record) = self.records.get_mut(&edge) {
            record.penalty = None;
        }
    }

    /// An edge is to give way, being as good as said. The first time that costs it nothing; from then on it counts
    /// as no better for a while, `first` at the second time.
    pub(crate) fn give_way(
        &mut self,
        edge: Edge,
        looks: (Tier, u64),
        first: Duration,
        now: Instant,
    ) {
        if let Some(record) = self.records.get_mut(&edge) {
            record.hold_down(&FLAPPING, looks, first, now);
        }
    }

    /// As how good an edge counts whose channel looks this good.
    pub(crate) fn counts_as(&self, edge: Edge, looks: (Tier, u64), now: Instant) -> (Tier, u64) {
        match self.penalty(edge, now) {
            Some(penalty) => (looks.0.max(penalty.tier), looks.1.max(penalty.cost_us)),
            None => looks,
        }
    }

    /// Whether an edge whose channel looks this good counted for better when it was chosen, by more than this.
    pub(crate) fn has_worn(&self, edge: Edge, looks: (Tier, u64), hysteresis_us: u64) -> bool {
        self.records.get(&edge).is_some_and(|record| {
            looks > (record.tier, record.cost_us.saturating_add(hysteresis_us))
        })
    }

    /// Whether an edge comes last because it has failed.
    pub(crate) fn has_failed(&self, edge: Edge, now: Instant) -> bool {
        self.penalty(edge, now).is_some_and(|penalty| penalty.has_failed())
    }

    fn penalty(&self, edge: Edge, now: Instant) -> Option<Penalty> {
        self.records.get(&edge)?.penalty.filter(|penalty| now < penalty.until)
    }

    /// When the next edge is no longer held down.
    pub(crate) fn next_release(&self, now: Instant) -> Option<Instant> {
        let penalties = self.records.values().filter_map(|record| record.penalty);
        penalties.map(|penalty| penalty.until).filter(|until| *until > now).min()
    }

    /// When the next edge is to be looked at.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.records.values().filter_map(Record::awaited).min()
    }

    /// A member is gone, and its edges with it.
    pub(crate) fn forget_member(&mut self, member: MemberId) {
        self.records.retain(|edge, _| edge.other(member).is_none());
    }

    /// Drops what is not in use and need not be remembered.
    fn forget_past(&mut self, now: Instant) {
        let is_past = |record: &Record| !record.state.is_in_use();
        let forgotten = |record: &Record| record.penalty.map_or(now, |penalty| penalty.forgotten);
        self.records.retain(|_, record| !is_past(record) || now < forgotten(record));
        let past = self.records.iter().filter(|(_, record)| is_past(record));
        let mut past: Vec<(Instant, Edge)> =
            past.map(|(edge, record)| (forgotten(record), *edge)).collect();
        let surplus = past.len().saturating_sub(KEPT);
        past.sort_unstable();
        for (_, edge) in past.into_iter().take(surplus) {
            self.records.remove(&edge);
        }
    }
}

#[cfg(test)]
mod tests;
