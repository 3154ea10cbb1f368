//! After a restart: the tree of before stays in force until those it lists are back.

use arborcast_protocol::tree::{Header, SignedHeader};

use super::*;

const NOTHING: [&str; 0] = [];

/// A tree of the term before.
fn held() -> SignedHeader {
    let epoch = Epoch { term: Term(6), counter: 41 };
    let hash = arborcast_protocol::id::Digest::from_bytes([0; 32]);
    SignedHeader::sign(Header { session: session(), epoch, hash }, &keypair(COORDINATOR))
}

impl World {
    fn come_back(&mut self, n: u64) -> (Joined, Vec<String>) {
        let join = Join { held: Some(held()), settled: true, ..self.join_request(n, n) };
        let (joined, rest) = self.try_join(n, join);
        (joined.expect("members are let in"), rest)
    }
}

#[test]
fn the_first_tree_is_that_of_all_who_came_back() {
    let mut world = World::new();
    assert_eq!(world.come_back(1).1, ["opened"]);
    assert_eq!(world.report(1, full(&[2])), NOTHING);
    assert!(world.come_back(2).0.settled);
    assert_eq!(world.report(2, full(&[1, 3])), NOTHING);
    let query = path::Request::Query { session: session(), scope: Scope::Tree };
    assert_eq!(code(&world.path(1, query).0), Some(Code::NO_TREE));
    world.until(3_000);
    assert_eq!(world.come_back(3).1, NOTHING);
    world.report(3, full(&[2]));
    world.until(4_000);
    assert_eq!(world.tree(), (1, vec![(1, 2), (2, 3)]));
}

#[test]
fn members_are_waited_for_though_the_term_was_forgotten() {
    for term in [7, 9] {
        let mut world = World::new();
        let epoch = Epoch { term: Term(term), counter: 41 };
        let header = Header { epoch, ..held().header };
        let held = SignedHeader::sign(header, &keypair(COORDINATOR));
        for n in [1, 2, 3] {
            let join = Join { held: Some(held), settled: true, ..world.join_request(n, n) };
            world.try_join(n, join).0.unwrap();
            let peers: &[u64] = if n == 2 { &[1, 3] } else { &[2] };
            world.report(n, full(peers));
            world.until(n * 1_000);
        }
        assert_eq!(world.tree(), (42, vec![(1, 2), (2, 3)]), "one tree, of all, after theirs");
    }
}

#[test]
fn who_does_not_come_back_is_awaited_for_a_lease() {
    let mut world = World::new();
    world.come_back(1);
    world.report(1, full(&[2]));
    for at in [5_000, 10_000, 14_999] {
        assert_eq!(world.until(at), NOTHING);
        world.renew(1, true).0.unwrap();
    }
    assert_eq!(world.until(15_000), ["publish 7.1 full"]);
    assert_eq!(world.listed(), [1]);
}

#[test]
fn as_long_as_members_come_back_the_others_are_awaited_but_not_for_ever() {
    let mut world = World::with(Config { resume_ms: 5_000, ..Config::default() });
    for n in 1..=15 {
        world.come_back(n);
        world.report(n, full(&[n + 1]));
        (1..=n).for_each(|n| drop(world.renew(n, true)));
        world.until(n * 4_000 - 1);
        assert_eq!(world.engine.tree(session()), None, "{n} are back");
    }
    assert_eq!(world.until(60_000).first().map(String::as_str), Some("publish 7.1 full"));
}

#[test]
fn who_is_new_is_not_alone_just_after_a_restart() {
    let mut world = World::with(Config { resume_ms: 5_000, ..Config::default() });
    let (joined, rest) = world.join(3);
    assert_eq!((joined.settled, rest), (false, vec!["opened".to_owned()]));
    assert_eq!(world.report(3, full(&[])), NOTHING);
    world.until(2_000);
    world.come_back(1);
    world.report(1, full(&[2]));
    world.until(7_000);
    world.come_back(2);
    world.report(2, full(&[1, 3]));
    world.until(7_100);
    assert_eq!(world.tree(), (1, vec![(1, 2), (2, 3)]));
}

#[test]
fn who_follows_its_neighbours_is_told_them_once_there_is_a_tree() {
    let mut world = World::new();
    world.come_back(1);
    world.report(1, full(&[2]));
    assert_eq!(code(&world.subscribe(1, Scope::Neighbours)), Some(Code::NO_TREE));
    world.come_back(2);
    let told = world.report(2, full(&[1]));
    assert_eq!(told, ["publish 7.1 full", "tell 1 neighbours [2]"]);
}

#[test]
fn who_is_alone_long_after_a_restart_is_appointed_if_nobody_comes() {
    let mut world = World::with(Config { resume_ms: 5_000, ..Config::default() });
    assert!(!world.join(3).0.settled);
    assert_eq!(world.report(3, full(&[])), NOTHING);
    assert_eq!(world.until(5_000), ["publish 7.1 full"]);
    assert_eq!(world.until(7_000), NOTHING);
    assert!(world.renew(3, false).0.unwrap().settled);
    world.until(30_000);
    assert!(world.join(4).0.settled, "the session was new again");
}
