//! `/arborcast/notice/1`: a subscription update for scope `neighbours` (R6), from the coordinator.
//! Updates for scope `tree` go by gossipsub as [`crate::tree::Update`].

use serde::{Deserialize, Serialize};

use crate::{id::SessionId, path::Neighbours, session::Contact};

/// From the coordinator to one member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The session.
    pub session: SessionId,
    /// What is new.
    pub news: News,
}

/// What a notice tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// New neighbours (R6, scope `neighbours`).
    Neighbours(Box<Neighbours>),
    /// Members to connect to. None: the coordinator only wants to know whether the receiver answers.
    Candidates(Vec<Contact>),
    /// The receiver's membership has ended, with the reason.
    Removed(crate::refusal::Refusal),
}

/// The member has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Noted {}
