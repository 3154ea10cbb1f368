//! What members say on their standard output, as far as the demonstration listens.

use serde::{Deserialize, Serialize};

use super::super::json;

/// The first line of the coordinator's process.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Ready {
    pub(super) event: String,
    pub(super) ticket: String,
}

/// A line of a member's process.
#[derive(Deserialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Heard {
    Ready,
    Tree(json::Tree),
    Channel(json::Channel),
    Message {
        source: String,
        #[serde(default)]
        text: String,
    },
    Stats {
        channels: Vec<Crossed>,
    },
    Lost {
        reason: String,
    },
    Error {
        code: String,
        message: String,
    },
    #[serde(other)]
    Other,
}

/// Data frames that a member put on a channel.
#[derive(Deserialize, Clone, Debug)]
pub(super) struct Crossed {
    pub(super) peer_id: String,
    pub(super) frames_out: u64,
}
