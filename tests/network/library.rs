//! The library as an application uses it.

use std::time::Duration;

use arborcast::{Event, Events, Invitation, JoinError, Multiaddr, Node, Rejection, SendError};
use arborcast_protocol::{
    id::{SeqNo, ServiceId},
    keys::Access,
    limits,
    session::{Address, Contact},
    ticket::Ticket,
};

use super::{
    peer::within,
    world::{World, id, invitation, loopback, member, receives, until},
};

/// A megabyte that tells which one it is.
fn megabyte(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

async fn next_megabyte(events: &mut Events) -> u32 {
    loop {
        match events.next().await.expect("the session goes on") {
            Event::Message(message) if message.payload.len() == 1 << 20 => {
                let number = message.payload.first_chunk::<4>().expect("four bytes");
                return u32::from_be_bytes(*number);
            }
            Event::Lost { reason, .. } => panic!("lost: {reason}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_send_says_that_all_have_it_or_who_has_not() {
    let mut world = World::new().await;
    let (ada, patience) = (&world.ada.session, Duration::from_secs(20));
    let confirmed =
        ada.message("to all").service(ServiceId(3)).send_confirmed(patience).await.expect("sent");
    assert_eq!((confirmed.members, confirmed.complete), (1, true));
    assert_eq!(confirmed.missing, []);
    let before = confirmed.seq.0;
    // Bea takes no events, so what does not fit into her inbox is not given to her.
    let mut last = confirmed;
    for number in 0..64 {
        let soon = Duration::from_millis(500);
        let sent = ada.send_confirmed(megabyte(number), soon);
        last = within(sent).await.expect("sent");
        if !last.complete {
            break;
        }
    }
    assert!(!last.complete, "64 MiB were confirmed with nobody taking them out");
    assert_eq!((last.members, last.missing), (0, vec![id(&world.bea)]));
    let again = ada.confirm(None, last.seq, patience);
    let taking = async {
        while before + 1 + u64::from(within(next_megabyte(&mut world.bea.events)).await)
            < last.seq.0
        {}
    };
    let (again, ()) = tokio::join!(again, taking);
    assert!(again.expect("the session goes on").complete);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_waits_while_a_receiver_takes_nothing_and_nothing_is_lost() {
    let mut world = World::new().await;
    // What may lie on the way: before the sender's engine, its queue and window, the receiver's inbox, some
    // slack.
    let bound = 4 + 4 + 16 + 8 + 8;
    let mut taken_in = 0;
    // Bea takes no events meanwhile. Half a second without progress: the sender waits.
    while taken_in <= bound
        && tokio::time::timeout(
            Duration::from_millis(500),
            world.ada.session.send(megabyte(taken_in)),
        )
        .await
        .is_ok()
    {
        taken_in += 1;
    }
    assert!(taken_in <= bound, "{taken_in} MiB were taken in with nobody taking them out");
    let status = world.bea.session.status().await.expect("a status");
    assert!(status.relay.store_bytes <= 32 << 20, "{} bytes kept", status.relay.store_bytes);
    // The send that was given up may or may not have been taken in: its number shows which.
    for number in 0..taken_in {
        assert_eq!(within(next_megabyte(&mut world.bea.events)).await, number);
    }
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_drops_its_events_holds_nobody_back() {
    let world = World::new().await;
    drop(world.bea.events);
    for number in 0..64 {
        within(world.ada.session.send(megabyte(number))).await.expect("sent");
    }
    let mut events = world.ada.events;
    let delivered = async {
        loop {
            match events.next().await {
                Some(Event::Delivered { seq, members, to: None }) if seq >= SeqNo(64) => {
                    return members;
                }
                Some(_) => {}
                None => panic!("the session ended"),
            }
        }
    };
    assert_eq!(within(delivered).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_messages_are_refused_with_words_and_the_rest_goes_on() {
    let mut world = World::new().await;
    let oversize = vec![0; limits::MESSAGE + 1];
    let limit = limits::MESSAGE as u64;
    let why = Rejection::TooLarge { bytes: limit + 1, limit };
    let sent = within(world.ada.session.send(oversize)).await.expect("handed over");
    assert_eq!(within(sent.seq()).await, Err(SendError::Rejected(why.clone())));
    // Whoever does not wait for that is told.
    let not_sent = async {
        loop {
            match world.ada.events.next().await {
                Some(Event::NotSent { to: None, why }) => return why,
                Some(_) => {}
                None => panic!("the session has ended"),
            }
        }
    };
    assert_eq!(within(not_sent).await, why);
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_joined_once_and_left_for_good() {
    let mut world = World::new().await;
    let cem = member(&world.coordinator, &world.access, "cem").await;
    let again = cem.node.join(invitation(&world.coordinator, &world.access)).await;
    assert!(matches!(again, Err(JoinError::AlreadyJoined)));
    until("three in the tree", async || {
        world.ada.session.tree().is_some_and(|(_, tree)| tree.edges().len() == 2)
    })
    .await;
    let (gone, session) = (id(&cem), cem.session.clone());
    within(cem.session.leave()).await;
    assert!(matches!(session.send("too late").await, Err(SendError::Closed)));
    let left = async {
        loop {
            match world.ada.events.next().await {
                Some(Event::Left(who)) if who.member == gone => return who.nick,
                Some(_) => {}
                None => panic!("the session ended"),
            }
        }
    };
    assert_eq!(within(left).await, "cem");
    // The same node may come back.
    let (_session, _events) =
        within(cem.node.join(invitation(&world.coordinator, &world.access))).await.expect("back");
    until("three in the tree again", async || {
        world.ada.session.tree().is_some_and(|(_, tree)| tree.edges().len() == 2)
    })
    .await;
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_can_be_in_two_sessions_and_they_do_not_mix() {
    let mut world = World::new().await;
    let lobby = Access::Open { name: "lobby".to_owned() };
    let (ada, mut heard_by_ada) =
        within(world.ada.node.join(invitation(&world.coordinator, &lobby))).await.expect("joined");
    let (bea, mut heard_by_bea) =
        within(world.bea.node.join(invitation(&world.coordinator, &lobby))).await.expect("joined");
    until("both in the lobby's tree", async || {
        ada.tree().is_some_and(|(_, tree)| tree.edges().len() == 1)
    })
    .await;
    ada.send("in the lobby").await.expect("sent");
    bea.send("here, too").await.expect("sent");
    world.honest_members_still_talk().await;
    for (events, text) in [(&mut heard_by_bea, "in the lobby"), (&mut heard_by_ada, "here, too")] {
        let heard = async {
            loop {
                match events.next().await {
                    Some(Event::Message(message)) => return message.payload,
                    Some(_) => {}
                    None => panic!("the session ended"),
                }
            }
        };
        assert_eq!(within(heard).await, text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_members_of_one_session_may_be_in_another_at_another_coordinator() {
    let mut first = World::new().await;
    let mut second = World::new().await;
    // Ada of the first is in both, each with its own coordinator.
    let (ada, mut heard_by_ada) =
        within(first.ada.node.join(invitation(&second.coordinator, &second.access)))
            .await
            .expect("joined");
    until("three in the second tree", async || {
        ada.tree().is_some_and(|(_, tree)| tree.edges().len() == 2)
    })
    .await;
    ada.send("from both").await.expect("sent");
    within(receives(&mut second.bea.events, "from both")).await;
    second.bea.session.send("to both").await.expect("sent");
    within(receives(&mut heard_by_ada, "to both")).await;
    first.honest_members_still_talk().await;
    // One coordinator goes, and nothing happens to the session of the other.
    first.coordinator.shutdown().await;
    ada.send("still in both").await.expect("sent");
    within(receives(&mut second.bea.events, "still in both")).await;
    second.honest_members_still_talk().await;
}

/// A node that is in no session yet.
async fn newcomer() -> Node {
    Node::builder().nick("cem").listen(loopback().remove(0)).spawn().await.expect("a node")
}

/// A ticket that says that the coordinator is at these addresses.
fn ticket(world: &World, addresses: &[&str]) -> Ticket {
    let addresses = addresses
        .iter()
        .map(|text| Address(text.parse::<Multiaddr>().expect("an address").to_vec()))
        .collect();
    let contact = Contact { member: world.coordinator.member_id(), addresses };
    Ticket::new(world.access.clone(), None, vec![contact]).expect("a ticket")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_beside_a_stale_ticket_is_taken_for_the_coordinator_and_so_is_a_members() {
    let world = World::new().await;
    let stale = ticket(&world, &["/ip4/127.0.0.1/tcp/9"]);
    let member = world.ada.node.listen_addresses().remove(0);
    let mut bare = world.coordinator_address();
    bare.pop();
    for address in [world.coordinator_address(), bare, member] {
        let invitation = Invitation::from(stale.clone()).peer(address.clone());
        let node = newcomer().await;
        let joined = within(node.join(invitation)).await;
        assert!(joined.is_ok(), "{address}: {:?}", joined.err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_at_one_address_takes_out_that_address_alone() {
    let world = World::new().await;
    let other = World::new().await;
    let [mut own, mut taken] = [&world, &other].map(World::coordinator_address);
    own.pop();
    taken.pop();
    // Whoever answers first.
    for addresses in [[&taken, &own], [&own, &taken]] {
        let both = addresses.map(ToString::to_string);
        let both = both.each_ref().map(String::as_str);
        let joined = within(newcomer().await.join(ticket(&world, &both))).await;
        assert!(joined.is_ok(), "{:?}", joined.err());
    }
    let alone = within(newcomer().await.join(ticket(&world, &[&taken.to_string()]))).await;
    assert!(matches!(alone, Err(JoinError::WrongPeer { .. })), "{alone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_and_one_that_means_nothing_costs_the_others_nothing() {
    let world = World::new().await;
    let named =
        world.coordinator_address().to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let dead = "/dns4/nobody.invalid/tcp/4001";
    let by_name = ticket(&world, &[dead, named.split("/p2p/").next().expect("the address")]);
    let joined = within(newcomer().await.join(by_name)).await;
    assert!(joined.is_ok(), "{:?}", joined.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_on_while_the_coordinator_is_gone() {
    let mut world = World::new().await;
    let port = world.coordinator_address();
    world.coordinator.shutdown().await;
    for at in 0..20_u32 {
        let text = format!("without a coordinator {at}");
        world.ada.session.send(text.clone()).await.expect("sent");
        let heard = async {
            loop {
                match world.bea.events.next().await {
                    Some(Event::Message(message)) if message.payload == text.as_bytes() => return,
                    Some(Event::Lost { reason, .. }) => panic!("lost: {reason}"),
                    Some(_) => {}
                    None => panic!("the session ended"),
                }
            }
        };
        within(heard).await;
    }
    // Nobody new comes in, and is told why.
    let cem = Node::builder()
        .listen(loopback().remove(0))
        .config(arborcast::Config { connect_timeout_s: 1, ..arborcast::Config::default() })
        .spawn()
        .await
        .expect("a node");
    let invitation = Invitation::open("lobby").expect("a name").peer(port);
    let refused = within(cem.join(invitation)).await.expect_err("nobody there");
    assert!(refused.is_unreachable(), "{refused}");
}
