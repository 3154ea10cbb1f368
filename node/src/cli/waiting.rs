//! What sending waits for, told to whoever has waited for it longer than was to be expected.

use std::time::Duration;

use tokio::time::Instant;

use super::terminal;

/// Without progress for so long, people are told. Longer than joining and a round of receipts take on
/// a slow network.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often to look.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Without a confirmation for so long, those who lack something are asked for and named: soon enough
/// that word of it comes within five seconds.
const NAMING: Duration = Duration::from_millis(1_500);

/// Since when nothing was confirmed although something is to be. Any sender is told who keeps it waiting.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    since: Option<Instant>,
    /// What was confirmed when it began.
    confirmed: u64,
    named: bool,
}

impl Stalled {
    /// How long it has lasted, when it is time to name somebody: once until there is progress.
    /// `confirmed` rises with each receipt.
    pub(super) fn look(&mut self, is_open: bool, confirmed: u64, now: Instant) -> Option<Duration> {
        if !is_open || self.confirmed != confirmed {
            *self = Self { confirmed, ..Self::default() };
        }
        if !is_open {
            return None;
        }
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        if lasted < NAMING || self.named {
            return None;
        }
        self.named = true;
        Some(lasted)
    }
}

/// What is to be told when it has lasted. Nobody is told the same again before there was progress.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
    /// What was confirmed when it began.
    confirmed: u64,
    told: Option<Kind>,
}

/// What sending waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// A tree with this member in it, which has so many channels.
    Tree {
        /// To other members.
        channels: usize,
    },
    /// Receipts for so many messages, by these.
    Receipts {
        /// Messages.
        open: u64,
        /// The names of those who should confirm them.
        by: Vec<String>,
    },
}

/// A reason without its figures, which may change while it stays the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    NoChannel,
    NoTree,
    Receipts,
}

impl Waiting {
    /// What to tell now, if anything. `confirmed` rises with each receipt.
    pub(super) fn look(
        &mut self,
        reason: Option<Reason>,
        confirmed: u64,
        now: Instant,
    ) -> Option<String> {
        let Some(reason) = reason else {
            *self = Self::default();
            return None;
        };
        if self.confirmed != confirmed {
            *self = Self { confirmed, ..Self::default() };
        }
        let since = *self.since.get_or_insert(now);
        let kind = reason.kind();
        if now.saturating_duration_since(since) < PATIENCE || self.told == Some(kind) {
            return None;
        }
        self.told = Some(kind);
        Some(reason.text())
    }
}

impl Reason {
    const fn kind(&self) -> Kind {
        match self {
            Self::Tree { channels: 0 } => Kind::NoChannel,
            Self::Tree { .. } => Kind::NoTree,
            Self::Receipts { .. } => Kind::Receipts,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Tree { channels: 0 } => "waiting for the others: the coordinator has let this \
                                           member in, but no other member is in reach yet"
                .to_owned(),
            Self::Tree { channels } => format!(
                "waiting for a place in the relay tree: there is a channel to {}, but no tree with \
                 this member in it yet",
                terminal::count(*channels as u64, "member")
            ),
            Self::Receipts { open, by } => {
                let names = terminal::some_of(by);
                let messages = terminal::count(*open, "message");
                match by.len() {
                    0 => format!("waiting: {messages} not confirmed; nobody else is in reach"),
                    1 => format!("waiting: {messages} not confirmed yet by {names}"),
                    _ => format!("waiting: {messages} not confirmed yet by all of: {names}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(by: usize) -> Reason {
        let by = (0..by).map(|number| format!("m{number}")).collect();
        Reason::Receipts { open: 2, by }
    }

    #[test]
    fn who_keeps_a_sender_waiting_is_named_once_until_there_is_progress() {
        let mut stalled = Stalled::default();
        let (soon, later) = (Instant::now(), Instant::now() + NAMING);
        assert_eq!(stalled.look(false, 0, soon), None);
        assert_eq!(stalled.look(true, 0, soon), None);
        assert!(stalled.look(true, 0, later).is_some());
        assert_eq!(stalled.look(true, 0, later), None, "that was told");
        assert_eq!(stalled.look(true, 1, later), None, "there was progress");
        assert!(stalled.look(true, 1, later + NAMING).is_some());
        assert_eq!(stalled.look(false, 1, later + NAMING), None);
        assert_eq!(stalled.look(true, 1, later + NAMING), None, "it is another time");
    }

    #[test]
    fn what_lasts_is_told_once_until_there_is_progress() {
        let mut waiting = Waiting::default();
        let (soon, later) = (Instant::now(), Instant::now() + PATIENCE);
        let tree = |channels| Some(Reason::Tree { channels });
        let receipts = |by| Some(receipts(by));
        let mut look = |reason, confirmed, now| waiting.look(reason, confirmed, now);
        assert_eq!(look(tree(0), 0, soon), None);
        assert!(look(tree(0), 0, later).is_some_and(|text| text.contains("in reach")));
        assert_eq!(look(tree(0), 0, later), None, "once");
        assert!(look(tree(1), 0, later).is_some_and(|text| text.contains("to 1 member,")));
        assert!(look(receipts(2), 0, later).is_some_and(|text| text.ends_with("of: m0, m1")));
        assert_eq!(look(receipts(2), 1, later), None, "progress");
        let latest = later + PATIENCE;
        assert!(look(receipts(1), 1, latest).is_some_and(|text| text.ends_with("yet by m0")));
        assert_eq!(look(None, 1, latest), None);
        assert_eq!(look(receipts(1), 1, latest), None, "it begins anew");
    }

    #[test]
    fn of_many_members_some_are_named() {
        let text = receipts(10).text();
        assert!(text.ends_with("m6, m7 and 2 more"), "{text}");
    }
}
