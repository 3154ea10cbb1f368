//! Which large messages are put together at a time.
//!
//! Pieces count as delivered one by one, since a message may be larger than the window of its
//! source. So nothing would bound the memory of messages that are half there. Therefore the whole
//! declared size of a message is set aside before its first piece is taken. Where there is no room
//! the pieces stay undelivered, hence unreleased, and the window of their source closes.
//!
//! # Why nobody waits for ever
//! Two members could begin with one each of two messages and wait for room for the other, while
//! the sources wait for both. So a message of the lowest flow is taken whatever room there is: of
//! all flows that wait anywhere, take the lowest. Where it waits a lower flow is begun (else it
//! would be taken), and that one waits nowhere, so it comes to its end. Then whatever has waited
//! longest comes next. The price: the budget is exceeded by a message each time a flow comes that
//! is lower than all that are begun; in random order the logarithm of the number of sources.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arborcast_protocol::id::Flow;

/// The messages that are begun and the flows that wait to begin one. Each flow is at most once in
/// either, so both are bounded by the number of flows.
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    /// Declared sizes in bytes.
    begun: BTreeMap<Flow, u64>,
    reserved: u64,
    waiting: BTreeSet<Flow>,
    /// The same, longest waiting first.
    queue: VecDeque<Flow>,
}

impl Admission {
    /// Whether a flow may begin a message of that many bytes. If not, it waits from now on; if so,
    /// the bytes are set aside until [`Self::end`].
    pub(super) fn begin(&mut self, flow: Flow, bytes: u64, budget: u64) -> bool {
        self.end(&flow);
        let first = self.queue.front().is_none_or(|first| *first == flow);
        let fits = self.reserved.checked_add(bytes).is_some_and(|sum| sum <= budget);
        let lowest = self.begun.first_key_value().is_none_or(|(lowest, _)| flow < *lowest);
        let may_begin = (first && fits) || lowest;
        if may_begin {
            self.stop_waiting(&flow);
            self.reserved = self.reserved.saturating_add(bytes);
            self.begun.insert(flow, bytes);
        } else if self.waiting.insert(flow) {
            self.queue.push_back(flow);
        }
        may_begin
    }

    /// The flow is not in the middle of a message.
    pub(super) fn end(&mut self, flow: &Flow) {
        if let Some(bytes) = self.begun.remove(flow) {
            self.reserved = self.reserved.saturating_sub(bytes);
        }
    }

    /// The flow is no more.
    pub(super) fn forget(&mut self, flow: &Flow) {
        self.end(flow);
        self.stop_waiting(flow);
    }

    pub(super) fn is_waiting(&self, flow: &Flow) -> bool {
        self.waiting.contains(flow)
    }

    /// The flows that could begin now if any can: the lowest, and the one that has waited longest.
    /// The last one is to be tried first.
    pub(super) fn next(&self) -> impl Iterator<Item = Flow> + use<> {
        [self.waiting.first().copied(), self.queue.front().copied()].into_iter().flatten()
    }

    /// How much changes for others: whoever is told to try again may fare otherwise if this differs.
    pub(super) fn state(&self) -> (usize, u64, usize) {
        (self.begun.len(), self.reserved, self.queue.len())
    }

    fn stop_waiting(&mut self, flow: &Flow) {
        if self.waiting.remove(flow) {
            self.queue.retain(|other| other != flow);
        }
    }
}

#[cfg(test)]
mod tests;
