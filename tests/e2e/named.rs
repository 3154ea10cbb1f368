//! Sessions by name, kept keys, and a coordinator by itself.

use arborcast_tests::process::Place;

use arborcast_tests::group::{has_messages, settle, with_loopback};

#[test]
fn an_identity_serves_one_process_at_a_time() {
    let place = Place::new();
    let args = with_loopback(&["host", "den"]);
    let first = place.start("first", &args);
    first.event("ready");
    let second = place.start("second", &args).ended();
    assert_eq!(second.code, Some(2), "{}", second.complaint());
    assert_eq!(second.log.errors(), ["identity_in_use"]);
    assert!(second.complaint().contains("host-den.key"), "{}", second.complaint());

    let address = first.event("ready")["listen"][0].as_str().expect("an address").to_owned();
    let ticket = first.ready("ticket");
    let args = with_loopback(&["join", &ticket, "--identity", "me.key"]);
    let member = place.start("member", &args);
    let peer_id = member.peer_id();
    let other = place.start("other", &args).ended();
    assert_eq!(other.code, Some(2), "{}", other.complaint());
    member.leave();
    let again = place.start("again", &args);
    assert_eq!(again.peer_id(), peer_id, "a kept identity is the same at each start");
    again.leave();
    drop(address);
}

#[test]
fn a_named_session_keeps_key_and_secret() {
    let place = Place::new();
    // Without --listen, which would say which ports.
    let args = ["host", "den", "--nick", "host"];
    let first = place.start("first", &args);
    let (session, ticket) = (first.ready("session"), first.ready("ticket"));
    first.leave();
    #[cfg(unix)]
    for file in ["host-den.key", "host-den.key.den.secret", "host-den.key.listen"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = place.path("state").join("arborcast").join(file);
        let mode = std::fs::metadata(&path).map(|found| found.permissions().mode() & 0o777);
        assert_eq!(mode.ok(), Some(0o600), "{}", path.display());
    }
    let second = place.start("second", &args);
    assert_eq!(second.ready("session"), session);
    let coordinator = |ticket: &str| {
        let ticket: arborcast_protocol::ticket::Ticket = ticket.parse().expect("a ticket");
        ticket.coordinators[0].member
    };
    assert_eq!(coordinator(&second.ready("ticket")), coordinator(&ticket));
    // The old ticket leads to the new process; here from a file, as it keeps it out of `ps`.
    let _ = place.file("ticket", format!("{ticket}\n").as_bytes());
    let member = place.start("member", &with_loopback(&["join", "@ticket"]));
    settle(&[second, member], 2);
}

#[test]
fn sessions_with_one_identity_have_secrets_of_their_own() {
    let place = Place::new();
    let session = |name: &str, key: &str| {
        let host = place.start(name, &with_loopback(&["host", name, "--identity", key]));
        let session = host.ready("session");
        host.leave();
        session
    };
    let one = session("one", "node.1");
    assert_ne!(one, session("two", "node.1"));
    assert_ne!(one, session("one", "node.2"));
    assert_eq!(one, session("one", "node.1"));
}

#[cfg(unix)]
#[test]
fn a_port_that_is_taken_is_replaced() {
    let place = Place::new();
    let args = ["host", "den"];
    place.start("first", &args).leave();
    let file = place.path("state").join("arborcast").join("host-den.key.listen");
    let kept = std::fs::read_to_string(&file).expect("the ports are kept");
    let port = kept.lines().find_map(|line| line.strip_prefix("/ip4/0.0.0.0/tcp/"));
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("one is of TCP");
    let _taken = std::net::TcpListener::bind(("0.0.0.0", port)).expect("the first has left");
    let second = place.start("second", &args);
    second.event("ready");
    let complaint = second.leave().complaints.join("\n");
    assert!(complaint.contains(&format!("/tcp/{port}")), "{complaint}");
}

#[test]
fn a_coordinator_by_itself_serves_those_who_know_the_name() {
    let place = Place::new();
    let args = with_loopback(&["--identity", "c.key"]);
    let coordinator =
        place.process("arborcast-coordinator", "coordinator", &args).arg("--json").start();
    let address = coordinator.event("ready")["listen"][0].as_str().expect("one").to_owned();
    let join = |name: &str, address: &str, more: &[&str]| {
        let args = [&["join", "lobby", "--peer", address, "--nick", name], more].concat();
        place.start(name, &with_loopback(&args))
    };
    let first = join("first", &address, &[]);
    let at_member = first.event("ready")["listen"][0].as_str().expect("one").to_owned();
    // By the address of a member, and by one that does not say whose it is.
    let second = join("second", &at_member, &[]);
    let bare = address.split("/p2p/").next().expect("has a beginning");
    let third = join("third", bare, &[]);
    let all = [first, second, third];
    settle(&all, 3);
    all[2].send("hello");
    for member in &all[..2] {
        has_messages(member, 1);
    }
    assert_eq!(all[0].ready("session"), all[2].ready("session"));

    // Name and passphrase make another session, which the name alone does not open.
    let words = &["--passphrase", "correct horse battery"];
    let private = [join("p1", &address, words), join("p2", &address, words)];
    settle(&private, 2);
    assert_ne!(private[0].ready("session"), all[0].ready("session"));
    private[0].send("psst");
    has_messages(&private[1], 1);
    let (public, _): (Vec<_>, Vec<_>) = all.into_iter().map(|member| (member.leave(), ())).unzip();
    let heard: usize = public.iter().map(|log| log.messages.len()).sum();
    assert_eq!(heard, 2, "the first two heard the third, and nobody the private session");

    let file = place.file("words", b"correct horse battery\n");
    let by_file = ["--passphrase-file", file.to_str().expect("is UTF-8")];
    let third = join("p3", &address, &by_file);
    third.wait("three members", |log| log.spans(3).then_some(()));
}

#[test]
fn an_open_host_says_so_and_lets_in_by_name() {
    let place = Place::new();
    let args = with_loopback(&["host", "lobby", "--open", "--nick", "host"]);
    let host = place.process("arborcast", "host", &args).start();
    let lines = host.wait("a greeting", |log| {
        log.plain.iter().any(|line| line.contains("open:")).then(|| log.plain.clone())
    });
    let by_name = lines
        .iter()
        .find_map(|line| line.split_once("arborcast join lobby --peer "))
        .map(|(_, address)| address.to_owned())
        .expect("the greeting has an address");
    let ticket = lines.iter().find_map(|line| line.split_once("arborcast join arb1"));
    let ticket = format!("arb1{}", ticket.expect("a ticket is shown").1);
    let first = place.start("first", &with_loopback(&["join", "lobby", "--peer", by_name.trim()]));
    let second = place.start("second", &with_loopback(&["join", &ticket]));
    first.wait("three members", |log| log.spans(3).then_some(()));
    second.send("by ticket");
    has_messages(&first, 1);
    host.line("typed");
    has_messages(&second, 1);
    assert_eq!(first.ready("session"), second.ready("session"));
}
