//! What crosses is encoded and decoded on the way, so that no world passes what the wire would not.

use arborcast_protocol::{
    codec::{self, DecodeError},
    edge::Message,
    frame::Frame,
    limits,
    notice::Notice,
    testing,
    tree::Update,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Who, World,
    control::{Ask, Told},
    trace::fingerprint,
};

/// There and back.
fn cross<T: Serialize + DeserializeOwned>(
    value: &T,
    limit: usize,
) -> Result<(T, u64), DecodeError> {
    let bytes = codec::encode(value);
    Ok((codec::decode(&bytes, limit)?, fingerprint(&bytes)))
}

/// The frame with one bit of its payload changed.
pub(super) fn garbled(frame: &Frame) -> Frame {
    let mut payload = frame.sealed().to_vec();
    if let Some(byte) = payload.last_mut() {
        *byte ^= 1;
    }
    Frame::new(frame.header().clone(), &testing::proof(), &payload)
        .unwrap_or_else(|_| frame.clone())
}

impl World {
    /// What comes out at the other end, with a number for its bytes; complains if nothing does.
    pub(super) fn carry<T: Serialize + DeserializeOwned>(
        &mut self,
        value: T,
        limit: usize,
    ) -> (T, u64) {
        if !self.setup.wire {
            return (value, 0);
        }
        match cross(&value, limit) {
            Ok(crossed) => crossed,
            Err(error) => {
                let what = std::any::type_name::<T>();
                self.check(Err(format!("a {what} does not cross the wire: {error}")));
                (value, 0)
            }
        }
    }

    pub(super) fn cross_ask(&mut self, _: Who, ask: Ask) -> (Ask, u64) {
        match ask {
            Ask::Session(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_REQUEST);
                (Ask::Session(body), bytes)
            }
            Ask::Report(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_REQUEST);
                (Ask::Report(body), bytes)
            }
            Ask::Path(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_REQUEST);
                (Ask::Path(body), bytes)
            }
        }
    }

    pub(super) fn cross_told(&mut self, who: Who, told: Told) -> (Told, u64) {
        match told {
            Told::Session(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_ANSWER);
                (Told::Session(body), bytes)
            }
            Told::Report(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_ANSWER);
                (Told::Report(body), bytes)
            }
            Told::Path(body) => {
                let (body, bytes) = self.carry(body, limits::CONTROL_ANSWER);
                if self.setup.verify
                    && let Ok(state) = &*body
                    && let Some(header) = header(state)
                    && !header.verify(self.session, &[self.coordinator.me])
                {
                    self.check(Err(format!(
                        "{who:?} is answered with a header that is not signed"
                    )));
                }
                (Told::Path(body), bytes)
            }
        }
    }

    pub(super) fn cross_notice(&mut self, notice: Notice) -> Notice {
        self.carry(notice, limits::CONTROL_REQUEST).0
    }

    pub(super) fn cross_update(&mut self, update: &Update) -> Update {
        if self.setup.verify && !update.header.verify(self.session, &[self.coordinator.me]) {
            self.check(Err("a push with a header that is not signed".to_owned()));
        }
        self.carry(update.clone(), limits::GOSSIP).0
    }

    pub(super) fn cross_message(&mut self, who: Who, message: Message) -> Message {
        let (message, bytes) = self.carry(message, limits::EDGE_MESSAGE);
        self.trace.note(self.now, &format!("{who:?}"), "says", &[bytes], || format!("{message:?}"));
        message
    }

    pub(super) fn cross_frame(&mut self, who: Who, frame: Frame) -> Frame {
        if !self.setup.wire {
            return frame;
        }
        match Frame::decode(frame.bytes().clone()) {
            Ok(crossed) if crossed == frame => crossed,
            Ok(_) => {
                self.check(Err(format!("{who:?} sends a frame that is another when read")));
                frame
            }
            Err(error) => {
                self.check(Err(format!("{who:?} sends a frame that cannot be read: {error}")));
                frame
            }
        }
    }
}

fn header(
    state: &arborcast_protocol::path::State,
) -> Option<&arborcast_protocol::tree::SignedHeader> {
    match state {
        arborcast_protocol::path::State::Tree(update) => Some(&update.header),
        arborcast_protocol::path::State::Neighbours(neighbours) => Some(&neighbours.header),
        arborcast_protocol::path::State::Unsubscribed => None,
    }
}
