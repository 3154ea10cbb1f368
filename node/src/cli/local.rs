//! The local socket on which a running member tells its own user about itself: one line of JSON asks,
//! one line answers. The folder belongs to the user and nobody else gets in.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{Session, Status, protocol::id::MemberId};
use serde::{Deserialize, Serialize};

use super::{failure::Failure, json};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(super) use unix::{ask, serve};

#[cfg(not(unix))]
mod none;
#[cfg(not(unix))]
pub(super) use none::{ask, serve};

/// Where the socket is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the user's folder, named for the process.
    OfProcess,
    /// Where the user wants it.
    At(PathBuf),
}

impl From<super::options::LocalArgs> for Place {
    fn from(args: super::options::LocalArgs) -> Self {
        args.socket.map_or(Self::OfProcess, Self::At)
    }
}

/// What a member tells beside what its session knows.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) command: &'static str,
    pub(super) name: String,
    pub(super) nick: String,
    pub(super) open: bool,
}

/// A member at one moment, as it tells its user.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(super) struct Snapshot {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) peer_id: String,
    pub(super) nick: String,
    pub(super) session: String,
    /// What people call the session.
    pub(super) name: String,
    /// Anybody who knows the name can read.
    pub(super) open: bool,
    pub(super) coordinator: String,
    /// The tree in force; `None` before the first one.
    pub(super) tree: Option<json::Tree>,
    /// All members of the tree, as far as they are known.
    pub(super) members: Vec<json::Peer>,
    pub(super) channels: Vec<json::Channel>,
    pub(super) stats: serde_json::Value,
}

impl Snapshot {
    fn new(about: &About, status: &Status) -> Self {
        let tree = status.epoch.map(|epoch| json::Tree::of_status(epoch, status));
        let members = status.tree.iter().flat_map(|tree| tree.members());
        Self {
            pid: std::process::id(),
            command: about.command.to_owned(),
            peer_id: status.member.to_string(),
            nick: about.nick.clone(),
            session: status.session.to_string(),
            name: about.name.clone(),
            open: about.open,
            coordinator: status.coordinator.to_string(),
            tree,
            members: members
                .map(|member| json::Peer {
                    peer_id: member.id.to_string(),
                    nick: member.nick.clone(),
                })
                .collect(),
            channels: status
                .channels
                .iter()
                .map(|(peer, state)| json::Channel::new(*peer, Some(state)))
                .collect(),
            stats: json::stats_value(status),
        }
    }

    /// Whether the session is meant by what a user typed: its name, or the beginning of its id.
    pub(super) fn is_meant_by(&self, wanted: &str) -> bool {
        self.name == wanted || self.session.starts_with(&wanted.to_ascii_lowercase())
    }

    /// How to call a member.
    pub(super) fn label(&self, peer_id: &str) -> String {
        let short = peer_id
            .parse::<MemberId>()
            .map_or_else(|_| super::terminal::name(peer_id), |member| format!("{member:?}"));
        let nick = self.members.iter().find(|member| member.peer_id == peer_id);
        match nick.map(|member| member.nick.as_str()) {
            None | Some("") => short,
            Some(nick) => format!("{} ({short})", super::terminal::name(nick)),
        }
    }
}

/// A question. Later versions may know more.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// All about the member.
    Snapshot,
}

/// An answer.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// All about the member.
    Snapshot(Box<Snapshot>),
    /// No answer, and why.
    Error(String),
}

async fn answer(question: &[u8], about: &About, session: &Session) -> Answer {
    match serde_json::from_slice(question) {
        Ok(Question::Snapshot) => match session.status().await {
            Some(status) => Answer::Snapshot(Box::new(Snapshot::new(about, &status))),
            None => Answer::Error("the session has ended".to_owned()),
        },
        Err(error) => Answer::Error(format!("not understood: {error}")),
    }
}

/// The names of the sessions that members are in, each once.
fn sessions(members: &[Snapshot]) -> Vec<String> {
    let names: BTreeMap<&str, &str> =
        members.iter().map(|member| (member.session.as_str(), member.name.as_str())).collect();
    names.into_values().map(super::terminal::name).collect()
}

/// What running members tell, for the sessions that are meant.
pub(super) async fn running(place: &Place, wanted: Option<&str>) -> Result<Vec<Snapshot>, Failure> {
    let (mut all, looked) = ask(place).await?;
    if all.is_empty() {
        return Err(Failure::failed(
            "not_running",
            format!(
                "no member of a session runs here for this user (looked in {looked}); start one with \
                 `arborcast host` or `arborcast join`, or name its socket with --socket"
            ),
        ));
    }
    if let Some(wanted) = wanted {
        let there = sessions(&all);
        all.retain(|member| member.is_meant_by(wanted));
        if all.is_empty() {
            return Err(Failure::failed(
                "not_running",
                format!("no member of {wanted:?} runs here; there are: {}", there.join(", ")),
            ));
        }
    }
    Ok(all)
}
