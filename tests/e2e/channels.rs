//! Channels that get worse, and members that have none with each other.

use std::time::Duration;

use arborcast_tests::process::{DEADLINE, Log, Place, Process, now};
use serde_json::{Value, json};

use crate::group::{all_came, group, has_edge, host, impair, in_order, settle, with_loopback};

/// The kinds of the channel with a peer, as they were told.
fn kinds<'a>(log: &'a Log, peer: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    log.of("channel").filter(move |channel| channel["peer_id"] == peer).map(|one| &one["kind"])
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_slow_while_lines_flow_and_nothing_is_lost() {
    leaves("delay=60ms", Traffic::Lines);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_loses_much_while_lines_flow_and_nothing_is_lost() {
    leaves("loss=0.3", Traffic::Lines);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_narrow_while_some_chat_and_nothing_is_lost() {
    leaves("rate=1mbit", Traffic::Chat);
}

#[test]
fn r3_the_tree_leaves_a_channel_that_gets_narrow_while_nothing_moves() {
    leaves("rate=1mbit", Traffic::Nothing);
}

/// What moves while the tree is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Traffic {
    /// As many as are taken in.
    Lines,
    /// A line of each every [`LOOK`].
    Chat,
    Nothing,
}

/// Two report periods of the default.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between looks at what members say, while they do not say more than that.
const LOOK: Duration = Duration::from_millis(25);

/// Three members, and their peer ids: the tree has the channel of the first with the second, and no
/// reason to use that of the second with the third.
fn three(place: &Place) -> (Vec<Process>, Vec<String>) {
    let (members, _) = group(place, 3);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (member, own) in members.iter().zip(&ids) {
        for other in ids.iter().filter(|other| *other != own) {
            member.wait("a channel with each", |log| kinds(log, other).next().map(drop));
        }
    }
    impair(&members[1], &ids[2], "delay=15ms");
    for member in &members {
        member.wait("the tree without the slow channel", |log| {
            let is_it = !has_edge(log, &ids[1], &ids[2]) && has_edge(log, &ids[0], &ids[1]);
            (is_it && log.spans(3)).then_some(())
        });
    }
    (members, ids)
}

/// The tree leaves a channel that is made worse like this, and comes back to it when it is as it was,
/// each within two report periods.
fn leaves(how: &str, traffic: Traffic) {
    let place = Place::new();
    let (members, ids) = three(&place);
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
    let mut until = |what: &str, is_it: fn(&Log, &str, &str) -> bool| {
        let began = now();
        while !members.iter().all(|member| is_it(&member.log(), &ids[0], &ids[1])) {
            assert!(began.elapsed() < PATIENCE, "the tree has not {what} after {PATIENCE:?}");
            match traffic {
                Traffic::Lines | Traffic::Chat => _ = say(),
                Traffic::Nothing => {}
            }
            match traffic {
                Traffic::Lines => {}
                Traffic::Chat | Traffic::Nothing => std::thread::sleep(LOOK),
            }
        }
        println!("{how}, {traffic:?}: the tree {what} after {} ms", began.elapsed().as_millis());
    };
    impair(&members[0], &ids[1], how);
    until("left it", |log, a, b| !has_edge(log, a, b));
    impair(&members[0], &ids[1], "none");
    until("come back", has_edge);
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
    let began = now();
    impair(&members[0], &ids[1], "rate=2mbit");
    while members.iter().any(|member| has_edge(&member.log(), &ids[0], &ids[1])) {
        assert!(began.elapsed() < PATIENCE, "the tree still has the channel after {PATIENCE:?}");
        say();
    }
    println!("the tree left it after {} ms", began.elapsed().as_millis());
    for _ in 0..200 {
        say();
    }
    let all = say();
    members[0].wait("all receipts", |log| (log.receipts.len() as u64 >= all).then_some(()));
    assert!(!has_edge(&members[0].log(), &ids[0], &ids[1]), "the channel is still narrow");
    for member in members.into_iter().rev() {
        let (name, own) = (member.name().to_owned(), member.peer_id());
        let log = member.leave();
        if own != ids[0] {
            all_came(&name, &log, 1, all);
        }
    }
}

#[test]
fn r3_noise_alone_moves_no_edge() {
    /// So long it may take until all know how bad their channels are...
    const KNOWN: Duration = Duration::from_secs(60);
    /// ...then the coordinator knows within two report periods...
    const REPORTED: Duration = Duration::from_secs(10);
    /// ...and so long there is a chat then, and silence.
    const TIME: Duration = Duration::from_secs(20);
    const LINE: Duration = Duration::from_millis(250);
    /// Less than any of these channels takes for most probes, and more than loopback does.
    const IMPAIRED_MS: f64 = 4.0;
    let place = Place::new();
    let (members, _) = group(&place, 4);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (at, member) in members.iter().enumerate() {
        for (with, id) in ids.iter().enumerate().skip(at + 1) {
            // The host's are equal in all, and the others somewhat worse but for chance.
            let how = match (at, with) {
                (0, _) => "delay=5ms,loss=0.02",
                (1, 2) => "delay=10ms,jitter=9ms,loss=0.01",
                _ => "delay=12ms,loss=0.02",
            };
            impair(member, id, how);
        }
    }
    // The group was a star before any of that counted.
    for (at, member) in members.iter().enumerate() {
        let others = (0..ids.len()).filter(|other| *other != at);
        for other in others {
            member.wait_for(KNOWN, "the delay of a channel", |log| {
                let of_it = log.of("channel").filter(|event| event["peer_id"] == ids[other]);
                (of_it.last()?["delay_ms"].as_f64()? >= IMPAIRED_MS).then_some(())
            });
        }
    }
    std::thread::sleep(REPORTED);
    for member in &members {
        member.wait_for(KNOWN, "the host's channels as the tree", |log| {
            let is_settled = log.tree()?["overlap"].as_array()?.is_empty();
            let is_star = ids.iter().skip(1).all(|id| has_edge(log, &ids[0], id));
            (is_settled && is_star).then_some(())
        });
    }
    let trees = |member: &Process| member.log().of("tree").count();
    let before: Vec<usize> = members.iter().map(trees).collect();
    let began = now();
    let mut said = 0;
    while began.elapsed() < TIME {
        said += 1;
        for member in &members {
            member.send(&format!("{said}"));
        }
        std::thread::sleep(LINE);
    }
    std::thread::sleep(TIME);
    let after: Vec<usize> = members.iter().map(trees).collect();
    for (member, trees) in members.iter().zip(&before) {
        let newer: Vec<Value> = member.log().of("tree").skip(*trees).cloned().collect();
        assert_eq!(after, before, "{}: {newer:?}", member.name());
    }
    for member in members.into_iter().rev() {
        let name = member.name().to_owned();
        all_came(&name, &member.leave(), 3, said);
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
