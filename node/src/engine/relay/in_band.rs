//! Trees that frames carry (R13; patent, manner 4). A source in that manner puts its newest tree into
//! each frame as it is drafted, so one message may change its tree half-way; every relay obeys the
//! tree of a frame, whatever its own manner.
//!
//! # Obeying without losing anything
//! What an edge must carry is what the store has and the other end lacks, with or without a tree in
//! the frame. The tree only says which edges come first: those that it does not name are *held* for
//! [`super::Config::in_band_grace`], or until the other end asks. By then receipts show in most cases
//! that the frame came there by its tree; if not, because an edge of that tree is gone or not there
//! yet, this edge supplies it as in any repair. So a tree decides which way a frame goes, and never
//! whether it arrives.
//!
//! A tree is not obeyed where it is not this node's business: where this node is not in it, where it
//! is none that was taken up here and cannot be rebuilt from the members known, and where the frame
//! came on an edge that it does not have, so that it has failed already. Then the frame goes to all
//! edges at once, as one without a tree.
//!
//! # What is trusted
//! The driver has checked that a coordinator signed epoch and hash. The hash says which tree is meant,
//! so each tree is looked up or rebuilt once and then known by its hash.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Instant,
};

use arborcast_protocol::{
    frame::InBand,
    id::{Digest, Epoch, Flow, FrameNo, MemberId},
    tree::{SignedHeader, Tree},
};

use super::{
    Output, Relay,
    config::{HELD, REFUSED_TREES, TREES},
};
use crate::engine::event::{EdgeId, Event, Rejection, Warning};

/// The neighbours of this node in one tree; shared by all frames that carry it.
type Hops = Arc<BTreeSet<MemberId>>;

/// The way of one frame from here, by the tree that it carries.
#[derive(Clone, Debug)]
pub(super) struct Route {
    hops: Hops,
    /// All but the hops and those who asked wait.
    held: bool,
    asked: BTreeSet<MemberId>,
}

impl Route {
    /// Whether the tree names the edge with `peer`.
    pub(super) fn names(&self, peer: &MemberId) -> bool {
        self.hops.contains(peer)
    }

    /// Whether the frame may go to `peer` now.
    pub(super) fn allows(&self, peer: &MemberId) -> bool {
        !self.held || self.names(peer) || self.asked.contains(peer)
    }

    /// `peer` has asked for the frame.
    pub(super) fn ask(&mut self, peer: MemberId) {
        if !self.allows(&peer) {
            self.asked.insert(peer);
        }
    }

    /// Nobody waits any longer. False if nobody did.
    pub(super) const fn lift(&mut self) -> bool {
        mem::replace(&mut self.held, false)
    }
}

/// The trees that are known here, and the frames that are held for theirs.
#[derive(Debug)]
pub(super) struct Trees {
    me: MemberId,
    /// Own frames carry the tree.
    carries: bool,
    /// The newest tree does not fit into a frame: how many members it has.
    too_large: Option<usize>,
    /// That was told while something waited to be sent.
    warned: bool,
    /// The newest tree and the one before, for their members.
    whole: VecDeque<Arc<Tree>>,
    /// This node's place in each tree that was taken up or rebuilt, by its hash; `None` where it is
    /// not in it.
    places: Latest<Digest, Option<Hops>>,
    /// Trees that could not be rebuilt, and whose frames carried them: one source that garbles its
    /// trees spoils them for nobody else.
    refused: Latest<(Digest, MemberId), ()>,
    /// The newest epoch that a frame has told of.
    told: Epoch,
    /// Until when which frame is held, in that order.
    held: VecDeque<(Instant, Flow, FrameNo)>,
}

impl Trees {
    pub(super) fn new(me: MemberId) -> Self {
        Self {
            me,
            carries: false,
            too_large: None,
            warned: false,
            whole: VecDeque::new(),
            places: Latest::new(TREES),
            refused: Latest::new(REFUSED_TREES),
            told: Epoch::default(),
            held: VecDeque::new(),
        }
    }

    /// When the next held frame is to be lifted.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.front().map(|(at, ..)| *at)
    }

    /// Why nothing can be sent, if so.
    pub(super) fn refusal(&self) -> Option<Rejection> {
        self.too_large.map(|members| Rejection::TreeTooLarge { members })
    }

    fn take(&mut self, hash: Digest, tree: Option<&Arc<Tree>>, place: Option<BTreeSet<MemberId>>) {
        self.places.insert(hash, place.map(Arc::new));
        if let Some(tree) = tree {
            self.whole.push_front(Arc::clone(tree));
            self.whole.truncate(2);
            self.refused.clear();
        }
    }

    /// This node's neighbours in a tree that a frame of `source` carries.
    fn hops(&mut self, carried: &InBand, source: MemberId) -> Option<Hops> {
        let hash = carried.hash();
        if let Some(place) = self.places.get(&hash) {
            return place.clone();
        }
        if self.refused.get(&(hash, source)).is_some() {
            return None;
        }
        let tree = self.whole.iter().find_map(|known| carried.tree(known.members()).ok());
        let Some(tree) = tree else {
            self.refused.insert((hash, source), ());
            return None;
        };
        let is_in = tree.member(self.me).is_some();
        let place = is_in.then(|| Arc::new(tree.neighbours(self.me).collect()));
        self.places.insert(hash, place.clone());
        place
    }
}

impl Relay {
    /// This node's frames carry the tree from now on, each the newest one.
    pub const fn carry_trees(&mut self) {
        self.trees.carries = true;
    }

    /// A tree was taken up. `tree` is `None` where only the own place in it is known; `place` are the
    /// neighbours, `None` where this node is not in it.
    pub fn note_tree(
        &mut self,
        header: &SignedHeader,
        tree: Option<&Arc<Tree>>,
        place: Option<BTreeSet<MemberId>>,
    ) {
        let is_in = place.is_some();
        self.trees.take(header.header.hash, tree, place);
        if !self.trees.carries {
            return;
        }
        let carried = tree.filter(|_| is_in).map(|tree| InBand::new(header, tree));
        self.trees.too_large = match (&carried, tree) {
            (Some(Err(_)), Some(tree)) => Some(tree.members().len()),
            (Some(_) | None, _) => None,
        };
        self.publisher.carry(carried.and_then(Result::ok));
    }

    /// A draft was made. If the tree has become too large while messages waited, they go without it.
    pub(super) fn on_draft(&mut self) {
        if self.trees.too_large.is_some() && !mem::replace(&mut self.trees.warned, true) {
            self.outputs.push_back(Output::Event(Event::Warning(Warning::TreeTooLarge)));
        }
    }

    /// A frame was put into the store: from now on it goes by the tree that it carries, if any.
    pub(super) fn follow(
        &mut self,
        from: Option<EdgeId>,
        flow: Flow,
        number: FrameNo,
        now: Instant,
    ) {
        let stored = self.flows.get_mut(&flow).and_then(|state| state.store.get_mut(number));
        let Some(stored) = stored else { return };
        // What is for one member alone goes towards it, whatever its frames carry.
        let carried = stored.frame.header().in_band.as_ref().filter(|_| flow.to.is_none());
        let Some(carried) = carried else { return };
        if let Some(edge) = from
            && carried.epoch() > self.epoch.max(self.trees.told)
        {
            self.trees.told = carried.epoch();
            self.outputs.push_back(Output::PeerEpoch { edge, epoch: carried.epoch() });
        }
        let Some(hops) = self.trees.hops(carried, flow.source) else {
            self.stats.in_band_refused += 1;
            return;
        };
        let by = from.and_then(|id| self.edges.get(&id)).map(|edge| edge.peer);
        if by.is_some_and(|peer| !hops.contains(&peer)) {
            return;
        }
        stored.route = Some(Route { hops, held: true, asked: BTreeSet::new() });
        self.trees.held.push_back((now + self.config.in_band_grace, flow, number));
        if self.trees.held.len() > HELD {
            self.lift_first();
        }
    }

    /// Lets go what was held long enough.
    pub(super) fn lift_due(&mut self, now: Instant) {
        while self.trees.due().is_some_and(|at| at <= now) {
            self.lift_first();
        }
    }

    fn lift_first(&mut self) {
        let Some((_, flow, number)) = self.trees.held.pop_front() else { return };
        let stored = self.flows.get_mut(&flow).and_then(|state| state.store.get_mut(number));
        if stored.and_then(|stored| stored.route.as_mut()).is_some_and(Route::lift) {
            self.pass_on(None, flow, number);
        }
    }
}

/// A map that forgets what was put in first.
#[derive(Debug)]
struct Latest<K, V> {
    map: BTreeMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Ord + Copy, V> Latest<K, V> {
    const fn new(most: usize) -> Self {
        Self { map: BTreeMap::new(), order: VecDeque::new(), most }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most
            && let Some(first) = self.order.pop_front()
        {
            self.map.remove(&first);
        }
    }

    fn clear(&mut self) {
        self.map.clear();
        self.order.clear();
    }
}
