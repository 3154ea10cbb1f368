use arborcast_protocol::tree::SignedHeader;

use super::*;

const NOTHING: [&str; 0] = [];

#[test]
fn anybody_is_told_where_any_session_is_coordinated() {
    let mut world = World::new();
    world.engine.set_addresses(vec![address(5)]);
    let here = Contact { member: member(COORDINATOR), addresses: vec![address(5)] };
    let located = Ok(Granted::Located { coordinators: vec![here] });
    let elsewhere = arborcast_protocol::testing::session(9);
    for session in [session(), elsewhere] {
        let (answer, rest) = world.ask(1, Request::Locate { session });
        assert_eq!((answer, rest), (located.clone(), Vec::new()));
    }
    assert_eq!(world.engine.stats().locates, 2);
}

#[test]
fn the_first_member_opens_the_session_is_settled_and_in_the_tree() {
    let mut world = World::new();
    let (joined, rest) = world.join(1);
    assert_eq!(rest, ["opened", "publish 7.1 full"]);
    assert!(joined.settled);
    assert_eq!(joined.candidates, []);
    let coordinator = [member(COORDINATOR)];
    assert_eq!(joined.certificate.verify(session(), member(1), &coordinator), Ok(()));
    assert_eq!(joined.certificate.claim.expires_s, 1_000 + 24 * 60 * 60);
    let terms = joined.terms;
    assert_eq!((terms.now_s, terms.lease_ms, terms.renew_ms), (1_000, 15_000, 7_000));
    assert_eq!((terms.report_ms, terms.message_bytes), (5_000, 16 << 20));
    assert_eq!(terms.store_bytes, 32 << 20);
    assert_eq!(world.tree(), (1, vec![]));
    assert_eq!(world.listed(), [1]);
    let stats = world.engine.stats();
    assert_eq!((stats.sessions, stats.members, stats.joins, stats.epochs), (1, 1, 1, 1));
}

#[test]
fn the_second_member_gets_the_first_as_candidate_and_waits_for_a_channel() {
    let mut world = World::new();
    world.join(1);
    let (joined, rest) = world.join(2);
    assert_eq!(rest, NOTHING);
    assert!(!joined.settled);
    assert_eq!(joined.candidates, [Contact { member: member(1), addresses: vec![address(1)] }]);
    assert_eq!(world.until(4_000), NOTHING);
    assert_eq!(world.listed(), [1]);
    assert_eq!(world.report(2, full(&[1])), ["publish 7.2 change"]);
    assert_eq!(world.tree(), (2, vec![(1, 2)]));
    assert_eq!(world.listed(), [1, 2]);
}

#[test]
fn a_proof_opens_the_door_once() {
    let mut world = World::new();
    let join = world.join_request(1, 1);
    assert!(world.try_join(1, join.clone()).0.is_ok());
    let (again, rest) = world.try_join(1, join);
    assert_eq!((code(&again), rest), (Some(Code::STALE_CHALLENGE), Vec::new()));
    assert_eq!(world.engine.stats().refused(Code::STALE_CHALLENGE), 1);
}

#[test]
fn all_failed_proofs_are_answered_alike() {
    let mut world = World::new();
    let challenge = world.challenge(1);
    let good = Statement {
        session: session(),
        coordinator: member(COORDINATOR),
        member: member(1),
        incarnation: incarnation(1),
        challenge,
    };
    let wrong = [
        // Collected by another coordinator, from another member, for another run or session.
        Statement { coordinator: member(55), ..good },
        Statement { member: member(55), ..good },
        Statement { incarnation: incarnation(55), ..good },
        Statement { session: arborcast_protocol::testing::session(1), ..good },
    ];
    let mut refusals = Vec::new();
    for statement in wrong {
        let mut join = world.join_request(1, 1);
        let challenge = join.admission.challenge();
        join.admission = Statement { challenge, ..statement }.sign(&keypair(ADMISSION));
        refusals.push(world.try_join(1, join).0.unwrap_err());
    }
    // Another key than the session's.
    let mut join = world.join_request(1, 1);
    let challenge = join.admission.challenge();
    join.admission = Statement { challenge, ..good }.sign(&keypair(55));
    refusals.push(world.try_join(1, join).0.unwrap_err());
    // An open session's name that is not this session's.
    let mut join = world.join_request(1, 1);
    let challenge = join.admission.challenge();
    join.admission = Admission::Open { name: "lobby".to_owned(), challenge };
    refusals.push(world.try_join(1, join).0.unwrap_err());
    assert_eq!(refusals.len(), 6);
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]));
    assert_eq!(refusals[0].code, Code::NOT_ADMITTED);
    assert_eq!(world.engine.sessions().count(), 0);
}

#[test]
fn a_challenge_that_is_not_good_any_more_is_to_be_asked_for_anew() {
    let mut world = World::new();
    let mut refusals = Vec::new();
    // A good proof by somebody who did not ask for the challenge.
    let join = world.join_request(1, 1);
    refusals.push(world.try_join(2, join).0.unwrap_err());
    // Of an earlier start of the coordinator, which has forgotten it.
    let join = world.join_request(1, 1);
    refusals.push(World::new().try_join(1, join).0.unwrap_err());
    // Too late.
    let join = world.join_request(1, 1);
    world.until(30_000);
    refusals.push(world.try_join(1, join).0.unwrap_err());
    assert!(refusals.iter().all(|refusal| refusal.code == Code::STALE_CHALLENGE), "{refusals:?}");
}

#[test]
fn of_many_who_come_at_once_those_beyond_the_rate_are_told_when_to_come_again() {
    let mut world = World::with(Config { joins_per_s: 10, join_burst: 3, ..at_once() });
    let ask =
        |world: &mut World, n| world.ask(n, Request::Challenge { session: session() }).0.map(drop);
    let answers: Vec<_> = (0..6).map(|n| ask(&mut world, n)).collect();
    assert!(answers[..3].iter().all(Result::is_ok));
    let waits = answers[3..].iter().map(|answer| answer.clone().unwrap_err());
    for (n, refusal) in (3..).zip(waits) {
        assert_eq!(refusal.code, Code::BUSY);
        world.now_ms = u64::from(refusal.again_ms.unwrap());
        assert!(ask(&mut world, n).is_ok(), "it has its turn when it was told to come");
    }
}

#[test]
fn open_sessions_can_be_closed() {
    let open = |world: &mut World, n| {
        let session = admission::open_session("lobby");
        let (answer, _) = world.ask(n, Request::Challenge { session });
        let Ok(Granted::Challenge { challenge }) = answer else { panic!("{answer:?}") };
        let admission = Admission::Open { name: "lobby".to_owned(), challenge };
        let join = Join { session, admission, ..world.join_request(n, n) };
        world.try_join(n, join)
    };
    let (joined, rest) = open(&mut World::new(), 1);
    assert!(joined.is_ok());
    assert_eq!(rest, ["opened", "publish 7.1 full"]);
    let mut closed = World::with(Config { open_sessions: false, ..at_once() });
    let (refused, rest) = open(&mut closed, 1);
    assert_eq!((code(&refused), rest), (Some(Code::NO_OPEN_SESSIONS), Vec::new()));
    assert_eq!(closed.join(1).1, ["opened", "publish 7.1 full"]);
}

#[test]
fn over_limit_and_contradicting_joins_are_invalid() {
    let mut world = World::new();
    let good = world.join_request(1, 1);
    let many = vec![address(1); limits::ADDRESSES + 1];
    let bad = [
        Join { nick: "x".repeat(limits::NICK + 1), ..good.clone() },
        Join { nick: "a\u{1b}[2J".to_owned(), ..good.clone() },
        Join { fanout: 0, ..good.clone() },
        Join { addresses: many.clone(), ..good.clone() },
        Join { addresses: vec![Address(vec![])], ..good.clone() },
        Join { addresses: vec![Address(vec![0; limits::ADDRESS + 1])], ..good.clone() },
    ];
    for join in bad {
        assert_eq!(code(&world.try_join(1, join).0), Some(Code::INVALID));
    }
    // None of them has used the challenge up.
    assert!(world.try_join(1, good).0.is_ok());
    let renew = Request::Renew {
        session: session(),
        incarnation: incarnation(1),
        addresses: many,
        settled: false,
        push_key: 0,
    };
    assert_eq!(code(&world.ask(1, renew).0), Some(Code::INVALID));
}

#[test]
fn members_and_sessions_are_bounded() {
    let mut world = World::with(Config { members: 2, sessions: 1, ..at_once() });
    world.join(1);
    world.join(2);
    let third = world.join_request(3, 3);
    let (refused, rest) = world.try_join(3, third);
    assert_eq!((code(&refused), rest), (Some(Code::SESSION_FULL), Vec::new()));
    // Those who are in may refresh and restart.
    world.join(2);
    let restart = world.join_request(2, 22);
    assert!(world.try_join(2, restart).0.is_ok());
    let other = admission::open_session("lobby");
    let (answer, _) = world.ask(1, Request::Challenge { session: other });
    let Ok(Granted::Challenge { challenge }) = answer else { panic!("{answer:?}") };
    let admission = Admission::Open { name: "lobby".to_owned(), challenge };
    let join = Join { session: other, admission, ..world.join_request(1, 1) };
    assert_eq!(code(&world.try_join(1, join).0), Some(Code::TOO_MANY_SESSIONS));
}

#[test]
fn joining_again_in_the_same_run_is_a_refresh() {
    let mut world = World::with_members(2, &[(1, 2)]);
    let before = world.tree();
    let (joined, rest) = world.join(2);
    assert_eq!(rest, NOTHING);
    assert!(!joined.settled);
    assert_eq!(world.until(2_000), NOTHING);
    assert_eq!(world.tree(), before);
    let renamed = Join { nick: "new".to_owned(), ..world.join_request(2, 2) };
    assert!(world.try_join(2, renamed).0.is_ok());
    assert_eq!(world.until(3_000), [format!("publish 7.{} change", before.0 + 1)]);
    let stats = world.engine.stats();
    assert_eq!((stats.joins, stats.refreshes, stats.members), (2, 2, 2));
}

#[test]
fn a_new_run_takes_the_place_of_the_old_one() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let (epoch, _) = world.tree();
    let join = world.join_request(2, 22);
    let (joined, rest) = world.try_join(2, join);
    assert!(!joined.unwrap().settled);
    // Its channels were those of the old run: members 1 and 3 are apart until it reports.
    assert_eq!(world.listed(), [1, 3]);
    assert_eq!(world.tree(), (epoch + 1, vec![]));
    assert_eq!(rest.first().map(String::as_str), Some("publish 7.3 change"));
    assert_eq!(code(&world.renew(2, false).0), Some(Code::REPLACED));
    assert_eq!(code(&world.send_report(2, no_report(2)).0), Some(Code::REPLACED));
    let report =
        Report { incarnation: incarnation(22), adjacency: Some(full(&[1, 3])), ..no_report(2) };
    world.until(2_000);
    assert!(world.send_report(2, report).0.is_ok());
    assert_eq!(world.tree(), (epoch + 2, vec![(1, 2), (2, 3)]));
    let (_, tree) = world.engine.tree(session()).unwrap();
    assert_eq!(tree.member(member(2)).map(|own| own.incarnation), Some(incarnation(22)));
}

#[test]
fn who_was_settled_and_shows_a_tree_of_ours_stays_settled() {
    let mut world = World::with_members(1, &[]);
    let Ok(State::Tree(update)) = world.subscribe(1, Scope::Tree) else { panic!("a tree") };
    let ours = update.header;
    let theirs = SignedHeader::sign(ours.header, &keypair(55));
    for (held, is_settled) in [(None, false), (Some(theirs), false), (Some(ours), true)] {
        let join = Join { held, settled: true, ..world.join_request(2, 2) };
        assert_eq!(world.try_join(2, join).0.unwrap().settled, is_settled);
    }
}

#[test]
fn epochs_go_on_above_those_that_members_hold_from_before() {
    let mut world = World::new();
    let hash = arborcast_protocol::id::Digest::from_bytes([0; 32]);
    let epoch = Epoch { term: Term(7), counter: 41 };
    let header = arborcast_protocol::tree::Header { session: session(), epoch, hash };
    let held = Some(SignedHeader::sign(header, &keypair(COORDINATOR)));
    let join = Join { held, ..world.join_request(1, 1) };
    let (joined, rest) = world.try_join(1, join);
    assert!(joined.is_ok());
    // Others may have held that tree, too, until the member says that it knows of none.
    assert_eq!(rest, ["opened"]);
    assert_eq!(world.report(1, full(&[])), ["publish 7.42 full"]);
}

#[test]
fn requests_above_the_rate_are_refused_for_that_peer_alone() {
    let mut world = World::new();
    world.join(1);
    let answers: Vec<_> = (0..250).map(|_| world.renew(1, false).0).collect();
    let refused = answers.iter().filter(|answer| code(answer) == Some(Code::RATE_LIMITED)).count();
    assert_eq!(refused, 250 - (200 - 2), "a burst of 200, less challenge and join");
    assert_eq!(code(&world.send_report(1, no_report(1)).0), Some(Code::RATE_LIMITED));
    let query = path::Request::Query { session: session(), scope: Scope::Tree };
    assert_eq!(code(&world.path(1, query).0), Some(Code::RATE_LIMITED));
    assert!(world.join(2).1.is_empty());
    world.until(1_000);
    assert!(world.renew(1, false).0.is_ok());
}
