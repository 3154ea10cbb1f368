//! Channels that get worse, and members that have none with each other.

use arborcast_tests::{
    group::{all_came, has_edge, host, impair, in_order, settle, with_loopback},
    process::{DEADLINE, Place, now},
    scenario::worn::{Traffic, kinds, leaves, three},
};
use serde_json::{Value, json};

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_slow_while_lines_flow_and_nothing_is_lost() {
    let _ = leaves(&Place::new(), "delay=60ms", Traffic::Lines);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_loses_much_while_lines_flow_and_nothing_is_lost() {
    let _ = leaves(&Place::new(), "loss=0.3", Traffic::Lines);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_got_narrow_once_data_flows_and_comes_back() {
    let _ = leaves(&Place::new(), "rate=1mbit", Traffic::Much);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_slow_while_nothing_moves() {
    let _ = leaves(&Place::new(), "delay=110ms", Traffic::Nothing);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_slow_with_the_periods_of_the_default() {
    let _ = leaves(&Place::with_default_periods(), "delay=60ms", Traffic::Chat);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_narrow_while_much_is_sent_and_nothing_is_lost() {
    /// Messages on their way.
    const AHEAD: u64 = 20;
    let place = Place::new();
    let (members, ids) = three(&place);
    let text = "x".repeat(32 * 1024);
    let mut said = 0;
    let mut say = || {
        said += 1;
        members[0].send(&text);
        members[0]
            .wait("receipts", |log| (log.receipts.len() as u64 + AHEAD >= said).then_some(()));
        said
    };
    for _ in 0..50 {
        say();
    }
    let patience = now() + DEADLINE;
    impair(&members[0], &ids[1], "rate=1mbit");
    while members.iter().any(|member| has_edge(&member.log(), &ids[0], &ids[1])) {
        assert!(now() < patience, "the tree still has the channel after {DEADLINE:?}");
        say();
    }
    for _ in 0..200 {
        say();
    }
    let all = say();
    members[0].wait("all receipts", |log| (log.receipts.len() as u64 >= all).then_some(()));
    for member in members.into_iter().rev() {
        let (name, own) = (member.name().to_owned(), member.peer_id());
        let log = member.leave();
        if own != ids[0] {
            all_came(&name, &log, 1, all);
        }
    }
}

#[test]
fn r1_members_that_deny_each_other_have_no_channel_and_talk_through_a_third() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let start = |name: &str, deny: Option<&str>| {
        let mut args = vec!["join", &ticket, "--nick", name, "--identity", name];
        args.extend(deny.into_iter().flat_map(|peer| ["--deny", peer]));
        place.start(name, &with_loopback(&args))
    };
    // To know who it will be.
    let first = start("one", None);
    let one = first.peer_id();
    first.leave();
    let second = start("two", Some(&one));
    let two = second.peer_id();
    let first = start("one", Some(&two));
    let mut members = vec![host, first, second];
    settle(&members, 3);
    for (from, to) in [(1, 2), (2, 1)] {
        members[from].send("round the corner");
        members[to].wait("the other's line", |log| (!log.messages.is_empty()).then_some(()));
    }
    for (member, other) in [(1, &two), (2, &one)] {
        let told: Vec<Value> = kinds(&members[member].log(), other).cloned().collect();
        assert!(told.is_empty(), "{}: {told:?}", members[member].name());
    }
    // What is wrong is told, and the process goes on.
    members[1].line(json!({ "impair": format!("{two}:loss=7") }).to_string());
    let error = members[1].event("error");
    assert_eq!(error["code"], "invalid_input", "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("loss=7")), "{error}");
    // They make up.
    members[1].line(json!({ "allow": two }).to_string());
    let told = members[1].event("ruled");
    assert_eq!(told, json!({"event": "ruled", "rule": "allow", "peer_id": two, "present": true}));
    let stranger = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    members[1].line(json!({ "impair": format!("{stranger}:none") }).to_string());
    members[1].wait("that nobody of this name is there", |log| {
        let told = log.events.iter().rev().find(|event| event["event"] == "ruled")?;
        (told["peer_id"] == stranger && told["present"] == false).then_some(())
    });
    members[2].line(json!({ "allow": one }).to_string());
    for (member, other) in [(1, &two), (2, &one)] {
        members[member].wait_for(DEADLINE, "a channel", |log| {
            kinds(log, other).any(|kind| kind == "direct").then_some(())
        });
    }
    // And fall out again.
    members[1].line(json!({ "deny": two }).to_string());
    for (member, other) in [(1, &two), (2, &one)] {
        members[member].wait_for(DEADLINE, "no channel", |log| {
            kinds(log, other).any(|kind| kind == "none").then_some(())
        });
    }
    for (from, to) in [(1, 2), (2, 1)] {
        members[from].send("round the corner again");
        members[to].wait("the other's line", |log| (log.messages.len() >= 2).then_some(()));
    }
    while let Some(member) = members.pop() {
        let name = member.name().to_owned();
        in_order(&name, &member.leave());
    }
}

#[test]
fn wrong_values_for_channels_are_wrong_usage() {
    let place = Place::new();
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    for (flag, value, named) in [
        ("--deny", "nobody", "nobody"),
        ("--impair", "delay=40ms", "PEER:"),
        ("--impair", &format!("{peer}:delay=40"), "delay=40"),
        ("--impair", &format!("{peer}:speed=1"), "speed=1"),
    ] {
        let ended = place.start("wrong", &["host", flag, value]).ended();
        assert_eq!(ended.code, Some(2), "{flag} {value}: {}", ended.complaint());
        assert!(ended.complaint().contains(named), "{flag} {value}: {}", ended.complaint());
    }
}
