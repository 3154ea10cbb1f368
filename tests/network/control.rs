//! Bad requests, bad proofs.

use arborcast_coordinator::Config;
use arborcast_protocol::{
    NOTICE, PATH, PROBE, REPORT, SESSION,
    admission::{Admission, Statement},
    codec,
    id::{MemberId, SessionId},
    keys::{Access, Secret},
    limits, path,
    probe::{Echo, Probe},
    refusal::{Code, Refusal},
    report, session,
};

use super::{
    peer::Peer,
    world::{World, loopback, until},
};

/// Bytes that are no message of any protocol.
fn nonsense() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![0xff; 16],
        // An array that says it holds 2^60 items, nested maps, an indefinite string, a float.
        vec![0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],
        vec![0xa1; 200],
        vec![0x5f, 0x41, 0, 0xff],
        vec![0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        // Well-formed, but for nobody.
        codec::encode(&"hello"),
        // Over the limit.
        vec![0x40; limits::CONTROL_REQUEST + 1],
    ]
}

fn refusal<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Refusal {
    match codec::decode::<Result<T, Refusal>>(bytes, limits::CONTROL_ANSWER) {
        Ok(Err(refusal)) => refusal,
        Ok(Ok(_)) => panic!("granted"),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// T17: whoever is in no session is given no circuit, and is not told so either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t17_circuits_are_for_members_alone() {
    let mut world = World::new().await;
    let (stranger, insider) = (world.hostile().await, world.hostile().await);
    stranger.reserve(&world.coordinator_address()).await;
    insider.join(world.coordinator_peer(), &world.access.clone()).await.expect("an insider");
    insider.reserve(&world.coordinator_address()).await;
    until("a circuit for the insider", async || insider.gossip().reservations > 0).await;
    assert_eq!(stranger.gossip().reservations, 0);
    // It was asked for long before, and is granted as soon as it is for a member.
    stranger.join(world.coordinator_peer(), &world.access.clone()).await.expect("let in");
    until("a circuit for it too", async || stranger.gossip().reservations > 0).await;
    world.honest_members_still_talk().await;
}

/// Members answer the probes of those who show that they are members, by a certificate of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_of_strangers_are_not_answered() {
    let mut world = World::new().await;
    let (stranger, insider) = (world.hostile().await, world.hostile().await);
    let session = world.access.session();
    let certificate =
        insider.join(world.coordinator_peer(), &world.access.clone()).await.expect("an insider");
    let address = world.ada.node.listen_addresses().into_iter().next().expect("an address");
    let first = |certificate| Probe { session, serial: 7, train: vec![].into(), certificate };
    let ada = stranger.dial(&address).await;
    let framed = |certificate| {
        let probe = codec::encode(&first(certificate));
        let len = u32::try_from(probe.len()).expect("short").to_be_bytes();
        [len.to_vec(), probe].concat()
    };
    for certificate in [None, Some(certificate)] {
        let answer = stranger.ask(ada, PROBE, framed(certificate)).await;
        assert!(answer.as_ref().is_ok_and(Vec::is_empty) || answer.is_err(), "{answer:?}");
    }
    insider.dial(&address).await;
    let answer = insider.ask(ada, PROBE, framed(Some(certificate))).await.expect("an answer");
    let (_, answer) = answer.split_at(4);
    let echo: Echo = codec::decode(answer, answer.len()).expect("an echo");
    assert_eq!(echo.serial, 7);
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_answered_with_words_and_counted() {
    let mut world = World::new().await;
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    for bytes in nonsense() {
        for protocol in [SESSION, REPORT, PATH] {
            let answer = mallory.ask(coordinator, protocol, bytes.clone()).await;
            let Ok(answer) = answer else {
                // Too long to be read whole: the answer may come before all is sent.
                assert!(bytes.len() > limits::CONTROL_REQUEST, "{protocol}: {answer:?}");
                continue;
            };
            let refusal = match protocol {
                SESSION => refusal::<session::Granted>(&answer),
                REPORT => refusal::<report::Accepted>(&answer),
                _ => refusal::<path::State>(&answer),
            };
            assert_eq!(refusal.code, Code::INVALID);
            assert!(refusal.message.contains("not understood"), "{}", refusal.message);
        }
    }
    let counted = world.coordinator.stats().await.expect("figures").malformed;
    assert!(counted >= 21, "{counted} malformed requests counted");
    // The same to a member, on what members listen to.
    let address = world.ada.node.listen_addresses().into_iter().next().expect("an address");
    let ada = mallory.dial(&address).await;
    for bytes in nonsense() {
        for protocol in [SESSION, NOTICE, PROBE] {
            let _ = mallory.ask(ada, protocol, bytes.clone()).await;
        }
    }
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_nothing() {
    let mut world = World::new().await;
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    let session = world.access.session();
    let renew = session::Request::Renew {
        session,
        incarnation: mallory.incarnation(),
        addresses: Vec::new(),
        settled: true,
        push_key: 0,
    };
    let refused = mallory.session(coordinator, &renew).await.expect_err("not a member");
    assert_eq!(refused.code, Code::NOT_MEMBER);
    for scope in [path::Scope::Tree, path::Scope::Neighbours] {
        for request in
            [path::Request::Query { session, scope }, path::Request::Subscribe { session, scope }]
        {
            let refused = mallory.path(coordinator, request).await.expect_err("not a member");
            assert_eq!(refused.code, Code::NOT_MEMBER);
        }
    }
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_that_are_wrong_or_from_elsewhere_admit_nobody() {
    let mut world = World::new().await;
    let elsewhere = World::new().await;
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    let session = world.access.session();
    let me = MemberId::try_from(coordinator).expect("Ed25519");
    let fresh = |challenge| Statement {
        session,
        coordinator: me,
        member: mallory.member,
        incarnation: mallory.incarnation(),
        challenge,
    };
    let wrong_secret = Access::Private(Secret::from_bytes([9; 32]));

    // Signed with another session's key.
    let challenge = mallory.challenge(coordinator, session).await;
    let proofs: Vec<(&str, Admission)> =
        vec![("another key", wrong_secret.admission(&fresh(challenge)))];
    // Valid in every point but one: as if collected elsewhere and shown here.
    let other_coordinator = Statement {
        coordinator: elsewhere.coordinator.member_id(),
        ..fresh(mallory.challenge(coordinator, session).await)
    };
    let other_member = Statement {
        member: elsewhere.ada.session.member_id(),
        ..fresh(mallory.challenge(coordinator, session).await)
    };
    let other_challenge = fresh(elsewhere_challenge(&elsewhere, session).await);
    let replayed = fresh(mallory.challenge(coordinator, session).await);
    let mut proofs = proofs;
    proofs.push(("another coordinator's", world.access.admission(&other_coordinator)));
    proofs.push(("another member's", world.access.admission(&other_member)));
    for (what, proof) in proofs {
        let refused = mallory.join_with(coordinator, session, proof).await.expect_err(what);
        assert_eq!(refused.code, Code::NOT_ADMITTED, "{what}: {}", refused.message);
    }
    let proof = world.access.admission(&other_challenge);
    let refused = mallory.join_with(coordinator, session, proof).await.expect_err("not drawn here");
    assert_eq!(refused.code, Code::STALE_CHALLENGE);
    // A good proof works once.
    let proof = world.access.admission(&replayed);
    mallory.join_with(coordinator, session, proof.clone()).await.expect("the insider gets in");
    let eve = world.hostile().await;
    let refused = eve.join_with(coordinator, session, proof.clone()).await.expect_err("replayed");
    assert_eq!(refused.code, Code::STALE_CHALLENGE);
    let refused = mallory.join_with(coordinator, session, proof).await.expect_err("replayed");
    assert_eq!(refused.code, Code::STALE_CHALLENGE);
    world.honest_members_still_talk().await;
}

async fn elsewhere_challenge(
    elsewhere: &World,
    session: SessionId,
) -> arborcast_protocol::id::Challenge {
    let visitor = elsewhere.hostile().await;
    visitor.challenge(elsewhere.coordinator_peer(), session).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_sessions_can_be_turned_off() {
    let mut config = Config { listen: loopback(), ..Config::default() };
    config.engine.open_sessions = false;
    let mut world = World::with(config).await;
    let mallory = world.hostile().await;
    let access = Access::Open { name: "lobby".to_owned() };
    let refused =
        mallory.join(world.coordinator_peer(), &access).await.expect_err("no open sessions");
    assert_eq!(refused.code, Code::NO_OPEN_SESSIONS);
    assert!(refused.message.contains("open"), "{}", refused.message);
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_is_cut_off_and_disturbs_nobody() {
    let mut world = World::new().await;
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    let session = world.access.session();
    let mut limited = 0;
    for _ in 0..600 {
        let request = session::Request::Challenge { session };
        if let Err(refusal) = mallory.session(coordinator, &request).await {
            limited += u32::from(refusal.code == Code::RATE_LIMITED);
        }
    }
    assert!(limited > 0, "600 requests in a row and no limit");
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_report_does_not_break_the_tree_of_others() {
    let mut world = World::new().await;
    let mallory = world.hostile().await;
    let coordinator = world.coordinator_peer();
    let session = world.access.session();
    mallory.join(coordinator, &world.access.clone()).await.expect("an insider");
    // Channels with people who have none with it, with itself, and with nobody at all.
    let nobody = Peer::new().member;
    mallory
        .report_channels(
            coordinator,
            session,
            &[world.ada.session.member_id(), world.bea.session.member_id(), nobody],
        )
        .await;
    until("a tree with all three", async || {
        world.ada.session.tree().is_some_and(|(_, tree)| tree.members().len() == 3)
    })
    .await;
    world.honest_members_still_talk().await;
}
