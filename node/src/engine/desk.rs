//! What all parts of the control half share: the way out, names for requests, chance, counters.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::{Incarnation, MemberId, SessionId},
    path, report, session,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    event::{Event, Output, RequestId},
    stats::Control,
};

/// Outputs in order, and what is needed to make them.
#[derive(Debug)]
pub(super) struct Desk {
    /// Drained after each input; one input puts in at most an event per member of a tree.
    outputs: VecDeque<Output>,
    requests: u64,
    rng: ChaCha8Rng,
    pub(super) me: MemberId,
    pub(super) incarnation: Incarnation,
    pub(super) session: SessionId,
    pub(super) coordinator: MemberId,
    pub(super) stats: Control,
}

impl Desk {
    pub(super) fn new(
        me: MemberId,
        incarnation: Incarnation,
        session: SessionId,
        coordinator: MemberId,
        seed: [u8; 32],
    ) -> Self {
        Self {
            outputs: VecDeque::new(),
            requests: 0,
            rng: ChaCha8Rng::from_seed(seed),
            me,
            incarnation,
            session,
            coordinator,
            stats: Control::default(),
        }
    }

    pub(super) fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.put(Output::Event(event));
    }

    pub(super) fn take(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn ask_session(&mut self, body: session::Request) -> RequestId {
        let request = self.name();
        self.stats.session_requests += 1;
        self.put(Output::SessionRequest { request, body });
        request
    }

    pub(super) fn ask_report(&mut self, body: report::Report) -> RequestId {
        let request = self.name();
        self.stats.reports += 1;
        self.put(Output::ReportRequest { request, body: Box::new(body) });
        request
    }

    pub(super) fn ask_path(&mut self, body: path::Request) -> RequestId {
        let request = self.name();
        match body {
            path::Request::Query { .. } => self.stats.queries += 1,
            path::Request::Subscribe { .. } => self.stats.subscribes += 1,
            path::Request::Unsubscribe { .. } => {}
        }
        self.put(Output::PathRequest { request, body });
        request
    }

    fn name(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// Some time from none to `most`.
    pub(super) fn jitter(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.rng.next_u64() % (most + 1))
    }

    /// `period` less up to a tenth, so that members that began together do not stay so.
    pub(super) fn about(&mut self, period: Duration) -> Duration {
        period.saturating_sub(self.jitter(period / 10))
    }
}

/// The earlier of two deadlines, where there are any.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a deadline has come.
pub(super) fn due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}
