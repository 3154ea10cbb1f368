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
use libp2p::{Multiaddr, identity::Keypair};
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
