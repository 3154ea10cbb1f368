//! Who has a message and who has not.

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::{
    edge::{Have, Inquire, Message, Receipts},
    id::{Digest, FrameNo, MemberId, SeqNo},
    testing,
};

use super::{
    super::Roster,
    edges::{A, B, Scene, frame_of},
    world::{World, random_tree, seeds},
};
use crate::engine::event::{ConfirmId, Event};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Members 0 to 4 in a row, all of which have heard of each other.
fn row(seed: u64) -> World {
    let mut world = World::with(seed, 5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    world.roster(&[0, 1, 2, 3, 4]);
    world.hear_news();
    world.run(ms(300));
    world
}

fn ask(world: &mut World, node: u64, id: u64, seq: u64, within: Duration) {
    let now = world.now;
    world.node(node).relay.confirm(ConfirmId(id), None, SeqNo(seq), within, now);
}

/// Members in order of their ids.
fn members(nodes: &[u64]) -> Vec<MemberId> {
    let members: BTreeSet<MemberId> = nodes.iter().map(|node| testing::member(*node)).collect();
    members.into_iter().collect()
}

/// What a node was told: of which question, how many have it, who lacks it.
fn told(world: &mut World, node: u64) -> Vec<(u64, u32, Vec<MemberId>)> {
    let confirmed = std::mem::take(&mut world.node(node).confirmed);
    confirmed
        .into_iter()
        .map(|event| {
            let Event::Confirmed { id, members, complete, missing, .. } = event else {
                panic!("{event:?}")
            };
            assert_eq!(complete, missing.is_empty());
            (id.0, members, missing)
        })
        .collect()
}

#[test]
fn a_message_that_all_have_is_confirmed_as_soon_as_they_do() {
    let mut world = row(1);
    world.publish(0, 100);
    assert!(world.push_publish(0));
    ask(&mut world, 0, 1, 1, ms(10_000));
    world.run(ms(200));
    assert_eq!(told(&mut world, 0), [(1, 4, vec![])]);
    // Asked about once more, it is known at once.
    ask(&mut world, 0, 2, 1, ms(10_000));
    world.run(ms(1));
    assert_eq!(told(&mut world, 0), [(2, 4, vec![])]);
}

#[test]
fn those_that_do_not_take_a_message_are_named_and_no_others() {
    for seed in seeds(20) {
        let mut world = row(seed);
        world.node(1).pulls = false;
        world.node(3).pulls = false;
        world.publish(0, 100);
        assert!(world.push_publish(0));
        ask(&mut world, 0, 1, 1, ms(2_000));
        world.run(ms(1_990));
        assert_eq!(told(&mut world, 0), [], "not before it is time");
        world.run(ms(20));
        assert_eq!(told(&mut world, 0), [(1, 2, members(&[1, 3]))], "seed {seed}");
        world.node(1).pulls = true;
        world.node(3).pulls = true;
        world.run(ms(1_000));
        world.assert_complete(&[0, 1, 2, 3, 4]);
    }
}

#[test]
fn all_behind_a_member_that_is_stopped_are_named() {
    for seed in seeds(20) {
        let mut world = row(seed);
        world.node(2).stopped = true;
        world.publish(0, 100);
        assert!(world.push_publish(0));
        ask(&mut world, 0, 1, 1, ms(2_000));
        world.run(ms(2_010));
        assert_eq!(told(&mut world, 0), [(1, 1, members(&[2, 3, 4]))], "seed {seed}");
    }
}

#[test]
fn in_any_tree_exactly_those_that_lack_it_are_named() {
    for seed in seeds(30) {
        let mut world = World::new(seed);
        let n = 12;
        let links = random_tree(&mut world.rng, n);
        world = World::with(seed, n, &links);
        let all: Vec<u64> = (0..n).collect();
        world.roster(&all);
        world.hear_news();
        world.run(ms(500));
        let lacking: Vec<u64> = all.iter().copied().filter(|node| node % 3 == seed % 3).collect();
        for node in &lacking {
            world.node(*node).pulls = false;
        }
        let source = u64::from(seed % 3 == 0);
        world.publish(source, 200_000);
        assert!(world.push_publish(source));
        ask(&mut world, source, 1, 1, ms(3_000));
        world.run(ms(3_010));
        let missing = members(&lacking);
        let have = u32::try_from(all.len() - 1 - missing.len()).expect("few");
        assert_eq!(told(&mut world, source), [(1, have, missing)], "seed {seed}");
    }
}

#[test]
fn a_message_that_is_not_made_yet_is_with_nobody() {
    let mut world = row(3);
    world.publish(0, 100);
    ask(&mut world, 0, 1, 1, ms(500));
    world.node(0).stopped = true;
    world.run(ms(510));
    assert_eq!(told(&mut world, 0), [(1, 0, members(&[1, 2, 3, 4]))]);
}

#[test]
fn too_many_questions_are_answered_at_once_by_what_is_known() {
    let mut world = row(4);
    world.node(4).pulls = false;
    world.publish(0, 100);
    assert!(world.push_publish(0));
    world.run(ms(100));
    for id in 0..1_100 {
        ask(&mut world, 0, id, 1, ms(5_000));
    }
    world.run(ms(1));
    assert_eq!(told(&mut world, 0).len(), 76);
    world.run(ms(5_000));
    let told = told(&mut world, 0);
    assert_eq!(told.len(), 1_024);
    let missing = vec![testing::member(4)];
    assert!(told.iter().all(|(_, _, lacking)| *lacking == missing), "{told:?}");
}

#[test]
fn a_neighbour_that_asks_on_and_on_gets_bounded_answers_and_lies_count_for_nothing() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    let roster = Roster { hash: Digest::from_bytes([1; 32]), len: 3, index: 0 };
    scene.relay.set_roster(Some(roster), scene.now);
    let receipts = Receipts { roster: roster.hash, covered: vec![0b100], flows: vec![] };
    scene.say(B, Message::Receipts(receipts));
    let questions = |said: Vec<Message>| {
        said.iter().filter(|message| matches!(message, Message::Inquire(_))).count()
    };
    let (frame, payload) = frame_of(9, 1);
    let flow = frame.header().flow();
    let ask = |scene: &mut Scene, number, wait_ms| {
        scene.say(A, Message::Inquire(Inquire { flow, number: FrameNo(number), wait_ms }));
    };
    // Of a flow that nobody has heard of, and of frames that there are not yet.
    ask(&mut scene, 1, 1_000);
    scene.relay.on_frame(A, frame, payload, scene.now);
    ask(&mut scene, 2, 1_000);
    ask(&mut scene, u64::MAX, 1_000);
    assert_eq!(questions(scene.hear(B)), 0);
    // Again and again the same, with no time at all: asked on once, and then at a bounded rate.
    let mut asked_on = 0;
    for _ in 0..10_000 {
        ask(&mut scene, 1, 0);
        asked_on += questions(scene.hear(B));
    }
    assert_eq!(asked_on, 1);
    for _ in 0..10_000 {
        ask(&mut scene, 1, 0);
        scene.wait(ms(1));
        asked_on += questions(scene.hear(B));
    }
    assert!(asked_on <= 1_000, "{asked_on} in ten seconds");
    assert!(scene.relay.stats().total.over_rate > 15_000);
    let is_answer = |message: &Message| matches!(message, Message::Have(_));
    let answers = scene.hear(A).into_iter().filter(is_answer).count();
    assert!(answers <= 1_000, "{answers} answers");
    // Nobody asked, another roster, far too long.
    let roster = Digest::from_bytes([7; 32]);
    let have = Have { flow, number: FrameNo(1), roster, members: vec![0xff; 100_000] };
    scene.say(B, Message::Have(have));
    scene.wait(ms(5_000));
    assert!(scene.hear(A).len() <= 64);
}
