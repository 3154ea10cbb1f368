//! The way of data through the whole engine; what the relay does with it is tested beside it.

use arborcast_protocol::id::{Class, SeqNo, ServiceId};
use bytes::Bytes;

use super::*;
use crate::engine::event::{Message, PublishId};

/// A member with one neighbour, on an edge that carries.
pub(super) fn carrying() -> (Bench, EdgeId) {
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
        class: Class::Reliable,
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

fn publish(bench: &mut Bench, id: u64) -> arborcast_protocol::frame::Header {
    let (service, class, payload) = (ServiceId(0), Class::Reliable, Bytes::from_static(b"hi"));
    bench.give(Input::Publish { id: PublishId(id), service, class, to: None, payload });
    bench.engine.poll_draft(bench.now).expect("a draft").header
}

#[test]
fn r13_frames_carry_the_newest_tree_in_manner_four_alone() {
    for next_hops in NextHops::ALL {
        // The carried tree is the whole one, so that is what such a member follows.
        let config = Config { next_hops, scope: Scope::Tree, ..Config::default() };
        let mut bench = Bench::member_with(config);
        let (first, second) = (star(&[high(0)]), star(&[high(0), low(0)]));
        bench.push(full(1, &first));
        let before = publish(&mut bench, 1);
        bench.push(full(2, &second));
        let after = publish(&mut bench, 2);
        let carried = |header: &arborcast_protocol::frame::Header| {
            header.in_band.as_ref().map(|tree| tree.header(session()))
        };
        let expected = match next_hops {
            NextHops::InBand => (Some(signed(1, &first)), Some(signed(2, &second))),
            NextHops::Poll | NextHops::Overflow | NextHops::Subscribe => (None, None),
        };
        assert_eq!((carried(&before), carried(&after)), expected, "{next_hops:?}");
    }
    let config = Config { next_hops: NextHops::InBand, ..Config::default() };
    let config = Config { scope: Scope::Neighbours, ..config }.clamped();
    assert_eq!(config.scope, Scope::Tree);
}

#[test]
fn r13_a_tree_in_a_frame_that_is_newer_than_the_own_one_is_asked_for() {
    let mut bench = trees::subscribed(&star(&[high(0)]));
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.summary(edge);
    let next = star(&[high(0), high(1)]);
    let tree = arborcast_protocol::frame::InBand::new(&signed(5, &next), &next).expect("small");
    let mut header = testing::header(session(), high(0), testing::incarnation(1), 1);
    (header.key, header.in_band) = (None, Some(tree));
    let payload = payload("hello");
    let frame = testing::frame(header, &payload);
    let mut outputs = bench.give(Input::Frame { edge, frame, payload });
    outputs.extend(bench.wait(ms(200)));
    assert!(
        path_requests(&outputs).iter().any(|(_, body)| matches!(body, PathRequest::Query { .. })),
        "{outputs:?}"
    );
}

#[test]
fn nothing_is_published_before_the_node_is_let_in() {
    let bench = Bench::new();
    assert!(!bench.engine.may_publish());
}
