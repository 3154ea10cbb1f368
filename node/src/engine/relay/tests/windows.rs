//! Back-pressure: who is slow holds sources back, and nothing grows without bound.

use std::time::Duration;

use arborcast_protocol::{
    id::{Class, SeqNo, ServiceId},
    testing,
};
use bytes::Bytes;

use super::{
    super::{Config, Output, config::WINDOW_MAX},
    edges::{A, B, Scene},
    world::{World, random_tree, seeds},
};
use crate::engine::event::{Event, PublishId, Rejection};

const MIB: usize = 1024 * 1024;

#[test]
fn r16_an_application_that_does_not_take_messages_holds_the_source_back() {
    let mut world = World::with(1, 3, &[(0, 1), (1, 2)]);
    for node in 0..3 {
        // A window of a megabyte.
        world.node(node).relay.set_terms(3 * MIB as u64, 16 * MIB as u64);
    }
    world.node(2).pulls = false;
    for _ in 0..100 {
        world.publish(0, 100_000);
    }
    world.run(Duration::from_secs(3));
    assert!(world.node(2).got.is_empty());
    for node in 0..3 {
        let stats = world.node(node).relay.stats();
        assert!(stats.store_bytes <= MIB as u64, "node {node} keeps {}", stats.store_bytes);
        assert!(stats.undelivered_bytes <= MIB as u64);
        assert_eq!(stats.total.over_quota, 0);
    }
    assert!(world.node(0).relay.stats().store_bytes > MIB as u64 / 2, "the window is used");
    assert!(!world.node(0).relay.may_publish());
    assert_eq!(world.node(0).receipt, SeqNo(0));

    world.node(2).pulls = true;
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2]);
    assert!(world.node(0).relay.may_publish());
}

#[test]
fn frames_are_made_as_the_fastest_edge_takes_them() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    let (id, service, class) = (PublishId(0), ServiceId(0), Class::Reliable);
    scene.relay.publish(id, service, class, None, vec![0; 4 * MIB].into(), scene.now);
    let make = |scene: &mut Scene| {
        let mut made = 0;
        while let Some(draft) = scene.relay.poll_draft(scene.now) {
            let frame = testing::frame(draft.header, &draft.payload);
            scene.relay.on_made(frame, draft.payload, scene.now);
            made += 1;
        }
        made
    };
    assert_eq!(make(&mut scene), 32);
    for _ in 0..16 {
        assert!(scene.relay.poll_frame(A, scene.now).is_some());
        assert_eq!(make(&mut scene), 0, "half of them wait yet, so that the next ones are many");
    }
    assert!(scene.relay.poll_frame(A, scene.now).is_some());
    assert_eq!(make(&mut scene), 17, "one edge takes them, however slow the other is");
    assert_eq!(scene.frames(A).len(), 32);
    assert_eq!(make(&mut scene), 64 - 49, "an edge with nothing to do gets all there is");
}

#[test]
fn a_message_larger_than_the_window_gets_through() {
    let mut world = World::with(2, 3, &[(0, 1), (1, 2)]);
    for node in 0..3 {
        world.node(node).relay.set_terms(MIB as u64, 16 * MIB as u64);
    }
    assert!(world.node(0).relay.window() < MIB as u64 / 2);
    world.publish(0, 2 * MIB);
    world.publish(2, MIB);
    world.publish(0, 5);
    world.run(Duration::from_secs(5));
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn full_stores_come_free_although_frames_had_to_be_dropped() {
    // All talk at once; stores hold one window, not the sum of all.
    let mut world = World::with(3, 5, &[(0, 1), (1, 2), (2, 3), (2, 4)]);
    for node in 0..5 {
        world.node(node).relay.set_terms(1, 16 * MIB as u64);
    }
    for link in &mut world.links {
        link.repeats = true;
    }
    for _ in 0..3 {
        for node in 0..5 {
            world.publish(node, 150_000);
        }
    }
    world.run(Duration::from_secs(300));
    let dropped: u64 = world.nodes.values().map(|node| node.relay.stats().total.over_quota).sum();
    let asked: u64 = world.nodes.values().map(|node| node.relay.stats().total.asked).sum();
    assert!(dropped > 0 && asked > 0, "this is about dropped frames");
    world.assert_complete(&[0, 1, 2, 3, 4]);
}

#[test]
fn the_window_shrinks_with_the_roster_within_its_limits() {
    let mut world = World::with(4, 1, &[]);
    assert_eq!(world.node(0).relay.window(), WINDOW_MAX);
    let relay = &mut world.node(0).relay;
    for (len, window) in [(2, 16 * MIB), (8, 4 * MIB), (128, 256 * 1024), (10_000, 256 * 1024)] {
        relay.roster.as_mut().expect("it has one").len = len;
        assert_eq!(relay.window(), window as u64, "{len} members");
    }
}

#[test]
fn a_roster_of_one_has_everything_at_once() {
    let mut world = World::with(5, 1, &[]);
    world.publish(0, 300_000);
    world.run(Duration::from_secs(1));
    world.assert_complete(&[0]);
}

#[test]
fn nothing_is_released_outside_a_tree() {
    let mut world = World::new(6);
    world.add(0, Config::default());
    world.settle(0);
    for _ in 0..300 {
        world.publish(0, 100_000);
    }
    world.run(Duration::from_secs(1));
    let stats = world.node(0).relay.stats();
    assert!(stats.store_bytes > WINDOW_MAX - 100_000 && stats.store_bytes <= WINDOW_MAX);
    assert_eq!(world.node(0).receipt, SeqNo(0));
}

#[test]
fn a_message_over_the_limit_is_rejected_with_both_figures() {
    let mut world = World::with(7, 1, &[]);
    let now = world.now;
    let relay = &mut world.node(0).relay;
    relay.set_terms(32 * MIB as u64, 1000);
    let mut outcome = |len: usize, class| {
        relay.publish(PublishId(3), ServiceId(0), class, None, Bytes::from(vec![0; len]), now);
        relay.poll_output()
    };
    let queued = Event::Queued { id: PublishId(3), seq: SeqNo(1) };
    assert_eq!(outcome(1000, Class::Reliable), Some(Output::Event(queued)));
    let Some(Output::Event(Event::Rejected { id, why })) = outcome(1001, Class::Reliable) else {
        panic!("it is too large")
    };
    assert_eq!((id, why), (PublishId(3), Rejection::TooLarge { bytes: 1_001, limit: 1_000 }));
    let live = outcome(1001, Class::Live);
    assert!(matches!(live, Some(Output::Event(Event::Rejected { .. }))));
}

#[test]
fn a_full_queue_rejects_but_one_message_of_any_size_always_fits() {
    let mut world = World::with(8, 1, &[]);
    let now = world.now;
    let relay = &mut world.node(0).relay;
    let mut publish = |len: usize| {
        relay.publish(PublishId(0), ServiceId(0), Class::Reliable, None, vec![0; len].into(), now);
        relay.poll_output()
    };
    let accepted = |outcome| matches!(outcome, Some(Output::Event(Event::Queued { .. })));
    assert!(accepted(publish(16 * MIB)));
    assert!(!accepted(publish(1)));
    assert!(!world.node(0).relay.may_publish());
}

#[test]
fn receipts_name_how_many_have_it() {
    let mut world = World::with(9, 3, &[(0, 1), (0, 2)]);
    let now = world.now;
    world.run(Duration::from_millis(100));
    let relay = &mut world.node(0).relay;
    relay.publish(PublishId(0), ServiceId(7), Class::Reliable, None, Bytes::from_static(b"x"), now);
    assert!(relay.poll_output().is_some());
    world.published.insert((testing::member(0), SeqNo(1)), Bytes::from_static(b"x"));
    world.run(Duration::from_secs(1));
    assert_eq!(world.node(0).receipt, SeqNo(1));
    assert_eq!(world.node(0).receivers, 2);
}

#[test]
fn large_messages_of_many_sources_wait_for_room_and_none_is_lost() {
    for seed in seeds(10) {
        // All are sources and receivers of each other, so that what one takes first another may
        // take last.
        let n = 5;
        let mut world = World::new(seed);
        for node in 0..n {
            let store_bytes = MIB as u64;
            let config = Config { assembly_bytes: 1, store_bytes, ..Config::default() };
            world.add(node, config);
            world.node(node).relay.set_terms(MIB as u64, 2 * MIB as u64);
            world.settle(node);
        }
        for (a, b) in random_tree(&mut world.rng, n) {
            world.link(a, b);
        }
        world.roster(&(0..n).collect::<Vec<_>>());
        world.hear_news();
        for node in 0..n {
            for _ in 0..2 {
                world.publish(node, 2 * MIB - 1000);
                world.publish(node, 10);
            }
        }
        world.run(Duration::from_secs(20));
        assert!(world.nodes.values().any(|node| node.most_waiting > 1), "there was little room");
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn twenty_sources_of_the_largest_message_are_delivered_within_the_budget() {
    let budget = 2 * 16 * MIB as u64;
    let mut world = World::new(3);
    for node in 0..21 {
        world.add(node, Config { assembly_bytes: budget, ..Config::default() });
        world.settle(node);
    }
    for node in 1..21 {
        world.link(0, node);
    }
    world.roster(&(0..21).collect::<Vec<_>>());
    world.hear_news();
    for node in 1..21 {
        world.publish(node, 16 * MIB);
    }
    world.run(Duration::from_secs(20));
    for node in world.nodes.values() {
        assert!(node.most_waiting > 1, "there was little room");
        // The lowest flow does not wait.
        let most = node.most_assembly;
        assert!(most <= budget + 3 * 16 * MIB as u64, "{most} bytes were held");
    }
    world.assert_complete(&(0..21).collect::<Vec<_>>());
}
