//! File, environment and flags, as both commands read them.

use arborcast_tests::process::{Ended, Place};

use arborcast_tests::group::{host, settle, with_loopback};

const MEMBER: (&str, &[&str]) = ("arborcast", &["join"]);
const COORDINATOR: (&str, &[&str]) = ("arborcast-coordinator", &[]);

/// Runs a command to its end.
fn run(
    place: &Place,
    (binary, command): (&str, &[&str]),
    args: &[&str],
    variables: &[(&str, &str)],
) -> Ended {
    let process = place.process(binary, "command", &[command, args].concat());
    let process = variables.iter().fold(process, |process, (name, value)| process.env(name, value));
    let mut process = process.start();
    process.close();
    process.ended()
}

/// What `--print-config` says of a field.
fn field(place: &Place, args: &[&str], variables: &[(&str, &str)], name: &str) -> String {
    let ended = run(place, MEMBER, &[args, &["--print-config"]].concat(), variables);
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    let start = format!("{name} = ");
    let found = ended.log.plain.iter().find_map(|line| line.strip_prefix(&start));
    found.unwrap_or_else(|| panic!("no {name} in {:?}", ended.log.plain)).to_owned()
}

#[test]
fn an_unknown_field_is_wrong_usage_and_is_named_with_file_and_line() {
    let place = Place::new();
    let _ = place.file("c.toml", b"# settings\nlisten = []\nlissten = []\n");
    for (binary, command) in [MEMBER, COORDINATOR] {
        let ended = run(&place, (binary, command), &["--config", "c.toml", "--print-config"], &[]);
        let complaint = ended.complaint();
        assert_eq!(ended.code, Some(2), "{complaint}");
        assert!(complaint.starts_with(&format!("{binary}: c.toml:3:1: ")), "{complaint}");
        assert!(complaint.contains("`lissten`") && complaint.contains("`listen`"), "{complaint}");
    }
    let ended = place.start("member", &["join", "arb1x", "--config", "c.toml"]).ended();
    assert_eq!((ended.code, ended.log.errors()), (Some(2), vec!["bad_config"]));
}

#[test]
fn a_figure_out_of_range_is_wrong_usage_wherever_it_comes_from() {
    let place = Place::new();
    let _ = place.file("c.toml", b"[session]\nfanout = 65\n");
    let ended = run(&place, MEMBER, &["--config", "c.toml", "--print-config"], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.complaint().contains("c.toml:2:10: session.fanout: "), "{}", ended.complaint());
    // A table of figures by service is no different.
    let _ = place.file("d.toml", b"[session.buffering]\nservices_ms = { 3 = 99999 }\n");
    let ended = run(&place, MEMBER, &["--config", "d.toml", "--print-config"], &[]);
    assert_eq!(ended.code, Some(2));
    let expected = "d.toml:2:21: session.buffering.services_ms: ";
    assert!(ended.complaint().contains(expected), "{}", ended.complaint());
    let service = "ARBORCAST_SESSION__BUFFERING__SERVICES_MS__7";
    let ended = run(&place, MEMBER, &["--print-config"], &[(service, "0")]);
    assert_eq!(ended.code, Some(2));
    let expected = format!("{service}: session.buffering.services_ms: ");
    assert!(ended.complaint().contains(&expected), "{}", ended.complaint());
    assert_eq!(field(&place, &[], &[(service, "50")], "services_ms"), "{ 7 = 50 }");
    let variable = ("ARBORCAST_COORDINATOR_ENGINE__MEMBERS", "0");
    let ended = run(&place, COORDINATOR, &["--print-config"], &[variable]);
    assert_eq!(ended.code, Some(2));
    let expected = "ARBORCAST_COORDINATOR_ENGINE__MEMBERS: engine.members: ";
    assert!(ended.complaint().contains(expected), "{}", ended.complaint());
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let place = Place::new();
    let _ = place.file("c.toml", b"nick = \"file\"\n[session]\nfanout = 3\n");
    let file = ["--config", "c.toml"];
    let variables = [("ARBORCAST_SESSION__FANOUT", "4")];
    assert_eq!(field(&place, &[], &[], "fanout"), "8");
    assert_eq!(field(&place, &file, &[], "fanout"), "3");
    assert_eq!(field(&place, &file, &variables, "fanout"), "4");
    let flags = [&file[..], &["--fanout", "5"]].concat();
    assert_eq!(field(&place, &flags, &variables, "fanout"), "5");
    assert_eq!(field(&place, &flags, &variables, "nick"), "\"file\"");
    // The file itself may be named by the environment.
    assert_eq!(field(&place, &[], &[("ARBORCAST_CONFIG", "c.toml")], "fanout"), "3");
    // An empty one names none.
    assert_eq!(field(&place, &[], &[("ARBORCAST_CONFIG", "")], "fanout"), "8");
    // And what is printed is what the member would run with.
    assert_eq!(field(&place, &[], &[], "nick"), "\"tester\"");
}

#[cfg(target_os = "linux")]
#[test]
fn settings_that_cannot_be_printed_are_a_failure() {
    let place = Place::new();
    for (binary, command) in [MEMBER, COORDINATOR] {
        let args = [command, &["--print-config"]].concat();
        let mut command = place.process(binary, "command", &args).command();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("is there");
        let ended = command.stdout(full).output().expect("the binary runs");
        let complaint = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{binary}: {complaint}");
        assert!(complaint.contains("cannot write to standard output"), "{binary}: {complaint}");
    }
}

#[test]
fn a_complaint_that_nobody_reads_is_no_panic() {
    let place = Place::new();
    // Warns of a variable, and complains of the ticket.
    for (binary, command) in
        [("arborcast", &["join", "arb1x"][..]), ("arborcast-coordinator", &["--identity", "."])]
    {
        let mut command = place
            .process(binary, "command", command)
            .env("ARBORCAST_X", "")
            .env("ARBORCAST_COORDINATOR_X", "")
            .command();
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let status = command
            .stdin(std::process::Stdio::null())
            .stderr(writer)
            .status()
            .expect("the binary runs");
        assert_eq!(status.code(), Some(2), "{binary}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let place = Place::new();
    let member = ["--fanout", "5", "--nick", "bea", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let coordinator = ["--no-open-sessions", "--external", "/ip4/192.0.2.7/tcp/4001"];
    for (which, flags) in [(MEMBER, &member[..]), (COORDINATOR, &coordinator)] {
        let printed = run(&place, which, &[flags, &["--print-config"]].concat(), &[]);
        assert_eq!((printed.code, printed.complaint().as_str()), (Some(0), ""));
        let text = printed.log.plain.join("\n");
        let _ = place.file("c.toml", text.as_bytes());
        let again = run(&place, which, &["--config", "c.toml", "--print-config"], &[]);
        assert_eq!((again.code, again.complaint().as_str()), (Some(0), ""));
        assert_eq!(again.log.plain.join("\n"), text);
    }
    let json = place.start("member", &["recv", "--leaf", "--print-config"]).ended();
    let printed: Vec<_> = json.log.of("config").collect();
    assert_eq!(printed.len(), 1);
    assert_eq!(printed[0]["config"]["session"]["fanout"], 1);
}

#[test]
fn r18_a_leaf_never_relays() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let _ = place.file("leaf.toml", b"nick = \"by file\"\n[session]\nfanout = 1\n");
    let by_flag = place.start("by-flag", &with_loopback(&["join", &ticket, "--leaf"]));
    let by_file =
        place.start("by-file", &with_loopback(&["join", &ticket, "--config", "leaf.toml"]));
    let third = place.start("third", &with_loopback(&["join", &ticket]));
    let members = [host, by_flag, by_file, third];
    settle(&members, 4);
    for leaf in &members[1..3] {
        let id = leaf.peer_id();
        members[0].wait("a tree with the leaf at its rim", |log| {
            let tree = log.of("tree").last()?;
            let edges = tree["edges"].as_array()?;
            let degree = edges
                .iter()
                .filter(|edge| edge[0] == id.as_str() || edge[1] == id.as_str())
                .count();
            (edges.len() == 3 && degree == 1).then_some(())
        });
    }
    members[0].send("to all");
    for member in &members[1..] {
        member.wait("the message", |log| (log.messages.len() == 1).then_some(()));
    }
}
