//! Class live (R16): old frames give way to new ones, and nobody is held back.

use std::time::Duration;

use arborcast_protocol::{
    edge::{Message as EdgeMessage, Passed, Summary},
    frame::{Content, Frame},
    id::{Class, Flow, FrameNo, SeqNo, ServiceId},
    testing,
};
use bytes::Bytes;

use super::{
    super::{
        Buffering, Output,
        config::{LIVE_MESSAGE, LIVE_TOTAL},
    },
    edges::{A, B, Scene, heartbeat},
    in_band::Three,
    world::{World, random_tree, seeds},
};
use crate::engine::event::{EdgeId, Event, PublishId, Rejection};

const C: EdgeId = EdgeId(3);

/// The bound that nothing here changes.
const PLAYOUT: Duration = Duration::from_millis(500);

const STEP: Duration = Duration::from_millis(10);

fn flow(n: u64) -> Flow {
    Flow {
        source: testing::member(n),
        incarnation: testing::incarnation(n),
        class: Class::Live,
        to: None,
    }
}

/// Frame `number` of source `n`: one message with the same number, of `bytes` bytes.
fn frame(n: u64, number: u64, bytes: usize) -> (Frame, Bytes) {
    let (source, run) = (testing::member(n), testing::incarnation(n));
    let mut header = testing::header(testing::session(0), source, run, number);
    header.class = Class::Live;
    let mut payload = u32::try_from(bytes).expect("small").to_be_bytes().to_vec();
    payload.resize(4 + bytes, 0);
    let payload = Bytes::from(payload);
    (testing::frame(header, &payload), payload)
}

fn piece(number: u64, seq: u64, index: u32, of: u32, bytes: u64, payload: &[u8]) -> (Frame, Bytes) {
    let (source, run) = (testing::member(9), testing::incarnation(9));
    let mut header = testing::header(testing::session(0), source, run, number);
    header.class = Class::Live;
    header.first_seq = SeqNo(seq);
    header.content = Content::Piece { index, of, bytes };
    (testing::frame(header, payload), Bytes::copy_from_slice(payload))
}

impl Scene {
    fn comes(&mut self, edge: EdgeId, n: u64, number: u64) {
        let (frame, payload) = frame(n, number, 100);
        self.relay.on_frame(edge, frame, payload, self.now);
    }

    fn send_live(&mut self, bytes: usize) -> Option<Output> {
        let (id, payload) = (PublishId(1), Bytes::from(vec![0; bytes]));
        self.relay.publish(id, ServiceId(0), Class::Live, None, payload, self.now);
        self.relay.poll_output()
    }

    /// What this node published is made into frames.
    fn make(&mut self) -> usize {
        let mut made = 0;
        while let Some(draft) = self.relay.poll_draft(self.now) {
            let frame = testing::frame(draft.header, &draft.payload);
            self.relay.on_made(frame, draft.payload, self.now);
            made += 1;
        }
        made
    }
}

fn is_passed(messages: &[EdgeMessage], up_to: u64) -> bool {
    let last = Passed { flow: flow(9), up_to: FrameNo(up_to) };
    messages.contains(&EdgeMessage::Passed(vec![last]))
}

#[test]
fn r16_live_messages_go_through_the_tree_at_once_to_all_in_order() {
    for seed in seeds(10) {
        let mut world = World::new(seed);
        let links = random_tree(&mut world.rng, 7);
        let mut world = World::with(seed, 7, &links);
        world.run(Duration::from_secs(1));
        for round in 0..40 {
            for node in [0, 3, 5] {
                world.publish_live(node, 100 + round);
                world.publish(node, 50);
            }
            world.run(STEP);
        }
        world.run(Duration::from_secs(1));
        for id in 0..7 {
            for source in [0, 3, 5].into_iter().filter(|source| *source != id) {
                let source = testing::member(source);
                let sent = world.live.keys().filter(|(by, _)| *by == source);
                let sent: Vec<SeqNo> = sent.map(|(_, seq)| *seq).collect();
                assert_eq!(world.node(id).got_live.get(&source), Some(&sent), "{seed}: {id}");
            }
            let stats = world.node(id).relay.stats();
            assert_eq!((stats.live_dropped, stats.live_skipped), (0, 0));
            assert_eq!(stats.total.duplicates, 0);
        }
        world.assert_complete(&[0, 1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn r16_a_slow_edge_loses_old_frames_for_itself_alone() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.activate(C, 3, true);
    for number in 1..=200 {
        scene.wait(STEP);
        scene.comes(A, 9, number);
        assert_eq!(scene.frames(C), [number], "nobody else notices");
        assert_eq!(scene.delivered(), [number], "nor does the application here");
    }
    assert!(is_passed(&scene.hear(B), 150), "it need not wait for them");
    assert_eq!(scene.frames(B), (151..=200).collect::<Vec<_>>(), "what is not too old");
    assert_eq!(scene.relay.stats().live_dropped, 150);
    assert!(scene.hear(C).iter().all(|said| !matches!(said, EdgeMessage::Passed(_))));
}

#[test]
fn r16_what_waits_for_an_edge_is_bounded_in_bytes() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    for number in 1..=100 {
        let (frame, payload) = frame(9, number, 60_000);
        scene.relay.on_frame(A, frame, payload, scene.now);
        assert_eq!(scene.delivered(), [number]);
        assert!(scene.relay.stats().live_queue_bytes <= 2 * LIVE_MESSAGE);
    }
    let (sent, dropped) = (scene.frames(B), scene.relay.stats().live_dropped);
    assert_eq!(sent.len() as u64 + dropped, 100);
    assert!(sent.len() > 30, "{}", sent.len());
    assert_eq!(sent.last(), Some(&100));
}

#[test]
fn r16_a_hole_is_waited_for_one_playout_bound_and_what_comes_later_is_dropped() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    for number in [1, 2, 4] {
        scene.comes(A, 9, number);
    }
    assert_eq!(scene.delivered(), [1, 2]);
    assert_eq!(scene.frames(B), [1, 2, 4], "it is passed on all the same");
    scene.wait(STEP);
    scene.comes(A, 9, 6);
    scene.wait(Duration::from_millis(489));
    assert_eq!(scene.delivered(), [0; 0]);
    scene.wait(Duration::from_millis(1));
    assert_eq!(scene.delivered(), [4], "6 has a hole of its own");
    scene.comes(A, 9, 5);
    assert_eq!(scene.delivered(), [5, 6], "filled in time");
    scene.comes(A, 9, 3);
    assert_eq!(scene.delivered(), [0; 0]);
    assert_eq!(scene.frames(B), [6, 5], "nobody waits for 3 any more");
    let stats = scene.relay.stats();
    assert_eq!((stats.live_skipped, stats.total.duplicates), (1, 1));
    assert_eq!(scene.outputs(), [], "no loss is told");
}

#[test]
fn r16_what_a_neighbour_passed_over_is_not_waited_for() {
    let mut scene = Scene::active();
    for number in [1, 5] {
        scene.comes(A, 9, number);
    }
    assert_eq!(scene.delivered(), [1]);
    let told = |up_to| EdgeMessage::Passed(vec![Passed { flow: flow(9), up_to: FrameNo(up_to) }]);
    scene.say(A, told(3));
    assert_eq!(scene.delivered(), [0; 0], "4 may come");
    scene.say(A, told(4));
    assert_eq!(scene.delivered(), [5]);
    // While two trees overlap, frames come on two edges.
    scene.activate(B, 2, true);
    scene.comes(B, 9, 5);
    scene.comes(A, 9, 8);
    scene.say(A, told(7));
    assert_eq!(scene.delivered(), [0; 0], "they may come on the other edge");
    scene.say(B, told(7));
    assert_eq!(scene.delivered(), [8]);
    assert_eq!(scene.relay.stats().live_skipped, 5);
}

#[test]
fn r16_a_neighbour_that_comes_new_is_told_what_does_not_come_and_gets_what_comes_next() {
    let mut scene = Scene::active();
    for number in 1..=3 {
        scene.comes(A, 9, number);
    }
    scene.relay.edge_up(B, testing::member(2), scene.now);
    let summary = Summary { settled: true, flows: Vec::new(), live: true };
    scene.say(B, EdgeMessage::Summary(summary));
    assert!(is_passed(&scene.hear(B), 3));
    scene.comes(A, 9, 4);
    assert_eq!(scene.frames(B), [4]);
}

#[test]
fn r16_a_joiner_begins_with_what_comes_next() {
    let mut scene = Scene::active();
    scene.comes(A, 9, 50);
    assert_eq!(scene.delivered(), [50], "at once");
    scene.comes(A, 9, 49);
    assert_eq!(scene.delivered(), [0; 0]);
    assert_eq!(scene.relay.stats().live_skipped, 0, "what was before it came is none of its own");
    let mut world = World::with(1, 3, &[(0, 1), (1, 2)]);
    world.publish_live(0, 10);
    world.run(Duration::from_secs(1));
    world.add(3, super::super::Config::default());
    world.link(2, 3);
    world.roster(&[0, 1, 2, 3]);
    world.run(Duration::from_secs(1));
    world.publish_live(0, 10);
    world.run(Duration::from_secs(1));
    let source = testing::member(0);
    assert_eq!(world.node(3).got_live.get(&source), Some(&vec![SeqNo(2)]));
}

#[test]
fn r8_r16_what_comes_twice_is_dropped_once_and_goes_on_once() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.activate(C, 3, true);
    for (edge, number) in [(A, 1), (A, 1), (B, 1), (B, 2), (A, 2)] {
        scene.comes(edge, 9, number);
    }
    assert_eq!(scene.frames(C), [1, 2]);
    assert_eq!(scene.frames(A), [0; 0], "it sent 2 itself before that could go");
    assert_eq!(scene.relay.stats().total.duplicates, 3);
    scene.send_live(10);
    scene.make();
    assert_eq!(scene.frames(A), [1]);
    scene.comes(A, 0, 1);
    assert_eq!(scene.relay.stats().total.duplicates, 4, "its own, come back");
    scene.comes(A, 0, 2);
    assert_eq!(scene.relay.stats().total.forged, 1);
}

#[test]
fn r16_while_two_trees_overlap_a_loop_costs_dropped_copies_and_nothing_is_doubled() {
    for seed in seeds(10) {
        let mut world = World::with(seed, 4, &[(0, 1), (1, 2), (2, 3), (3, 0)]);
        world.run(Duration::from_secs(1));
        for _ in 0..50 {
            world.publish_live(0, 20);
            world.run(STEP);
        }
        world.retire(3, 0);
        for _ in 0..50 {
            world.publish_live(0, 20);
            world.run(STEP);
        }
        world.run(Duration::from_secs(1));
        for id in 1..4 {
            let got = world.node(id).got_live.get(&testing::member(0)).map_or(0, Vec::len);
            assert_eq!(got, 100, "{seed}: {id}");
        }
        let twice: u64 = (0..4).map(|id| world.node(id).relay.stats().total.duplicates).sum();
        assert!((50..=150).contains(&twice), "{twice}");
    }
}

#[test]
fn r16_reliable_messages_that_wait_hold_no_live_ones_back_and_take_no_room_from_each_other() {
    let mut scene = Scene::active();
    loop {
        while scene.relay.may_publish() {
            let (class, payload) = (Class::Reliable, Bytes::from(vec![0; 60_000]));
            scene.relay.publish(PublishId(0), ServiceId(0), class, None, payload, scene.now);
        }
        if scene.make() == 0 {
            break;
        }
    }
    let before = scene.relay.stats().clone();
    assert!(!scene.relay.may_publish(), "nobody confirms anything");
    scene.outputs();
    assert!(matches!(scene.send_live(1000), Some(Output::Event(Event::Queued { .. }))));
    assert_eq!(scene.make(), 1);
    let first = scene.relay.poll_frame(A, scene.now).expect("a frame");
    assert_eq!(first.header().class, Class::Live, "it goes before what has waited longer");
    let after = scene.relay.stats();
    assert_eq!((before.store_bytes, before.queue_bytes), (after.store_bytes, after.queue_bytes));
}

#[test]
fn r16_live_frames_leave_a_share_of_each_edge_to_reliable_ones() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    let large = |n, number, class| {
        let (frame, payload) = frame(n, number, 2_000);
        let header = arborcast_protocol::frame::Header { class, ..frame.header().clone() };
        (testing::frame(header, &payload), payload)
    };
    let mut bytes = [0, 0];
    for number in 1..=400 {
        for (n, class) in [(8, Class::Live), (9, Class::Reliable)] {
            for nth in 1..=3 {
                let (frame, payload) = large(n, number * 3 + nth, class);
                scene.relay.on_frame(A, frame, payload, scene.now);
            }
        }
        scene.delivered();
        // Less than comes.
        for _ in 0..3 {
            let frame = scene.relay.poll_frame(B, scene.now).expect("more than enough waits");
            bytes[usize::from(frame.header().class == Class::Live)] += frame.len();
        }
        scene.wait(STEP);
    }
    let [reliable, live] = bytes;
    assert!((29..31).contains(&(10 * live / reliable)), "{live} and {reliable}");
}

#[test]
fn r16_of_what_this_node_sends_too_fast_the_oldest_gives_way_and_no_call_waits() {
    let mut scene = Scene::active();
    for _ in 0..40 {
        assert!(matches!(scene.send_live(100_000), Some(Output::Event(Event::Queued { .. }))));
        assert!(scene.relay.stats().live_queue_bytes <= 2 * LIVE_MESSAGE);
    }
    let dropped = scene.relay.stats().live_dropped;
    assert!((15..30).contains(&dropped), "{dropped}");
    let draft = scene.relay.poll_draft(scene.now).expect("a draft");
    assert_eq!(draft.header.number, FrameNo(1), "what never became a frame is no hole");
    assert_eq!(draft.header.first_seq, SeqNo(dropped + 1));
    scene.wait(PLAYOUT);
    scene.send_live(7);
    let drafts: Vec<_> = std::iter::from_fn(|| scene.relay.poll_draft(scene.now))
        .map(|draft| draft.header)
        .collect();
    assert_eq!(drafts.len(), 2, "the end of what was begun, and what is not too old");
    assert_eq!(drafts.last().map(|header| header.first_seq), Some(SeqNo(41)));
}

#[test]
fn r16_what_is_sent_just_before_an_edge_is_up_waits_for_it_one_playout_bound() {
    let mut scene = Scene::new();
    scene.send_live(7);
    assert_eq!(scene.make(), 0);
    assert!(!scene.relay.live_has_gone(scene.now));
    scene.wait(PLAYOUT);
    assert!(scene.relay.live_has_gone(scene.now), "nobody is there");
    scene.send_live(7);
    scene.activate(A, 1, true);
    assert_eq!((scene.make(), scene.frames(A)), (1, vec![1]));
    assert_eq!(scene.relay.stats().live_dropped, 1);
}

#[test]
fn r16_what_the_application_does_not_take_in_time_gives_way() {
    let mut scene = Scene::active();
    for number in 1..=200 {
        scene.comes(A, 9, number);
        scene.wait(STEP);
    }
    let taken = scene.delivered();
    assert_eq!(taken.last(), Some(&200));
    assert!(taken.len() <= 100, "{}", taken.len());
    assert_eq!(scene.relay.stats().live_skipped, 200 - taken.len() as u64);
    for n in 10..30 {
        for number in 1..=100 {
            let (frame, payload) = frame(n, number, 60_000);
            scene.relay.on_frame(A, frame, payload, scene.now);
            let held = scene.relay.stats().live_undelivered_bytes;
            assert!(held <= LIVE_TOTAL * 2 * LIVE_MESSAGE, "{held}");
        }
    }
    assert!(!scene.delivered().is_empty());
    assert_eq!(scene.relay.stats().live_undelivered_bytes, 0);
}

#[test]
fn r7_r16_a_large_message_is_whole_or_is_skipped() {
    let mut scene = Scene::active();
    let comes = |scene: &mut Scene, number, seq, index| {
        let (frame, payload) = piece(number, seq, index, 3, 9, b"abc");
        scene.relay.on_frame(A, frame, payload, scene.now);
    };
    for index in 0..3 {
        comes(&mut scene, 1 + u64::from(index), 1, index);
    }
    assert_eq!(scene.delivered(), [1]);
    comes(&mut scene, 4, 2, 0);
    comes(&mut scene, 6, 2, 2);
    comes(&mut scene, 7, 3, 0);
    scene.wait(PLAYOUT);
    assert_eq!(scene.delivered(), [0; 0], "the middle of 2 is missing");
    comes(&mut scene, 8, 3, 1);
    comes(&mut scene, 9, 3, 2);
    assert_eq!(scene.delivered(), [3]);
    assert_eq!(scene.relay.stats().live_undelivered_bytes, 0);
    let (frame, payload) = piece(10, 4, 0, 20, LIVE_MESSAGE + 1, b"abc");
    scene.relay.on_frame(A, frame, payload, scene.now);
    assert_eq!((scene.delivered(), scene.relay.stats().live_undelivered_bytes), (vec![], 0));
}

#[test]
fn r16_large_messages_arrive_whole_through_a_tree() {
    let mut world = World::with(3, 3, &[(0, 1), (1, 2)]);
    world.run(Duration::from_secs(1));
    for len in [65_533, 200_000, 1024 * 1024, 1] {
        world.publish_live(0, len);
        world.run(Duration::from_millis(300));
    }
    let got = world.node(2).got_live.get(&testing::member(0)).cloned();
    assert_eq!(got, Some((1..=4).map(SeqNo).collect()));
}

#[test]
fn r16_what_cannot_be_sent_live_is_refused_with_the_reason() {
    let mut scene = Scene::active();
    let Some(Output::Event(Event::Rejected { why, .. })) = scene.send_live((1 << 20) + 1) else {
        panic!("too large")
    };
    assert_eq!(why, Rejection::LiveTooLarge { bytes: 1_048_577, limit: 1_048_576 });
    let (to, payload) = (Some(testing::member(1)), Bytes::from_static(b"x"));
    scene.relay.publish(PublishId(1), ServiceId(0), Class::Live, to, payload, scene.now);
    let Some(Output::Event(Event::Rejected { why, .. })) = scene.relay.poll_output() else {
        panic!("not for one alone")
    };
    assert_eq!(why, Rejection::LiveForOne);
}

#[test]
fn r16_frames_that_do_not_arrive_wait_where_they_can_give_way() {
    let mut scene = Scene::active();
    let received = |received| {
        let EdgeMessage::Heartbeat(beat) = heartbeat(0) else { panic!("it is one") };
        EdgeMessage::Heartbeat(arborcast_protocol::edge::Heartbeat {
            received: Some(received),
            ..beat
        })
    };
    scene.activate(B, 2, true);
    scene.say(B, received(0));
    let mut sent = Vec::new();
    for number in 1..=300 {
        scene.wait(STEP);
        scene.comes(A, 9, number);
        sent.extend(scene.frames(B));
        scene.delivered();
    }
    // One bound, and the time in which a heartbeat must come.
    assert!((50..=70).contains(&sent.len()), "{}", sent.len());
    scene.say(B, received(sent.len() as u64));
    let rest = scene.frames(B);
    assert_eq!((rest.first(), rest.last()), (Some(&251), Some(&300)));
    assert!(!scene.relay.live_has_gone(scene.now), "they may be under way");
    scene.say(B, received(sent.len() as u64 + 50));
    assert!(scene.relay.live_has_gone(scene.now));
    // One that is never said to have come does not stop all others for ever.
    let mut after = 0;
    for number in 301..=700 {
        scene.wait(STEP);
        scene.comes(A, 9, number);
        let went = scene.frames(B).len();
        after += if number > 400 { went } else { 0 };
        scene.delivered();
    }
    assert!(after > 50, "{after}");
}

#[test]
fn r16_nodes_that_do_not_know_live_frames_are_sent_none() {
    let mut scene = Scene::active();
    scene.relay.edge_up(B, testing::member(2), scene.now);
    scene.say(B, EdgeMessage::Summary(Summary { settled: true, ..Summary::default() }));
    scene.hear(B);
    scene.comes(A, 9, 1);
    assert_eq!(scene.frames(B), [0; 0]);
}

#[test]
fn r11_r16_live_frames_are_not_held_and_next_hops_are_asked_for_all_the_same() {
    let mut scene = Scene::new();
    scene.relay.start_holding(Buffering::default());
    scene.activate(A, 1, true);
    scene.activate(B, 2, true);
    scene.comes(A, 9, 1);
    assert_eq!(scene.frames(B), [1]);
    scene.wait(Duration::from_millis(200));
    assert!(scene.outputs().contains(&Output::Overflow));
    scene.comes(A, 9, 2);
    assert_eq!(scene.frames(B), [2], "nor does it wait for the answer");
    scene.relay.pass_on_held();
    assert_eq!(scene.frames(B), [0; 0]);
}

#[test]
fn r13_r16_live_frames_carry_no_tree() {
    let mut three = Three::new();
    three.scene.relay.carry_trees();
    let whole = std::sync::Arc::clone(&three.whole);
    three.take_up(2, &whole);
    let (now, payload) = (three.scene.now, Bytes::from_static(b"x"));
    for (class, carries) in [(Class::Reliable, true), (Class::Live, false)] {
        let relay = &mut three.scene.relay;
        relay.publish(PublishId(1), ServiceId(0), class, None, payload.clone(), now);
        let draft = relay.poll_draft(now).expect("a draft");
        assert_eq!(draft.header.in_band.is_some(), carries, "{class:?}");
    }
}

#[test]
fn r16_flows_of_sources_that_left_are_forgotten_and_come_again_as_no_news() {
    let mut scene = Scene::active();
    scene.comes(A, 9, 7);
    assert_eq!(scene.delivered(), [7]);
    scene.relay.set_members(&std::collections::BTreeMap::new(), scene.now);
    scene.wait(Duration::from_secs(130));
    scene.comes(A, 9, 7);
    assert_eq!(scene.delivered(), [0; 0]);
    assert_eq!(scene.relay.stats().total.duplicates, 1);
    scene.comes(A, 9, 8);
    assert_eq!(scene.delivered(), [8]);
    assert_eq!(scene.relay.stats().live_skipped, 0);
}

#[test]
fn r16_an_edge_that_the_tree_dropped_still_carries_what_waited() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.comes(A, 9, 1);
    scene.relay.retire(B, scene.now);
    scene.comes(A, 9, 2);
    assert_eq!(scene.frames(B), [1], "and nothing new");
    let said = scene.hear(B);
    assert!(matches!(said.last(), Some(EdgeMessage::Fin)), "{said:?}");
}
