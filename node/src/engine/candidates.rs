//! Members that the coordinator named, and when to dial which.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::MemberId,
    limits,
    session::{Address, Contact},
};

use super::{backoff::Backoff, desk::Desk, event::Output};

/// Everybody that could be dialled.
#[derive(Debug)]
pub(super) struct Candidates {
    /// At most [`KNOWN`].
    known: BTreeMap<MemberId, Candidate>,
}

#[derive(Debug)]
struct Candidate {
    addresses: Vec<Address>,
    backoff: Backoff,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is a channel; since then, if it is known.
    Connected(Option<Instant>),
    /// To be dialled then.
    Waiting(Instant),
    /// Under way; given up then.
    Dialling(Instant),
    /// Failed too often; dialled again when somebody names it anew, or the tree wants it.
    GivenUp,
}

impl Candidates {
    pub(super) const fn new() -> Self {
        Self { known: BTreeMap::new() }
    }

    /// The coordinator named these.
    pub(super) fn on_named(
        &mut self,
        contacts: Vec<Contact>,
        has_channel: impl Fn(MemberId) -> bool,
        now: Instant,
        desk: &Desk,
    ) {
        for Contact { member, mut addresses } in contacts.into_iter().take(limits::CANDIDATES) {
            if member == desk.me || member == desk.coordinator {
                continue;
            }
            addresses.retain(|address| address.0.len() <= limits::ADDRESS);
            addresses.truncate(limits::ADDRESSES);
            if let Some(known) = self.known.get_mut(&member) {
                if known.state == State::GivenUp || known.addresses != addresses {
                    known.backoff.reset();
                    if !matches!(known.state, State::Connected(_) | State::Dialling(_)) {
                        known.state = State::Waiting(now);
                    }
                }
                known.addresses = addresses;
                continue;
            }
            if self.known.len() >= KNOWN && !self.make_room() {
                continue;
            }
            let state =
                if has_channel(member) { State::Connected(None) } else { State::Waiting(now) };
            self.known.insert(member, Candidate { addresses, backoff: Backoff::DIAL, state });
        }
    }

    /// Forgets the one that failed most.
    fn make_room(&mut self) -> bool {
        let worst = self
            .known
            .iter()
            .filter(|(_, known)| matches!(known.state, State::Waiting(_) | State::GivenUp))
            .max_by_key(|(_, known)| known.backoff.tries())
            .filter(|(_, known)| known.backoff.tries() > 0)
            .map(|(member, _)| *member);
        worst.is_some_and(|worst| self.known.remove(&worst).is_some())
    }

    pub(super) fn on_up(&mut self, peer: MemberId, now: Instant) {
        if let Some(known) = self.known.get_mut(&peer)
            && !matches!(known.state, State::Connected(_))
        {
            known.state = State::Connected(Some(now));
        }
    }

    /// A neighbour is dialled again at once, others after a while. Whoever closes channels as soon as
    /// they are up, because it does not want any with this node, is dialled ever more seldom.
    pub(super) fn on_down(&mut self, peer: MemberId, wanted: bool, now: Instant, desk: &mut Desk) {
        if let Some(known) = self.known.get_mut(&peer) {
            let lasted = match known.state {
                State::Connected(Some(since)) => now.saturating_duration_since(since) >= LASTING,
                State::Connected(None) => true,
                State::Waiting(_) | State::Dialling(_) | State::GivenUp => false,
            };
            if lasted {
                known.backoff.reset();
            }
            let again = known.backoff.tries() > 0;
            let wait = known.backoff.next(desk);
            let wait = if wanted && !again { Duration::ZERO } else { wait };
            known.state = State::Waiting(now + wait);
        }
    }

    /// It was denied, and is not any more.
    pub(super) fn on_allowed(&mut self, peer: MemberId, now: Instant) {
        if let Some(known) = self.known.get_mut(&peer)
            && !matches!(known.state, State::Connected(_))
        {
            known.backoff.reset();
            known.state = State::Waiting(now);
        }
    }

    /// Whoever could not be reached is tried again, spread over a moment.
    pub(super) fn on_network_changed(&mut self, now: Instant, desk: &mut Desk) {
        for known in self.known.values_mut() {
            if matches!(known.state, State::Waiting(_) | State::GivenUp) {
                known.backoff.reset();
                known.state = State::Waiting(now + desk.jitter(AGAIN));
            }
        }
    }

    pub(super) fn on_failed(&mut self, peer: MemberId, now: Instant, desk: &mut Desk) {
        let Some(known) = self.known.get_mut(&peer) else { return };
        if !matches!(known.state, State::Dialling(_)) {
            return;
        }
        let at = now + known.backoff.next(desk);
        known.state =
            if known.backoff.tries() >= TRIES { State::GivenUp } else { State::Waiting(at) };
    }

    /// The tree wants channels with these.
    pub(super) fn on_wanted(&mut self, peers: &BTreeSet<MemberId>, now: Instant) {
        for peer in peers {
            if let Some(known) = self.known.get_mut(peer)
                && known.state == State::GivenUp
            {
                known.backoff.reset();
                known.state = State::Waiting(now);
            }
        }
    }

    /// Dials whom it is time for, neighbours first. Others only while this node has fewer channels
    /// than it may report.
    pub(super) fn run(
        &mut self,
        channels: usize,
        wanted: impl Fn(MemberId) -> bool,
        now: Instant,
        desk: &mut Desk,
    ) {
        let late: Vec<MemberId> = self
            .known
            .iter()
            .filter(|(_, known)| matches!(known.state, State::Dialling(until) if until <= now))
            .map(|(member, _)| *member)
            .collect();
        for member in late {
            self.on_failed(member, now, desk);
        }
        let mut dialling = self.dialling();
        for neighbours in [true, false] {
            for (member, known) in &mut self.known {
                let State::Waiting(at) = known.state else { continue };
                let room = neighbours || channels + dialling < limits::CHANNELS;
                if at > now || wanted(*member) != neighbours || dialling >= DIALLING || !room {
                    continue;
                }
                dialling += 1;
                known.state = State::Dialling(now + DIAL);
                desk.stats.dials += 1;
                let addresses = known.addresses.clone();
                desk.put(Output::Dial(Contact { member: *member, addresses }));
            }
        }
    }

    fn dialling(&self) -> usize {
        let dialling = |known: &&Candidate| matches!(known.state, State::Dialling(_));
        self.known.values().filter(dialling).count()
    }

    /// What is due already waits for room, and so for an input, not for time.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.known
            .values()
            .filter_map(|known| match known.state {
                State::Waiting(at) => Some(at).filter(|at| *at > now),
                State::Dialling(until) => Some(until),
                State::Connected(_) | State::GivenUp => None,
            })
            .min()
    }
}

/// Members kept in mind: some answers full of candidates.
const KNOWN: usize = 8 * limits::CANDIDATES;

/// Dials under way: hole punching sends bursts, and home routers have small tables.
const DIALLING: usize = 8;

/// Longer than a driver takes for one dial, circuit and punching included.
const DIAL: Duration = Duration::from_secs(90);

/// When the network changed, all are dialled again within this time.
const AGAIN: Duration = Duration::from_secs(1);

/// A channel that was up for so long was meant to be.
const LASTING: Duration = Duration::from_secs(5);

/// After so many failures, some five minutes, a member is left alone.
const TRIES: u32 = 10;
