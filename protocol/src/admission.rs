//! Sessions that certify themselves, and the proof that a member may come in.
//!
//! The id of a private session is the hash of its admission public key, so the coordinator needs
//! no list of sessions and nobody can take an id. Whoever holds the session's secret derives the
//! admission key and signs a challenge with it; the coordinator never learns the secret.

use libp2p_identity::ed25519;
use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{Challenge, Incarnation, MemberId, SessionId, Signature},
    limits,
};

/// What a joiner shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// A private session: the admission public key, whose hash is the session id, and a signature
    /// with it.
    Private {
        /// The session's admission public key (not a member, but the same kind of key).
        key: MemberId,
        /// What the coordinator had asked to sign.
        challenge: Challenge,
        /// Over [`Statement`].
        proof: Signature,
    },
    /// An open session: its name, whose hash is the session id.
    Open {
        /// At most [`limits::SESSION_NAME`] bytes.
        name: String,
        /// What the coordinator had asked to sign; keeps joins from being replayed here too.
        challenge: Challenge,
    },
}

/// What is signed to be let in: bound to session, coordinator, member, run and challenge, so that a
/// proof overheard or collected elsewhere opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// The session.
    pub session: SessionId,
    /// Who is asked.
    pub coordinator: MemberId,
    /// Who asks, as the connection authenticated it.
    pub member: MemberId,
    /// In which run.
    pub incarnation: Incarnation,
    /// What the coordinator drew for this attempt.
    pub challenge: Challenge,
}

const DOMAIN: &[u8] = b"arborcast/1 admission";

/// The id of the private session with this admission public key.
#[must_use]
pub fn private_session(key: &MemberId) -> SessionId {
    SessionId::from_bytes(blake3::derive_key("arborcast/1 private session", key.as_bytes()))
}

/// The id of the open session with this name.
#[must_use]
pub fn open_session(name: &str) -> SessionId {
    SessionId::from_bytes(blake3::derive_key("arborcast/1 open session", name.as_bytes()))
}

impl Statement {
    /// Signs with the session's admission key.
    #[must_use]
    pub fn sign(&self, admission_key: &ed25519::Keypair) -> Admission {
        Admission::Private {
            key: MemberId::from(admission_key),
            challenge: self.challenge,
            proof: crate::signature::sign(admission_key, DOMAIN, &codec::encode(self)),
        }
    }
}

/// Why an admission does not count. Told to the operator, not to the joiner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Key or name do not hash to the session id.
    #[error("key or name do not belong to the session")]
    OtherSession,
    /// The challenge is not the one that was drawn.
    #[error("the challenge is not the one that was drawn")]
    StaleChallenge,
    /// The signature does not match.
    #[error("the proof is wrong")]
    BadProof,
    /// The name is too long.
    #[error("the session's name is too long")]
    NameTooLong,
}

impl Admission {
    /// The challenge it answers.
    #[must_use]
    pub const fn challenge(&self) -> Challenge {
        match self {
            Self::Private { challenge, .. } | Self::Open { challenge, .. } => *challenge,
        }
    }

    /// Whether it opens an open session.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Checks against what the coordinator knows by itself: whom it asked what.
    ///
    /// # Errors
    /// Says which part does not hold.
    pub fn verify(&self, statement: &Statement) -> Result<(), AdmissionError> {
        if self.challenge() != statement.challenge {
            return Err(AdmissionError::StaleChallenge);
        }
        match self {
            Self::Private { key, proof, .. } => {
                if private_session(key) != statement.session {
                    return Err(AdmissionError::OtherSession);
                }
                if !crate::signature::verify(key, DOMAIN, &codec::encode(statement), proof) {
                    return Err(AdmissionError::BadProof);
                }
            }
            Self::Open { name, .. } => {
                if name.len() > limits::SESSION_NAME {
                    return Err(AdmissionError::NameTooLong);
                }
                if open_session(name) != statement.session {
                    return Err(AdmissionError::OtherSession);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
