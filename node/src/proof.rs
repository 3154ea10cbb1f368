//! Makes genuine frames of drafts, and checks that frames are genuine. Pure: the driver runs both
//! beside the engine, which takes their results as inputs.
//!
//! What a frame needs to be genuine: it is of this session; its source has a certificate of one of
//! the session's coordinators, not expired; the source signed it, alone or in a batch; the tree in it,
//! if any, is signed by one of the coordinators; and in a private session its payload opens with the
//! session's key.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arborcast_protocol::{
    certificate::{Certificate, CertificateError},
    frame::{Body, Frame, Header, InBand, Proof, ShortCertificate},
    id::{Digest, Flow, KeyId, MemberId, SessionId, Signature},
    identity::ed25519,
    limits,
    seal::{FlowKey, PayloadRoot},
    signature,
    tree::SignedHeader,
};
use bytes::Bytes;

use crate::engine::event::Draft;

/// Seals and signs a member's own frames.
#[derive(Debug)]
pub struct FrameMaker {
    session: SessionId,
    keypair: ed25519::Keypair,
    certificate: ShortCertificate,
    root: Option<PayloadRoot>,
    /// One for each class and key id; cleared when the run of the member changes.
    keys: BTreeMap<(Flow, KeyId), FlowKey>,
}

impl FrameMaker {
    /// A maker for the member with `keypair`, certified by `certificate`, which names the session.
    /// `root` is `None` in an open session.
    #[must_use]
    pub fn new(
        keypair: ed25519::Keypair,
        certificate: &Certificate,
        root: Option<PayloadRoot>,
    ) -> Self {
        Self {
            session: certificate.claim.session,
            keypair,
            certificate: certificate.into(),
            root,
            keys: BTreeMap::new(),
        }
    }

    /// Of which session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Shows another certificate from now on.
    pub fn set_certificate(&mut self, certificate: &Certificate) {
        self.certificate = certificate.into();
    }

    /// Makes a frame of each draft, in the same order, and returns it with the draft's payload. All
    /// together they cost one signature for each [`limits::BATCH`] of them.
    ///
    /// # Panics
    /// If a draft breaks the limits of frames, which the engine keeps to.
    pub fn make(&mut self, drafts: Vec<Draft>) -> Vec<(Frame, Bytes)> {
        let bodies: Vec<(Body, Bytes)> = drafts.into_iter().map(|draft| self.seal(draft)).collect();
        let digests: Vec<Digest> = bodies.iter().map(|(body, _)| body.digest()).collect();
        let batches = digests
            .chunks(limits::BATCH)
            .flat_map(|batch| signature::sign_batch(&self.keypair, batch));
        bodies
            .into_iter()
            .zip(batches)
            .map(|((body, payload), batch)| {
                let proof = Proof { certificate: self.certificate, batch };
                let frame = body.sign(&proof).expect("the engine keeps to the limits of frames");
                (frame, payload)
            })
            .collect()
    }

    fn seal(&mut self, Draft { header, payload }: Draft) -> (Body, Bytes) {
        debug_assert_eq!(header.session, self.session, "the engine serves one session");
        debug_assert_eq!(
            header.key.is_some(),
            self.root.is_some(),
            "the engine names a key exactly in private sessions"
        );
        let key = self.root.as_ref().zip(header.key).map(|(root, key)| {
            if self.keys.len() >= OWN_KEYS {
                self.keys.clear();
            }
            let flow = header.flow();
            &*self.keys.entry((flow, key)).or_insert_with(|| root.flow_key(&flow, key))
        });
        (Body::seal(header, &payload, key), payload)
    }
}

/// Keys that a [`FrameMaker`] keeps: two classes under a few key ids.
const OWN_KEYS: usize = 8;

/// Checks frames of one session. Shared by all that read frames: its locks are held for look-ups
/// only, never while a signature is checked or a payload opened.
#[derive(Debug)]
pub struct FrameChecker {
    session: SessionId,
    coordinators: Vec<MemberId>,
    root: Option<PayloadRoot>,
    certificates: Mutex<Recent<Certificate, ()>>,
    roots: Mutex<Recent<SignedRoot, ()>>,
    keys: Mutex<Recent<(Flow, KeyId), Arc<FlowKey>>>,
    trees: Mutex<Recent<SignedHeader, ()>>,
}

/// A root that its source signed. The signature is part of it: else a relay could put a bad one
/// in, which this checker would let pass and the next one would not.
type SignedRoot = (MemberId, Digest, Signature);

impl FrameChecker {
    /// A checker for frames of `session`, whose certificates the `coordinators` sign. `root` is
    /// `None` in an open session.
    #[must_use]
    pub fn new(session: SessionId, coordinators: Vec<MemberId>, root: Option<PayloadRoot>) -> Self {
        Self {
            session,
            coordinators,
            root,
            certificates: Mutex::new(Recent::new(CERTIFICATES)),
            roots: Mutex::new(Recent::new(ROOTS)),
            keys: Mutex::new(Recent::new(KEYS)),
            trees: Mutex::new(Recent::new(TREES)),
        }
    }

    /// The payload of `frame`, opened, if it is genuine. `now_s` is the coordinator's clock in
    /// seconds. What repeats from frame to frame is checked once: certificates, the signature of a
    /// batch.
    ///
    /// # Errors
    /// [`CheckError`] says which part does not hold.
    pub fn check(&self, frame: &Frame, now_s: u64) -> Result<Bytes, CheckError> {
        let header = frame.header();
        if header.session != self.session {
            return Err(CheckError::OtherSession);
        }
        match (&self.root, header.key) {
            (Some(_), None) => return Err(CheckError::NotSealed),
            (None, Some(_)) => return Err(CheckError::SealedInOpenSession),
            (Some(_), Some(key)) if key != TICKET_KEY => return Err(CheckError::UnknownKey(key)),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let Proof { certificate, batch } = frame.proof().map_err(|_| CheckError::MalformedProof)?;
        self.check_certificate(&certificate.whole(header), now_s)?;
        let root = batch.root(&frame.digest()).ok_or(CheckError::BadPath)?;
        let signed = (header.source, root, batch.signature);
        if lock(&self.roots).get(&signed).is_none() {
            if !batch.verify_root(&header.source, &root) {
                return Err(CheckError::BadSignature);
            }
            lock(&self.roots).insert(signed, ());
        }
        if let Some(tree) = &header.in_band {
            self.check_tree(tree)?;
        }
        let payload = match (&self.root, header.key) {
            (Some(root), Some(key)) => self.open(root, key, frame)?,
            (_, _) => frame.sealed(),
        };
        if payload.len() > limits::FRAME_PAYLOAD {
            return Err(CheckError::TooLarge);
        }
        Ok(payload)
    }

    fn check_certificate(&self, certificate: &Certificate, now_s: u64) -> Result<(), CheckError> {
        certificate.in_time(now_s)?;
        if lock(&self.certificates).get(certificate).is_none() {
            certificate.verify(self.session, certificate.claim.member, &self.coordinators)?;
            lock(&self.certificates).insert(*certificate, ());
        }
        Ok(())
    }

    /// That the tree itself is the signed one only who knows its members can tell.
    fn check_tree(&self, tree: &InBand) -> Result<(), CheckError> {
        let signed = tree.header(self.session);
        if lock(&self.trees).get(&signed).is_none() {
            if !signed.verify(self.session, &self.coordinators) {
                return Err(CheckError::ForgedTree);
            }
            lock(&self.trees).insert(signed, ());
        }
        Ok(())
    }

    /// Only for frames whose signature is good, so that nobody else fills the memory of keys.
    fn open(&self, root: &PayloadRoot, key: KeyId, frame: &Frame) -> Result<Bytes, CheckError> {
        let header: &Header = frame.header();
        let flow = header.flow();
        let known = lock(&self.keys).get(&(flow, key));
        let flow_key = known.unwrap_or_else(|| {
            let derived = Arc::new(root.flow_key(&flow, key));
            lock(&self.keys).insert((flow, key), Arc::clone(&derived));
            derived
        });
        flow_key
            .open(header.number, frame.header_bytes(), &frame.sealed())
            .map(Bytes::from)
            .map_err(|_| CheckError::NotOpened)
    }
}

/// The key that every holder of the session's secret has; the only one so far.
const TICKET_KEY: KeyId = KeyId(0);

/// Certificates that are remembered as good: two for each member. Some 500 bytes each.
const CERTIFICATES: usize = 2 * limits::MEMBERS;

/// Signed roots that are remembered as good: more than there are batches on their way at once, and
/// so many bytes are soon paid back by the first batch. Some 300 bytes each.
const ROOTS: usize = 4096;

/// Flow keys that are kept: two classes for each member. Some 250 bytes each; one that was forgotten
/// costs two microseconds.
const KEYS: usize = 2 * limits::MEMBERS;

/// Signed trees that are remembered as good: what sources of one session use at a time, even where
/// some are behind. Some 200 bytes each.
const TREES: usize = 256;

/// Why a frame is dropped. One variant for each cause, so that they can be counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// The frame is of another session.
    #[error("the frame is of another session")]
    OtherSession,
    /// This session is private, but the frame is not encrypted.
    #[error("the frame is not encrypted although the session is private")]
    NotSealed,
    /// This session is open, but the frame says that it is encrypted.
    #[error("the frame is encrypted although the session is open")]
    SealedInOpenSession,
    /// It is encrypted under a key that this version does not know.
    #[error("the frame is encrypted under the unknown key {0}")]
    UnknownKey(KeyId),
    /// The proof cannot be read.
    #[error("the frame's proof cannot be read")]
    MalformedProof,
    /// The source's certificate has expired.
    #[error("the certificate of the frame's source expired {0} s ago")]
    Expired(u64),
    /// The source's certificate is not by a coordinator of this session, or forged.
    #[error("the frame's source is not certified: {0}")]
    NotCertified(CertificateError),
    /// Index and path do not fit each other.
    #[error("the frame's place in its batch is none")]
    BadPath,
    /// The source did not sign this frame.
    #[error("the frame's signature is wrong")]
    BadSignature,
    /// No coordinator of this session signed the tree in it.
    #[error("the tree in the frame is not signed by a coordinator of this session")]
    ForgedTree,
    /// The payload does not open with the session's key.
    #[error("the frame's payload does not open with the session's key")]
    NotOpened,
    /// The payload is over [`limits::FRAME_PAYLOAD`].
    #[error("the frame's payload is too large")]
    TooLarge,
}

impl From<CertificateError> for CheckError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired(ago) => Self::Expired(ago),
            CertificateError::ForeignCoordinator(_)
            | CertificateError::BadSignature
            | CertificateError::OtherSession
            | CertificateError::OtherMember => Self::NotCertified(error),
        }
    }
}

/// A bounded memory of what was used of late: two generations, of which the older one is forgotten
/// when the younger one is half of the bound. What is used moves to the younger one.
#[derive(Debug)]
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

/// A panic elsewhere leaves a whole memory behind: each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
