//! Counters of the control half, and both halves together.

use super::relay;

/// What the engine has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Stats<'a> {
    /// Towards the coordinator and other members.
    pub control: Control,
    /// The data plane.
    pub relay: &'a relay::Stats,
}

/// Counters of the control half; they only rise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Control {
    /// Queries sent (R4).
    pub queries: u64,
    /// Subscriptions sent (R5).
    pub subscribes: u64,
    /// Requests sent to join, stay and leave.
    pub session_requests: u64,
    /// Reports sent (R1, R3).
    pub reports: u64,
    /// Requests of any kind that nobody answered.
    pub unanswered: u64,
    /// Times the coordinator let the node in.
    pub joins: u64,
    /// Trees taken up.
    pub epochs: u64,
    /// Updates that brought nothing new: late, doubled, or of another session.
    pub stale_updates: u64,
    /// Updates that could not be used: a gap before them, a wrong hash, no content.
    pub unusable_updates: u64,
    /// Pushes under a key that was not known yet.
    pub unopened_pushes: u64,
    /// Members dialled.
    pub dials: u64,
    /// Probes sent.
    pub probes: u64,
    /// Trains sent to measure bandwidth.
    pub trains: u64,
    /// Edges that this end tried to open.
    pub edges_opened: u64,
    /// Edges that came up, parked ones included.
    pub edges_up: u64,
}
