//! Leaving.

use super::*;

#[test]
fn a_leaver_tells_the_coordinator_and_ends_on_its_answer() {
    let mut bench = Bench::in_tree(&star(&[high(0)]));
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.summary(edge);
    let outputs = bench.give(Input::Leave);
    let (request, body) = session_request(&outputs);
    assert_eq!(outputs.len(), 1);
    assert_eq!(body, Request::Leave { session: session(), incarnation: testing::incarnation(1) });
    assert_eq!(bench.engine.phase(), Phase::Leaving);
    assert!(bench.engine.may_read(edge), "it still relays");
    assert_eq!(
        bench.session(request, Ok(Granted::Left)),
        [Output::CloseEdge { edge }, Output::Event(Event::Ended)]
    );
    assert_eq!(bench.engine.poll_timeout(), None);
}

#[test]
fn a_leaver_waits_two_seconds_at_most() {
    let mut bench = Bench::member();
    bench.give(Input::Leave);
    assert_eq!(bench.wait(ms(1999)), []);
    assert_eq!(bench.wait(ms(1)), [Output::Event(Event::Ended)]);
}

#[test]
fn a_leaver_without_coordinator_ends_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.give(Input::Leave), [Output::Event(Event::Ended)]);

    let mut bench = Bench::member();
    bench.give(Input::CoordinatorDown);
    assert_eq!(bench.give(Input::Leave), [Output::Event(Event::Ended)]);

    let mut bench = Bench::member();
    bench.give(Input::Leave);
    assert_eq!(bench.give(Input::CoordinatorDown), [Output::Event(Event::Ended)]);
}
