//! Who keeps this node waiting, for the coordinator to do something about it.
//!
//! A node is *pressed* when half a window, or half the store, is full of frames that wait for confirmation
//! while more wants to go. Then it names the neighbours that confirm nothing of it, or so little that what
//! waits for them would take more than half a minute, where two seconds are slow; and itself, if it is its own application that takes
//! nothing. How long is too long follows from what the session's terms call slow. A neighbour that waits for others behind it is named as well, but names these in turn.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    time::{Duration, Instant},
};

use arborcast_protocol::id::{Flow, FrameNo, MemberId};

use super::{Output, Relay, edge::Edge, flow::FlowState};

/// How often a node looks while it holds something.
const LOOK: Duration = Duration::from_millis(250);

/// Whoever confirms nothing for so long is named.
const NOTHING: Duration = Duration::from_secs(1);

/// The rate of confirmations is that of so many looks: of three seconds.
const LOOKS: usize = 12;

/// What waits for a neighbour should be gone within so many times what the session calls slow: within half a
/// minute by default.
const DRAIN: u32 = 15;

/// After its return a member that was detached soon gives up what nobody has kept for it.
const HASTE_FOR: Duration = Duration::from_secs(15);

/// The same: after this long.
pub(super) const HASTE: Duration = Duration::from_millis(500);

/// What keeps this node waiting.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// What the session calls slow; zero if the coordinator does not want to know.
    bound: Duration,
    /// `None` while nothing is held.
    look_at: Option<Instant>,
    /// Neighbours in the tree whose confirmations count; at most [`crate::engine::view::WANTED`].
    neighbours: BTreeSet<MemberId>,
    /// How each of them keeps up, while this node is pressed.
    lags: BTreeMap<MemberId, Lag>,
    /// How this node's application does.
    own: Option<Lag>,
    /// Bytes of frames that the application took since the last look.
    taken: u64,
    named: BTreeSet<MemberId>,
    /// What nobody has kept is given up sooner until then.
    haste_until: Option<Instant>,
}

/// How one who is to take something keeps up.
#[derive(Debug)]
struct Lag {
    /// When it last took something, or had nothing to take.
    moved: Instant,
    /// Bytes that it took from look to look; at most [`LOOKS`].
    took: VecDeque<u64>,
}

impl Lag {
    const fn new(now: Instant) -> Self {
        Self { moved: now, took: VecDeque::new() }
    }

    /// It took so many bytes since the last look, and so many wait; `least` of them are worth a word.
    /// Whether it is too slow.
    fn look(
        &mut self,
        took: u64,
        waits: u64,
        (least, bound): (u64, Duration),
        now: Instant,
    ) -> bool {
        if took > 0 || waits < least {
            self.moved = now;
        }
        self.took.push_back(took);
        if self.took.len() > LOOKS {
            self.took.pop_front();
        }
        if waits < least {
            return false;
        }
        let sum: u64 = self.took.iter().sum();
        let window = LOOK.saturating_mul(u32::try_from(LOOKS).unwrap_or(u32::MAX)).as_millis();
        let patience = bound.saturating_mul(DRAIN).as_millis();
        let drains = u128::from(sum).saturating_mul(patience) / window.max(1);
        let crawls = self.took.len() == LOOKS && drains < u128::from(waits);
        crawls || now >= self.moved + NOTHING
    }
}

impl Slow {
    /// When to look.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.look_at
    }

    /// The application took so many bytes.
    pub(super) const fn took(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Whether what nobody has kept is given up soon.
    pub(super) fn is_hasty(&self, now: Instant) -> bool {
        self.haste_until.is_some_and(|until| now < until)
    }
}

impl Edge {
    /// Up to where its peer has confirmed a flow, and those behind it.
    pub(super) fn confirmed(&self, flow: &Flow) -> FrameNo {
        match flow.to {
            Some(_) => self.flow(flow).map_or(FrameNo(0), |entry| entry.released),
            None => self.delivered(flow),
        }
    }
}

impl Relay {
    /// The coordinator wants to know who keeps this node waiting, by what the session calls slow; zero if it
    /// does not.
    pub fn ask_who_is_slow(&mut self, bound: Duration) {
        self.slow.bound = bound;
        if bound.is_zero() {
            self.slow.look_at = None;
            self.name(BTreeSet::new());
        }
    }

    /// The neighbours in the tree for whose confirmations this node waits, with an edge or without.
    pub fn set_neighbours(&mut self, neighbours: BTreeSet<MemberId>) {
        self.slow.lags.retain(|peer, _| neighbours.contains(peer));
        self.slow.neighbours = neighbours;
    }

    /// Who keeps this node waiting; this node itself, if its application does.
    #[must_use]
    pub const fn slow(&self) -> &BTreeSet<MemberId> {
        &self.slow.named
    }

    /// A frame was taken in. So long as there are few, nobody is kept waiting, and nobody looks.
    pub(super) fn watch_store(&mut self, now: Instant) {
        if !self.slow.bound.is_zero() && self.is_worth_a_look() {
            self.slow.look_at.get_or_insert(now + LOOK);
        }
    }

    fn is_worth_a_look(&self) -> bool {
        self.stats.store_bytes >= self.window() / 4
    }

    /// Whether the application takes what is delivered, so that more may come.
    #[must_use]
    pub fn can_take(&self) -> bool {
        self.undelivered() < self.window() / 4
    }

    /// This node is back after it was detached: nobody has kept for it what it missed.
    pub fn returns(&mut self, now: Instant) {
        self.slow.haste_until = Some(now + HASTE_FOR);
    }

    /// Looks who keeps this node waiting, if it is time.
    pub(super) fn on_slow_due(&mut self, now: Instant) {
        if self.slow.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.slow.look_at = self.is_worth_a_look().then(|| now + LOOK);
        let is_pressed = self.is_pressed();
        let uncovered = if is_pressed { self.uncovered() } else { BTreeSet::new() };
        let (least, bound) = (self.window() / 4, self.slow.bound);
        let taken = std::mem::take(&mut self.slow.taken);
        let mut took: BTreeMap<MemberId, u64> = BTreeMap::new();
        for edge in self.edges.values_mut() {
            *took.entry(edge.peer).or_default() += std::mem::take(&mut edge.took);
        }
        if !is_pressed {
            self.slow.lags.clear();
            self.slow.own = None;
            self.name(BTreeSet::new());
            return;
        }
        let mut named = BTreeSet::new();
        for peer in self.slow.neighbours.clone() {
            let edge = self.edges.values().find(|edge| edge.peer == peer && edge.is_active());
            let confirms = edge.is_some() && !uncovered.contains(&peer);
            let waits = self.waits_for(peer, edge.filter(|_| confirms));
            let took = if confirms { took.get(&peer).copied().unwrap_or_default() } else { 0 };
            match self.slow.lags.entry(peer) {
                // From now on: what it took before was not looked at.
                Entry::Vacant(entry) => {
                    entry.insert(Lag::new(now));
                }
                Entry::Occupied(mut entry) => {
                    if entry.get_mut().look(took, waits, (least, bound), now) {
                        named.insert(peer);
                    }
                }
            }
        }
        let waits = self.undelivered();
        match &mut self.slow.own {
            None => self.slow.own = Some(Lag::new(now)),
            Some(own) => {
                if own.look(taken, waits, (least, bound), now) {
                    named.insert(self.own.source);
                }
            }
        }
        self.name(named);
    }

    fn name(&mut self, named: BTreeSet<MemberId>) {
        if self.slow.named != named {
            self.slow.named = named;
            self.outputs.push_back(Output::Slow);
        }
    }

    /// Whether so much waits for confirmation that sources are held back by it, or soon will be.
    fn is_pressed(&self) -> bool {
        let is_half = |bytes: u64, of: u64| bytes.saturating_mul(2) >= of;
        let window = self.window();
        let is_full = is_half(self.stats.store_bytes, self.config.store_bytes);
        // A source by the same measure as those who relay for it, or they would name it instead of who is behind it.
        let is_held_back = is_half(self.own_bytes(), window);
        let is_waiting = |(flow, state): (&Flow, &FlowState)| {
            flow.source != self.own.source && is_half(state.store.bytes(), window)
        };
        self.roster.is_some_and(|roster| roster.len > 1)
            && (is_held_back || is_full || self.flows.iter().any(is_waiting))
    }

    /// Bytes that a neighbour, or somebody behind it, has not confirmed; all if it has no edge.
    fn waits_for(&self, peer: MemberId, edge: Option<&Edge>) -> u64 {
        let waits = |(flow, state): (&Flow, &FlowState)| {
            if !self.routes.carries(flow, peer) {
                return 0;
            }
            let confirmed = edge.map_or(FrameNo(0), |edge| edge.confirmed(flow));
            state.store.about_above(confirmed)
        };
        self.flows.iter().map(waits).sum()
    }

    /// Bytes that are here, whole and in order, and that the application has not taken.
    fn undelivered(&self) -> u64 {
        let waits = |(flow, state): (&Flow, &FlowState)| {
            let is_for_it = state.delivers
                && flow.source != self.own.source
                && state.delivery.is_ready(&state.has)
                && !self.admission.is_waiting(flow);
            let frames = state.has.floor().0.saturating_sub(state.delivery.delivered().0);
            if is_for_it { frames.saturating_mul(state.store.average()) } else { 0 }
        };
        self.flows.iter().map(waits).sum()
    }

    /// The neighbours behind whom somebody is of whom no receipts come.
    fn uncovered(&self) -> BTreeSet<MemberId> {
        if self.full {
            return BTreeSet::new();
        }
        if let Some(members) = self.routes.roster() {
            let covers = self.covers();
            let missing = members.iter().enumerate().filter(|(at, _)| !covers(*at));
            missing.filter_map(|(_, member)| self.routes.towards(*member)).collect()
        } else {
            // Where members lie is not known: whoever says nothing under this roster.
            let silent = self.edges.iter().filter(|(id, _)| !self.is_source_of(**id));
            silent.map(|(_, edge)| edge.peer).collect()
        }
    }
}
