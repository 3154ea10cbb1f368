//! Deterministic keys, ids and sample messages for tests and simulations. Never for real use: the
//! private keys are known to everybody.

use libp2p_identity::ed25519;

use crate::{
    certificate::{Certificate, Claim, Role},
    frame::{Content, Frame, Header, Proof, ShortCertificate},
    id::{
        Class, Digest, FrameNo, Incarnation, KeyId, MemberId, SeqNo, ServiceId, SessionId,
        Signature,
    },
    signature::BatchProof,
};

/// Number of the keypair that signs as coordinator here.
pub const COORDINATOR: u64 = u64::MAX;

/// Certificates made here are good up to this second, both on a clock that starts at 0 and on one
/// that counts since 1970.
pub const EXPIRES_S: u64 = u32::MAX as u64;

fn bytes(context: &str, n: u64) -> [u8; 32] {
    blake3::derive_key(context, &n.to_be_bytes())
}

/// The `n`-th keypair.
#[must_use]
pub fn keypair(n: u64) -> ed25519::Keypair {
    let secret = ed25519::SecretKey::try_from_bytes(bytes("arborcast/1 testing keypair", n))
        .expect("32 bytes are an Ed25519 secret key");
    ed25519::Keypair::from(secret)
}

/// The member with the `n`-th keypair. Ids are in no order.
#[must_use]
pub fn member(n: u64) -> MemberId {
    MemberId::from(&keypair(n))
}

/// The coordinator that signs [`certificate`]s.
#[must_use]
pub fn coordinator() -> MemberId {
    member(COORDINATOR)
}

/// The `n`-th session; neither private nor open, so nobody can be admitted to it by proof.
#[must_use]
pub fn session(n: u64) -> SessionId {
    SessionId::from_bytes(bytes("arborcast/1 testing session", n))
}

/// The `n`-th incarnation.
#[must_use]
pub fn incarnation(n: u64) -> Incarnation {
    let [bytes, _] = bytes("arborcast/1 testing incarnation", n)
        .as_chunks::<16>()
        .0
        .try_into()
        .expect("32 bytes are two times 16");
    Incarnation::from_bytes(bytes)
}

/// A certificate by [`coordinator`], good up to [`EXPIRES_S`].
#[must_use]
pub fn certificate(session: SessionId, member: MemberId, incarnation: Incarnation) -> Certificate {
    let claim = Claim { session, member, incarnation, role: Role::Member, expires_s: EXPIRES_S };
    Certificate::sign(claim, &keypair(COORDINATOR))
}

/// A proof that proves nothing: for simulated worlds, where nobody checks it.
#[must_use]
pub fn proof() -> Proof {
    let signature = Signature::from_bytes([0; 64]);
    Proof {
        certificate: ShortCertificate {
            role: Role::Member,
            expires_s: EXPIRES_S,
            coordinator: MemberId::from_bytes([0; 32]),
            signature,
        },
        batch: BatchProof { signature, index: 0, path: Vec::<Digest>::new() },
    }
}

/// Header of a frame of one message: class reliable, service 0, the message numbered as the frame.
#[must_use]
pub fn header(
    session: SessionId,
    source: MemberId,
    incarnation: Incarnation,
    number: u64,
) -> Header {
    Header {
        session,
        source,
        incarnation,
        class: Class::Reliable,
        number: FrameNo(number),
        service: ServiceId(0),
        first_seq: SeqNo(number),
        content: Content::Messages { count: 1 },
        key: Some(KeyId(0)),
        to: None,
        in_band: None,
    }
}

/// A frame with [`proof`], its payload not sealed.
///
/// # Panics
/// If header or payload break a limit.
#[must_use]
pub fn frame(header: Header, payload: &[u8]) -> Frame {
    Frame::new(header, &proof(), payload).expect("tests keep to the limits of frames")
}
