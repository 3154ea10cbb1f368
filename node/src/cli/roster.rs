//! Who is in the session, as this member was told.

use std::collections::BTreeMap;

use crate::{Event, TreeEvent, protocol::id::MemberId};

use super::terminal;

/// Names of members, and how many are in the tree.
#[derive(Debug)]
pub(super) struct Roster {
    own: MemberId,
    /// Bounded by the tree: see [`Roster::on_tree`].
    nicks: BTreeMap<MemberId, String>,
    /// The others in this one's part of the newest tree; `None` while it is in none.
    others: Option<Vec<MemberId>>,
    /// Members in other parts of that tree: in the session, and out of reach.
    elsewhere: usize,
}

/// Names of members that left are kept for their last messages, so many beside those of the tree.
const GONE: usize = 64;

impl Roster {
    pub(super) const fn new(own: MemberId) -> Self {
        Self { own, nicks: BTreeMap::new(), others: None, elsewhere: 0 }
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
            | Event::NotSent { .. }
            | Event::Lost { .. }
            | Event::CoordinatorLost(_)
            | Event::Detached(_)
            | Event::CoordinatorBack
            | Event::Warning(_)
            | Event::Ended(_) => {}
        }
    }

    fn on_tree(&mut self, event: &TreeEvent) {
        let Some(tree) = &event.tree else {
            // All that is told is who the neighbours are; with one, nobody is alone.
            self.others = Some(event.neighbours.clone());
            return;
        };
        self.others = tree.member(self.own).map(|_| {
            let ids = tree.roster(self.own).map(|member| member.id);
            ids.filter(|id| *id != self.own).collect()
        });
        self.elsewhere = tree.members().len().saturating_sub(self.present());
        for member in tree.members().filter(|member| !member.nick.is_empty()) {
            self.nicks.insert(member.id, member.nick.clone());
        }
        if self.nicks.len() > tree.members().len() + GONE {
            self.nicks.retain(|member, _| tree.member(*member).is_some());
        }
    }

    /// Whether this member is in a tree yet.
    pub(super) const fn is_in_tree(&self) -> bool {
        self.others.is_some()
    }

    /// Members in this one's part of the tree, itself counted.
    pub(super) fn present(&self) -> usize {
        1 + self.others().len()
    }

    /// The others there.
    pub(super) fn others(&self) -> &[MemberId] {
        self.others.as_deref().unwrap_or_default()
    }

    /// Whether another member is there.
    pub(super) fn is_present(&self, member: MemberId) -> bool {
        self.others().contains(&member)
    }

    /// Members that are in the session, and out of reach.
    pub(super) const fn elsewhere(&self) -> usize {
        self.elsewhere
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
    use crate::Nicked;

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
