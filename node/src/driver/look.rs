//! A look at connections that may be dead: when nothing was heard of a peer for too long, when an address of this
//! machine appears or goes, and when a peer that is connected connects once more.

use std::{
    io,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{PeerId, ping, swarm::ConnectionId};
use tokio::time::timeout;
use tracing::debug;

use super::{Driver, Internal, Membership, edge::Opening, now};
use crate::engine::{event::Input, silence};

/// Interfaces come and go with several addresses each.
const SETTLE: Duration = Duration::from_millis(200);

/// How often to look who is silent.
const OFTEN: Duration = Duration::from_secs(1);

/// Bytes of a ping, as libp2p has them.
const PING: usize = 32;

/// The addresses of this machine's interfaces.
#[derive(Debug)]
pub(super) struct Interfaces {
    /// `None` where the system does not say.
    watcher: Option<IfWatcher>,
    began: Instant,
}

impl Interfaces {
    pub(super) fn new() -> Self {
        let watcher = IfWatcher::new()
            .inspect_err(|error| debug!(%error, "changes of interfaces are not seen"))
            .ok();
        Self { watcher, began: now() }
    }

    /// Waits until an address appears or goes.
    pub(super) async fn changed(&mut self) {
        loop {
            let event = match &mut self.watcher {
                Some(watcher) => watcher.next().await,
                None => std::future::pending().await,
            };
            match event {
                // Those that are there come one by one at the start.
                Some(Ok(IfEvent::Up(_))) if now() < self.began + SETTLE => {}
                Some(Ok(event)) => {
                    debug!(?event, "interfaces changed");
                    return;
                }
                Some(Err(error)) => debug!(%error, "interfaces"),
                None => self.watcher = None,
            }
        }
    }
}

impl Driver {
    /// Looks at everything soon.
    pub(super) fn interfaces_changed(&mut self) {
        self.look_at.get_or_insert(now() + SETTLE);
    }

    /// Looks at all connections, and tries again to reach whoever could not be reached.
    pub(super) fn look_if_due(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.look_at = None;
        let all: Vec<(PeerId, ConnectionId)> = self
            .links
            .iter()
            .flat_map(|(peer, links)| links.keys().map(|connection| (*peer, *connection)))
            .collect();
        for (peer, connection) in all {
            self.look(peer, connection);
        }
        self.dialler.try_now(now);
        for membership in self.memberships.values_mut() {
            membership.handle(Input::NetworkChanged);
        }
    }

    /// Looks at the connections in use on which nothing was heard for too long.
    pub(super) fn look_at_silent(&mut self, now: Instant) {
        if self.silence_at > now {
            return;
        }
        self.silence_at = now + OFTEN;
        let patience = |peer: &PeerId| {
            let of = |membership: &Membership| membership.patience(*peer);
            self.memberships.values().map(of).min().unwrap_or(silence::FAR)
        };
        for peer in self.heard.silent(patience, now) {
            if let Some((connection, _)) = self.best_link(peer) {
                self.look(peer, connection);
            }
        }
    }

    /// A connection with a peer that has others came up: those may be dead, and are not to count.
    pub(super) fn look_at_others(&mut self, peer: PeerId, newest: ConnectionId) {
        let links = self.links.get(&peer).into_iter().flatten();
        let others: Vec<ConnectionId> =
            links.map(|(connection, _)| *connection).filter(|other| *other != newest).collect();
        for connection in others {
            self.look(peer, connection);
        }
    }

    fn look(&mut self, peer: PeerId, connection: ConnectionId) {
        let opening =
            self.swarm.behaviour_mut().streams.open(peer, connection, ping::PROTOCOL_NAME);
        let (asked, internal) = (now(), self.internal.clone());
        self.tasks.spawn(async move {
            // One that fails at once is an answer too, if only that the peer does not know pings, or has
            // another one to answer: it answers the newest alone. What is broken closes by itself.
            if timeout(silence::ANSWER, echo(opening)).await.is_err() {
                let _ = internal.send(Internal::NoAnswer { peer, connection, asked }).await;
            }
        });
    }

    /// A look at a connection stayed without an answer.
    pub(super) fn no_answer(&mut self, peer: PeerId, connection: ConnectionId, asked: Instant) {
        let in_use = self.best_link(peer).is_some_and(|(best, _)| best == connection);
        if self.heard.is_dead(&peer, in_use, asked, now()) {
            debug!(%peer, %connection, "dead");
            self.swarm.close_connection(connection);
        }
    }
}

/// One ping over a substream of its own.
async fn echo(opening: Opening) -> io::Result<()> {
    let mut stream = opening.await.map_err(|_| io::ErrorKind::NotConnected)??;
    let sent = [0x5a; PING];
    stream.write_all(&sent).await?;
    stream.flush().await?;
    let mut back = [0; PING];
    stream.read_exact(&mut back).await?;
    stream.close().await
}
