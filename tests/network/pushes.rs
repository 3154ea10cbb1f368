//! Trees that the coordinator did not sign.

use arborcast_protocol::{
    admission, codec,
    id::{Epoch, Term},
    identity::ed25519,
    tree::{Body, Header, SignedHeader, Tree, Update},
    tree_topic,
};

use super::world::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_cannot_push_a_tree_and_the_coordinator_does_not_pass_it_on() {
    let mut world = World::new().await;
    let mallory = world.hostile().await;
    let session = world.access.session();
    mallory.join(world.coordinator_peer(), &world.access.clone()).await.expect("an insider");
    let topic = tree_topic(session);
    mallory.subscribe(topic.clone()).await;
    let before = world.ada.session.tree().await.expect("a tree");

    // A tree of nobody with a high epoch, signed by the insider.
    let tree = Tree::default();
    let key = mallory.keypair.clone().try_into_ed25519().expect("Ed25519");
    let epoch = Epoch { term: Term(7), counter: 1 };
    let header = Header { session, epoch, hash: tree.hash() };
    let forged = |key: &ed25519::Keypair| Update {
        header: SignedHeader::sign(header, key),
        body: Body::Full(Box::new(tree.clone())),
    };
    let mut lied = forged(&key);
    lied.header.coordinator = world.coordinator.member_id();
    let updates = [codec::encode(&forged(&key)), codec::encode(&lied), b"no tree at all".to_vec()];
    // Through the coordinator: it counts them and passes none on.
    for update in &updates {
        until("a subscriber for the forged tree", async || {
            mallory.publish(topic.clone(), update.clone()).await
        })
        .await;
    }
    until("three rejected pushes", async || {
        world.coordinator.stats().await.is_some_and(|stats| stats.forged_pushes >= 3)
    })
    .await;
    // Straight to a member: it rejects them as well.
    let address = world.ada.node.listen_addresses().into_iter().next().expect("an address");
    mallory.dial(&address).await;
    for at in 0..3_u32 {
        let header = Header { epoch: Epoch { counter: 100 + at, ..epoch }, ..header };
        let update = Update {
            header: SignedHeader::sign(header, &key),
            body: Body::Full(Box::new(tree.clone())),
        };
        until("a subscriber for the forged tree", async || {
            mallory.publish(topic.clone(), codec::encode(&update)).await
        })
        .await;
    }
    world.honest_members_still_talk().await;
    for member in [&world.ada, &world.bea] {
        let (now, tree) = member.session.tree().await.expect("a tree");
        assert_eq!(now.term, before.0.term, "a forged epoch was taken up");
        assert!(tree.members().len() >= 2);
    }
    assert_ne!(admission::open_session("x"), session);
}
