//! Edges coming up: both substreams opened or accepted, and brought together.

use arborcast_protocol::{
    DATA, EDGE, PROBE,
    id::{MemberId, SessionId},
};
use libp2p::StreamProtocol;
use tracing::debug;

use super::{
    Driver, Internal,
    edge::{self, FromEdge, HandshakeError, Opened, Token},
    now, streams,
};
use crate::{engine::event::EdgeId, impairment::Stream};

/// Substreams of one peer whose hello is awaited at once.
pub(super) const HANDSHAKES_PER_PEER: u32 = 8;

/// Halves of edges that wait for their other half, in all and by one peer. When all are taken, a
/// data half gives way: anybody can send those, the others come with a certificate.
pub(super) const HALVES: usize = 256;
pub(super) const HALVES_PER_PEER: usize = 4;

/// Events taken from edges in one turn, so that the swarm is polled in between.
pub(super) const EDGE_BUDGET: usize = 64;

/// One half of an edge that a peer opens, waiting for the other.
#[derive(Debug)]
pub(super) enum Half {
    Control(Opened),
    Data(Stream),
}

impl Driver {
    pub(super) fn on_inbound(&mut self, inbound: streams::Inbound) {
        let Ok(peer) = MemberId::try_from(inbound.peer) else { return };
        if inbound.protocol == StreamProtocol::new(PROBE) {
            return self.on_probes(peer, inbound);
        }
        let streams::Inbound { protocol, stream, .. } = inbound;
        let count = self.handshakes.entry(peer).or_default();
        if *count >= HANDSHAKES_PER_PEER {
            debug!(?peer, "too many substreams without a hello");
            return;
        }
        *count += 1;
        let (internal, doors) = (self.internal.clone(), self.doors.clone());
        let is_edge = protocol == StreamProtocol::new(EDGE);
        self.tasks.spawn(async move {
            let news = if is_edge {
                Internal::EdgeAccepted { peer, result: edge::accept(doors, peer, stream).await }
            } else {
                Internal::DataAccepted { peer, result: edge::accept_data(stream).await }
            };
            let _ = internal.send(news).await;
        });
    }

    /// Opens both substreams of an edge over the best connection with the peer.
    pub(super) fn open_edge(&mut self, session: SessionId, peer: MemberId) {
        let peer_id = peer.peer_id();
        let mut token = Token::default();
        let (internal, doors) = (self.internal.clone(), self.doors.clone());
        let opening = match (self.best_link(peer_id), getrandom::fill(&mut token)) {
            (Some((connection, _)), Ok(())) => {
                let streams = &mut self.swarm.behaviour_mut().streams;
                let [control, data] = [EDGE, DATA]
                    .map(|name| streams.open(peer_id, connection, StreamProtocol::new(name)));
                Some((control, data))
            }
            _ => None,
        };
        self.tasks.spawn(async move {
            let result = match opening {
                Some((control, data)) => {
                    edge::open(doors, session, peer, token, control, data).await
                }
                None => Err(HandshakeError::Gone),
            };
            let _ = internal.send(Internal::EdgeOpened { session, peer, result }).await;
        });
    }

    pub(super) fn handshake_done(&mut self, peer: MemberId) {
        if let Some(count) = self.handshakes.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.handshakes.remove(&peer);
            }
        }
    }

    /// Brings the two substreams of an accepted edge together.
    pub(super) fn pair(&mut self, key: (MemberId, SessionId, Token), half: Half) {
        let (peer, session, _) = key;
        let (opened, data) = match (self.halves.remove(&key), half) {
            (Some((Half::Control(opened), _)), Half::Data(data))
            | (Some((Half::Data(data), _)), Half::Control(opened)) => (opened, data),
            // The same half twice: the newer one counts.
            (_, half) => return self.keep_half(key, half),
        };
        if let Some(membership) = self.memberships.get_mut(&session) {
            self.next_edge += 1;
            let edge = EdgeId(self.next_edge);
            let (inbox, wake, tasks) = (&self.from_edges, &self.wake, &self.tasks);
            membership.edge_up(edge, peer, opened, data, inbox, wake, tasks);
        }
    }

    fn keep_half(&mut self, key: (MemberId, SessionId, Token), half: Half) {
        let (peer, session, _) = key;
        let of_peer = self.halves.keys().filter(|(other, ..)| *other == peer).count();
        if !self.memberships.contains_key(&session) || of_peer >= HALVES_PER_PEER {
            return;
        }
        if self.halves.len() >= HALVES {
            let oldest = self
                .halves
                .iter()
                .filter(|(_, (half, _))| matches!(half, Half::Data(_)))
                .min_by_key(|(_, (_, since))| *since)
                .map(|(key, _)| *key);
            match oldest {
                Some(oldest) => drop(self.halves.remove(&oldest)),
                None => return,
            }
        }
        self.halves.insert(key, (half, now()));
    }

    pub(super) fn on_edges(&mut self, first: (SessionId, EdgeId, FromEdge)) {
        let at = now();
        let mut next = Some(first);
        let mut budget = EDGE_BUDGET;
        while let Some((session, edge, news)) = next {
            if let Some(membership) = self.memberships.get_mut(&session) {
                if let Some(peer) = membership.edge_peer(edge) {
                    self.heard.heard(&peer, at);
                }
                membership.on_edge(edge, news);
            }
            budget -= 1;
            next = if budget > 0 { self.edges.try_recv().ok() } else { None };
        }
    }
}
