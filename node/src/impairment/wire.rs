//! The channels of a node, and what passes on each: when packets are sent, lost and delivered.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arborcast_protocol::qos::MILLION;
use bytes::{Buf as _, Bytes};
use libp2p::PeerId;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Impairment;
use crate::driver::Tasks;

/// Bytes of one substream in flight in one direction: 1 MiB fills 200 Mbit/s over 40 ms.
const IN_FLIGHT: usize = 1 << 20;
/// How far a substream may run ahead of the rate, as the buffer of a router. What more there is waits
/// where it is, so that control and probes wait no longer than that behind data.
const BACKLOG: Duration = Duration::from_millis(200);
/// The largest packet, in bytes...
const PIECE: u64 = 16 * 1024;
/// ...and the smallest where the rate is low: a packet takes 20 ms there, but for such.
const SMALL_PIECE: u64 = 1024;
/// So many packets at the lowest rate: 50 each second.
const PIECES_PER_S: u64 = 50;

/// The channels of a node, and how each is impaired.
#[derive(Clone, Debug)]
pub(crate) struct Impairments {
    wires: Arc<Mutex<HashMap<PeerId, Arc<Wire>>>>,
    tasks: Tasks,
}

impl Impairments {
    /// Nothing is impaired yet.
    pub(crate) fn new(tasks: Tasks) -> Self {
        Self { wires: Arc::default(), tasks }
    }

    /// The wire to a peer; there is one, whatever connections there are.
    pub(crate) fn wire(&self, peer: PeerId) -> Arc<Wire> {
        let mut wires = lock(&self.wires);
        // Those that nobody uses are as good as new. So there are no more than connections and
        // impairments.
        wires.retain(|_, wire| Arc::strong_count(wire) > 1 || wire.is_impaired());
        let new = || Wire::new(self.tasks.clone());
        Arc::clone(wires.entry(peer).or_insert_with(new))
    }

    pub(crate) fn set(&self, peer: PeerId, impairment: Option<Impairment>) {
        self.wire(peer).set(impairment);
    }
}

/// Both directions of a channel.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(super) tasks: Tasks,
    impaired: AtomicBool,
    state: Mutex<WireState>,
}

#[derive(Debug)]
struct WireState {
    impairment: Option<Impairment>,
    /// When each direction is free for the next packet.
    free_at: [Option<Instant>; 2],
    rng: ChaCha8Rng,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Out,
    In,
}

/// A packet's way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// The wire is free again.
    sent: Instant,
    /// It is there.
    arrives: Instant,
}

impl Wire {
    fn new(tasks: Tasks) -> Arc<Self> {
        let mut seed = [0; 32];
        // Without random numbers losses and jitter follow a pattern, which harms nobody.
        let _ = getrandom::fill(&mut seed);
        let rng = ChaCha8Rng::from_seed(seed);
        let state = WireState { impairment: None, free_at: [None; 2], rng };
        Arc::new(Self { tasks, impaired: AtomicBool::new(false), state: Mutex::new(state) })
    }

    fn set(&self, impairment: Option<Impairment>) {
        lock(&self.state).impairment = impairment;
        self.impaired.store(impairment.is_some(), Ordering::Relaxed);
    }

    pub(super) fn is_impaired(&self) -> bool {
        self.impaired.load(Ordering::Relaxed)
    }

    /// Bytes of the largest packet.
    pub(super) fn piece(&self) -> usize {
        let rate = lock(&self.state).impairment.and_then(|impairment| impairment.rate_bps);
        let bytes = rate.map_or(PIECE, |bps| (bps / 8 / PIECES_PER_S).clamp(SMALL_PIECE, PIECE));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn pass(&self, direction: Direction, bytes: usize, now: Instant) -> Passage {
        let mut state = lock(&self.state);
        let WireState { impairment, free_at, rng } = &mut *state;
        let free_at = match direction {
            Direction::Out => &mut free_at[0],
            Direction::In => &mut free_at[1],
        };
        let Some(impairment) = impairment else {
            *free_at = None;
            return Passage { sent: now, arrives: now };
        };
        let mut sent = now;
        if let Some(bps) = impairment.rate_bps {
            let nanos = bytes as u64 * 8 * 1_000_000_000 / bps.max(1);
            sent = free_at.map_or(now, |free| free.max(now)) + Duration::from_nanos(nanos);
            *free_at = Some(sent);
        } else {
            *free_at = None;
        }
        let jitter = u64::try_from(impairment.jitter.as_nanos()).unwrap_or(u64::MAX);
        let swing = Duration::from_nanos(rng.random_range(0..=jitter.saturating_mul(2)));
        let mut arrives = (sent + impairment.delay + swing)
            .checked_sub(impairment.jitter)
            .unwrap_or(sent)
            .max(sent);
        if rng.random_range(0..MILLION) < impairment.loss_ppm {
            arrives += impairment.retransmission();
        }
        Passage { sent, arrives }
    }
}

/// What is held of one direction of a substream, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) queue: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last packet had left...
    sent: Option<Instant>,
    /// ...and when it arrives.
    arrives: Option<Instant>,
}

impl Held {
    pub(super) fn hold(&mut self, passage: Passage, bytes: Bytes) {
        let arrives = self.arrives.map_or(passage.arrives, |before| before.max(passage.arrives));
        (self.sent, self.arrives) = (Some(passage.sent), Some(arrives));
        self.bytes += bytes.len();
        self.queue.push_back((arrives, bytes));
    }

    /// When there is room for a packet; `None` if not before others have arrived.
    pub(super) fn room_at(&self, now: Instant) -> Option<Instant> {
        if self.bytes >= IN_FLIGHT {
            return None;
        }
        Some(self.sent.and_then(|sent| sent.checked_sub(BACKLOG)).map_or(now, |at| at.max(now)))
    }

    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.room_at(now) == Some(now)
    }

    /// The packet that has arrived, if any.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<&mut Bytes> {
        self.queue.front_mut().filter(|(at, _)| *at <= now).map(|(_, bytes)| bytes)
    }

    /// So many bytes of the first packet are done with.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some((_, first)) = self.queue.front_mut() {
            first.advance(bytes.min(first.len()));
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
