//! The frames of one flow that some member may still need.

use std::collections::BTreeMap;

use arborcast_protocol::{frame::Frame, id::FrameNo, numbers::NumberSet};

/// Sealed frames by number. Bounded by the quota of the flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    frames: BTreeMap<FrameNo, Frame>,
    bytes: u64,
}

impl Store {
    /// Keeps a frame; gives the bytes that it takes, 0 if it was there.
    pub(super) fn insert(&mut self, frame: Frame) -> u64 {
        let (number, bytes) = (frame.header().number, frame.len() as u64);
        if self.frames.contains_key(&number) {
            return 0;
        }
        self.frames.insert(number, frame);
        self.bytes += bytes;
        bytes
    }

    /// Lets go of everything up to `floor`; gives the bytes freed.
    pub(super) fn release(&mut self, floor: FrameNo) -> u64 {
        let before = self.bytes;
        while let Some(entry) = self.frames.first_entry()
            && *entry.key() <= floor
        {
            self.bytes -= entry.remove().len() as u64;
        }
        before - self.bytes
    }

    /// The lowest frame that is not in `known`.
    pub(super) fn first_not_in(&self, known: &NumberSet) -> Option<&Frame> {
        let mut at = FrameNo(1);
        loop {
            at = known.next_missing(at);
            let (&number, frame) = self.frames.range(at..).next()?;
            if !known.contains(number) {
                return Some(frame);
            }
            at = number;
        }
    }

    /// The lowest number that is there.
    pub(super) fn first(&self) -> Option<FrameNo> {
        self.frames.first_key_value().map(|(&number, _)| number)
    }

    /// The numbers from `first` to `last` that are there.
    pub(super) fn numbers(
        &self,
        first: FrameNo,
        last: FrameNo,
    ) -> impl Iterator<Item = FrameNo> + '_ {
        self.frames.range(first..).map(|(&number, _)| number).take_while(move |n| *n <= last)
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes of a frame on average; 0 when there is none.
    pub(super) fn average(&self) -> u64 {
        self.bytes.checked_div(self.frames.len() as u64).unwrap_or(0)
    }
}
