//! ChaCha20-Poly1305 by one of two crates that give the same bytes. `ring` is two to three times as fast
//! on common processors and needs a C compiler to build, so it comes with the feature of its name, which
//! a node on the network has on; the other one is all Rust.

/// A nonce of RFC 8439.
pub(crate) type Nonce = [u8; 12];
/// A tag of RFC 8439.
pub(crate) type Tag = [u8; super::TAG];

#[cfg(not(feature = "ring"))]
mod implementation {
    use chacha20poly1305::{
        ChaCha20Poly1305, KeyInit as _,
        aead::{Aead as _, AeadInOut as _, Payload},
    };

    use super::{Nonce, Tag};

    /// A key. Wiped from memory when dropped.
    pub(crate) struct Cipher(ChaCha20Poly1305);

    impl Cipher {
        pub(crate) fn new(key: &[u8; 32]) -> Self {
            Self(ChaCha20Poly1305::new(key.into()))
        }

        /// Seals `text` where it is and returns the tag; `None` if it is longer than the cipher is
        /// made for.
        pub(crate) fn seal(&self, nonce: Nonce, aad: &[u8], text: &mut [u8]) -> Option<Tag> {
            let tag = self.0.encrypt_inout_detached(&nonce.into(), aad, text.into()).ok()?;
            Some(tag.into())
        }

        /// The text, if tag and associated data are right.
        pub(crate) fn open(&self, nonce: Nonce, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            self.0.decrypt(&nonce.into(), Payload { msg: sealed, aad }).ok()
        }
    }
}

#[cfg(feature = "ring")]
mod implementation {
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};

    use super::{Nonce, Tag};

    /// A key. `ring` does not wipe its own copy when dropped.
    pub(crate) struct Cipher(LessSafeKey);

    impl Cipher {
        pub(crate) fn new(key: &[u8; 32]) -> Self {
            let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a key");
            Self(LessSafeKey::new(key))
        }

        /// Seals `text` where it is and returns the tag; `None` if it is longer than the cipher is
        /// made for.
        pub(crate) fn seal(&self, nonce: Nonce, aad: &[u8], text: &mut [u8]) -> Option<Tag> {
            let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).ok()?;
            tag.as_ref().try_into().ok()
        }

        /// The text, if tag and associated data are right.
        pub(crate) fn open(&self, nonce: Nonce, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            let mut opened = sealed.to_vec();
            let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
            let len = self.0.open_in_place(nonce, Aad::from(aad), &mut opened).ok()?.len();
            opened.truncate(len);
            Some(opened)
        }
    }
}

pub(crate) use implementation::Cipher;
