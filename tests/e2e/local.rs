//! `tree` and `status` ask running members; signals end them.

use arborcast_tests::{
    group::{group, host, join, settle, with_loopback},
    process::{Ended, Place, Process},
};
use serde_json::Value;

fn plain(place: &Place, args: &[&str]) -> Ended {
    place.process("arborcast", "command", args).start().ended()
}

#[test]
fn tree_and_status_show_what_the_members_know() {
    let place = Place::new();
    let none = place.start("tree", &["tree"]).ended();
    assert_eq!(none.code, Some(1), "{}", none.complaint());
    assert_eq!(none.log.errors(), ["not_running"]);

    let (members, _) = group(&place, 3);
    let session = members[0].ready("session");
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();

    let text = plain(&place, &["tree"]);
    assert_eq!(text.code, Some(0), "{}", text.complaint());
    let shown = text.log.plain.join("\n");
    assert_eq!(shown.matches("(you)").count(), 3, "{shown}");
    for nick in ["host", "m1", "m2"] {
        // With what follows it: letters of an id may spell a name.
        assert_eq!(shown.matches(&format!("{nick} (")).count(), 3, "{nick} in {shown}");
    }

    let trees = place.start("tree", &["tree", &session[..10]]).ended();
    let trees: Vec<Value> = trees.log.of("tree").cloned().collect();
    assert_eq!(trees.len(), 3);
    for tree in &trees {
        assert_eq!(tree["edges"].as_array().map(Vec::len), Some(2), "{tree}");
        assert!(tree["epoch"].as_u64().is_some_and(|epoch| epoch > 1 << 32), "{tree}");
    }
    let unknown = place.start("tree", &["tree", "no-such-session"]).ended();
    assert_eq!(unknown.code, Some(1), "{}", unknown.complaint());
    let (_, there) = unknown
        .complaint()
        .rsplit_once("there are: ")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("sessions");
    assert!(!there.contains(','), "one session, three members: {there}");

    let status = place.start("status", &["status"]).ended();
    let status: Vec<Value> = status.log.of("status").cloned().collect();
    let mut shown: Vec<&str> = status.iter().filter_map(|one| one["peer_id"].as_str()).collect();
    let mut expected: Vec<&str> = ids.iter().map(String::as_str).collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    for one in &status {
        assert_eq!(one["session"], session.as_str());
        assert_eq!(one["channels"].as_array().map(Vec::len), Some(2), "{one}");
    }
    let text = plain(&place, &["status"]);
    assert!(text.log.plain.iter().any(|line| line.contains("coordinator")));
}

#[test]
fn r14_the_tree_is_shown_as_text_graph_list_matrix_and_json() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let first = join(&place, &ticket, "m1");
    let first_id = first.peer_id();
    let args = ["join", &ticket, "--nick", "m2", "--deny", &first_id];
    let members = [host, first, place.start("m2", &with_loopback(&args))];
    // There is no other tree than that with the host in the middle.
    settle(&members, 3);
    let shown = |format| {
        let ended = plain(&place, &["tree", "--format", format]);
        assert_eq!(ended.code, Some(0), "{format}: {}", ended.complaint());
        ended.log
    };
    // Each of the three processes tells its view of the same tree of three members and two edges.
    let text = shown("text").plain.join("\n");
    assert_eq!(text.matches("─ ").count(), 6, "{text}");
    let graph = shown("dot").plain.join("\n");
    // The other forms show it once.
    assert_eq!((graph.matches(" -- ").count(), graph.matches("graph ").count()), (2, 1), "{graph}");
    let list = shown("list").plain;
    let neighbours: usize = list
        .iter()
        .filter_map(|line| line.strip_prefix("  ")?.rsplit_once("): "))
        .map(|(_, numbers)| numbers.split(' ').count())
        .sum();
    assert_eq!(neighbours, 4, "{list:?}");
    let matrix = shown("matrix").plain;
    let ones: usize = matrix
        .iter()
        .filter_map(|line| line.strip_prefix("  ")?.get(2..8))
        .map(|bits| bits.matches('1').count())
        .sum();
    assert_eq!(ones, 4, "{matrix:?}");
    assert_eq!(shown("json").of("tree").count(), 3);
    let both = place.start("tree", &["tree", "--format", "dot"]).ended();
    assert_eq!(both.code, Some(2), "{}", both.complaint());
    drop(members);
}

#[test]
fn sockets_of_the_dead_are_cleaned_and_a_chosen_one_serves() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let socket = place.path("own.sock");
    let socket = socket.to_str().expect("is UTF-8");
    let chosen = place.start("chosen", &with_loopback(&["join", &ticket, "--socket", socket]));
    let victim = join(&place, &ticket, "victim");
    host.wait("three members", |log| log.spans(3).then_some(()));
    let victims = place.path("run").join("arborcast").join(format!("{}.sock", victim.id()));
    assert!(victims.exists());
    victim.kill();
    assert!(victims.exists(), "nobody has cleaned up yet");

    let found = place.start("status", &["status"]).ended();
    let found: Vec<_> = found.log.of("status").map(|one| one["peer_id"].clone()).collect();
    assert_eq!(found, [host.peer_id().as_str()]);
    assert!(!victims.exists(), "the dead one's socket is gone");

    let found = place.start("status", &["status", "--socket", socket]).ended();
    let found: Vec<_> = found.log.of("status").map(|one| one["peer_id"].clone()).collect();
    assert_eq!(found, [chosen.peer_id().as_str()]);
    let taken =
        place.start("taken", &with_loopback(&["join", &ticket, "--socket", socket])).ended();
    assert_eq!(taken.code, Some(2), "{}", taken.complaint());
    chosen.leave();
    assert!(!std::path::Path::new(socket).exists(), "whoever leaves takes its socket along");
}

/// Where no folder of the user's own is told, or one that is of no use, members are found all the same.
#[test]
fn sockets_have_a_place_whatever_the_runtime_folder_is() {
    let place = Place::new();
    let (_host, ticket) = host(&place);
    let long = place.path(&"long".repeat(25));
    std::fs::create_dir(&long).expect("can be made");
    let long = long.to_str().expect("is UTF-8");
    for runtime in ["", "/nowhere/at/all", "not/absolute", long] {
        let args = with_loopback(&["join", &ticket, "--json"]);
        let join =
            place.process("arborcast", "join", &args).env("XDG_RUNTIME_DIR", runtime).start();
        let status = || {
            let status = place.process("arborcast", "status", &["status", "--json"]);
            status.env("XDG_RUNTIME_DIR", runtime).start().ended()
        };
        let id = join.peer_id();
        assert!(status().log.of("status").any(|one| one["peer_id"] == id.as_str()), "{runtime:?}");
        join.leave();
        let none = status();
        if !none.log.of("status").any(|_| true) {
            assert!(none.complaint().contains("looked in "), "{}", none.complaint());
        }
    }
}

#[test]
fn a_polite_signal_leaves_and_the_others_see_it() {
    let place = Place::new();
    let (mut members, _) = group(&place, 5);
    for name in ["TERM", "INT", "HUP"] {
        if name == "HUP" && is_hangup_ignored() {
            println!(
                "skipped: HUP: whoever runs this ignores it, and so do the processes that it starts"
            );
            continue;
        }
        let leaver = members.pop().expect("there are five");
        let id = leaver.peer_id();
        leaver.signal(name);
        let ended = leaver.ended();
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.complaint());
        for member in &members {
            member.wait(&format!("the one that got {name} leaving"), |log| {
                log.of("left").any(|left| left["peer_id"] == id.as_str()).then_some(())
            });
        }
        settle(&members, members.len());
    }
}

/// One Ctrl-C is enough whatever is waited for: a ticket, a passphrase or a file that nobody writes.
#[test]
fn one_signal_ends_a_process_that_waits_for_a_pipe() {
    let place = Place::new();
    let pipe = place.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()), "a named pipe");
    let pipe = pipe.to_str().expect("is UTF-8");
    let (ticket, config) = (format!("@{pipe}"), format!("--config={pipe}"));
    let peer = "--peer=/ip4/127.0.0.1/tcp/1";
    for (args, code) in [
        (vec!["join", &ticket], 0),
        (vec!["recv", "lobby", peer, "--passphrase-file", pipe], 0),
        (vec!["recv", "lobby", peer, "--output", pipe], 0),
        (vec!["host", "lobby", "--passphrase-file", pipe], 0),
        (vec!["host", &config], 0),
        (vec!["send", "lobby", pipe, peer], 1),
    ] {
        let waiting = place.process("arborcast", "waiting", &args).null_input().start();
        waiting.interrupt();
        let ended = waiting.ended();
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.complaint());
    }
}

/// Whether this process was started to ignore that terminals close, as by `nohup` (proc(5)).
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).unwrap_or_default() & 1 == 1
}

#[test]
fn a_member_that_was_told_to_ignore_that_its_terminal_closes_stays() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let join = with_loopback(&["join", &ticket, "--nick", "kept", "--json"]);
    let join = place.process("arborcast", "kept", &join).ignoring_hangup();
    let kept = join.start();
    host.wait("two members", |log| log.spans(2).then_some(()));
    kept.signal("HUP");
    host.send("still there?");
    kept.wait("the question", |log| (!log.messages.is_empty()).then_some(()));
    kept.leave();
}

#[test]
fn stats_come_as_often_as_asked_for_and_not_otherwise() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let args = with_loopback(&["join", &ticket, "--stats-interval", "0.2"]);
    let member = place.start("member", &args);
    host.wait("two members", |log| log.spans(2).then_some(()));
    host.send("count me");
    let stats = member.wait("the frame in the stats", |log| {
        log.of("stats").find(|stats| stats["totals"]["frames_in"] == 1).cloned()
    });
    let channel = &stats["channels"][0];
    assert_eq!(channel["peer_id"], host.peer_id().as_str());
    assert_eq!(channel["frames_in"], 1);
    assert_eq!(channel["duplicates"], 0);
    assert_eq!(stats["subscribes"], 1);
    assert_eq!(host.log().of("stats").count(), 0);
}

#[test]
fn a_host_without_input_stays_until_it_is_asked_to_go() {
    let place = Place::new();
    let args = with_loopback(&["host", "--json"]);
    let command = place.process("arborcast", "host", &args).null_input();
    let host = command.start();
    let ticket = host.ready("ticket");
    let member = join(&place, &ticket, "member");
    member.wait("two members", |log| log.spans(2).then_some(()));
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}
