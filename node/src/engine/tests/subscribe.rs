//! Manner 3: subscribing when nothing is known, using what is known otherwise, following updates.

use super::{data, *};

fn subscription() -> PathRequest {
    PathRequest::Subscribe { session: session(), scope: Scope::Tree }
}

#[test]
fn r12_who_knows_nothing_subscribes_and_uses_the_answer() {
    for next_hops in [NextHops::Subscribe, NextHops::InBand] {
        let config = Config { next_hops, ..Config::default() };
        let (mut bench, request, body) = Bench::asking(config);
        assert!(bench.engine.follows_pushes());
        assert_eq!(body, subscription());
        let one = star(&[high(0)]);
        bench.path(request, State::Tree(Box::new(full(1, &one))));
        assert_eq!(bench.engine.neighbours().map(|n| n.member).collect::<Vec<_>>(), [high(0)]);
        let control = bench.engine.stats().control;
        assert_eq!((control.queries, control.subscribes), (0, 1));
    }
}

#[test]
fn r12_updates_are_followed_without_asking() {
    let mut bench = Bench::learning(NextHops::Subscribe, &star(&[high(0)]));
    for counter in 2..20 {
        let tree = star(&[high(counter as usize % 5)]);
        bench.push(full(counter, &tree));
        assert_eq!(bench.engine.tree(), Some((epoch(counter), Some(&tree))));
        assert_eq!(path_requests(&bench.wait(ms(1000))), []);
    }
    let control = bench.engine.stats().control;
    assert_eq!((control.queries, control.subscribes), (0, 1));
}

#[test]
fn r12_what_is_known_is_used_at_once_for_whatever_comes() {
    let mut bench = Bench::learning(NextHops::Subscribe, &star(&[high(0), high(1)]));
    let mut edges = Vec::new();
    for peer in [high(0), high(1)] {
        bench.channel(peer);
        let (edge, _) = bench.edge(peer, epoch(1));
        bench.summary(edge);
        edges.push(edge);
    }
    // Also while the coordinator is not there, and while the next subscription is under way.
    for number in 1..=3 {
        match number {
            2 => drop(bench.give(Input::CoordinatorDown)),
            3 => {
                let mut requests = path_requests(&bench.give(Input::CoordinatorUp));
                requests.extend(path_requests(&bench.wait(ms(1_000))));
                assert!(matches!(requests.as_slice(), [(_, body)] if *body == subscription()));
            }
            _ => {}
        }
        let (frame, payload) = data::frame(high(0), number, "hello");
        let outputs = bench.give(Input::Frame { edge: edges[0], frame: frame.clone(), payload });
        assert_eq!(path_requests(&outputs), []);
        assert_eq!(bench.engine.poll_frame(edges[1], bench.now), Some(frame));
    }
    assert_eq!(bench.engine.stats().relay.overflows, 0);
}
