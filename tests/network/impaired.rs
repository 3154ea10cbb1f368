//! Channels that are made worse, or denied, as an application does it.

use std::time::Duration;

use arborcast::{Event, Impairment};
use arborcast_protocol::{id::MemberId, qos::Qos};
use tokio::time::Instant;

use super::{
    peer::within,
    world::{Member, World, id, until},
};

/// How good the channel with a member is as another one sees it.
async fn qos(at: &Member, with: MemberId) -> Option<Qos> {
    let status = at.session.status().await.expect("a status");
    status.channels.iter().find(|(peer, _)| *peer == with).and_then(|(_, state)| state.qos)
}

fn impairment(text: &str) -> Impairment {
    text.parse().expect("an impairment")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_channel_that_is_impaired_at_one_end_is_measured_so_at_both_and_recovers() {
    let mut world = World::new().await;
    let (ada, bea) = (id(&world.ada), id(&world.bea));
    let within_ms = |qos: Option<Qos>, low: u32, high: u32| {
        qos.is_some_and(|qos| (low * 1000..high * 1000).contains(&qos.delay_us))
    };
    world.ada.node.impair(bea, Some(impairment("delay=40ms"))).await;
    until("both ends measure it", async || {
        within_ms(qos(&world.ada, bea).await, 40, 70)
            && within_ms(qos(&world.bea, ada).await, 40, 70)
    })
    .await;
    // Data takes as long, which no machine is too slow for.
    let sent = Instant::now();
    world.honest_members_still_talk().await;
    assert!(sent.elapsed() >= Duration::from_millis(80), "there and back: {:?}", sent.elapsed());
    // Both ends add up.
    world.bea.node.impair(ada, Some(impairment("delay=60ms"))).await;
    until("the sum of both", async || within_ms(qos(&world.ada, bea).await, 100, 140)).await;
    world.ada.node.impair(bea, None).await;
    world.bea.node.impair(ada, None).await;
    until("as it was", async || within_ms(qos(&world.ada, bea).await, 0, 30)).await;
    world.honest_members_still_talk().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_narrow_channel_carries_no_more_than_its_rate_and_is_known_for_it() {
    const RATE_KBPS: u32 = 2_000;
    const MESSAGES: usize = 8;
    let mut world = World::new().await;
    let (ada, bea) = (id(&world.ada), id(&world.bea));
    world.ada.node.impair(bea, Some(impairment("rate=2mbit"))).await;
    let about = |qos: Option<Qos>| {
        let width = qos.and_then(|qos| qos.bandwidth_kbps);
        width.is_some_and(|width| (RATE_KBPS / 2..RATE_KBPS * 2).contains(&width))
    };
    // What waits for the channel shows how narrow it is, whatever else the machine does.
    until("both ends know its bandwidth", async || {
        world.ada.session.send(vec![1; 50_000]).await.expect("sent");
        world.bea.session.send(vec![1; 50_000]).await.expect("sent");
        about(qos(&world.ada, bea).await) && about(qos(&world.bea, ada).await)
    })
    .await;
    let began = Instant::now();
    let counted = |status: arborcast::Status| status.relay.total.bytes_out;
    let before = counted(world.ada.session.status().await.expect("a status"));
    for _ in 0..MESSAGES {
        world.ada.session.send(vec![7; 100_000]).await.expect("sent");
    }
    let arrived = async {
        let mut left = MESSAGES;
        while left > 0 {
            match world.bea.events.next().await.expect("the session goes on") {
                Event::Message(message) if message.payload.len() == 100_000 => left -= 1,
                Event::Lost { reason, .. } => panic!("lost: {reason}"),
                _ => {}
            }
        }
    };
    within(arrived).await;
    let millis = u64::try_from(began.elapsed().as_millis()).expect("is short");
    let bytes = counted(world.ada.session.status().await.expect("a status")) - before;
    let kbps = bytes * 8 / millis;
    println!("{bytes} bytes in {millis} ms: {kbps} kbit/s");
    // It may be less where the machine has other work, and never more.
    assert!(kbps < u64::from(RATE_KBPS) * 2, "{kbps} kbit/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_a_channel_that_is_bad_in_every_way() {
    let mut world = World::new().await;
    let (ada, bea) = (id(&world.ada), id(&world.bea));
    world
        .ada
        .node
        .impair(bea, Some(impairment("delay=10ms,jitter=10ms,loss=0.05,rate=20mbit")))
        .await;
    for number in 0..200_u32 {
        if number == 100 {
            world.bea.node.impair(ada, Some(impairment("loss=0.2,jitter=5ms"))).await;
        }
        if number == 150 {
            world.ada.node.impair(bea, None).await;
        }
        let mut payload = vec![0; 10_000];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        world.ada.session.send(payload).await.expect("sent");
    }
    for expected in 0..200_u32 {
        let next = async {
            loop {
                match world.bea.events.next().await.expect("the session goes on") {
                    Event::Message(message) if message.payload.len() == 10_000 => {
                        return u32::from_be_bytes(*message.payload.first_chunk().expect("four"));
                    }
                    Event::Lost { reason, .. } => panic!("lost: {reason}"),
                    _ => {}
                }
            }
        };
        assert_eq!(within(next).await, expected);
    }
    world.honest_members_still_talk().await;
}
