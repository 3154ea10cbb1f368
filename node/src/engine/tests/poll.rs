//! Manner 1: asking at intervals.

use arborcast_protocol::notice::{News, Notice};

use super::*;

const QUERY: fn() -> PathRequest = || PathRequest::Query { session: session(), scope: Scope::Tree };

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn poller(tree: &Tree) -> Bench {
    Bench::learning(NextHops::Poll, tree)
}

/// How long until the next query, which is answered with this tree.
fn next(bench: &mut Bench, counter: u32, tree: &Tree) -> Duration {
    let begin = bench.now;
    loop {
        if let [(request, body)] = path_requests(&bench.wait(ms(5))).as_slice() {
            assert_eq!(*body, QUERY());
            bench.path(*request, State::Tree(Box::new(full(counter, tree))));
            return bench.now - begin;
        }
    }
}

fn within(wait: Duration, from_ms: u64, to_ms: u64) {
    assert!(wait >= ms(from_ms) && wait <= ms(to_ms), "{wait:?} is not {from_ms} to {to_ms} ms");
}

#[test]
fn r10_who_knows_nothing_asks_at_once_and_then_every_thirty_seconds_or_less() {
    let one = star(&[high(0)]);
    let config = Config { next_hops: NextHops::Poll, ..Config::default() };
    let (mut bench, request, body) = Bench::asking(config);
    assert_eq!(body, QUERY());
    bench.path(request, State::Tree(Box::new(full(1, &one))));
    assert_eq!(bench.engine.tree(), Some((epoch(1), Some(&one))));
    within(next(&mut bench, 1, &one), 22_500, 30_005);
    let control = bench.engine.stats().control;
    assert_eq!((control.queries, control.subscribes), (2, 0));
}

#[test]
fn r10_the_period_shrinks_while_the_tree_changes_and_grows_while_it_does_not() {
    let (one, two) = (star(&[high(0)]), star(&[high(1)]));
    let mut bench = poller(&one);
    within(next(&mut bench, 2, &two), 22_500, 30_005);
    within(next(&mut bench, 3, &one), 11_250, 15_005);
    within(next(&mut bench, 4, &two), 5_625, 7_505);
    for counter in 5..9 {
        within(next(&mut bench, counter, &two), 3_750, 5_005);
    }
    for (least, most) in [(3_750, 5_005), (5_625, 7_505), (8_437, 11_255), (12_656, 16_880)] {
        within(next(&mut bench, 8, &two), least, most);
    }
    for _ in 0..10 {
        next(&mut bench, 8, &two);
    }
    within(next(&mut bench, 8, &two), 90_000, 120_005);
}

#[test]
fn r10_the_period_begins_with_what_is_set() {
    let one = star(&[high(0)]);
    let config = Config { next_hops: NextHops::Poll, poll: s(6), ..Config::default() };
    let (mut bench, request, _) = Bench::asking(config);
    bench.path(request, State::Tree(Box::new(full(1, &one))));
    within(next(&mut bench, 1, &one), 4_500, 6_005);
}

#[test]
fn r10_who_is_not_in_the_tree_yet_asks_again_soon() {
    let (without, with) = (tree(&[high(0)], &[], &[]), star(&[high(0)]));
    let mut bench = poller(&without);
    let waits: Vec<Duration> = (0..6).map(|_| next(&mut bench, 1, &without)).collect();
    assert!(waits[0] <= ms(205) && waits[5] > ms(1_000), "{waits:?}");
    next(&mut bench, 2, &with);
    within(next(&mut bench, 2, &with), 22_500, 30_005);
}

#[test]
fn r10_a_newer_tree_at_a_neighbour_brings_the_next_query_forward() {
    let (one, two, three) =
        (star(&[high(0)]), star(&[high(0), high(1)]), star(&[high(0), high(2)]));
    let mut bench = poller(&one);
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.asked_in(s(4), 1, &one);
    bench.heartbeat(edge, epoch(2));
    within(next(&mut bench, 2, &two), 0, 255);
    // An edge that names a newer tree waits for it. But a second lies between two queries.
    bench.channel(low(0));
    bench.edge(low(0), epoch(3));
    within(next(&mut bench, 3, &three), 1_000, 1_255);
    assert_eq!(bench.engine.tree().map(|(epoch, _)| epoch), Some(epoch(3)));
}

#[test]
fn r10_a_renewal_that_tells_of_a_newer_tree_brings_the_next_query_forward() {
    let (one, two) = (star(&[high(0)]), star(&[high(1)]));
    let mut bench = poller(&one);
    // The first renewal knows nothing newer, the second does.
    for (newest, at_most) in [(1, ms(4_000)), (2, ms(500))] {
        let renewal = loop {
            let outputs = bench.wait(ms(5));
            assert_eq!(path_requests(&outputs), []);
            let renewal = outputs.iter().find_map(|output| {
                let Output::SessionRequest { request, .. } = output else { return None };
                Some(*request)
            });
            if let Some(renewal) = renewal {
                break renewal;
            }
        };
        let renewed = Renewed { epoch: Some(epoch(newest)), ..nothing_new() };
        bench.session(renewal, Ok(Granted::Renewed(Box::new(renewed))));
        let asked = path_requests(&bench.wait(at_most));
        assert_eq!(asked.len(), usize::from(newest == 2), "{asked:?}");
        if let [(request, body)] = asked.as_slice() {
            assert_eq!(*body, QUERY());
            bench.path(*request, State::Tree(Box::new(full(2, &two))));
            assert_eq!(bench.engine.tree(), Some((epoch(2), Some(&two))));
        }
    }
}

#[test]
fn r10_members_that_get_one_hint_ask_at_different_times() {
    let one = star(&[high(0)]);
    let waits: BTreeSet<Duration> = (0..8)
        .map(|time| {
            let mut bench = poller(&one);
            bench.channel(high(0));
            let (edge, _) = bench.edge(high(0), epoch(1));
            // Other members draw other numbers.
            for _ in 0..time {
                bench.heartbeat(edge, epoch(1));
                bench.asked_in(s(30), 1, &one);
            }
            bench.wait(s(2));
            bench.heartbeat(edge, epoch(2));
            next(&mut bench, 2, &one)
        })
        .collect();
    assert!(waits.len() > 4, "{waits:?}");
}

#[test]
fn r10_a_channel_that_comes_or_goes_brings_the_next_query_forward() {
    let one = star(&[high(0)]);
    let mut bench = poller(&one);
    bench.asked_in(s(5), 1, &one);
    bench.channel(high(0));
    within(next(&mut bench, 1, &one), 500, 1_005);
    // The tree had not changed yet: the next query is not far.
    within(next(&mut bench, 1, &one), 5_625, 7_505);
    bench.give(Input::ChannelDown { peer: high(0) });
    within(next(&mut bench, 1, &one), 500, 2_005);
}

#[test]
fn r10_channels_that_come_and_go_cost_a_query_a_second_at_most() {
    let one = star(&[high(0)]);
    let mut bench = poller(&one);
    let before = bench.engine.stats().control.queries;
    for round in 0..200 {
        let peer = high(round % 7);
        if round % 2 == 0 {
            bench.channel(peer);
        } else {
            bench.give(Input::ChannelDown { peer });
        }
        bench.asked_in(ms(50), 1, &one);
    }
    let queries = bench.engine.stats().control.queries - before;
    assert!((5..=11).contains(&queries), "{queries} in ten seconds");
}

#[test]
fn r10_updates_that_come_anyway_change_nothing() {
    let (one, two) = (star(&[high(0)]), star(&[high(1)]));
    let mut bench = poller(&one);
    assert!(!bench.engine.follows_pushes());
    assert_eq!(bench.push(full(2, &two)), []);
    assert_eq!(bench.push(Update { header: signed(3, &two), body: Body::Fetch }), []);
    let told = Neighbours {
        header: signed(4, &two),
        neighbours: Vec::new(),
        overlap: Vec::new(),
        cyclic: Vec::new(),
        roster_hash: two.roster_hash(me()),
        roster_len: 2,
        roster_index: Some(0),
    };
    let news = News::Neighbours(Box::new(told));
    assert_eq!(bench.give(Input::Notice(Box::new(Notice { session: session(), news }))), []);
    assert_eq!(path_requests(&bench.wait(s(20))), []);
    assert_eq!(bench.engine.tree(), Some((epoch(1), Some(&one))));
}

#[test]
fn r10_without_the_coordinator_what_is_known_stays_and_its_return_leads_to_a_query() {
    let (one, two) = (star(&[high(0)]), star(&[high(1)]));
    let mut bench = poller(&one);
    bench.give(Input::CoordinatorDown);
    assert_eq!(path_requests(&bench.wait(s(300))), []);
    assert_eq!(bench.engine.tree(), Some((epoch(1), Some(&one))));
    bench.give(Input::CoordinatorUp);
    within(next(&mut bench, 2, &two), 0, 1_005);
    assert_eq!(bench.engine.tree(), Some((epoch(2), Some(&two))));
    assert_eq!(bench.engine.stats().control.subscribes, 0);
}

#[test]
fn r10_a_failed_query_is_repeated_soon() {
    let one = star(&[high(0)]);
    let config = Config { next_hops: NextHops::Poll, ..Config::default() };
    let (mut bench, request, _) = Bench::asking(config);
    let answer = Err(Unanswered("silence".to_owned()));
    bench.give(Input::PathAnswer { request, answer });
    within(next(&mut bench, 1, &one), 100, 205);
}

#[test]
fn r10_in_scope_neighbours_the_answer_brings_the_own_place() {
    let config =
        Config { next_hops: NextHops::Poll, scope: Scope::Neighbours, ..Config::default() };
    let (mut bench, request, body) = Bench::asking(config);
    assert_eq!(body, PathRequest::Query { session: session(), scope: Scope::Neighbours });
    let one = star(&[high(0)]);
    let told = Neighbours {
        header: signed(1, &one),
        neighbours: one.member(high(0)).cloned().into_iter().collect(),
        overlap: Vec::new(),
        cyclic: Vec::new(),
        roster_hash: one.roster_hash(me()),
        roster_len: 2,
        roster_index: Some(0),
    };
    bench.path(request, State::Neighbours(Box::new(told)));
    assert_eq!(bench.engine.neighbours().map(|n| n.member).collect::<Vec<_>>(), [high(0)]);
    assert_eq!(path_requests(&bench.wait(s(20))), []);
}
