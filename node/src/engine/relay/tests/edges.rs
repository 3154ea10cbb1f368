//! The life of one edge, played by hand against a single relay.

use std::time::{Duration, Instant};

use arborcast_protocol::{
    edge::{FlowSummary, Heartbeat, Message, Missing, Receipts, Summary},
    frame::{Content, Frame},
    id::{Class, Digest, Epoch, Flow, FrameNo, SeqNo, Term},
    numbers::NumberSet,
    testing,
};
use bytes::Bytes;

use super::super::{Config, Output, Relay, RoundTrip};
use crate::engine::event::EdgeId;

pub(super) const A: EdgeId = EdgeId(1);
pub(super) const B: EdgeId = EdgeId(2);

/// A settled relay, its neighbours 1 on edge A and 2 on edge B.
pub(super) struct Scene {
    pub(super) relay: Relay,
    pub(super) now: Instant,
}

impl Scene {
    pub(super) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let (me, incarnation) = (testing::member(0), testing::incarnation(0));
        let session = testing::session(0);
        let mut relay = Relay::new(Config::default(), me, incarnation, session, true, now);
        relay.set_settled(now);
        Self { relay, now }
    }

    /// With edge A active, what the relay says at first read away.
    pub(super) fn active() -> Self {
        let mut scene = Self::new();
        scene.activate(A, 1, true);
        scene
    }

    pub(super) fn activate(&mut self, edge: EdgeId, peer: u64, settled: bool) {
        self.relay.edge_up(edge, testing::member(peer), self.now);
        self.say(edge, Message::Summary(Summary { settled, flows: Vec::new(), live: true }));
        self.hear(edge);
    }

    pub(super) fn say(&mut self, edge: EdgeId, message: Message) {
        self.relay.on_message(edge, message, self.now);
    }

    /// All that the relay says now.
    pub(super) fn hear(&mut self, edge: EdgeId) -> Vec<Message> {
        std::iter::from_fn(|| self.relay.poll_edge_message(edge, self.now)).collect()
    }

    pub(super) fn frame(&mut self, edge: EdgeId, number: u64) {
        let (frame, payload) = frame_of(9, number);
        self.relay.on_frame(edge, frame, payload, self.now);
    }

    /// Numbers of the frames that the relay sends now.
    pub(super) fn frames(&mut self, edge: EdgeId) -> Vec<u64> {
        std::iter::from_fn(|| self.relay.poll_frame(edge, self.now))
            .map(|frame| frame.header().number.0)
            .collect()
    }

    pub(super) fn delivered(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.relay.poll_delivery(self.now))
            .map(|message| message.seq.0)
            .collect()
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.relay.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.relay.tick(self.now);
            assert!(self.relay.poll_timeout().is_none_or(|at| at > self.now), "no spinning");
        }
        self.now = end;
        self.relay.tick(end);
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.relay.poll_output()).collect()
    }
}

/// Frame `number` of source `n`: one message with its number.
pub(super) fn frame_of(n: u64, number: u64) -> (Frame, Bytes) {
    let header =
        testing::header(testing::session(0), testing::member(n), testing::incarnation(n), number);
    let payload = Bytes::from_static(&[0, 0, 0, 1, 42]);
    (testing::frame(header, &payload), payload)
}

pub(super) fn flow(n: u64) -> Flow {
    Flow {
        source: testing::member(n),
        incarnation: testing::incarnation(n),
        class: Class::Reliable,
        to: None,
    }
}

pub(super) fn entry(n: u64, has: NumberSet, released: u64) -> FlowSummary {
    FlowSummary { flow: flow(n), has, released: FrameNo(released), begin: None, start: None }
}

pub(super) fn summary(settled: bool, flows: Vec<FlowSummary>) -> Message {
    Message::Summary(Summary { settled, flows, live: true })
}

pub(super) fn heartbeat(sent: u64) -> Message {
    Message::Heartbeat(Heartbeat { epoch: Epoch::default(), sent, ..Heartbeat::default() })
}

#[test]
fn r8_a_repeated_number_is_dropped_and_not_forwarded() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(A, 1);
    scene.frame(A, 1);
    assert_eq!(scene.frames(B), [1]);
    scene.frame(B, 1);
    assert_eq!((scene.frames(A), scene.frames(B)), (vec![], vec![]));
    assert_eq!(scene.delivered(), [1]);
    assert_eq!(scene.relay.stats().total.duplicates, 2);
}

#[test]
fn r8_a_late_frame_with_a_lower_number_is_no_repetition() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(A, 2);
    scene.frame(A, 3);
    assert_eq!(scene.delivered(), [0; 0], "order waits for 1");
    assert_eq!(scene.frames(B), [2, 3], "forwarding does not");
    scene.frame(A, 1);
    assert_eq!(scene.delivered(), [1, 2, 3]);
    assert_eq!(scene.frames(B), [1]);
    assert_eq!(scene.relay.stats().total.repaired, 1);
    assert_eq!(scene.relay.stats().total.duplicates, 0);
}

#[test]
fn r17_a_frame_never_goes_back_where_it_came_from() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(A, 1);
    scene.frame(B, 2);
    scene.frame(A, 3);
    assert_eq!(scene.frames(A), [2]);
    assert_eq!(scene.frames(B), [1, 3]);
}

#[test]
fn nothing_is_sent_or_read_before_both_settled_summaries() {
    let mut scene = Scene::new();
    scene.activate(B, 2, true);
    scene.frame(B, 1);
    scene.relay.edge_up(A, testing::member(1), scene.now);
    assert!(!scene.relay.may_read(A));
    let said = scene.hear(A);
    assert_eq!(said, [summary(true, vec![entry(9, NumberSet::up_to(FrameNo(1)), 0)])]);
    assert!(!scene.relay.may_read(A));
    scene.say(A, summary(false, vec![]));
    assert_eq!((scene.relay.may_read(A), scene.frames(A)), (false, vec![]));
    scene.say(A, summary(true, vec![]));
    assert_eq!((scene.relay.may_read(A), scene.frames(A)), (true, vec![1]));
}

#[test]
fn what_a_summary_shows_as_missing_is_sent_and_nothing_else() {
    let mut scene = Scene::active();
    for number in 1..=6 {
        scene.frame(A, number);
    }
    let mut has = NumberSet::up_to(FrameNo(2));
    has.insert(FrameNo(4));
    scene.relay.edge_up(B, testing::member(2), scene.now);
    scene.say(B, summary(true, vec![entry(9, has, 2)]));
    scene.hear(B);
    assert_eq!(scene.frames(B), [3, 5, 6]);
}

#[test]
fn sources_take_turns_on_an_edge() {
    let mut scene = Scene::active();
    for n in 7..=9 {
        for number in 1..=3 {
            let (frame, payload) = frame_of(n, number);
            scene.relay.on_frame(A, frame, payload, scene.now);
        }
    }
    scene.activate(B, 2, true);
    assert_eq!(scene.frames(B), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
}

#[test]
fn a_joiner_adopts_floors_keeps_what_is_unreleased_and_skips_a_cut_message() {
    let mut scene = Scene::new();
    scene.relay.settled = false;
    scene.relay.edge_up(A, testing::member(1), scene.now);
    assert_eq!(scene.hear(A), [summary(false, vec![])]);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(5)), 3)]));
    assert!(scene.relay.is_settled());
    assert_eq!(scene.outputs(), [Output::Settled]);
    let said = scene.hear(A);
    let has = NumberSet::up_to(FrameNo(3));
    assert_eq!(said.first(), Some(&summary(true, vec![entry(9, has, 3)])));
    scene.activate(B, 2, true);
    // 4 and 5 are still kept, so they may be owed; 4 is the end of a large message.
    let header = frame_of(9, 4).0.header().to_owned();
    let content = Content::Piece { index: 1, of: 2, bytes: 100 };
    let tail = testing::frame(frame_header(header, content, 4), b"tail");
    scene.relay.on_frame(A, tail, Bytes::from_static(b"tail"), scene.now);
    scene.frame(A, 5);
    scene.frame(A, 6);
    scene.frame(A, 7);
    assert_eq!(scene.delivered(), [5, 6, 7]);
    assert_eq!(scene.frames(B), [4, 5, 6, 7]);
    assert_eq!(scene.outputs(), []);
}

fn frame_header(
    header: arborcast_protocol::frame::Header,
    content: Content,
    seq: u64,
) -> arborcast_protocol::frame::Header {
    arborcast_protocol::frame::Header { content, first_seq: SeqNo(seq), ..header }
}

#[test]
fn a_frame_in_my_own_name_from_outside_is_dropped() {
    let mut scene = Scene::active();
    let (frame, payload) = frame_of(0, 1);
    scene.relay.on_frame(A, frame, payload, scene.now);
    assert_eq!(scene.relay.stats().total.forged, 1);
    assert_eq!(scene.delivered(), [0; 0]);
    assert_eq!(scene.relay.stats().store_bytes, 0);
}

#[test]
fn a_frame_of_another_session_is_dropped() {
    let mut scene = Scene::active();
    let (session, me) = (testing::session(1), testing::member(9));
    let header = testing::header(session, me, testing::incarnation(9), 1);
    let payload = Bytes::from_static(&[0, 0, 0, 0]);
    scene.relay.on_frame(A, testing::frame(header, &payload), payload, scene.now);
    assert_eq!(scene.relay.stats().total.forged, 1);
    assert_eq!(scene.relay.stats().flows, 1);
}

#[test]
fn a_retired_edge_sends_what_was_due_then_a_heartbeat_and_fin() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(A, 1);
    scene.frame(A, 2);
    scene.relay.retire(B, scene.now);
    scene.frame(A, 3);
    assert_eq!(scene.hear(B), [], "two frames are due");
    assert_eq!(scene.frames(B), [1, 2], "nothing new");
    let last =
        Heartbeat { epoch: Epoch::default(), sent: 2, next_ms: Some(100), ..Heartbeat::default() };
    assert_eq!(scene.hear(B), [Message::Heartbeat(last), Message::Fin]);
    assert_eq!(scene.hear(B), []);
    scene.outputs();
    // The peer had sent one more frame.
    scene.say(B, heartbeat(1));
    scene.say(B, Message::Fin);
    assert!(!scene.outputs().contains(&Output::Finished(B)));
    let (frame, payload) = frame_of(8, 1);
    scene.relay.on_frame(B, frame, payload, scene.now);
    assert_eq!(scene.outputs(), [Output::Finished(B)]);
    assert_eq!(scene.frames(A), [1], "what comes last is forwarded too");
}

#[test]
fn a_retired_edge_is_finished_after_two_seconds_whatever_the_peer_does() {
    let mut scene = Scene::active();
    scene.relay.retire(A, scene.now);
    scene.wait(Duration::from_millis(1990));
    assert_eq!(scene.outputs(), []);
    scene.wait(Duration::from_millis(20));
    assert_eq!(scene.outputs(), [Output::Finished(A)]);
    assert_eq!(scene.relay.poll_timeout(), None);
}

#[test]
fn fin_is_answered_with_fin_also_on_an_edge_that_was_wanted() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.frame(B, 1);
    scene.say(A, heartbeat(0));
    scene.say(A, Message::Fin);
    assert_eq!(scene.frames(A), [0; 0]);
    scene.outputs();
    assert_eq!(scene.hear(A), [heartbeat(0), Message::Fin]);
    assert_eq!(scene.outputs(), [Output::Finished(A)]);
}

#[test]
fn a_silent_edge_is_dead_once() {
    let mut scene = Scene::active();
    scene.wait(Duration::from_secs(7));
    assert_eq!(scene.outputs(), []);
    scene.say(A, heartbeat(0));
    scene.outputs();
    scene.wait(Duration::from_millis(7900));
    assert_eq!(scene.outputs(), []);
    scene.wait(Duration::from_secs(20));
    assert_eq!(scene.outputs(), [Output::Dead(A)]);
}

#[test]
fn a_neighbour_that_does_not_settle_is_dead() {
    let mut scene = Scene::new();
    scene.activate(A, 1, false);
    for _ in 0..11 {
        scene.wait(Duration::from_secs(1));
        scene.say(A, heartbeat(0));
    }
    assert!(scene.outputs().contains(&Output::Dead(A)));
}

/// The heartbeats among what is said, as (their stamp in milliseconds, the echo in them).
fn stamps(said: &[Message]) -> Vec<(Option<u64>, Option<u64>)> {
    let heartbeat = |message: &Message| match message {
        Message::Heartbeat(Heartbeat { stamp_us, echo_us, .. }) => {
            Some((stamp_us.map(|stamp| stamp / 1000), *echo_us))
        }
        Message::Summary(_)
        | Message::Receipts(_)
        | Message::Ask(_)
        | Message::Inquire(_)
        | Message::Have(_)
        | Message::Passed(_)
        | Message::Fin => None,
    };
    said.iter().filter_map(heartbeat).collect()
}

#[test]
fn r3_an_idle_edge_is_measured_both_ways_by_three_heartbeats_in_a_period() {
    let mut scene = Scene::active();
    // The first one sooner, on each edge at another moment.
    scene.wait(Duration::from_millis(1250));
    assert_eq!(stamps(&scene.hear(A)), [(Some(1250), None)]);
    let sent = scene.now;
    scene.wait(Duration::from_millis(30));
    let answer = Heartbeat { stamp_us: Some(77), echo_us: Some(1_250_000), ..Heartbeat::default() };
    scene.say(A, Message::Heartbeat(answer));
    let round_trips: Vec<Output> = scene
        .outputs()
        .into_iter()
        .filter(|out| !matches!(out, Output::PeerEpoch { .. }))
        .collect();
    let round_trip = RoundTrip { sent, lag: Duration::ZERO, is_full: false, crossed: 5 };
    assert_eq!(round_trips, [Output::RoundTrip { edge: A, round_trip }]);
    assert_eq!(stamps(&scene.hear(A)), [(None, Some(77))]);
    // The next one is due a period after the first.
    scene.wait(Duration::from_millis(4_969));
    assert_eq!(scene.hear(A), []);
    scene.wait(Duration::from_millis(1));
    assert_eq!(stamps(&scene.hear(A)), [(Some(6250), None)]);
    // Whoever is asked first asks in turn, and then waits.
    let ask = Heartbeat { stamp_us: Some(78), ..Heartbeat::default() };
    scene.say(A, Message::Heartbeat(ask));
    assert_eq!(stamps(&scene.hear(A)), [(None, Some(78))], "it has asked itself");
    let answer = Heartbeat { echo_us: Some(6_250_000), ..Heartbeat::default() };
    scene.say(A, Message::Heartbeat(answer));
    scene.say(A, Message::Heartbeat(ask));
    assert_eq!(stamps(&scene.hear(A)), [(Some(6250), Some(78))]);
    scene.wait(Duration::from_millis(6_249));
    assert_eq!(scene.hear(A), []);
}

#[test]
fn each_epoch_is_told_with_a_heartbeat() {
    let mut scene = Scene::active();
    let epoch = Epoch { term: Term(1), counter: 2 };
    scene.relay.set_epoch(epoch, scene.now);
    assert_eq!(scene.hear(A), [Message::Heartbeat(Heartbeat { epoch, ..Heartbeat::default() })]);
    scene.say(A, Message::Heartbeat(Heartbeat { epoch: epoch.next(), ..Heartbeat::default() }));
    assert_eq!(scene.outputs(), [Output::PeerEpoch { edge: A, epoch: epoch.next() }]);
}

#[test]
fn receipts_wait_a_moment_and_tell_many_frames_at_once() {
    let mut scene = Scene::active();
    for number in 1..=10 {
        scene.frame(A, number);
    }
    assert_eq!(scene.delivered().len(), 10);
    assert!(matches!(scene.hear(A).as_slice(), [Message::Heartbeat(_)]), "data moves now");
    scene.wait(Duration::from_millis(20));
    let said = scene.hear(A);
    let [Message::Receipts(Receipts { flows, .. })] = said.as_slice() else {
        panic!("receipts: {said:?}")
    };
    let [receipt] = flows.as_slice() else { panic!("one flow: {flows:?}") };
    assert_eq!((receipt.flow, receipt.delivered.0, receipt.floor.0), (flow(9), 10, 10));
    scene.wait(Duration::from_millis(500));
    let said = scene.hear(A);
    assert!(said.iter().all(|said| matches!(said, Message::Heartbeat(_))), "{said:?}");
}

#[test]
fn hostile_figures_do_no_harm() {
    let mut scene = Scene::active();
    let max = FrameNo(u64::MAX);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(max), u64::MAX)]));
    scene.frame(A, 1);
    let receipt = arborcast_protocol::edge::FlowReceipt {
        flow: flow(9),
        floor: max,
        top: max,
        delivered: max,
        released: max,
        begin: None,
    };
    let roster = Digest::from_bytes([0xff; 32]);
    scene.say(
        A,
        Message::Receipts(Receipts { roster, covered: vec![0xff; 5000], flows: vec![receipt] }),
    );
    let all = Missing { flow: flow(9), ranges: vec![(FrameNo(0), max), (max, FrameNo(0))] };
    scene.say(A, Message::Ask(vec![all]));
    scene.say(A, heartbeat(u64::MAX));
    let mut scene = {
        for _ in 0..20 {
            scene.wait(Duration::from_secs(3));
            scene.hear(A);
            scene.frames(A);
            scene.delivered();
            scene.outputs();
        }
        scene
    };
    // The source that was lied about is heard none the less.
    assert_eq!(scene.relay.stats().given_up, 0);
    scene.frame(A, 2);
    assert_eq!(scene.delivered(), [2]);
    // A joiner cannot be harmed for more than the flow in question.
    scene.relay.settled = false;
    scene.say(A, summary(true, vec![entry(8, NumberSet::up_to(max), u64::MAX)]));
    scene.wait(Duration::from_secs(30));
    scene.delivered();
    let (frame, payload) = frame_of(7, 1);
    scene.relay.on_frame(A, frame, payload, scene.now);
    assert_eq!(scene.delivered(), [1]);
}

/// A newcomer that began where a neighbour still kept what others had let go of would keep it until all were heard.
#[test]
fn what_a_neighbour_has_let_go_and_none_lacks_is_let_go_although_somebody_is_not_heard() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.say(A, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(0)), 0)]));
    for number in 1..=4 {
        scene.frame(A, number);
    }
    scene.delivered();
    let held = scene.relay.stats().store_bytes;
    let receipts = |floor, released| {
        let receipt = arborcast_protocol::edge::FlowReceipt {
            flow: flow(9),
            floor: FrameNo(floor),
            top: FrameNo(4),
            delivered: FrameNo(0),
            released: FrameNo(released),
            begin: None,
        };
        let roster = Digest::from_bytes([7; 32]);
        Message::Receipts(Receipts { roster, covered: vec![], flows: vec![receipt] })
    };
    scene.say(A, receipts(4, 3));
    assert_eq!(scene.relay.stats().store_bytes, held, "the other neighbour may lack them");
    scene.say(B, receipts(2, 0));
    assert_eq!(scene.relay.stats().store_bytes, held / 2);
    scene.say(B, receipts(4, 0));
    assert_eq!(scene.relay.stats().store_bytes, held / 4);
}
