//! Which of the edges in use carry data, as far as their ends have said so.
//!
//! An end says that an edge carries once a summary has come and its own has been sent, so one end's
//! word proves one direction, and both together prove both. One end alone could lie an edge into the
//! tree; so its word is enough only where the other end cannot be heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use arborcast_protocol::{
    id::{Epoch, MemberId},
    tree::Edge,
};

/// The edges in use: those of the newest tree and its overlap. Before the first tree after a restart
/// those that members say they have.
#[derive(Debug, Default)]
pub(crate) struct Carrying {
    edges: BTreeMap<Edge, Word>,
}

/// What is known of one edge.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// Since which tree it is in use.
    since: Epoch,
    /// Whether the lower and the higher end have said, under that tree or a later one, that it
    /// carries.
    said: (bool, bool),
    /// One of them is enough.
    is_one_enough: bool,
    /// When it is looked at, if it does not carry by then; `None` before the first tree.
    due: Option<Instant>,
    /// One end had floors when `due` was set, so that the other could adopt them, and it could carry.
    could_carry: bool,
}

impl Word {
    const fn carries(self) -> bool {
        match self.said {
            (true, true) => true,
            (true, false) | (false, true) => self.is_one_enough,
            (false, false) => false,
        }
    }
}

/// An edge that does not carry in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Late {
    pub(crate) edge: Edge,
    /// Whether the lower and the higher end say that it carries.
    pub(crate) said: (bool, bool),
    /// It could have carried for the whole time.
    pub(crate) could_carry: bool,
}

impl Carrying {
    /// Whether an edge is in use.
    pub(crate) fn uses(&self, edge: Edge) -> bool {
        self.edges.contains_key(&edge)
    }

    /// Whether an edge in use carries.
    pub(crate) fn carries(&self, edge: Edge) -> bool {
        self.edges.get(&edge).is_some_and(|word| word.carries())
    }

    /// The edges that carry, in order.
    pub(crate) fn carrying(&self) -> impl Iterator<Item = Edge> + '_ {
        self.edges.iter().filter(|(_, word)| word.carries()).map(|(edge, _)| *edge)
    }

    /// `from`, whose newest tree is that of `held`, says that its edge with `peer` carries. True if
    /// the edge did not before, and does now.
    pub(crate) fn say(&mut self, from: MemberId, peer: MemberId, held: Epoch) -> bool {
        let Some(edge) = Edge::new(from, peer) else { return false };
        let Some(word) = self.edges.get_mut(&edge).filter(|word| held >= word.since) else {
            return false;
        };
        let before = word.carries();
        if edge.ends().0 == from {
            word.said.0 = true;
        } else {
            word.said.1 = true;
        }
        !before && word.carries()
    }

    /// The same before there is a tree: the edge is of one that was made before a restart.
    pub(crate) fn claim(&mut self, from: MemberId, peer: MemberId, held: Epoch) {
        let Some(edge) = Edge::new(from, peer) else { return };
        let word = Word {
            since: held,
            said: (false, false),
            is_one_enough: false,
            due: None,
            could_carry: false,
        };
        let word = self.edges.entry(edge).or_insert(word);
        word.since = word.since.min(held);
        self.say(from, peer, held);
    }

    /// The edges in use from now on. New ones, as of `epoch`, are looked at when `due`; `could_carry`
    /// says whether they can carry by then.
    pub(crate) fn set(
        &mut self,
        edges: &BTreeSet<Edge>,
        epoch: Epoch,
        due: impl Fn(Edge) -> Instant,
        could_carry: impl Fn(Edge) -> bool,
    ) {
        self.edges.retain(|edge, _| edges.contains(edge));
        for edge in edges {
            let word = self.edges.entry(*edge).or_insert(Word {
                since: epoch,
                said: (false, false),
                is_one_enough: false,
                due: None,
                could_carry: false,
            });
            if word.due.is_none() {
                (word.due, word.could_carry) = (Some(due(*edge)), could_carry(*edge));
            }
        }
    }

    /// The channel of an edge is gone: if it comes again, the edge has to be heard of anew.
    pub(crate) fn reset(&mut self, edge: Edge, due: Instant) {
        if let Some(word) = self.edges.get_mut(&edge) {
            word.said = (false, false);
            word.is_one_enough = false;
            word.due = word.due.map(|_| due);
        }
    }

    /// A member is gone, and its edges with it.
    pub(crate) fn forget(&mut self, member: MemberId) {
        self.edges.retain(|edge, _| edge.other(member).is_none());
    }

    /// One end's word for this edge is enough from now on.
    pub(crate) fn trust_one(&mut self, edge: Edge) {
        if let Some(word) = self.edges.get_mut(&edge) {
            word.is_one_enough = true;
        }
    }

    /// An edge is looked at again then.
    pub(crate) fn postpone(&mut self, edge: Edge, due: Instant, could_carry: bool) {
        if let Some(word) = self.edges.get_mut(&edge) {
            (word.due, word.could_carry) = (Some(due), could_carry);
        }
    }

    /// When the next edge is to be looked at.
    pub(crate) fn next(&self) -> Option<Instant> {
        let waiting = self.edges.values().filter(|word| !word.carries());
        waiting.filter_map(|word| word.due).min()
    }

    /// The edges that are to be looked at now.
    pub(crate) fn late(&self, now: Instant) -> Vec<Late> {
        let late = |word: &Word| !word.carries() && word.due.is_some_and(|due| due <= now);
        self.edges
            .iter()
            .filter(|(_, word)| late(word))
            .map(|(edge, word)| Late {
                edge: *edge,
                said: word.said,
                could_carry: word.could_carry,
            })
            .collect()
    }
}
