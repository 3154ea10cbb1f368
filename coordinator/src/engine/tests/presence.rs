use super::*;

const NOTHING: [&str; 0] = [];

/// Lets all of `members` renew every four seconds up to `end_ms`; what came out meanwhile.
fn keep_alive(world: &mut World, members: &[u64], end_ms: u64) -> Vec<String> {
    let mut seen = Vec::new();
    while world.now_ms < end_ms {
        for n in members {
            seen.extend(world.renew(*n, *n == 1).1);
        }
        let next = (world.now_ms + 4_000).min(end_ms);
        seen.extend(world.until(next));
    }
    seen
}

#[test]
fn who_does_not_renew_is_dropped_when_the_lease_ends() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    for n in [1, 2] {
        let (renewed, rest) = world.renew(n, false);
        assert_eq!(renewed.unwrap().now_s, 1_001);
        assert_eq!(rest, NOTHING);
    }
    assert_eq!(world.until(14_999), NOTHING);
    assert_eq!(world.until(15_000), ["tell 3 removed: 6", "publish 7.3 change"]);
    assert_eq!(world.listed(), [1, 2]);
    assert_eq!(code(&world.renew(3, false).0), Some(Code::NOT_MEMBER));
    let mut end = world.until(16_000);
    end.sort_unstable();
    assert_eq!(end, ["closed", "tell 1 removed: 6", "tell 2 removed: 6"]);
    assert_eq!(world.engine.poll_timeout(), None);
    let stats = world.engine.stats();
    assert_eq!((stats.sessions, stats.members, stats.expired), (0, 0, 3));
}

#[test]
fn who_leaves_is_out_at_once_and_the_last_one_closes_the_session() {
    let mut world = World::with_members(2, &[(1, 2)]);
    assert_eq!(world.leave(2), ["publish 7.3 change"]);
    assert_eq!(world.listed(), [1]);
    let again = Request::Leave { session: session(), incarnation: incarnation(2) };
    assert_eq!(code(&world.ask(2, again).0), Some(Code::NOT_MEMBER));
    let other_run = Request::Leave { session: session(), incarnation: incarnation(9) };
    assert_eq!(code(&world.ask(1, other_run).0), Some(Code::REPLACED));
    assert_eq!(world.leave(1), ["closed"]);
    assert_eq!(world.engine.tree(session()), None);
    assert_eq!(world.engine.member_count(session()), 0);
    assert_eq!(world.engine.poll_timeout(), None);
}

#[test]
fn epochs_do_not_fall_when_a_session_comes_back() {
    let mut world = World::with_members(2, &[(1, 2)]);
    assert_eq!(world.tree().0, 2);
    world.leave(2);
    world.leave(1);
    assert_eq!(world.join(1).1, ["opened", "publish 7.4 full"]);
}

#[test]
fn who_has_neither_connection_nor_channels_is_dropped_after_two_seconds() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    assert_eq!(world.report(2, down(&[3])).first().unwrap(), "publish 7.3 change");
    world.until(2_000);
    assert_eq!(world.handle(Input::Disconnected { peer: member(3) }), []);
    assert_eq!(world.until(3_999), NOTHING);
    assert_eq!(world.until(4_000), ["publish 7.4 change"]);
    assert_eq!(world.listed(), [1, 2]);
    assert_eq!(world.engine.stats().dead, 1);
}

#[test]
fn a_lost_connection_alone_or_lost_channels_alone_are_no_death() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    world.handle(Input::Disconnected { peer: member(1) });
    world.report(2, down(&[3]));
    world.until(9_000);
    assert_eq!(world.engine.member_count(session()), 3);
    // The connection goes too, but comes back in time.
    world.handle(Input::Disconnected { peer: member(3) });
    world.until(10_900);
    assert!(world.renew(3, false).0.is_ok());
    world.until(14_000);
    assert_eq!(world.engine.member_count(session()), 3);
}

#[test]
fn a_member_without_channels_ever_may_lose_its_connection_for_a_moment() {
    let mut world = World::with_members(2, &[]);
    world.handle(Input::Disconnected { peer: member(1) });
    world.handle(Input::Disconnected { peer: member(2) });
    world.until(14_000);
    assert_eq!(world.engine.member_count(session()), 2);
}

#[test]
fn certificates_are_renewed_in_their_last_third() {
    let config = Config { certificate_life_s: 30, ..at_once() };
    let mut world = World::configured(config, 1, &[]);
    let mut renewed_at = Vec::new();
    for s in (5..60).step_by(5) {
        world.until(s * 1_000);
        if let Some(certificate) = world.renew(1, true).0.unwrap().certificate {
            let coordinator = [member(COORDINATOR)];
            assert_eq!(certificate.verify(session(), member(1), &coordinator), Ok(()));
            assert_eq!(certificate.claim.expires_s, 1_000 + s + 30);
            renewed_at.push(s);
        }
    }
    assert_eq!(renewed_at, [25, 50]);
}

#[test]
fn a_part_without_settled_members_is_given_one_and_told_until_it_knows() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    // The settled first member goes; 2 is the older one of those left.
    world.leave(1);
    world.until(2_900);
    assert!(!world.renew(2, false).0.unwrap().settled);
    world.until(3_100);
    assert!(!world.renew(3, false).0.unwrap().settled);
    assert!(world.renew(2, false).0.unwrap().settled);
    assert!(world.renew(2, false).0.unwrap().settled);
    assert!(!world.renew(2, true).0.unwrap().settled);
    assert_eq!(world.engine.stats().appointed, 1);
}

#[test]
fn nobody_is_appointed_where_somebody_is_settled() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    world.leave(1);
    let (answer, _) = world.send_report(3, Report { settled: true, ..no_report(3) });
    assert!(answer.is_ok());
    world.until(10_000);
    assert!(!world.renew(2, false).0.unwrap().settled);
    assert_eq!(world.engine.stats().appointed, 0);
}

#[test]
fn parts_out_of_reach_are_told_of_each_other_and_become_groups_after_a_while() {
    let mut world = World::with_members(4, &[(1, 2), (2, 3), (3, 4)]);
    let split = world.report(3, down(&[2]));
    assert_eq!(split.first().unwrap(), "publish 7.3 change");
    // The candidates of the join are too fresh for more.
    assert_eq!(split.len(), 1);
    let seen = keep_alive(&mut world, &[1, 2, 3, 4], 12_000);
    let told = seen.iter().filter(|line| line.contains("candidates")).count();
    assert!(told >= 4, "{seen:?}");
    let groups = |world: &World| {
        let (_, tree) = world.engine.tree(session()).unwrap();
        [1, 2, 3, 4].map(|n| tree.member(member(n)).map_or(99, |own| own.group))
    };
    keep_alive(&mut world, &[1, 2, 3, 4], 30_900);
    assert_eq!(groups(&world), [0; 4]);
    keep_alive(&mut world, &[1, 2, 3, 4], 31_300);
    assert_eq!(groups(&world), [0, 0, 1, 1]);
    assert!(world.report(4, up(&[1])).first().is_some_and(|line| line.starts_with("publish")));
    assert_eq!(groups(&world), [0; 4]);
}

#[test]
fn members_with_few_channels_are_handed_candidates_when_they_renew() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    assert_eq!(world.renew(1, false).0.unwrap().candidates, []);
    world.until(6_000);
    let third = Contact { member: member(3), addresses: vec![address(3)] };
    assert_eq!(world.renew(1, false).0.unwrap().candidates, [third]);
    assert_eq!(world.renew(1, false).0.unwrap().candidates, []);
    assert_eq!(world.renew(2, false).0.unwrap().candidates, []);
}

#[test]
fn a_joiner_that_gets_no_channel_is_brought_together_with_others() {
    let mut world = World::with_members(2, &[(1, 2)]);
    world.join(3);
    let mut seen = world.until(5_999);
    assert_eq!(seen, NOTHING);
    seen = world.until(6_000);
    seen.extend(world.until(10_500));
    assert!(seen.iter().any(|line| line == "tell 3 candidates [1 2]"), "{seen:?}");
    assert!(seen.iter().any(|line| line == "tell 1 candidates [3]"), "{seen:?}");
}
