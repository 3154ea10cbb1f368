//! A node on loopback, with a coordinator beside it.

use std::time::Duration;

use arborcast_coordinator::{Config, Coordinator};
use arborcast_protocol::{
    id::Term,
    keys::Access,
    refusal::Code,
    session::{Address, Contact},
    ticket::Ticket,
};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, SwarmBuilder,
    identity::Keypair,
    noise, ping,
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use tokio::time::timeout;

use super::Command;
use crate::{Event, Events, Node, Session};

/// How long any one thing may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}

async fn joined() -> (Coordinator, Node, Session, Events) {
    let config = Config { listen: vec![loopback()], ..Config::default() };
    let coordinator = Coordinator::start(config, Keypair::generate_ed25519(), Term(1))
        .await
        .expect("a coordinator");
    let addresses = coordinator.addresses().iter().map(|at| Address(at.to_vec())).collect();
    let contact = Contact { member: coordinator.member_id(), addresses };
    let node = Node::builder().listen(loopback()).spawn().await.expect("a node");
    let access = Access::Open { name: "lobby".to_owned() };
    let ticket = Ticket::new(access, None, vec![contact]).expect("a ticket");
    let joining = timeout(PATIENCE, node.join(ticket)).await.expect("in time");
    let (session, events) = joining.expect("joined");
    (coordinator, node, session, events)
}

#[tokio::test]
async fn a_fault_in_the_driver_or_in_a_task_ends_each_session_with_its_words() {
    for (in_task, words) in [(true, "in a task"), (false, "in the driver")] {
        let (_coordinator, node, session, mut events) = joined().await;
        node.driver().send(Command::Fail { in_task }).await.expect("it runs");
        let ended = loop {
            let event = timeout(PATIENCE, events.next()).await.expect("in time");
            if let Event::Ended(refusal) = event.expect("an event") {
                break refusal;
            }
        };
        assert_eq!(ended.code, Code::FAULT);
        assert!(ended.message.contains(words), "{ended}");
        assert!(timeout(PATIENCE, events.next()).await.expect("in time").is_none());
        session.send("anybody?").await.expect_err("the node has ended");
    }
}

#[tokio::test]
async fn whoever_holds_the_events_alone_stays_and_whoever_drops_all_leaves() {
    let (coordinator, node, session, events) = joined().await;
    let members = async || coordinator.stats().await.map(|stats| stats.engine.members);
    drop((session, node));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(members().await, Some(1));
    drop(events);
    let gone = async {
        while members().await != Some(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, gone).await.is_ok(), "it never left");
}

/// Each one that comes has those before looked at; a peer answers the newest of several looks at one alone.
#[tokio::test]
async fn connections_that_come_at_the_same_time_do_not_close_each_other() {
    const CONNECTIONS: usize = 6;
    let node = Node::builder().listen(loopback()).spawn().await.expect("a node");
    let address = node.listen_addresses().into_iter().next().expect("an address");
    let often = ping::Config::new().with_interval(Duration::from_millis(50));
    let mut peer = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_behaviour(|_| ping::Behaviour::new(often))
        .expect("pings")
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(PATIENCE))
        .build();
    for _ in 0..CONNECTIONS {
        let dial = DialOpts::peer_id(node.member_id().peer_id())
            .condition(PeerCondition::Always)
            .addresses(vec![address.clone()])
            .build();
        peer.dial(dial).expect("may dial");
    }
    let (mut open, mut pings) = (0, 0);
    let talk = async {
        while pings < 30 * CONNECTIONS {
            match peer.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => open += 1,
                SwarmEvent::ConnectionClosed { cause, .. } => panic!("closed: {cause:?}"),
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                SwarmEvent::Behaviour(event) if event.result.is_ok() => pings += 1,
                _ => {}
            }
        }
    };
    timeout(PATIENCE, talk).await.expect("in time");
    assert_eq!(open, CONNECTIONS);
}
