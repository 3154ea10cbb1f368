//! Which edges there are to be, and the way there: opening, parking, replacing, retiring.
//!
//! Of two neighbours the one with the lower id opens; the other only if that takes too long. An
//! edge that a peer opens before this node knows the tree that names it is *parked*: kept, unread,
//! until the tree is known.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge::Message,
    id::{Epoch, MemberId},
};

use super::{
    backoff::Backoff,
    desk::Desk,
    event::{EdgeId, Output},
    view::WANTED,
};

/// What the relay is to be told, in order.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Act {
    /// The edge is in use; these messages came on it before.
    Up(EdgeId, MemberId, Vec<Message>),
    /// The edge is gone.
    Down(EdgeId),
    /// The tree has dropped the edge; end it in order.
    Retire(EdgeId),
}

/// What became of an edge that came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Came {
    /// In use.
    Active,
    /// Waiting for the tree that names it.
    Parked,
    /// Refused.
    Closed,
}

/// All edges of one node.
#[derive(Debug)]
pub(super) struct Edges {
    me: MemberId,
    /// Neighbours in the newest tree; at most [`WANTED`].
    wanted: BTreeMap<MemberId, Wanted>,
    /// Attempts under way, with the time they are given.
    opening: BTreeMap<MemberId, Instant>,
    /// At most [`ACTIVE`].
    active: BTreeMap<EdgeId, Active>,
    /// At most [`PARKED`], one for each peer.
    parked: BTreeMap<EdgeId, Parked>,
    acts: VecDeque<Act>,
}

#[derive(Debug)]
struct Wanted {
    backoff: Backoff,
    /// When to open the edge; `None` while there is one, or no channel for it.
    open_at: Option<Instant>,
    /// Not before that: it just failed.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Active {
    peer: MemberId,
    up_at: Instant,
    /// Dropped by the tree; closed by force at that time.
    retiring: Option<Instant>,
    /// Frames can flow, or could.
    carrying: bool,
}

#[derive(Debug)]
struct Parked {
    peer: MemberId,
    epoch: Epoch,
    until: Instant,
    /// At most [`PARKED_MESSAGES`].
    messages: Vec<Message>,
}

impl Edges {
    pub(super) const fn new(me: MemberId) -> Self {
        Self {
            me,
            wanted: BTreeMap::new(),
            opening: BTreeMap::new(),
            active: BTreeMap::new(),
            parked: BTreeMap::new(),
            acts: VecDeque::new(),
        }
    }

    pub(super) fn take_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Whether the relay knows this edge.
    pub(super) fn is_active(&self, edge: EdgeId) -> bool {
        self.active.contains_key(&edge)
    }

    /// The edge with `peer` that is in use and not about to go, and whether frames can flow on it.
    pub(super) fn with(&self, peer: MemberId) -> Option<(EdgeId, bool)> {
        self.active
            .iter()
            .find(|(_, active)| active.peer == peer && active.retiring.is_none())
            .map(|(edge, active)| (*edge, active.carrying))
    }

    /// A tree was taken up: the edges it wants, and its epoch.
    pub(super) fn on_tree(
        &mut self,
        peers: &BTreeSet<MemberId>,
        epoch: Epoch,
        now: Instant,
        desk: &mut Desk,
    ) {
        for (edge, active) in &mut self.active {
            if active.retiring.is_none() && !peers.contains(&active.peer) {
                active.retiring = Some(now + RETIRING);
                self.acts.push_back(Act::Retire(*edge));
            }
            // Wanted again: it is let go in order, for the other end may have begun to, but soon.
            if peers.contains(&active.peer) {
                active.retiring = active.retiring.map(|at| at.min(now + RETURNING));
            }
        }
        self.wanted.retain(|peer, _| peers.contains(peer));
        for peer in peers.iter().take(WANTED) {
            self.wanted.entry(*peer).or_insert(Wanted {
                backoff: Backoff::EDGE,
                open_at: None,
                not_before: None,
            });
        }
        let ready: Vec<EdgeId> = self
            .parked
            .iter()
            .filter(|(_, parked)| self.wanted.contains_key(&parked.peer) || parked.epoch <= epoch)
            .map(|(edge, _)| *edge)
            .collect();
        for edge in ready {
            let Some(parked) = self.parked.remove(&edge) else { continue };
            if self.wanted.contains_key(&parked.peer) {
                self.activate(edge, parked.peer, parked.messages, now, desk);
            } else {
                desk.put(Output::CloseEdge { edge });
            }
        }
    }

    /// An edge is open; `epoch` is that of the peer's newest tree, `own` that of this node's.
    pub(super) fn on_up(
        &mut self,
        edge: EdgeId,
        peer: MemberId,
        epoch: Epoch,
        own: Epoch,
        now: Instant,
        desk: &mut Desk,
    ) -> Came {
        desk.stats.edges_up += 1;
        self.opening.remove(&peer);
        if self.wanted.contains_key(&peer) {
            self.activate(edge, peer, Vec::new(), now, desk);
            return Came::Active;
        }
        let older = self.parked.iter().find(|(_, parked)| parked.peer == peer);
        if let Some(older) = older.map(|(edge, _)| *edge) {
            self.close_parked(older, desk);
        }
        if epoch <= own || self.parked.len() >= PARKED {
            desk.put(Output::CloseEdge { edge });
            return Came::Closed;
        }
        let until = now + PARKED_FOR;
        self.parked.insert(edge, Parked { peer, epoch, until, messages: Vec::new() });
        Came::Parked
    }

    fn activate(
        &mut self,
        edge: EdgeId,
        peer: MemberId,
        messages: Vec<Message>,
        now: Instant,
        desk: &mut Desk,
    ) {
        // The peer would not have opened a new one if the old one were any good.
        let older: Vec<EdgeId> = self
            .active
            .iter()
            .filter(|(_, active)| active.peer == peer)
            .map(|(edge, _)| *edge)
            .collect();
        for older in older {
            self.close(older, desk);
        }
        if self.active.len() >= ACTIVE {
            let retiring = self.active.iter().find(|(_, active)| active.retiring.is_some());
            if let Some(retiring) = retiring.map(|(edge, _)| *edge) {
                self.close(retiring, desk);
            }
        }
        if let Some(wanted) = self.wanted.get_mut(&peer) {
            wanted.open_at = None;
            wanted.not_before = None;
        }
        self.active.insert(edge, Active { peer, up_at: now, retiring: None, carrying: false });
        self.acts.push_back(Act::Up(edge, peer, messages));
    }

    /// Closes an edge from this side.
    fn close(&mut self, edge: EdgeId, desk: &mut Desk) {
        if self.active.remove(&edge).is_some() {
            self.acts.push_back(Act::Down(edge));
            desk.put(Output::CloseEdge { edge });
        }
    }

    fn close_parked(&mut self, edge: EdgeId, desk: &mut Desk) {
        if self.parked.remove(&edge).is_some() {
            desk.put(Output::CloseEdge { edge });
        }
    }

    /// Closes an edge that has ended in order. If it was the peer that dropped it, and the tree of
    /// this side still names it, the newer tree is awaited for a while.
    pub(super) fn on_finished(&mut self, edge: EdgeId, now: Instant, desk: &mut Desk) {
        if let Some(active) = self.active.get(&edge)
            && active.retiring.is_none()
            && let Some(wanted) = self.wanted.get_mut(&active.peer)
        {
            wanted.not_before = Some(now + wanted.backoff.next(desk));
        }
        self.close(edge, desk);
    }

    /// Closes an edge that does not answer; it is opened anew after a while.
    pub(super) fn on_dead(&mut self, edge: EdgeId, now: Instant, desk: &mut Desk) {
        self.hold_off(edge, now, desk);
        self.close(edge, desk);
    }

    /// An edge is gone from outside.
    pub(super) fn on_down(&mut self, edge: EdgeId, now: Instant, desk: &mut Desk) {
        self.parked.remove(&edge);
        self.hold_off(edge, now, desk);
        if self.active.remove(&edge).is_some() {
            self.acts.push_back(Act::Down(edge));
        }
    }

    /// One that lived long enough may be opened again at once, another only after a while.
    fn hold_off(&mut self, edge: EdgeId, now: Instant, desk: &mut Desk) {
        let Some(active) = self.active.get(&edge) else { return };
        if let Some(wanted) = self.wanted.get_mut(&active.peer) {
            if now >= active.up_at + LIVED {
                wanted.backoff.reset();
                wanted.not_before = None;
            } else {
                wanted.not_before = Some(now + wanted.backoff.next(desk));
            }
        }
    }

    /// [`Output::OpenEdge`] came to nothing.
    pub(super) fn on_failed(&mut self, peer: MemberId, now: Instant, desk: &mut Desk) {
        if self.opening.remove(&peer).is_none() {
            return;
        }
        if let Some(wanted) = self.wanted.get_mut(&peer) {
            let at = now + wanted.backoff.next(desk);
            wanted.open_at = Some(at);
            wanted.not_before = Some(at);
        }
    }

    /// A message came. It is given back if the relay is to have it at once.
    pub(super) fn on_message(
        &mut self,
        edge: EdgeId,
        message: Message,
        desk: &mut Desk,
    ) -> Option<Message> {
        if self.active.contains_key(&edge) {
            return Some(message);
        }
        if let Some(parked) = self.parked.get_mut(&edge) {
            if parked.messages.len() < PARKED_MESSAGES {
                parked.messages.push(message);
            } else {
                self.close_parked(edge, desk);
            }
        }
        None
    }

    /// Frames can flow on an edge. True if they could not before.
    pub(super) fn on_carrying(&mut self, edge: EdgeId) -> bool {
        self.active.get_mut(&edge).is_some_and(|active| {
            !std::mem::replace(&mut active.carrying, true) && active.retiring.is_none()
        })
    }

    /// A frame came on an edge that is not in use: the peer breaks the protocol, for it has no
    /// summary of this side yet. Nothing else would ever ask it for that frame again.
    pub(super) fn on_stray_frame(&mut self, edge: EdgeId, desk: &mut Desk) {
        self.close_parked(edge, desk);
    }

    /// Opens and closes what is due. `has_channel` says whom there is a channel with.
    pub(super) fn run(
        &mut self,
        has_channel: impl Fn(MemberId) -> bool,
        now: Instant,
        desk: &mut Desk,
    ) {
        let over = |until: Instant| until <= now;
        let late: Vec<EdgeId> = self
            .active
            .iter()
            .filter(|(_, active)| active.retiring.is_some_and(over))
            .map(|(edge, _)| *edge)
            .collect();
        for edge in late {
            self.close(edge, desk);
        }
        let late: Vec<EdgeId> = self
            .parked
            .iter()
            .filter(|(_, parked)| over(parked.until))
            .map(|(edge, _)| *edge)
            .collect();
        for edge in late {
            self.close_parked(edge, desk);
        }
        let late: Vec<MemberId> =
            self.opening.iter().filter(|(_, until)| over(**until)).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.on_failed(peer, now, desk);
        }
        let with_edge: BTreeSet<MemberId> =
            self.active.values().map(|active| active.peer).collect();
        for (peer, wanted) in &mut self.wanted {
            if with_edge.contains(peer) || !has_channel(*peer) {
                wanted.open_at = None;
                continue;
            }
            if self.opening.contains_key(peer) {
                continue;
            }
            let turn = if self.me < *peer { now } else { now + OTHER_END };
            let at = *wanted
                .open_at
                .get_or_insert(wanted.not_before.map_or(turn, |not_before| turn.max(not_before)));
            if at <= now {
                wanted.open_at = None;
                self.opening.insert(*peer, now + OPENING);
                desk.stats.edges_opened += 1;
                desk.put(Output::OpenEdge { peer: *peer });
            }
        }
    }

    /// Closes everything: the engine ends.
    pub(super) fn end(&mut self, desk: &mut Desk) {
        let active: Vec<EdgeId> = self.active.keys().copied().collect();
        for edge in active {
            self.close(edge, desk);
        }
        while let Some((edge, _)) = self.parked.pop_first() {
            desk.put(Output::CloseEdge { edge });
        }
        self.wanted.clear();
        self.opening.clear();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let opening = |peer| self.opening.contains_key(peer);
        let open = self
            .wanted
            .iter()
            .filter(|(peer, _)| !opening(peer))
            .filter_map(|(_, wanted)| wanted.open_at);
        let retiring = self.active.values().filter_map(|active| active.retiring);
        let parked = self.parked.values().map(|parked| parked.until);
        let attempts = self.opening.values().copied();
        open.chain(retiring).chain(parked).chain(attempts).min()
    }
}

/// Edges in use, those about to go included: all wanted ones of two trees.
const ACTIVE: usize = 2 * WANTED;

/// Parked edges: as many as one member can be given at once.
const PARKED: usize = 64;

/// Messages kept for a parked edge: a summary and what comes within [`PARKED_FOR`].
const PARKED_MESSAGES: usize = 16;

/// How long an edge waits for the tree that names it: time for some queries.
const PARKED_FOR: Duration = Duration::from_secs(3);

/// How long the end with the higher id waits for the other to open.
const OTHER_END: Duration = Duration::from_secs(3);

/// How long an edge may take to end in order. Frames that are lost with it are repaired elsewhere.
const RETIRING: Duration = Duration::from_secs(10);

/// The same when the tree wants the edge again: a new one waits for its end.
const RETURNING: Duration = Duration::from_secs(1);

/// An edge that lived so long was a good one.
const LIVED: Duration = Duration::from_secs(5);

/// Longer than a driver takes for one attempt (hello time-out and a round trip or two).
const OPENING: Duration = Duration::from_secs(30);
