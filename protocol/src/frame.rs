//! `/arborcast/data/1`: frames, the unit of number, signature, encryption, repair and forwarding.
//!
//! A frame is made once, by its source, and never changed; relays read the header and pass the same
//! bytes on. On a substream each frame follows a 32-bit big-endian length:
//!
//! ```text
//! u16 length ‖ header (CBOR) ‖ u16 length ‖ proof (CBOR) ‖ sealed payload
//! ```

use std::fmt;

use bytes::{BufMut as _, Bytes};
use serde::{Deserialize, Serialize};

use crate::{
    certificate::{Certificate, Claim, Role},
    codec::{self, DecodeError},
    id::{
        Class, Digest, Flow, FrameNo, Incarnation, KeyId, MemberId, SeqNo, ServiceId, SessionId,
        Signature,
    },
    limits,
    seal::{self, FlowKey},
    signature::BatchProof,
};

mod in_band;

pub use in_band::InBand;

/// What relays read: in clear, covered by signature and seal. There is no epoch in it: a frame
/// outlives trees.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The session.
    #[serde(rename = "x")]
    pub session: SessionId,
    /// Who made it (patent: "identification information").
    #[serde(rename = "o")]
    pub source: MemberId,
    /// In which run.
    #[serde(rename = "r")]
    pub incarnation: Incarnation,
    /// How it is treated when there is no room.
    #[serde(rename = "c")]
    pub class: Class,
    /// Counts the frames of the flow, from 1 (patent: "number identifier").
    #[serde(rename = "n")]
    pub number: FrameNo,
    /// What kind of data it is (patent: "service identifier" of the message); for applications alone.
    ///
    /// Whether data is distributed can be said by the service of the channel as well (claim 7): that
    /// is here the protocol of the substream. What comes on `/arborcast/data/1` is group data and goes
    /// to everybody, unless `to` names its only receiver.
    #[serde(rename = "v")]
    pub service: ServiceId,
    /// Number of the first or only message in it.
    #[serde(rename = "q")]
    pub first_seq: SeqNo,
    /// What it holds.
    #[serde(rename = "h")]
    pub content: Content,
    /// The payload key; `None` in open sessions, which are not encrypted.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The only receiver (R9); `None` for group data. Frames with it go along the path of the tree,
    /// count in a flow of their own, and are handed out nowhere else. Relays can read them, for the
    /// payload key is the session's.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub to: Option<MemberId>,
    /// The tree that it is to be passed on along (R13); `None` to leave that to the relays.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub in_band: Option<InBand>,
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Whole messages that follow each other: for each a 32-bit big-endian length and its bytes.
    #[serde(rename = "m")]
    Messages {
        /// How many; up to [`limits::MESSAGES_PER_FRAME`]. A frame with none shows whoever missed the
        /// frames before it that there were some, when no other is due (RFC 3208 calls that a
        /// heartbeat of the source, RFC 5740 a flush).
        #[serde(rename = "n")]
        count: u32,
    },
    /// One piece of a large message.
    #[serde(rename = "p")]
    Piece {
        /// Which, from 0.
        #[serde(rename = "i")]
        index: u32,
        /// Of how many; from 2 to [`limits::PIECES`], none of them empty.
        #[serde(rename = "n")]
        of: u32,
        /// Length of the whole message in bytes.
        #[serde(rename = "b")]
        bytes: u64,
    },
}

impl Header {
    /// The flow that the frame is part of.
    #[must_use]
    pub const fn flow(&self) -> Flow {
        Flow { source: self.source, incarnation: self.incarnation, class: self.class, to: self.to }
    }

    fn check(&self) -> Result<(), DecodeError> {
        let content = match self.content {
            Content::Messages { count } => count <= limits::MESSAGES_PER_FRAME,
            Content::Piece { index, of, bytes } => {
                (2..=limits::PIECES).contains(&of)
                    && index < of
                    && bytes <= limits::MESSAGE as u64
                    && bytes >= u64::from(of)
                    && bytes <= u64::from(of) * limits::FRAME_PAYLOAD as u64
            }
        };
        let content = content && self.to != Some(self.source);
        if content && self.number.0 > 0 && self.number.0 < u64::MAX && self.first_seq.0 > 0 {
            Ok(())
        } else {
            Err(DecodeError::Malformed("a frame header contradicts itself"))
        }
    }
}

/// What shows that a frame is genuine, so that it verifies alone, wherever it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The rest of the source's certificate; session, member and incarnation are in the header.
    #[serde(rename = "c")]
    pub certificate: ShortCertificate,
    /// The source's signature.
    #[serde(rename = "b")]
    pub batch: BatchProof,
}

/// A certificate without what the frame header says already.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ShortCertificate {
    /// See [`Claim::role`].
    #[serde(rename = "r")]
    pub role: Role,
    /// See [`Claim::expires_s`].
    #[serde(rename = "e")]
    pub expires_s: u64,
    /// Who certified.
    #[serde(rename = "o")]
    pub coordinator: MemberId,
    /// The coordinator's signature.
    #[serde(rename = "s")]
    pub signature: Signature,
}

impl From<&Certificate> for ShortCertificate {
    fn from(certificate: &Certificate) -> Self {
        Self {
            role: certificate.claim.role,
            expires_s: certificate.claim.expires_s,
            coordinator: certificate.coordinator,
            signature: certificate.signature,
        }
    }
}

impl ShortCertificate {
    /// The whole certificate of the frame's source.
    #[must_use]
    pub fn whole(&self, header: &Header) -> Certificate {
        Certificate {
            claim: Claim {
                session: header.session,
                member: header.source,
                incarnation: header.incarnation,
                role: self.role,
                expires_s: self.expires_s,
            },
            coordinator: self.coordinator,
            signature: self.signature,
        }
    }
}

/// A frame as it crosses edges: the bytes, and what was read from them. Clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    header: Header,
    bytes: Bytes,
    /// End of the header, beginning and end of the proof.
    header_end: usize,
    proof_end: usize,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} #{} ({} bytes)", self.header.flow(), self.header.number, self.bytes.len())
    }
}

impl Frame {
    /// Puts a frame together. `sealed` is what [`crate::seal`] made of the payload.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if a part is over its limit, [`DecodeError::Malformed`] if the
    /// header contradicts itself.
    pub fn new(header: Header, proof: &Proof, sealed: &[u8]) -> Result<Self, DecodeError> {
        let mut body = Body::new(header, sealed.len());
        body.bytes.extend_from_slice(sealed);
        body.sign(proof)
    }

    /// Reads a frame; the signature is not checked yet.
    ///
    /// # Errors
    /// [`DecodeError`] if a part is over its limit or not what it must be.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > limits::FRAME {
            return Err(DecodeError::TooLarge { len: bytes.len(), limit: limits::FRAME });
        }
        let (head, after) = part(&bytes, limits::FRAME_HEADER)?;
        let header: Header = codec::decode(head, limits::FRAME_HEADER)?;
        header.check()?;
        let (proof, sealed) = part(after, limits::FRAME_PROOF)?;
        if sealed.len() > limits::FRAME_PAYLOAD + seal::TAG {
            return Err(DecodeError::TooLarge {
                len: sealed.len(),
                limit: limits::FRAME_PAYLOAD + seal::TAG,
            });
        }
        let header_end = 2 + head.len();
        let proof_end = header_end + 2 + proof.len();
        Ok(Self { header, bytes, header_end, proof_end })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes that cross an edge, without the length before them.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length on an edge in bytes, without the length before them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a frame has a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The header as encoded: associated data of the seal.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        self.bytes.get(2..self.header_end).unwrap_or_default()
    }

    /// The sealed payload.
    #[must_use]
    pub fn sealed(&self) -> Bytes {
        self.bytes.slice(self.proof_end..)
    }

    /// Reads the proof.
    ///
    /// # Errors
    /// [`DecodeError`] if it is none.
    pub fn proof(&self) -> Result<Proof, DecodeError> {
        let proof = self.bytes.get(self.header_end + 2..self.proof_end).unwrap_or_default();
        codec::decode(proof, limits::FRAME_PROOF)
    }

    /// What the source signs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(self.header_bytes(), self.bytes.get(self.proof_end..).unwrap_or_default())
    }
}

/// A frame that its source has not signed yet: the sealed payload with room before it for all else,
/// so that payloads are not copied once more.
#[derive(Clone, Debug)]
pub struct Body {
    header: Header,
    header_bytes: Vec<u8>,
    /// [`Self::ROOM`] and [`Self::header_bytes`] long before the payload begins.
    bytes: Vec<u8>,
}

impl Body {
    /// Two lengths, and the proof.
    const ROOM: usize = 2 + 2 + limits::FRAME_PROOF;

    fn new(header: Header, len: usize) -> Self {
        let header_bytes = codec::encode(&header);
        let room = Self::ROOM + header_bytes.len();
        let mut bytes = Vec::with_capacity(room + len);
        bytes.resize(room, 0);
        Self { header, header_bytes, bytes }
    }

    /// The payload `plain`, sealed with `key`, or as it is.
    #[must_use]
    pub fn seal(header: Header, plain: &[u8], key: Option<&FlowKey>) -> Self {
        let mut body = Self::new(header, plain.len() + seal::TAG);
        let begin = body.bytes.len();
        body.bytes.extend_from_slice(plain);
        if let Some(key) = key {
            key.seal_from(body.header.number, &body.header_bytes, &mut body.bytes, begin);
        }
        body
    }

    fn sealed(&self) -> &[u8] {
        self.bytes.get(Self::ROOM + self.header_bytes.len()..).unwrap_or_default()
    }

    /// What the source signs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.header_bytes, self.sealed())
    }

    /// Puts header and proof before the payload.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if a part is over its limit, [`DecodeError::Malformed`] if the
    /// header contradicts itself.
    pub fn sign(self, proof: &Proof) -> Result<Frame, DecodeError> {
        self.header.check()?;
        let proof = codec::encode(proof);
        let most = |len, limit| {
            if len <= limit { Ok(()) } else { Err(DecodeError::TooLarge { len, limit }) }
        };
        most(self.sealed().len(), limits::FRAME_PAYLOAD + seal::TAG)?;
        most(self.header_bytes.len(), limits::FRAME_HEADER)?;
        most(proof.len(), limits::FRAME_PROOF)?;
        let Self { header, header_bytes, mut bytes } = self;
        let begin = limits::FRAME_PROOF - proof.len();
        let mut room = bytes.get_mut(begin..).unwrap_or_default();
        for part in [&header_bytes, &proof] {
            let len = u16::try_from(part.len()).map_err(|_| DecodeError::TooLarge {
                len: part.len(),
                limit: usize::from(u16::MAX),
            })?;
            room.put_u16(len);
            room.put_slice(part);
        }
        let header_end = 2 + header_bytes.len();
        // Unused room is not worth a copy of a large frame, but small ones would be mostly that.
        let bytes = if begin > bytes.len() / 16 {
            Bytes::copy_from_slice(bytes.get(begin..).unwrap_or_default())
        } else {
            Bytes::from(bytes).slice(begin..)
        };
        Ok(Frame { header, bytes, header_end, proof_end: header_end + 2 + proof.len() })
    }
}

/// What the source of a frame signs: header and sealed payload.
#[must_use]
pub fn digest(header_bytes: &[u8], sealed: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 frame");
    hasher.update(&(header_bytes.len() as u64).to_be_bytes());
    hasher.update(header_bytes).update(sealed);
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Splits a 16-bit length and that many bytes off.
fn part(bytes: &[u8], limit: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    let (len, rest) = bytes.split_first_chunk::<2>().ok_or(DecodeError::Malformed("ends early"))?;
    let len = usize::from(u16::from_be_bytes(*len));
    if len > limit {
        return Err(DecodeError::TooLarge { len, limit });
    }
    rest.split_at_checked(len).ok_or(DecodeError::Malformed("ends early"))
}

#[cfg(test)]
mod tests;
