//! Telling the coordinator of channels (R1, patent: "first information"), their quality (R1, R3,
//! patent: "second information") and new edges that carry data (make before break).
//!
//! One report is under way at a time. What it says counts as reported once it is accepted; a report
//! whose fate is unknown is followed by a full one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::MemberId,
    limits::CHANNELS,
    qos::{ChannelKind, Qos, Transport},
    report::{Adjacency, Channel, ChannelQos, Report},
    tree::SignedHeader,
};

use super::{
    backoff::Backoff,
    call::Call,
    channels::Channels,
    config::LONGEST,
    desk::{Desk, due, earlier},
    event::RequestId,
};

/// What a report is made of.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    pub(super) channels: &'a Channels,
    pub(super) held: Option<SignedHeader>,
    pub(super) carrying: BTreeSet<MemberId>,
    pub(super) settled: bool,
}

/// What is reported, and what was.
#[derive(Debug)]
pub(super) struct Reporter {
    call: Call<Reported>,
    backoff: Backoff,
    reported: Reported,
    /// The coordinator knows nothing, or nobody knows what it knows.
    full: bool,
    /// For channels and edges.
    due_at: Option<Instant>,
    /// For quality that changed much.
    quality_at: Option<Instant>,
    /// For quality that changed at all (R3): each [`REFRESH`] periods.
    periodic_at: Option<Instant>,
    period: Duration,
    /// When quality was last reported.
    quality_reported: Option<Instant>,
    /// Nothing is sent before: the last report failed.
    not_before: Option<Instant>,
    /// The tree gave this node other edges since the last report was made.
    rewired: bool,
    /// Channels that came or went since then. One that went and came back is reported again, for the
    /// other end may have said that it is gone. At most [`TOUCHED`].
    touched: BTreeSet<MemberId>,
    /// Neighbours whose edges came to carry since then. One that did before is reported again: the
    /// coordinator may have seen the channel go meanwhile. At most [`TOUCHED`].
    carrying_anew: BTreeSet<MemberId>,
    /// Neighbours that the coordinator is to be told nothing is heard of. At most [`TOUCHED`].
    silent: BTreeSet<MemberId>,
    /// Who keeps this node waiting now.
    slow: BTreeSet<MemberId>,
}

/// What the coordinator has accepted. At most
/// [`arborcast_protocol::limits::CHANNELS`] entries each.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    adjacency: BTreeMap<MemberId, (ChannelKind, Transport)>,
    quality: BTreeMap<MemberId, Qos>,
    carrying: BTreeSet<MemberId>,
    /// Of whom this very report says that nothing is heard.
    silent: BTreeSet<MemberId>,
    /// Who keeps this node waiting.
    slow: BTreeSet<MemberId>,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self {
            call: Call::new(),
            backoff: Backoff::COORDINATOR,
            reported: Reported::default(),
            full: true,
            due_at: None,
            quality_at: None,
            periodic_at: None,
            period: LONGEST,
            quality_reported: None,
            not_before: None,
            rewired: false,
            touched: BTreeSet::new(),
            carrying_anew: BTreeSet::new(),
            silent: BTreeSet::new(),
            slow: BTreeSet::new(),
        }
    }

    /// The member was let in: reports all it has at once, and quality each `period` from now on.
    pub(super) fn on_joined(&mut self, period: Duration, now: Instant, desk: &mut Desk) {
        self.call.abandon();
        self.forget();
        self.period = period;
        self.periodic_at = Some(now + desk.about(period.saturating_mul(REFRESH)));
        self.backoff.reset();
        self.not_before = None;
        self.due_at = Some(now);
    }

    /// No answer can come any more: whether the report under way arrived is not known.
    pub(super) fn pause(&mut self) {
        if self.call.abandon().is_some() {
            self.forget();
        }
    }

    /// The coordinator can be asked again.
    pub(super) fn resume(&mut self, now: Instant) {
        self.due_at = Some(now);
    }

    fn forget(&mut self) {
        self.full = true;
        self.reported = Reported::default();
    }

    /// A channel came or went, or changed.
    pub(super) fn on_channel(&mut self, peer: MemberId, now: Instant) {
        if self.touched.len() >= TOUCHED {
            self.touched.clear();
            self.forget();
        }
        self.touched.insert(peer);
        self.on_change(now);
    }

    /// An edge carries data that did not before.
    pub(super) fn on_carrying(&mut self, peer: MemberId, now: Instant) {
        if self.carrying_anew.len() >= TOUCHED {
            self.carrying_anew.clear();
            self.forget();
        }
        self.carrying_anew.insert(peer);
        self.silent.remove(&peer);
        self.on_change(now);
    }

    /// An edge was given up because nothing came on it: reported at once, for others wait behind it.
    pub(super) fn on_silent(&mut self, peer: MemberId, now: Instant) {
        if self.silent.len() < TOUCHED {
            self.silent.insert(peer);
        }
        self.due_at = Some(now);
    }

    /// Others keep this node waiting than before: reported at once, also when it is over.
    pub(super) fn on_slow(&mut self, slow: BTreeSet<MemberId>, now: Instant) {
        self.slow = slow;
        self.due_at = Some(now);
    }

    fn on_change(&mut self, now: Instant) {
        self.due_at = earlier(self.due_at, Some(now + COALESCE));
    }

    /// The tree gave this node other edges: those that carry are reported, also the ones reported before.
    pub(super) fn on_rewired(&mut self, now: Instant) {
        self.rewired = true;
        self.reported.carrying.clear();
        self.on_change(now);
    }

    /// Some channel was measured: reported soon if the figures are far from those reported.
    /// True if so.
    pub(super) fn on_quality(&mut self, peer: MemberId, qos: Option<Qos>, now: Instant) -> bool {
        let before = self.reported.quality.get(&peer).copied();
        if self.quality_at.is_some() || !differ(before, qos, SOON_PERCENT) {
            return false;
        }
        let at = now + QUALITY_COALESCE;
        self.quality_at = Some(self.quality_reported.map_or(at, |last| at.max(last + QUALITY_GAP)));
        true
    }

    /// Whether `request` is the one under way.
    pub(super) fn awaits(&self, request: RequestId) -> bool {
        self.call.is(request)
    }

    /// The report was accepted.
    pub(super) fn on_accepted(&mut self, request: RequestId, report_full: bool, now: Instant) {
        let Some(mut reported) = self.call.finish(request) else { return };
        self.backoff.reset();
        self.not_before = None;
        if self.rewired {
            reported.carrying.clear();
        }
        for peer in std::mem::take(&mut reported.silent) {
            self.silent.remove(&peer);
        }
        self.reported = reported;
        self.full = false;
        if report_full {
            self.forget();
            self.due_at = Some(now);
        }
    }

    /// The report was not answered, or refused for now.
    pub(super) fn on_failure(&mut self, request: RequestId, now: Instant, desk: &mut Desk) {
        if self.call.finish(request).is_some() {
            self.forget();
            self.due_at = Some(now);
            self.not_before = Some(now + self.backoff.next(desk));
        }
    }

    pub(super) fn expired(&self, now: Instant) -> Option<RequestId> {
        self.call.expired(now)
    }

    /// Whether [`Reporter::run`] has something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.call.is_idle() && due(self.next(), now)
    }

    /// Reports, if that is due; only while the coordinator can be asked.
    pub(super) fn run(&mut self, sources: &Sources<'_>, now: Instant, desk: &mut Desk) {
        if !self.is_due(now) {
            return;
        }
        let is_all = self.full || due(self.periodic_at, now);
        let with_quality = is_all || due(self.quality_at, now);
        self.due_at = self.due_at.filter(|at| *at > now);
        if with_quality {
            self.quality_at = None;
        }
        if is_all {
            self.periodic_at = Some(now + desk.about(self.period.saturating_mul(REFRESH)));
        }
        let mut reported = self.reported.clone();
        for peer in std::mem::take(&mut self.touched) {
            if sources.channels.is_listed(peer) {
                reported.adjacency.remove(&peer);
            }
        }
        let adjacency = self.adjacency(sources, &mut reported);
        let qos =
            if with_quality { quality_of(sources, is_all, &mut reported) } else { Vec::new() };
        let anew = std::mem::take(&mut self.carrying_anew);
        let news =
            |peer: &&MemberId| !self.reported.carrying.contains(*peer) || anew.contains(*peer);
        let carrying: Vec<MemberId> = sources.carrying.iter().filter(news).copied().collect();
        reported.carrying.clone_from(&sources.carrying);
        reported.silent.clone_from(&self.silent);
        let silent: Vec<MemberId> = self.silent.iter().take(CHANNELS).copied().collect();
        // Repeated while it lasts: a coordinator that stood still, or is new, has forgotten it.
        let is_news = reported.slow != self.slow || !self.slow.is_empty();
        reported.slow.clone_from(&self.slow);
        let says_nothing = carrying.is_empty() && silent.is_empty() && !is_news;
        if adjacency.is_none() && qos.is_empty() && says_nothing {
            return;
        }
        if !qos.is_empty() {
            self.quality_reported = Some(now);
        }
        self.rewired = false;
        let request = desk.ask_report(Report {
            session: desk.session,
            incarnation: desk.incarnation,
            adjacency,
            qos,
            held: sources.held,
            carrying,
            settled: sources.settled,
            silent,
            slow: self.slow.iter().take(CHANNELS).copied().collect(),
        });
        self.call.start(request, reported, now);
    }

    /// What is to be said of the channels; afterwards it counts as reported.
    fn adjacency(&self, sources: &Sources<'_>, reported: &mut Reported) -> Option<Adjacency> {
        let current: BTreeMap<MemberId, (ChannelKind, Transport)> = sources
            .channels
            .listed()
            .map(|(peer, state)| (peer, (state.kind, state.transport)))
            .collect();
        let up: Vec<Channel> = current
            .iter()
            .filter(|(peer, over)| self.full || reported.adjacency.get(peer) != Some(over))
            .map(|(peer, (kind, transport))| Channel {
                peer: *peer,
                kind: *kind,
                transport: *transport,
            })
            .collect();
        let down: Vec<MemberId> =
            reported.adjacency.keys().filter(|peer| !current.contains_key(peer)).copied().collect();
        // Figures of another path, or of one that was given up, do not count any more.
        for peer in up.iter().map(|channel| &channel.peer).chain(&down) {
            reported.quality.remove(peer);
        }
        reported.adjacency = current;
        match (self.full, up.is_empty() && down.is_empty()) {
            (true, _) => Some(Adjacency::Full(up)),
            (false, false) => Some(Adjacency::Change { up, down }),
            (false, true) => None,
        }
    }

    fn next(&self) -> Option<Instant> {
        let next = earlier(self.due_at, earlier(self.quality_at, self.periodic_at))?;
        Some(self.not_before.map_or(next, |not_before| next.max(not_before)))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.call.is_idle() { self.next() } else { self.call.deadline() }
    }
}

/// The figures that are others than reported, by more than noise unless `is_all`; afterwards they are.
fn quality_of(sources: &Sources<'_>, is_all: bool, reported: &mut Reported) -> Vec<ChannelQos> {
    let mut changed = Vec::new();
    for (peer, state) in sources.channels.listed() {
        let before = reported.quality.get(&peer).copied();
        let Some(qos) = state.qos.filter(|qos| before != Some(*qos)) else { continue };
        if is_all || differ(before, Some(qos), SOON_PERCENT) {
            reported.quality.insert(peer, qos);
            changed.push(ChannelQos { peer, qos });
        }
    }
    changed
}

/// Whether two views of a channel differ by more than `percent` and by more than noise.
pub(super) fn differ(a: Option<Qos>, b: Option<Qos>, percent: u32) -> bool {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (None, None) => return false,
        (Some(_), None) | (None, Some(_)) => return true,
    };
    let time = |a: u32, b: u32| {
        let share = u64::from(a) * u64::from(percent) / 100;
        u64::from(a.abs_diff(b)) > share && a.abs_diff(b) >= NOISE_US
    };
    let width = match (a.bandwidth_kbps, b.bandwidth_kbps) {
        (Some(a), Some(b)) => a / 2 > b || b / 2 > a,
        (a, b) => a.is_some() != b.is_some(),
    };
    time(a.delay_us, b.delay_us)
        || time(a.jitter_us, b.jitter_us)
        || a.loss_ppm.abs_diff(b.loss_ppm) >= NOISE_PPM
        || width
}

/// More changes than that between two reports make the next one full.
const TOUCHED: usize = 4 * CHANNELS;

/// Channels come in bursts, when a node connects to all its candidates.
const COALESCE: Duration = Duration::from_millis(10);

/// First measurements come in bursts as well; the probes of a new channel take 60 ms and a round
/// trip.
const QUALITY_COALESCE: Duration = Duration::from_millis(100);

/// Quality is reported out of turn at most this often.
const QUALITY_GAP: Duration = Duration::from_secs(1);

/// And only for changes larger than this.
const SOON_PERCENT: u32 = 10;

/// Times that differ by less are equal.
const NOISE_US: u32 = 1000;

/// Shares that differ by less are equal.
const NOISE_PPM: u32 = 20_000;

/// Smaller changes are reported after so many periods.
const REFRESH: u32 = 12;
