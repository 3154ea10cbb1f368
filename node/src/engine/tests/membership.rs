//! Being let in, staying, and coordinators that come and go.

use super::*;

#[test]
fn r1_r5_r12_a_member_that_knows_nothing_joins_subscribes_and_reports_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.engine.poll_timeout(), None);
    let outputs = bench.give(Input::CoordinatorUp);
    assert_eq!(
        outputs,
        [Output::SessionRequest {
            request: RequestId(1),
            body: Request::Challenge { session: session() }
        }]
    );
    let outputs = bench.session(RequestId(1), Ok(challenge_granted()));
    let (request, body) = session_request(&outputs);
    assert_eq!(outputs.len(), 1);
    let Request::Join(join) = body else { panic!("no join: {body:?}") };
    let Join {
        session: of, incarnation, admission, nick, fanout, addresses, held, settled, ..
    } = *join;
    assert_eq!((of, incarnation), (session(), testing::incarnation(1)));
    assert!(admission.is_open());
    assert_eq!((nick.as_str(), fanout), ("ann", 8));
    assert_eq!((addresses, held, settled), (vec![], None, false));

    let answer = joined(true, vec![contact(high(0)), contact(me())]);
    let outputs = bench.session(request, Ok(Granted::Joined(answer.clone())));
    assert_eq!(
        outputs,
        [
            Output::Event(Event::Admitted(answer)),
            Output::Dial(contact(high(0))),
            Output::PathRequest {
                request: RequestId(3),
                body: PathRequest::Subscribe { session: session(), scope: Scope::Tree },
            },
            Output::ReportRequest {
                request: RequestId(4),
                body: Box::new(Report {
                    session: session(),
                    incarnation: testing::incarnation(1),
                    adjacency: Some(arborcast_protocol::report::Adjacency::Full(vec![])),
                    qos: vec![],
                    held: None,
                    carrying: vec![],
                    settled: true,
                    silent: vec![],
                    slow: vec![],
                }),
            },
        ]
    );
    assert_eq!(bench.engine.phase(), Phase::Member);
}

#[test]
fn a_member_of_a_private_session_proves_it() {
    let secret = arborcast_protocol::keys::Secret::from_bytes([9; 32]);
    let access = Access::Private(secret);
    let of = access.session();
    let now = start();
    let incarnation = testing::incarnation(1);
    let identity = Identity { member: me(), incarnation, nick: String::new() };
    let coordinator = testing::coordinator();
    let engine = Engine::new(Config::default(), identity, access, coordinator, [0; 32], now);
    let mut bench = Bench { engine, now, edges: 0 };
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let (_, Request::Join(join)) = session_request(&outputs) else { panic!("no join") };
    let statement = arborcast_protocol::admission::Statement {
        session: of,
        coordinator,
        member: me(),
        incarnation,
        challenge: arborcast_protocol::id::Challenge::from_bytes([3; 32]),
    };
    assert_eq!(join.admission.verify(&statement), Ok(()));
}

#[test]
fn refusals_of_a_join_end_it() {
    for code in [
        Code::NOT_ADMITTED,
        Code::NO_OPEN_SESSIONS,
        Code::SESSION_FULL,
        Code::TOO_MANY_SESSIONS,
        Code::REPLACED,
        Code::NOT_COORDINATOR,
        Code::INVALID,
    ] {
        let mut bench = Bench::new();
        let outputs = bench.give(Input::CoordinatorUp);
        let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
        let refusal = Refusal::new(code, "no");
        let outputs = bench.session(session_request(&outputs).0, Err(refusal.clone()));
        assert_eq!(outputs, [Output::Event(Event::Refused(refusal))]);
        assert_eq!(bench.engine.phase(), Phase::Ended);
        assert_eq!(bench.engine.poll_timeout(), None);
        assert_eq!(bench.give(Input::CoordinatorUp), []);
        assert_eq!(bench.channel(high(0)), []);
        assert!(!bench.engine.may_publish());
        assert_eq!(bench.give(Input::Leave), [Output::Event(Event::Ended)]);
        assert_eq!(bench.give(Input::Leave), []);
    }
}

#[test]
fn a_join_that_comes_too_soon_is_tried_again_with_growing_waits() {
    let mut bench = Bench::new();
    let mut outputs = bench.give(Input::CoordinatorUp);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (request, body) = session_request(&outputs);
        assert_eq!(body, Request::Challenge { session: session() });
        assert_eq!(bench.session(request, Err(Refusal::new(Code::RATE_LIMITED, "slow"))), []);
        let at = bench.engine.poll_timeout().expect("it tries again");
        waits.push(at - bench.now);
        outputs = bench.wait(at - bench.now);
    }
    assert!(waits[0] >= ms(100) && waits[0] <= ms(200), "{waits:?}");
    assert!(waits[3] >= ms(800) && waits[3] <= ms(1600), "{waits:?}");
    assert!(waits[7] >= ms(2500) && waits[7] <= ms(5000), "{waits:?}");
}

#[test]
fn who_is_told_when_to_come_again_comes_then() {
    let mut bench = Bench::new();
    let mut outputs = bench.give(Input::CoordinatorUp);
    for _ in 0..5 {
        let (request, _) = session_request(&outputs);
        let busy = Refusal { again_ms: Some(4_000), ..Refusal::new(Code::BUSY, "others first") };
        assert_eq!(bench.session(request, Err(busy.clone())), []);
        assert_eq!(bench.engine.put_off(), Some(&busy));
        let wait = bench.engine.poll_timeout().expect("it tries again") - bench.now;
        assert!(wait >= ms(4_000) && wait <= ms(5_000), "{wait:?}");
        outputs = bench.wait(wait);
    }
    // A challenge that is none any more is asked for anew.
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let refusal = Refusal::new(Code::STALE_CHALLENGE, "too old");
    assert_eq!(bench.session(session_request(&outputs).0, Err(refusal)), []);
    let wait = bench.engine.poll_timeout().expect("it tries again") - bench.now;
    let (_, body) = session_request(&bench.wait(wait));
    assert_eq!(body, Request::Challenge { session: session() });
}

#[test]
fn who_was_in_waits_for_room_and_ends_only_if_it_is_not_allowed_in() {
    for (code, ends) in [
        (Code::SESSION_FULL, false),
        (Code::TOO_MANY_SESSIONS, false),
        (Code::NOT_COORDINATOR, false),
        (Code::STALE_CHALLENGE, false),
        (Code::BUSY, false),
        (Code(77), false),
        (Code::NOT_ADMITTED, true),
        (Code::NO_OPEN_SESSIONS, true),
        (Code::REPLACED, true),
    ] {
        let mut bench = Bench::member();
        bench.wait(Duration::from_secs(2));
        let (renewal, _) = session_request(&bench.wait(RENEW));
        let outputs = bench.session(renewal, Err(Refusal::new(Code::NOT_MEMBER, "who?")));
        let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
        bench.session(session_request(&outputs).0, Err(Refusal::new(code, "no")));
        let phase = if ends { Phase::Ended } else { Phase::Joining };
        assert_eq!(bench.engine.phase(), phase, "{code:?}");
    }
}

#[test]
fn a_coordinator_that_does_not_answer_is_lost_once_and_back_once() {
    let mut bench = Bench::new();
    let mut outputs = bench.give(Input::CoordinatorUp);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let request = session_request(&outputs).0;
        let answer = Err(Unanswered("silence".to_owned()));
        seen.extend(bench.give(Input::SessionAnswer { request, answer }));
        outputs = bench.wait(ms(5000));
    }
    assert_eq!(
        seen,
        [Output::Event(Event::CoordinatorLost(Unanswered("silence".to_owned()).into()))]
    );
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    assert_eq!(events(&outputs), [Event::CoordinatorBack]);
    assert_eq!(bench.engine.stats().control.unanswered, 6);
}

#[test]
fn renewals_go_on_and_bring_certificates_candidates_and_settledness() {
    let mut bench = Bench::new();
    bench.join(joined(false, Vec::new()));
    let outputs = bench.wait(RENEW);
    let (request, body) = session_request(&outputs);
    assert_eq!(
        body,
        Request::Renew {
            session: session(),
            incarnation: testing::incarnation(1),
            addresses: vec![],
            settled: false,
            push_key: 0,
        }
    );
    let certificate = testing::certificate(session(), me(), testing::incarnation(1));
    let renewed = Renewed {
        certificate: Some(certificate),
        settled: true,
        candidates: vec![contact(low(0))],
        now_s: 5,
        epoch: None,
        push_key: None,
        measure: Vec::new(),
    };
    let outputs = bench.session(request, Ok(Granted::Renewed(Box::new(renewed))));
    assert_eq!(
        outputs,
        [Output::Event(Event::Recertified(Box::new(certificate))), Output::Dial(contact(low(0))),]
    );
    // The next one says it, in its turn and no earlier.
    assert_eq!(bench.wait(ms(4499)), []);
    let outputs = bench.wait(ms(501));
    let (_, Request::Renew { settled, .. }) = session_request(&outputs) else {
        panic!("no renewal")
    };
    assert!(settled);
}

#[test]
fn new_addresses_are_told_at_once_but_not_one_by_one() {
    let mut bench = Bench::member();
    bench.wait(ms(1000));
    let address = |n: u8| vec![Address(vec![n])];
    let (request, body) = session_request(&bench.give(Input::Addresses(address(1))));
    let Request::Renew { addresses, .. } = body else { panic!("no renewal") };
    assert_eq!(addresses, address(1));
    let renewed = nothing_new();
    assert_eq!(bench.session(request, Ok(Granted::Renewed(Box::new(renewed)))), []);
    assert_eq!(bench.give(Input::Addresses(address(1))), [], "nothing new");
    assert_eq!(bench.give(Input::Addresses(address(2))), []);
    assert_eq!(bench.give(Input::Addresses(address(3))), []);
    assert_eq!(bench.wait(ms(199)), []);
    let outputs = bench.wait(ms(1));
    let (_, Request::Renew { addresses, .. }) = session_request(&outputs) else {
        panic!("no renewal")
    };
    assert_eq!(addresses, address(3));
}

#[test]
fn a_forgotten_member_joins_again_and_shows_the_tree_it_holds() {
    let star = star(&[high(0)]);
    let mut bench = Bench::in_tree(&star);
    bench.wait(ms(2000));
    let outputs = bench.wait(ms(3000));
    let (renewal, _) = session_request(&outputs);
    let outputs = bench.session(renewal, Err(Refusal::new(Code::NOT_MEMBER, "who?")));
    let (challenge, body) = session_request(&outputs);
    assert_eq!(body, Request::Challenge { session: session() });
    assert_eq!(bench.engine.phase(), Phase::Joining);
    let outputs = bench.session(challenge, Ok(challenge_granted()));
    let (join, Request::Join(body)) = session_request(&outputs) else { panic!("no join") };
    assert_eq!(body.held, Some(signed(1, &star)));
    assert_eq!(body.incarnation, testing::incarnation(1));
    assert!(body.settled);
    let outputs = bench.session(join, Ok(Granted::Joined(joined(false, vec![]))));
    let mut requests = path_requests(&outputs);
    // All others are forgotten at the same moment.
    requests.extend(path_requests(&bench.wait(ms(1_000))));
    assert!(matches!(
        requests.as_slice(),
        [(_, PathRequest::Subscribe { scope: Scope::Tree, .. })]
    ));
    assert_eq!(report_request(&outputs).1.held, Some(signed(1, &star)));
    assert_eq!(bench.engine.tree().map(|(epoch, _)| epoch), Some(epoch(1)));
}

#[test]
fn a_member_forgotten_right_after_joining_does_not_spin() {
    let mut bench = Bench::new();
    let outputs = bench.give(Input::CoordinatorUp);
    let outputs = bench.session(session_request(&outputs).0, Ok(challenge_granted()));
    let outputs =
        bench.session(session_request(&outputs).0, Ok(Granted::Joined(joined(true, vec![]))));
    let (report, _) = report_request(&outputs);
    let refused = Ok(Err(Refusal::new(Code::NOT_MEMBER, "who?")));
    assert_eq!(bench.give(Input::ReportAnswer { request: report, answer: refused }), []);
    assert!(bench.engine.poll_timeout().expect("it tries again") >= bench.now + ms(100));
}

#[test]
fn a_replaced_member_stops() {
    let mut bench = Bench::member();
    let (renewal, _) = session_request(&bench.wait(RENEW));
    let refusal = Refusal::new(Code::REPLACED, "another one");
    assert_eq!(
        bench.session(renewal, Err(refusal.clone())),
        [Output::Event(Event::Refused(refusal))]
    );
}

#[test]
fn a_removed_member_closes_its_edges_and_stops() {
    let mut bench = Bench::in_tree(&star(&[high(0)]));
    bench.channel(high(0));
    let (edge, _) = bench.edge(high(0), epoch(1));
    let refusal = Refusal::new(Code(77), "detached: too slow");
    let notice = arborcast_protocol::notice::Notice {
        session: session(),
        news: arborcast_protocol::notice::News::Removed(refusal.clone()),
    };
    assert_eq!(
        bench.give(Input::Notice(Box::new(notice))),
        [Output::CloseEdge { edge }, Output::Event(Event::Refused(refusal))]
    );
    assert_eq!(bench.engine.poll_timeout(), None);
}

#[test]
fn a_notice_for_another_session_changes_nothing() {
    let mut bench = Bench::member();
    let notice = arborcast_protocol::notice::Notice {
        session: testing::session(1),
        news: arborcast_protocol::notice::News::Removed(Refusal::new(Code(77), "no")),
    };
    assert_eq!(bench.give(Input::Notice(Box::new(notice))), []);
    assert_eq!(bench.engine.phase(), Phase::Member);
}

#[test]
fn a_lost_connection_pauses_requests_and_its_return_subscribes_again() {
    let mut bench = Bench::member();
    let outputs = bench.give(Input::CoordinatorDown);
    assert!(matches!(outputs.as_slice(), [Output::Event(Event::CoordinatorLost(_))]));
    assert_eq!(bench.give(Input::CoordinatorDown), []);
    assert_eq!(bench.wait(Duration::from_secs(100)), []);
    let outputs = bench.give(Input::CoordinatorUp);
    let (renewal, Request::Renew { .. }) = session_request(&outputs) else { panic!("no renewal") };
    assert!(matches!(path_requests(&outputs).as_slice(), [(_, PathRequest::Subscribe { .. })]));
    assert_eq!(outputs.len(), 2);
    let renewed = nothing_new();
    assert_eq!(
        bench.session(renewal, Ok(Granted::Renewed(Box::new(renewed)))),
        [Output::Event(Event::CoordinatorBack)]
    );
}

#[test]
fn answers_that_nobody_waits_for_are_ignored() {
    let mut bench = Bench::member();
    for request in [RequestId(0), RequestId(1), RequestId(99)] {
        assert_eq!(bench.session(request, Ok(Granted::Left)), []);
        assert_eq!(bench.session(request, Err(Refusal::new(Code::REPLACED, ""))), []);
        assert_eq!(bench.accept(request), []);
        assert_eq!(bench.path(request, State::Unsubscribed), []);
    }
    assert_eq!(bench.engine.phase(), Phase::Member);
}

#[test]
fn a_detached_member_says_so_and_comes_back_in_the_same_run() {
    let mut bench = Bench::in_tree(&star(&[high(0)]));
    let refusal = Refusal::new(Code::DETACHED, "detached for a test");
    let notice = arborcast_protocol::notice::Notice {
        session: session(),
        news: arborcast_protocol::notice::News::Removed(refusal.clone()),
    };
    let outputs = bench.give(Input::Notice(Box::new(notice.clone())));
    assert_eq!(outputs, [Output::Event(Event::Detached(refusal))]);
    assert_eq!(bench.give(Input::Notice(Box::new(notice))), [], "once");
    assert_eq!(bench.engine.phase(), Phase::Joining);
    let early = bench.wait(Duration::from_millis(999));
    assert!(early.iter().all(|output| !matches!(output, Output::SessionRequest { .. })));
    let outputs = bench.wait(Duration::from_millis(1_001));
    let (request, Request::Challenge { .. }) = session_request(&outputs) else {
        panic!("it does not ask to come back")
    };
    let challenge = arborcast_protocol::id::Challenge::from_bytes([5; 32]);
    let outputs = bench.session(request, Ok(Granted::Challenge { challenge }));
    let (_, Request::Join(join)) = session_request(&outputs) else { panic!("no join") };
    assert_eq!(join.incarnation, testing::incarnation(1));
    assert!(join.settled && join.held.is_some(), "it keeps its floors");
}

#[test]
fn a_member_that_was_dropped_joins_again_at_once() {
    let mut bench = Bench::member();
    bench.wait(Duration::from_secs(2));
    let notice = arborcast_protocol::notice::Notice {
        session: session(),
        news: arborcast_protocol::notice::News::Removed(Refusal::new(Code::NOT_MEMBER, "late")),
    };
    let outputs = bench.give(Input::Notice(Box::new(notice)));
    assert!(matches!(session_request(&outputs), (_, Request::Challenge { .. })));
}
