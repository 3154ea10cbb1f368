//! When a silent neighbour counts as dead.

use std::time::Duration;

use arborcast_protocol::edge::{Heartbeat, Message};

use super::{
    super::Output,
    edges::{A, Scene},
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn beat(next_ms: u32) -> Message {
    Message::Heartbeat(Heartbeat { next_ms: Some(next_ms), ..Heartbeat::default() })
}

fn is_dead(scene: &mut Scene) -> bool {
    scene.outputs().contains(&Output::Dead(A))
}

/// How long the other end of an edge has to be silent before it counts as dead, in steps of 10 ms.
fn patience(scene: &mut Scene) -> Duration {
    scene.outputs();
    let begin = scene.now;
    while !is_dead(scene) {
        assert!(scene.now < begin + Duration::from_secs(20), "it is given up at some time");
        scene.wait(ms(10));
    }
    scene.now - begin
}

#[test]
fn a_busy_neighbour_on_a_fast_channel_is_missed_within_tenths_of_a_second() {
    let mut scene = Scene::active();
    for number in 1..=20 {
        scene.frame(A, number);
        scene.say(A, beat(100));
        scene.wait(ms(100));
    }
    assert!(!is_dead(&mut scene));
    scene.say(A, beat(100));
    let patience = patience(&mut scene);
    assert!((ms(300)..=ms(320)).contains(&patience), "{patience:?}");
}

#[test]
fn an_idle_neighbour_is_given_long() {
    let mut scene = Scene::active();
    assert_eq!(patience(&mut scene), ms(10_000));
}

#[test]
fn heartbeats_are_frequent_while_data_moves_and_say_so() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    let told = |scene: &mut Scene| {
        let said = scene.hear(A);
        let beats = said.iter().filter_map(|said| match said {
            Message::Heartbeat(heartbeat) => Some(heartbeat.next_ms),
            Message::Summary(_)
            | Message::Receipts(_)
            | Message::Ask(_)
            | Message::Passed(_)
            | Message::Fin
            | Message::Inquire(_)
            | Message::Have(_) => None,
        });
        beats.collect::<Vec<_>>()
    };
    assert_eq!(told(&mut scene), [Some(100)], "at once");
    scene.relay.set_delay(A, ms(30));
    let mut all = Vec::new();
    for _ in 0..90 {
        scene.say(A, beat(100));
        scene.wait(ms(100));
        all.extend(told(&mut scene));
    }
    // A hundred milliseconds and eight delays.
    assert!((24..=28).contains(&all.len()), "{}", all.len());
    assert!(all.iter().all(|next| *next == Some(340)), "{all:?}");
    for _ in 0..20 {
        scene.say(A, beat(100));
        scene.wait(ms(100));
        all.extend(told(&mut scene));
    }
    assert_eq!(all.last(), Some(&None), "nothing has moved for ten seconds");
}

#[test]
fn who_was_late_before_is_given_longer() {
    let mut scene = Scene::active();
    for round in 0..40 {
        scene.frame(A, round + 1);
        scene.say(A, beat(100));
        scene.wait(if round % 10 == 0 { ms(280) } else { ms(100) });
    }
    assert!(!is_dead(&mut scene), "no false alarm");
    scene.say(A, beat(100));
    let patience = patience(&mut scene);
    assert!((ms(600)..=ms(900)).contains(&patience), "{patience:?}");
}

#[test]
fn a_slow_channel_is_given_longer() {
    let mut scene = Scene::active();
    scene.relay.set_delay(A, ms(50));
    scene.frame(A, 1);
    scene.say(A, beat(500));
    let patience = patience(&mut scene);
    assert!((ms(900)..=ms(920)).contains(&patience), "{patience:?}");
}

#[test]
fn a_frame_that_comes_slowly_is_a_sign_of_life() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.say(A, beat(100));
    for _ in 0..50 {
        scene.wait(ms(200));
        scene.relay.on_alive(A, scene.now);
    }
    assert!(!is_dead(&mut scene));
}

#[test]
fn who_was_asleep_itself_listens_before_it_judges() {
    let mut scene = Scene::active();
    scene.frame(A, 1);
    scene.say(A, beat(100));
    // The process was stopped, or the machine was busy: no tick came for two seconds.
    scene.now += ms(2000);
    scene.relay.tick(scene.now);
    assert!(!is_dead(&mut scene));
    scene.wait(ms(200));
    scene.say(A, beat(100));
    scene.wait(ms(200));
    assert!(!is_dead(&mut scene), "it is there");
    scene.now += ms(2000);
    scene.relay.tick(scene.now);
    scene.wait(ms(260));
    assert!(is_dead(&mut scene), "it is not");
}
