//! Pushes of trees by gossipsub (R6, scope `tree`). Whoever is connected hears them, so they are sealed:
//! members alone are told the topic and the key, when they are let in and when they renew.
//!
//! The epoch is the nonce. A coordinator makes each epoch of a session once, and draws the keys anew at
//! each start; so no nonce is used twice under one key.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteArray, ByteBuf, Bytes};
use zeroize::Zeroizing;

use crate::{
    codec,
    id::{Epoch, SessionId},
    limits,
    seal::cipher::{Cipher, Nonce},
    tree::Update,
};

/// 32 bytes that strangers must not learn. Wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PushSecret(Zeroizing<[u8; 32]>);

impl PushSecret {
    /// Wraps the bytes as they are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for PushSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushSecret(..)")
    }
}

impl Serialize for PushSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::new(self.0.as_slice()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PushSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ByteArray::<32>::deserialize(deserializer).map(|bytes| Self::from_bytes(*bytes))
    }
}

/// What pushes are sealed under for a time. It changes after somebody has left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PushKey {
    /// Tells it from the others of its session; later ones have higher numbers, the first is 1.
    pub id: u32,
    /// The key.
    pub secret: PushSecret,
}

/// What lets a member follow the pushes of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PushAccess {
    /// What the topic is made from; stays for as long as the coordinator runs.
    pub topic: PushSecret,
    /// The keys in use and, while it is handed out, the one that follows.
    pub keys: Vec<PushKey>,
}

impl PushAccess {
    /// The gossipsub topic: the hash of a secret, so that it tells nothing of the session.
    #[must_use]
    pub fn topic(&self) -> String {
        topic(&self.topic)
    }
}

/// The gossipsub topic that is made from a secret.
#[must_use]
pub fn topic(secret: &PushSecret) -> String {
    let hash = blake3::derive_key("arborcast/1 topic of pushes", secret.0.as_slice());
    format!("arborcast/1/tree/{}", data_encoding::HEXLOWER.encode(&hash))
}

/// A tree on the topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Push {
    /// The key.
    pub key: u32,
    /// The tree's, which is the nonce too.
    pub epoch: Epoch,
    /// The [`Update`], sealed.
    pub sealed: ByteBuf,
}

/// Why a push cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PushError {
    /// Its key is not known here, or not yet.
    #[error("it is sealed under a key that is not known here")]
    UnknownKey,
    /// Changed on its way, or never what it should be.
    #[error("it does not open, or holds no tree of that epoch")]
    Malformed,
}

impl PushKey {
    /// Seals a tree. Once for each epoch.
    ///
    /// # Panics
    /// If the update is longer than 256 GiB, for which the cipher is not made.
    #[must_use]
    pub fn seal(&self, session: SessionId, update: &Update) -> Push {
        let epoch = update.header.header.epoch;
        let mut text = codec::encode(update);
        let tag = Cipher::new(&self.secret.0)
            .seal(nonce(epoch), &self.context(session), &mut text)
            .expect("an update is shorter than what the cipher can take");
        text.extend_from_slice(&tag);
        Push { key: self.id, epoch, sealed: ByteBuf::from(text) }
    }

    /// Opens what [`PushKey::seal`] made. Does not check who signed the tree.
    ///
    /// # Errors
    /// [`PushError`], if it is sealed under another key or does not open.
    pub fn open(&self, session: SessionId, push: &Push) -> Result<Update, PushError> {
        if push.key != self.id {
            return Err(PushError::UnknownKey);
        }
        let text = Cipher::new(&self.secret.0)
            .open(nonce(push.epoch), &self.context(session), &push.sealed)
            .ok_or(PushError::Malformed)?;
        let update: Update =
            codec::decode(&text, limits::GOSSIP).map_err(|_| PushError::Malformed)?;
        let same = update.header.header.epoch == push.epoch;
        same.then_some(update).ok_or(PushError::Malformed)
    }

    /// What is authenticated with the tree.
    fn context(&self, session: SessionId) -> Vec<u8> {
        [b"arborcast/1 push".as_slice(), session.as_bytes(), &self.id.to_be_bytes()].concat()
    }
}

/// Four zero bytes and the epoch, big-endian.
fn nonce(epoch: Epoch) -> Nonce {
    let mut nonce = Nonce::default();
    for (to, from) in nonce.iter_mut().skip(4).zip(epoch.as_u64().to_be_bytes()) {
        *to = from;
    }
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Term,
        testing::{keypair, session},
        tree::{Body, Header, SignedHeader, Tree},
    };

    fn key(id: u32, byte: u8) -> PushKey {
        PushKey { id, secret: PushSecret::from_bytes([byte; 32]) }
    }

    fn update(counter: u32) -> Update {
        let tree = Tree::default();
        let epoch = Epoch { term: Term(1), counter };
        let header = Header { session: session(1), epoch, hash: tree.hash() };
        let header = SignedHeader::sign(header, &keypair(1));
        Update { header, body: Body::Full(Box::new(tree)) }
    }

    #[test]
    fn a_push_opens_with_its_key_in_its_session_alone() {
        let update = update(7);
        let push = key(1, 5).seal(session(1), &update);
        assert_eq!(key(1, 5).open(session(1), &push), Ok(update.clone()));
        assert_eq!(key(2, 5).open(session(1), &push), Err(PushError::UnknownKey));
        assert_eq!(key(1, 6).open(session(1), &push), Err(PushError::Malformed));
        assert_eq!(key(1, 5).open(session(2), &push), Err(PushError::Malformed));
        let other = Push { epoch: push.epoch.next(), ..push.clone() };
        assert_eq!(key(1, 5).open(session(1), &other), Err(PushError::Malformed));
        for at in 0..push.sealed.len() {
            let mut changed = push.clone();
            changed.sealed[at] ^= 1;
            assert_eq!(key(1, 5).open(session(1), &changed), Err(PushError::Malformed));
        }
        let plain = codec::encode(&update);
        assert!(!push.sealed.windows(16).any(|part| plain.windows(16).any(|own| own == part)));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let access = PushAccess { topic: key(1, 0x61).secret, keys: vec![key(1, 0x61)] };
        assert_eq!(format!("{:?}", access.topic), "PushSecret(..)");
        assert_eq!(format!("{:?}", access.keys), "[PushKey { id: 1, secret: PushSecret(..) }]");
        assert!(!access.topic().contains(&"61".repeat(8)));
    }
}
