//! Holes: who is asked, how often, and what is given up when.

use std::time::Duration;

use arborcast_protocol::{
    edge::{Message, Missing},
    id::{FrameNo, SeqNo},
    numbers::NumberSet,
    testing,
};

use super::{
    super::Output,
    edges::{A, B, Scene, entry, flow, heartbeat, summary},
};
use crate::engine::event::{Event, LossReason};

fn asks(messages: &[Message]) -> Vec<&[Missing]> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::Ask(missing) => Some(missing.as_slice()),
            Message::Summary(_)
            | Message::Heartbeat(_)
            | Message::Passed(_)
            | Message::Receipts(_)
            | Message::Fin
            | Message::Inquire(_)
            | Message::Have(_) => None,
        })
        .collect()
}

#[test]
fn a_gap_that_no_neighbour_keeps_is_given_up_and_reported() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.frame(A, 2);
    assert_eq!(scene.delivered(), [1, 2]);
    scene.relay.edge_down(A, scene.now);
    scene.relay.edge_up(B, testing::member(2), scene.now);
    scene.say(B, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(8)), 6)]));
    scene.hear(B);
    scene.frame(B, 7);
    scene.frame(B, 8);
    scene.wait(Duration::from_millis(4900));
    scene.say(B, heartbeat(2));
    assert_eq!(scene.delivered(), [0; 0]);
    scene.wait(Duration::from_secs(2));
    scene.outputs();
    assert_eq!(scene.delivered(), [7, 8]);
    let outputs = scene.outputs();
    let [Output::Event(Event::Lost { flow: lost, from, to, reason })] = outputs.as_slice() else {
        panic!("one loss: {outputs:?}")
    };
    assert_eq!((*lost, *from, *to), (flow(9), SeqNo(3), SeqNo(6)));
    assert_eq!(*reason, LossReason::NotKept);
    assert_eq!(scene.relay.stats().given_up, 4);
}

#[test]
fn only_what_is_known_to_be_released_is_given_up() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.frame(A, 2);
    let mut has = NumberSet::up_to(FrameNo(5));
    has.insert(FrameNo(9));
    scene.say(A, summary(true, vec![entry(9, has, 5)]));
    scene.frame(A, 9);
    for _ in 0..9 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(3));
    }
    assert_eq!(scene.relay.stats().given_up, 3);
    for number in 6..=8 {
        scene.frame(A, number);
    }
    assert_eq!(scene.delivered(), [1, 2, 6, 7, 8, 9]);
}

#[test]
fn what_a_source_that_left_kept_to_itself_is_given_up_at_last() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.frame(A, 3);
    scene.relay.set_members(&[].into(), scene.now);
    for _ in 0..14 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(2));
    }
    assert_eq!(scene.delivered(), [1]);
    for _ in 0..6 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(2));
    }
    assert_eq!(scene.delivered(), [3]);
    let lost = scene.outputs();
    assert!(lost.iter().any(|lost| matches!(lost, Output::Event(Event::Lost { .. }))));
}

#[test]
fn the_last_frames_of_a_source_that_left_are_given_up_though_none_of_them_ever_came() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(3)), 3)]));
    scene.relay.set_members(&[].into(), scene.now);
    for _ in 0..14 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(1));
    }
    assert_eq!(scene.relay.stats().given_up, 0);
    for _ in 0..6 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(1));
    }
    assert_eq!(scene.relay.stats().given_up, 2);
}

#[test]
fn a_neighbour_that_claims_to_have_a_frame_and_never_sends_it_is_not_waited_for_for_ever() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(3)), 0)]));
    scene.frame(A, 3);
    let mut asked = 0;
    for _ in 0..60 {
        scene.wait(Duration::from_secs(1));
        scene.say(A, heartbeat(2));
        asked += asks(&scene.hear(A)).len();
    }
    assert_eq!(asked, 5);
    assert_eq!(scene.delivered(), [1, 3]);
}

#[test]
fn a_gap_that_another_neighbour_can_fill_is_not_given_up() {
    let mut scene = Scene::new();
    scene.relay.edge_up(A, testing::member(1), scene.now);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(3)), 0)]));
    scene.hear(A);
    scene.relay.edge_up(B, testing::member(2), scene.now);
    scene.say(B, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(3)), 2)]));
    scene.hear(B);
    scene.frame(B, 3);
    for _ in 0..5 {
        scene.wait(Duration::from_secs(2));
        scene.say(A, heartbeat(0));
    }
    assert_eq!(scene.relay.stats().given_up, 0);
    scene.frame(A, 1);
    scene.frame(A, 2);
    assert_eq!(scene.delivered(), [1, 2, 3]);
}

#[test]
fn a_hole_is_asked_for_once_nothing_is_under_way_and_less_and_less_often() {
    let mut scene = Scene::active();
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(5)), 0)]));
    scene.frame(A, 1);
    scene.frame(A, 4);
    scene.wait(Duration::from_millis(600));
    assert!(asks(&scene.hear(A)).is_empty(), "no heartbeat has come yet");
    // Five were sent, two came.
    scene.say(A, heartbeat(5));
    scene.wait(Duration::from_secs(1));
    assert!(asks(&scene.hear(A)).is_empty(), "some are under way");
    scene.relay.on_bad_frame(A, scene.now);
    scene.relay.on_bad_frame(A, scene.now);
    scene.relay.on_bad_frame(A, scene.now);
    let mut times = Vec::new();
    for tenth in 0..140 {
        scene.wait(Duration::from_millis(100));
        if tenth % 10 == 0 {
            scene.say(A, heartbeat(5));
        }
        let said = scene.hear(A);
        if let [missing] = asks(&said).as_slice() {
            let ranges = vec![(FrameNo(2), FrameNo(3)), (FrameNo(5), FrameNo(5))];
            assert_eq!(**missing, [Missing { flow: flow(9), ranges }]);
            times.push(tenth);
        }
    }
    let gaps: Vec<i32> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [10, 20, 40], "tenths of a second");
}

#[test]
fn what_is_asked_for_is_sent_again_unless_it_may_still_be_under_way() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(A, 1);
    scene.frame(A, 2);
    assert_eq!(scene.frames(B), [1, 2]);
    let missing =
        || Message::Ask(vec![Missing { flow: flow(9), ranges: vec![(FrameNo(2), FrameNo(9))] }]);
    scene.say(B, missing());
    assert_eq!(scene.frames(B), [0; 0]);
    for _ in 0..3 {
        scene.wait(Duration::from_secs(1));
        scene.hear(B);
    }
    scene.say(B, missing());
    assert_eq!(scene.frames(B), [2]);
}

#[test]
fn a_joiner_does_not_wait_for_what_came_before_it_and_is_released() {
    let mut scene = Scene::new();
    scene.relay.settled = false;
    scene.relay.edge_up(A, testing::member(1), scene.now);
    // 4 and 5 are still kept for others when it comes in, and then no more.
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(5)), 3)]));
    scene.hear(A);
    scene.frame(A, 6);
    assert_eq!(scene.delivered(), [0; 0], "4 and 5 may be owed as long as they are kept");
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(6)), 5)]));
    assert_eq!(scene.delivered(), [6]);
    assert_eq!(scene.relay.flows[&flow(9)].has, NumberSet::up_to(FrameNo(6)));
    assert_eq!(scene.relay.stats().given_up, 0);
}

#[test]
fn a_request_of_overlapping_ranges_is_answered_once_and_in_bounded_time() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    for number in 1..=3 {
        scene.frame(A, number);
    }
    assert_eq!(scene.frames(B), [1, 2, 3]);
    for _ in 0..3 {
        scene.wait(Duration::from_secs(1));
        scene.hear(B);
    }
    let ranges = [(3, 2), (2, 2), (1, u64::MAX), (3, 3), (3, u64::MAX)]
        .map(|(first, last)| (FrameNo(first), FrameNo(last)));
    let again = Missing { flow: flow(9), ranges: ranges.to_vec() };
    let many = Missing { flow: flow(9), ranges: vec![(FrameNo(1), FrameNo(u64::MAX)); 700_000] };
    scene.say(B, Message::Ask(vec![again, many]));
    assert_eq!(scene.frames(B), [2, 3]);
}
