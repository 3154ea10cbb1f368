//! A session from nothing but the library: made by one node, joined by others, taken as streams.

use std::sync::Arc;

use arborcast::{
    Event, Events, History, HostError, HostOptions, Hosted, Invitation, InvitationError, Messages,
    Node, Session,
};
use arborcast_tests::slot::Slot;
use futures::{Stream, StreamExt as _, stream::FusedStream as _};

use super::{
    peer::within,
    world::{loopback, until},
};

async fn node(nick: &str) -> Node {
    Node::builder().nick(nick).listen(loopback().remove(0)).spawn().await.expect("a node")
}

/// A session that one made and another one joined, both in one tree.
struct Pair {
    host: Node,
    hosted: Hosted,
    guest: (Session, Events),
    _guest_node: Node,
    _slot: Arc<Slot>,
}

async fn pair(options: HostOptions) -> Pair {
    let slot = Slot::take();
    let (host, guest_node) = (node("host").await, node("guest").await);
    let options = options.listen(loopback().remove(0));
    let hosted = within(host.host(options)).await.expect("hosted");
    // As people pass it on.
    let ticket: arborcast::Ticket = hosted.ticket.to_string().parse().expect("a ticket");
    let guest = within(guest_node.join(ticket)).await.expect("joined");
    until("both in the tree", async || {
        hosted.session.members().len() == 2 && guest.0.members().len() == 2
    })
    .await;
    Pair { host, hosted, guest, _guest_node: guest_node, _slot: slot }
}

async fn texts(messages: &mut Messages, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let message = within(messages.next()).await.expect("the session goes on");
        texts.push(String::from_utf8(message.payload.to_vec()).expect("text"));
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_makes_a_session_that_others_join_by_its_ticket() {
    let Pair { hosted, guest: (guest, mut events), .. } =
        pair(HostOptions::new().name("studio").history(History::All)).await;
    assert_eq!(hosted.ticket.name.as_deref(), Some("studio"));
    let names: Vec<String> = guest.members().into_iter().map(|member| member.nick).collect();
    assert!(names.contains(&"host".to_owned()) && names.contains(&"guest".to_owned()), "{names:?}");
    let coordinator = hosted.session.coordinator().expect("it hosts").clone();
    assert!(guest.coordinator().is_none());
    hosted.session.send("hello").await.expect("sent");
    loop {
        if let Event::Message(message) = within(events.next()).await.expect("it goes on") {
            assert_eq!(message.payload, "hello");
            break;
        }
    }
    // The coordinator goes with the last handle of the session, and not before.
    let Hosted { session, events, .. } = hosted;
    drop(events);
    assert!(coordinator.stats().await.is_some());
    session.leave().await;
    let members = async || coordinator.stats().await.map(|stats| stats.engine.members);
    until("the host gone from its session", async || members().await == Some(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_passphrases_lead_into_a_hosted_session_and_bad_ones_are_refused() {
    let Pair { hosted, _guest_node, .. } =
        pair(HostOptions::passphrase("studio", "long and hard to guess").expect("may be")).await;
    let address = hosted.session.coordinator().expect("it hosts").dialable().remove(0);
    let third = node("third").await;
    let by_name = |phrase: &str| {
        Invitation::passphrase("studio", phrase).expect("may be").peer(address.clone())
    };
    assert!(within(third.join(by_name("a wrong one"))).await.is_err());
    within(third.join(by_name("long and hard to guess"))).await.expect("joined");
    let named = HostOptions::new().name("").listen(loopback().remove(0));
    let refused = within(third.host(named)).await.expect_err("no name");
    assert!(matches!(refused, HostError::Invitation(InvitationError::Name)), "{refused:?}");
    assert!(HostOptions::open("").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_sends_keeps_its_order_and_flush_says_when_all_is_taken_in() {
    let Pair { hosted, guest: (guest, _events), .. } = pair(HostOptions::new()).await;
    let mut messages = guest.messages();
    for number in 0..1_000 {
        within(hosted.session.send(format!("{number}"))).await.expect("sent");
    }
    within(hosted.session.flush()).await.expect("taken in");
    let seq = within(hosted.session.send("last")).await.expect("sent").seq();
    assert_eq!(within(seq).await.expect("taken in").0, 1_001);
    let came = texts(&mut messages, 1_001).await;
    let sent = (0..1_000).map(|number| format!("{number}")).chain(["last".to_owned()]);
    assert!(came.into_iter().eq(sent));
    // A thousand small ones do not need a thousand frames.
    let status = within(hosted.session.status()).await.expect("it goes on");
    let frames = status.relay.total.frames_out;
    assert!(frames <= 200, "{frames} frames for 1001 small messages");
}

/// Whoever takes the messages need not take the events, and may go back to those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_apart_from_events_as_long_as_somebody_takes_them_so() {
    let Pair { hosted, guest: (guest, mut events), .. } = pair(HostOptions::new()).await;
    let mut first = guest.messages();
    hosted.session.send("one").await.expect("sent");
    assert_eq!(texts(&mut first, 1).await, ["one"]);
    let mut second = guest.messages();
    hosted.session.send("two").await.expect("sent");
    assert_eq!(texts(&mut second, 1).await, ["two"]);
    assert!(within(first.next()).await.is_none(), "it has been relieved");
    // More than the events could hold, had the messages to wait for those to be taken.
    let megabyte = vec![7; 1 << 20];
    for _ in 0..16 {
        within(hosted.session.send(megabyte.clone())).await.expect("sent");
        assert_eq!(within(second.next()).await.expect("comes").payload.len(), megabyte.len());
    }
    drop(second);
    hosted.session.send("three").await.expect("sent");
    let three = async {
        while let Some(event) = events.next().await {
            if let Event::Message(message) = event {
                return message.payload;
            }
        }
        panic!("the session has ended")
    };
    assert_eq!(within(three).await, "three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_shut_down_leaves_its_sessions_and_their_streams_end() {
    fn is_a_stream<S: Stream<Item = Event> + Unpin>(_: &S) {}
    let Pair { host, hosted, guest: (guest, mut events), .. } = pair(HostOptions::new()).await;
    is_a_stream(&events);
    let mut trees = guest.watch_tree();
    let mut messages = guest.messages();
    trees.borrow_and_update();
    let Hosted { session, events: own, .. } = hosted;
    for number in 0..100 {
        session.send(format!("{number}")).await.expect("sent");
    }
    within(host.shutdown()).await;
    let mut own = own.fuse();
    while within(own.next()).await.is_some() {}
    assert!(own.is_terminated());
    assert!(session.send("too late").await.is_err());
    let mut late = session.messages();
    assert!(within(late.next()).await.is_none());
    // What was sent before came first.
    let sent: Vec<String> = (0..100).map(|number| format!("{number}")).collect();
    assert_eq!(texts(&mut messages, 100).await, sent);
    within(async {
        while guest.members().len() != 1 {
            trees.changed().await.expect("the session goes on");
        }
    })
    .await;
    let mut left = false;
    while !left {
        left = matches!(within(events.next()).await, Some(Event::Left(_)));
    }
    // They end with the session, though others still hold it.
    within(guest.clone().leave()).await;
    assert!(within(messages.next()).await.is_none());
}
