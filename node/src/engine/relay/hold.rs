//! Group data that waits to be passed on until the next hops were asked for (R11; patent, S304,
//! manner 2): whatever is new, received or of this node, in a buffer that overflows when it is full or
//! when something in it cannot wait any longer.
//!
//! Nothing is queued here either. Of each flow the numbers above a mark are held, and the frames stay
//! in the store like all others. What fills a gap below the mark passes: somebody waits for it. The
//! application gets everything at once, and reading goes on, so holding costs delay and nothing else.
//!
//! The buffer follows how sensitive the services in it are to delay (patent: "the buffer size may be
//! automatically set based on sensitivity of a service to a delay"): the one that can wait least sets
//! the time, and the size in proportion to it. So what comes at the rate that fills the buffer in the
//! time is asked for in the same way, whatever the service.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    frame::Header,
    id::{Flow, FrameNo, ServiceId},
};
use serde::{Deserialize, Serialize};

use super::{Output, Relay, flow::Inserted};
use crate::engine::config::{ConfigError, check};

/// How much is held, and for how long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "net", derive(documented::DocumentedFields))]
#[serde(default, deny_unknown_fields)]
pub struct Buffering {
    /// Bytes of frames in the buffer when it overflows, for a service that can wait 200 ms; others
    /// have in proportion, from 16 KiB to 4 MiB. Default 256 KiB (patent, manner 2). Never more than
    /// half of what a source may have under way, lest sources wait for themselves.
    pub bytes: u64,
    /// How long data of a service can wait. Default 200 ms, at most 5 s.
    #[serde(rename = "delay_ms", with = "crate::engine::millis")]
    pub delay: Duration,
    /// The same for single services, by their ids.
    #[serde(rename = "services_ms", with = "crate::engine::millis::by_service")]
    pub services: BTreeMap<ServiceId, Duration>,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { bytes: 256 * 1024, delay: REFERENCE, services: BTreeMap::new() }
    }
}

impl Buffering {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range.
    pub(in crate::engine) fn validate(&self) -> Result<(), ConfigError> {
        let bytes = (SMALLEST..=LARGEST).contains(&self.bytes);
        check("buffering.bytes", bytes, "from 16384 to 4194304 (4 MiB)")?;
        let delay = |delay: &Duration| (Duration::from_millis(1)..=LONGEST).contains(delay);
        check("buffering.delay_ms", delay(&self.delay), "from 1 to 5000")?;
        check("buffering.services_ms", self.services.values().all(delay), "from 1 to 5000 each")
    }

    /// The same with each figure brought into its range.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        self.bytes = self.bytes.clamp(SMALLEST, LARGEST);
        for delay in self.services.values_mut().chain([&mut self.delay]) {
            *delay = (*delay).min(LONGEST);
        }
        self
    }

    /// How long data of a service can wait.
    fn delay(&self, service: ServiceId) -> Duration {
        self.services.get(&service).copied().unwrap_or(self.delay)
    }

    /// Bytes in a buffer whose most sensitive service can wait for `delay`.
    fn size(&self, delay: Duration) -> u64 {
        let scaled = u128::from(self.bytes) * delay.as_micros() / REFERENCE.as_micros();
        u64::try_from(scaled).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST)
    }
}

/// The delay for which [`Buffering::bytes`] is meant.
const REFERENCE: Duration = Duration::from_millis(200);

/// The smallest buffer: a frame or two of speech.
const SMALLEST: u64 = 16 * 1024;

/// The largest: half of the greatest flow window would be twice that.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The longest that anything can wait. Neighbours that know of a held frame ask for it meanwhile; by
/// the time that they would give it up it is long under way.
const LONGEST: Duration = Duration::from_secs(5);

/// What is held now. Nothing at members that do not hold anything back.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    buffering: Option<Buffering>,
    /// Of each flow what lies above this. Emptied with the buffer; at most one for each flow.
    marks: BTreeMap<Flow, FrameNo>,
    bytes: u64,
    /// Bytes of live data that would be in it could it wait.
    passing: u64,
    /// Of the service in the buffer that can wait least.
    delay: Option<Duration>,
    /// When the first frame cannot wait any longer, for an answer or for being asked for.
    due: Option<Instant>,
    /// It overflowed: what is held waits for an answer, and nothing overflows anew.
    is_over: bool,
}

impl Hold {
    /// Whether a frame is held.
    pub(super) fn has(&self, flow: &Flow, number: FrameNo) -> bool {
        self.marks.get(flow).is_some_and(|mark| number > *mark)
    }

    /// The highest number up to `top` that is not held.
    pub(super) fn last(&self, flow: &Flow, top: FrameNo) -> FrameNo {
        self.marks.get(flow).map_or(top, |mark| top.min(*mark))
    }

    /// Whether it overflowed, and has not been emptied since.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// When to look at it.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes in a new frame that lies above all others of its flow. True if with it the buffer
    /// overflows, which holds `most` bytes at most.
    fn put(&mut self, header: &Header, bytes: u64, most: u64, now: Instant) -> bool {
        if self.buffering.is_none() {
            return false;
        }
        let mark = FrameNo(header.number.0.saturating_sub(1));
        self.marks.entry(header.flow()).or_insert(mark);
        self.bytes = self.bytes.saturating_add(bytes);
        self.count(header.service, most, now)
    }

    /// Something of a service came. True if with it the buffer overflows.
    fn count(&mut self, service: ServiceId, most: u64, now: Instant) -> bool {
        let Some(buffering) = &self.buffering else { return false };
        let delay = buffering.delay(service);
        let least = self.delay.map_or(delay, |least| least.min(delay));
        self.delay = Some(least);
        if self.is_over {
            return false;
        }
        let due = now + delay;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
        self.bytes.saturating_add(self.passing) >= buffering.size(least).min(most)
    }

    /// Empties it; gives the flows in it.
    fn take(&mut self) -> BTreeMap<Flow, FrameNo> {
        self.bytes = 0;
        self.passing = 0;
        self.delay = None;
        self.due = None;
        self.is_over = false;
        std::mem::take(&mut self.marks)
    }
}

impl Relay {
    /// From now on what is new is held until the next hops were asked for.
    pub fn start_holding(&mut self, buffering: Buffering) {
        self.hold.buffering = Some(buffering.clamped());
    }

    /// Nothing is held any more.
    pub fn stop_holding(&mut self) {
        self.hold.buffering = None;
        self.pass_on_held();
    }

    /// What overflowed, and what comes meanwhile, waits for an answer, and no longer than `until`.
    pub const fn await_answer(&mut self, until: Instant) {
        self.hold.is_over = true;
        self.hold.due = Some(until);
    }

    /// What is held goes to all neighbours that lack it.
    pub fn pass_on_held(&mut self) {
        for flow in self.hold.take().into_keys() {
            for edge in self.edges.values_mut().filter(|edge| edge.is_active()) {
                edge.ready.push(flow);
            }
        }
        self.stats.held_bytes = 0;
    }

    /// A frame came, or was made. What fills a gap is not held.
    pub(super) fn hold_back(&mut self, header: &Header, inserted: Inserted, now: Instant) {
        // What is for one member alone is not "to-be-distributed data" (patent, S304), and what
        // carries a tree says itself where to.
        if header.to.is_some() || header.in_band.is_some() {
            return;
        }
        let most = self.window() / 2;
        if !inserted.repair && self.hold.put(header, inserted.bytes, most, now) {
            self.overflow();
        }
        self.stats.held_bytes = self.hold.bytes;
    }

    /// Live data is passed on at once, for it cannot wait. But the next hops are asked for as if it
    /// did, lest it go old ways for ever.
    pub(super) fn count_as_held(&mut self, header: &Header, bytes: u64, now: Instant) {
        if self.hold.buffering.is_none() {
            return;
        }
        let most = self.window() / 2;
        self.hold.passing = self.hold.passing.saturating_add(bytes);
        if self.hold.count(header.service, most, now) {
            self.overflow();
        }
    }

    /// Something cannot wait any longer.
    pub(super) fn on_hold_due(&mut self, now: Instant) {
        if self.hold.due.is_some_and(|due| due <= now) {
            if self.hold.is_over {
                self.pass_on_held();
            } else {
                self.overflow();
            }
        }
    }

    fn overflow(&mut self) {
        self.hold.is_over = true;
        self.hold.due = None;
        self.stats.overflows += 1;
        self.outputs.push_back(Output::Overflow);
    }
}
