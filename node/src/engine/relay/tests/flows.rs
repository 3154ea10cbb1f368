//! Flows that come and go: their number is bounded, and what is forgotten does not come back as new.

use std::time::Duration;

use arborcast_protocol::{
    codec,
    edge::{FlowReceipt, FlowSummary, Message, Receipts, Summary},
    frame::Frame,
    id::{Class, Digest, Flow, FrameNo, MemberId, SeqNo},
    limits,
    numbers::NumberSet,
    testing,
};
use bytes::Bytes;

use super::{
    super::{
        Roster,
        config::{EDGE_RANGES, PAST_FLOWS, RECEIPT_FLOWS, RUNS},
    },
    edges::{A, B, Scene},
};
use crate::engine::{event::Event, relay::Output};

fn frame(run: u64, number: u64) -> (Frame, Bytes) {
    let (session, source) = (testing::session(0), testing::member(9));
    let header = testing::header(session, source, testing::incarnation(run), number);
    let payload = Bytes::from_static(&[0, 0, 0, 1, 42]);
    (testing::frame(header, &payload), payload)
}

impl Scene {
    fn run(&mut self, run: u64, number: u64) {
        let (frame, payload) = frame(run, number);
        self.relay.on_frame(A, frame, payload, self.now);
    }

    /// The neighbour and this relay are the whole roster, and the neighbour has everything.
    fn all_is_stable(&mut self, number: u64) {
        let hash = Digest::from_bytes([1; 32]);
        self.relay.set_roster(Some(Roster { hash, len: 2, index: 0 }), self.now);
        let flow = Flow {
            source: testing::member(9),
            incarnation: testing::incarnation(1),
            class: Class::Reliable,
            to: None,
        };
        let receipt = FlowReceipt {
            flow,
            floor: FrameNo(number),
            top: FrameNo(number),
            delivered: FrameNo(number),
            released: FrameNo(0),
            begin: None,
        };
        let receipts = Receipts { roster: hash, covered: vec![2], flows: vec![receipt] };
        self.say(A, Message::Receipts(receipts));
    }
}

#[test]
fn a_flow_whose_source_left_is_forgotten_when_it_is_over_but_its_floor_is_not() {
    let mut scene = Scene::active();
    let present = [(testing::member(9), testing::incarnation(1))].into();
    scene.relay.set_members(&present, scene.now);
    scene.run(1, 1);
    scene.run(1, 2);
    assert_eq!(scene.delivered(), [1, 2]);
    scene.relay.set_members(&[].into(), scene.now);
    for _ in 0..100 {
        scene.wait(Duration::from_secs(1));
    }
    assert_eq!(scene.relay.stats().flows, 2, "somebody may still need the frames");
    scene.all_is_stable(2);
    assert_eq!(scene.relay.stats().store_bytes, 0);
    for _ in 0..61 {
        scene.wait(Duration::from_secs(1));
    }
    assert_eq!(scene.relay.stats().flows, 1);
    scene.outputs();
    // A replay of it is not new.
    scene.run(1, 1);
    assert_eq!((scene.delivered(), scene.relay.stats().flows), (vec![], 1));
    assert_eq!(scene.relay.stats().total.duplicates, 1);
    // What goes on after it is.
    scene.run(1, 3);
    assert_eq!((scene.delivered(), scene.relay.stats().flows), (vec![3], 2));
}

#[test]
fn what_nobody_confirms_is_not_kept_for_ever_for_a_source_that_left() {
    let mut scene = Scene::active();
    let present = [(testing::member(9), testing::incarnation(1))].into();
    scene.relay.set_members(&present, scene.now);
    scene.run(1, 1);
    assert_eq!(scene.delivered(), [1]);
    scene.relay.set_members(&[].into(), scene.now);
    for _ in 0..181 {
        scene.wait(Duration::from_secs(1));
    }
    assert_eq!((scene.relay.stats().flows, scene.relay.stats().store_bytes), (1, 0));
}

#[test]
fn a_flow_of_a_present_source_is_kept_however_idle_it_is() {
    let mut scene = Scene::active();
    let present = [(testing::member(9), testing::incarnation(1))].into();
    scene.relay.set_members(&present, scene.now);
    scene.run(1, 1);
    scene.delivered();
    scene.all_is_stable(1);
    for _ in 0..300 {
        scene.wait(Duration::from_secs(1));
    }
    assert_eq!(scene.relay.stats().flows, 2);
}

#[test]
fn the_newest_two_runs_of_a_source_are_kept() {
    let mut scene = Scene::active();
    for run in 1..=3 {
        scene.run(run, 1);
        scene.wait(Duration::from_millis(1));
    }
    assert_eq!(scene.relay.stats().flows, 1 + RUNS as u64);
    let lost = scene.outputs();
    let [Output::Event(Event::Lost { flow, from, to, .. })] = lost.as_slice() else {
        panic!("the first was not delivered yet: {lost:?}")
    };
    assert_eq!((flow.incarnation, *from, *to), (testing::incarnation(1), SeqNo(1), SeqNo(1)));
    scene.run(1, 1);
    assert_eq!(scene.relay.stats().total.duplicates, 1, "its time is over");
    assert_eq!(scene.delivered().len(), 2);
}

#[test]
fn summaries_and_receipts_alone_make_no_flows() {
    let mut scene = Scene::active();
    let flows = (0..50)
        .map(|n| FlowSummary {
            flow: Flow {
                source: testing::member(100 + n),
                incarnation: testing::incarnation(n),
                class: Class::Reliable,
                to: None,
            },
            has: NumberSet::up_to(FrameNo(5)),
            released: FrameNo(0),
            begin: None,
            start: None,
        })
        .collect();
    scene.say(A, Message::Summary(Summary { settled: true, flows, live: false }));
    scene.all_is_stable(7);
    assert_eq!(scene.relay.stats().flows, 1);
}

#[test]
fn receipts_that_need_several_messages_cover_nobody_before_the_last() {
    let mut scene = Scene::new();
    scene.relay.settled = false;
    let hash = Digest::from_bytes([1; 32]);
    scene.relay.set_roster(Some(Roster { hash, len: 2, index: 0 }), scene.now);
    let source = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        MemberId::from_bytes(bytes)
    };
    let flows = (0..RECEIPT_FLOWS + 10).map(|n| FlowSummary {
        flow: Flow {
            source: source(n),
            incarnation: testing::incarnation(0),
            class: Class::Reliable,
            to: None,
        },
        has: NumberSet::up_to(FrameNo(u64::MAX - 9)),
        released: FrameNo(u64::MAX - 9),
        begin: None,
        start: None,
    });
    let members = (0..RECEIPT_FLOWS + 10).map(|n| (source(n), testing::incarnation(0))).collect();
    scene.relay.set_members(&members, scene.now);
    scene.relay.edge_up(A, testing::member(1), scene.now);
    scene.say(A, Message::Summary(Summary { settled: true, flows: flows.collect(), live: false }));
    let mut told = Vec::new();
    for message in scene.hear(A) {
        assert!(codec::encode(&message).len() <= limits::EDGE_MESSAGE);
        if let Message::Receipts(receipts) = message {
            told.push((receipts.flows.len(), receipts.covered));
        }
    }
    // The rest and this node's own.
    assert_eq!(told, [(RECEIPT_FLOWS, vec![]), (11, vec![1])]);
}

/// T15: at most 8 MiB for each neighbour, whatever it says.
#[test]
fn t15_a_neighbour_that_names_sources_without_end_makes_little_state() {
    let mut scene = Scene::active();
    let present = [(testing::member(1), testing::incarnation(1))].into();
    scene.relay.set_members(&present, scene.now);
    let flow = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let source = MemberId::from_bytes(bytes);
        let incarnation = testing::incarnation(u64::from(n));
        Flow { source, incarnation, class: Class::Reliable, to: None }
    };
    // As many ranges as an entry may have, in all flows that a summary can name.
    let mut scattered = NumberSet::default();
    for n in 0..limits::RANGES as u64 {
        scattered.insert(FrameNo(2 * n + 2));
    }
    let mut next = 0;
    for _ in 0..200 {
        let flows = (0..1_000).map(|_| {
            next += 1;
            FlowSummary {
                flow: flow(next),
                has: scattered.clone(),
                released: FrameNo(0),
                begin: None,
                start: None,
            }
        });
        let flows = flows.collect();
        scene.say(A, Message::Summary(Summary { settled: true, flows, live: false }));
        let flows = (0..1_000).map(|_| {
            next += 1;
            FlowReceipt {
                flow: flow(next),
                floor: FrameNo(1),
                top: FrameNo(1),
                delivered: FrameNo(1),
                released: FrameNo(0),
                begin: None,
            }
        });
        let receipts = Receipts {
            roster: Digest::from_bytes([1; 32]),
            covered: vec![],
            flows: flows.collect(),
        };
        scene.say(A, Message::Receipts(receipts));
        scene.wait(Duration::from_millis(100));
    }
    let edge = &scene.relay.edges[&A];
    assert!(edge.flow_count() <= PAST_FLOWS + 1, "{} flows", edge.flow_count());
    assert!(edge.ranges() <= EDGE_RANGES, "{} ranges", edge.ranges());
    assert!(scene.relay.stats().total.over_rate > 100);
    assert!(scene.relay.stats().flows <= PAST_FLOWS as u64 + 1);
    // Members are still taken up.
    let known = Flow { source: testing::member(1), ..flow(1) };
    let known = Flow { incarnation: testing::incarnation(1), ..known };
    let receipt = FlowReceipt {
        flow: known,
        floor: FrameNo(3),
        top: FrameNo(3),
        delivered: FrameNo(3),
        released: FrameNo(0),
        begin: None,
    };
    let roster = Digest::from_bytes([1; 32]);
    scene.say(A, Message::Receipts(Receipts { roster, covered: vec![], flows: vec![receipt] }));
    assert_eq!(scene.relay.edges[&A].delivered(&known), FrameNo(3));
}

#[test]
fn a_neighbour_that_still_keeps_a_forgotten_flow_is_told_to_let_go() {
    let mut scene = Scene::active();
    scene.relay.set_members(&[].into(), scene.now);
    scene.run(1, 1);
    scene.delivered();
    scene.all_is_stable(1);
    for _ in 0..70 {
        scene.wait(Duration::from_secs(1));
    }
    assert_eq!(scene.relay.stats().flows, 1);
    scene.activate(B, 2, true);
    scene.wait(Duration::from_millis(50));
    scene.hear(B);
    let flow = frame(1, 1).0.header().flow();
    let (has, released) = (NumberSet::up_to(FrameNo(1)), FrameNo(0));
    let entry = FlowSummary { flow, has, released, begin: None, start: None };
    scene.say(B, Message::Summary(Summary { settled: true, flows: vec![entry], live: false }));
    scene.wait(Duration::from_millis(20));
    let told: Vec<u64> = scene
        .hear(B)
        .iter()
        .filter_map(|message| match message {
            Message::Receipts(receipts) => Some(receipts.flows.iter().map(|r| r.delivered.0)),
            Message::Summary(_)
            | Message::Heartbeat(_)
            | Message::Passed(_)
            | Message::Ask(_)
            | Message::Fin
            | Message::Inquire(_)
            | Message::Have(_) => None,
        })
        .flatten()
        .collect();
    assert_eq!(told, [1]);
}
