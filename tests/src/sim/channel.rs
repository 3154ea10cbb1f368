//! Channels and edges: what carries what between two nodes, and how both ends come to know of it.

use std::time::Duration;

use arborcast::engine::event::{self as node, EdgeId};
use arborcast_protocol::{
    edge::Message,
    frame::Frame,
    id::{Epoch, MemberId},
    qos::{ChannelKind, Transport},
    session::Contact,
};
use rand::RngExt as _;

use super::{
    Happening, Who, World,
    edge::{Edge, FRAMES_IN_FLIGHT, MESSAGES_IN_FLIGHT, Side, State, name, named},
    graph,
    setup::Sabotage,
};

/// What one pair of nodes has between them at the moment.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) plan: graph::Link,
    pub(super) delay: Duration,
    /// It can carry a channel.
    whole: bool,
    /// A channel is being made; who asked for it.
    rising: Option<Vec<Who>>,
    /// The channel that is up.
    pub(super) channel: Option<u64>,
    /// The channel that each end was told of, and not that it is gone.
    told: [Option<u64>; 2],
    /// When the wire is free again, for what comes to each side.
    free: [Duration; 2],
    /// When the last channel was lost.
    lost: Option<Duration>,
}

impl Link {
    pub(super) fn new(plan: graph::Link) -> Self {
        Self {
            plan,
            delay: plan.delay,
            whole: true,
            rising: None,
            channel: None,
            told: [None; 2],
            free: [Duration::ZERO; 2],
            lost: None,
        }
    }

    const fn node(&self, side: Side) -> usize {
        match side {
            Side::A => self.plan.a,
            Side::B => self.plan.b,
        }
    }

    /// Up, or lost no longer ago than `grace`.
    pub(super) fn recent(&self, now: Duration, grace: Duration) -> bool {
        self.channel.is_some() || self.lost.is_some_and(|lost| lost + grace >= now)
    }

    /// Up, and both ends know it.
    pub(super) fn settled(&self) -> bool {
        self.channel.is_some() && self.told == [self.channel; 2]
    }
}

impl World {
    fn draw_delay(&mut self, link: usize) -> Duration {
        let (delay, jitter) = (self.links[link].delay, self.links[link].plan.jitter);
        let most = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        delay + Duration::from_micros(self.rng.random_range(0..=most))
    }

    fn ends_of(&self, link: usize) -> Option<[Who; 2]> {
        let [a, b] = Side::BOTH.map(|side| self.hosts[self.links[link].node(side)].here());
        Some([a?, b?])
    }

    pub(super) fn dial(&mut self, who: Who, contact: &Contact) {
        let result = self.invariants.admission.dials(who, contact.member);
        self.check(result);
        let found =
            self.numbers.get(&contact.member).and_then(|other| self.link_of(who.node, *other));
        let Some((link, side)) = found else {
            let later = self.between(200, 3_000);
            let failed = node::Input::DialFailed { peer: contact.member };
            return self.after(later, Happening::Input(who, Box::new(failed)));
        };
        if let Some(channel) = self.links[link].channel {
            if self.links[link].told[side.index()].is_some() {
                self.after(Duration::from_millis(1), Happening::ChannelUp(who, link, channel));
            }
            return;
        }
        self.raise(link, Some(who));
    }

    /// Begins to make a channel.
    fn raise(&mut self, link: usize, asked: Option<Who>) {
        if let Some(rising) = &mut self.links[link].rising {
            rising.extend(asked);
            return;
        }
        self.links[link].rising = Some(asked.into_iter().collect());
        let time = self.draw_delay(link) * 3;
        self.after(time, Happening::Rise(link));
    }

    pub(super) fn rise(&mut self, link: usize) {
        let asked = self.links[link].rising.take().unwrap_or_default();
        let ends = self.ends_of(link);
        let free = self.links[link].told == [None; 2] && self.links[link].channel.is_none();
        let Some(ends) = ends.filter(|_| self.links[link].whole && free) else {
            for who in asked {
                let side = if who.node == self.links[link].plan.a { Side::B } else { Side::A };
                let peer = self.hosts[self.links[link].node(side)].me;
                let later = self.between(200, 3_000);
                let failed = node::Input::DialFailed { peer };
                self.after(later, Happening::Input(who, Box::new(failed)));
            }
            return;
        };
        self.channels_made += 1;
        let channel = self.channels_made;
        self.links[link].channel = Some(channel);
        let late = self.draw_delay(link);
        let [first, second] = ends;
        self.after(Duration::ZERO, Happening::ChannelUp(first, link, channel));
        self.after(late, Happening::ChannelUp(second, link, channel));
    }

    pub(super) fn channel_up(&mut self, who: Who, link: usize, channel: u64) {
        if !self.there(who) || self.links[link].channel != Some(channel) {
            return;
        }
        let side = if who.node == self.links[link].plan.a { Side::A } else { Side::B };
        self.links[link].told[side.index()] = Some(channel);
        let peer = self.hosts[self.links[link].node(side.other())].me;
        let transport = if link.is_multiple_of(2) { Transport::Quic } else { Transport::Tcp };
        self.feed(who, node::Input::ChannelUp { peer, kind: ChannelKind::Direct, transport });
    }

    /// The channel of a link is gone: nothing crosses it any more, and both ends come to know it at
    /// different times. Closed in order, they know it soon.
    fn lose_channel(&mut self, link: usize, in_order: bool) {
        let Some(channel) = self.links[link].channel.take() else { return };
        self.links[link].lost = Some(self.now);
        for edge in self.edges.values_mut().filter(|edge| edge.channel == channel) {
            edge.broken = true;
        }
        for side in Side::BOTH {
            let Some(who) = self.hosts[self.links[link].node(side)].here() else {
                self.links[link].told[side.index()] = None;
                continue;
            };
            let slow = !in_order && self.rng.random_ratio(1, 3);
            let later = if slow { self.between(1_000, 6_000) } else { self.between(5, 300) };
            self.after(later, Happening::ChannelDown(who, link, channel));
        }
    }

    pub(super) fn channel_down(&mut self, who: Who, link: usize, channel: u64) {
        let side = if who.node == self.links[link].plan.a { Side::A } else { Side::B };
        let over: Vec<u64> = self
            .edges
            .iter()
            .filter(|(_, edge)| edge.channel == channel && edge.end(side).who == who)
            .map(|(edge, _)| *edge)
            .collect();
        for edge in over {
            let Some(state) = self.edges.get(&edge).map(|edge| edge.end(side).state) else {
                continue;
            };
            match state {
                State::Pending => self.edge_failed(edge, side),
                State::Up => self.edge_down(edge, side),
                State::Down => {}
            }
        }
        if self.there(who) && self.links[link].told[side.index()] == Some(channel) {
            self.links[link].told[side.index()] = None;
            let peer = self.hosts[self.links[link].node(side.other())].me;
            self.feed(who, node::Input::ChannelDown { peer });
        } else if self.links[link].told[side.index()] == Some(channel) {
            self.links[link].told[side.index()] = None;
        }
        if self.setup.acquainted {
            let later = self.between(500, 3_000);
            self.after(later, Happening::Acquaint(link));
        }
    }

    /// A node is gone: so are its channels.
    pub(super) fn lose_channels(&mut self, node: usize, in_order: bool) {
        for link in 0..self.links.len() {
            let side = match (self.links[link].plan.a == node, self.links[link].plan.b == node) {
                (true, _) => Side::A,
                (_, true) => Side::B,
                (false, false) => continue,
            };
            self.lose_channel(link, in_order);
            self.links[link].told[side.index()] = None;
        }
        let gone: Vec<(u64, Side)> = self
            .edges
            .iter()
            .flat_map(|(number, edge)| Side::BOTH.map(|side| (*number, side, edge.end(side))))
            .filter(|(_, _, end)| end.who.node == node)
            .map(|(number, side, _)| (number, side))
            .collect();
        for (edge, side) in gone {
            self.drop_end(edge, side);
        }
    }

    pub(super) fn break_link(&mut self, link: usize, time: Duration) {
        self.links[link].whole = false;
        self.lose_channel(link, false);
        self.after(time, Happening::Whole(link));
    }

    pub(super) fn whole(&mut self, link: usize) {
        self.links[link].whole = true;
        if self.setup.acquainted {
            let later = self.between(100, 2_000);
            self.after(later, Happening::Acquaint(link));
        }
    }

    pub(super) fn acquaint(&mut self, link: usize) {
        let state = &self.links[link];
        if state.whole
            && state.channel.is_none()
            && state.told == [None; 2]
            && self.ends_of(link).is_some()
        {
            self.raise(link, None);
        }
    }

    pub(super) fn acquaint_all(&mut self, node: usize) {
        for link in 0..self.links.len() {
            if self.links[link].plan.a == node || self.links[link].plan.b == node {
                let later = self.between(50, 2_000);
                self.after(later, Happening::Acquaint(link));
            }
        }
    }

    pub(super) fn probe(&mut self, who: Who, peer: MemberId, serial: u64) {
        let link = self.numbers.get(&peer).and_then(|other| self.link_of(who.node, *other));
        let up = link.filter(|(link, _)| self.links[*link].channel.is_some());
        let (later, round_trip) = match up {
            Some((link, _)) => {
                let time = self.draw_delay(link) + self.draw_delay(link);
                (time, Some(time))
            }
            None => (Duration::from_secs(2), None),
        };
        let probed = node::Input::Probed { peer, serial, round_trip };
        self.after(later, Happening::Input(who, Box::new(probed)));
    }

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
        made.broken = self.links[link].channel != Some(channel);
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
        if broken {
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

    fn drop_end(&mut self, number: u64, side: Side) {
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
            let header = *frame.header();
            let peer = self.edges.get(&number).map(|edge| edge.end(far).who);
            let result = self.invariants.once.crossed(number, who, peer, &header);
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
        let result = self.invariants.admission.frame(who);
        self.check(result);
        if full {
            self.after(Duration::ZERO, Happening::Room(number, side.other()));
        }
        Some(frame)
    }
}
