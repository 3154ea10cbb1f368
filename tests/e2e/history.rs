//! What those who join late get of what was sent before.

use arborcast_tests::process::{Place, Process};

use arborcast_tests::group::{has_messages, in_order, settle, with_loopback};

/// How much is sent before the late one joins.
const BEFORE: u64 = 20;

/// Starts a session and a second member, and sends messages that both are known to keep as history.
fn with_past(place: &Place, args: &[&str]) -> (Vec<Process>, String) {
    let counters = ["--stats-interval", "0.1"];
    let args = [&["host", "--nick", "host"], args, &counters].concat();
    let host = place.start("host", &with_loopback(&args));
    let ticket = host.ready("ticket");
    let args = [&["join", ticket.as_str(), "--nick", "early"], &counters[..]].concat();
    let members = vec![host, place.start("early", &with_loopback(&args))];
    settle(&members, 2);
    for number in 1..=BEFORE {
        members[0].send(&format!("message {number}"));
    }
    has_messages(&members[1], usize::try_from(BEFORE).expect("is small"));
    for member in &members {
        member.wait("counters that show all as history", |log| {
            let stats = log.of("stats").last()?;
            let figure = |name: &str| stats[name].as_u64();
            (figure("store_bytes") == Some(0) && figure("history_bytes") > Some(0)).then_some(())
        });
    }
    (members, ticket)
}

/// What a late joiner prints of the source, up to a message that is sent once it is there and has so many
/// of those before.
fn heard(args: &[&str], past: u64) -> Vec<u64> {
    let place = Place::new();
    let (mut members, ticket) = with_past(&place, args);
    members.push(place.start("late", &with_loopback(&["join", &ticket, "--nick", "late"])));
    settle(&members, 3);
    has_messages(&members[2], usize::try_from(past).expect("is small"));
    members[0].send("all together");
    let last = |log: &arborcast_tests::process::Log| {
        log.messages.last().is_some_and(|message| message.seq == BEFORE + 1).then_some(())
    };
    members[2].wait("what is new", last);
    let late = members.remove(2).leave();
    in_order("late", &late);
    late.messages.iter().map(|message| message.seq).collect()
}

#[test]
fn late_joiners_print_nothing_of_before_by_default() {
    assert_eq!(heard(&[], 0), [BEFORE + 1]);
    assert_eq!(heard(&["--history", "none"], 0), [BEFORE + 1]);
}

#[test]
fn late_joiners_print_the_last_five() {
    assert_eq!(heard(&["--history", "5"], 5), (BEFORE - 4..=BEFORE + 1).collect::<Vec<_>>());
}

#[test]
fn late_joiners_print_all() {
    assert_eq!(heard(&["--history", "all"], BEFORE), (1..=BEFORE + 1).collect::<Vec<_>>());
}

#[test]
fn a_coordinator_by_itself_grants_history_by_its_settings() {
    let place = Place::new();
    let _ = place.file("c.toml", b"[engine]\nsession_history = 2\n");
    let args = with_loopback(&["--identity", "c.key", "--config", "c.toml"]);
    let coordinator =
        place.process("arborcast-coordinator", "coordinator", &args).arg("--json").start();
    let address = coordinator.event("ready")["listen"][0].as_str().expect("one").to_owned();
    let join = |name: &str| {
        let args = ["join", "lobby", "--peer", &address, "--nick", name, "--stats-interval", "0.1"];
        place.start(name, &with_loopback(&args))
    };
    let mut members = vec![join("first"), join("second")];
    settle(&members, 2);
    for number in 1..=4 {
        members[0].send(&format!("message {number}"));
    }
    has_messages(&members[1], 4);
    for member in &members {
        member.wait("empty stores", |log| {
            let stats = log.of("stats").last()?;
            (stats["store_bytes"] == 0 && stats["history_bytes"] != 0).then_some(())
        });
    }
    members.push(join("late"));
    settle(&members, 3);
    has_messages(&members[2], 2);
    let seqs: Vec<u64> = members[2].log().messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [3, 4]);
}

#[test]
fn what_history_is_may_be_set_in_file_environment_and_flag() {
    let place = Place::new();
    let _ = place.file("c.toml", b"history = 7\n");
    let printed = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["host", "--print-config"], args].concat();
        let process = place.process("arborcast", "command", &args);
        let process = variables.iter().fold(process, |all, (name, value)| all.env(name, value));
        let mut process = process.start();
        process.close();
        let ended = process.ended();
        let found = ended.log.plain.iter().find(|line| line.starts_with("history = ")).cloned();
        (ended.code, found.unwrap_or_else(|| ended.complaint()))
    };
    let good = |history: &str| (Some(0), format!("history = \"{history}\""));
    assert_eq!(printed(&[], &[]), good("none"));
    assert_eq!(printed(&["--config", "c.toml"], &[]), good("7"));
    let variable = [("ARBORCAST_HISTORY", "all")];
    assert_eq!(printed(&["--config", "c.toml"], &variable), good("all"));
    assert_eq!(printed(&["--config", "c.toml", "--history", "3"], &variable), good("3"));

    let (code, complaint) = printed(&["--history", "some"], &[]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("must be none, all, or a number of messages"), "{complaint}");
    let (code, complaint) = printed(&[], &[("ARBORCAST_HISTORY", "some")]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("ARBORCAST_HISTORY: history: "), "{complaint}");
    assert!(complaint.contains("\"none\", \"all\" or a number"), "{complaint}");
}
