//! The way of data through the whole engine; what the relay does with it is tested beside it.

use arborcast_protocol::id::{Class, SeqNo, ServiceId};
use bytes::Bytes;

use super::*;
use crate::engine::event::{Message, PublishId};

/// A member with one neighbour, on an edge that carries.
fn carrying() -> (Bench, EdgeId) {
    let mut bench = Bench::in_tree(&star(&[high(0)]));
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.summary(edge);
    (bench, edge)
}

/// One message as the payload of a frame.
pub(super) fn payload(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("short").to_be_bytes();
    [&length, text.as_bytes()].concat().into()
}

pub(super) fn frame(source: MemberId, number: u64, text: &str) -> (Frame, Bytes) {
    let mut header = testing::header(session(), source, testing::incarnation(1), number);
    header.key = None;
    let payload = payload(text);
    (testing::frame(header, &payload), payload)
}

#[test]
fn r7_what_is_published_becomes_a_draft_and_its_frame_goes_to_the_neighbour() {
    let (mut bench, edge) = carrying();
    assert!(bench.engine.may_publish());
    let id = PublishId(1);
    let outputs = bench.give(Input::Publish {
        id,
        service: ServiceId(0),
        class: Class::Reliable,
        to: None,
        payload: Bytes::from_static(b"hello"),
    });
    assert_eq!(outputs, [Output::Event(Event::Queued { id, seq: SeqNo(1) })]);
    let draft = bench.engine.poll_draft(bench.now).expect("a draft");
    assert_eq!(draft.payload, payload("hello"));
    assert_eq!(bench.engine.poll_draft(bench.now), None);
    let frame = testing::frame(draft.header, &draft.payload);
    assert_eq!(bench.engine.poll_frame(edge, bench.now), None);
    bench.give(Input::Made { frame: frame.clone(), payload: draft.payload });
    assert_eq!(bench.engine.poll_frame(edge, bench.now), Some(frame));
    assert_eq!(bench.engine.poll_frame(edge, bench.now), None);
    assert_eq!(bench.engine.stats().relay.total.frames_out, 1);
}

#[test]
fn r8_what_comes_on_an_edge_is_delivered_once() {
    let (mut bench, edge) = carrying();
    let (frame, payload) = frame(high(0), 1, "hello");
    for _ in 0..2 {
        let (frame, payload) = (frame.clone(), payload.clone());
        bench.give(Input::Frame { edge, frame, payload });
    }
    let message = Message {
        source: high(0),
        incarnation: testing::incarnation(1),
        seq: SeqNo(1),
        service: ServiceId(0),
        to: None,
        payload: Bytes::from_static(b"hello"),
    };
    assert_eq!(bench.engine.poll_delivery(bench.now), Some(message));
    assert_eq!(bench.engine.poll_delivery(bench.now), None);
    assert_eq!(bench.engine.stats().relay.total.duplicates, 1);
}

#[test]
fn a_frame_on_a_parked_edge_closes_it() {
    let (mut bench, _) = carrying();
    let (edge, _) = bench.edge(low(0), epoch(9));
    let (frame, payload) = frame(low(0), 1, "too early");
    let outputs = bench.give(Input::Frame { edge, frame, payload });
    assert_eq!(outputs, [Output::CloseEdge { edge }]);
    assert_eq!(bench.engine.poll_delivery(bench.now), None);
}

#[test]
fn nothing_is_published_before_the_node_is_let_in() {
    let bench = Bench::new();
    assert!(!bench.engine.may_publish());
}
