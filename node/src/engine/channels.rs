//! The channels there are, and when to measure each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::MemberId,
    limits,
    qos::{ChannelKind, Qos, Transport},
};

use attention::Attention;
use heavy::Heavy;

use super::{
    desk::Desk,
    event::{ChannelEvent, ChannelState, Echoed, Event, Output},
    quality::{self, Meter, Verdict},
    trains::{Step, Trains},
};

mod attention;
mod heavy;

/// All channels of one node, but those with coordinators.
#[derive(Debug)]
pub(super) struct Channels {
    probe: Duration,
    /// At most [`KNOWN`].
    open: BTreeMap<MemberId, Channel>,
    /// Names probes; never reused.
    serial: u64,
    /// Names arrivals.
    arrivals: u64,
    trains: Trains,
    /// What processes take for a probe by being busy, lately.
    lag: Duration,
}

#[derive(Debug)]
struct Channel {
    kind: ChannelKind,
    transport: Transport,
    meter: Meter,
    /// What the application was told last.
    told: Option<Qos>,
    /// Measured and reported. At most [`limits::CHANNELS`] are, the first ones.
    listed: bool,
    arrival: u64,
    probe_at: Instant,
    attention: Attention,
    heavy: Heavy,
    /// Probes without outcome, and when they were sent, oldest first; at most [`OUTSTANDING`].
    outstanding: VecDeque<(u64, Instant)>,
    /// When its bandwidth is to be measured...
    train_at: Instant,
    /// ...and how long after that again.
    train_wait: Duration,
    /// What its edge had carried at some time.
    carried: Option<(Carried, Instant)>,
}

/// What the edge of a channel has carried so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Carried {
    /// Bytes that came.
    pub(super) came: u64,
    /// Bytes that went.
    pub(super) went: u64,
    /// There is more than the channel takes.
    pub(super) is_full: bool,
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

impl Channels {
    pub(super) const fn new(probe: Duration) -> Self {
        Self {
            probe,
            open: BTreeMap::new(),
            serial: 0,
            arrivals: 0,
            trains: Trains::new(),
            lag: Duration::ZERO,
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
        self.open.get(&peer).and_then(|channel| channel.meter.qos())
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
            None if self.open.len() >= KNOWN => return Changed::Nothing,
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
            meter: Meter::default(),
            told: None,
            listed,
            arrival,
            probe_at: now,
            attention: Attention::new(now),
            heavy: Heavy::new(now),
            outstanding: VecDeque::new(),
            train_at: now + desk.about(FIRST_TRAIN),
            train_wait: SOON,
            carried: None,
        };
        channel.tell(peer, desk);
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
            next.probe_at = now;
        }
        Changed::Adjacency
    }

    /// The outcome of a probe; ignored if it is of no probe under way.
    pub(super) fn on_probed(
        &mut self,
        peer: MemberId,
        serial: u64,
        echo: Option<Echoed>,
        now: Instant,
        desk: &mut Desk,
    ) -> Changed {
        if let Some(step) = self.trains.on_probed(peer, serial, now, desk) {
            return self.on_train(peer, step, echo, now, desk);
        }
        if let Some(echo) = &echo {
            self.lag = (self.lag * (LAGS - 1) + echo.lag) / LAGS;
        }
        let Some(channel) = self.open.get_mut(&peer) else { return Changed::Nothing };
        if let Some(light) = channel.heavy.on_probed(serial) {
            if channel.on_heavy(light, echo, now) {
                self.trains.hurry();
            }
            return channel.on_measured(peer, desk);
        }
        let at = channel.outstanding.iter().position(|(other, _)| *other == serial);
        let Some((_, sent)) = at.and_then(|at| channel.outstanding.remove(at)) else {
            return Changed::Nothing;
        };
        let verdict = channel.meter.record(sent, echo, now);
        channel.on_verdict(verdict, now);
        let is_free = channel.wants_heavy() && !self.trains.is_under_way(peer);
        if let Some(echo) = echo
            && is_free
            && channel.heavy.is_due(now)
        {
            self.serial += 1;
            let period = desk.about(self.probe * heavy::EACH);
            channel.heavy.on_sent(self.serial, echo.travelled(), period, now);
            desk.stats.probes += 1;
            desk.put(Output::Probe { peer, serial: self.serial, train: heavy::BYTES });
        }
        channel.on_measured(peer, desk)
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
        match (step, echo) {
            // The way is warm: a congestion window is open now, and the next train goes in one go.
            (Step::Warm, Some(_)) => {
                self.serial += 1;
                self.trains.send(peer, self.serial, Step::Measure, desk);
                return Changed::Nothing;
            }
            (Step::Measure, Some(echo @ Echoed { spread: Some(spread), .. })) => {
                if channel.meter.record_train(spread, echo.travelled(), heavy::BYTES) {
                    channel.train_wait = SOON;
                } else if !channel.meter.is_suspect() {
                    channel.train_wait = TRAIN;
                } else if channel.heavy.check(now) {
                    channel.probe_at = channel.probe_at.min(now + attention::GAP);
                }
            }
            (Step::Measure, Some(Echoed { spread: None, .. })) | (_, None) => {}
        }
        channel.train_at = now + desk.about(channel.train_wait);
        channel.train_wait = (channel.train_wait * 2).min(TRAIN);
        channel.on_measured(peer, desk)
    }

    /// Sends the probes that are due. `traffic` tells what the edge with a member has carried so far.
    pub(super) fn run(
        &mut self,
        mut traffic: impl FnMut(MemberId) -> Option<Carried>,
        now: Instant,
        desk: &mut Desk,
    ) {
        let listed = self.open.values().filter(|channel| channel.listed).count();
        let listed = u32::try_from(listed).unwrap_or(u32::MAX);
        let busy = self.lag.as_millis() / BUSY.as_millis();
        let busy = 1 + u32::try_from(busy).unwrap_or(u32::MAX).min(MOST_BUSY);
        let others = self.probe.max(self.probe.saturating_mul(listed) / AT_ONCE);
        for (peer, channel) in &mut self.open {
            if !channel.listed || channel.probe_at > now {
                continue;
            }
            if self.trains.is_under_way(*peer) {
                // It would wait behind the train, and tell of that alone.
                channel.probe_at = now + BESIDE_TRAIN;
                continue;
            }
            if let Some((_, sent)) = channel.outstanding.back()
                && channel.attention.is_close()
                && now < *sent + attention::APART
            {
                // Behind one that is repeated it would wait, and tell of that alone.
                channel.probe_at = (now + attention::GAP / 4).min(*sent + attention::APART);
                continue;
            }
            let carried = traffic(*peer);
            // Whom the tree connects should know first that it had better not.
            let period = if carried.is_some() { self.probe / IN_TREE } else { others };
            channel.watch_traffic(carried, now);
            if channel.outstanding.len() >= OUTSTANDING
                && let Some((_, sent)) = channel.outstanding.pop_front()
            {
                channel.meter.record(sent, None, now);
            }
            self.serial += 1;
            channel.outstanding.push_back((self.serial, now));
            desk.stats.probes += 1;
            desk.put(Output::Probe { peer: *peer, serial: self.serial, train: 0 });
            channel.probe_at = now + channel.attention.on_sent(desk.about(period), now) * busy;
        }
        self.run_trains(traffic, now, desk);
    }

    /// Sends a train if one is due, none is under way, and nothing else moves.
    fn run_trains(
        &mut self,
        traffic: impl FnMut(MemberId) -> Option<Carried>,
        now: Instant,
        desk: &mut Desk,
    ) {
        let is_checked = self.open.values().any(Channel::is_maybe_wider);
        let is_due = self.next_train().is_some_and(|at| at <= now);
        if !is_checked && !is_due {
            return;
        }
        let carried = self.open.keys().copied().filter_map(traffic);
        let moved = carried.fold(0_u64, |sum, carried| sum.saturating_add(carried.in_all()));
        if is_checked {
            self.trains.look(moved, now);
        }
        if !is_due || !self.trains.is_quiet(moved, now) {
            return;
        }
        let due = self
            .open
            .iter()
            .filter(|(_, channel)| channel.may_train() && channel.train_at <= now)
            .min_by_key(|(_, channel)| channel.train_at)
            .map(|(peer, _)| *peer);
        if let Some(peer) = due {
            self.serial += 1;
            self.trains.send(peer, self.serial, Step::Warm, desk);
        }
    }

    /// When a train may be due, as far as is known now.
    fn next_train(&self) -> Option<Instant> {
        let wanted = self.open.values().filter(|channel| channel.may_train());
        self.trains.after(wanted.map(|channel| channel.train_at).min()?)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let probes =
            self.open.values().filter(|channel| channel.listed).map(|channel| channel.probe_at);
        probes.chain(self.next_train()).min()
    }
}

impl Carried {
    /// Bytes both ways.
    const fn in_all(self) -> u64 {
        self.came.saturating_add(self.went)
    }
}

fn kbps(bytes: u64, time: Duration) -> u32 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    u32::try_from(bytes.saturating_mul(8000) / micros).unwrap_or(u32::MAX)
}

impl Channel {
    fn state(&self) -> ChannelState {
        ChannelState { kind: self.kind, transport: self.transport, qos: self.meter.qos() }
    }

    /// Looks again at once at what is strange: a channel that got much worse is known to be so
    /// within a probe's period and some tenths of a second, and a hiccup is known as one.
    fn on_verdict(&mut self, verdict: Verdict, now: Instant) {
        if verdict == Verdict::Changed {
            // Its bandwidth may be another one as well.
            self.train_soon(now);
        }
        if self.attention.on_verdict(verdict, self.meter.is_recovering(), now) {
            self.probe_at = self.probe_at.min(now + attention::GAP);
        }
    }

    /// A heavy probe has come back, or not, after a light one that took `light`. True if the channel is
    /// wide again: by how much a train tells, and it may be left unused until then.
    fn on_heavy(&mut self, light: Duration, echo: Option<Echoed>, now: Instant) -> bool {
        let Some(echo) = echo else { return false };
        let verdict = self.meter.record_heavy(heavy::BYTES, light, echo.travelled());
        let is_wide = verdict == Verdict::Changed && self.meter.is_least();
        match verdict {
            Verdict::Same => {}
            Verdict::Strange => _ = self.heavy.check(now),
            Verdict::Changed => {
                self.heavy.end_check();
                self.train_soon(now);
            }
        }
        if is_wide {
            self.train_at = now;
        }
        if self.heavy.is_checking() {
            // The next follows the next light one.
            self.probe_at = self.probe_at.min(now + attention::GAP);
        }
        is_wide
    }

    /// Tells the application if the figures are others than those it was told.
    fn on_measured(&mut self, peer: MemberId, desk: &mut Desk) -> Changed {
        let qos = self.meter.qos();
        if quality::differ(self.told, qos, TOLD_PERCENT) {
            self.told = qos;
            self.tell(peer, desk);
        }
        if qos.is_some() { Changed::Quality } else { Changed::Nothing }
    }

    /// Live data shows a least bandwidth; and where there was more than the channel takes, how wide it
    /// is, without any train.
    fn watch_traffic(&mut self, carried: Option<Carried>, now: Instant) {
        let (Some((before, since)), Some(after)) = (self.carried, carried) else {
            self.carried = carried.map(|carried| (carried, now));
            return;
        };
        let is_full = before.is_full && after.is_full;
        // Over less, one frame would look like a stream.
        let time = now.saturating_duration_since(since);
        if time < LOOK {
            self.carried = Some((Carried { is_full, ..before }, since));
            return;
        }
        self.carried = Some((after, now));
        self.meter.carried(kbps(after.in_all().saturating_sub(before.in_all()), time));
        if is_full && self.meter.filled(kbps(after.went.saturating_sub(before.went), time)) {
            self.train_soon(now);
        }
    }

    fn train_soon(&mut self, now: Instant) {
        self.train_at = self.train_at.min(now + SOON);
        self.train_wait = SOON;
    }

    /// Circuits are measured by echoes alone: their relay has bounds on what it carries.
    fn wants_train(&self) -> bool {
        self.listed && self.kind == ChannelKind::Direct && self.meter.has_echo()
    }

    /// What heavy probes are about to tell need not wait for a train.
    fn may_train(&self) -> bool {
        self.wants_train() && !(self.heavy.is_checking() && self.wants_heavy())
    }

    /// Whether it is known to be narrow, and probes are about to tell if it still is.
    fn is_maybe_wider(&self) -> bool {
        self.heavy.is_checking() && self.meter.is_narrow(heavy::BYTES)
    }

    /// Whether it matters now how wide it is: it is in use and does not show it by what it carries, or
    /// would be used if it were wider. What is lost makes a channel look narrow, and is worse.
    fn wants_heavy(&self) -> bool {
        let is_idle = self.carried.is_some_and(|(carried, _)| !carried.is_full);
        let is_clear = self.heavy.is_checking() || !self.attention.is_uncertain();
        let loss = self.meter.qos().map_or(0, |qos| qos.loss_ppm);
        self.wants_train()
            && is_clear
            && loss <= LOSSY_PPM
            && (is_idle || self.meter.is_suspect() || self.meter.is_narrow(heavy::BYTES))
    }

    fn tell(&self, peer: MemberId, desk: &mut Desk) {
        desk.event(Event::Channel(ChannelEvent { peer, state: Some(self.state()) }));
    }
}

/// Channels that the engine keeps in mind. Whoever connects beyond that is ignored; the driver's
/// limit on connections is lower.
const KNOWN: usize = 4 * limits::CHANNELS;

/// A channel of the tree is probed so many times as often.
const IN_TREE: u32 = 4;

/// What processes take for a probe by being busy is that of about so many probes.
const LAGS: u32 = 8;

/// For each time that they take so long, one more period passes between two probes: machines that have more
/// to do than they can measure less, and what they measured would tell of that alone.
const BUSY: Duration = Duration::from_millis(10);

/// But no more than so many.
const MOST_BUSY: u32 = 7;

/// So many channels are probed in a period; more of them take turns, so that a node with many does not
/// spend its time on measuring. Those of the tree come on top.
const AT_ONCE: u32 = 8;

/// Where more probes are lost, heavy ones show little else, and that is reason enough to leave a channel.
const LOSSY_PPM: u32 = 200_000;

/// Not while the channels of a new member come up.
const FIRST_TRAIN: Duration = Duration::from_secs(5);

/// Two trains of 32 KiB in five minutes are 2 kbit/s.
const TRAIN: Duration = Duration::from_secs(5 * 60);

/// When a train, echoes or live data showed something unexpected; then twice as long each time.
const SOON: Duration = Duration::from_secs(5);

/// Echoes wait so long while a train is under way.
const BESIDE_TRAIN: Duration = Duration::from_millis(200);

/// Live data counts over at least this.
const LOOK: Duration = Duration::from_millis(1_500);

/// Probes under way on one channel; the oldest counts as lost when there are more.
const OUTSTANDING: usize = 8;

/// The application is told of changes larger than this.
const TOLD_PERCENT: u32 = 20;

#[cfg(test)]
mod tests;
