//! Nothing is lost: every message reaches every member that was there when it was sent and stays, and
//! what a source is told of receipts is true.

use arborcast_protocol::id::{Flow, SeqNo};

use crate::{
    model::{Fate, Model, Run},
    sim::Who,
};

/// Losses that were reported where they may be.
#[derive(Debug, Default)]
pub struct Complete {
    /// Reports of losses.
    pub losses: u64,
}

impl Complete {
    /// A source is told that all present have its messages up to `seq`.
    pub fn receipt(&self, model: &Model, run: Run, seq: SeqNo) -> Result<(), String> {
        let Some(source) = model.sources.get(&run) else { return Ok(()) };
        for (who, reader) in &model.readers {
            let Some(from) = reader.owed.get(&run).filter(|from| **from <= seq) else { continue };
            let last = model.got(*who, run).last;
            let next = source.next_reliable(last.max(SeqNo(from.0.saturating_sub(1))));
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

    /// An application is told of a loss.
    pub fn lost(
        &mut self,
        model: &mut Model,
        who: Who,
        flow: Flow,
        (from, to): (SeqNo, SeqNo),
        reason: &str,
    ) -> Result<(), String> {
        self.losses += 1;
        let run = (flow.source, flow.incarnation);
        let stays = model.readers.get(&who).is_some_and(|reader| reader.stays);
        let Some(source) = model.sources.get(&run) else {
            return Err(format!("{who:?} lost messages of {:?}, which nobody is", flow.source));
        };
        let promised = match source.fate {
            Fate::Present => true,
            Fate::Left(seq) => from <= seq,
            Fate::Killed => false,
        };
        let owed = model.readers.get(&who).and_then(|reader| reader.owed.get(&run)).copied();
        if stays && promised && owed.is_some_and(|owed| owed <= to) {
            return Err(format!(
                "{who:?} was there all the time, but lost #{from} to #{to} of {:?}: {reason}",
                source.who
            ));
        }
        if to < from {
            return Err(format!("{who:?} lost #{from} to #{to}, which is nothing"));
        }
        let got = model.got_mut(who, run);
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
