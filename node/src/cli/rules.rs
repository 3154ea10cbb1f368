//! What the user asks of single channels: to be worse than they are, or not to be.

use std::str::FromStr;

use crate::{Impairment, Node, protocol::id::MemberId};

use super::{failure::Failure, request::Problem};

/// Flags about single channels, for demonstrations and tests.
#[derive(clap::Args, Debug, Clone, Default)]
pub(super) struct RuleArgs {
    /// Make the channel with a member worse in both directions, frames and probes alike; once for
    /// each member. Example: `PEER:delay=40ms,jitter=5ms,loss=0.02,rate=2mbit`.
    #[arg(long, value_name = "PEER:HOW", help_heading = "Demonstrations and tests")]
    impair: Vec<Impaired>,
    /// Have no channel with this member; repeatable.
    #[arg(long, value_name = "PEER", help_heading = "Demonstrations and tests")]
    deny: Vec<MemberId>,
}

impl RuleArgs {
    /// Puts them in force, before the node has any channel.
    pub(super) async fn apply(&self, node: &Node) -> Result<(), Failure> {
        for (at, impaired) in self.impair.iter().enumerate() {
            if self.impair.iter().take(at).any(|before| before.peer == impaired.peer) {
                return Err(Failure::usage(
                    "usage",
                    format!(
                        "--impair names {} twice; say all in one, as delay=40ms,rate=2mbit",
                        impaired.peer
                    ),
                ));
            }
        }
        let impaired = self.impair.iter().cloned().map(Rule::Impair);
        for rule in impaired.chain(self.deny.iter().copied().map(Rule::Deny)) {
            let flag = rule.name();
            rule.apply(node).await.map_err(|problem| {
                Failure::usage("usage", format!("--{flag}: {}", problem.message))
            })?;
        }
        Ok(())
    }
}

/// One of them, while the member runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    Impair(Impaired),
    Deny(MemberId),
    Allow(MemberId),
}

impl Rule {
    /// Puts it in force.
    pub(super) async fn apply(&self, node: &Node) -> Result<(), Problem> {
        self.check(node.member_id())?;
        match self {
            Self::Impair(Impaired { peer, how }) => node.impair(*peer, *how).await,
            Self::Deny(peer) => node.deny(*peer).await,
            Self::Allow(peer) => node.allow(*peer).await,
        }
        Ok(())
    }

    /// The member at the channel's other end.
    pub(super) const fn peer(&self) -> MemberId {
        let (Self::Impair(Impaired { peer, .. }) | Self::Deny(peer) | Self::Allow(peer)) = self;
        *peer
    }

    /// No member has a channel with itself. Who else will be in the session is not known.
    fn check(&self, own: MemberId) -> Result<(), Problem> {
        let peer = self.peer();
        if peer != own {
            return Ok(());
        }
        Err(Problem::new(
            "invalid_input",
            format!("{peer} is this member itself; name the one at the channel's other end"),
        ))
    }

    /// Its name in flags and in JSON.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Impair(_) => "impair",
            Self::Deny(_) => "deny",
            Self::Allow(_) => "allow",
        }
    }
}

/// A channel, and how bad it is made; `None`: not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Impaired {
    peer: MemberId,
    how: Option<Impairment>,
}

/// What clears an impairment.
const NONE: &str = "none";

impl FromStr for Impaired {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (peer, how) = text.split_once(':').ok_or_else(|| {
            format!("{text:?} does not look like PEER:delay=40ms,jitter=5ms,loss=0.02,rate=2mbit")
        })?;
        let peer = peer.trim().parse().map_err(|error| format!("{error}"))?;
        let how = match how.trim() {
            NONE => None,
            how => Some(how.parse().map_err(|error| format!("{error}"))?),
        };
        Ok(Self { peer, how })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_channel_with_oneself_is_no_channel() {
        let [own, other] = [1, 2].map(|n| MemberId::from_bytes([n; 32]));
        let rules = |peer| {
            [Rule::Impair(Impaired { peer, how: None }), Rule::Deny(peer), Rule::Allow(peer)]
        };
        for rule in rules(own) {
            let problem = rule.check(own).expect_err("is this member");
            assert_eq!(problem.code, "invalid_input");
        }
        for rule in rules(other) {
            assert_eq!(rule.check(own), Ok(()));
        }
    }

    #[test]
    fn an_impairment_names_a_member_and_how() {
        let peer = MemberId::from_bytes([
            0x3b, 0x6a, 0x27, 0xbc, 0xce, 0xb6, 0xa4, 0x2d, 0x62, 0xa3, 0xa8, 0xd0, 0x2a, 0x6f,
            0x0d, 0x73, 0x65, 0x32, 0x15, 0x77, 0x1d, 0xe2, 0x43, 0xa6, 0x3a, 0xc0, 0x48, 0xa1,
            0x8b, 0x59, 0xda, 0x29,
        ]);
        let delay = Impairment { delay: Duration::from_millis(40), ..Impairment::default() };
        let read = |how: &str| format!("{peer}:{how}").parse::<Impaired>();
        assert_eq!(read("delay=40ms"), Ok(Impaired { peer, how: Some(delay) }));
        assert_eq!(read("none"), Ok(Impaired { peer, how: None }));
        for (text, named) in [
            ("delay=40ms".to_owned(), "PEER:"),
            ("x:delay=40ms".to_owned(), "\"x\""),
            (format!("{peer}:"), "names nothing"),
            (format!("{peer}:loss=7"), "loss=7"),
        ] {
            let error = text.parse::<Impaired>().expect_err(&text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
