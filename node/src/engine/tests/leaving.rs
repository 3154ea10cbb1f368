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
fn a_relay_that_leaves_asks_again_until_others_have_taken_its_place() {
    let mut bench = Bench::in_tree(&star(&[high(0), low(0)]));
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.summary(edge);
    let outputs = bench.give(Input::Leave);
    let (mut request, _) = session_request(&outputs);
    for _ in 0..5 {
        let answer = Ok(Granted::HandingOver { again_ms: 100 });
        assert_eq!(bench.session(request, answer), []);
        assert!(bench.engine.may_read(edge), "it still relays");
        assert!(!bench.engine.may_publish());
        let asks = |output: &Output| matches!(output, Output::SessionRequest { .. });
        assert!(!bench.wait(ms(99)).iter().any(asks));
        let body;
        (request, body) = session_request(&bench.wait(ms(1)));
        assert!(matches!(body, Request::Leave { .. }), "{body:?}");
    }
    let outputs = bench.session(request, Ok(Granted::Left));
    assert_eq!(outputs.last(), Some(&Output::Event(Event::Ended)));

    // Whatever the coordinator says, it does not keep anybody.
    let mut bench = Bench::member();
    let mut outputs = bench.give(Input::Leave);
    let began = bench.now;
    while bench.engine.phase() != Phase::Ended {
        assert!(bench.now < began + ms(3001));
        if outputs.iter().any(|output| matches!(output, Output::SessionRequest { .. })) {
            let (request, _) = session_request(&outputs);
            bench.session(request, Ok(Granted::HandingOver { again_ms: u32::MAX }));
        }
        outputs = bench.wait(ms(1));
    }
}

#[test]
fn a_leaver_waits_three_seconds_at_most() {
    let mut bench = Bench::member();
    bench.give(Input::Leave);
    assert_eq!(bench.wait(ms(2999)), []);
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

#[test]
fn who_was_not_let_in_yet_says_nothing_as_a_member_when_it_leaves() {
    // Only a challenge was asked for: nobody knows of this run.
    let mut bench = Bench::new();
    bench.give(Input::CoordinatorUp);
    assert_eq!(bench.give(Input::Leave), [Output::Event(Event::Ended)]);

    // The join may succeed. Until it is known, the coordinator may still list the run before.
    let mut bench = Bench::new();
    let (challenge, _) = session_request(&bench.give(Input::CoordinatorUp));
    bench.session(challenge, Ok(challenge_granted()));
    let (leave, request) = session_request(&bench.give(Input::Leave));
    assert!(matches!(request, Request::Leave { .. }), "{request:?}");
    let outputs = [bench.channel(high(0)), bench.wait(ms(1_000))].concat();
    let is_asked = |output: &Output| {
        matches!(output, Output::ReportRequest { .. } | Output::PathRequest { .. })
    };
    assert!(!outputs.iter().any(is_asked), "{outputs:?}");
    assert_eq!(bench.session(leave, Ok(Granted::Left)), [Output::Event(Event::Ended)]);
}
