//! The harness itself: what is broken on purpose is found, or the engines repair it.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Sabotage, Setup},
};

fn world(sabotage: Sabotage) -> Setup {
    let mut setup = plan::calm(5, Shape::Random(3), 8);
    for node in 0..8 {
        let publish = Act::Publish { node, count: 3, bytes: 100, class: Class::Reliable };
        setup.script.push((Duration::from_secs(12), publish));
    }
    setup.sabotage = Some(sabotage);
    setup
}

fn violation(sabotage: Sabotage) -> String {
    match sim::run(&world(sabotage)) {
        Ok(summary) => panic!("{sabotage:?} was not found: {summary:?}"),
        Err(failure) => failure.violation,
    }
}

#[test]
fn a_frame_that_crosses_twice_is_found() {
    let violation = violation(Sabotage::DoubleFrame(20));
    assert!(violation.contains("a second time on one life"), "{violation}");
}

#[test]
fn a_changed_payload_is_found() {
    let violation = violation(Sabotage::GarbleFrame(20));
    assert!(violation.contains("with other bytes"), "{violation}");
}

#[test]
fn a_message_that_disappears_before_the_application_is_found() {
    let violation = violation(Sabotage::SwallowMessage(20));
    let seen = ["after #", "but never", "was given #"];
    assert!(seen.iter().any(|seen| violation.contains(seen)), "{violation}");
}

#[test]
fn frames_that_never_arrive_are_found() {
    let violation = violation(Sabotage::Deaf(Duration::from_secs(13)));
    assert!(violation.contains("never got"), "{violation}");
}

#[test]
fn a_frame_that_disappears_on_a_living_edge_is_asked_for_again() {
    let mut setup = world(Sabotage::DropFrame(20));
    // The repaired frame crosses the edge a second time as far as the sender can tell.
    setup.calm = false;
    let summary = sim::replayed(&setup).expect("the engines repair one lost frame");
    assert!(summary.messages >= 8 * 7 * 3);
}
