//! Why a command ends without having done its work.

use crate::{HostError, InvitationError, JoinError, SpawnError, protocol::refusal::Code};
use arborcast_coordinator::StartError;
use arborcast_net::{settings::SettingsError, store::IdentityError};

use super::Exit;

/// The end of a command that failed: for the shell, for programs, and for people.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the process exits with.
    pub(super) exit: Exit,
    /// The code of the `error` event.
    pub(super) code: &'static str,
    /// Cause and what to do.
    pub(super) message: String,
}

impl Failure {
    /// Something failed.
    pub(super) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, code, message: message.into() }
    }

    /// The command was called wrongly.
    pub(super) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code, message: message.into() }
    }
}

/// An error with its causes in one line. Causes that the error tells already are left out.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The `error` code for a refusal by the coordinator.
pub(super) fn refusal_code(code: Code) -> &'static str {
    match code {
        Code::NO_OPEN_SESSIONS => "no_open_sessions",
        Code::SESSION_FULL => "session_full",
        Code::TOO_MANY_SESSIONS => "too_many_sessions",
        Code::RATE_LIMITED => "rate_limited",
        Code::REPLACED => "replaced",
        Code::DETACHED => "detached",
        Code::NOT_COORDINATOR => "not_coordinator",
        Code::INVALID => "invalid",
        // Whatever else a coordinator of this or a later version says.
        _ => "not_admitted",
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let message = with_causes(&error);
        let (exit, code) = match &error {
            JoinError::Refused(refusal) => (Exit::NotAdmitted, refusal_code(refusal.code)),
            JoinError::NoCoordinator => (Exit::Usage, "no_coordinator"),
            JoinError::Address { .. } => (Exit::Usage, "bad_address"),
            JoinError::Unreachable { .. } => (Exit::Unreachable, "unreachable"),
            JoinError::WrongPeer { .. } => (Exit::Unreachable, "wrong_peer"),
            JoinError::NotLocated(_) => (Exit::Unreachable, "not_located"),
            JoinError::AlreadyJoined | JoinError::Closed => (Exit::Failed, "failed"),
        };
        Self { exit, code, message }
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        let message = with_causes(&error);
        match error {
            SpawnError::Identity(error) => error.into(),
            SpawnError::NotEd25519 | SpawnError::Config(_) => Self::usage("usage", message),
            SpawnError::Listen(_) => Self::failed("listen", message),
            SpawnError::Network(_) => Self::failed("failed", message),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let message = with_causes(&error);
        match error {
            StartError::NotEd25519 | StartError::Config(_) => Self::usage("usage", message),
            StartError::Listen(_) => Self::failed("listen", message),
            StartError::Network(_) | _ => Self::failed("failed", message),
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Start(error) => error.into(),
            HostError::Identity(error) => error.into(),
            HostError::Invitation(error) => error.into(),
            HostError::Join(error) => error.into(),
            HostError::Ticket(_) | HostError::NoRandomness => {
                Self::failed("failed", with_causes(&error))
            }
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let message = with_causes(&error);
        match error {
            IdentityError::InUse(_) => Self::usage("identity_in_use", message),
            IdentityError::NotAKey(_)
            | IdentityError::Torn { .. }
            | IdentityError::Exposed(_)
            | IdentityError::Io { .. }
            | _ => Self::usage("bad_identity", message),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::usage("bad_config", with_causes(&error))
    }
}

impl From<InvitationError> for Failure {
    fn from(error: InvitationError) -> Self {
        Self::usage("bad_session", with_causes(&error))
    }
}
