//! Which messages of a member are confirmed by all who should get them, and which not yet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::protocol::id::{MemberId, SeqNo};
use tokio::time::Instant;

/// Which messages of this member are not confirmed yet.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Of those for all, under `None`, and of those for one receiver each. Bounded by the session's
    /// receivers.
    lanes: BTreeMap<Option<MemberId>, Lane>,
    /// By so many members, the last time that some were for all.
    pub(super) members: u32,
    /// Messages taken in.
    pub(super) taken: u64,
    /// Messages of class live taken in, which nobody confirms.
    pub(super) live: u64,
    /// Messages whose only receiver left without them.
    pub(super) missed: u64,
    /// Who is known to lack some of those for which nobody waits any more.
    pub(super) lacking: BTreeSet<MemberId>,
}

#[derive(Debug, Default)]
struct Lane {
    /// In order. Bounded by what the session takes in.
    open: VecDeque<(u64, Instant)>,
    /// All up to this one are confirmed, but those that were missed...
    confirmed: u64,
    /// ...by so many members.
    members: u32,
    /// Ranges that the receiver left without, as long as some of them may be open.
    missed: Vec<(u64, u64)>,
}

/// What became of a message.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Receipt {
    pub(super) seq: u64,
    /// By how many it is confirmed.
    pub(super) members: u32,
    /// How long that took.
    pub(super) took: Duration,
    /// Its only receiver, if that left without it.
    pub(super) missed_by: Option<MemberId>,
}

impl Receipts {
    pub(super) fn on_taken(&mut self, seq: SeqNo, to: Option<MemberId>) {
        self.taken += 1;
        self.lanes.entry(to).or_default().open.push_back((seq.0, Instant::now()));
    }

    pub(super) fn on_delivered(&mut self, seq: SeqNo, members: u32, to: Option<MemberId>) {
        let lane = self.lanes.entry(to).or_default();
        lane.confirmed = lane.confirmed.max(seq.0);
        lane.members = members;
        self.members = members;
    }

    pub(super) fn on_missed(&mut self, to: MemberId, from: SeqNo, last: SeqNo) {
        let lane = self.lanes.entry(Some(to)).or_default();
        lane.confirmed = lane.confirmed.max(last.0);
        lane.missed.push((from.0, last.0));
    }

    /// Nobody else is there to confirm anything that is for all. Whether that closes any.
    pub(super) fn on_alone(&mut self) -> bool {
        let Some(lane) = self.lanes.get_mut(&None) else { return false };
        let Some((last, _)) = lane.open.back() else { return false };
        lane.confirmed = lane.confirmed.max(*last);
        lane.members = 0;
        self.members = 0;
        true
    }

    /// Members that are not known to have a message.
    pub(super) fn on_lacking(&mut self, seq: SeqNo, to: Option<MemberId>, missing: &[MemberId]) {
        let open = self.lanes.get(&to).is_some_and(|lane| seq.0 > lane.confirmed);
        if open {
            self.lacking.extend(missing);
        }
    }

    /// Those that are not confirmed, with their only receivers.
    pub(super) fn open_messages(&self) -> impl Iterator<Item = (Option<MemberId>, SeqNo)> {
        let lanes = self.lanes.iter();
        lanes.flat_map(|(to, lane)| lane.open.iter().map(|(seq, _)| (*to, SeqNo(*seq))))
    }

    /// The oldest of them, of those for all and of those for each receiver.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (Option<MemberId>, SeqNo)> {
        let oldest = |lane: &Lane| lane.open.front().map(|(seq, _)| SeqNo(*seq));
        self.lanes.iter().filter_map(move |(to, lane)| Some((*to, oldest(lane)?)))
    }

    /// How many are not confirmed.
    pub(super) fn open(&self) -> u64 {
        self.lanes.values().map(|lane| lane.open.len() as u64).sum()
    }

    /// Who should confirm them: `None` for all, if some are for all, and single receivers.
    pub(super) fn awaited(&self) -> impl Iterator<Item = Option<MemberId>> {
        self.lanes.iter().filter(|(_, lane)| !lane.open.is_empty()).map(|(to, _)| *to)
    }

    /// Rises whenever something is confirmed.
    pub(super) fn confirmed(&self) -> u64 {
        self.lanes.values().fold(0, |sum, lane| sum.saturating_add(lane.confirmed))
    }

    /// The next message of which it is known what became of it.
    pub(super) fn next(&mut self) -> Option<Receipt> {
        let (to, lane) = self
            .lanes
            .iter_mut()
            .find(|(_, lane)| lane.open.front().is_some_and(|(seq, _)| *seq <= lane.confirmed))?;
        let (seq, taken) = lane.open.pop_front()?;
        lane.missed.retain(|(_, last)| *last >= seq);
        let missed = lane.missed.iter().any(|(from, last)| (*from..=*last).contains(&seq));
        self.missed += u64::from(missed);
        let missed_by = to.filter(|_| missed);
        Some(Receipt { seq, members: lane.members, took: taken.elapsed(), missed_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(receipts: &mut Receipts) -> Option<(u64, u32, bool)> {
        receipts.next().map(|next| (next.seq, next.members, next.missed_by.is_some()))
    }

    #[test]
    fn a_receipt_that_comes_before_its_number_is_not_lost() {
        let mut receipts = Receipts::default();
        receipts.on_delivered(SeqNo(2), 3, None);
        assert_eq!(receipts.next(), None);
        for seq in 1..=3 {
            receipts.on_taken(SeqNo(seq), None);
        }
        assert_eq!(next(&mut receipts), Some((1, 3, false)));
        assert_eq!(next(&mut receipts), Some((2, 3, false)));
        assert_eq!(receipts.next(), None);
        assert_eq!(receipts.open(), 1);
    }

    #[test]
    fn alone_everything_counts_as_delivered_to_nobody() {
        let mut receipts = Receipts::default();
        assert!(!receipts.on_alone());
        receipts.on_taken(SeqNo(1), None);
        assert!(receipts.on_alone());
        assert_eq!(next(&mut receipts), Some((1, 0, false)));
    }

    #[test]
    fn r9_what_is_for_one_is_confirmed_by_that_one() {
        let mut receipts = Receipts::default();
        let to = MemberId::from_bytes([1; 32]);
        receipts.on_taken(SeqNo(1), Some(to));
        receipts.on_taken(SeqNo(2), None);
        receipts.on_taken(SeqNo(3), Some(to));
        receipts.on_taken(SeqNo(4), Some(to));
        receipts.on_delivered(SeqNo(2), 4, None);
        assert_eq!(next(&mut receipts), Some((2, 4, false)));
        assert_eq!(receipts.next(), None);
        assert_eq!(receipts.awaited().collect::<Vec<_>>(), [Some(to)]);
        receipts.on_delivered(SeqNo(1), 1, Some(to));
        assert_eq!(next(&mut receipts), Some((1, 1, false)));
        receipts.on_missed(to, SeqNo(3), SeqNo(3));
        receipts.on_delivered(SeqNo(4), 1, Some(to));
        assert_eq!(next(&mut receipts), Some((3, 1, true)));
        assert_eq!(next(&mut receipts), Some((4, 1, false)));
        assert_eq!((receipts.open(), receipts.missed), (0, 1));
    }
}
