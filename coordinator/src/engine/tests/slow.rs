//! Members that keep the others waiting.

use super::{hand_over::around_two, *};

impl World {
    /// `n` names these as the ones that keep it waiting; all is well that follows at once.
    fn names(&mut self, n: u64, slow: &[u64]) {
        let slow = slow.iter().map(|peer| member(*peer)).collect();
        let (answer, _) = self.send_report(n, Report { slow, ..no_report(n) });
        assert!(answer.is_ok());
    }

    fn after(&mut self, time_ms: u64) -> Vec<String> {
        self.until(self.now_ms + time_ms)
    }

    /// All renew.
    fn stay(&mut self) {
        (1..=4).for_each(|n| drop(self.renew(n, true)));
    }

    fn edges_of(&self, n: u64) -> usize {
        self.tree().1.iter().filter(|(a, b)| *a == n || *b == n).count()
    }
}

/// 1, 3 and 4 around 2, which relays; each can be reached otherwise.
fn star() -> World {
    around_two()
}

fn removed(seen: &[String], n: u64) -> bool {
    let removed = format!("tell {n} removed: {}", Code::DETACHED.0);
    seen.contains(&removed)
}

#[test]
fn a_leaf_that_keeps_the_others_waiting_is_detached_with_a_reason() {
    let mut world = star();
    world.names(1, &[2]);
    world.names(2, &[4]);
    assert!(!removed(&world.after(9_990), 4), "it is heard, and may catch up");
    assert!(removed(&world.after(20), 4), "it is told why");
    world.after(100);
    assert_eq!(world.listed(), [1, 2, 3]);
    let (answer, _) = world.renew(4, true);
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code, Code::DETACHED);
    assert!(refusal.message.contains("far less than is sent"), "{refusal}");
    assert_eq!(world.engine.stats().detached, 1);
}

#[test]
fn nobody_is_detached_where_nobody_else_waits() {
    let mut world = World::with_members(2, &[(1, 2)]);
    for _ in 0..20 {
        // It says so itself, and its neighbour says that nothing is heard of it.
        world.names(2, &[2]);
        let (silent, slow) = (vec![member(2)], vec![member(2)]);
        assert!(world.send_report(1, Report { silent, slow, ..no_report(1) }).0.is_ok());
        world.after(4_000);
        (1..=2).for_each(|n| drop(world.renew(n, true)));
    }
    assert_eq!(world.listed(), [1, 2]);
    // Of three of which two take nothing neither holds up anybody who would take something.
    let mut world = World::with_members(3, &[(1, 2), (1, 3)]);
    for _ in 0..20 {
        world.names(2, &[2]);
        world.names(3, &[3]);
        world.names(1, &[2, 3]);
        world.after(4_000);
        (1..=3).for_each(|n| drop(world.renew(n, true)));
    }
    assert_eq!(world.listed(), [1, 2, 3]);
    // Once one of them does, the other is in its way.
    world.names(3, &[]);
    world.names(1, &[2]);
    world.after(4_000);
    assert_eq!(world.listed(), [1, 3]);
}

#[test]
fn whose_connection_is_gone_is_not_taken_to_be_stopped() {
    let mut world = star();
    world.handle(Input::Disconnected { peer: member(4) });
    let (silent, slow) = (vec![member(4)], vec![member(4)]);
    assert!(world.send_report(2, Report { silent, slow, ..no_report(2) }).0.is_ok());
    world.after(100);
    for n in [1, 3] {
        world.names(n, &[4]);
    }
    world.after(4_000);
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn a_burst_is_nobodys_fault() {
    let mut world = star();
    for slow in [&[4_u64] as &[u64], &[2]] {
        let time_ms = if slow == [2] { 1_500 } else { 5_000 };
        for _ in 0..4 {
            world.names(1, &[2]);
            world.names(2, slow);
            world.after(time_ms);
            world.names(2, &[]);
            world.names(1, &[]);
            world.after(600);
            world.stay();
        }
    }
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn a_change_of_the_tree_does_not_clear_anybody() {
    let mut world = star();
    world.names(2, &[4]);
    world.after(8_000);
    world.names(2, &[]);
    world.after(200);
    world.names(2, &[4]);
    world.after(2_100);
    assert_eq!(world.listed(), [1, 2, 3]);
}

#[test]
fn a_relay_becomes_a_leaf_first_and_is_detached_only_if_that_does_not_help() {
    let mut world = star();
    world.names(1, &[2]);
    world.names(3, &[2]);
    world.after(10_100);
    world.stay();
    assert_eq!((world.listed(), world.edges_of(2)), (vec![1, 2, 3, 4], 1));
    world.all_carry();
    world.after(300);
    let (_, edges) = world.tree();
    let &(a, b) = edges.iter().find(|(a, b)| *a == 2 || *b == 2).unwrap();
    let peer = if a == 2 { b } else { a };
    // It goes on: whoever has it now says so.
    for n in [1, 3, 4] {
        world.names(n, if n == peer { &[2] } else { &[] });
    }
    world.after(10_100);
    assert_eq!(world.listed(), [1, 3, 4]);
}

#[test]
fn who_keeps_up_as_a_leaf_stays_and_relays_again_later() {
    let mut world = star();
    world.names(1, &[2]);
    world.names(3, &[2]);
    world.after(10_100);
    world.stay();
    world.all_carry();
    for n in [1, 3] {
        world.names(n, &[]);
    }
    for _ in 0..5 {
        world.after(5_000);
        assert_eq!(world.edges_of(2), 1);
        world.stay();
    }
    world.after(6_000);
    assert_eq!((world.listed(), world.edges_of(2)), (vec![1, 2, 3, 4], 3));
}

#[test]
fn whose_application_takes_nothing_is_detached_without_being_moved() {
    let mut world = star();
    world.names(1, &[2]);
    world.names(2, &[2]);
    world.after(2_100);
    assert_eq!(world.listed(), [1, 3, 4]);
    assert_eq!(world.engine.stats().moved, 0);
    let refusal = world.renew(2, true).0.unwrap_err();
    assert!(refusal.message.contains("application takes no messages"), "{refusal}");
}

#[test]
fn a_member_that_says_so_of_itself_alone_hurts_nobody() {
    let mut world = star();
    world.names(4, &[4]);
    world.after(5_000);
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn whoever_came_back_is_a_leaf_first() {
    let mut world = star();
    world.names(1, &[2]);
    world.names(2, &[2]);
    world.after(2_100);
    assert_eq!(world.listed(), [1, 3, 4]);
    world.join(2);
    world.report(2, Adjacency::Full(channels(&[1, 3, 4], ChannelKind::Direct)));
    world.after(500);
    assert_eq!((world.listed(), world.edges_of(2)), (vec![1, 2, 3, 4], 1));
    world.all_carry();
    assert!(world.renew(2, true).0.is_ok());
}

#[test]
fn nobody_is_blamed_by_those_who_have_no_edge_with_it() {
    let mut world = star();
    world.names(1, &[4, 9]);
    world.after(11_000);
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn a_stopped_process_is_dropped_soon_and_one_that_others_hear_is_not() {
    let mut world = star();
    // 2 hears nothing of 4, which does not ask for anything either.
    let silent = vec![member(4)];
    let slow = vec![member(4)];
    assert!(world.send_report(2, Report { silent, slow, ..no_report(2) }).0.is_ok());
    world.after(100);
    let (_, edges) = world.tree();
    let &(a, b) = edges.iter().find(|(a, b)| *a == 4 || *b == 4).unwrap();
    let peer = if a == 4 { b } else { a };
    world.names(peer, &[4]);
    world.after(2_500);
    assert_eq!(world.listed(), [1, 2, 3]);

    let mut world = star();
    let silent = vec![member(4)];
    assert!(world.send_report(2, Report { silent, ..no_report(2) }).0.is_ok());
    world.after(100);
    // It lives, and edges may take their time.
    assert!(world.renew(4, true).0.is_ok());
    let (_, edges) = world.tree();
    let &(a, b) = edges.iter().find(|(a, b)| *a == 4 || *b == 4).unwrap();
    world.names(if a == 4 { b } else { a }, &[4]);
    world.after(9_000);
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn who_answers_when_its_neighbours_hear_nothing_is_given_time() {
    for answers in [false, true] {
        let mut world = star();
        let (silent, slow) = (vec![member(4)], vec![member(4)]);
        let (_, outputs) = world.send_report(2, Report { silent, slow, ..no_report(2) });
        assert!(outputs.contains(&"tell 4 candidates []".to_owned()), "it is asked: {outputs:?}");
        if answers {
            world.after(1_900);
            world.handle(Input::Noted { from: member(4), session: session() });
        }
        let (_, edges) = world.tree();
        let &(a, b) = edges.iter().find(|(a, b)| *a == 4 || *b == 4).unwrap();
        world.names(if a == 4 { b } else { a }, &[4]);
        world.after(2_200);
        assert_eq!(world.listed().contains(&4), answers);
    }
}

#[test]
fn a_relay_with_a_bad_way_to_all_is_itself_the_cause() {
    let mut world = star();
    world.names(2, &[1, 3, 4]);
    world.after(10_100);
    assert_eq!((world.listed(), world.edges_of(2)), (vec![1, 2, 3, 4], 1));
    assert_eq!(world.engine.stats().moved, 1);
}

#[test]
fn a_leaf_that_complains_of_one_after_the_other_is_itself_the_cause() {
    let mut world = star();
    world.names(1, &[2]);
    world.after(10_100);
    world.stay();
    assert_eq!(world.edges_of(2), 1, "it was believed once");
    world.all_carry();
    world.after(500);
    let (_, edges) = world.tree();
    let of_one: Vec<_> = edges.iter().filter(|(a, _)| *a == 1).collect();
    let &[&(_, next)] = of_one.as_slice() else { panic!("{edges:?}") };
    assert_ne!(next, 2);
    world.names(1, &[next]);
    world.after(10_100);
    assert_eq!(world.listed(), [2, 3, 4]);
}

#[test]
fn nobody_is_detached_where_that_is_switched_off() {
    let config = Config { slow_ms: 0, lease_ms: 60_000, ..at_once() };
    let mut world = World::configured(config, 3, &[(1, 2), (2, 3)]);
    world.names(2, &[3]);
    world.after(30_000);
    assert_eq!(world.listed(), [1, 2, 3]);
}

#[test]
fn who_is_moved_about_is_not_cleared_by_that() {
    let mut world = star();
    world.names(2, &[4]);
    world.after(8_000);
    // The channel has become so bad that another one takes its place.
    world.report_qos(2, 4, 500, 30);
    world.report_qos(4, 2, 500, 30);
    world.names(2, &[]);
    world.after(400);
    world.all_carry();
    world.after(1_400);
    let (_, edges) = world.tree();
    let &(a, b) = edges.iter().find(|(a, b)| *a == 4 || *b == 4).unwrap();
    let peer = if a == 4 { b } else { a };
    assert_ne!(peer, 2, "{edges:?}");
    world.names(peer, &[4]);
    world.stay();
    world.after(2_300);
    assert_eq!(world.listed(), [1, 2, 3]);
}
