//! The channels there are, and when to measure each.
//!
//! Heartbeats measure the channels of the tree, echoes of probes all others. Where nothing flows, both are rare;
//! data, and an echo that does not fit what is known, bring them near for a while (the idea of Trickle, RFC 6206).

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::MemberId,
    limits,
    qos::{ChannelKind, Qos, Transport},
};

use bandwidth::Bandwidth;
use estimator::{Echo, Estimator};

use super::{
    desk::{Desk, earlier},
    event::{ChannelEvent, ChannelState, Echoed, Event, Output},
    relay::{Carried, RoundTrip},
    reporter::differ,
    trains::{Step, Trains},
};

mod bandwidth;
mod estimator;

/// All channels of one node, but those with coordinators.
#[derive(Debug)]
pub(super) struct Channels {
    probe: Duration,
    /// At most [`KEPT`].
    open: BTreeMap<MemberId, Channel>,
    /// Names probes; never reused.
    serial: u64,
    /// Names arrivals.
    arrivals: u64,
    trains: Trains,
    /// Data moves on some edge, or did lately.
    moves: bool,
}

#[derive(Debug)]
struct Channel {
    kind: ChannelKind,
    transport: Transport,
    estimator: Estimator,
    bandwidth: Bandwidth,
    /// What the application was told last.
    announced: Option<Qos>,
    /// Measured and reported. At most [`limits::CHANNELS`] are, the first ones.
    listed: bool,
    arrival: u64,
    pace: Pace,
    /// Probes without outcome, and when they were sent, oldest first; at most [`OUTSTANDING`].
    outstanding: VecDeque<(u64, Instant)>,
    /// When its bandwidth is to be measured.
    train_at: Option<Instant>,
}

/// When a channel is measured next.
#[derive(Debug)]
struct Pace {
    /// Echoes that are still to follow each other closely: because the channel is new, or looks strange.
    new: u32,
    strange: u32,
    /// Between two probes else; twice as long each time while nothing happens.
    interval: Duration,
    /// When the last probe was sent...
    probed: Option<Instant>,
    /// ...and the next is due.
    probe_at: Instant,
}

/// What changed for the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Changed {
    /// Nothing.
    Nothing,
    /// Which channels there are.
    Adjacency,
    /// How good one is.
    Quality,
}

impl Pace {
    const fn new(probe: Duration, now: Instant) -> Self {
        Self { new: FIRST, strange: 0, interval: probe, probed: None, probe_at: now }
    }

    /// The channel does not look as it is known to be.
    fn is_strange(&mut self, now: Instant) {
        self.strange = CLOSE;
        self.probe_at = self.probe_at.min(now + CLOSELY);
    }

    /// Data moves: at most `period` lies between two probes.
    fn hurry(&mut self, period: Duration, now: Instant) {
        self.interval = self.interval.min(period);
        self.probe_at = self.probe_at.min(self.probed.map_or(now, |probed| probed + period));
    }

    /// A probe is sent.
    fn on_sent(&mut self, most: Duration, now: Instant, desk: &mut Desk) {
        self.probed = Some(now);
        self.new = self.new.saturating_sub(1);
        let wait = if self.new > 0 {
            FIRST_GAP
        } else if self.strange > 0 {
            self.strange -= 1;
            CLOSELY
        } else {
            self.interval = self.interval.min(most);
            let wait = desk.about(self.interval);
            self.interval = self.interval.saturating_mul(2).min(most);
            wait
        };
        self.probe_at = now + wait;
    }
}

impl Channels {
    pub(super) fn new(probe: Duration) -> Self {
        Self {
            probe,
            open: BTreeMap::new(),
            serial: 0,
            arrivals: 0,
            trains: Trains::default(),
            moves: false,
        }
    }

    pub(super) fn has(&self, peer: MemberId) -> bool {
        self.open.contains_key(&peer)
    }

    pub(super) fn is_listed(&self, peer: MemberId) -> bool {
        self.open.get(&peer).is_some_and(|channel| channel.listed)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How good the one with `peer` is; `None` before it was measured.
    pub(super) fn qos(&self, peer: MemberId) -> Option<Qos> {
        self.open.get(&peer).and_then(Channel::qos)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, ChannelState)> + '_ {
        self.open.iter().map(|(peer, channel)| (*peer, channel.state()))
    }

    /// Those that are reported.
    pub(super) fn listed(&self) -> impl Iterator<Item = (MemberId, ChannelState)> + '_ {
        self.open
            .iter()
            .filter(|(_, channel)| channel.listed)
            .map(|(peer, channel)| (*peer, channel.state()))
    }

    pub(super) fn on_up(
        &mut self,
        peer: MemberId,
        kind: ChannelKind,
        transport: Transport,
        now: Instant,
        desk: &mut Desk,
    ) -> Changed {
        if peer == desk.me || peer == desk.coordinator {
            return Changed::Nothing;
        }
        let same = |old: &Channel| (old.kind, old.transport) == (kind, transport);
        let (listed, arrival) = match self.open.get(&peer) {
            Some(old) if same(old) => return Changed::Nothing,
            Some(old) => (old.listed, old.arrival),
            None if self.open.len() >= KEPT => return Changed::Nothing,
            None => {
                let listed = self.open.values().filter(|channel| channel.listed).count();
                self.arrivals += 1;
                (listed < limits::CHANNELS, self.arrivals)
            }
        };
        self.trains.forget(peer);
        // What was measured over another path says nothing about this one.
        let channel = Channel {
            kind,
            transport,
            estimator: Estimator::default(),
            bandwidth: Bandwidth::default(),
            announced: None,
            listed,
            arrival,
            pace: Pace::new(self.probe, now),
            outstanding: VecDeque::new(),
            // Not while all the channels of a new member come up.
            train_at: Some(now + FIRST_TRAIN + desk.jitter(FIRST_TRAIN)),
        };
        channel.announce(peer, desk);
        self.open.insert(peer, channel);
        if listed { Changed::Adjacency } else { Changed::Nothing }
    }

    pub(super) fn on_down(&mut self, peer: MemberId, now: Instant, desk: &mut Desk) -> Changed {
        let Some(gone) = self.open.remove(&peer) else { return Changed::Nothing };
        self.trains.forget(peer);
        desk.event(Event::Channel(ChannelEvent { peer, state: None }));
        if !gone.listed {
            return Changed::Nothing;
        }
        let next = self
            .open
            .values_mut()
            .filter(|channel| !channel.listed)
            .min_by_key(|channel| channel.arrival);
        if let Some(next) = next {
            next.listed = true;
            next.pace = Pace::new(self.probe, now);
        }
        Changed::Adjacency
    }

    /// The outcome of a probe; ignored if it is of no probe under way. `lag` is how late this node is at times.
    pub(super) fn on_probed(
        &mut self,
        peer: MemberId,
        serial: u64,
        echo: Option<Echoed>,
        lag: Duration,
        now: Instant,
        desk: &mut Desk,
    ) -> Changed {
        if let Some(step) = self.trains.on_probed(peer, serial, now, desk) {
            return self.on_train(peer, step, echo, now, desk);
        }
        let Some(channel) = self.open.get_mut(&peer) else { return Changed::Nothing };
        let at = channel.outstanding.iter().position(|(other, _)| *other == serial);
        if at.and_then(|at| channel.outstanding.remove(at)).is_none() {
            return Changed::Nothing;
        }
        let is_strange = match echo {
            Some(Echoed { round_trip, lag: theirs, .. }) => {
                let sent = now.checked_sub(round_trip).unwrap_or(now);
                let lag = lag.saturating_add(theirs);
                channel.estimator.on_echo(Echo { sent, came: now, lag, crossed: 2, is_full: false })
            }
            None => channel.estimator.on_missing(),
        };
        if is_strange {
            channel.pace.is_strange(now);
        }
        channel.on_measured(peer, desk)
    }

    /// A heartbeat came back on the edge with a member, which has carried so much.
    pub(super) fn on_round_trip(
        &mut self,
        peer: MemberId,
        round_trip: RoundTrip,
        carried: Option<Carried>,
        now: Instant,
        desk: &mut Desk,
    ) -> Changed {
        let Some(channel) = self.open.get_mut(&peer) else { return Changed::Nothing };
        if let Some(carried) = carried {
            channel.bandwidth.on_carried(carried, now);
        }
        let RoundTrip { sent, lag, crossed, is_full } = round_trip;
        channel.pace.strange = channel.pace.strange.saturating_sub(1);
        if channel.estimator.on_echo(Echo { sent, came: now, lag, crossed, is_full }) {
            channel.pace.is_strange(now);
        }
        channel.on_measured(peer, desk)
    }

    /// How often the edge with a member is to beat; `None` as often as it likes.
    pub(super) fn heartbeat(&self, peer: MemberId) -> Option<Duration> {
        self.open.get(&peer).filter(|channel| channel.pace.strange > 0).map(|_| CLOSELY)
    }

    /// The coordinator wants to know the bandwidth of the channels with these members.
    pub(super) fn measure_bandwidth(&mut self, peers: &[MemberId], now: Instant) {
        for peer in peers {
            if let Some(channel) = self.open.get_mut(peer) {
                channel.train_at.get_or_insert(now);
            }
        }
    }

    /// A train has arrived, or has not.
    fn on_train(
        &mut self,
        peer: MemberId,
        step: Step,
        echo: Option<Echoed>,
        now: Instant,
        desk: &mut Desk,
    ) -> Changed {
        let Some(channel) = self.open.get_mut(&peer) else { return Changed::Nothing };
        if step == Step::Warm && echo.is_some() {
            // The way is warm: a congestion window is open now, and the next train goes in one go.
            self.serial += 1;
            self.trains.send(peer, self.serial, Step::Measure, desk);
            return Changed::Nothing;
        }
        let took = echo.map_or(Duration::ZERO, |echo| echo.round_trip);
        let spread = echo.and_then(|echo| echo.spread);
        let delay = channel.estimator.qos().map_or(0, |qos| qos.delay_us);
        let round_trip = 2 * Duration::from_micros(delay.into());
        let again = channel.bandwidth.on_train(spread, took, round_trip);
        channel.train_at = again.then(|| now + desk.about(AGAIN));
        channel.on_measured(peer, desk)
    }

    /// Sends the probes that are due. `edge` tells of a member whether there is an edge with it, and if so,
    /// whether data moves there.
    pub(super) fn run(
        &mut self,
        edge: impl Fn(MemberId) -> Option<bool>,
        now: Instant,
        desk: &mut Desk,
    ) {
        self.moves = self.open.keys().any(|peer| edge(*peer) == Some(true));
        let listed = self.open.values().filter(|channel| channel.listed).count();
        let listed = u32::try_from(listed).unwrap_or(u32::MAX);
        let period = self.probe.max(self.probe.saturating_mul(listed) / AT_ONCE);
        let most = if self.moves { period } else { period.max(self.probe.saturating_mul(IDLE)) };
        for (peer, channel) in self.open.iter_mut().filter(|(_, channel)| channel.listed) {
            if self.moves {
                channel.pace.hurry(period, now);
            }
            if channel.pace.probe_at > now {
                continue;
            }
            if edge(*peer).is_some() && channel.pace.new == 0 {
                // Heartbeats show it.
                channel.pace.probe_at = now + period;
                continue;
            }
            if self.trains.is_under_way(*peer) {
                // It would wait behind the train, and tell of that alone.
                channel.pace.probe_at = now + BESIDE_TRAIN;
                continue;
            }
            if channel.outstanding.len() >= OUTSTANDING && channel.outstanding.pop_front().is_some()
            {
                channel.estimator.on_missing();
            }
            self.serial += 1;
            channel.outstanding.push_back((self.serial, now));
            desk.stats.probes += 1;
            desk.put(Output::Probe { peer: *peer, serial: self.serial, train: 0 });
            channel.pace.on_sent(most, now, desk);
        }
        self.run_trains(edge, now, desk);
    }

    /// Sends a train if one is due and none is under way. None goes where data moves, which shows the bandwidth
    /// by itself, and would be disturbed.
    fn run_trains(
        &mut self,
        edge: impl Fn(MemberId) -> Option<bool>,
        now: Instant,
        desk: &mut Desk,
    ) {
        if self.next_train().is_none_or(|at| at > now) {
            return;
        }
        let is_due = |channel: &Channel| channel.wants_train().is_some_and(|at| at <= now);
        for (peer, channel) in self.open.iter_mut().filter(|(_, channel)| is_due(channel)) {
            if edge(*peer) == Some(true) {
                channel.train_at = Some(now + AGAIN);
                continue;
            }
            self.serial += 1;
            self.trains.send(*peer, self.serial, Step::Warm, desk);
            return;
        }
    }

    /// When a train may be due, as far as is known now.
    fn next_train(&self) -> Option<Instant> {
        self.trains.after(self.open.values().filter_map(Channel::wants_train).min()?)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let listed = self.open.values().filter(|channel| channel.listed);
        earlier(listed.map(|channel| channel.pace.probe_at).min(), self.next_train())
    }
}

impl Channel {
    fn qos(&self) -> Option<Qos> {
        let bandwidth_kbps = self.bandwidth.kbps();
        self.estimator.qos().map(|qos| Qos { bandwidth_kbps, ..qos })
    }

    fn state(&self) -> ChannelState {
        ChannelState { kind: self.kind, transport: self.transport, qos: self.qos() }
    }

    /// Tells the application if the figures are others than those it was told.
    fn on_measured(&mut self, peer: MemberId, desk: &mut Desk) -> Changed {
        let qos = self.qos();
        if differ(self.announced, qos, ANNOUNCED_PERCENT) {
            self.announced = qos;
            self.announce(peer, desk);
        }
        if qos.is_some() { Changed::Quality } else { Changed::Nothing }
    }

    /// When its bandwidth is to be measured. Circuits are measured by echoes alone: their relay has bounds on
    /// what it carries.
    fn wants_train(&self) -> Option<Instant> {
        let is_known = self.listed && self.estimator.qos().is_some();
        self.train_at.filter(|_| is_known && self.kind == ChannelKind::Direct)
    }

    fn announce(&self, peer: MemberId, desk: &mut Desk) {
        desk.event(Event::Channel(ChannelEvent { peer, state: Some(self.state()) }));
    }
}

/// Channels that the engine keeps in mind. Whoever connects beyond that is ignored; the driver's
/// limit on connections is lower.
const KEPT: usize = 4 * limits::CHANNELS;

/// While nothing moves, so many periods of probes lie between two.
const IDLE: u32 = 15;

/// So many channels are probed in a period; more of them take turns, so that a node with many does not
/// spend its time on measuring.
const AT_ONCE: u32 = 8;

/// A new channel is measured so many times at once, so that it can soon be chosen...
const FIRST: u32 = 3;

/// ...each so long after the one before.
const FIRST_GAP: Duration = Duration::from_millis(30);

/// A channel that looks strange is measured so many times, enough to show that its way is longer...
const CLOSE: u32 = 20;

/// ...each so long after the one before: what is lost is repeated by then on most channels.
const CLOSELY: Duration = Duration::from_millis(250);

/// The first train of a channel waits for as long, and for up to as long again.
const FIRST_TRAIN: Duration = Duration::from_secs(5);

/// One that showed nothing for sure is repeated after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Probes wait so long while a train is under way.
const BESIDE_TRAIN: Duration = Duration::from_millis(200);

/// Probes under way on one channel; the oldest counts as lost when there are more.
const OUTSTANDING: usize = 8;

/// The application is told of changes larger than this.
const ANNOUNCED_PERCENT: u32 = 20;

#[cfg(test)]
mod tests;
