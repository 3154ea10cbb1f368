//! A coordinator and two honest members, in this process, on real sockets.

use std::{sync::Arc, time::Duration};

use arborcast::{Event, Events, Invitation, Node, Session};
use arborcast_coordinator::{Config, Coordinator};
use arborcast_protocol::{
    id::{MemberId, Term},
    keys::{Access, Secret},
    session::{Address, Contact},
    ticket::Ticket,
};
use arborcast_tests::slot::Slot;
use libp2p::{Multiaddr, PeerId, identity::Keypair};

use super::peer::{PATIENCE, Peer, unique, within};

pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) session: Session,
    pub(crate) events: Events,
}

pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    pub(crate) access: Access,
    pub(crate) ada: Member,
    pub(crate) bea: Member,
    _slot: Arc<Slot>,
}

pub(crate) fn loopback() -> Vec<Multiaddr> {
    vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")]
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Config { listen: loopback(), ..Config::default() }).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let slot = Slot::take();
        // What goes on, with RUST_LOG=debug; one subscriber serves all tests of a process.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let coordinator = Coordinator::start(config, Keypair::generate_ed25519(), Term(1))
            .await
            .expect("a coordinator");
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&unique().to_be_bytes());
        secret[8..12].copy_from_slice(&std::process::id().to_be_bytes());
        let access = Access::Private(Secret::from_bytes(secret));
        let ada = member(&coordinator, &access, "ada").await;
        let bea = member(&coordinator, &access, "bea").await;
        let mut world = Self { coordinator, access, ada, bea, _slot: slot };
        until("both members in the tree", async || {
            world.ada.session.tree().is_some_and(|(_, tree)| tree.edges().len() == 1)
        })
        .await;
        world.honest_members_still_talk().await;
        world
    }

    pub(crate) fn coordinator_address(&self) -> Multiaddr {
        self.coordinator.dialable().into_iter().next().expect("an address")
    }

    pub(crate) fn coordinator_peer(&self) -> PeerId {
        self.coordinator.member_id().peer_id()
    }

    /// A hostile peer that is connected to the coordinator.
    pub(crate) async fn hostile(&self) -> Peer {
        let peer = Peer::new();
        peer.dial(&self.coordinator_address()).await;
        peer
    }

    /// Each of the two sends, and the other gets it, whatever went on before.
    pub(crate) async fn honest_members_still_talk(&mut self) {
        let text = format!("still here {}", unique());
        self.ada.session.send(text.clone()).await.expect("sent");
        within(receives(&mut self.bea.events, &text)).await;
        let text = format!("me too {}", unique());
        self.bea.session.send(text.clone()).await.expect("sent");
        within(receives(&mut self.ada.events, &text)).await;
    }
}

pub(crate) async fn member(coordinator: &Coordinator, access: &Access, nick: &str) -> Member {
    let node =
        Node::builder().nick(nick).listen(loopback().remove(0)).spawn().await.expect("a node");
    let (session, events) =
        within(node.join(invitation(coordinator, access))).await.expect("joined");
    Member { node, session, events }
}

pub(crate) fn invitation(coordinator: &Coordinator, access: &Access) -> Invitation {
    let contact = Contact {
        member: coordinator.member_id(),
        addresses: coordinator.addresses().iter().map(|at| Address(at.to_vec())).collect(),
    };
    Ticket::new(access.clone(), None, vec![contact]).expect("a ticket").into()
}

/// Waits until a message with this text comes; nothing may be lost before.
pub(crate) async fn receives(events: &mut Events, text: &str) {
    loop {
        match events.next().await.expect("the session goes on") {
            Event::Message(message) if message.payload == text.as_bytes() => return,
            Event::Lost { reason, .. } => panic!("lost: {reason}"),
            _ => {}
        }
    }
}

/// Waits until `condition` holds, asking again a little later each time it does not.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// Frames that a member dropped because they did not prove genuine.
pub(crate) async fn forged(member: &Member) -> u64 {
    member.session.status().await.expect("a status").relay.total.forged
}

pub(crate) fn id(member: &Member) -> MemberId {
    member.session.member_id()
}
