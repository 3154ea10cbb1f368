//! Nothing is lost: every message reaches every member that was there when it was sent and stays, and
//! what a source is told of receipts is true.

use arborcast_protocol::id::{Flow, MemberId, SeqNo};

use crate::{
    model::{Fate, Lane, Model, Reader, Run},
    sim::Who,
};

/// Losses that were reported where they may be.
#[derive(Debug, Default)]
pub struct Complete {
    /// Reports of losses.
    pub losses: u64,
    /// Messages for one receiver alone that were given up because it had left.
    pub missed: u64,
}

impl Complete {
    /// A source is told that all present have its messages for all up to `seq`, or the only receiver
    /// those for it alone.
    pub fn receipt(&self, model: &Model, lane: Lane, seq: SeqNo) -> Result<(), String> {
        let (run, to) = lane;
        let Some(source) = model.sources.get(&run) else { return Ok(()) };
        for (who, reader) in &model.readers {
            let Some(from) = reader.owed.get(&lane).filter(|from| **from <= seq) else { continue };
            let last = model.got(*who, lane).last;
            let next = source.next_reliable(last.max(SeqNo(from.0.saturating_sub(1))), to);
            if next.is_some_and(|next| next <= seq) {
                return Err(format!(
                    "{:?} is told that all have its messages up to #{seq}, but {who:?} was given \
                     #{last} last",
                    source.who
                ));
            }
        }
        Ok(())
    }

    /// A source is told that some members have its messages for all up to `seq`.
    pub fn confirmed(
        &self,
        model: &Model,
        run: Run,
        seq: SeqNo,
        have: impl Fn(Who, MemberId) -> bool,
    ) -> Result<(), String> {
        let lane = (run, None);
        let Some(source) = model.sources.get(&run) else { return Ok(()) };
        for (who, reader) in &model.readers {
            let from = reader.owed.get(&lane).filter(|from| **from <= seq);
            let Some(from) = from.filter(|_| reader.me.is_some_and(|me| have(*who, me))) else {
                continue;
            };
            let last = model.got(*who, lane).last.max(SeqNo(from.0.saturating_sub(1)));
            if source.next_reliable(last, None).is_some_and(|next| next <= seq) {
                return Err(format!(
                    "{:?} is told that {who:?} has #{seq}, but it has #{last}",
                    source.who
                ));
            }
        }
        Ok(())
    }

    /// A source is told that a receiver left before it had messages for it alone. The receiver, should it be
    /// back in the same run, is told of those alone that were under way.
    pub fn missed(
        &mut self,
        model: &mut Model,
        lane: Lane,
        (from, last): (SeqNo, SeqNo),
        reason: impl std::fmt::Display,
    ) -> Result<(), String> {
        self.missed += 1;
        let meant = |(who, reader): (&Who, &Reader)| (reader.me == lane.1).then_some(*who);
        for who in model.readers.iter().filter_map(meant).collect::<Vec<_>>() {
            let got = model.got_mut(who, lane);
            got.lost = got.lost.max(last);
        }
        let is_it = |reader: &Reader| reader.me == lane.1 && reader.stays && !reader.was_detached;
        let stays = model.readers.iter().find(|(_, reader)| is_it(reader));
        match stays {
            Some((who, _)) => Err(format!(
                "#{from} to #{last} for {who:?} are given up, but it is there all the time: {reason}"
            )),
            None => Ok(()),
        }
    }

    /// An application is told of a loss.
    pub fn lost(
        &mut self,
        model: &mut Model,
        who: Who,
        flow: Flow,
        (from, to): (SeqNo, SeqNo),
        reason: impl std::fmt::Display,
    ) -> Result<(), String> {
        self.losses += 1;
        let run = (flow.source, flow.incarnation);
        let lane = (run, flow.to);
        let stays = model.readers.get(&who).is_some_and(|reader| reader.stays);
        let Some(source) = model.sources.get(&run) else {
            return Err(format!("{who:?} lost messages of {:?}, which nobody is", flow.source));
        };
        let promised = match source.fate {
            Fate::Present => true,
            // Those between that are for others are none of its losses.
            Fate::Left(seq) => source
                .next_reliable(SeqNo(from.0.saturating_sub(1)), flow.to)
                .is_some_and(|first| first <= seq),
            Fate::Killed => false,
        };
        let owed = model.readers.get(&who).and_then(|reader| reader.owed.get(&lane)).copied();
        if stays && promised && owed.is_some_and(|owed| owed <= to) {
            return Err(format!(
                "{who:?} was there all the time, but lost #{from} to #{to} of {:?}: {reason}",
                source.who
            ));
        }
        if to < from {
            return Err(format!("{who:?} lost #{from} to #{to}, which is nothing"));
        }
        let got = model.got_mut(who, lane);
        got.lost = got.lost.max(to);
        Ok(())
    }

    /// At the end nothing is owed any more.
    pub fn at_end(&self, model: &Model) -> Result<(), String> {
        let mut missing = model.missing().peekable();
        let Some((who, source, seq)) = missing.next() else { return Ok(()) };
        let more = missing.count();
        Err(format!(
            "{who:?} never got #{seq} of {:?} ({:?}, {} sent); {more} more such pairs",
            source.who,
            source.fate,
            source.sent.len()
        ))
    }
}
