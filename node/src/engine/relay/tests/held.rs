//! Data that is held until the next hops were asked for (manner 2).

use std::time::{Duration, Instant};

use arborcast_protocol::{
    edge::{Message as EdgeMessage, Summary},
    frame::{Frame, Header},
    id::{Class, Flow, FrameNo, MemberId, ServiceId},
    testing,
};
use bytes::Bytes;

use super::{
    super::{Buffering, Config, Output, Relay},
    trees::talk,
    world::{World, random_tree, seeds},
};
use crate::engine::event::{EdgeId, PublishId};

const KIB: usize = 1024;

/// A relay that holds, between a source and a receiver.
struct Bench {
    relay: Relay,
    now: Instant,
}

const FROM: EdgeId = EdgeId(1);
const TO: EdgeId = EdgeId(2);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Bench {
    fn new(buffering: Buffering) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        let (me, run) = (testing::member(0), testing::incarnation(0));
        let mut relay = Relay::new(Config::default(), me, run, testing::session(0), false, now);
        relay.start_holding(buffering);
        relay.set_settled(now);
        let mut bench = Self { relay, now };
        bench.edge_up(FROM, testing::member(1));
        bench.edge_up(TO, testing::member(2));
        bench
    }

    fn edge_up(&mut self, edge: EdgeId, peer: MemberId) {
        self.relay.edge_up(edge, peer, self.now);
        while self.relay.poll_edge_message(edge, self.now).is_some() {}
        let summary = Summary { settled: true, flows: Vec::new(), live: false };
        self.relay.on_message(edge, EdgeMessage::Summary(summary), self.now);
    }

    /// A frame of exactly so many bytes comes from the source. Gives what the relay says.
    fn comes(&mut self, number: u64, service: u32, bytes: usize) -> Vec<Output> {
        let frame = frame(number, service, bytes);
        self.relay.on_frame(FROM, frame.clone(), frame.sealed(), self.now);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.relay.poll_output()).collect()
    }

    fn wait(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while let Some(at) = self.relay.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.relay.tick(at);
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    /// The numbers that go to the receiver now.
    fn goes(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.relay.poll_frame(TO, self.now))
            .map(|frame| frame.header().number.0)
            .collect()
    }
}

fn frame(number: u64, service: u32, bytes: usize) -> Frame {
    let (source, run) = (testing::member(1), testing::incarnation(1));
    let mut header = testing::header(testing::session(0), source, run, number);
    header.service = ServiceId(service);
    header.key = None;
    let run = |len: usize| {
        let length = u32::try_from(len).expect("short").to_be_bytes();
        Bytes::from([&length[..], &vec![0; len]].concat())
    };
    let overhead = testing::frame(header.clone(), &run(0)).len();
    let frame = testing::frame(header, &run(bytes - overhead));
    assert_eq!(frame.len(), bytes);
    frame
}

#[test]
fn r11_the_buffer_overflows_at_exactly_its_size() {
    let mut bench = Bench::new(Buffering::default());
    for number in 1..=7 {
        assert_eq!(bench.comes(number, 0, 32 * KIB), []);
    }
    assert_eq!(bench.comes(8, 0, 32 * KIB - 1), []);
    assert_eq!(bench.relay.stats().held_bytes, 256 * 1024 - 1);
    assert_eq!(bench.goes(), [0; 0], "it is held");

    let mut bench = Bench::new(Buffering::default());
    for number in 1..=7 {
        assert_eq!(bench.comes(number, 0, 32 * KIB), []);
    }
    assert_eq!(bench.comes(8, 0, 32 * KIB), [Output::Overflow]);
    assert_eq!(bench.relay.stats().overflows, 1);
    let until = bench.now + ms(1000);
    bench.relay.await_answer(until);
    // What comes meanwhile waits for the same answer.
    assert_eq!(bench.comes(9, 0, 32 * KIB), []);
    assert_eq!(bench.goes(), [0; 0]);
    bench.relay.pass_on_held();
    assert_eq!(bench.goes(), (1..=9).collect::<Vec<_>>());
    assert_eq!(bench.relay.stats().held_bytes, 0);
}

#[test]
fn r11_the_oldest_frame_waits_no_longer_than_its_service_can() {
    let mut bench = Bench::new(Buffering::default());
    bench.comes(1, 0, 1000);
    assert_eq!(bench.wait(ms(150)), []);
    bench.comes(2, 0, 1000);
    assert_eq!(bench.wait(ms(49)), []);
    assert_eq!(bench.wait(ms(1)), [Output::Overflow]);
    // Nobody answers: what is known has to do.
    let until = bench.now + ms(1000);
    bench.relay.await_answer(until);
    assert_eq!(bench.wait(ms(999)), []);
    assert_eq!(bench.goes(), [0; 0]);
    assert_eq!(bench.wait(ms(1)), []);
    assert_eq!(bench.goes(), [1, 2]);
}

#[test]
fn r11_the_buffer_follows_the_service_that_can_wait_least() {
    let buffering = Buffering {
        services: [(ServiceId(1), ms(20)), (ServiceId(2), ms(2000))].into(),
        ..Buffering::default()
    };
    // A tenth of the time: a tenth of the size.
    let mut bench = Bench::new(buffering.clone());
    assert_eq!(bench.comes(1, 1, 26 * KIB - 512), []);
    assert_eq!(bench.comes(2, 1, 512), [Output::Overflow]);
    let mut bench = Bench::new(buffering.clone());
    bench.comes(1, 1, 1000);
    assert_eq!(bench.wait(ms(20)), [Output::Overflow]);

    // Ten times: ten times as much.
    let mut bench = Bench::new(buffering.clone());
    for number in 1..=79 {
        assert_eq!(bench.comes(number, 2, 32 * KIB), []);
    }
    assert_eq!(bench.comes(80, 2, 32 * KIB), [Output::Overflow]);
    let mut bench = Bench::new(buffering.clone());
    bench.comes(1, 2, 1000);
    assert_eq!(bench.wait(ms(1999)), []);
    assert_eq!(bench.wait(ms(1)), [Output::Overflow]);

    // Together: the one that can wait least.
    let mut bench = Bench::new(buffering);
    for number in 1..=20 {
        assert_eq!(bench.comes(number, 2, 32 * KIB), []);
    }
    assert_eq!(bench.comes(21, 1, 1000), [Output::Overflow]);
}

#[test]
fn r11_limits_hold_whatever_is_set() {
    let mut bench = Bench::new(Buffering { bytes: 0, delay: ms(0), ..Buffering::default() });
    assert_eq!(bench.comes(1, 0, 16 * KIB - 1), []);
    assert_eq!(bench.wait(ms(0)), [Output::Overflow]);
    let most = Buffering { bytes: u64::MAX, delay: Duration::MAX, ..Buffering::default() };
    let mut bench = Bench::new(most);
    for number in 1..=127 {
        assert_eq!(bench.comes(number, 0, 32 * KIB), []);
    }
    assert_eq!(bench.comes(128, 0, 32 * KIB), [Output::Overflow]);
}

#[test]
fn r11_what_fills_a_gap_passes_at_once_and_the_application_waits_for_nothing() {
    let mut bench = Bench::new(Buffering::default());
    bench.comes(1, 0, 1000);
    bench.comes(3, 0, 1000);
    bench.relay.pass_on_held();
    assert_eq!(bench.goes(), [1, 3]);
    bench.comes(4, 0, 1000);
    bench.comes(2, 0, 1000);
    assert_eq!(bench.goes(), [2]);
    let delivered: Vec<u64> = std::iter::from_fn(|| bench.relay.poll_delivery(bench.now))
        .map(|message| message.seq.0)
        .collect();
    assert_eq!(delivered, [1, 2, 3, 4]);
}

#[test]
fn r11_an_edge_that_the_tree_drops_gets_nothing_that_is_held() {
    let mut bench = Bench::new(Buffering::default());
    bench.comes(1, 0, 1000);
    bench.relay.pass_on_held();
    bench.comes(2, 0, 1000);
    bench.relay.retire(TO, bench.now);
    let new = EdgeId(3);
    bench.edge_up(new, testing::member(3));
    bench.relay.pass_on_held();
    assert_eq!(bench.goes(), [1]);
    let next = std::iter::from_fn(|| bench.relay.poll_frame(new, bench.now));
    assert_eq!(next.map(|frame| frame.header().number.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn r11_whoever_stops_holding_holds_nothing() {
    let mut bench = Bench::new(Buffering::default());
    bench.comes(1, 0, 1000);
    bench.relay.stop_holding();
    assert_eq!(bench.goes(), [1]);
    bench.comes(2, 0, 1000);
    assert_eq!(bench.goes(), [2]);
    assert_eq!(bench.wait(ms(500)), []);
}

/// Makes the next frame of what was published.
fn make(bench: &mut Bench) -> Option<Header> {
    let draft = bench.relay.poll_draft(bench.now)?;
    let frame = testing::frame(draft.header.clone(), &draft.payload);
    bench.relay.on_made(frame, draft.payload, bench.now);
    Some(draft.header)
}

fn publish(bench: &mut Bench, payload: Bytes) {
    let (id, class) = (PublishId(1), Class::Reliable);
    bench.relay.publish(id, ServiceId(0), class, None, payload, bench.now);
    bench.outputs();
}

#[test]
fn r11_own_frames_are_held_too() {
    let mut bench = Bench::new(Buffering::default());
    publish(&mut bench, Bytes::from_static(b"hello"));
    let header = make(&mut bench).expect("a frame");
    let (source, incarnation) = (testing::member(0), testing::incarnation(0));
    let flow = Flow { source, incarnation, ..header.flow() };
    assert!(bench.relay.hold.has(&flow, FrameNo(1)));
    assert_eq!(bench.goes(), [0; 0]);
    assert_eq!(bench.wait(ms(200)), [Output::Overflow]);
    bench.relay.pass_on_held();
    assert_eq!(bench.goes(), [1]);
}

#[test]
fn r11_a_message_larger_than_the_buffer_asks_anew_for_each_part_of_it() {
    let mut bench = Bench::new(Buffering::default());
    publish(&mut bench, vec![0; 96 * 64 * KIB].into());
    let mut parts = Vec::new();
    loop {
        // However long the answer takes: not the whole message waits for one.
        let made = std::iter::from_fn(|| make(&mut bench)).count();
        if made == 0 {
            break;
        }
        assert_eq!(bench.goes(), [0; 0]);
        assert_eq!(bench.outputs(), [Output::Overflow]);
        bench.relay.pass_on_held();
        assert_eq!(bench.goes().len(), made);
        parts.push(made);
    }
    assert_eq!(parts, [32, 32, 32]);
    assert_eq!(bench.relay.stats().overflows, 3);
}

#[test]
fn r11_all_comes_once_and_in_order_where_some_hold_or_all() {
    for seed in seeds(8) {
        let mut world = World::new(seed);
        let n = 6;
        let everybody = seed % 2 == 0;
        for node in 0..n {
            world.add(node, Config::default());
            world.settle(node);
            if everybody || node % 2 == 0 {
                world.node(node).relay.start_holding(Buffering::default());
            }
        }
        for (a, b) in random_tree(&mut world.rng, n) {
            world.link(a, b);
        }
        world.roster(&(0..n).collect::<Vec<_>>());
        world.hear_news();
        for _ in 0..5 {
            talk(&mut world, n, 20);
            world.run(ms(300));
        }
        world.run(Duration::from_secs(20));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}
