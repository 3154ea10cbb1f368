//! What a session is made for decides its tree.

use arborcast_tests::{
    group::{impair, settle, with_loopback},
    process::{Log, Place, Process},
};

fn start(place: &Place, name: &str, command: &[&str]) -> Process {
    place.start(name, &with_loopback(&[command, &["--nick", name]].concat()))
}

fn degree(log: &Log, id: &str) -> usize {
    let edges = log.tree().and_then(|tree| tree["edges"].as_array().cloned()).unwrap_or_default();
    edges
        .iter()
        .filter(|edge| edge.as_array().is_some_and(|ends| ends.contains(&id.into())))
        .count()
}

/// Four of whom one is near to all others, and they are far from each other.
fn around_a_hub(flags: &[&str], of_hub: &[&str]) -> (Place, Vec<Process>, Vec<String>) {
    let place = Place::new();
    let mut members = vec![start(&place, "host", &[&["host"], flags].concat())];
    let ticket = members[0].ready("ticket");
    members.push(start(&place, "hub", &[&["join", &ticket], of_hub].concat()));
    for name in ["m2", "m3"] {
        members.push(start(&place, name, &["join", &ticket]));
    }
    settle(&members, 4);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (a, b) in [(0, 2), (0, 3), (2, 3)] {
        impair(&members[a], &ids[b], "delay=60ms");
    }
    (place, members, ids)
}

#[test]
fn r3_whoever_is_near_to_all_relays_for_all() {
    let (_place, members, ids) = around_a_hub(&[], &[]);
    members[0].wait("a star", |log| (degree(log, &ids[1]) == 3).then_some(()));
}

#[test]
fn r3_in_a_session_with_a_load_nobody_has_more_neighbours_than_its_line_can_feed() {
    let (_place, members, ids) = around_a_hub(&["--load", "4:0.05"], &["--max-upload", "6mbit"]);
    members[0].wait("a chain", |log| {
        let hub_is_relieved = degree(log, &ids[1]) == 2;
        let others_relay = [0, 2, 3].iter().any(|at| degree(log, &ids[*at]) == 2);
        (log.spans(4) && hub_is_relieved && others_relay).then_some(())
    });
}

#[test]
fn r3_the_strategy_of_a_session_and_its_main_source_are_taken_as_they_are_given() {
    let place = Place::new();
    let flags = ["host", "--strategy", "min-diameter", "--main-source", "self", "--load", "conf"];
    let host = start(&place, "host", &flags);
    let member = start(&place, "member", &["join", &host.ready("ticket")]);
    settle(&[host, member], 2);
}

#[test]
fn what_no_session_can_be_made_for_is_refused_with_what_can_be() {
    let place = Place::new();
    for (flag, value, help) in [
        ("--strategy", "best", "routing-cost, mst, spt, min-diameter, widest"),
        ("--load", "much", "chat, conf, or RATE:LOSS"),
        ("--load", "4:1.5", "a share from 0 to 1"),
        ("--load", "NaN:0.1", "Mbit/s from 0"),
        ("--main-source", "me", "`self` is this process"),
        ("--max-upload", "fast", "20mbit"),
        ("--max-upload", "-1mbit", "20mbit"),
    ] {
        let value = format!("{flag}={value}");
        let ended = place.start("wrong", &["host", &value]).ended();
        assert_eq!(ended.code, Some(2), "{value}");
        assert!(ended.complaint().contains(help), "{}", ended.complaint());
    }
}
