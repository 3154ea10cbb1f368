//! Who hears of trees by gossipsub, and trees that the coordinator did not sign.

use arborcast_protocol::{
    codec,
    id::{Epoch, Term},
    identity::ed25519,
    push::{Push, PushKey, PushSecret},
    tree::{Body, Header, SignedHeader, Tree, Update},
};

use super::{
    edges::insider,
    peer::Peer,
    world::{World, member, until},
};

/// A stranger that has got hold of the topic still hears nothing, neither from the coordinator nor from
/// members, and is told of no topic; a member does, at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t7_a_stranger_hears_of_no_topic_and_no_tree() {
    let mut world = World::new().await;
    let (witness, _, _) = insider(&world).await;
    let topic = witness.push().topic();
    assert!(!topic.contains(&world.access.session().to_string()));
    witness.subscribe(topic.clone()).await;
    let stranger = Peer::new();
    stranger.subscribe(topic.clone()).await;
    stranger.dial(&world.coordinator_address()).await;
    for member in [&world.ada, &world.bea] {
        let address = member.node.listen_addresses().into_iter().next().expect("an address");
        stranger.dial(&address).await;
    }
    until("members that tell the witness what they follow", async || {
        witness.gossip().topics.contains(&topic)
    })
    .await;
    // Members come and go until the witness has heard of several trees.
    let coordinator = witness.push();
    let mut guests = Vec::new();
    while witness.gossip().messages.len() < 3 {
        guests.push(member(&world.coordinator, &world.access, "guest").await);
        assert!(guests.len() < 20, "the witness hears nothing");
    }
    for message in witness.gossip().messages {
        let push: Push = codec::decode(&message, message.len()).expect("a push");
        let key = coordinator.keys.iter().find(|key| key.id == push.key).expect("its key");
        key.open(world.access.session(), &push).expect("it opens");
        assert!(!message.windows(3).any(|part| part == b"ada"), "a nick in clear");
    }
    let heard = stranger.gossip();
    assert!(heard.topics.is_empty(), "{:?}", heard.topics);
    assert!(heard.messages.is_empty(), "{} messages", heard.messages.len());
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_cannot_push_a_tree() {
    let mut world = World::new().await;
    let (mallory, _, _) = insider(&world).await;
    let session = world.access.session();
    let access = mallory.push();
    let topic = access.topic();
    mallory.subscribe(topic.clone()).await;
    let before = world.ada.session.tree().expect("a tree");

    // A tree of nobody with a high epoch, signed by the insider.
    let tree = Tree::default();
    let key = mallory.keypair.clone().try_into_ed25519().expect("Ed25519");
    let epoch = Epoch { term: Term(7), counter: 1 };
    let forged = |counter: u32, key: &ed25519::Keypair| {
        let epoch = Epoch { counter, ..epoch };
        let header = Header { session, epoch, hash: tree.hash() };
        Update { header: SignedHeader::sign(header, key), body: Body::Full(Box::new(tree.clone())) }
    };
    let mut lied = forged(2, &key);
    lied.header.coordinator = world.coordinator.member_id();
    let known = access.keys.first().expect("a key");
    let unknown = PushKey { id: 99, secret: PushSecret::from_bytes([9; 32]) };
    let mut torn = known.seal(session, &forged(3, &key));
    torn.sealed.truncate(20);
    let pushes = [
        codec::encode(&known.seal(session, &forged(1, &key))),
        codec::encode(&known.seal(session, &lied)),
        codec::encode(&torn),
        codec::encode(&unknown.seal(session, &forged(4, &key))),
        codec::encode(&forged(5, &key)),
        b"no tree at all".to_vec(),
    ];
    for push in pushes {
        until("a subscriber for the forged tree", async || {
            mallory.publish(topic.clone(), push.clone()).await
        })
        .await;
    }
    world.honest_members_still_talk().await;
    for member in [&world.ada, &world.bea] {
        let (now, tree) = member.session.tree().expect("a tree");
        assert_eq!(now.term, before.0.term, "a forged epoch was taken up");
        assert!(tree.members().len() >= 2);
    }
}
