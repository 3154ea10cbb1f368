//! Which messages of a member are confirmed by all who are present, and which not yet.

use std::{collections::VecDeque, time::Duration};

use arborcast::protocol::id::SeqNo;
use tokio::time::Instant;

/// Which messages of this member are not confirmed yet.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// In order. Bounded by what the session takes in.
    pub(super) open: VecDeque<(u64, Instant)>,
    /// All up to this one are confirmed.
    pub(super) confirmed: u64,
    /// By so many members.
    pub(super) members: u32,
    /// Messages taken in.
    pub(super) taken: u64,
}

impl Receipts {
    pub(super) fn on_taken(&mut self, seq: SeqNo) {
        self.taken += 1;
        self.open.push_back((seq.0, Instant::now()));
    }

    pub(super) fn on_delivered(&mut self, seq: SeqNo, members: u32) {
        self.confirmed = self.confirmed.max(seq.0);
        self.members = members;
    }

    /// Nobody else is there to confirm anything. Whether that closes any.
    pub(super) fn on_alone(&mut self) -> bool {
        let Some((last, _)) = self.open.back() else { return false };
        self.confirmed = self.confirmed.max(*last);
        self.members = 0;
        true
    }

    /// The next message that is confirmed: its number, by how many, how long it took.
    pub(super) fn next(&mut self) -> Option<(u64, u32, Duration)> {
        let (seq, taken) = *self.open.front()?;
        if seq > self.confirmed {
            return None;
        }
        self.open.pop_front();
        Some((seq, self.members, taken.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_that_comes_before_its_number_is_not_lost() {
        let mut receipts = Receipts::default();
        receipts.on_delivered(SeqNo(2), 3);
        assert_eq!(receipts.next(), None);
        for seq in 1..=3 {
            receipts.on_taken(SeqNo(seq));
        }
        assert_eq!(receipts.next().map(|(seq, members, _)| (seq, members)), Some((1, 3)));
        assert_eq!(receipts.next().map(|(seq, ..)| seq), Some(2));
        assert_eq!(receipts.next(), None);
        assert_eq!(receipts.open.len(), 1);
    }

    #[test]
    fn alone_everything_counts_as_delivered_to_nobody() {
        let mut receipts = Receipts::default();
        assert!(!receipts.on_alone());
        receipts.on_taken(SeqNo(1));
        assert!(receipts.on_alone());
        assert_eq!(receipts.next().map(|(seq, members, _)| (seq, members)), Some((1, 0)));
    }
}
