//! What `recv` writes byte for byte, and members that have no input.

use std::{fs, process::Output};

use arborcast_tests::{
    group::{host, with_loopback},
    process::{Place, Process},
};

/// Messages of bytes that are no text, with ends of lines in them.
const FIRST: &[u8] = b"\x00\xff\nfirst\r\n";
const SECOND: &[u8] = b"\xfe\x1b[2Jsecond";

/// Has a `recv` run in which the host sends two messages.
fn receive(place: &Place, host: &Process, ticket: &str, args: &[&str]) -> Output {
    let args = [&with_loopback(&["recv", ticket]), args].concat();
    // No JSON here.
    let mut command = place.process("arborcast", "recv", &args).command();
    command.stdin(std::process::Stdio::null());
    let present = |log: &arborcast_tests::process::Log| log.of("joined").count();
    let before = present(&host.log());
    let recv = std::thread::spawn(move || command.output().expect("it runs"));
    host.wait("the receiver", |log| (present(log) > before && log.spans(2)).then_some(()));
    host.line(r#"{"send_b64":"AP8KZmlyc3QNCg=="}"#);
    host.line(r#"{"send_b64":"/htbMkpzZWNvbmQ="}"#);
    recv.join().expect("it ends")
}

#[test]
fn bytes_come_as_they_are_on_standard_output_and_in_a_file() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let whole = [FIRST, SECOND].concat();
    for args in [["--raw", "--count=2", "--service=0"], ["--output=-", "--count=2", "--raw"]] {
        let output = receive(&place, &host, &ticket, &args);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, whole);
    }
    let file = place.file("saved", b"longer than what comes, and not to stay there");
    let path = format!("--output={}", file.display());
    let output = receive(&place, &host, &ticket, &[&path, "--count=2", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(&file).expect("is there"), whole);
    let shown = String::from_utf8(output.stdout).expect("JSON");
    assert!(shown.contains(r#""event":"ready""#) && !shown.contains(r#""event":"message""#));
}

#[test]
fn each_message_is_a_new_file_in_a_folder_and_none_is_overwritten() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let folder = place.path("messages");
    let path = format!("--output={}/", folder.display());
    for (seq, round) in [(1, 1), (3, 2)] {
        let taken = folder.join(format!("{}-{}", host.peer_id(), seq));
        if round == 2 {
            fs::write(&taken, "mine").expect("can be written");
        }
        let output = receive(&place, &host, &ticket, &[&path, "--count=2"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let name = |seq: u64, after: &str| folder.join(format!("{}-{seq}{after}", host.peer_id()));
        let first = name(seq, if round == 2 { "-2" } else { "" });
        assert_eq!(fs::read(first).expect("is there"), FIRST);
        assert_eq!(fs::read(name(seq + 1, "")).expect("is there"), SECOND);
        if round == 2 {
            assert_eq!(fs::read(taken).expect("is there"), b"mine");
        }
    }
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 5);
}

#[test]
fn what_cannot_be_written_ends_with_words_and_an_exit_code() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let output = receive(&place, &host, &ticket, &["--output=/dev/full"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("cannot be saved"), "{complaint}");
    for (args, code) in [
        (&["recv", &ticket, "--raw", "--json"][..], 2),
        (&["recv", &ticket, "--output=/nowhere/at/all"], 1),
    ] {
        let ended = place.process("arborcast", "refused", args).start().ended();
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.complaint());
    }
}

#[test]
fn a_member_with_the_null_device_as_input_stays_and_one_whose_input_ends_says_so() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let join =
        |name| place.process("arborcast", name, &with_loopback(&["join", &ticket, "--json"]));
    let service = join("service").null_input().start();
    let mut guest = join("guest").start();
    host.wait("both", |log| log.spans(3).then_some(()));
    guest.close();
    let ended = guest.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert!(ended.complaint().contains("the input has ended: leaving"), "{}", ended.complaint());
    // The other one is still there, and hears what is said.
    host.send("anybody?");
    service.wait("the message", |log| (log.messages.len() == 1).then_some(()));
    service.signal("TERM");
    assert_eq!(service.ended().code, Some(0));
}
