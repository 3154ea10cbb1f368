//! Data for one member alone.

use arborcast_tests::process::{Log, Place, Process};
use serde_json::{Value, json};

use arborcast_tests::group::{has_messages, settle, with_loopback};

/// A relay with three members, each of which has no other neighbour than it.
fn star(place: &Place) -> (Vec<Process>, String) {
    let stats = ["--stats-interval", "1"];
    let args = with_loopback(&[&["host", "--nick", "relay"][..], &stats].concat());
    let relay = place.start("relay", &args);
    let ticket = relay.ready("ticket");
    let mut members = vec![relay];
    for nick in ["a", "b", "c"] {
        let args = ["join", &ticket, "--nick", nick, "--fanout", "1"];
        members.push(place.start(nick, &with_loopback(&[&args[..], &stats].concat())));
    }
    settle(&members, 4);
    // A member may have come in through another one before it reached the relay.
    let relay = members.first().map(Process::peer_id).expect("it is the first");
    for member in &members {
        member.wait("the star", |log| {
            let edges = log.tree()?["edges"].as_array()?;
            let all = edges.iter().all(|edge| edge[0] == *relay || edge[1] == *relay);
            let calm = log.tree()?["overlap"].as_array()?.is_empty();
            (all && calm).then_some(())
        });
    }
    (members, ticket)
}

fn tell(member: &Process, text: &str, to: &str) {
    member.line(json!({ "send": text, "to": to }).to_string());
}

fn frames_in(stats: &Value) -> u64 {
    stats["totals"]["frames_in"].as_u64().unwrap_or_default()
}

fn newest_stats(log: &Log) -> Option<&Value> {
    log.of("stats").last()
}

/// Frames that a member has put on its channel with another one.
fn frames_out(stats: &Value, peer: &str) -> Option<u64> {
    let channels = stats["channels"].as_array()?;
    channels.iter().find(|channel| channel["peer_id"] == peer)?["frames_out"].as_u64()
}

#[test]
fn r9_data_for_one_goes_through_a_relay_and_on_no_channel_off_its_path() {
    let place = Place::new();
    let (members, _) = star(&place);
    let [relay, a, b, c] = members.as_slice() else { panic!("four") };
    let to = b.peer_id();
    for number in 1..=10 {
        tell(a, &format!("for b {number}"), &to);
    }
    has_messages(b, 10);
    a.wait("ten receipts", |log| (log.receipts.len() == 10).then_some(()));
    assert!(a.log().receipts.iter().all(|receipt| (receipt.delivered, receipt.missing) == (1, 0)));
    assert!(b.log().messages.iter().all(|message| message.to.as_ref() == Some(&to)));
    // One for all, to see that the others hear what is meant for them: it is all that they get.
    a.send("for all");
    for member in [relay, b, c] {
        let text = |log: &Log| log.messages.last().and_then(|last| last.text.clone());
        member.wait("what is for all", |log| (text(log)? == "for all").then_some(()));
        assert_eq!(member.log().messages.last().and_then(|last| last.to.clone()), None);
    }
    assert_eq!((relay.log().messages.len(), c.log().messages.len()), (1, 1));
    let crossed = c.wait("what crossed its channel", |log| {
        newest_stats(log).map(frames_in).filter(|frames| *frames > 0)
    });
    assert_eq!(crossed, 1, "the frame for all, and no other");
    let id = c.peer_id();
    let sent = relay.wait("the same at the relay", |log| {
        newest_stats(log).and_then(|stats| frames_out(stats, &id)).filter(|frames| *frames > 0)
    });
    assert_eq!(sent, 1);
    let carried = b.wait("frames for b", |log| newest_stats(log).map(frames_in).filter(|n| *n > 1));
    assert!((2..=11).contains(&carried), "{carried}");
    for member in members {
        let name = member.name().to_owned();
        let log = member.leave();
        assert_eq!(log.of("lost").count(), 0, "{name}: numbers for others are no losses");
    }
}

#[test]
fn r9_data_for_somebody_unknown_is_an_error_and_the_process_goes_on() {
    let place = Place::new();
    let (mut members, ticket) = star(&place);
    let stranger = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let a = &members[1];
    let own = a.peer_id();
    tell(a, "x", stranger);
    tell(a, "x", &own);
    tell(a, "x", "somebody");
    a.line(json!({ "deny": own }).to_string());
    a.wait("four errors", |log| (log.of("error").count() == 4).then_some(()));
    let errors = ["unknown_peer", "unknown_peer", "invalid_input", "invalid_input"];
    assert_eq!(a.log().errors(), errors);
    a.send("still here");
    has_messages(&members[3], 1);
    let args = with_loopback(&["send", &ticket, "--to", stranger, "--nick", "pipe"]);
    let mut pipe = place.process("arborcast", "send", &args).start();
    pipe.raw(b"x\n".to_vec());
    pipe.close();
    let ended = pipe.ended();
    assert_eq!(ended.code, Some(1), "{}", ended.complaint());
    assert!(ended.complaint().contains("is not in the session"), "{}", ended.complaint());
    // The same to somebody who is there.
    let to = members[2].peer_id();
    let args = with_loopback(&["send", &ticket, "--to", &to, "--nick", "pipe"]);
    let mut pipe = place.process("arborcast", "send", &args).start();
    pipe.raw(b"one\ntwo\n".to_vec());
    pipe.close();
    let ended = pipe.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert_eq!(ended.log.plain, ["delivered 2 messages to 1 member"]);
    has_messages(&members[2], 3);
    // By name, which is looked for among the others only.
    let pipe = |name: &str| {
        let args = with_loopback(&["send", &ticket, "--to", name, "--nick", "b"]);
        let mut pipe = place.process("arborcast", "send", &args).start();
        pipe.raw(b"three\n".to_vec());
        pipe.close();
        pipe.ended()
    };
    let ended = pipe("b");
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert_eq!(ended.log.plain, ["delivered 1 message to 1 member"]);
    has_messages(&members[2], 4);
    let ended = pipe("nobody");
    assert_eq!(ended.code, Some(1), "{}", ended.complaint());
    assert!(ended.complaint().contains("nobody else here is called"), "{}", ended.complaint());
    assert_eq!(members[3].log().messages.len(), 1);
    members.clear();
}
