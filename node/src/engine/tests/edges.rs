//! Edges: who opens them, and what becomes of unexpected ones.

use super::*;

/// A member with these neighbours and channels to them; edges that are opened are left so.
fn with_channels(peers: &[MemberId]) -> Bench {
    let mut bench = Bench::in_tree(&star(peers));
    for peer in peers {
        bench.channel(*peer);
    }
    bench
}

#[test]
fn the_end_with_the_lower_id_opens_once_there_is_a_channel() {
    let mut bench = Bench::in_tree(&star(&[high(0), low(0)]));
    assert_eq!(opened(&bench.wait(ms(5000))), []);
    assert_eq!(opened(&bench.channel(high(0))), [high(0)]);
    assert_eq!(opened(&bench.channel(low(0))), []);
    assert_eq!(opened(&bench.wait(ms(2999))), []);
    assert_eq!(opened(&bench.wait(ms(1))), [low(0)], "the other end did not");
}

#[test]
fn a_failed_attempt_is_repeated_with_growing_waits() {
    let mut bench = with_channels(&[high(0)]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        bench.give(Input::EdgeFailed { peer: high(0) });
        let before = bench.now;
        while opened(&bench.wait(ms(10))).is_empty() {}
        waits.push(bench.now - before);
    }
    assert!(waits[0] >= ms(50) && waits[0] <= ms(110), "{waits:?}");
    assert!(waits[7] >= ms(1000) && waits[7] <= ms(2010), "{waits:?}");
    assert_eq!(opened(&bench.wait(ms(10_000))), [], "one attempt at a time");
}

#[test]
fn an_edge_that_is_up_is_not_opened_again_and_one_that_dies_is() {
    let mut bench = with_channels(&[high(0)]);
    let (edge, outputs) = bench.edge(high(0), epoch(1));
    assert_eq!(outputs, []);
    let neighbour = bench.engine.neighbours().next().expect("there is one");
    assert_eq!((neighbour.edge, neighbour.carrying), (Some(edge), false));
    bench.summary(edge);
    assert!(bench.engine.may_read(edge));
    assert!(bench.engine.neighbours().all(|neighbour| neighbour.carrying));
    bench.engine.handle(Input::EdgeDown { edge }, bench.now);
    let outputs = bench.drain();
    assert_eq!(opened(&outputs), [], "it did not live long");
    assert!(!bench.engine.may_read(edge));
    assert_eq!(opened(&bench.wait(ms(100))), [high(0)]);
}

#[test]
fn an_edge_is_not_reopened_without_a_channel() {
    let mut bench = with_channels(&[high(0)]);
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.give(Input::EdgeDown { edge });
    bench.give(Input::ChannelDown { peer: high(0) });
    assert_eq!(opened(&bench.wait(ms(5000))), []);
    assert_eq!(opened(&bench.channel(high(0))), [high(0)]);
}

#[test]
fn a_second_edge_with_the_same_peer_replaces_the_first() {
    let mut bench = with_channels(&[low(0)]);
    let (old, _) = bench.edge(low(0), epoch(1));
    let (new, outputs) = bench.edge(low(0), epoch(1));
    assert_eq!(outputs, [Output::CloseEdge { edge: old }]);
    bench.summary(old);
    bench.summary(new);
    assert!(bench.engine.may_read(new) && !bench.engine.may_read(old));
    assert_eq!(bench.give(Input::EdgeDown { edge: old }), []);
    assert_eq!(opened(&bench.wait(ms(5000))), []);
}

#[test]
fn an_edge_from_a_peer_with_a_newer_tree_waits_for_that_tree() {
    let mut bench = with_channels(&[high(0)]);
    bench.edge(high(0), epoch(1));
    let (edge, outputs) = bench.edge(low(0), epoch(2));
    assert_eq!(outputs, []);
    assert!(!bench.engine.may_read(edge));
    assert_eq!(bench.engine.poll_frame(edge, bench.now), None);
    assert_eq!(bench.engine.poll_edge_message(edge, bench.now), None);
    assert_eq!(bench.summary(edge), []);
    let outputs = bench.push(full(2, &star(&[high(0), low(0)])));
    assert_eq!(closed(&outputs), []);
    // The summary that came before counts.
    bench.pull(edge);
    assert!(bench.engine.may_read(edge));
    assert!(bench.engine.neighbours().all(|n| n.carrying == (n.member == low(0))));
}

#[test]
fn an_edge_that_the_tree_does_not_name_is_closed() {
    let mut bench = with_channels(&[high(0)]);
    let (edge, outputs) = bench.edge(low(0), epoch(1));
    assert_eq!(closed(&outputs), [edge], "this node has that tree");
    let (edge, outputs) = bench.edge(low(0), epoch(3));
    assert_eq!(closed(&outputs), []);
    let two = star(&[high(0), high(1)]);
    assert_eq!(closed(&bench.push(full(2, &two))), []);
    assert_eq!(closed(&bench.push(full(3, &two))), [edge]);
    let (edge, outputs) = bench.edge(low(0), epoch(9));
    assert_eq!(closed(&outputs), []);
    assert_eq!(closed(&bench.wait(ms(2999))), []);
    assert_eq!(closed(&bench.wait(ms(1))), [edge], "that tree did not come");
}

#[test]
fn of_parked_edges_there_is_one_for_each_peer_and_a_bounded_number() {
    let mut bench = with_channels(&[high(0)]);
    let (old, _) = bench.edge(low(0), epoch(9));
    let (_, outputs) = bench.edge(low(0), epoch(9));
    assert_eq!(closed(&outputs), [old]);
    let mut refused = 0;
    for n in 100..200 {
        let (edge, outputs) = bench.edge(testing::member(n), epoch(9));
        refused += usize::from(closed(&outputs) == [edge]);
    }
    assert_eq!(refused, 37);
    let (edge, _) = bench.edge(low(0), epoch(9));
    let outputs: Vec<Output> = (0..17).flat_map(|_| bench.heartbeat(edge, epoch(9))).collect();
    assert_eq!(closed(&outputs), [edge], "too many messages before the tree");
}

#[test]
fn a_dropped_edge_is_retired_and_closed_when_it_ends() {
    let mut bench = with_channels(&[high(0), high(1)]);
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.summary(edge);
    let outputs = bench.push(full(2, &star(&[high(1)])));
    assert_eq!(closed(&outputs), []);
    let mut seen = bench.give(Input::EdgeMessage { edge, message: EdgeMessage::Fin });
    assert_eq!(closed(&seen), []);
    seen.extend(bench.pull(edge));
    assert_eq!(closed(&seen), [edge]);
    seen.extend(bench.wait(ms(5000)));
    assert!(!opened(&seen).contains(&high(0)));
}

#[test]
fn an_edge_wanted_again_while_it_ends_is_opened_anew_afterwards() {
    let mut bench = with_channels(&[high(0), high(1)]);
    let (edge, _) = bench.edge(high(0), epoch(1));
    bench.push(full(2, &star(&[high(1)])));
    let outputs = bench.push(full(3, &star(&[high(0), high(1)])));
    assert_eq!(opened(&outputs), []);
    let outputs = bench.wait(ms(1000));
    assert_eq!(closed(&outputs), [edge]);
    assert_eq!(opened(&outputs), [high(0)]);
}

#[test]
fn candidates_are_dialled_and_failed_dials_repeated_later() {
    let mut bench = Bench::new();
    let candidates: Vec<Contact> = (0..10).map(|n| contact(ordered(n))).collect();
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let joined = joined(true, candidates);
    let outputs = bench.session(session_request(&outputs).0, Ok(Granted::Joined(joined)));
    let first: Vec<MemberId> = (0..8).map(ordered).collect();
    assert_eq!(dialled(&outputs), first, "eight at a time");
    assert_eq!(dialled(&bench.channel(ordered(0))), [ordered(8)]);
    assert_eq!(dialled(&bench.give(Input::DialFailed { peer: ordered(1) })), [ordered(9)]);
    assert_eq!(dialled(&bench.channel(ordered(2))), []);
    assert_eq!(dialled(&bench.wait(ms(499))), []);
    assert_eq!(dialled(&bench.wait(ms(501))), [ordered(1)]);
}

#[test]
fn a_neighbour_whose_channel_is_gone_is_dialled_at_once() {
    let mut bench = Bench::new();
    bench.join(joined(true, vec![contact(high(0)), contact(low(0))]));
    bench.push(full(1, &star(&[high(0)])));
    bench.channel(high(0));
    bench.channel(low(0));
    bench.wait(ms(100));
    assert_eq!(dialled(&bench.give(Input::ChannelDown { peer: high(0) })), [high(0)]);
    assert_eq!(dialled(&bench.give(Input::ChannelDown { peer: low(0) })), []);
    assert_eq!(dialled(&bench.wait(ms(1000))), [low(0)]);
}
