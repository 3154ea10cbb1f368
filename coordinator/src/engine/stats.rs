//! What the engine counts, as plain numbers.

use std::collections::BTreeMap;

use arborcast_protocol::refusal::Code;

/// Counters since the start, and the gauges `sessions` and `members`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Sessions now.
    pub sessions: u64,
    /// Members of all sessions now.
    pub members: u64,
    /// Times that somebody asked where a session is coordinated.
    pub locates: u64,
    /// Challenges drawn.
    pub challenges: u64,
    /// Members let in.
    pub joins: u64,
    /// Joins of members that were in already, in the same incarnation.
    pub refreshes: u64,
    /// Members whose newer incarnation took their place.
    pub replaced: u64,
    /// Renewals.
    pub renewals: u64,
    /// Members that left.
    pub leaves: u64,
    /// Members dropped because their lease ended.
    pub expired: u64,
    /// Times that the coordinator itself stood still.
    pub pauses: u64,
    /// Members dropped because their connection and all their channels were gone.
    pub dead: u64,
    /// Times that a relay became a leaf because it kept others waiting.
    pub moved: u64,
    /// Members dropped because they kept others waiting.
    pub detached: u64,
    /// Reports accepted.
    pub reports: u64,
    /// Queries answered.
    pub queries: u64,
    /// Subscriptions made.
    pub subscribes: u64,
    /// Computations of a tree.
    pub recomputes: u64,
    /// Trees published.
    pub epochs: u64,
    /// Edges that did not carry in time and so were held back.
    pub withdrawn: u64,
    /// Figures of channel quality that were out of range and so were brought into it.
    pub clamped: u64,
    /// Members appointed to count as settled.
    pub appointed: u64,
    /// Notices sent.
    pub notices: u64,
    /// Notices that did not arrive.
    pub notices_failed: u64,
    /// Requests refused, by code.
    pub refusals: BTreeMap<Code, u64>,
}

impl Stats {
    /// Requests refused for this reason.
    #[must_use]
    pub fn refused(&self, code: Code) -> u64 {
        self.refusals.get(&code).copied().unwrap_or(0)
    }

    pub(crate) fn count_refusal(&mut self, code: Code) {
        *self.refusals.entry(code).or_default() += 1;
    }
}
