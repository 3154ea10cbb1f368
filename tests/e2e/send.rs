//! `send` and `recv`, as in pipes.

use std::process::Command;

use arborcast_tests::process::{Place, digest};

use arborcast_tests::group::{has_messages, host, in_order, settle, with_loopback};

const MIB: usize = 1 << 20;

#[test]
fn a_file_reaches_three_receivers_whole() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let mut all = vec![host];
    for number in 1..=3 {
        all.push(place.start(&format!("recv{number}"), &with_loopback(&["recv", &ticket])));
    }
    settle(&all, 4);
    let lines: Vec<String> = (0..10 * MIB / 16).map(|number| format!("{number:015}\n")).collect();
    let content = lines.concat();
    let file = place.file("big", content.as_bytes());
    let file = file.to_str().expect("is UTF-8");
    let sender = place.start("send", &with_loopback(&["send", &ticket, file]));
    let ended = sender.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    let receipts: Vec<_> =
        ended.log.receipts.iter().map(|receipt| (receipt.delivered, receipt.missing)).collect();
    assert_eq!(receipts, [(4, 0)]);
    for member in &all {
        has_messages(member, 1);
        let log = member.log();
        let message = &log.messages[0];
        assert_eq!(message.bytes, content.len() as u64);
        assert_eq!(message.digest, digest(content.as_bytes()), "{}", member.name());
    }
}

#[test]
fn a_sender_names_those_that_have_not_got_it_in_time() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let join = |nick| place.start(nick, &with_loopback(&["join", &ticket, "--nick", nick]));
    let (well, stopped) = (join("well"), join("stopped"));
    let args = with_loopback(&["send", &ticket, "--within", "3"]);
    let mut sender = place.start("send", &args);
    sender.wait("all four", |log| log.spans(4).then_some(()));
    // All have it, then one has not.
    sender.send("one");
    sender.wait("a receipt", |log| (log.receipts.len() == 1).then_some(()));
    stopped.signal("STOP");
    sender.send("two");
    has_messages(&host, 2);
    has_messages(&well, 2);
    sender.close();
    let ended = sender.ended();
    stopped.signal("CONT");
    assert_eq!(ended.code, Some(1), "{}", ended.complaint());
    let receipts: Vec<_> =
        ended.log.receipts.iter().map(|receipt| (receipt.delivered, receipt.missing)).collect();
    assert_eq!(receipts, [(3, 0), (2, 1)]);
    let error = ended.log.of("error").last().expect("an error");
    assert_eq!(error["code"], "not_delivered");
    let text = error["message"].as_str().expect("text");
    assert!(
        text.contains("1 of 2 messages not confirmed") && text.contains("not by stopped"),
        "{text}"
    );
    // It is there again, and gets what was sent meanwhile from those that stayed.
    has_messages(&stopped, 2);
}

#[test]
fn lines_of_a_pipe_come_as_readable_lines() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let recv = |name| place.process("arborcast", name, &with_loopback(&["recv", &ticket])).start();
    let receivers = [recv("recv1"), recv("recv2"), recv("recv3")];
    host.wait("three receivers", |log| log.spans(4).then_some(()));
    let args = with_loopback(&["send", &ticket, "--nick", "pipe"]);
    let mut sender = place.process("arborcast", "send", &args).start();
    sender.raw(b"one\n\ntwo \x1b[2Jlines\n\xff\xfe".to_vec());
    sender.close();
    let ended = sender.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert_eq!(ended.log.plain, ["delivered 4 messages to 4 members"]);
    for receiver in receivers {
        let name = receiver.name().to_owned();
        receiver.wait("four lines", |log| (log.plain.len() == 4).then_some(()));
        receiver.signal("TERM");
        let ended = receiver.ended();
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.complaint());
        assert_eq!(
            ended.log.plain,
            ["pipe: one", "pipe: ", "pipe: two �[2Jlines", "pipe: <2 bytes>"],
            "{name}"
        );
    }
    has_messages(&host, 4);
    in_order("host", &host.log());
}

#[test]
fn a_service_that_is_asked_for_is_all_that_is_printed() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let args = with_loopback(&["recv", &ticket, "--service", "7", "--count", "1"]);
    let receiver = place.start("recv", &args);
    host.wait("the receiver", |log| log.spans(2).then_some(()));
    host.line(r#"{"send":"other","service":8}"#);
    host.line(r#"{"send":"wanted","service":7}"#);
    let ended = receiver.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    let texts: Vec<_> = ended.log.messages.iter().map(|message| message.text.as_deref()).collect();
    assert_eq!(texts, [Some("wanted")]);
}

#[test]
fn alone_there_is_nobody_to_deliver_to() {
    let place = Place::new();
    let (host, _) = host(&place);
    host.send("anybody?");
    let receipt =
        host.wait("a receipt", |log| log.receipts.first().map(|receipt| receipt.delivered));
    assert_eq!(receipt, 0);
    let log = host.leave();
    assert_eq!(log.complaints(), Vec::<String>::new());
}

#[test]
fn a_sender_that_is_alone_says_so() {
    let place = Place::new();
    let args = with_loopback(&["--identity", "c.key"]);
    let coordinator =
        place.process("arborcast-coordinator", "coordinator", &args).arg("--json").start();
    let address = coordinator.event("ready")["listen"][0].as_str().expect("one").to_owned();
    let args = with_loopback(&["send", "lobby", "--peer", &address]);
    let mut sender = place.process("arborcast", "send", &args).start();
    sender.line("hello?");
    sender.close();
    let ended = sender.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert!(ended.log.plain.concat().contains("nobody else is in the session"));
}

#[test]
fn a_sender_that_reaches_nobody_says_what_it_waits_for() {
    let is_told = |text: &str| text.contains("in reach") || text.contains("not confirmed yet");
    let place = Place::new();
    let args = with_loopback(&["--identity", "c.key"]);
    let coordinator =
        place.process("arborcast-coordinator", "coordinator", &args).arg("--json").start();
    let address = coordinator.event("ready")["listen"][0].as_str().expect("one").to_owned();
    let member = place.start("member", &with_loopback(&["join", "lobby", "--peer", &address]));
    let id = member.peer_id();
    member.wait("its tree", |log| log.spans(1).then_some(()));
    let args = with_loopback(&["send", "lobby", "--peer", &address, "--deny", &id]);
    // For programs and for people, who do not reach each other either. Until the other ends know that
    // they are denied, they may be in the tree for a moment: then their confirmation is awaited.
    let sender = place.start("sender", &args);
    sender.send("hello?");
    sender.wait("why it waits", |log| {
        let mut errors = log.of("error").filter(|error| error["code"] == "waiting");
        errors.any(|error| is_told(&error["message"].to_string())).then_some(())
    });
    let other = sender.peer_id();
    let args = [&args[..], &["--deny", &other]].concat();
    let sender = place.process("arborcast", "people", &args).start();
    sender.line("hello?");
    sender
        .wait("why it waits", |log| log.complaints.iter().any(|line| is_told(line)).then_some(()));
}

#[test]
fn a_member_cannot_shut_itself_out() {
    let place = Place::new();
    let (_host, ticket) = host(&place);
    let own = ["join", &ticket, "--identity", "me.key"];
    let member = place.start("member", &with_loopback(&own));
    let id = member.peer_id();
    member.leave();
    let impaired = format!("{id}:delay=1ms");
    for rule in [["--deny", &id], ["--impair", &impaired]] {
        let ended = place.start("again", &with_loopback(&[&own[..], &rule].concat())).ended();
        assert_eq!(ended.code, Some(2), "{}", ended.complaint());
        assert_eq!(ended.log.errors(), ["usage"]);
        let expected = format!("{}: {id} is this member itself", rule[0]);
        assert!(ended.complaint().contains(&expected), "{}", ended.complaint());
    }
}

#[test]
fn a_pipe_is_sent_as_it_stands_and_says_so() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let args = with_loopback(&["send", &ticket, "--delay-bound", "50"]);
    let mut sender = place.process("arborcast", "send", &args).start();
    sender.raw(b"/to host hello\n/to host again\n".to_vec());
    sender.close();
    let ended = sender.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    has_messages(&host, 2);
    assert_eq!(host.log().messages[0].text.as_deref(), Some("/to host hello"));
    let complaint = ended.complaint();
    assert_eq!(complaint.matches("begins with /to").count(), 1, "{complaint}");
    assert_eq!(complaint.matches("--delay-bound has no effect").count(), 1, "{complaint}");
}

#[test]
fn a_reader_that_goes_away_ends_the_command() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    // A shell's pipe, whose reader takes one line and leaves.
    let recv = place.process("arborcast", "recv", &with_loopback(&["recv", &ticket])).command();
    let mut pipe = Command::new("sh");
    pipe.arg("-c").arg(r#""$0" "$@" | head -n 1"#).arg(recv.get_program()).args(recv.get_args());
    for (name, value) in recv.get_envs() {
        match value {
            Some(value) => pipe.env(name, value),
            None => pipe.env_remove(name),
        };
    }
    let pipe = std::thread::spawn(move || pipe.output().expect("a shell runs"));
    host.wait("the receiver", |log| log.spans(2).then_some(()));
    // The second line finds no reader.
    host.send("first");
    host.wait("the first receipt", |log| (!log.receipts.is_empty()).then_some(()));
    host.send("second");
    let output = pipe.join().expect("the pipe ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "host: first\n");
    host.wait("the receiver leaving", |log| log.of("left").next().map(drop));
}
