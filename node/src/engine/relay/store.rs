//! The frames of one flow that some member may still need.

use std::collections::BTreeMap;

use arborcast_protocol::{
    frame::Frame,
    id::{FrameNo, MemberId},
    numbers::NumberSet,
};

use super::in_band::Route;

/// Sealed frames by number. Bounded by the quota of the flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    frames: BTreeMap<FrameNo, Stored>,
    bytes: u64,
}

/// A frame, and the way that it goes by the tree in it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) frame: Frame,
    pub(super) route: Option<Route>,
}

impl Store {
    /// Keeps a frame; gives the bytes that it takes, 0 if it was there.
    pub(super) fn insert(&mut self, frame: Frame) -> u64 {
        let (number, bytes) = (frame.header().number, frame.len() as u64);
        if self.frames.contains_key(&number) {
            return 0;
        }
        self.frames.insert(number, Stored { frame, route: None });
        self.bytes += bytes;
        bytes
    }

    /// Lets go of everything up to `floor`; gives it, in order.
    pub(super) fn release(&mut self, floor: FrameNo) -> Vec<Frame> {
        let mut released = Vec::new();
        while let Some(entry) = self.frames.first_entry()
            && *entry.key() <= floor
        {
            let frame = entry.remove().frame;
            self.bytes -= frame.len() as u64;
            released.push(frame);
        }
        released
    }

    /// All frames, in order.
    pub(super) fn frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.values().map(|stored| &stored.frame)
    }

    /// The lowest frame that is not in `known` and may go to `peer`.
    pub(super) fn first_not_in(&self, known: &NumberSet, peer: &MemberId) -> Option<&Frame> {
        let mut at = FrameNo(1);
        loop {
            at = known.next_missing(at);
            let (&number, stored) = self.frames.range(at..).next()?;
            if known.contains(number) {
                at = number;
            } else if stored.route.as_ref().is_none_or(|route| route.allows(peer)) {
                return Some(&stored.frame);
            } else {
                at = number.next();
            }
        }
    }

    /// One frame.
    pub(super) fn get_mut(&mut self, number: FrameNo) -> Option<&mut Stored> {
        self.frames.get_mut(&number)
    }

    /// The way of a frame, if it has one of its own.
    pub(super) fn route(&self, number: FrameNo) -> Option<&Route> {
        self.frames.get(&number)?.route.as_ref()
    }

    /// `peer` asks for what is there from `first` to `last`, which is not below it.
    pub(super) fn ask(&mut self, first: FrameNo, last: FrameNo, peer: MemberId) {
        for stored in self.frames.range_mut(first..=last).map(|(_, stored)| stored) {
            if let Some(route) = &mut stored.route {
                route.ask(peer);
            }
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

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// About how many bytes the frames above `number` take.
    pub(super) fn about_above(&self, number: FrameNo) -> u64 {
        let Some((last, _)) = self.frames.last_key_value() else { return 0 };
        let frames = last.0.saturating_sub(number.0).min(self.frames.len() as u64);
        frames.saturating_mul(self.average())
    }

    /// Bytes of a frame on average; 0 when there is none.
    pub(super) fn average(&self) -> u64 {
        self.bytes.checked_div(self.frames.len() as u64).unwrap_or(0)
    }
}
