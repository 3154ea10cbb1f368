//! What a world is made of and what is to happen in it: all of it follows from a seed.

use std::{collections::BTreeSet, time::Duration};

use arborcast::engine::NextHops;
use arborcast_protocol::{history::History, id::Class, path::Scope};

use super::graph::Link;

/// A whole world before it begins.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a world")]
pub struct Setup {
    /// Everything random in the world comes from it.
    pub seed: u64,
    /// The pairs of nodes that can have a channel.
    pub links: Vec<Link>,
    /// The nodes, by number.
    pub members: Vec<Member>,
    /// What is done to the world, in any order.
    pub script: Vec<(Duration, Act)>,
    /// How pushes fare.
    pub gossip: Gossip,
    /// Whether all that crosses is encoded and decoded.
    pub wire: bool,
    /// Whether the signatures of tree headers are verified, as drivers do.
    pub verify: bool,
    /// Whether frames are sealed, signed and checked with real keys, as drivers do. Otherwise engines are
    /// told that they are genuine.
    pub genuine: bool,
    /// Whether nodes come to have channels by themselves, as they do in labs and by `--peer`.
    /// Otherwise only by what the coordinator tells them.
    pub acquainted: bool,
    /// Whether nothing fails after the start, so that each frame must cross each edge of the tree
    /// exactly once.
    pub calm: bool,
    /// When the last act of the script is over and the world is to come to rest.
    pub rest: Duration,
    /// Some of what is published is for one member alone.
    pub alone: bool,
    /// The session is open: a name instead of a secret.
    pub open: bool,
    /// Whether the end is awaited of what killed sources left unfinished, which takes long.
    pub thorough: bool,
    /// Timers of drivers come up to this much late.
    pub lateness: Duration,
    /// Bytes of frames that a member keeps for others.
    pub store_bytes: u64,
    /// How long a member may keep the others waiting, in milliseconds; 0 for ever.
    pub slow_ms: u32,
    /// From so many members on the coordinator computes trees beside its work.
    pub compute_apart: usize,
    /// What joiners get of what was sent before.
    pub history: History,
    /// Bytes that a member keeps of what all have.
    pub history_bytes: u64,
    /// How often members ask for the tree, before they adapt that to what they see.
    pub poll: Duration,
    /// Something broken on purpose, to see that it is found.
    pub sabotage: Option<Sabotage>,
    /// A bug in the relays of all nodes, on purpose.
    #[cfg(feature = "sabotage")]
    pub bug: Option<arborcast::engine::relay::Sabotage>,
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// How much of the tree it follows.
    pub scope: Scope,
    /// How it learns to whom it passes frames on.
    pub next_hops: NextHops,
    /// Most tree neighbours that it will have.
    pub fanout: u16,
    /// Whether it knows the session's secret.
    pub invited: bool,
    /// Whether it is there from its start to the end, so that the model holds the world to account
    /// for it.
    pub stays: bool,
    /// The pause between two messages that its application takes; `None` if it takes all at once.
    pub slow: Option<Duration>,
}

impl Setup {
    /// The nodes that can be found to keep the others waiting: their process or their application is
    /// stopped at some time, or takes next to nothing, or all their links are narrow. All others must
    /// never be detached.
    #[must_use]
    pub fn slow_ones(&self) -> BTreeSet<usize> {
        let stopped = self.script.iter().filter_map(|(_, act)| {
            if let Act::Sleep(node, _) | Act::Stall(node, _) = act { Some(*node) } else { None }
        });
        let members = self.members.iter().enumerate();
        let crawls = members
            .filter(|(_, member)| member.slow.is_some_and(|pause| pause >= CRAWLS))
            .map(|(node, _)| node);
        let narrow = (0..self.members.len()).filter(|node| {
            let own = || self.links.iter().filter(|link| link.a == *node || link.b == *node);
            own().next().is_some() && own().all(|link| link.rate < NARROW)
        });
        stopped.chain(crawls).chain(narrow).collect()
    }
}

/// A pause between two messages that is no application's pace any more.
const CRAWLS: Duration = Duration::from_secs(1);

/// A link on which, in bytes per second, hardly anything goes.
const NARROW: u64 = 10_000;

impl Member {
    /// A member that stays, in scope `tree`, with at most `fanout` neighbours.
    #[must_use]
    pub const fn staying(fanout: u16) -> Self {
        Self {
            scope: Scope::Tree,
            next_hops: NextHops::Subscribe,
            fanout,
            invited: true,
            stays: true,
            slow: None,
        }
    }

    /// Whether its driver takes part in the session's topic.
    #[must_use]
    pub const fn follows_pushes(&self) -> bool {
        match self.next_hops {
            NextHops::Poll | NextHops::Overflow => false,
            NextHops::Subscribe | NextHops::InBand => matches!(self.scope, Scope::Tree),
        }
    }
}

/// How pushes by gossip fare. Harder than the real thing, which repairs some of its losses.
#[derive(Clone, Copy, Debug)]
pub struct Gossip {
    /// Pushes in a thousand that a member never gets.
    pub lost: u32,
    /// Pushes in a thousand that it gets twice.
    pub doubled: u32,
    /// Longest time under way; each one takes a random part of it, so they overtake each other.
    pub delay: Duration,
}

impl Default for Gossip {
    fn default() -> Self {
        Self { lost: 100, doubled: 50, delay: Duration::from_millis(300) }
    }
}

/// Something done to the world.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A node starts, or starts again as a new incarnation.
    Start(usize),
    /// Its application leaves as soon as all have what it sent, or when it loses patience.
    Leave(usize),
    /// It is gone at once.
    Kill(usize),
    /// A link breaks, by its position in [`Setup::links`], and works again after that time.
    Break(usize, Duration),
    /// A link's delay becomes this.
    Delay(usize, Duration),
    /// A node's process is stopped, and goes on after that time.
    Sleep(usize, Duration),
    /// A node's application takes nothing for that time.
    Stall(usize, Duration),
    /// The coordinator's process is stopped, and goes on after that time.
    Pause(Duration),
    /// Nothing crosses a link's channel any more, and nobody says so: both ends find out by themselves.
    /// The link itself can have another channel.
    Dead(usize),
    /// From now on no edge can be opened on this link, though its channel stays up.
    Mute(usize),
    /// A node's connection with the coordinator breaks and comes back after that time.
    Cut(usize, Duration),
    /// The coordinator is gone and starts again, with the next term, after that time.
    Restart(Duration),
    /// An application sends messages.
    Publish {
        /// Whose.
        node: usize,
        /// How many.
        count: u32,
        /// Of how many bytes.
        bytes: usize,
        /// How they are treated when there is no room.
        class: Class,
    },
    /// An application sends a message to one member alone.
    Tell {
        /// Whose.
        node: usize,
        /// To which.
        to: usize,
        /// Of how many bytes.
        bytes: usize,
    },
}

/// A fault that no real world has: the invariants must find it, or the engines repair it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// The n-th frame that is put on any edge disappears, and the edge lives on.
    DropFrame(u64),
    /// The n-th frame that is put on any edge arrives twice.
    DoubleFrame(u64),
    /// The payload of the n-th frame that is put on any edge is changed.
    GarbleFrame(u64),
    /// The n-th message that any application takes never reaches it.
    SwallowMessage(u64),
    /// Nothing that any edge carries from this time on arrives, and no edge goes down for it.
    Deaf(Duration),
}
