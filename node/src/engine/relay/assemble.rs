//! From frames to messages: a run of small messages in one frame, a large message from its pieces.

use arborcast_protocol::{
    frame::Header,
    id::{SeqNo, ServiceId},
};
use bytes::{Buf, Bytes, BytesMut};

/// The messages of one frame that are still to be handed out.
#[derive(Clone, Debug)]
pub(super) struct Run {
    rest: Bytes,
    next: SeqNo,
    service: ServiceId,
}

impl Run {
    /// Checks that the payload holds exactly `count` messages.
    pub(super) fn open(header: &Header, count: u32, payload: Bytes) -> Option<Self> {
        let mut rest: &[u8] = &payload;
        for _ in 0..count {
            let (len, after) = rest.split_first_chunk::<4>()?;
            rest = after.get(usize::try_from(u32::from_be_bytes(*len)).ok()?..)?;
        }
        if !rest.is_empty() {
            return None;
        }
        Some(Self { rest: payload, next: header.first_seq, service: header.service })
    }

    /// The next message; `None` after the last.
    pub(super) fn next(&mut self) -> Option<(SeqNo, ServiceId, Bytes)> {
        let len = usize::try_from(self.rest.try_get_u32().ok()?).ok()?;
        if len > self.rest.len() {
            return None;
        }
        let seq = self.next;
        self.next = seq.next();
        Some((seq, self.service, self.rest.split_to(len)))
    }

    /// Leaves out the messages before `first`.
    pub(super) fn skip_to(&mut self, first: SeqNo) {
        while self.next < first && self.next().is_some() {}
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A large message of which the first pieces are there.
#[derive(Clone, Debug)]
pub(super) struct Assembly {
    seq: SeqNo,
    service: ServiceId,
    of: u32,
    bytes: u64,
    pieces: Vec<Bytes>,
    held: u64,
}

/// What a piece makes of an assembly.
#[derive(Debug)]
pub(super) enum Added {
    /// More are needed.
    Incomplete,
    /// That was the last one.
    Complete(Bytes),
    /// It contradicts the pieces before it.
    Inconsistent,
}

impl Assembly {
    /// Nothing yet of the message that `header` starts.
    pub(super) const fn new(header: &Header, of: u32, bytes: u64) -> Self {
        Self {
            seq: header.first_seq,
            service: header.service,
            of,
            bytes,
            pieces: Vec::new(),
            held: 0,
        }
    }

    /// Adds the next piece.
    pub(super) fn add(
        &mut self,
        header: &Header,
        (index, of, bytes): (u32, u32, u64),
        payload: Bytes,
    ) -> Added {
        let held = self.held.saturating_add(payload.len() as u64);
        if header.first_seq != self.seq
            || header.service != self.service
            || (of, bytes) != (self.of, self.bytes)
            || usize::try_from(index) != Ok(self.pieces.len())
            || payload.is_empty()
            || held > bytes
        {
            return Added::Inconsistent;
        }
        self.pieces.push(payload);
        self.held = held;
        if index.saturating_add(1) < of {
            return Added::Incomplete;
        }
        if held < bytes {
            return Added::Inconsistent;
        }
        let mut message = BytesMut::with_capacity(self.pieces.iter().map(Bytes::len).sum());
        for piece in &self.pieces {
            message.extend_from_slice(piece);
        }
        Added::Complete(message.freeze())
    }

    /// The message's number.
    pub(super) const fn seq(&self) -> SeqNo {
        self.seq
    }

    /// Bytes of the pieces that are there.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }
}
