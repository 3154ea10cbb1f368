//! Frames in worlds with real keys: sealed, signed and checked as drivers do it.

use arborcast::{
    engine::event::Draft,
    proof::{FrameChecker, FrameMaker},
};
use arborcast_protocol::{certificate::Certificate, frame::Frame, testing};
use bytes::Bytes;

use super::{Who, World, access};

impl World {
    /// A node's certificate, its first one or another.
    pub(super) fn certify(&mut self, who: Who, certificate: &Certificate) {
        if !self.setup.genuine {
            return;
        }
        let root = || access(self.setup.open, 0).payload_root();
        let host = &mut self.hosts[who.node];
        if let Some(maker) = &mut host.maker {
            maker.set_certificate(certificate);
        } else {
            let keypair = testing::keypair(who.node as u64);
            host.maker = Some(FrameMaker::new(keypair, certificate, root()));
        }
        if self.checker.is_none() {
            let coordinators = vec![self.coordinator.me];
            self.checker = Some(FrameChecker::new(self.session, coordinators, root()));
        }
    }

    /// The frame of a draft.
    pub(super) fn make_frame(&mut self, who: Who, draft: Draft) -> Result<(Frame, Bytes), String> {
        if !self.setup.genuine {
            return Frame::new(draft.header, &testing::proof(), &draft.payload)
                .map(|frame| (frame, draft.payload))
                .map_err(|error| format!("{who:?} drafts a frame that is none: {error}"));
        }
        let maker = self.hosts[who.node].maker.as_mut();
        let made = maker.and_then(|maker| maker.make(vec![draft]).pop());
        made.ok_or_else(|| format!("{who:?} drafts a frame without a certificate"))
    }

    /// The payload of a frame that came.
    pub(super) fn check_frame(&self, who: Who, frame: &Frame) -> Result<Bytes, String> {
        if !self.setup.genuine {
            return Ok(frame.sealed());
        }
        let checker =
            self.checker.as_ref().ok_or_else(|| format!("{who:?} gets the first frame"))?;
        checker
            .check(frame, self.coordinator_clock_s())
            .map_err(|error| format!("{who:?} gets a frame that is not genuine: {error}"))
    }
}
