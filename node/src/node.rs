//! A node: one libp2p peer that can be a member of sessions.

use std::{path::Path, time::Duration};

use arborcast_net::{settings::Settings as _, store};
use arborcast_protocol::id::MemberId;
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    config::Config,
    driver,
    error::{JoinError, SpawnError},
    invitation::Invitation,
    session::{self, Events, Session},
};

/// A running node. Cheap to clone; it ends when all clones and its sessions are dropped, or by
/// [`Node::shutdown`].
#[derive(Clone, Debug)]
pub struct Node {
    member: MemberId,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    driver: mpsc::Sender<driver::Command>,
}

/// Makes a [`Node`].
#[derive(Debug, Default)]
pub struct NodeBuilder {
    identity: Option<Keypair>,
    config: Config,
}

impl NodeBuilder {
    /// Who the node is; if not set, what [`Config::identity`] names. One identity must not run twice at a time.
    #[must_use]
    pub fn identity(mut self, keypair: Keypair) -> Self {
        self.identity = Some(keypair);
        self
    }

    /// Its settings.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How people call it in its sessions.
    #[must_use]
    pub fn nick(mut self, nick: impl Into<String>) -> Self {
        self.config.nick = nick.into();
        self
    }

    /// An address to listen on; repeatable.
    #[must_use]
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.config.listen.push(address);
        self
    }

    /// Starts the node and waits until it listens.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub async fn spawn(self) -> Result<Node, SpawnError> {
        self.config.validate().map_err(|error| SpawnError::Config(error.to_string()))?;
        let file = &self.config.identity;
        let identity = match self.identity {
            Some(keypair) => driver::Identity::Given(keypair),
            None if file.as_os_str().is_empty() => {
                driver::Identity::Given(Keypair::generate_ed25519())
            }
            None => driver::Identity::Kept(store::Identity::open(file, Path::new(""))?),
        };
        let (member, driver, addresses) = driver::spawn(self.config, identity).await?;
        Ok(Node { member, addresses, driver })
    }
}

impl Node {
    /// A node with a fresh identity and default settings, to be changed before it is spawned.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    #[cfg(test)]
    pub(crate) const fn driver(&self) -> &mpsc::Sender<driver::Command> {
        &self.driver
    }

    /// Who it is.
    #[must_use]
    pub const fn member_id(&self) -> MemberId {
        self.member
    }

    /// Where it listens, with `/p2p` and its id.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        let peer = self.member.peer_id();
        let with_id = |address: &Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(_)) => address.clone(),
            _ => address.clone().with(Protocol::P2p(peer)),
        };
        self.addresses.borrow().iter().map(with_id).collect()
    }

    /// Joins a session: reaches its coordinator, is let in, and learns the relay tree. Returns when
    /// the node is admitted.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(
        &self,
        invitation: impl Into<Invitation>,
    ) -> Result<(Session, Events), JoinError> {
        let (answer, joined) = oneshot::channel();
        let command = driver::Command::Join { invitation: Box::new(invitation.into()), answer };
        self.driver.send(command).await.map_err(|_| JoinError::Closed)?;
        joined.await.map_err(|_| JoinError::Closed)?
    }

    /// Leaves all sessions, what is queued is still sent and confirmed first, for five seconds at most, and ends
    /// the node.
    pub async fn shutdown(self) {
        self.shutdown_within(session::PATIENCE).await;
    }

    /// The same for `patience` at most.
    pub async fn shutdown_within(self, patience: Duration) {
        let (done, ended) = oneshot::channel();
        if self.driver.send(driver::Command::Shutdown { patience, done }).await.is_ok() {
            let _ = ended.await;
        }
    }
}

/// For demonstrations and tests: channels that are worse than they are, or not there.
#[cfg(feature = "impairment")]
impl Node {
    /// Makes the channel with a member worse than it is, for demonstrations and tests; `None` makes
    /// it what it is. It acts at this end, in both directions, on all that crosses the channel: frames,
    /// control of tree edges and probes. So the delay that is measured grows by about
    /// [`crate::Impairment::delay`]; if both ends impair the channel, by both. At once, also for what is
    /// running; what is on its way already arrives as it was to. Pushes of trees and the setting up
    /// of connections and substreams are not touched.
    pub async fn impair(&self, member: MemberId, impairment: Option<crate::Impairment>) {
        let (done, set) = oneshot::channel();
        self.tell(driver::Command::Impair { member, impairment, done }, set).await;
    }

    /// Has no channel with a member from now on, neither directly nor over a circuit: those that
    /// there are, are closed. Messages go round over others. Do not deny a session's coordinator: the
    /// node would lose it.
    pub async fn deny(&self, member: MemberId) {
        let (done, set) = oneshot::channel();
        self.tell(driver::Command::Deny { member, denied: true, done }, set).await;
    }

    /// Undoes [`Node::deny`]: the member is dialled again if the coordinator named it.
    pub async fn allow(&self, member: MemberId) {
        let (done, set) = oneshot::channel();
        self.tell(driver::Command::Deny { member, denied: false, done }, set).await;
    }

    /// Waits until a command is carried out; a node that has ended carries out none.
    async fn tell(&self, command: driver::Command, done: oneshot::Receiver<()>) {
        if self.driver.send(command).await.is_ok() {
            let _ = done.await;
        }
    }
}
