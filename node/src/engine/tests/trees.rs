//! Trees: taken up in order of their epochs, however they arrive.

use std::sync::Arc;

use arborcast_protocol::{
    notice::{News, Notice},
    tree::Change,
};

use super::*;

fn tree_event(counter: u32, tree: &Tree) -> Event {
    Event::Tree(TreeEvent {
        epoch: epoch(counter),
        tree: Some(Arc::new(tree.clone())),
        neighbours: tree.neighbours(me()).collect(),
        overlap: tree.overlap().filter(|edge| edge.other(me()).is_some()).collect(),
    })
}

fn change(counter: u32, tree: &Tree, base: (u32, &Tree)) -> Update {
    let change = tree.change_from(base.1, epoch(base.0));
    Update { header: signed(counter, tree), body: Body::Change(change) }
}

fn newest(bench: &Bench) -> Option<Epoch> {
    bench.engine.tree().map(|(epoch, _)| epoch)
}

/// The one query within `time`.
fn query(bench: &mut Bench, time: Duration) -> RequestId {
    let outputs = bench.wait(time);
    let requests = path_requests(&outputs);
    let [(request, PathRequest::Query { .. })] = requests.as_slice() else {
        panic!("no query: {outputs:?}")
    };
    *request
}

/// A member with tree 1, whose subscription was answered.
pub(super) fn subscribed(tree: &Tree) -> Bench {
    let mut bench = Bench::new();
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let outputs =
        bench.session(session_request(&outputs).0, Ok(Granted::Joined(joined(true, vec![]))));
    let (report, _) = report_request(&outputs);
    bench.accept(report);
    let (subscription, _) = path_requests(&outputs)[0];
    let outputs = bench.path(subscription, State::Tree(Box::new(full(1, tree))));
    assert_eq!(events(&outputs).last(), Some(&tree_event(1, tree)));
    bench
}

#[test]
fn r5_the_answer_to_a_subscription_is_taken_up_and_who_is_in_it_is_told() {
    let star = star(&[high(0), low(0)]);
    let mut bench = Bench::new();
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let outputs =
        bench.session(session_request(&outputs).0, Ok(Granted::Joined(joined(true, vec![]))));
    let (subscription, _) = path_requests(&outputs)[0];
    assert_eq!(
        bench.path(subscription, State::Tree(Box::new(full(1, &star)))),
        [
            Output::Event(Event::Joined(nicked(low(0)))),
            Output::Event(Event::Joined(nicked(high(0)))),
            Output::Event(tree_event(1, &star)),
        ]
    );
    assert_eq!(bench.engine.tree(), Some((epoch(1), Some(&star))));
    let neighbours: Vec<_> = bench.engine.neighbours().map(|n| (n.member, n.edge)).collect();
    assert_eq!(neighbours, [(low(0), None), (high(0), None)]);
}

#[test]
fn r6_pushed_changes_are_followed() {
    let (one, two) = (star(&[high(0), high(1)]), star(&[high(1), high(2)]));
    let mut bench = subscribed(&one);
    let outputs = bench.push(change(2, &two, (1, &one)));
    assert_eq!(
        outputs,
        [
            Output::Event(Event::Left(nicked(high(0)))),
            Output::Event(Event::Joined(nicked(high(2)))),
            Output::Event(tree_event(2, &two)),
        ]
    );
}

#[test]
fn late_doubled_and_foreign_trees_are_ignored() {
    let (one, two) = (star(&[high(0)]), star(&[high(1)]));
    let mut bench = subscribed(&one);
    bench.push(full(3, &two));
    assert_eq!(bench.push(full(3, &two)), []);
    assert_eq!(bench.push(full(2, &one)), []);
    assert_eq!(bench.push(change(3, &two, (1, &one))), []);
    let mut foreign = full(9, &one);
    foreign.header.header.session = testing::session(3);
    assert_eq!(bench.push(foreign), []);
    assert_eq!(newest(&bench), Some(epoch(3)));
    assert_eq!(bench.engine.stats().control.stale_updates, 4);
    assert_eq!(path_requests(&bench.wait(ms(1000))), []);
}

#[test]
fn r4_a_gap_a_wrong_hash_and_an_announcement_lead_to_one_query() {
    let (one, two, three) =
        (star(&[high(0)]), star(&[high(0), high(1)]), star(&[high(0), high(2)]));
    let gap = change(3, &three, (2, &two));
    let mut mismatch = full(3, &three);
    mismatch.header = signed(3, &two);
    let fetch = Update { header: signed(3, &three), body: Body::Fetch };
    let broken = Update {
        header: signed(3, &three),
        body: Body::Change(Change {
            base: epoch(1),
            added: Edge::new(high(5), high(6)).into_iter().collect(),
            ..Change::default()
        }),
    };
    for update in [gap, mismatch, fetch, broken] {
        let mut bench = subscribed(&one);
        assert_eq!(path_requests(&bench.push(update.clone())), []);
        assert_eq!(path_requests(&bench.push(update)), []);
        let request = query(&mut bench, ms(50));
        let outputs = bench.path(request, State::Tree(Box::new(full(3, &three))));
        assert_eq!(events(&outputs).last(), Some(&tree_event(3, &three)));
        assert_eq!(path_requests(&bench.wait(ms(5000))), []);
    }
}

#[test]
fn a_query_is_not_sent_when_the_update_comes_after_all() {
    let (one, two, three) =
        (star(&[high(0)]), star(&[high(0), high(1)]), star(&[high(0), high(2)]));
    let mut bench = subscribed(&one);
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.heartbeat(edge, epoch(2));
    bench.wait(ms(90));
    bench.push(change(2, &two, (1, &one)));
    assert_eq!(path_requests(&bench.wait(ms(1000))), []);
    bench.heartbeat(edge, epoch(3));
    assert_eq!(path_requests(&bench.wait(ms(99))), []);
    let request = query(&mut bench, ms(51));
    let outputs = bench.path(request, State::Tree(Box::new(full(3, &three))));
    assert_eq!(events(&outputs).last(), Some(&tree_event(3, &three)));
}

#[test]
fn a_rumour_of_a_tree_costs_few_queries() {
    let one = star(&[high(0)]);
    let mut bench = subscribed(&one);
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    let mut queries = 0;
    for _ in 0..100 {
        bench.heartbeat(edge, epoch(u32::MAX));
        for (request, _) in path_requests(&bench.wait(ms(100))) {
            queries += 1;
            bench.path(request, State::Tree(Box::new(full(1, &one))));
        }
    }
    assert!(queries < 10, "{queries} queries in ten seconds");
    // However long, and whatever else, it goes on about: as often as without it.
    queries = 0;
    for n in 0..3_000 {
        bench.heartbeat(edge, epoch(u32::MAX - 3_000 + n));
        for (request, _) in path_requests(&bench.wait(ms(200))) {
            queries += 1;
            bench.path(request, State::Tree(Box::new(full(1, &one))));
        }
    }
    assert!(queries <= 2 * 600 / 30, "{queries} queries in ten minutes");
    // The true tree is still found.
    let two = star(&[high(1)]);
    bench.push(full(2, &two));
    assert_eq!(newest(&bench), Some(epoch(2)));
}

#[test]
fn a_failed_query_is_asked_again_with_growing_waits() {
    let one = star(&[high(0)]);
    let mut bench = subscribed(&one);
    bench.push(Update { header: signed(2, &one), body: Body::Fetch });
    let mut times = Vec::new();
    for _ in 0..4 {
        let before = bench.now;
        let request = loop {
            if let [(request, _)] = path_requests(&bench.wait(ms(10))).as_slice() {
                break *request;
            }
        };
        times.push(bench.now - before);
        let answer = Err(Unanswered("silence".to_owned()));
        bench.give(Input::PathAnswer { request, answer });
    }
    assert!(times[0] <= ms(60) && times[1] <= ms(210), "{times:?}");
    assert!(times[3] >= ms(400) && times[3] <= ms(810), "{times:?}");
}

#[test]
fn without_a_tree_the_member_asks_again_soon_and_then_less_and_less_often() {
    let mut bench = Bench::new();
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let mut outputs =
        bench.session(session_request(&outputs).0, Ok(Granted::Joined(joined(true, vec![]))));
    let begin = bench.now;
    let mut times = Vec::new();
    while bench.now < begin + Duration::from_secs(10) {
        for (request, body) in path_requests(&outputs) {
            assert!(matches!(body, PathRequest::Subscribe { .. }), "{body:?}");
            times.push(bench.now - begin);
            let refused = Ok(Err(Refusal::new(Code::NO_TREE, "none yet")));
            bench.give(Input::PathAnswer { request, answer: refused });
        }
        outputs = bench.wait(ms(10));
    }
    assert!((5..=8).contains(&times.len()), "{times:?}");
    assert!(times[1] <= ms(210), "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] <= pair[0] + ms(5_010)), "{times:?}");
}

#[test]
fn r10_a_slow_poll_is_the_net_below_the_pushes() {
    let one = star(&[high(0)]);
    let mut bench = subscribed(&one);
    let mut times = Vec::new();
    let mut last = bench.now;
    while times.len() < 3 {
        for (request, body) in path_requests(&bench.wait(ms(100))) {
            assert_eq!(body, PathRequest::Query { session: session(), scope: Scope::Tree });
            times.push(bench.now - last);
            last = bench.now;
            bench.path(request, State::Tree(Box::new(full(1, &one))));
        }
    }
    assert!(times.iter().all(|time| *time >= ms(108_000) && *time <= ms(120_100)), "{times:?}");
}

#[test]
fn r5_r6_in_scope_neighbours_notices_bring_what_counts() {
    let config = Config { scope: Scope::Neighbours, ..Config::default() };
    let mut bench = Bench::member_with(config);
    let star = star(&[high(0), high(1)]);
    let told = Neighbours {
        header: signed(4, &star),
        neighbours: [high(0), high(1)].iter().filter_map(|id| star.member(*id).cloned()).collect(),
        overlap: vec![high(1)],
        cyclic: vec![high(0)],
        roster_hash: star.roster_hash(me()),
        roster_len: 3,
        roster_index: Some(0),
    };
    let notice = |told: &Neighbours| Notice {
        session: session(),
        news: News::Neighbours(Box::new(told.clone())),
    };
    let expected = Event::Tree(TreeEvent {
        epoch: epoch(4),
        tree: None,
        neighbours: vec![high(0), high(1)],
        overlap: Edge::new(me(), high(1)).into_iter().collect(),
    });
    assert_eq!(bench.give(Input::Notice(Box::new(notice(&told)))), [Output::Event(expected)]);
    assert_eq!(bench.engine.tree(), Some((epoch(4), None)));
    assert_eq!(bench.give(Input::Notice(Box::new(notice(&told)))), []);
    // Pushes are for others, and no reason to ask.
    assert_eq!(bench.push(full(5, &star)), []);
    assert_eq!(path_requests(&bench.wait(ms(1000))), []);
}

#[test]
fn a_tree_without_this_node_is_taken_up_and_gives_it_no_neighbours() {
    let mut bench = subscribed(&star(&[high(0)]));
    let without = tree(&[high(0), high(1)], &[(high(0), high(1))], &[]);
    let outputs = bench.push(full(2, &without));
    assert_eq!(
        outputs,
        [Output::Event(Event::Joined(nicked(high(1)))), Output::Event(tree_event(2, &without)),]
    );
    assert_eq!(bench.engine.neighbours().count(), 0);
}

#[test]
fn another_incarnation_leaves_and_joins() {
    let one = star(&[high(0)]);
    let mut bench = subscribed(&one);
    let members = one.members().cloned().map(|member| {
        if member.id == high(0) {
            Member { incarnation: testing::incarnation(2), ..member }
        } else {
            member
        }
    });
    let two = Tree::new(members, one.edges(), one.overlap()).expect("a tree");
    let outputs = bench.push(full(2, &two));
    assert_eq!(
        events(&outputs),
        [Event::Left(nicked(high(0))), Event::Joined(nicked(high(0))), tree_event(2, &two),]
    );
}

#[test]
fn the_view_outlives_the_coordinator() {
    let one = star(&[high(0)]);
    let mut bench = subscribed(&one);
    bench.channel(high(0));
    bench.give(Input::CoordinatorDown);
    let two = star(&[high(0), high(1)]);
    let outputs = bench.push(full(2, &two));
    assert_eq!(events(&outputs).last(), Some(&tree_event(2, &two)));
}
