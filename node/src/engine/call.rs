//! One request at a time to the coordinator.

use std::time::{Duration, Instant};

use super::event::RequestId;

/// The request that is under way, if any, with what the asker wants to remember of it.
#[derive(Debug)]
pub(super) struct Call<K> {
    current: Option<Current<K>>,
}

#[derive(Debug)]
struct Current<K> {
    request: RequestId,
    kind: K,
    until: Instant,
}

impl<K> Call<K> {
    pub(super) const fn new() -> Self {
        Self { current: None }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    pub(super) fn start(&mut self, request: RequestId, kind: K, now: Instant) {
        self.current = Some(Current { request, kind, until: now + PATIENCE });
    }

    /// Whether `request` is the one under way.
    pub(super) fn is(&self, request: RequestId) -> bool {
        self.current.as_ref().is_some_and(|current| current.request == request)
    }

    /// The answer to `request` came; `None` if that is not the one under way.
    pub(super) fn finish(&mut self, request: RequestId) -> Option<K> {
        self.current.take_if(|current| current.request == request).map(|current| current.kind)
    }

    /// No answer is waited for any more; one that comes is ignored.
    pub(super) fn abandon(&mut self) -> Option<K> {
        self.current.take().map(|current| current.kind)
    }

    /// The request whose time is over.
    pub(super) fn expired(&self, now: Instant) -> Option<RequestId> {
        self.current.as_ref().filter(|current| current.until <= now).map(|current| current.request)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|current| current.until)
    }
}

/// Longer than any time-out of a driver, which answers each request: a driver that forgets one
/// must not stop the engine for good.
const PATIENCE: Duration = Duration::from_secs(60);
