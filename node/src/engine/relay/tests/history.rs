//! History: for members that come late, and for those that were away.

use std::time::Duration;

use arborcast_protocol::{
    edge::{Message, Missing},
    history::History,
    id::{FrameNo, SeqNo},
    numbers::NumberSet,
    testing,
};
use rand::RngExt;

use super::{
    super::Config,
    changes::meet_again,
    edges::{A, B, Scene, entry, flow, summary},
    trees::talk,
    world::{World, random_tree, seeds},
};
use crate::engine::event::Event;

const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// The session of a world gives those who join history.
fn grant(world: &mut World, history: History) {
    for node in world.nodes.values_mut() {
        node.relay.set_history(history, LIFE);
    }
}

/// A member joins at `at` and everybody counts it.
fn join(world: &mut World, node: u64, at: u64, history: History) {
    world.add(node, Config::default());
    world.node(node).relay.set_history(history, LIFE);
    world.link(at, node);
    let all: Vec<u64> = world.nodes.keys().copied().collect();
    world.roster(&all);
}

/// What a node got of another one.
fn got(world: &World, node: u64, source: u64) -> Vec<u64> {
    let got = world.nodes[&node].got.get(&testing::member(source));
    got.into_iter().flatten().map(|seq| seq.0).collect()
}

fn kept(world: &World, node: u64) -> u64 {
    world.nodes[&node].relay.stats().history_bytes
}

#[test]
fn a_late_joiner_gets_as_much_history_as_the_session_grants() {
    for seed in seeds(20) {
        for (history, expected) in [
            (History::None, vec![]),
            (History::from(5), (16..=20).collect()),
            (History::from(1), vec![20]),
            (History::from(100), (1..=20).collect()),
            (History::All, (1..=20).collect()),
        ] {
            let mut world = World::with(seed, 3, &[(0, 1), (1, 2)]);
            grant(&mut world, history);
            for _ in 0..20 {
                world.publish(0, 100);
            }
            world.run(Duration::from_secs(2));
            world.assert_complete(&[0, 1, 2]);
            join(&mut world, 3, 2, history);
            world.run(Duration::from_secs(2));
            assert_eq!(got(&world, 3, 0), expected, "{history}, seed {seed}");
            assert_eq!(world.node(3).lost, [], "{history}, seed {seed}");
            world.publish(0, 100);
            world.run(Duration::from_secs(2));
            assert_eq!(got(&world, 3, 0), [expected.as_slice(), &[21]].concat());
            world.assert_complete(&[1, 2]);
        }
    }
}

#[test]
fn history_takes_no_room_from_what_is_new_while_somebody_holds_all_up() {
    let mut world = World::with(77, 3, &[(0, 1), (1, 2)]);
    grant(&mut world, History::All);
    for _ in 0..40 {
        world.publish(0, 60_000);
        world.run(Duration::from_millis(500));
    }
    world.assert_complete(&[0, 1, 2]);
    // One is out of reach, and as long as it is counted nothing is released anywhere.
    world.cut(1, 2);
    world.add(3, Config::default());
    world.node(3).relay.set_history(History::All, LIFE);
    world.link(1, 3);
    world.roster(&[0, 1, 2, 3]);
    world.run(Duration::from_secs(3));
    assert_eq!(got(&world, 3, 0), (1..=40).collect::<Vec<_>>());
    assert!(world.node(3).relay.stats().store_bytes < 60_000, "it holds history alone");
    for _ in 0..3 {
        world.publish(0, 60_000);
    }
    world.run(Duration::from_secs(3));
    assert_eq!(got(&world, 3, 0), (1..=43).collect::<Vec<_>>(), "what is new comes at once");
    world.roster(&[0, 1, 3]);
    world.run(Duration::from_secs(10));
    world.assert_complete(&[0, 1, 3]);
}

#[test]
fn whoever_joins_while_all_talk_has_everything_from_the_first_message_on() {
    for seed in seeds(40) {
        let mut world = World::new(seed);
        let first = world.rng.random_range(1..5);
        let tree = random_tree(&mut world.rng, first);
        let mut world = World::with(5000 + seed, first, &tree);
        grant(&mut world, History::All);
        let mut n = first;
        for _ in 0..4 {
            talk(&mut world, n, 15);
            let time = world.rng.random_range(0..20_000);
            world.run(Duration::from_micros(time));
            let at = world.rng.random_range(0..n);
            world.add(n, Config::default());
            world.node(n).relay.set_history(History::All, LIFE);
            world.link(at, n);
            n += 1;
            let time = world.rng.random_range(0..20_000);
            world.run(Duration::from_micros(time));
            world.roster(&(0..n).collect::<Vec<_>>());
        }
        talk(&mut world, n, 15);
        world.run(Duration::from_secs(20));
        world.assert_complete(&(0..n).collect::<Vec<_>>());
    }
}

#[test]
fn a_large_message_comes_whole_or_not_at_all() {
    for (history, bytes, expected) in [
        (History::from(3), 4 << 20, vec![2, 3, 4]),
        (History::from(4), 4 << 20, vec![1, 2, 3, 4]),
        (History::All, 4 << 20, vec![1, 2, 3, 4]),
        // Too little for the large one: what is left of it is of no use.
        (History::from(4), 100_000, vec![2, 3, 4]),
        (History::All, 100_000, vec![2, 3, 4]),
    ] {
        let mut world = World::with_past(1, 2, &[(0, 1)], bytes);
        grant(&mut world, history);
        world.publish(0, 300_000);
        for _ in 0..3 {
            world.publish(0, 100);
        }
        world.run(Duration::from_secs(2));
        world.assert_complete(&[0, 1]);
        join(&mut world, 2, 1, history);
        world.run(Duration::from_secs(10));
        assert_eq!(got(&world, 2, 0), expected, "{history} of {bytes} bytes");
        assert_eq!(world.node(2).lost, []);
        world.assert_empty();
    }
}

#[test]
fn members_that_were_away_get_from_history_what_they_missed() {
    for seed in seeds(20) {
        assert!(!meet_again(seed, 4 << 20), "nothing is lost (seed {seed})");
    }
}

#[test]
fn whoever_was_away_gets_what_a_new_source_said_although_it_says_no_more() {
    let mut world = World::with(3, 2, &[(0, 1)]);
    world.run(Duration::from_millis(100));
    world.cut(0, 1);
    world.roster(&[0]);
    world.hear_news();
    join(&mut world, 2, 0, History::None);
    // Member 1 is away and not in the roster of the others.
    world.roster(&[0, 2]);
    world.hear_news();
    for _ in 0..5 {
        world.publish(2, 100);
    }
    world.run(Duration::from_secs(2));
    world.assert_empty();
    world.roster(&[0, 1, 2]);
    world.hear_news();
    world.link(0, 1);
    world.run(Duration::from_secs(5));
    assert_eq!(got(&world, 1, 2), [1, 2, 3, 4, 5]);
    world.assert_complete(&[0, 1]);
}

#[test]
fn what_is_older_than_history_is_reported_lost() {
    for seed in seeds(20) {
        let mut world = World::with_past(seed, 3, &[(0, 1), (1, 2)], 5_000);
        world.publish(0, 100);
        world.run(Duration::from_secs(1));
        world.cut(1, 2);
        world.roster(&[0, 1]);
        world.hear_news();
        for _ in 0..30 {
            world.publish(0, 1_000);
            world.run(Duration::from_millis(50));
        }
        world.run(Duration::from_secs(1));
        world.link(1, 2);
        world.roster(&[0, 1, 2]);
        world.run(Duration::from_secs(20));
        let lost = world.node(2).lost.clone();
        let [Event::Lost { from, to, .. }] = lost.as_slice() else {
            panic!("one loss: {lost:?} (seed {seed})")
        };
        assert_eq!(*from, SeqNo(2));
        let expected: Vec<u64> = (1..=31).filter(|seq| !(from.0..=to.0).contains(seq)).collect();
        assert_eq!(got(&world, 2, 0), expected, "all else came (seed {seed})");
        assert!(expected.len() > 2, "history has something (seed {seed})");
        world.assert_empty();
    }
}

#[test]
fn history_is_bounded_in_bytes_and_holds_no_source_back() {
    const MOST: u64 = 200_000;
    let mut world = World::with_past(4, 3, &[(0, 1), (1, 2)], MOST);
    for node in world.nodes.values_mut() {
        node.relay.set_terms(512 * 1024, 1 << 20);
    }
    for _ in 0..60 {
        world.publish(0, 60_000);
        world.publish(1, 100);
        world.run(Duration::from_millis(20));
        assert!((0..3).all(|node| kept(&world, node) <= MOST));
    }
    world.run(Duration::from_secs(2));
    world.assert_complete(&[0, 1, 2]);
    for node in 0..3 {
        assert!((100_000..=MOST).contains(&kept(&world, node)), "the newest are kept");
        assert_eq!(world.node(node).relay.own_bytes(), 0);
    }
}

#[test]
fn history_is_bounded_in_time() {
    for (life, hours) in [(LIFE, 6), (Duration::from_secs(7200), 2)] {
        let mut world = World::with(5, 2, &[(0, 1)]);
        for node in world.nodes.values_mut() {
            node.relay.set_history(History::All, life);
        }
        world.publish(0, 100);
        world.run(Duration::from_secs(1));
        assert!(kept(&world, 0) > 0 && kept(&world, 1) > 0);
        // Alone, so that time passes quickly.
        world.cut(0, 1);
        let node = world.node(0);
        let past = node.relay.past.due().expect("something is kept");
        let before = past.checked_sub(Duration::from_millis(1)).expect("not at the beginning");
        node.relay.tick(before);
        assert!(node.relay.stats().history_bytes > 0);
        node.relay.tick(past);
        assert_eq!(node.relay.stats().history_bytes, 0);
        let age = past.duration_since(world.now);
        assert!(age <= Duration::from_secs(hours * 3600) && age.as_secs() > hours * 3600 - 10);
    }
}

#[test]
fn what_was_for_one_alone_is_no_history() {
    let mut world = World::with(6, 3, &[(0, 1), (1, 2)]);
    grant(&mut world, History::All);
    world.tree(&[]);
    world.publish_to(0, Some(2), 100);
    world.run(Duration::from_secs(2));
    world.assert_complete(&[0, 1, 2]);
    assert!((0..3).all(|node| kept(&world, node) == 0));
    join(&mut world, 3, 2, History::All);
    world.run(Duration::from_secs(2));
    assert!(world.node(3).got.is_empty() && world.node(3).got_alone.is_empty());
}

#[test]
fn what_those_said_who_have_left_is_history_for_joiners_alone() {
    for (history, expected) in [(History::All, vec![1, 2, 3]), (History::None, vec![])] {
        let mut world = World::with(7, 3, &[(0, 1), (1, 2)]);
        grant(&mut world, history);
        for _ in 0..3 {
            world.publish(2, 100);
        }
        world.run(Duration::from_secs(2));
        world.kill(2);
        world.roster(&[0, 1]);
        world.run(Duration::from_secs(300));
        assert_eq!(kept(&world, 0) > 0, !expected.is_empty());
        join(&mut world, 3, 1, history);
        world.run(Duration::from_secs(2));
        assert_eq!(got(&world, 3, 2), expected);
    }
}

/// A relay between A, who has all, and B, with frames 1 to 3 of source 9 in its history.
fn with_three() -> Scene {
    let mut scene = Scene::active();
    for number in 1..=3 {
        scene.frame(A, number);
    }
    scene.delivered();
    scene.frames(A);
    let now = scene.now;
    let state = scene.relay.flows.get_mut(&flow(9)).expect("has begun");
    let frames = state.release(FrameNo(3), &mut scene.relay.stats).expect("is news");
    scene.relay.keep_past(flow(9), frames, FrameNo(3), now);
    scene
}

#[test]
fn who_does_not_say_that_it_lacks_history_is_not_sent_any() {
    let mut scene = with_three();
    scene.activate(B, 2, true);
    assert_eq!(scene.frames(B), [0; 0], "it does not know the flow");
    scene.frame(A, 4);
    assert_eq!(scene.frames(B), [4]);
    let missing = Missing { flow: flow(9), ranges: vec![(FrameNo(2), FrameNo(3))] };
    for _ in 0..3 {
        scene.wait(Duration::from_secs(1));
        scene.hear(B);
    }
    scene.say(B, summary(true, vec![entry(9, NumberSet::up_to(FrameNo(1)), 1)]));
    assert_eq!(scene.frames(B), [2, 3], "now it says what it lacks");
    for _ in 0..3 {
        scene.wait(Duration::from_secs(1));
        scene.hear(B);
    }
    scene.say(B, Message::Ask(vec![missing]));
    assert_eq!(scene.frames(B), [2, 3], "what is asked for is sent again");
}

#[test]
fn a_summary_says_where_history_begins_and_a_joiner_with_it() {
    for (history, start) in [
        (History::None, None),
        (History::from(2), Some((1, 2))),
        (History::from(9), Some((0, 1))),
        (History::All, Some((0, 1))),
    ] {
        let mut scene = with_three();
        scene.relay.set_history(history, LIFE);
        scene.relay.edge_up(B, testing::member(2), scene.now);
        let told = scene.hear(B).into_iter().find_map(|message| {
            if let Message::Summary(told) = message { Some(told) } else { None }
        });
        let flows = told.expect("a summary comes first").flows;
        let [told] = flows.as_slice() else { panic!("one flow: {flows:?}") };
        assert_eq!((told.released, told.begin), (FrameNo(3), Some(FrameNo(0))));
        let told = told.start.map(|start| (start.after.0, start.first.0));
        assert_eq!(told, start, "{history}");
    }
}

#[test]
fn a_neighbour_that_lies_about_where_to_begin_hides_no_more_than_one_frame() {
    let mut scene = Scene::new();
    scene.relay.settled = false;
    scene.relay.set_history(History::All, LIFE);
    scene.relay.edge_up(A, testing::member(1), scene.now);
    let mut lie = entry(9, NumberSet::up_to(FrameNo(5)), 3);
    lie.begin = Some(FrameNo(0));
    lie.start = Some(arborcast_protocol::edge::Start { after: FrameNo(1), first: SeqNo(u64::MAX) });
    scene.say(A, summary(true, vec![lie]));
    scene.hear(A);
    for number in 2..=6 {
        scene.frame(A, number);
    }
    assert_eq!(scene.delivered(), [3, 4, 5, 6]);
}

#[test]
fn a_hole_in_what_is_released_ends_what_is_below_it() {
    let mut scene = with_three();
    let now = scene.now;
    let frames = |numbers: &[u64]| {
        numbers.iter().map(|number| super::edges::frame_of(9, *number).0).collect()
    };
    scene.relay.keep_past(flow(9), frames(&[5, 6]), FrameNo(6), now);
    assert_eq!(scene.relay.past.begin(&flow(9)), Some(FrameNo(4)));
    scene.relay.keep_past(flow(9), frames(&[7]), FrameNo(8), now);
    assert_eq!(scene.relay.past.begin(&flow(9)), None);
    assert_eq!((scene.relay.past.bytes(), scene.relay.past.due()), (0, None));
}
