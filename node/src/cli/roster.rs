//! Who is in the session, as this member was told.

use std::collections::BTreeMap;

use arborcast::{Event, TreeEvent, protocol::id::MemberId};

use super::terminal;

/// Names of members, and how many are in the tree.
#[derive(Debug)]
pub(super) struct Roster {
    own: MemberId,
    /// Bounded by the tree: see [`Roster::on_tree`].
    nicks: BTreeMap<MemberId, String>,
    /// Members of the newest tree, this one counted; `None` while it is in none.
    present: Option<usize>,
}

/// Names of members that left are kept for their last messages, so many beside those of the tree.
const GONE: usize = 64;

impl Roster {
    pub(super) const fn new(own: MemberId) -> Self {
        Self { own, nicks: BTreeMap::new(), present: None }
    }

    /// This member.
    pub(super) const fn own(&self) -> MemberId {
        self.own
    }

    /// Learns from an event.
    pub(super) fn learn(&mut self, event: &Event) {
        match event {
            Event::Joined(member) | Event::Left(member) if !member.nick.is_empty() => {
                self.nicks.insert(member.member, member.nick.clone());
            }
            Event::Tree(tree) => self.on_tree(tree),
            Event::Joined(_)
            | Event::Left(_)
            | Event::Message(_)
            | Event::Channel(_)
            | Event::Delivered { .. }
            | Event::Missed { .. }
            | Event::Lost { .. }
            | Event::CoordinatorLost(_)
            | Event::CoordinatorBack
            | Event::Warning(_)
            | Event::Ended(_)
            | _ => {}
        }
    }

    fn on_tree(&mut self, event: &TreeEvent) {
        let Some(tree) = &event.tree else {
            // All that is told is who the neighbours are; with one, nobody is alone.
            self.present = Some(1 + event.neighbours.len());
            return;
        };
        self.present = tree.member(self.own).map(|_| tree.roster(self.own).count());
        for member in tree.members().filter(|member| !member.nick.is_empty()) {
            self.nicks.insert(member.id, member.nick.clone());
        }
        if self.nicks.len() > tree.members().len() + GONE {
            self.nicks.retain(|member, _| tree.member(*member).is_some());
        }
    }

    /// Whether this member is in a tree yet.
    pub(super) const fn is_in_tree(&self) -> bool {
        self.present.is_some()
    }

    /// Members in this one's part of the tree, itself counted.
    pub(super) fn present(&self) -> usize {
        self.present.unwrap_or(1)
    }

    /// The nickname of a member; empty if none is known.
    pub(super) fn nick(&self, member: MemberId) -> &str {
        self.nicks.get(&member).map_or("", String::as_str)
    }

    /// How to call a member: by its nickname, with a part of the id if another one has the same.
    pub(super) fn label(&self, member: MemberId) -> String {
        let short = format!("{member:?}");
        let Some(nick) = self.nicks.get(&member) else { return short };
        let shared = self.nicks.iter().any(|(other, name)| *other != member && name == nick);
        let nick = terminal::name(nick);
        if shared { format!("{nick} ({short})") } else { nick }
    }
}

#[cfg(test)]
mod tests {
    use arborcast::Nicked;

    use super::*;

    fn joined(n: u8, nick: &str) -> Event {
        Event::Joined(Nicked { member: MemberId::from_bytes([n; 32]), nick: nick.to_owned() })
    }

    #[test]
    fn two_members_with_one_name_can_be_told_apart() {
        let mut roster = Roster::new(MemberId::from_bytes([0; 32]));
        roster.learn(&joined(1, "bea"));
        assert_eq!(roster.label(MemberId::from_bytes([1; 32])), "bea");
        roster.learn(&joined(2, "bea"));
        let labels = [1, 2].map(|n| roster.label(MemberId::from_bytes([n; 32])));
        assert!(labels.iter().all(|label| label.starts_with("bea (")), "{labels:?}");
        assert_ne!(labels[0], labels[1]);
    }

    #[test]
    fn a_member_without_name_is_called_by_its_id() {
        let roster = Roster::new(MemberId::from_bytes([0; 32]));
        assert_eq!(roster.label(MemberId::from_bytes([1; 32])).len(), 8);
    }
}
