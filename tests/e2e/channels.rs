//! Channels that get worse, and members that have none with each other.

use std::time::Duration;

use arborcast_tests::process::{DEADLINE, Log, Place, Process, now};
use serde_json::{Value, json};

use crate::group::{all_came, group, host, in_order, settle, with_loopback};

/// Whether the newest tree has an edge between these.
fn has_edge(log: &Log, a: &str, b: &str) -> bool {
    let edges = log.tree().and_then(|tree| tree["edges"].as_array().cloned()).unwrap_or_default();
    edges.iter().any(|edge| *edge == json!([a, b]) || *edge == json!([b, a]))
}

/// The kinds of the channel with a peer, as they were told.
fn kinds<'a>(log: &'a Log, peer: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    log.of("channel").filter(move |channel| channel["peer_id"] == peer).map(|one| &one["kind"])
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_slow_while_lines_flow_and_nothing_is_lost() {
    leaves("delay=60ms");
}

#[test]
fn r3_the_tree_leaves_a_channel_that_loses_much_while_lines_flow_and_nothing_is_lost() {
    leaves("loss=0.3");
}

/// The tree leaves a channel that is made worse like this, and comes back to it when it is as it was,
/// each within two report periods.
fn leaves(how: &str) {
    /// Two report periods of the default.
    const PATIENCE: Duration = Duration::from_secs(10);
    let place = Place::new();
    let (members, _) = group(&place, 3);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (member, own) in members.iter().zip(&ids) {
        for other in ids.iter().filter(|other| *other != own) {
            member.wait("a channel with each", |log| kinds(log, other).next().map(drop));
        }
    }
    let impair = |how: &str, at: usize, with: usize| {
        members[at].line(json!({ "impair": format!("{}:{how}", ids[with]) }).to_string());
    };
    // So that the tree is a certain one, and stays so.
    impair("delay=15ms", 1, 2);
    let (at, with) = (0, 1);
    for member in &members {
        member.wait("the tree without the slow channel", |log| {
            (!has_edge(log, &ids[1], &ids[2]) && has_edge(log, &ids[at], &ids[with])).then_some(())
        });
    }
    let mut said = 0;
    let mut say = || {
        said += 1;
        for member in &members {
            member.send(&format!("{said}"));
        }
        for member in &members {
            member
                .wait("its line being taken", |log| (log.taken.len() as u64 >= said).then_some(()));
        }
        said
    };
    for _ in 0..20 {
        say();
    }
    let began = now();
    impair(how, at, with);
    loop {
        let each = say();
        if members.iter().all(|member| !has_edge(&member.log(), &ids[at], &ids[with])) {
            println!(
                "{how}: the tree left it after {} ms, {each} lines each",
                began.elapsed().as_millis()
            );
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the tree still has the channel after {PATIENCE:?}");
    }
    impair("none", at, with);
    let began = now();
    while !members.iter().all(|member| has_edge(&member.log(), &ids[at], &ids[with])) {
        assert!(began.elapsed() < PATIENCE, "the tree does not come back within {PATIENCE:?}");
        say();
    }
    println!("{how}: the tree came back after {} ms", began.elapsed().as_millis());
    for _ in 0..20 {
        say();
    }
    let each = say();
    for member in &members {
        member.wait("all receipts", |log| (log.receipts.len() as u64 >= each).then_some(()));
        member.wait("all lines", |log| (log.messages.len() as u64 >= 2 * each).then_some(()));
    }
    for member in members.into_iter().rev() {
        let name = member.name().to_owned();
        all_came(&name, &member.leave(), 2, each);
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
