//! Data for one receiver alone: along the path of the tree, delivered there once and nowhere else,
//! whatever becomes of the tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arborcast_protocol::{
    id::{Class, Flow, FrameNo, MemberId, SeqNo, ServiceId},
    testing,
};
use bytes::Bytes;
use rand::{RngExt, seq::IndexedRandom};

use super::{
    super::{
        Output,
        config::{CARRIED, OPEN_RECEIVERS, STORE_MIN},
    },
    trees::talk,
    world::{World, random_tree, seeds},
};
use crate::engine::event::{Event, PublishId};

/// A world that knows its tree.
fn world(seed: u64, n: u64, links: &[(u64, u64)]) -> World {
    let mut world = World::with(seed, n, links);
    world.tree(&[]);
    world.hear_news();
    world
}

/// Some messages from everybody to everybody alone, of all sizes, among some to all.
fn whisper(world: &mut World, messages: usize) {
    let nodes: Vec<u64> = world.nodes.keys().copied().collect();
    for _ in 0..messages {
        let node = *nodes.choose(&mut world.rng).expect("some");
        let to = *nodes.choose(&mut world.rng).expect("some");
        let len = match world.rng.random_range(0..12) {
            0 => world.rng.random_range(60_000..200_000),
            1 => world.rng.random_range(1_000..60_000),
            _ => world.rng.random_range(0..200),
        };
        let to = (to != node && world.rng.random_range(0..4) > 0).then_some(to);
        world.publish_to(node, to, len);
    }
}

/// The directed frames that crossed between two nodes.
fn crossed(world: &World, a: u64, b: u64) -> BTreeSet<(Flow, FrameNo)> {
    let link = &world.links[world.find(a, b)];
    link.crossed.iter().flatten().filter(|(flow, _)| flow.to.is_some()).copied().collect()
}

fn pause(world: &mut World, most_ms: u64) {
    let time = world.rng.random_range(0..most_ms * 1000);
    world.run(Duration::from_micros(time));
}

#[test]
fn r9_data_for_one_crosses_the_edges_of_its_path_once_and_no_others() {
    // 0 - 1 - 2 is the path; 3, 4 and 5 are not on it.
    let mut world = world(1, 6, &[(0, 1), (1, 2), (1, 3), (2, 4), (0, 5)]);
    for _ in 0..30 {
        world.publish_to(0, Some(2), 100);
        world.publish(0, 10);
    }
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(world.node(2).got_alone[&testing::member(0)].len(), 30);
    assert!(!crossed(&world, 0, 1).is_empty());
    assert_eq!(crossed(&world, 0, 1), crossed(&world, 1, 2));
    for (a, b) in [(1, 3), (2, 4), (0, 5)] {
        assert_eq!(crossed(&world, a, b), BTreeSet::new(), "{a}-{b} is off the path");
    }
    for node in [3, 4, 5] {
        let flows = world.node(node).relay.flows.keys().filter(|flow| flow.to.is_some()).count();
        assert_eq!(flows, 0, "node {node} never hears of it");
    }
    let carrier = &world.node(1).relay;
    assert_eq!(carrier.stats().total.duplicates, 0);
    assert_eq!(world.node(0).receipts_alone[&testing::member(2)], SeqNo(59));
}

#[test]
fn r9_on_random_trees_data_for_one_is_delivered_there_alone() {
    for seed in seeds(20) {
        let mut plain = World::new(seed);
        let n = plain.rng.random_range(2..9);
        let tree = random_tree(&mut plain.rng, n);
        let mut world = world(seed, n, &tree);
        for _ in 0..3 {
            whisper(&mut world, 15);
            world.run(Duration::from_millis(50));
        }
        world.run(Duration::from_secs(3));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
        for node in world.nodes.values() {
            assert_eq!(node.relay.stats().total.duplicates, 0);
            assert_eq!(node.relay.stats().total.asked, 0);
        }
    }
}

#[test]
fn r9_a_large_message_for_one_goes_in_pieces_and_is_put_together_there_alone() {
    let mut world = world(2, 3, &[(0, 1), (1, 2)]);
    world.publish_to(0, Some(2), 3_000_000);
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2]);
    assert!(crossed(&world, 1, 2).len() > 40);
    assert_eq!(world.node(1).most_assembly, 0);
    assert!(world.node(2).most_assembly > 0);
}

#[test]
fn r9_without_a_tree_data_for_one_goes_everywhere_and_is_delivered_there_alone() {
    for seed in seeds(10) {
        let mut plain = World::new(seed);
        let n = plain.rng.random_range(2..8);
        let tree = random_tree(&mut plain.rng, n);
        let mut world = World::with(seed, n, &tree);
        whisper(&mut world, 40);
        world.run(Duration::from_secs(4));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
    let mut world = World::with(3, 4, &[(0, 1), (0, 2), (0, 3)]);
    world.publish_to(1, Some(2), 100);
    world.run(Duration::from_secs(3));
    world.assert_complete(&[0, 1, 2, 3]);
    assert_eq!(crossed(&world, 0, 3).len(), 1, "it does not know better");
}

#[test]
fn r9_some_know_the_tree_and_some_do_not() {
    for seed in seeds(10) {
        let mut world = world(seed, 6, &[(0, 1), (1, 2), (2, 3), (1, 4), (2, 5)]);
        for node in [1, 3, 4] {
            let now = world.now;
            world.node(node).relay.set_tree(None, now);
        }
        whisper(&mut world, 40);
        world.run(Duration::from_secs(4));
        world.assert_complete(&[0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn r9_a_tree_that_changes_in_mid_stream_loses_and_doubles_nothing() {
    for seed in seeds(40) {
        let mut plain = World::new(seed);
        let n = plain.rng.random_range(3..8);
        let tree = random_tree(&mut plain.rng, n);
        let mut world = world(7000 + seed, n, &tree);
        for _ in 0..8 {
            whisper(&mut world, 12);
            pause(&mut world, 20);
            let index = world.rng.random_range(0..world.links.len());
            let [(a, _), (b, _)] = world.links[index].ends;
            world.cut(a, b);
            pause(&mut world, 30);
            super::changes::reconnect(&mut world);
            world.tree(&[]);
        }
        // Those off the way forget what they were left with.
        world.run(Duration::from_secs(150));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn r9_a_tree_that_moves_by_overlap_loses_and_doubles_nothing() {
    for seed in seeds(30) {
        // A ring of which one link is always missing.
        let n = 5;
        let mut world = world(8000 + seed, n, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        let mut missing = (4, 0);
        for _ in 0..6 {
            whisper(&mut world, 12);
            pause(&mut world, 20);
            let links: Vec<(u64, u64)> =
                world.links.iter().map(|link| (link.ends[0].0, link.ends[1].0)).collect();
            let next = *links.choose(&mut world.rng).expect("four");
            world.link(missing.0, missing.1);
            world.tree(&[next]);
            pause(&mut world, 30);
            world.retire(next.0, next.1);
            missing = next;
            world.run(Duration::from_millis(2100));
            world.tree(&[]);
        }
        world.run(Duration::from_secs(150));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn r9_carriers_that_forgot_are_sent_it_again() {
    // 2 does not take what is for it; meanwhile the way moves from over 1 to over 3 and back, with so
    // much time between that each forgets.
    let mut world = world(9, 4, &[(0, 1), (1, 2), (0, 3)]);
    for _ in 0..20 {
        world.publish_to(0, Some(2), 1000);
    }
    world.node(2).pulls = false;
    world.run(Duration::from_millis(500));
    for _ in 0..2 {
        world.cut(1, 2);
        world.link(3, 2);
        world.tree(&[]);
        world.run(Duration::from_secs(130));
        let kept = |world: &World, node: u64| world.nodes[&node].relay.stats().store_bytes > 0;
        assert!(!kept(&world, 1) && kept(&world, 3));
        world.cut(3, 2);
        world.link(1, 2);
        world.tree(&[]);
        world.links.iter_mut().for_each(|link| link.repeats = true);
        world.run(Duration::from_secs(130));
        assert!(kept(&world, 1) && !kept(&world, 3));
    }
    world.node(2).pulls = true;
    world.run(Duration::from_secs(10));
    world.assert_complete(&[0, 1, 2, 3]);
}

#[test]
fn r9_a_new_carrier_that_had_no_room_yet_gets_it_later() {
    let mut dropped = 0;
    for seed in seeds(4) {
        let mut world = world(seed, 6, &[(0, 1), (1, 2), (1, 3), (3, 4), (3, 5)]);
        world.publish_to(0, Some(2), 100);
        world.run(Duration::from_secs(1));
        // The application of 4 takes nothing, so 3 has to keep what 5 sends, and has little room.
        world.node(3).relay.set_terms(STORE_MIN, 1 << 24);
        world.node(4).pulls = false;
        for _ in 0..40 {
            world.publish(5, 50_000);
        }
        world.run(Duration::from_secs(1));
        assert!(world.node(3).relay.stats().total.over_quota > 0, "3 has no room");
        for link in &mut world.links {
            link.repeats = true;
        }
        // The way from 0 to 2 leads over 3 now, which never heard of the flow.
        world.cut(1, 2);
        world.link(3, 2);
        world.tree(&[]);
        world.hear_news();
        let before = world.node(3).relay.stats().total.over_quota;
        world.publish_to(0, Some(2), 60_000);
        world.run(Duration::from_secs(1));
        // In some orders receipts come first and tell it where the flow begins.
        dropped += world.node(3).relay.stats().total.over_quota - before;
        world.node(4).pulls = true;
        world.run(Duration::from_secs(20));
        assert_eq!(world.node(2).got_alone[&testing::member(0)].len(), 2, "seed {seed}");
        world.assert_complete(&[0, 1, 2, 3, 4, 5]);
    }
    assert!(dropped > 0, "there was no room for it");
}

#[test]
fn r9_what_was_for_a_receiver_that_left_is_given_up_and_told() {
    for seed in seeds(20) {
        let mut world = world(9000 + seed, 4, &[(0, 1), (1, 2), (1, 3)]);
        world.node(2).pulls = false;
        for _ in 0..5 {
            world.publish_to(0, Some(2), 50_000);
            world.publish(0, 100);
            world.publish_to(0, Some(2), 100);
        }
        pause(&mut world, 20);
        world.kill(2);
        world.roster(&[0, 1, 3]);
        world.tree(&[]);
        for _ in 0..5 {
            world.publish(0, 100);
        }
        world.run(Duration::from_secs(10));
        let missed = world.node(0).missed_alone.clone();
        let alone = world.alone.keys().map(|(_, seq)| *seq);
        let (first, last) = (alone.clone().min(), alone.max());
        let [(to, from, to_seq)] = missed.as_slice() else { panic!("once: {missed:?}") };
        assert_eq!((*to, Some(*from), Some(*to_seq)), (testing::member(2), first, last));
        world.assert_complete(&[0, 1, 3]);
    }
}

#[test]
fn r9_who_starts_anew_gets_what_is_sent_from_then_on_alone() {
    let mut world = world(10, 3, &[(0, 1), (1, 2)]);
    world.publish_to(0, Some(2), 100);
    world.run(Duration::from_secs(1));
    world.node(2).pulls = false;
    world.publish_to(0, Some(2), 100);
    world.run(Duration::from_secs(1));
    world.kill(2);
    world.roster(&[0, 1]);
    world.tree(&[]);
    world.run(Duration::from_secs(1));
    assert_eq!(world.node(0).missed_alone, [(testing::member(2), SeqNo(2), SeqNo(2))]);
    // As with the same id again: another run of 2.
    world.add(2, super::super::Config::default());
    world.link(1, 2);
    world.roster(&[0, 1, 2]);
    world.tree(&[]);
    world.run(Duration::from_secs(1));
    world.publish_to(0, Some(2), 100);
    world.run(Duration::from_secs(10));
    assert_eq!(world.node(2).got_alone, BTreeMap::from([(testing::member(0), vec![SeqNo(3)])]));
    assert_eq!(world.node(2).lost, []);
    assert_eq!(world.node(0).receipts_alone[&testing::member(2)], SeqNo(3));
}

fn outcome(world: &mut World, node: u64, to: MemberId) -> Event {
    let now = world.now;
    let relay = &mut world.node(node).relay;
    let payload = Bytes::from_static(b"x");
    relay.publish(PublishId(1), ServiceId(0), Class::Reliable, Some(to), payload, now);
    match relay.poll_output() {
        Some(Output::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r9_data_for_somebody_unknown_or_oneself_is_rejected_at_once() {
    let mut world = world(11, 2, &[(0, 1)]);
    for to in [9, 0] {
        let event = outcome(&mut world, 0, testing::member(to));
        let Event::Rejected { why, .. } = event else { panic!("{event:?}") };
        assert!(why.is_unknown_peer() && why.to_string().contains("to all"), "{why}");
    }
    let event = outcome(&mut world, 0, testing::member(1));
    assert!(matches!(event, Event::Queued { seq: SeqNo(1), .. }), "{event:?}");
}

#[test]
fn without_a_tree_what_nobody_confirms_is_given_up_in_the_end() {
    let mut world = World::with(12, 2, &[(0, 1)]);
    world.publish_to(0, Some(9), 100);
    world.publish(0, 100);
    world.run(Duration::from_secs(300));
    assert_eq!(world.node(0).missed_alone, [(testing::member(9), SeqNo(1), SeqNo(1))]);
    world.assert_empty();
}

#[test]
fn r9_what_waits_for_one_that_never_comes_does_not_hold_up_the_rest_for_long() {
    let mut world = World::with(17, 3, &[(0, 1), (1, 2)]);
    for _ in 0..10 {
        world.publish_to(0, Some(9), 60_000);
    }
    for _ in 0..10 {
        world.publish(0, 60_000);
    }
    world.run(Duration::from_secs(1));
    world.tree(&[]);
    world.run(Duration::from_secs(29));
    assert_eq!(world.node(0).missed_alone, [], "it may be about to come");
    world.run(Duration::from_secs(5));
    assert_eq!(world.node(0).missed_alone, [(testing::member(9), SeqNo(1), SeqNo(10))]);
    world.assert_complete(&[0, 1, 2]);
}

#[test]
fn r9_a_source_sends_to_so_many_at_a_time_and_the_rest_wait() {
    let n = 40;
    let links: Vec<(u64, u64)> = (1..n).map(|leaf| (0, leaf)).collect();
    let mut world = world(13, n, &links);
    for _ in 0..3 {
        for to in 2..n {
            world.publish_to(1, Some(to), 10);
            world.publish_to(to, Some(1), 10);
        }
    }
    world.run(Duration::from_secs(5));
    world.assert_complete(&(0..n).collect::<Vec<_>>());
    let most = CARRIED.max(OPEN_RECEIVERS) as u64 * n;
    assert!(world.node(0).relay.stats().flows <= most);
    // What is over is forgotten where it was only carried.
    world.run(Duration::from_secs(130));
    let flows = &world.node(0).relay.flows;
    assert_eq!(flows.keys().filter(|flow| flow.to.is_some()).count(), 0);
}

#[test]
fn r9_more_receivers_than_can_be_open_all_get_theirs() {
    let n = OPEN_RECEIVERS as u64 + 10;
    let links: Vec<(u64, u64)> = (1..n).map(|leaf| (0, leaf)).collect();
    let mut world = world(14, n, &links);
    for to in 2..n {
        world.node(to).pulls = false;
        world.publish_to(1, Some(to), 10);
    }
    world.run(Duration::from_secs(2));
    let carried = world.node(0).relay.flows.keys().filter(|flow| flow.to.is_some()).count();
    assert_eq!(carried, OPEN_RECEIVERS);
    for to in 2..n {
        world.node(to).pulls = true;
    }
    world.run(Duration::from_secs(5));
    world.assert_complete(&(0..n).collect::<Vec<_>>());
}

#[test]
fn r9_data_for_one_and_for_all_each_keep_their_order() {
    let mut world = world(15, 4, &[(0, 1), (1, 2), (2, 3)]);
    talk(&mut world, 4, 30);
    whisper(&mut world, 60);
    world.run(Duration::from_secs(5));
    world.assert_complete(&[0, 1, 2, 3]);
}

/// Claim 7: whether data is distributed is said by the service id of the message, or of the channel
/// that it came on. Here the channel (`/arborcast/data/1`) says that it is, a receiver in the header
/// that it is not, and the service of a message reaches the application in both cases.
#[test]
fn r9_the_channel_says_distribute_a_receiver_says_not_and_services_come_through() {
    let mut world = world(16, 3, &[(0, 1), (1, 2)]);
    let now = world.now;
    let relay = &mut world.node(0).relay;
    let mut headers = Vec::new();
    for (service, to) in [(5, None), (6, Some(testing::member(1))), (6, None)] {
        let payload = Bytes::from_static(b"x");
        relay.publish(PublishId(0), ServiceId(service), Class::Reliable, to, payload, now);
        relay.poll_output();
        let draft = relay.poll_draft(now).expect("there is room");
        let frame = testing::frame(draft.header, &draft.payload);
        headers.push((frame.header().service.0, frame.header().to, frame.header().number.0));
        relay.on_made(frame, draft.payload, now);
    }
    let one = Some(testing::member(1));
    assert_eq!(headers, [(5, None, 1), (6, one, 1), (6, None, 2)], "each flow has its numbers");
    let mut got: BTreeMap<u64, Vec<(u32, u64)>> = BTreeMap::new();
    for _ in 0..50 {
        for (from, edge, to, back) in [(0, (0, 1), 1, (0, 1)), (1, (1, 2), 2, (1, 2))] {
            let (here, there) = (world.edge(from, edge), world.edge(to, back));
            let now = world.now;
            while let Some(message) = world.node(from).relay.poll_edge_message(here, now) {
                world.node(to).relay.on_message(there, message, now);
            }
            while let Some(message) = world.node(to).relay.poll_edge_message(there, now) {
                world.node(from).relay.on_message(here, message, now);
            }
            while let Some(frame) = world.node(from).relay.poll_frame(here, now) {
                let payload = frame.sealed();
                world.node(to).relay.on_frame(there, frame, payload, now);
            }
        }
        for node in [1, 2] {
            let now = world.now;
            while let Some(message) = world.node(node).relay.poll_delivery(now) {
                assert_eq!(message.to.is_some(), message.seq == SeqNo(2));
                got.entry(node).or_default().push((message.service.0, message.seq.0));
            }
        }
    }
    for messages in got.values_mut() {
        messages.sort_unstable();
    }
    let all = vec![(5, 1), (6, 3)];
    assert_eq!(got, BTreeMap::from([(1, vec![(5, 1), (6, 2), (6, 3)]), (2, all)]));
}
