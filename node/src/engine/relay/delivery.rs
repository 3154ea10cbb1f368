//! Handing the messages of one flow to the application: in order, across holes that are filled
//! late and gaps that are given up, each exactly once.

use std::collections::BTreeMap;

use arborcast_protocol::{
    frame::{Content, Header},
    id::{Flow, FrameNo, SeqNo, ServiceId},
    numbers::NumberSet,
};
use bytes::Bytes;

use crate::engine::event::LossReason;

use super::{
    admission::Admission,
    assemble::{Added, Assembly, Run},
    stats::Stats,
};

/// Messages that the application will never get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    pub(super) from: SeqNo,
    pub(super) to: SeqNo,
    pub(super) reason: LossReason,
}

/// How much memory assembling may take.
#[derive(Debug)]
pub(super) struct Room<'a> {
    /// The flow that asks.
    pub(super) flow: Flow,
    /// Largest message in bytes.
    pub(super) message: u64,
    /// Declared bytes of the begun messages of all flows together.
    pub(super) assembly: u64,
    /// Where room is set aside.
    pub(super) admission: &'a mut Admission,
}

/// What is not handed out yet. Bounded by the quota of the flow: what is not delivered here is not
/// released here.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// Everything up to here was handed out, or is not for this application.
    delivered: FrameNo,
    /// Payloads above that.
    pending: BTreeMap<FrameNo, (Header, Bytes)>,
    /// Number of the next message; `None` until the first one shows where this member came in.
    expect: Option<SeqNo>,
    /// A message was handed out: what is skipped from now on is a gap, owed or not.
    begun: bool,
    /// Nothing before the first message is owed, wherever that is.
    anywhere: bool,
    /// What is missing up to here and kept by nobody was not owed.
    not_owed: FrameNo,
    /// Of this frame the messages before that one are left out.
    first: Option<(FrameNo, SeqNo)>,
    /// Of the frame after `delivered`, with its length.
    run: Option<(Run, u64)>,
    assembly: Option<Assembly>,
    /// Set while frames are missing whose messages are not known yet.
    gap: Option<LossReason>,
    /// Why frames were given up last.
    gave_up: LossReason,
    lost: Vec<Lost>,
}

impl Delivery {
    /// Starts after `cursor`. With `cursor` 0 the flow's first message is number 1; otherwise the
    /// first whole message decides, and one that is cut at its start is skipped silently.
    pub(super) fn after(cursor: FrameNo) -> Self {
        Self {
            delivered: cursor,
            pending: BTreeMap::new(),
            expect: (cursor.0 == 0).then_some(SeqNo(1)),
            begun: false,
            anywhere: false,
            not_owed: cursor,
            first: None,
            run: None,
            assembly: None,
            gap: None,
            gave_up: LossReason::NotKept,
            lost: Vec::new(),
        }
    }

    /// Goes on after `cursor`, where message `expect` comes next: what is missing before it is owed.
    pub(super) fn resuming(cursor: FrameNo, expect: Option<SeqNo>) -> Self {
        let start = Self::after(cursor);
        Self { expect: expect.or(start.expect), begun: expect.is_some(), ..start }
    }

    /// Starts after `cursor` although the messages before it were owed: they are reported lost.
    pub(super) fn after_lost(cursor: FrameNo) -> Self {
        let gap = (cursor.0 > 0).then_some(LossReason::NotKept);
        Self { expect: Some(SeqNo(1)), gap, ..Self::after(cursor) }
    }

    /// Starts after `cursor`; up to `floor` it may come in later, silently. Once it has come in,
    /// nothing is left out in silence any more.
    pub(super) fn joining(cursor: FrameNo, floor: FrameNo) -> Self {
        Self { not_owed: floor.max(cursor), ..Self::after(cursor) }
    }

    /// Starts after `cursor`, wherever the first whole message is.
    pub(super) fn anywhere_after(cursor: FrameNo) -> Self {
        Self { expect: None, anywhere: true, ..Self::after(cursor) }
    }

    /// In frame `number`, the first one, messages before `first` are left out silently. In that frame
    /// alone, so that a neighbour that says where this member comes in cannot hide more than that.
    pub(super) const fn begin_with(&mut self, number: FrameNo, first: SeqNo) {
        self.first = Some((number, first));
    }

    /// Up to which of the numbers that a neighbour keeps no more nobody here is waiting for them.
    /// `top` is the highest number of a genuine frame.
    pub(super) fn unneeded(&self, released: FrameNo, top: FrameNo) -> FrameNo {
        released.min(if self.anywhere { top } else { self.delivered.max(self.not_owed) })
    }

    /// Everything up to here was handed out.
    pub(super) const fn delivered(&self) -> FrameNo {
        self.delivered
    }

    /// Counts a frame of this node's own as handed out: nobody delivers to himself.
    pub(super) fn skip_own(&mut self, number: FrameNo) {
        self.delivered = self.delivered.max(number);
    }

    /// Takes a payload, unless it lies before the start.
    pub(super) fn offer(&mut self, header: Header, payload: Bytes, stats: &mut Stats) {
        if header.number > self.delivered {
            stats.undelivered_bytes += payload.len() as u64;
            self.pending.insert(header.number, (header, payload));
        }
    }

    /// Remembers why frames are given up, for the report.
    pub(super) const fn gave_up(&mut self, reason: LossReason) {
        self.gave_up = reason;
    }

    /// Whether [`Self::next`] has something to do, given the numbers received or given up.
    pub(super) fn is_ready(&self, has: &NumberSet) -> bool {
        self.run.is_some() || has.contains(self.delivered.next())
    }

    /// What was found lost since the last call.
    pub(super) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// The next message. Works through pieces and gaps until there is one, or nothing more, or the
    /// first piece of a message for which there is no room yet: then the flow waits in `room`.
    pub(super) fn next(
        &mut self,
        has: &NumberSet,
        room: &mut Room<'_>,
        stats: &mut Stats,
    ) -> Option<(SeqNo, ServiceId, Bytes)> {
        let message = self.advance(has, room, stats);
        if self.assembly.is_none() {
            room.admission.end(&room.flow);
        }
        message
    }

    fn advance(
        &mut self,
        has: &NumberSet,
        room: &mut Room<'_>,
        stats: &mut Stats,
    ) -> Option<(SeqNo, ServiceId, Bytes)> {
        loop {
            if let Some((run, bytes)) = &mut self.run {
                let message = run.next();
                if run.is_done() || message.is_none() {
                    stats.undelivered_bytes -= *bytes;
                    self.run = None;
                    self.delivered = self.delivered.next();
                }
                if message.is_some() {
                    return message;
                }
                continue;
            }
            let number = self.delivered.next();
            if !has.contains(number) {
                return None;
            }
            if !self.may_begin(number, room, stats) {
                return None;
            }
            let Some((header, payload)) = self.pending.remove(&number) else {
                self.skip_gap(number, has, stats);
                continue;
            };
            match header.content {
                Content::Messages { count } => self.open_run(&header, count, payload, stats),
                Content::Piece { index, of, bytes } => {
                    stats.undelivered_bytes -= payload.len() as u64;
                    self.delivered = number;
                    let piece = (index, of, bytes);
                    if let Some(message) = self.add_piece(&header, piece, payload, room, stats) {
                        return Some((header.first_seq, header.service, message));
                    }
                }
            }
        }
    }

    /// Forgets everything; gives what of it would have become messages.
    pub(super) fn abandon(&mut self, stats: &mut Stats) -> Option<(SeqNo, SeqNo)> {
        self.drop_assembly(stats);
        if let Some((_, bytes)) = self.run.take() {
            stats.undelivered_bytes -= bytes;
        }
        let last = self.pending.last_key_value().map(|(_, (header, _))| match header.content {
            Content::Messages { count } => {
                SeqNo(header.first_seq.0.saturating_add(u64::from(count)).saturating_sub(1))
            }
            Content::Piece { .. } => header.first_seq,
        });
        for (_, payload) in self.pending.values() {
            stats.undelivered_bytes -= payload.len() as u64;
        }
        self.pending.clear();
        let from = self.expect?;
        last.filter(|last| *last >= from).map(|last| (from, last))
    }

    /// The message that comes next, as far as that is known.
    pub(super) const fn expected(&self) -> Option<SeqNo> {
        self.expect
    }

    /// The number of a message of which only a part has come.
    pub(super) fn incomplete(&self) -> Option<SeqNo> {
        self.assembly.as_ref().map(Assembly::seq)
    }

    fn skip_gap(&mut self, first: FrameNo, has: &NumberSet, stats: &mut Stats) {
        let mut end = has.next_missing(first);
        if let Some((&pending, _)) = self.pending.first_key_value() {
            end = end.min(pending);
        }
        self.delivered = FrameNo(end.0.saturating_sub(1)).max(first);
        self.drop_assembly(stats);
        if self.delivered <= self.not_owed && !self.begun {
            // The next whole message decides where this member came in.
            self.expect = None;
        } else if self.expect.is_some() {
            self.gap = Some(self.gave_up);
        }
    }

    fn open_run(&mut self, header: &Header, count: u32, payload: Bytes, stats: &mut Stats) {
        let bytes = payload.len() as u64;
        let after = SeqNo(header.first_seq.0.saturating_add(u64::from(count)));
        if self.begin(header.first_seq, stats) {
            self.expect = Some(after);
            if let Some(mut run) = Run::open(header, count, payload) {
                if let Some((number, first)) = self.first.take()
                    && number == header.number
                {
                    run.skip_to(first);
                }
                self.begun = true;
                self.run = Some((run, bytes));
                return;
            }
            self.lose(header.first_seq, SeqNo(after.0.saturating_sub(1)), LossReason::Malformed);
        }
        stats.undelivered_bytes -= bytes;
        self.delivered = header.number;
    }

    /// Whether the frame may be taken: there is room for the message that it begins, or it begins
    /// none.
    fn may_begin(&mut self, number: FrameNo, room: &mut Room<'_>, stats: &mut Stats) -> bool {
        let Some((header, _)) = self.pending.get(&number) else { return true };
        let (seq, bytes) = match header.content {
            Content::Piece { index: 0, bytes, .. } => (header.first_seq, bytes),
            Content::Piece { .. } | Content::Messages { .. } => return true,
        };
        // The one before does not go on, so it must not hold room while this one waits.
        if let Some(cut) = self.drop_assembly(stats) {
            self.lose_one(cut, LossReason::Inconsistent);
        }
        bytes > room.message
            || self.expect.is_some_and(|expect| seq < expect)
            || room.admission.begin(room.flow, bytes, room.assembly)
    }

    fn add_piece(
        &mut self,
        header: &Header,
        piece @ (index, of, bytes): (u32, u32, u64),
        payload: Bytes,
        room: &Room<'_>,
        stats: &mut Stats,
    ) -> Option<Bytes> {
        let seq = header.first_seq;
        if index == 0 {
            if !self.begin(seq, stats) {
                return None;
            }
            self.expect = Some(seq);
            if bytes > room.message {
                self.lose_one(seq, LossReason::TooLarge);
                return None;
            }
            self.assembly = Some(Assembly::new(header, of, bytes));
        }
        let Some(mut assembly) = self.assembly.take() else {
            // The rest of a message that was lost, or from before this member came in.
            if self.expect.is_some_and(|expect| seq >= expect) {
                self.gap.get_or_insert(LossReason::LeftOut);
            }
            return None;
        };
        let held = assembly.held();
        let added = assembly.add(header, piece, payload);
        stats.assembly_bytes -= held;
        match added {
            Added::Incomplete => {
                stats.assembly_bytes += assembly.held();
                self.assembly = Some(assembly);
                None
            }
            Added::Complete(message) => {
                self.begun = true;
                self.expect = Some(seq.next());
                Some(message)
            }
            Added::Inconsistent => {
                self.lose_one(assembly.seq(), LossReason::Inconsistent);
                None
            }
        }
    }

    /// A message starts here. False if messages after it were handed out already.
    fn begin(&mut self, seq: SeqNo, stats: &mut Stats) -> bool {
        if let Some(cut) = self.drop_assembly(stats) {
            self.lose_one(cut, LossReason::Inconsistent);
        }
        let gap = self.gap.take();
        self.anywhere = false;
        match self.expect {
            Some(expect) if seq < expect => {
                self.gap = gap;
                false
            }
            // Without a gap in the frames nothing is lost: what lies between was for others.
            Some(expect) if seq > expect => {
                if let Some(reason) = gap {
                    self.lose(expect, SeqNo(seq.0.saturating_sub(1)), reason);
                }
                true
            }
            Some(_) | None => true,
        }
    }

    fn lose_one(&mut self, seq: SeqNo, reason: LossReason) {
        self.lose(seq, seq, reason);
        self.expect = Some(seq.next());
    }

    fn lose(&mut self, from: SeqNo, to: SeqNo, reason: LossReason) {
        self.lost.push(Lost { from, to, reason });
    }

    fn drop_assembly(&mut self, stats: &mut Stats) -> Option<SeqNo> {
        let assembly = self.assembly.take()?;
        stats.assembly_bytes -= assembly.held();
        Some(assembly.seq())
    }
}

#[cfg(test)]
mod tests;
