//! Who does not know the secret is refused, and gets no candidate, no tree, no edge and no frame.
//! Who knows it is never refused.

use std::collections::BTreeSet;

use arborcast_protocol::{
    id::MemberId,
    refusal::{Code, Refusal},
};

use crate::sim::{Who, setup::Setup};

/// Who may come in.
#[derive(Debug)]
pub struct Gate {
    invited: Vec<bool>,
    refused: BTreeSet<usize>,
}

impl Gate {
    /// As the setup says.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let invited = setup.members.iter().map(|member| member.invited).collect();
        Self { invited, refused: BTreeSet::new() }
    }

    fn only_invited(&self, who: Who, what: &str) -> Result<(), String> {
        if self.invited.get(who.node).copied().unwrap_or(false) {
            Ok(())
        } else {
            Err(format!("{who:?} was not invited, but {what}"))
        }
    }

    /// A node says it was let in.
    pub fn admitted(&self, who: Who) -> Result<(), String> {
        self.only_invited(who, "was admitted")
    }

    /// The coordinator grants a node something, or sends it a notice.
    pub fn granted(&self, who: Who) -> Result<(), String> {
        self.only_invited(who, "was granted what only members are")
    }

    /// A node dials somebody that it can know only from the coordinator.
    pub fn dials(&self, who: Who, _: MemberId) -> Result<(), String> {
        self.only_invited(who, "knows members to dial")
    }

    /// An edge of a node is up.
    pub fn edge(&self, who: Who) -> Result<(), String> {
        self.only_invited(who, "has an edge")
    }

    /// A frame reaches a node.
    pub fn frame(&self, who: Who) -> Result<(), String> {
        self.only_invited(who, "gets a frame")
    }

    /// A message reaches an application.
    pub fn delivered(&self, who: Who) -> Result<(), String> {
        self.only_invited(who, "gets a message")
    }

    /// A node was refused for good.
    pub fn refused(&mut self, who: Who, refusal: &Refusal) -> Result<(), String> {
        self.refused.insert(who.node);
        if self.invited.get(who.node).copied().unwrap_or(false) {
            return Err(format!("{who:?} was invited, but is refused: {refusal}"));
        }
        if refusal.code == Code::NOT_ADMITTED || refusal.code == Code::RATE_LIMITED {
            Ok(())
        } else {
            Err(format!("{who:?} was not invited, but learns more than that: {refusal}"))
        }
    }

    /// At the end every intruder that tried was refused.
    pub fn at_end(&self, started: impl Iterator<Item = usize>) -> Result<(), String> {
        for node in started {
            if self.invited.get(node) == Some(&false) && !self.refused.contains(&node) {
                return Err(format!("n{node} was not invited, but was never refused"));
            }
        }
        Ok(())
    }
}
