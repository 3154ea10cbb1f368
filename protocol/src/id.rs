//! Identifiers and counters of the wire, one type for each meaning.
//!
//! None of them has arithmetic beyond `next()`; none is interchangeable with another.

use std::{fmt, str::FromStr};

use libp2p_identity::{PeerId, PublicKey, ed25519};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A fixed-length byte string that is CBOR major type 2 on the wire.
macro_rules! byte_id {
    ($(#[$meta:meta])* $name:ident, $len:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps the bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, concat!("a byte string of length ", $len))
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        <[u8; $len]>::try_from(bytes)
                            .map($name)
                            .map_err(|_| E::invalid_length(bytes.len(), &self))
                    }
                }
                deserializer.deserialize_bytes(Visitor)
            }
        }
    };
}

byte_id! {
    /// A session (the group). It certifies itself: the hash of the admission public key for a
    /// private session, of the name for an open one. See [`crate::admission`].
    SessionId, 32
}

byte_id! {
    /// A node as member of a session, or a coordinator: its Ed25519 public key.
    ///
    /// Shown as the libp2p peer id, which for Ed25519 holds the key itself, so the two are the
    /// same information.
    MemberId, 32
}

byte_id! {
    /// 128 random bits that a member draws at each start; numbers of frames count within one.
    Incarnation, 16
}

byte_id! {
    /// A BLAKE3 hash.
    Digest, 32
}

byte_id! {
    /// An Ed25519 signature.
    Signature, 64
}

byte_id! {
    /// What the coordinator asks a joiner to sign, drawn for one attempt. See [`crate::admission`].
    Challenge, 32
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for SessionId {
    /// All 32 bytes in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..6])
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..4])
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..6])
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..6])
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0[..6])
    }
}

/// The bytes of an Ed25519 peer id before the key: identity multihash of a protobuf public key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl MemberId {
    /// The libp2p peer id with the same key.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
    }

    /// Checks an Ed25519 signature of `message` by this member. False also for bytes that are no key.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        ed25519::PublicKey::try_from_bytes(&self.0)
            .is_ok_and(|key| key.verify(message, signature.as_bytes()))
    }
}

/// A peer id that holds no Ed25519 key and so cannot be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("peer {0} has no Ed25519 key; Arborcast needs Ed25519 identities")]
pub struct NotEd25519(pub PeerId);

impl TryFrom<PeerId> for MemberId {
    type Error = NotEd25519;

    fn try_from(peer: PeerId) -> Result<Self, NotEd25519> {
        peer.to_bytes()
            .strip_prefix(&PEER_ID_PREFIX)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .map(Self)
            .ok_or(NotEd25519(peer))
    }
}

impl From<&ed25519::PublicKey> for MemberId {
    fn from(key: &ed25519::PublicKey) -> Self {
        Self(key.to_bytes())
    }
}

impl From<&ed25519::Keypair> for MemberId {
    fn from(keypair: &ed25519::Keypair) -> Self {
        Self::from(&keypair.public())
    }
}

impl TryFrom<&PublicKey> for MemberId {
    type Error = NotEd25519;

    fn try_from(key: &PublicKey) -> Result<Self, NotEd25519> {
        Self::try_from(key.to_peer_id())
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer_id().fmt(f)
    }
}

impl fmt::Debug for MemberId {
    /// The last eight characters of the peer id: its first ones are the same for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.peer_id().to_base58();
        f.write_str(text.get(text.len().saturating_sub(8)..).unwrap_or(&text))
    }
}

/// A text that is no Ed25519 peer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of an Ed25519 peer (it looks like 12D3KooW…)")]
pub struct ParseMemberIdError(String);

impl FromStr for MemberId {
    type Err = ParseMemberIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PeerId::from_str(text)
            .ok()
            .and_then(|peer| Self::try_from(peer).ok())
            .ok_or_else(|| ParseMemberIdError(text.to_owned()))
    }
}

/// A counter that is a plain unsigned integer on the wire.
macro_rules! counter {
    ($(#[$meta:meta])* $name:ident, $int:ty) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Counts a source's messages within one incarnation, from 1; what the application sees. Those
    /// for one receiver alone are counted with the others, so that each number names one message.
    SeqNo, u64
}

counter! {
    /// The *number* of a frame (patent: "number identifier"): counts one flow's frames from 1.
    FrameNo, u64
}

counter! {
    /// An application's name for a kind of data (patent: "service identifier"). 0 is the default.
    ServiceId, u32
}

impl From<u32> for ServiceId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

counter! {
    /// Which payload key sealed a frame; 0 is the ticket's own key.
    KeyId, u32
}

counter! {
    /// Counts the starts of a coordinator; the upper half of an [`Epoch`].
    Term, u32
}

impl SeqNo {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl FrameNo {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Term {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which tree: (term of the coordinator, counter within it). Compared in that order; only rises.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Epoch {
    /// Which start of the coordinator made the tree.
    pub term: Term,
    /// Which tree of that term, from 1; 0 is "no tree yet".
    pub counter: u32,
}

impl Epoch {
    /// The epoch of the next tree in the same term.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { term: self.term, counter: self.counter.saturating_add(1) }
    }

    /// One rising integer with the same order: term in the upper 32 bits.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        ((self.term.0 as u64) << 32) | self.counter as u64
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.counter)
    }
}

/// How frames of a flow are treated when there is no room.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing is dropped: the source waits (back-pressure).
    #[default]
    Reliable,
    /// Old frames give way to new ones.
    Live,
}

/// One numbered sequence of frames: those of one class by one source in one incarnation, for the
/// group or for one receiver alone. Each counts its own frames, and has its own payload keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Who made the frames.
    pub source: MemberId,
    /// In which run of that member.
    pub incarnation: Incarnation,
    /// How they are treated.
    pub class: Class,
    /// The only receiver; `None` for group data, which everybody gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MemberId>,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{:?}", self.source, self.incarnation, self.class)?;
        self.to.map_or(Ok(()), |to| write!(f, "/to {to:?}"))
    }
}

#[cfg(test)]
mod tests;
