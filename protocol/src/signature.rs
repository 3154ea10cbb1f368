//! Ed25519 under domain strings, and batches of frames under one signature.
//!
//! Large things are hashed with BLAKE3 first: Ed25519 hashes its input twice with SHA-512, which
//! for 64 KiB costs more than the curve.

use libp2p_identity::ed25519;
use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, MemberId, Signature},
    limits,
};

/// Signs `message` under `domain`, so that it can stand for nothing else.
#[must_use]
pub fn sign(keypair: &ed25519::Keypair, domain: &[u8], message: &[u8]) -> Signature {
    let bytes = keypair.sign(&framed(domain, message));
    Signature::from_bytes(<[u8; 64]>::try_from(bytes).expect("an Ed25519 signature has 64 bytes"))
}

/// Whether `signer` signed `message` under `domain`.
#[must_use]
pub fn verify(signer: &MemberId, domain: &[u8], message: &[u8], signature: &Signature) -> bool {
    signer.verify(&framed(domain, message), signature)
}

/// Length of the domain, domain, message: no two pairs give the same bytes.
fn framed(domain: &[u8], message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + domain.len() + message.len());
    bytes.push(u8::try_from(domain.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(domain);
    bytes.extend_from_slice(message);
    bytes
}

const DOMAIN: &[u8] = b"arborcast/1 frames";

/// Stands where a batch has no frame: no hash has this value.
const NOTHING: Digest = Digest::from_bytes([0; 32]);

/// What shows that a frame is its source's: a signature of the root of a Merkle tree of frames, and
/// the frame's path to that root. One frame alone has an empty path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchProof {
    /// The source's signature of the root.
    #[serde(rename = "s")]
    pub signature: Signature,
    /// Position of the frame in its batch.
    #[serde(rename = "i")]
    pub index: u16,
    /// Hashes of the siblings from the leaf upwards; at most [`limits::BATCH_PATH`].
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Digest>,
}

/// Signs up to [`limits::BATCH`] frames at once, given their digests. Frames beyond are not signed:
/// the result is as long as what was signed.
#[must_use]
pub fn sign_batch(keypair: &ed25519::Keypair, digests: &[Digest]) -> Vec<BatchProof> {
    let digests = digests.get(..digests.len().min(limits::BATCH)).unwrap_or_default();
    let mut levels: Vec<Vec<Digest>> = vec![digests.iter().map(leaf).collect()];
    while let Some(level) = levels.last()
        && level.len() > 1
    {
        // An odd node out pairs with nothing, not with itself: so a path fits one position only.
        let above = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                [left, ..] => node(left, &NOTHING),
                [] => unreachable!("chunks are not empty"),
            })
            .collect();
        levels.push(above);
    }
    let Some(root) = levels.last().and_then(|level| level.first()) else { return Vec::new() };
    let signature = sign(keypair, DOMAIN, root.as_bytes());
    (0..digests.len())
        .map(|index| {
            let path = levels
                .iter()
                .take(levels.len() - 1)
                .scan(index, |at, level| {
                    let sibling = level.get(*at ^ 1).copied().unwrap_or(NOTHING);
                    *at /= 2;
                    Some(sibling)
                })
                .collect();
            BatchProof { signature, index: u16::try_from(index).unwrap_or(u16::MAX), path }
        })
        .collect()
}

impl BatchProof {
    /// The root that this proof leads to from a frame with `digest`; `None` if the path is longer
    /// than any real one or the index does not fit it.
    #[must_use]
    pub fn root(&self, digest: &Digest) -> Option<Digest> {
        let depth = self.path.len();
        if depth > limits::BATCH_PATH || usize::from(self.index) >= 1 << depth {
            return None;
        }
        let mut at = self.index;
        let mut hash = leaf(digest);
        for sibling in &self.path {
            hash = if at.is_multiple_of(2) { node(&hash, sibling) } else { node(sibling, &hash) };
            at /= 2;
        }
        Some(hash)
    }

    /// Whether `source` signed `root`, which must come from [`BatchProof::root`].
    #[must_use]
    pub fn verify_root(&self, source: &MemberId, root: &Digest) -> bool {
        verify(source, DOMAIN, root.as_bytes(), &self.signature)
    }

    /// Whether `source` signed the frame with `digest`.
    #[must_use]
    pub fn verify(&self, source: &MemberId, digest: &Digest) -> bool {
        self.root(digest).is_some_and(|root| self.verify_root(source, &root))
    }
}

fn leaf(digest: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 frame leaf");
    hasher.update(digest.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("arborcast/1 frame node");
    hasher.update(left.as_bytes()).update(right.as_bytes());
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests;
