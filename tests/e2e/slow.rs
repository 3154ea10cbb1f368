//! Members that keep the others waiting: stopped processes, applications that do not read.

use std::sync::atomic::AtomicBool;

use arborcast_tests::{
    group::{group, with_loopback},
    process::{Log, Place},
    scenario::stopped::{self, Stop, accounted, flood, flows_on},
};

#[test]
fn one_that_is_stopped_holds_nobody_back_and_comes_back() {
    let _ = stopped::one_of_four(&Place::new());
}

#[test]
fn one_that_does_not_read_is_detached_and_says_why_once_it_is_read() {
    let place = Place::new();
    let (members, ticket) = group(&place, 3);
    let args = with_loopback(&["join", &ticket, "--nick", "deaf", "--json"]);
    let mut deaf = place.process("arborcast", "deaf", &args).unread().start();
    for member in &members {
        member.wait("four members", |log| log.spans(4).then_some(()));
    }
    let [host, second, third] = members.as_slice() else { panic!("three") };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(host, &stop));
        // Whatever fails, the sender ends, and with it the scope.
        let done = Stop(&stop);
        host.wait("word of who keeps it waiting", |log| {
            let mut waiting = log.of("waiting");
            waiting.any(|waiting| waiting["for"][0]["nick"] == "deaf").then_some(())
        });
        let gone = |log: &Log| log.of("left").any(|left| left["nick"] == "deaf").then_some(());
        second.wait("word that it was left out", gone);
        flows_on(&[second, third]);
        drop(done);
    });
    deaf.read();
    deaf.wait("the reason", |log| {
        let mut errors = log.of("error").filter(|error| error["code"] == "detached");
        let error = errors.next()?;
        let message = error["message"].as_str()?;
        assert!(message.contains("application takes no messages"), "{message}");
        Some(())
    });
    second.wait("being back", |log| log.spans(4).then_some(()));
    accounted(&deaf, &host.peer_id(), host.log().taken.len() as u64);
}
