//! Channels: who is connected with whom, and how both ends come to know of it.

use std::time::Duration;

use arborcast::engine::{event as node, silence};
use arborcast_protocol::{
    id::MemberId,
    qos::{ChannelKind, Transport},
    session::Contact,
};
use rand::RngExt as _;

use super::{
    Happening, Who, World,
    edge::{Side, State},
    graph,
};

/// How much later what was lost arrives: the least time after which TCP and QUIC repeat it.
const REPEATED: Duration = Duration::from_millis(200);

/// What one pair of nodes has between them at the moment.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) plan: graph::Link,
    pub(super) delay: Duration,
    /// It can carry a channel.
    whole: bool,
    /// No edge can be opened on it.
    pub(super) mute: bool,
    /// Nothing crosses its channel any more, and nobody knows.
    dead: bool,
    /// A channel is being made; who asked for it.
    rising: Option<Vec<Who>>,
    /// The channel that is up.
    pub(super) channel: Option<u64>,
    /// The channel that each end was told of, and not that it is gone.
    pub(super) told: [Option<u64>; 2],
    /// When the wire is free again, for what comes to each side.
    pub(super) free: [Duration; 2],
    /// When the last echo comes to each side.
    echoed: [Duration; 2],
    /// When the last channel was lost.
    lost: Option<Duration>,
}

impl Link {
    pub(super) fn new(plan: graph::Link) -> Self {
        Self {
            plan,
            delay: plan.delay,
            whole: true,
            mute: false,
            dead: false,
            rising: None,
            channel: None,
            told: [None; 2],
            free: [Duration::ZERO; 2],
            echoed: [Duration::ZERO; 2],
            lost: None,
        }
    }

    pub(super) const fn node(&self, side: Side) -> usize {
        match side {
            Side::A => self.plan.a,
            Side::B => self.plan.b,
        }
    }

    /// Whether something that is to open an edge arrives.
    pub(super) const fn takes_hellos(&self) -> bool {
        !self.mute && !self.dead
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
    pub(super) fn draw_delay(&mut self, link: usize) -> Duration {
        let (delay, jitter) = (self.links[link].delay, self.links[link].plan.jitter);
        let most = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
        let once = delay + Duration::from_micros(self.rng.random_range(0..=most));
        let lossy = self.links[link].plan.lossy;
        if lossy > 0 && self.rng.random_ratio(lossy, 1_000) { once + REPEATED } else { once }
    }

    pub(super) fn ends_of(&self, link: usize) -> Option<[Who; 2]> {
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
        let number = self.links[link].node(side.other());
        let now = self.instant();
        self.hosts[who.node].heard.forget(&number);
        self.hosts[who.node].heard.connected(number, now);
        let peer = self.hosts[self.links[link].node(side.other())].me;
        let transport = if link.is_multiple_of(2) { Transport::Quic } else { Transport::Tcp };
        self.feed(who, node::Input::ChannelUp { peer, kind: ChannelKind::Direct, transport });
    }

    /// The channel of a link is gone: nothing crosses it any more, and both ends come to know it at
    /// different times. Closed in order, they know it soon.
    fn lose_channel(&mut self, link: usize, in_order: bool) {
        let Some(channel) = self.links[link].channel.take() else { return };
        self.links[link].lost = Some(self.now);
        self.links[link].dead = false;
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

    /// The path of a channel is gone without a word: a connection on which nothing is heard is closed, and
    /// by then somebody may have made another one.
    pub(super) fn go_dead(&mut self, link: usize) {
        let Some(channel) = self.links[link].channel else { return };
        self.links[link].dead = true;
        for edge in self.edges.values_mut().filter(|edge| edge.channel == channel) {
            edge.broken = true;
        }
        for side in Side::BOTH {
            let looked = self.between(0, 1_000);
            self.after(silence::CLOSE + looked, Happening::Looked(link, channel, side));
        }
    }

    /// One end has heard nothing on a dead channel, and looks at it.
    pub(super) fn looked(&mut self, link: usize, channel: u64, side: Side) {
        let asked = self.now;
        self.after(silence::ANSWER, Happening::NoAnswer(link, channel, side, asked));
    }

    /// A look at a dead channel stayed unanswered, at one end: that closes it unless that end was late itself.
    pub(super) fn no_answer(&mut self, link: usize, channel: u64, side: Side, asked: Duration) {
        if self.links[link].channel != Some(channel) {
            return;
        }
        let (node, peer) = (self.links[link].node(side), self.links[link].node(side.other()));
        let asked = self.base + asked;
        if self.hosts[node].heard.is_dead(&peer, true, asked, self.instant()) {
            self.lose_channel(link, false);
        } else {
            self.after(silence::CLOSE, Happening::Looked(link, channel, side));
        }
    }

    pub(super) fn break_link(&mut self, link: usize, time: Duration) {
        self.links[link].whole = false;
        self.lose_channel(link, false);
        self.after(time, Happening::Whole(link));
    }

    pub(super) fn whole(&mut self, link: usize) {
        self.links[link].whole = true;
        // One end sees its interface come back.
        if let Some(who) = self.hosts[self.links[link].plan.a].here() {
            self.feed(who, node::Input::NetworkChanged);
        }
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
        let up =
            link.filter(|(link, _)| self.links[*link].channel.is_some() && !self.links[*link].dead);
        let (later, echo) = match up {
            Some((link, side)) => {
                let time = self.draw_delay(link) + self.draw_delay(link);
                // No echo overtakes another.
                let last = &mut self.links[link].echoed[side.index()];
                let comes = (self.now + time).max(*last);
                *last = comes;
                let time = comes.saturating_sub(self.now);
                (time, Some(node::Echoed { round_trip: time, lag: Duration::ZERO, spread: None }))
            }
            None => (Duration::from_secs(2), None),
        };
        let probed = node::Input::Probed { peer, serial, echo };
        self.after(later, Happening::Input(who, Box::new(probed)));
    }
}
