//! Groups whose members all learn their next hops in one manner: lines stream while one joins and one
//! leaves, and all come once and in order.

use arborcast_tests::process::{Place, Process};
use serde_json::Value;

use crate::group::{in_order, settle, with_loopback};

/// Messages of each member that stays.
const EACH: u64 = 120;

/// What a member has counted by now.
fn stats(member: &Process) -> Value {
    let seen = member.log().of("stats").count();
    member.wait("newer stats", |log| log.of("stats").nth(seen).cloned())
}

fn count(stats: &Value, what: &str) -> u64 {
    stats[what].as_u64().unwrap_or_else(|| panic!("no {what} in {stats}"))
}

/// Has all send their messages from one number to another, and waits until they were taken in.
fn say(members: &[Process], from: u64, to: u64) {
    for number in from..=to {
        for member in members {
            member.send(&format!("{number}"));
        }
    }
    for member in members {
        member.wait("own messages taken in", |log| (log.taken.len() as u64 >= to).then_some(()));
    }
}

/// Streams through a group in which all are set to `manner`. Gives what those who stay have counted.
fn stream(manner: &str) -> Vec<Value> {
    let place = Place::new();
    let flags = ["--next-hops", manner, "--stats-interval", "0.2"];
    let start = |name: &str, command: &[&str]| {
        place.start(name, &with_loopback(&[command, &["--nick", name], &flags].concat()))
    };
    let mut members = vec![start("host", &["host"])];
    let ticket = members[0].ready("ticket");
    for number in 1..4 {
        members.push(start(&format!("m{number}"), &["join", &ticket]));
    }
    settle(&members, 4);

    say(&members, 1, 20);
    let guest = start("guest", &["join", &ticket]);
    say(&members, 21, 60);
    settle(std::slice::from_ref(&guest), 5);
    guest.send("hello");
    guest.wait("a receipt", |log| (!log.receipts.is_empty()).then_some(()));
    say(&members, 61, 80);
    in_order("guest", &guest.leave());
    say(&members, 81, 100);
    settle(&members, 4);
    say(&members, 101, EACH);

    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for member in &members {
        let own = member.peer_id();
        member.wait("all messages of those who stay", |log| {
            let came = |id: &str| log.messages.iter().filter(|m| &*m.source == id).count() as u64;
            ids.iter().filter(|id| **id != own).all(|id| came(id) == EACH).then_some(())
        });
        member.wait("all receipts", |log| (log.receipts.len() as u64 >= EACH).then_some(()));
    }
    let counted = members.iter().map(stats).collect();
    members.reverse();
    for member in members {
        let (name, own) = (member.name().to_owned(), member.peer_id());
        let log = member.leave();
        let sources = in_order(&name, &log);
        for id in ids.iter().filter(|id| **id != own) {
            assert_eq!(sources.get(id.as_str()), Some(&(1, EACH)), "{name}: from {id}");
        }
        assert_eq!(log.errors(), Vec::<&str>::new(), "{name}");
    }
    counted
}

#[test]
fn r10_members_that_poll_stream_while_one_joins_and_one_leaves() {
    for stats in stream("poll") {
        // One when it joined, one for each tree at least.
        assert!(count(&stats, "queries") >= 3, "{stats}");
        assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
        assert_eq!(count(&stats, "held_bytes"), 0, "{stats}");
    }
}

#[test]
fn r11_members_that_ask_on_overflow_stream_while_one_joins_and_one_leaves() {
    for stats in stream("overflow") {
        assert!(count(&stats, "queries") >= 5, "{stats}");
        assert!(count(&stats, "overflows") >= 3, "{stats}");
        assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
    }
}

#[test]
fn r12_members_that_subscribe_stream_while_one_joins_and_one_leaves() {
    for stats in stream("subscribe") {
        assert_eq!(count(&stats, "subscribes"), 1, "{stats}");
        assert_eq!(count(&stats, "overflows"), 0, "{stats}");
    }
}

#[test]
fn r13_members_that_put_the_tree_into_frames_stream_while_one_joins_and_one_leaves() {
    let all = stream("in-band");
    for stats in &all {
        assert_eq!(count(stats, "subscribes"), 1, "{stats}");
        assert_eq!(count(stats, "overflows"), 0, "{stats}");
    }
    let by_their_trees: u64 = all.iter().map(|stats| count(stats, "in_band_frames")).sum();
    assert!(by_their_trees > 0, "frames went by the trees in them");
}
