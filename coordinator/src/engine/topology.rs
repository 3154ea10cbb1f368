//! Which channels exist and how good they are: what both ends report, merged (R1).
//!
//! A channel is in the graph if one end says that it is there and the other has not denied that
//! since. Where both speak of it, see [`Qos::merge`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use arborcast_protocol::{
    id::MemberId,
    limits,
    qos::{ChannelKind, Qos},
    report::{Adjacency, Channel, ChannelQos},
    tree::Edge,
};
use petgraph::stable_graph::{NodeIndex, StableUnGraph};

use super::policy;

/// The channel graph of one session.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    graph: StableUnGraph<MemberId, Merged>,
    nodes: BTreeMap<MemberId, Node>,
}

/// A channel as both ends together see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Merged {
    pub(crate) kind: ChannelKind,
    /// `None` while nobody has measured it.
    pub(crate) qos: Option<Qos>,
    /// One end alone says that it is there.
    pub(crate) is_one_sided: bool,
}

#[derive(Debug)]
struct Node {
    index: NodeIndex,
    /// What this member says of its channels, also of those to peers that are no members (yet): it
    /// counts once they are. At most [`limits::CHANNELS`].
    claims: BTreeMap<MemberId, Claim>,
    /// Whether it has reported all its channels once.
    has_reported: bool,
    /// Whether another member has lost a channel to this one since it last had any.
    lost: bool,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    kind: ChannelKind,
    qos: Option<Qos>,
    /// The other end has said since that there is no such channel, and nothing else after that.
    denied: bool,
    /// How often this end was asked for the bandwidth, and when it may be again.
    asked: Option<(u32, Instant)>,
}

/// Between two questions for the bandwidth of one channel, at first; twice as long each time...
const ASK: Duration = Duration::from_secs(10);

/// ...up to so many times as long.
const ASK_DOUBLINGS: u32 = 5;

/// Channels that a member is asked to measure at once.
const ASKED: usize = 4;

/// What a report changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changes {
    /// Channels that exist now.
    pub(crate) up: BTreeSet<Edge>,
    /// Channels that exist no more.
    pub(crate) down: BTreeSet<Edge>,
    /// Whether any other channel has another kind or other figures now.
    pub(crate) quality: bool,
}

/// Why a report was not taken over; nothing of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// More channels than a member may report.
    #[error(
        "more than {} channels; keep the best of them and send a full report",
        limits::CHANNELS
    )]
    TooMany,
    /// A channel from a member to itself.
    #[error("a channel leads from the reporter to itself; leave it out")]
    Loop,
}

impl Topology {
    /// A member is in the session now.
    pub(crate) fn add(&mut self, member: MemberId) {
        if self.nodes.contains_key(&member) {
            return;
        }
        let index = self.graph.add_node(member);
        let node = Node { index, claims: BTreeMap::new(), has_reported: false, lost: false };
        self.nodes.insert(member, node);
        let peers: Vec<MemberId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.claims.contains_key(&member))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in peers {
            self.merge(member, peer, &mut Changes::default());
        }
    }

    /// A member is gone. What others say of their channels to it is void until they say so again.
    pub(crate) fn remove(&mut self, member: MemberId) {
        let Some(node) = self.nodes.remove(&member) else { return };
        self.graph.remove_node(node.index);
        for other in self.nodes.values_mut() {
            if let Some(claim) = other.claims.get_mut(&member) {
                claim.denied = true;
            }
        }
    }

    /// Whether this member has reported all its channels.
    pub(crate) fn has_reported(&self, member: MemberId) -> bool {
        self.nodes.get(&member).is_some_and(|node| node.has_reported)
    }

    /// Whether all members have reported all their channels, and none to somebody who is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.nodes.values().all(|node| {
            let missing = |(peer, claim): (&MemberId, &Claim)| {
                !claim.denied && !self.nodes.contains_key(peer)
            };
            node.has_reported && !node.claims.iter().any(missing)
        })
    }

    /// Whether others have lost their channels to this member and none is left.
    pub(crate) fn is_cut_off(&self, member: MemberId) -> bool {
        self.nodes.get(&member).is_some_and(|node| node.lost) && self.degree(member) == 0
    }

    /// How many channels it has.
    pub(crate) fn degree(&self, member: MemberId) -> usize {
        self.nodes.get(&member).map_or(0, |node| self.graph.neighbors(node.index).count())
    }

    /// The members that it has channels with, in no order.
    pub(crate) fn peers(&self, member: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        self.nodes
            .get(&member)
            .into_iter()
            .flat_map(|node| self.graph.neighbors(node.index))
            .filter_map(|index| self.graph.node_weight(index).copied())
    }

    /// Whether `from` says that it has a channel with `peer`, which need not be a member (yet).
    pub(crate) fn claims(&self, from: MemberId, peer: MemberId) -> bool {
        self.nodes.get(&from).is_some_and(|node| node.claims.contains_key(&peer))
    }

    /// Whether there is such a channel.
    pub(crate) fn has(&self, edge: Edge) -> bool {
        let (a, b) = edge.ends();
        let ends = self.nodes.get(&a).zip(self.nodes.get(&b));
        ends.is_some_and(|(a, b)| self.graph.contains_edge(a.index, b.index))
    }

    /// One channel.
    pub(crate) fn merged(&self, edge: Edge) -> Option<Merged> {
        let (a, b) = edge.ends();
        let (a, b) = (self.nodes.get(&a)?, self.nodes.get(&b)?);
        let index = self.graph.find_edge(a.index, b.index)?;
        self.graph.edge_weight(index).copied()
    }

    /// All channels, in order.
    pub(crate) fn channels(&self) -> Vec<(Edge, Merged)> {
        let id = |index| self.graph.node_weight(index).copied();
        let mut channels: Vec<(Edge, Merged)> = self
            .graph
            .edge_indices()
            .filter_map(|index| {
                let (a, b) = self.graph.edge_endpoints(index)?;
                Some((Edge::new(id(a)?, id(b)?)?, *self.graph.edge_weight(index)?))
            })
            .collect();
        channels.sort_unstable_by_key(|(edge, _)| *edge);
        channels
    }

    /// Takes over first information.
    ///
    /// # Errors
    /// [`ReportError`]; then nothing has changed.
    pub(crate) fn on_adjacency(
        &mut self,
        from: MemberId,
        adjacency: &Adjacency,
    ) -> Result<Changes, ReportError> {
        let mut changes = Changes::default();
        let Some(node) = self.nodes.get(&from) else { return Ok(changes) };
        let (up, down): (&[Channel], BTreeSet<MemberId>) = match adjacency {
            Adjacency::Full(channels) => {
                let gone = node.claims.keys().copied();
                (channels, gone.filter(|peer| channels.iter().all(|c| c.peer != *peer)).collect())
            }
            Adjacency::Change { up, down } => (up, down.iter().copied().collect()),
        };
        if up.len() > limits::CHANNELS || down.len() > limits::CHANNELS {
            return Err(ReportError::TooMany);
        }
        if down.contains(&from) || up.iter().any(|channel| channel.peer == from) {
            return Err(ReportError::Loop);
        }
        let mut claimed: BTreeSet<MemberId> =
            node.claims.keys().filter(|peer| !down.contains(peer)).copied().collect();
        claimed.extend(up.iter().map(|channel| channel.peer));
        if claimed.len() > limits::CHANNELS {
            return Err(ReportError::TooMany);
        }
        // A full report repeats what may be older than the other end's denial; a change does not.
        let is_fresh = matches!(adjacency, Adjacency::Change { .. });
        if matches!(adjacency, Adjacency::Full(_)) {
            self.set_reported(from);
        }
        for peer in &down {
            self.claim_down(from, *peer, &mut changes);
        }
        for channel in up {
            self.claim_up(from, *channel, is_fresh, &mut changes);
        }
        // Whom the reporter could name but does not is denied a channel with it, too.
        if matches!(adjacency, Adjacency::Full(_)) {
            let unlisted: Vec<MemberId> = self
                .peers(from)
                .filter(|peer| up.iter().all(|channel| channel.peer != *peer))
                .collect();
            for peer in unlisted {
                self.claim_down(from, peer, &mut changes);
            }
        }
        Ok(changes)
    }

    /// Takes over second information. Figures of channels that the reporter does not have are left out.
    pub(crate) fn on_qos(&mut self, from: MemberId, list: &[ChannelQos]) -> Changes {
        let mut changes = Changes::default();
        for ChannelQos { peer, qos } in list {
            let claim = self.nodes.get_mut(&from).and_then(|node| node.claims.get_mut(peer));
            let Some(claim) = claim else { continue };
            claim.qos = Some(policy::sane(*qos));
            self.merge(from, *peer, &mut changes);
        }
        changes
    }

    /// The peers with whom a member is to measure the bandwidth of its channel now, by its own figures.
    pub(crate) fn take_unmeasured(
        &mut self,
        member: MemberId,
        is_wanted: impl Fn(MemberId, Qos) -> bool,
        now: Instant,
    ) -> Vec<MemberId> {
        let Some(node) = self.nodes.get_mut(&member) else { return Vec::new() };
        let mut peers = Vec::new();
        for (peer, claim) in &mut node.claims {
            let wants = |qos| is_wanted(*peer, qos) && claim.kind == ChannelKind::Direct;
            if !claim.qos.is_some_and(wants) {
                continue;
            }
            let times = match claim.asked {
                Some((_, again)) if now < again => continue,
                Some((times, again)) if now < again + ASK * (1 << ASK_DOUBLINGS) => times + 1,
                Some(_) | None => 0,
            };
            claim.asked = Some((times, now + ASK * (1 << times.min(ASK_DOUBLINGS))));
            peers.push(*peer);
            if peers.len() >= ASKED {
                break;
            }
        }
        peers
    }

    fn set_reported(&mut self, member: MemberId) {
        if let Some(node) = self.nodes.get_mut(&member) {
            node.has_reported = true;
        }
    }

    fn claim_up(&mut self, from: MemberId, channel: Channel, fresh: bool, changes: &mut Changes) {
        let Some(node) = self.nodes.get_mut(&from) else { return };
        let old = node.claims.get(&channel.peer).copied();
        let claim = Claim {
            kind: channel.kind,
            // What a circuit had measured says nothing about the direct channel.
            qos: old.filter(|old| old.kind == channel.kind).and_then(|old| old.qos),
            denied: !fresh && old.is_some_and(|old| old.denied),
            asked: old.and_then(|old| old.asked),
        };
        node.claims.insert(channel.peer, claim);
        // Whoever denied it takes that back: the other end need not say again what it said.
        if let Some(other) = self.nodes.get_mut(&channel.peer)
            && let Some(theirs) = other.claims.get_mut(&from)
        {
            theirs.denied = false;
        }
        self.merge(from, channel.peer, changes);
    }

    fn claim_down(&mut self, from: MemberId, peer: MemberId, changes: &mut Changes) {
        let own = self.nodes.get_mut(&from).and_then(|node| node.claims.remove(&peer));
        if let Some(other) = self.nodes.get_mut(&peer) {
            let claim = other.claims.get_mut(&from);
            // Nobody loses what there never was.
            other.lost |= own.is_some() || claim.is_some();
            if let Some(claim) = claim {
                claim.denied = true;
            }
        }
        self.merge(from, peer, changes);
    }

    /// Brings the graph in line with what both ends claim.
    fn merge(&mut self, a: MemberId, b: MemberId, changes: &mut Changes) {
        let (Some(at_a), Some(at_b)) = (self.nodes.get(&a), self.nodes.get(&b)) else { return };
        let (index_a, index_b) = (at_a.index, at_b.index);
        let claim = |node: &Node, peer| node.claims.get(&peer).copied().filter(|c| !c.denied);
        let merged = match (claim(at_a, b), claim(at_b, a)) {
            (Some(a), Some(b)) => Some(Merged {
                kind: a.kind.max(b.kind),
                qos: match (a.qos, b.qos) {
                    (Some(a), Some(b)) => Some(a.merge(b)),
                    (a, b) => a.or(b),
                },
                is_one_sided: false,
            }),
            (Some(one), None) | (None, Some(one)) => {
                Some(Merged { kind: one.kind, qos: one.qos, is_one_sided: true })
            }
            (None, None) => None,
        };
        let Some(edge) = Edge::new(a, b) else { return };
        match (self.graph.find_edge(index_a, index_b), merged) {
            (None, None) => {}
            (Some(index), None) => {
                self.graph.remove_edge(index);
                if !changes.up.remove(&edge) {
                    changes.down.insert(edge);
                }
            }
            (None, Some(merged)) => {
                self.graph.add_edge(index_a, index_b, merged);
                for member in [a, b] {
                    if let Some(node) = self.nodes.get_mut(&member) {
                        node.lost = false;
                    }
                }
                changes.down.remove(&edge);
                changes.up.insert(edge);
            }
            (Some(index), Some(merged)) => {
                if let Some(old) = self.graph.edge_weight_mut(index)
                    && *old != merged
                {
                    *old = merged;
                    changes.quality = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
