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

use super::{
    desk::Desk,
    event::{ChannelEvent, ChannelState, Event, Output},
    quality::{self, Meter},
};

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
    /// Probes of the first burst still to be sent.
    burst: u32,
    /// Probes without outcome, oldest first; at most [`OUTSTANDING`].
    outstanding: VecDeque<u64>,
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
        Self { probe, open: BTreeMap::new(), serial: 0, arrivals: 0 }
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
        // What was measured over another path says nothing about this one.
        let channel = Channel {
            kind,
            transport,
            meter: Meter::default(),
            told: None,
            listed,
            arrival,
            probe_at: now,
            burst: BURST,
            outstanding: VecDeque::new(),
        };
        channel.tell(peer, desk);
        self.open.insert(peer, channel);
        if listed { Changed::Adjacency } else { Changed::Nothing }
    }

    pub(super) fn on_down(&mut self, peer: MemberId, now: Instant, desk: &mut Desk) -> Changed {
        let Some(gone) = self.open.remove(&peer) else { return Changed::Nothing };
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
        round_trip: Option<Duration>,
        desk: &mut Desk,
    ) -> Changed {
        let Some(channel) = self.open.get_mut(&peer) else { return Changed::Nothing };
        let Some(at) = channel.outstanding.iter().position(|other| *other == serial) else {
            return Changed::Nothing;
        };
        channel.outstanding.remove(at);
        channel.meter.record(round_trip);
        let qos = channel.meter.qos();
        if quality::differ(channel.told, qos, TOLD_PERCENT) {
            channel.told = qos;
            channel.tell(peer, desk);
        }
        if qos.is_some() { Changed::Quality } else { Changed::Nothing }
    }

    /// Sends the probes that are due.
    pub(super) fn run(&mut self, now: Instant, desk: &mut Desk) {
        for (peer, channel) in &mut self.open {
            if !channel.listed || channel.probe_at > now {
                continue;
            }
            if channel.outstanding.len() >= OUTSTANDING {
                channel.outstanding.pop_front();
                channel.meter.record(None);
            }
            self.serial += 1;
            channel.outstanding.push_back(self.serial);
            desk.stats.probes += 1;
            desk.put(Output::Probe { peer: *peer, serial: self.serial });
            channel.burst = channel.burst.saturating_sub(1);
            let wait = if channel.burst > 0 { BURST_GAP } else { desk.about(self.probe) };
            channel.probe_at = now + wait;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.values().filter(|channel| channel.listed).map(|channel| channel.probe_at).min()
    }
}

impl Channel {
    fn state(&self) -> ChannelState {
        ChannelState { kind: self.kind, transport: self.transport, qos: self.meter.qos() }
    }

    fn tell(&self, peer: MemberId, desk: &mut Desk) {
        desk.event(Event::Channel(ChannelEvent { peer, state: Some(self.state()) }));
    }
}

/// Channels that the engine keeps in mind. Whoever connects beyond that is ignored; the driver's
/// limit on connections is lower.
const KNOWN: usize = 4 * limits::CHANNELS;

/// A new channel is measured so many times at once, so that it can soon be chosen.
const BURST: u32 = 3;

/// Between the probes of the burst.
const BURST_GAP: Duration = Duration::from_millis(30);

/// Probes under way on one channel; the oldest counts as lost when there are more.
const OUTSTANDING: usize = 8;

/// The application is told of changes larger than this.
const TOLD_PERCENT: u32 = 20;
