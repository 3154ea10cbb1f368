//! Edges: in each life two pipes each way, reliable and in order, as substreams are.

use std::{collections::VecDeque, time::Duration};

use arborcast::engine::event::{self as node, EdgeId};
use arborcast_protocol::{
    edge::Message,
    frame::Frame,
    id::{Epoch, MemberId},
};
use rand::RngExt as _;

use super::{Happening, Who, World, setup::Sabotage};

/// Frames that a writer takes before the reader took one: little, so that what waits, waits in the
/// engine, where it is counted.
pub(super) const FRAMES_IN_FLIGHT: usize = 4;

/// Control messages that a writer takes before the reader took one.
pub(super) const MESSAGES_IN_FLIGHT: usize = 16;

/// Which side of a link or edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Side {
    /// That of the lower node.
    A,
    /// That of the higher node.
    B,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// How far one end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Being opened.
    Pending,
    /// Its engine was told that it is up.
    Up,
    /// Its engine was told that it is gone, or never of it.
    Down,
}

/// What is under way towards one end.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    waiting: VecDeque<(Duration, T)>,
    last: Duration,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), last: Duration::ZERO }
    }
}

impl<T> Pipe<T> {
    /// Puts `item` in, to arrive at `at` or after what is before it. Gives when it will.
    pub(super) fn push(&mut self, at: Duration, item: T) -> Duration {
        let at = at.max(self.last + Duration::from_nanos(1));
        self.last = at;
        self.waiting.push_back((at, item));
        at
    }

    /// Nothing arrives before this.
    pub(super) fn not_before(&mut self, at: Duration) {
        self.last = self.last.max(at);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the last one arrives.
    pub(super) const fn last(&self) -> Duration {
        self.last
    }

    /// Whether one has arrived by `now`.
    pub(super) fn ripe(&self, now: Duration) -> bool {
        self.waiting.front().is_some_and(|(at, _)| *at <= now)
    }

    /// Takes the first if it has arrived by `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<T> {
        if self.ripe(now) { self.waiting.pop_front().map(|(_, item)| item) } else { None }
    }

    fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// One end of an edge.
#[derive(Debug)]
pub(super) struct End {
    /// Whose.
    pub(super) who: Who,
    pub(super) state: State,
    /// What comes to it on the control substream.
    pub(super) control: Pipe<Message>,
    /// What comes to it on the data substream.
    pub(super) data: Pipe<Frame>,
}

impl End {
    fn new(who: Who) -> Self {
        Self { who, state: State::Pending, control: Pipe::default(), data: Pipe::default() }
    }
}

/// One life of an edge.
#[derive(Debug)]
pub(super) struct Edge {
    /// On which link.
    pub(super) link: usize,
    /// On which channel of that link.
    pub(super) channel: u64,
    /// Who asked for it.
    pub(super) opener: Side,
    /// The channel is gone: nothing arrives any more.
    pub(super) broken: bool,
    ends: [End; 2],
}

impl Edge {
    pub(super) fn new(link: usize, channel: u64, opener: Side, ends: [Who; 2]) -> Self {
        Self { link, channel, opener, broken: false, ends: ends.map(End::new) }
    }

    pub(super) const fn end(&self, side: Side) -> &End {
        let [a, b] = &self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        let [a, b] = &mut self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    /// One end is gone, and with it all that was under way to it.
    pub(super) fn down(&mut self, side: Side) {
        let end = self.end_mut(side);
        end.state = State::Down;
        end.control.clear();
        end.data.clear();
    }

    /// Neither end knows of it any more.
    pub(super) fn over(&self) -> bool {
        self.ends.iter().all(|end| end.state == State::Down)
    }
}

/// The name of one end of the n-th edge: each end has its own.
pub(super) const fn name(edge: u64, side: Side) -> EdgeId {
    EdgeId(edge * 2 + side.index() as u64)
}

/// Which edge and end a name stands for.
pub(super) const fn named(id: EdgeId) -> (u64, Side) {
    (id.0 / 2, if id.0.is_multiple_of(2) { Side::A } else { Side::B })
}

impl World {
    pub(super) fn open_edge(&mut self, who: Who, peer: MemberId) {
        let found = self.numbers.get(&peer).copied().and_then(|other| {
            let (link, side) = self.link_of(who.node, other)?;
            let channel = self.links[link].told[side.index()]?;
            Some((link, side, channel, self.ends_of(link)?))
        });
        let Some((link, side, channel, ends)) = found else {
            let later = self.between(1, 50);
            let failed = node::Input::EdgeFailed { peer };
            return self.after(later, Happening::Input(who, Box::new(failed)));
        };
        self.edges_made += 1;
        let edge = self.edges_made;
        let mut made = Edge::new(link, channel, side, ends);
        made.broken = self.links[link].channel != Some(channel) || !self.links[link].takes_hellos();
        self.edges.insert(edge, made);
        let epoch = self.hosts[who.node].epoch;
        let delay = self.draw_delay(link);
        self.after(delay, Happening::Hello(edge, epoch));
        // What stays without an answer fails at last.
        self.after(Duration::from_secs(10), Happening::EdgeFailed(edge, side));
    }

    pub(super) fn hello(&mut self, number: u64, epoch: Epoch) {
        let Some(edge) = self.edges.get(&number) else { return };
        let (link, opener, broken) = (edge.link, edge.opener, edge.broken);
        let acceptor = opener.other();
        let (from, to) = (edge.end(opener).who, edge.end(acceptor).who);
        if broken || !self.links[link].takes_hellos() {
            return;
        }
        let delay = self.draw_delay(link);
        let known = self.links[link].told[acceptor.index()].is_some() && self.there(to);
        // Both show their certificates; who has none is turned away.
        if !known || !self.hosts[from.node].admitted || !self.hosts[to.node].admitted {
            return self.after(delay, Happening::EdgeFailed(number, opener));
        }
        let back = self.hosts[to.node].epoch;
        let third = self.draw_delay(link);
        let (first_up, second_up) = (self.now + delay, self.now + delay + third);
        if let Some(edge) = self.edges.get_mut(&number) {
            for (side, up) in [(opener, first_up), (acceptor, second_up)] {
                edge.end_mut(side).control.not_before(up);
                edge.end_mut(side).data.not_before(up);
            }
        }
        self.at(first_up, Happening::EdgeUp(number, opener, back));
        self.at(second_up, Happening::EdgeUp(number, acceptor, epoch));
    }

    pub(super) fn edge_up(&mut self, number: u64, side: Side, epoch: Epoch) {
        let Some(edge) = self.edges.get_mut(&number) else { return };
        if edge.end(side).state != State::Pending || edge.broken {
            return;
        }
        edge.end_mut(side).state = State::Up;
        let (who, peer) = (edge.end(side).who, edge.end(side.other()).who);
        let (edge, peer) = (name(number, side), self.hosts[peer.node].me);
        self.hosts[who.node].edges.push(edge);
        let result = self.invariants.admission.edge(who);
        self.check(result);
        self.feed(who, node::Input::EdgeUp { edge, peer, epoch });
    }

    pub(super) fn edge_failed(&mut self, number: u64, side: Side) {
        let Some(edge) = self.edges.get(&number) else { return };
        if edge.end(side).state != State::Pending {
            return;
        }
        let (who, peer, opened) =
            (edge.end(side).who, edge.end(side.other()).who, edge.opener == side);
        self.drop_end(number, side);
        if opened {
            self.drop_end(number, side.other());
            let peer = self.hosts[peer.node].me;
            self.feed_if_there(who, node::Input::EdgeFailed { peer });
        }
    }

    /// An engine closes an edge. The other end learns of it after what was on its way to it, or
    /// loses that.
    pub(super) fn close_edge(&mut self, who: Who, id: EdgeId) {
        let (number, side) = named(id);
        let Some(edge) = self.edges.get(&number) else { return };
        if edge.end(side).who != who || edge.end(side).state != State::Up {
            return;
        }
        let (link, broken, far) = (edge.link, edge.broken, side.other());
        let last = edge.end(far).control.last().max(edge.end(far).data.last());
        self.after(Duration::from_micros(100), Happening::EdgeDown(number, side));
        if !broken {
            let drained = self.rng.random_bool(0.5);
            let at = self.now + self.draw_delay(link);
            let at = if drained { at.max(last + Duration::from_nanos(1)) } else { at };
            self.at(at, Happening::EdgeDown(number, far));
        }
    }

    pub(super) fn edge_down(&mut self, number: u64, side: Side) {
        let Some(edge) = self.edges.get(&number) else { return };
        let (who, state) = (edge.end(side).who, edge.end(side).state);
        self.drop_end(number, side);
        match state {
            State::Up => {
                self.feed_if_there(who, node::Input::EdgeDown { edge: name(number, side) });
            }
            State::Pending | State::Down => {}
        }
    }

    pub(super) fn drop_end(&mut self, number: u64, side: Side) {
        let Some(edge) = self.edges.get_mut(&number) else { return };
        let who = edge.end(side).who;
        edge.down(side);
        if edge.over() {
            self.edges.remove(&number);
            self.invariants.once.over(number);
        }
        if self.there(who) {
            self.hosts[who.node].edges.retain(|edge| *edge != name(number, side));
        }
    }

    pub(super) fn arrived(&mut self, number: u64, side: Side) {
        let Some(edge) = self.edges.get(&number) else { return };
        let who = edge.end(side).who;
        if self.there(who) && !edge.broken {
            self.settle(who);
        }
    }

    pub(super) fn room(&mut self, number: u64, side: Side) {
        self.arrived(number, side);
    }

    pub(super) fn control_room(&self, id: EdgeId) -> bool {
        let (number, side) = named(id);
        self.edges.get(&number).is_some_and(|edge| {
            edge.end(side).state == State::Up
                && edge.end(side.other()).control.len() < MESSAGES_IN_FLIGHT
        })
    }

    pub(super) fn data_room(&self, id: EdgeId) -> bool {
        let (number, side) = named(id);
        self.edges.get(&number).is_some_and(|edge| {
            edge.end(side).state == State::Up
                && edge.end(side.other()).data.len() < FRAMES_IN_FLIGHT
        })
    }

    pub(super) fn send_message(&mut self, who: Who, id: EdgeId, message: Message) {
        let (number, side) = named(id);
        let Some(link) = self.edges.get(&number).map(|edge| edge.link) else { return };
        let far = side.other();
        let message = self.cross_message(who, message);
        let at = self.now + self.draw_delay(link);
        let Some(edge) = self.edges.get_mut(&number) else { return };
        // An end that is gone takes what its buffers hold and no more, as sockets do.
        let at = edge.end_mut(far).control.push(at, message);
        self.at(at, Happening::Arrived(number, far));
    }

    pub(super) fn send_frame(&mut self, who: Who, id: EdgeId, frame: Frame) {
        let (number, side) = named(id);
        let Some(link) = self.edges.get(&number).map(|edge| edge.link) else { return };
        let far = side.other();
        self.frames_sent += 1;
        let mut copies = vec![self.cross_frame(who, frame)];
        match self.setup.sabotage {
            Some(Sabotage::DropFrame(nth)) if nth == self.frames_sent => copies.clear(),
            Some(Sabotage::DoubleFrame(nth)) if nth == self.frames_sent => {
                copies.extend(copies.clone());
            }
            Some(Sabotage::GarbleFrame(nth)) if nth == self.frames_sent => {
                copies = copies.iter().map(super::wire::garbled).collect();
            }
            Some(Sabotage::Deaf(from)) if self.now >= from => copies.clear(),
            Some(
                Sabotage::DropFrame(_)
                | Sabotage::DoubleFrame(_)
                | Sabotage::GarbleFrame(_)
                | Sabotage::SwallowMessage(_)
                | Sabotage::Deaf(_),
            )
            | None => {}
        }
        for frame in copies {
            let header = frame.header().clone();
            let peer = self.edges.get(&number).map(|edge| edge.end(far).who);
            let dropped = peer.map_or(0, |peer| self.dropped(peer));
            let result = self.invariants.once.crossed(number, who, peer, &header, dropped);
            self.check(result);
            let name = format!("{who:?}");
            let figures = [id.0, super::describe::short(header.source), header.number.0];
            self.trace.note(self.now, &name, "sends", &figures, || {
                format!("{frame:?} to {peer:?} on edge {number}")
            });
            let state = &mut self.links[link];
            let bits = frame.len() as u64 * 1_000_000_000 / state.plan.rate.max(1);
            let begin = self.now.max(state.free[far.index()]);
            let out = begin + Duration::from_nanos(bits);
            state.free[far.index()] = out;
            let at = out + self.draw_delay(link);
            let Some(edge) = self.edges.get_mut(&number) else { return };
            let at = edge.end_mut(far).data.push(at, frame);
            self.at(at, Happening::Arrived(number, far));
        }
    }

    /// Frames that a node says it has dropped, for want of room, because they came too early, or
    /// because it carried them for somebody else and is not on their way.
    fn dropped(&self, who: Who) -> u64 {
        let engine = self.hosts[who.node].engine.as_ref().filter(|_| self.there(who));
        engine.map_or(0, |engine| {
            let relay = &engine.stats().relay;
            relay.total.over_quota + relay.total.early + relay.let_go
        })
    }

    fn heard(&mut self, who: Who, number: u64, side: Side) {
        let now = self.instant();
        if let Some(peer) = self.edges.get(&number).map(|edge| edge.end(side.other()).who.node) {
            self.hosts[who.node].heard.heard(&peer, now);
        }
    }

    pub(super) fn ripe_message(&mut self, who: Who, id: EdgeId) -> Option<Message> {
        let now = self.now;
        let (number, side) = named(id);
        let edge = self.edges.get_mut(&number).filter(|edge| !edge.broken)?;
        let end = edge.end_mut(side);
        if end.who != who || end.state != State::Up {
            return None;
        }
        let full = end.control.len() >= MESSAGES_IN_FLIGHT;
        let message = end.control.pop(now)?;
        self.heard(who, number, side);
        if full {
            self.after(Duration::ZERO, Happening::Room(number, side.other()));
        }
        Some(message)
    }

    pub(super) fn ripe_frame(&mut self, who: Who, id: EdgeId) -> Option<Frame> {
        let now = self.now;
        let (number, side) = named(id);
        let edge = self.edges.get_mut(&number).filter(|edge| !edge.broken)?;
        let end = edge.end_mut(side);
        if end.who != who || end.state != State::Up {
            return None;
        }
        let full = end.data.len() >= FRAMES_IN_FLIGHT;
        let frame = end.data.pop(now)?;
        self.heard(who, number, side);
        let result = self.invariants.admission.frame(who);
        self.check(result);
        if full {
            self.after(Duration::ZERO, Happening::Room(number, side.other()));
        }
        Some(frame)
    }
}
