//! Encryption of payloads: ChaCha20-Poly1305 ([RFC 8439]) under one key for each flow.
//!
//! The number of the frame is the nonce. A numbered frame is made once and never changed, and each
//! start of a member draws a new incarnation and with it new keys; so no nonce is used twice.
//!
//! [RFC 8439]: https://www.rfc-editor.org/rfc/rfc8439

use std::fmt;

use zeroize::Zeroizing;

pub(crate) mod cipher;

use cipher::{Cipher, Nonce};

use crate::{
    id::{Class, Flow, FrameNo, KeyId, SessionId},
    keys,
};

/// Bytes that sealing adds.
pub const TAG: usize = 16;

/// What the flow keys of one session are derived from. Wiped from memory when dropped.
#[derive(Clone)]
pub struct PayloadRoot {
    session: SessionId,
    key: Zeroizing<[u8; 32]>,
}

impl PayloadRoot {
    /// The root of `session`; `key` must be for nothing else. See
    /// [`crate::keys::Secret::payload_root`].
    #[must_use]
    pub const fn new(session: SessionId, key: Zeroizing<[u8; 32]>) -> Self {
        Self { session, key }
    }

    /// Whose root it is.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The key of one flow under one key id.
    #[must_use]
    pub fn flow_key(&self, flow: &Flow, key: KeyId) -> FlowKey {
        let class = match flow.class {
            Class::Reliable => [0],
            Class::Live => [1],
        };
        let key = key.0.to_be_bytes();
        let mut info: Vec<&[u8]> = vec![
            b"arborcast/1 flow key",
            self.session.as_bytes(),
            flow.source.as_bytes(),
            flow.incarnation.as_bytes(),
            &class,
            &key,
        ];
        // All parts have fixed lengths: with a receiver the whole is longer than without.
        if let Some(to) = &flow.to {
            info.extend([b"to".as_slice(), to.as_bytes()]);
        }
        let derived = keys::expand(&self.key, &info);
        FlowKey(Cipher::new(&derived))
    }
}

impl fmt::Debug for PayloadRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadRoot({:?}, ..)", self.session)
    }
}

/// Seals and opens the payloads of one flow.
pub struct FlowKey(Cipher);

impl FlowKey {
    /// Seals what is in `text` from `from` on, where it is, as frame `number`, and puts the tag behind
    /// it. Never to be called twice for one number with different contents: that would give both away.
    ///
    /// # Panics
    /// If the text is longer than 256 GiB, for which the cipher is not made.
    pub fn seal_from(&self, number: FrameNo, header_bytes: &[u8], text: &mut Vec<u8>, from: usize) {
        let plain = text.get_mut(from..).unwrap_or_default();
        let tag = self
            .0
            .seal(nonce(number), header_bytes, plain)
            .expect("a payload is shorter than what the cipher can take");
        text.extend_from_slice(&tag);
    }

    /// As [`Self::seal_from`], of a copy.
    ///
    /// # Panics
    /// As [`Self::seal_from`].
    #[must_use]
    pub fn seal(&self, number: FrameNo, header_bytes: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + TAG);
        sealed.extend_from_slice(plain);
        self.seal_from(number, header_bytes, &mut sealed, 0);
        sealed
    }

    /// Opens what [`FlowKey::seal`] made.
    ///
    /// # Errors
    /// [`SealError`] if header, number or payload were changed, or sealed under another key.
    pub fn open(
        &self,
        number: FrameNo,
        header_bytes: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        self.0.open(nonce(number), header_bytes, sealed).ok_or(SealError)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowKey(..)")
    }
}

/// A payload that does not open: changed on its way, or sealed under another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the payload does not open with the session's key")]
pub struct SealError;

/// Four zero bytes and the number, big-endian.
fn nonce(number: FrameNo) -> Nonce {
    let mut nonce = Nonce::default();
    for (to, from) in nonce.iter_mut().skip(4).zip(number.0.to_be_bytes()) {
        *to = from;
    }
    nonce
}

#[cfg(test)]
mod tests;
