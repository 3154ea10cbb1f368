//! Manner 2: asking when what waits to be passed on overflows its buffer. The buffer itself is tested
//! with the relay.

use arborcast_protocol::id::{Class, ServiceId};
use bytes::Bytes;

use super::{data, *};
use crate::engine::event::PublishId;

const QUERY: fn() -> PathRequest = || PathRequest::Query { session: session(), scope: Scope::Tree };

/// Between two neighbours, of which the first is a source. Nothing was asked lately.
fn between() -> (Bench, EdgeId, EdgeId) {
    between_with(Config::default())
}

fn between_with(config: Config) -> (Bench, EdgeId, EdgeId) {
    let config = Config { next_hops: NextHops::Overflow, ..config };
    let (mut bench, request, body) = Bench::asking(config);
    assert_eq!(body, QUERY(), "who knows nothing asks at once");
    let star = star(&[high(0), high(1)]);
    bench.path(request, State::Tree(Box::new(full(1, &star))));
    let mut edges = Vec::new();
    for peer in [high(0), high(1)] {
        bench.channel(peer);
        let (edge, _) = bench.edge(peer, epoch(1));
        bench.summary(edge);
        edges.push(edge);
    }
    bench.asked_in(ms(2_500), 1, &star);
    (bench, edges[0], edges[1])
}

fn comes(bench: &mut Bench, edge: EdgeId, number: u64, bytes: usize) -> Vec<Output> {
    let (frame, payload) = data::frame(high(0), number, &"x".repeat(bytes));
    bench.give(Input::Frame { edge, frame, payload })
}

/// How many frames go on an edge now.
fn goes(bench: &mut Bench, edge: EdgeId) -> usize {
    std::iter::from_fn(|| bench.engine.poll_frame(edge, bench.now)).count()
}

fn request(outputs: &[Output]) -> RequestId {
    let requests = path_requests(outputs);
    let [(request, body)] = requests.as_slice() else { panic!("no query: {outputs:?}") };
    assert_eq!(*body, QUERY());
    *request
}

fn answered(bench: &mut Bench, request: RequestId, counter: u32) -> Vec<Output> {
    bench.path(request, State::Tree(Box::new(full(counter, &star(&[high(0), high(1)])))))
}

#[test]
fn r11_what_overflows_leads_to_one_query_and_goes_on_with_its_answer() {
    let (mut bench, from, to) = between();
    let mut outputs = Vec::new();
    let mut number = 0;
    while path_requests(&outputs).is_empty() {
        number += 1;
        outputs = comes(&mut bench, from, number, 32 * 1024);
        assert_eq!(goes(&mut bench, to), 0);
    }
    assert_eq!(number, 8, "256 KiB, of which each frame brings 32 and a little");
    assert_eq!(path_requests(&comes(&mut bench, from, 9, 32 * 1024)), []);
    assert_eq!(goes(&mut bench, to), 0);
    answered(&mut bench, request(&outputs), 1);
    assert_eq!(goes(&mut bench, to), 9);
    let control = bench.engine.stats().control;
    assert_eq!(control.subscribes, 0);
}

#[test]
fn r11_the_answer_decides_who_the_next_hops_are() {
    let (mut bench, from, old) = between();
    let outputs = comes(&mut bench, from, 1, 1000);
    assert_eq!(path_requests(&outputs), []);
    let query = request(&bench.wait(ms(200)));
    bench.channel(high(2));
    let (new, _) = bench.edge(high(2), epoch(2));
    let tree = star(&[high(0), high(2)]);
    bench.path(query, State::Tree(Box::new(full(2, &tree))));
    bench.summary_only(new);
    assert_eq!(goes(&mut bench, new), 1);
    assert_eq!(goes(&mut bench, old), 0);
}

#[test]
fn r11_the_oldest_frame_waits_for_two_hundred_milliseconds() {
    let (mut bench, from, to) = between();
    comes(&mut bench, from, 1, 1000);
    assert_eq!(path_requests(&bench.wait(ms(199))), []);
    let query = request(&bench.wait(ms(1)));
    assert_eq!(goes(&mut bench, to), 0);
    answered(&mut bench, query, 1);
    assert_eq!(goes(&mut bench, to), 1);
}

#[test]
fn r11_a_service_that_cannot_wait_does_not() {
    let buffering = relay::Buffering {
        services: [(ServiceId(0), ms(20))].into(),
        ..relay::Buffering::default()
    };
    let (mut bench, from, _) = between_with(Config { buffering, ..Config::default() });
    comes(&mut bench, from, 1, 10_000);
    comes(&mut bench, from, 2, 10_000);
    assert_eq!(bench.engine.stats().relay.overflows, 0);
    let outputs = comes(&mut bench, from, 3, 6_000);
    request(&outputs);
    assert_eq!(bench.engine.stats().relay.overflows, 1);
}

#[test]
fn r11_what_is_sent_here_waits_too() {
    let (mut bench, _, to) = between();
    let (id, service, class) = (PublishId(1), ServiceId(0), Class::Reliable);
    let payload = Bytes::from_static(b"hello");
    bench.give(Input::Publish { id, service, class, to: None, payload });
    let draft = bench.engine.poll_draft(bench.now).expect("a draft");
    let frame = testing::frame(draft.header, &draft.payload);
    bench.give(Input::Made { frame, payload: draft.payload });
    assert_eq!(goes(&mut bench, to), 0);
    let query = request(&bench.wait(ms(200)));
    answered(&mut bench, query, 1);
    assert_eq!(goes(&mut bench, to), 1);
}

#[test]
fn r11_after_a_failed_query_what_is_known_has_to_do() {
    let (mut bench, from, to) = between();
    comes(&mut bench, from, 1, 1000);
    let query = request(&bench.wait(ms(200)));
    let answer = Err(Unanswered("silence".to_owned()));
    bench.give(Input::PathAnswer { request: query, answer });
    assert_eq!(goes(&mut bench, to), 1);
}

#[test]
fn r11_nothing_waits_longer_than_a_second_for_an_answer() {
    let (mut bench, from, to) = between();
    comes(&mut bench, from, 1, 1000);
    request(&bench.wait(ms(200)));
    assert_eq!(path_requests(&bench.wait(ms(999))), []);
    assert_eq!(goes(&mut bench, to), 0);
    bench.wait(ms(1));
    assert_eq!(goes(&mut bench, to), 1);
    // Who does not answer is not waited for again.
    comes(&mut bench, from, 2, 1000);
    bench.wait(ms(200));
    assert_eq!(goes(&mut bench, to), 1);
}

#[test]
fn r11_without_the_coordinator_what_is_known_has_to_do() {
    let (mut bench, from, to) = between();
    comes(&mut bench, from, 1, 1000);
    bench.give(Input::CoordinatorDown);
    assert_eq!(goes(&mut bench, to), 1);
    comes(&mut bench, from, 2, 1000);
    assert_eq!(path_requests(&bench.wait(ms(200))), []);
    assert_eq!(goes(&mut bench, to), 1);
    bench.give(Input::CoordinatorUp);
    let query = request(&bench.wait(ms(1000)));
    answered(&mut bench, query, 2);
    assert_eq!(bench.engine.tree().map(|(epoch, _)| epoch), Some(epoch(2)));
}

#[test]
fn r11_a_member_asks_more_and_more_seldom_however_much_comes_until_the_tree_changes() {
    let (mut bench, from, to) = between();
    let mut passed = 0;
    let mut number = 0;
    let mut newest = 1;
    let mut asked_at = Vec::new();
    let begin = bench.now;
    // So little that the store takes it all, and so much that something cannot wait five times a second.
    while number < 500 {
        number += 1;
        for (request, _) in path_requests(&comes(&mut bench, from, number, 1024)) {
            asked_at.push(bench.now - begin);
            answered(&mut bench, request, newest);
        }
        while bench.engine.poll_delivery(bench.now).is_some() {}
        for (request, _) in path_requests(&bench.wait(ms(20))) {
            asked_at.push(bench.now - begin);
            answered(&mut bench, request, newest);
        }
        passed += goes(&mut bench, to);
        for edge in [from, to] {
            bench.give(Input::EdgeAlive { edge });
        }
        if bench.now - begin >= ms(7_000) {
            newest = 2;
        }
    }
    assert!(passed as u64 > number - 12, "{passed} frames of {number}");
    let gaps: Vec<Duration> =
        asked_at.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    assert!(gaps.iter().all(|gap| (ms(190)..ms(2_600)).contains(gap)), "{gaps:?}");
    let before = asked_at.iter().filter(|at| **at < ms(7_000)).count();
    assert!((4..=9).contains(&before), "{asked_at:?}");
    // What is new makes it look again soon.
    let is_new = |pair: &[Duration]| pair[0] > ms(1_400) && pair[1] < ms(250);
    assert_eq!(gaps.windows(2).filter(|pair| is_new(pair)).count(), 1, "{gaps:?}");
}

#[test]
fn r11_who_leaves_lets_everything_go_at_once() {
    let (mut bench, from, to) = between();
    comes(&mut bench, from, 1, 1000);
    bench.give(Input::Leave);
    assert_eq!(goes(&mut bench, to), 1);
    comes(&mut bench, from, 2, 1000);
    assert_eq!(goes(&mut bench, to), 1);
}

#[test]
fn r11_the_application_does_not_wait() {
    let (mut bench, from, _) = between();
    comes(&mut bench, from, 1, 1000);
    assert!(bench.engine.poll_delivery(bench.now).is_some());
}

#[test]
fn r11_a_newer_tree_at_a_neighbour_leads_to_a_query() {
    let (mut bench, from, _) = between();
    bench.heartbeat(from, epoch(2));
    let query = request(&bench.wait(ms(250)));
    answered(&mut bench, query, 2);
    assert_eq!(bench.engine.tree().map(|(epoch, _)| epoch), Some(epoch(2)));
    // Its own channels are a hint too.
    bench.channel(low(0));
    request(&bench.wait(ms(2_000)));
}

#[test]
fn r11_who_has_nothing_to_pass_on_asks_every_two_minutes() {
    let (mut bench, _, _) = between();
    assert_eq!(path_requests(&bench.wait(ms(100_000))), []);
    request(&bench.wait(ms(20_000)));
}

#[test]
fn r11_updates_that_come_anyway_change_nothing() {
    let (mut bench, _, _) = between();
    assert!(!bench.engine.follows_pushes());
    assert_eq!(bench.push(full(9, &star(&[high(5)]))), []);
    assert_eq!(path_requests(&bench.wait(ms(5_000))), []);
}
