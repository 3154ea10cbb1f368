//! The coordinator's word that a member was admitted; shown on every edge and in every frame.

use libp2p_identity::ed25519;
use serde::{Deserialize, Serialize};

use crate::{
    codec,
    id::{Incarnation, MemberId, SessionId, Signature},
};

/// What a member may do. Unknown roles of later versions are refused by decoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and sends.
    #[default]
    Member,
}

/// What is certified. `expires_s` counts on the coordinator's clock, which members know from the
/// answer to their join (`now_s`), never on their own: a wrong wall clock locks nobody out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The session it is valid in.
    pub session: SessionId,
    /// Who was admitted.
    pub member: MemberId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// As what.
    pub role: Role,
    /// Seconds on the coordinator's clock after which it is void.
    pub expires_s: u64,
}

/// A claim with the signature of the coordinator that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// What is certified.
    pub claim: Claim,
    /// Who certifies it.
    pub coordinator: MemberId,
    /// Over [`Claim`] in its canonical encoding under a domain string.
    pub signature: Signature,
}

const DOMAIN: &[u8] = b"arborcast/1 certificate";

/// Why a certificate does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// The signer is not a coordinator of this session.
    #[error("the certificate is signed by {0}, which is not a coordinator of this session")]
    ForeignCoordinator(MemberId),
    /// The signature does not match.
    #[error("the certificate's signature is wrong")]
    BadSignature,
    /// It was for another session.
    #[error("the certificate is for another session")]
    OtherSession,
    /// It is for another member than the one that shows it.
    #[error("the certificate is for another member")]
    OtherMember,
    /// Its time is over.
    #[error("the certificate expired {0} s ago")]
    Expired(u64),
}

impl Certificate {
    /// Signs `claim` as coordinator.
    #[must_use]
    pub fn sign(claim: Claim, coordinator: &ed25519::Keypair) -> Self {
        Self {
            claim,
            coordinator: MemberId::from(coordinator),
            signature: crate::signature::sign(coordinator, DOMAIN, &codec::encode(&claim)),
        }
    }

    /// Checks everything but the clock.
    ///
    /// # Errors
    /// Says which part does not hold.
    pub fn verify(
        &self,
        session: SessionId,
        member: MemberId,
        coordinators: &[MemberId],
    ) -> Result<(), CertificateError> {
        if self.claim.session != session {
            return Err(CertificateError::OtherSession);
        }
        if self.claim.member != member {
            return Err(CertificateError::OtherMember);
        }
        if !coordinators.contains(&self.coordinator) {
            return Err(CertificateError::ForeignCoordinator(self.coordinator));
        }
        let claim = codec::encode(&self.claim);
        if !crate::signature::verify(&self.coordinator, DOMAIN, &claim, &self.signature) {
            return Err(CertificateError::BadSignature);
        }
        Ok(())
    }

    /// Checks the clock: `now_s` is the coordinator's time as the checker knows it.
    ///
    /// # Errors
    /// [`CertificateError::Expired`] with how long ago.
    pub fn in_time(&self, now_s: u64) -> Result<(), CertificateError> {
        match now_s.checked_sub(self.claim.expires_s) {
            Some(over) if over > 0 => Err(CertificateError::Expired(over)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
