//! What is wrong is refused, with the right exit code and words that help.

use arborcast_protocol::{session::Contact, testing, ticket::Ticket};
use arborcast_tests::process::{Ended, Place};
use serde_json::json;

use arborcast_tests::{
    group::{group, has_messages, host, with_loopback},
    scenario::restart,
};

/// Runs a command to its end.
fn run(place: &Place, args: &[&str]) -> Ended {
    let mut process = place.start("command", args);
    process.close();
    process.ended()
}

/// Asserts how a command ends, and that both its streams say the same of it.
fn fails(ended: &Ended, code: i32, words: &[&str]) {
    let complaint = ended.complaint();
    assert_eq!(ended.code, Some(code), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
}

/// The message of the only `error` event.
fn error(ended: &Ended) -> String {
    let errors: Vec<_> = ended.log.of("error").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn bad_tickets_and_flags_are_wrong_usage() {
    let place = Place::new();
    let (_host, ticket) = host(&place);
    let cut = &ticket[..ticket.len() - 9];
    let mut mistyped = ticket.clone().into_bytes();
    let middle = mistyped.len() / 2;
    mistyped[middle] = if mistyped[middle] == b'a' { b'b' } else { b'a' };
    let mistyped = String::from_utf8(mistyped).expect("is ASCII");
    for bad in [cut, &mistyped, "arb1", "arb1!!!!", &ticket.replace('a', "0")] {
        for command in ["join", "send", "recv"] {
            let ended = run(&place, &[command, bad]);
            fails(&ended, 2, &["ticket"]);
            assert!(ended.complaint().contains(&error(&ended)));
        }
    }
    fails(&run(&place, &["join", "lobby"]), 2, &["--peer"]);
    for wrong in [
        &["join", &ticket, "--fanout", "0"][..],
        &["join", &ticket, "--nick", ""],
        &["join", &ticket, "--nick", &"x".repeat(65)],
        &["join", &ticket, "--listen", "here"],
        &["join", &ticket, "--no-such-flag"],
        &["join", &ticket, "--leaf", "--fanout", "2"],
        &["join"],
        &["host", "--open"],
        &["host", "--passphrase", "x"],
        &["host", "lobby", "--open", "--passphrase", "x"],
        &["host", "arb1lobby"],
        &["join", &ticket, "--stats-interval", "0"],
        &["no-such-command"],
        &["join", &ticket, "--log", "=="],
    ] {
        let ended = run(&place, wrong);
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.complaint());
        assert!(ended.complaint().contains(&error(&ended)), "{wrong:?}: {}", ended.complaint());
    }
}

#[test]
fn help_is_no_error() {
    let place = Place::new();
    for args in [&["--help"][..], &["join", "--help"], &["--version"]] {
        let ended = run(&place, args);
        assert_eq!((ended.code, ended.complaint().as_str()), (Some(0), ""), "{args:?}");
        assert!(!ended.log.plain.is_empty() && ended.log.events.is_empty(), "{args:?}");
    }
}

#[test]
fn a_ticket_file_without_a_ticket_is_wrong_usage() {
    let place = Place::new();
    let _ = place.file("note", b"lobby\n");
    for file in ["@note", "@no-such-file", "@"] {
        let ended = run(&place, &["join", file, "--peer", "/ip4/127.0.0.1/tcp/1"]);
        fails(&ended, 2, &[]);
        assert_eq!(ended.log.errors(), ["bad_ticket"], "{file}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_the_command() {
    let place = Place::new();
    let args = with_loopback(&["host", "lobby", "--open"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("is there");
    let output = place.process("arborcast", "host", &args).command().stdout(full).output();
    let output = output.expect("the command runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("cannot write to standard output"), "{complaint}");
}

/// Neither over TCP, where the system would share the port, nor over QUIC.
#[test]
fn a_second_process_on_a_taken_port_fails() {
    let place = Place::new();
    let (_first, _, listen) = restart::first(&place);
    for address in &listen {
        for (binary, args) in [
            ("arborcast-coordinator", vec!["--identity", "other.key", "--json"]),
            ("arborcast", vec!["join", "lobby", "--peer", address, "--json"]),
        ] {
            let args = [args, vec!["--listen", address]].concat();
            let ended = place.process(binary, "second", &args).start().ended();
            fails(&ended, 1, &["cannot listen on", address, "in use"]);
        }
    }
}

/// As a power cut may leave it: it is refused, and not replaced by another identity.
#[test]
fn a_damaged_key_of_a_coordinator_is_wrong_usage_and_stays() {
    let place = Place::new();
    let (first, peer, listen) = restart::first(&place);
    first.kill();
    let key = place.path("c.key");
    let whole = std::fs::read(&key).expect("a key");
    for torn in [&whole[..0], &whole[..30]] {
        std::fs::write(&key, torn).expect("written");
        let ended = restart::coordinator(&place, "torn", &listen).ended();
        fails(&ended, 2, &["damaged", "put a copy"]);
        assert_eq!(std::fs::read(&key).expect("still there"), torn);
    }
    std::fs::write(&key, &whole).expect("put back");
    let again = restart::coordinator(&place, "again", &listen).ready("peer_id");
    assert!(peer.ends_with(&again), "{again} is not the one of {peer}");
}

#[test]
fn another_key_than_the_ticket_says_is_not_believed() {
    let place = Place::new();
    let (_host, ticket) = host(&place);
    let ticket: Ticket = ticket.parse().expect("the host prints a ticket");
    let other = testing::member(7);
    let contact = Contact { member: other, addresses: ticket.coordinators[0].addresses.clone() };
    let forged = Ticket::new(ticket.access.clone(), ticket.name.clone(), vec![contact]);
    let forged = forged.expect("is a good ticket").to_string();
    let began = arborcast_tests::process::now();
    let ended = run(&place, &with_loopback(&["join", &forged, "--connect-timeout", "5"]));
    fails(&ended, 4, &[&other.to_string(), &ticket.coordinators[0].member.to_string()]);
    assert!(ended.complaint().contains(&error(&ended)));
    println!("told after {} ms", began.elapsed().as_millis());
}

#[test]
fn a_coordinator_that_is_not_there_is_unreachable() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let address = host.event("ready")["listen"][0].as_str().expect("an address").to_owned();
    host.leave();
    let ended = run(&place, &with_loopback(&["join", &ticket, "--connect-timeout", "2"]));
    fails(&ended, 4, &["127.0.0.1"]);
    let by_name = ["recv", "lobby", "--peer", &address, "--connect-timeout", "2"];
    fails(&run(&place, &with_loopback(&by_name)), 4, &["127.0.0.1"]);
}

#[test]
fn open_sessions_are_held_only_where_they_are_wanted() {
    let place = Place::new();
    let (host, _) = host(&place);
    let address = host.event("ready")["listen"][0].as_str().expect("an address").to_owned();
    let ended = run(&place, &with_loopback(&["join", "lobby", "--peer", &address]));
    fails(&ended, 3, &["open"]);
    assert_eq!(ended.log.errors(), ["no_open_sessions"]);

    let args = with_loopback(&["--no-open-sessions", "--identity", "c.key"]);
    let coordinator =
        place.process("arborcast-coordinator", "coordinator", &args).arg("--json").start();
    let address = coordinator.event("ready")["listen"][0].as_str().expect("one").to_owned();
    let ended = run(&place, &with_loopback(&["join", "lobby", "--peer", &address]));
    fails(&ended, 3, &["open"]);
}

#[test]
fn a_wrong_passphrase_is_not_admitted() {
    let place = Place::new();
    let args = with_loopback(&["host", "lobby", "--passphrase", "four random words here"]);
    let host = place.start("host", &args);
    let address = host.event("ready")["listen"][0].as_str().expect("an address").to_owned();
    let join = |passphrase: &str| {
        let args = ["send", "lobby", "--peer", &address, "--passphrase", passphrase];
        run(&place, &with_loopback(&args))
    };
    assert_eq!(join("four random words here").code, Some(0));
    fails(&join("something else"), 3, &["passphrase"]);
}

#[test]
fn bad_lines_are_reported_and_good_ones_still_sent() {
    let place = Place::new();
    let (members, _) = group(&place, 2);
    let [host, member] = members.try_into().expect("are two");
    let too_large = format!(r#"{{"send":"{}"}}"#, "x".repeat((16 << 20) + 1));
    let longer_than_any = format!(r#"{{"send":"{}"}}"#, "x".repeat(24 << 20));
    let deep = "[".repeat(100_000);
    let live_to_one = format!(r#"{{"send":"x","to":"{}","class":"live"}}"#, host.peer_id());
    let too_large_live = format!(r#"{{"send":"{}","class":"live"}}"#, "x".repeat((1 << 20) + 1));
    let bad: [(&[u8], &str); 15] = [
        (b"hello", "invalid_input"),
        (b"{", "invalid_input"),
        (b"{}", "invalid_input"),
        (b"[]", "invalid_input"),
        (b"[\"arr\",null,null,null,null]", "invalid_input"),
        (b"{\"send\":5}", "invalid_input"),
        (b"{\"sned\":\"x\"}", "invalid_input"),
        (b"{\"send\":\"\xff\"}", "invalid_input"),
        (deep.as_bytes(), "invalid_input"),
        (b"{\"send\":\"x\",\"to\":\"y\"}", "invalid_input"),
        (b"{\"send\":\"x\",\"class\":\"lively\"}", "invalid_input"),
        (live_to_one.as_bytes(), "unsupported"),
        (too_large_live.as_bytes(), "rejected"),
        (too_large.as_bytes(), "message_too_large"),
        (longer_than_any.as_bytes(), "message_too_large"),
    ];
    for (number, (line, _)) in bad.iter().enumerate() {
        member.line(line);
        member.send(&format!("good {number}"));
    }
    has_messages(&host, bad.len());
    let log = member.leave();
    let expected: Vec<_> = bad.iter().map(|(_, code)| *code).collect();
    assert_eq!(log.errors(), expected);
    for (number, error) in log.of("error").enumerate() {
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("line {}: ", 2 * number + 1)), "{message}");
    }
    let texts: Vec<_> = host.log().messages.iter().map(|message| message.text.clone()).collect();
    let good: Vec<_> = (0..bad.len()).map(|number| Some(format!("good {number}"))).collect();
    assert_eq!(json!(texts), json!(good));
}

#[test]
fn a_file_over_the_limit_is_refused_before_anything_is_joined() {
    let place = Place::new();
    let (_host, ticket) = host(&place);
    let file = place.file("large", &vec![b'x'; (17 << 20) + 1]);
    let ended = run(&place, &["send", &ticket, file.to_str().expect("is UTF-8")]);
    fails(&ended, 1, &["17.1 MiB", "16 MiB"]);
    assert_eq!(ended.log.errors(), ["message_too_large"]);
    fails(&run(&place, &["send", &ticket, "no-such-file"]), 1, &["no-such-file"]);
}
