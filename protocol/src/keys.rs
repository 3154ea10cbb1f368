//! The secret of a private session and what is derived from it.
//!
//! ```text
//! secret ─ HKDF-SHA256 ┬─ "admission" → Ed25519 admission key → hash → session id
//!                      └─ "payload" ‖ session id → payload root (see crate::seal)
//! ```

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use libp2p_identity::ed25519;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    admission::{self, Admission, Statement},
    id::{MemberId, SessionId},
    limits, opaque,
    seal::PayloadRoot,
};

/// The 32 bytes that a private session is made from. Whoever holds them can join and read. Wiped
/// from memory when dropped; never printed but as part of a ticket.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Wraps the bytes; they must come from a good random generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The secret of the session that is known by `name` and guarded by `passphrase`. The same two
    /// texts, however they were [typed](opaque), give the same secret everywhere.
    ///
    /// The session's id is public and follows from both texts. So whoever sees it and knows the
    /// name can try passphrases on a machine of their own, without asking anybody. Each try costs
    /// them one Argon2id, which holds only as long as the passphrase is not among the common ones:
    /// use several random words, or better a ticket, which cannot be guessed.
    ///
    /// Takes some tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// [`PassphraseError`] if one of the texts cannot be used.
    pub fn from_passphrase(name: &str, passphrase: &str) -> Result<Self, PassphraseError> {
        if passphrase.is_empty() {
            return Err(PassphraseError::Empty);
        }
        if passphrase.len() > PASSPHRASE {
            return Err(PassphraseError::TooLong);
        }
        if name.is_empty() {
            return Err(PassphraseError::NameEmpty);
        }
        if name.len() > limits::SESSION_NAME {
            return Err(PassphraseError::NameTooLong);
        }
        let name = opaque::typed(name).map_err(|_| PassphraseError::NameUntypable)?;
        let passphrase = opaque::typed(passphrase).map_err(|_| PassphraseError::Untypable)?;
        let params = Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(Self::LEN))
            .expect("the parameters are in the ranges of RFC 9106");
        let salt = blake3::derive_key("arborcast/1 passphrase salt", name.as_bytes());
        let mut secret = Self([0; Self::LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, &mut secret.0)
            .map_err(|_| PassphraseError::Memory)?;
        Ok(secret)
    }

    /// The key that admits: its public half names the session.
    #[must_use]
    pub fn admission_key(&self) -> ed25519::Keypair {
        let mut seed = self.derive(&[b"arborcast/1 admission key"]);
        let key = ed25519::SecretKey::try_from_bytes(seed.as_mut_slice())
            .expect("32 bytes are an Ed25519 secret key");
        ed25519::Keypair::from(key)
    }

    /// The id of the session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        admission::private_session(&MemberId::from(&self.admission_key()))
    }

    /// The root of the keys that seal payloads under the key id 0.
    #[must_use]
    pub fn payload_root(&self) -> PayloadRoot {
        let session = self.session();
        PayloadRoot::new(session, self.derive(&[b"arborcast/1 payload root", session.as_bytes()]))
    }

    fn derive(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        expand(&self.0, info)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// 32 bytes by HKDF-SHA256 ([RFC 5869]) with the salt of this protocol.
///
/// [RFC 5869]: https://www.rfc-editor.org/rfc/rfc5869
pub(crate) fn expand(key: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(b"arborcast/1"), key)
        .expand_multi_info(info, out.as_mut_slice())
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    out
}

/// Memory of one Argon2id, in KiB: what OWASP's Password Storage Cheat Sheet asks for at least
/// with two passes and one lane.
const ARGON2_KIB: u32 = 19 * 1024;

/// Passes of Argon2id over its memory.
const ARGON2_PASSES: u32 = 2;

/// Lanes of Argon2id.
const ARGON2_LANES: u32 = 1;

/// Longest passphrase, in bytes: more is a file given by mistake.
const PASSPHRASE: usize = 1024;

/// Why name and passphrase give no secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// There is no passphrase.
    #[error("the passphrase is empty; give one, or make the session open on purpose")]
    Empty,
    /// The passphrase is longer than 1024 bytes.
    #[error("the passphrase is longer than {PASSPHRASE} bytes; choose a shorter one")]
    TooLong,
    /// There are signs in it that cannot be typed.
    #[error("the passphrase has control characters or signs that cannot be typed; leave them out")]
    Untypable,
    /// There are signs in the name that cannot be typed.
    #[error(
        "the session's name has control characters or signs that cannot be typed; leave them out"
    )]
    NameUntypable,
    /// There is no name.
    #[error("a session with a passphrase needs a name")]
    NameEmpty,
    /// The name is longer than [`limits::SESSION_NAME`].
    #[error("the session's name is longer than {} bytes", limits::SESSION_NAME)]
    NameTooLong,
    /// The memory that Argon2id takes is not there.
    #[error("not enough memory to derive the key; {} MiB are needed", ARGON2_KIB / 1024)]
    Memory,
}

/// What a member holds to come in and to read.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// The secret of a private session.
    Private(Secret),
    /// The name of an open one: anybody may join, nothing is encrypted.
    Open {
        /// At most [`limits::SESSION_NAME`] bytes.
        name: String,
    },
}

impl Access {
    /// The id of the session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self {
            Self::Private(secret) => secret.session(),
            Self::Open { name } => admission::open_session(name),
        }
    }

    /// What shows the coordinator that this member may come in.
    #[must_use]
    pub fn admission(&self, statement: &Statement) -> Admission {
        match self {
            Self::Private(secret) => statement.sign(&secret.admission_key()),
            Self::Open { name } => {
                Admission::Open { name: name.clone(), challenge: statement.challenge }
            }
        }
    }

    /// The root of the payload keys; `None` in an open session.
    #[must_use]
    pub fn payload_root(&self) -> Option<PayloadRoot> {
        match self {
            Self::Private(secret) => Some(secret.payload_root()),
            Self::Open { .. } => None,
        }
    }

    /// Whether anybody may join and read.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// What people can be shown: the name of an open session, the id of a private one.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Private(secret) => format!("private session {:?}", secret.session()),
            Self::Open { name } => format!("open session {name:?}"),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private(_) => f.write_str("Private(..)"),
            Self::Open { name } => f.debug_struct("Open").field("name", name).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
