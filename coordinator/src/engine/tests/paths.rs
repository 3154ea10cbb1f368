use super::*;

const NOTHING: [&str; 0] = [];

fn query(scope: Scope) -> path::Request {
    path::Request::Query { session: session(), scope }
}

fn names(world: &World, neighbours: &Neighbours) -> Vec<u64> {
    let mut names: Vec<u64> = neighbours.neighbours.iter().map(|m| world.name(m.id)).collect();
    names.sort_unstable();
    names
}

fn neighbours(answer: path::Answer) -> Neighbours {
    let Ok(State::Neighbours(neighbours)) = answer else { panic!("{answer:?}") };
    *neighbours
}

fn update(answer: path::Answer) -> Update {
    let Ok(State::Tree(update)) = answer else { panic!("{answer:?}") };
    *update
}

#[test]
fn r4_query_is_answered_from_the_newest_tree() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let (answer, rest) = world.path(2, query(Scope::Neighbours));
    assert_eq!(rest, NOTHING);
    let own = neighbours(answer);
    assert_eq!(names(&world, &own), [1, 3]);
    assert_eq!(own.roster_len, 3);
    let (_, tree) = world.engine.tree(session()).unwrap();
    assert_eq!(own.header.header.hash, tree.hash());
    assert_eq!(own.roster_hash, tree.roster_hash(member(2)));
    let place = tree.roster(member(2)).position(|other| other.id == member(2));
    assert_eq!(own.roster_index.map(|index| index as usize), place);
    // No subscription came of it, and the next answer is from the next tree.
    assert_eq!(world.report(3, up(&[1])), NOTHING);
    assert_eq!(world.report(3, down(&[2])), ["publish 7.3 change"]);
    let own = neighbours(world.path(2, query(Scope::Neighbours)).0);
    assert_eq!(names(&world, &own), [1]);
    assert_eq!(own.header.header.epoch.counter, 3);
}

#[test]
fn r4_query_for_the_whole_tree_brings_it_signed() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let update = update(world.path(1, query(Scope::Tree)).0);
    assert!(update.header.verify(session(), &[member(COORDINATOR)]));
    let Body::Full(tree) = update.body else { panic!("the whole tree") };
    assert_eq!(tree.hash(), update.header.header.hash);
    assert_eq!(tree.edges().len(), 2);
}

#[test]
fn only_members_are_answered_also_those_not_in_the_tree_yet() {
    let mut world = World::with_members(2, &[(1, 2)]);
    assert_eq!(code(&world.path(3, query(Scope::Tree)).0), Some(Code::NOT_MEMBER));
    assert_eq!(code(&world.subscribe(3, Scope::Neighbours)), Some(Code::NOT_MEMBER));
    let session = arborcast_protocol::testing::session(1);
    let elsewhere = path::Request::Query { session, scope: Scope::Tree };
    assert_eq!(code(&world.path(1, elsewhere).0), Some(Code::NOT_MEMBER));
    world.join(3);
    let own = neighbours(world.subscribe(3, Scope::Neighbours));
    assert_eq!((own.neighbours.len(), own.roster_len, own.roster_index), (0, 0, None));
    assert_eq!(world.report(3, full(&[2])), ["publish 7.3 change", "tell 3 neighbours [2]"]);
}

#[test]
fn r5_subscribing_brings_the_newest_state_at_once() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let whole = update(world.subscribe(1, Scope::Tree));
    assert!(matches!(whole.body, Body::Full(_)));
    let own = neighbours(world.subscribe(1, Scope::Neighbours));
    assert_eq!(names(&world, &own), [2]);
    assert_eq!(own.header, whole.header);
    assert_eq!(world.engine.stats().subscribes, 2);
}

#[test]
fn r6_followers_of_their_neighbours_are_told_when_those_change() {
    let mut world = World::with_members(4, &[(1, 2), (2, 3), (3, 4), (1, 4)]);
    assert_eq!(world.tree().1.len(), 3);
    for n in 1..=3 {
        neighbours(world.subscribe(n, Scope::Neighbours));
    }
    // Member 4 follows the whole tree: gossip alone.
    update(world.subscribe(4, Scope::Tree));
    let (epoch, edges) = world.tree();
    let missing = [(1, 2), (2, 3), (3, 4), (1, 4)].into_iter().find(|e| !edges.contains(e));
    let (a, b) = edges[0];
    let rest = world.report(a, down(&[b]));
    assert_eq!(rest[0], format!("publish 7.{} change", epoch + 1));
    let (now_in, gone) = (missing.unwrap(), (a, b));
    let mut concerned = vec![now_in.0, now_in.1, gone.0, gone.1];
    concerned.sort_unstable();
    concerned.dedup();
    concerned.retain(|n| *n != 4);
    let told: Vec<u64> = (1..=4)
        .filter(|n| rest.iter().any(|line| line.starts_with(&format!("tell {n} neighbours"))))
        .collect();
    assert_eq!(told, concerned);
    assert_eq!(rest.len(), 1 + told.len());
}

#[test]
fn r6_all_followers_are_told_when_the_roster_changes() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    for n in [1, 2] {
        neighbours(world.subscribe(n, Scope::Neighbours));
    }
    world.join(4);
    let rest = world.report(4, full(&[3]));
    let mut told: Vec<&str> = rest.iter().map(String::as_str).collect();
    told.sort_unstable();
    assert_eq!(told, ["publish 7.3 change", "tell 1 neighbours [2]", "tell 2 neighbours [1 3]"]);
    let (answer, _) = world.path(1, path::Request::Unsubscribe { session: session() });
    assert_eq!(answer, Ok(State::Unsubscribed));
    world.until(2_000);
    assert_eq!(world.leave(4), ["publish 7.4 change", "tell 2 neighbours [1 3]"]);
}

#[test]
fn r6_a_lost_notice_is_made_up_for_when_the_member_shows_up() {
    let mut world = World::with_members(2, &[(1, 2)]);
    neighbours(world.subscribe(1, Scope::Neighbours));
    let lost = Input::NoticeFailed { to: member(1), session: session() };
    assert_eq!(world.handle(lost.clone()), []);
    assert_eq!(world.renew(1, true).1, ["tell 1 neighbours [2]"]);
    assert_eq!(world.renew(1, true).1, NOTHING);
    let lost_on_2 = Input::NoticeFailed { to: member(2), session: session() };
    assert_eq!(world.handle(lost_on_2), []);
    assert_eq!(world.renew(2, true).1, NOTHING);
    assert_eq!(world.engine.stats().notices_failed, 2);
}

#[test]
fn pushed_changes_apply_to_the_tree_before() {
    let mut world = World::new();
    let mut held: Option<(Epoch, Tree)> = None;
    let mut follow = |outputs: &[Output]| {
        for output in outputs {
            let Output::Publish { update, .. } = output else { continue };
            let epoch = update.header.header.epoch;
            let tree = match (&update.body, &held) {
                (Body::Full(tree), _) => (**tree).clone(),
                (Body::Change(change), Some((base, tree))) => tree.apply(*base, change).unwrap(),
                (Body::Change(_) | Body::Fetch, _) => panic!("{update:?}"),
            };
            assert_eq!(tree.hash(), update.header.header.hash);
            held = Some((epoch, tree));
        }
    };
    let request = RequestId(0);
    for n in 1..=4 {
        let join = Box::new(world.join_request(n, n));
        let body = Request::Join(join);
        follow(&world.handle(Input::Session { from: member(n), request, body }));
        let peers: Vec<u64> = (1..n).collect();
        let body = Report { adjacency: Some(full(&peers)), ..no_report(n) };
        world.now_ms += 300;
        follow(&world.handle(Input::Report { from: member(n), request, body }));
    }
    let body = Request::Leave { session: session(), incarnation: incarnation(1) };
    world.now_ms += 300;
    follow(&world.handle(Input::Session { from: member(1), request, body }));
    let (epoch, tree) = world.engine.tree(session()).unwrap();
    assert_eq!(held, Some((epoch, tree.clone())));
    assert_eq!(tree.members().len(), 3);
}
