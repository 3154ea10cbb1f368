//! Every command line of the README, as it stands there. What it has of somebody else's, a ticket, an address, a
//! file, is put in; where it listens, loopback. A line that is not known here fails.

use std::{fs, process::Stdio};

use arborcast_tests::{
    group::host,
    process::{LOOPBACK, Place, Process},
};

/// The command lines of the README's second part, without what is said of them.
fn lines() -> Vec<String> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(readme).expect("there is one");
    let (_, rest) = readme.split_once("## Use it").expect("a part about use");
    let (_, block) = rest.split_once("```sh\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");
    let command = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    block.lines().map(command).filter(|line| !line.is_empty()).collect()
}

/// What a line runs of ours, with these words for others.
fn args<'a>(line: &'a str, words: &[(&str, &'a str)]) -> Vec<&'a str> {
    let own = line.split('|').find(|part| part.contains("arborcast")).expect("one of ours");
    let word = |word: &'a str| {
        words.iter().find(|(of, _)| *of == word).map_or(word, |(_, instead)| instead)
    };
    own.split_whitespace().skip(1).map(word).collect()
}

fn start(place: &Place, args: &[&str]) -> Process {
    let json = ["--json", "--nick", args.first().copied().unwrap_or_default()];
    place.process("arborcast", "readme", &[args, &LOOPBACK, &json].concat()).null_input().start()
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let bea = start_named(&place, &ticket, "bea");
    host.wait("both in the tree", |log| log.spans(2).then_some(()));
    bea.event("ready");
    let report = place.file("report.pdf", b"%PDF\x00");
    let report = report.to_str().expect("is UTF-8");
    let inbox = format!("{}/", place.path("inbox").display());
    let saved = place.path("saved.pdf");
    let saved = saved.to_str().expect("is UTF-8");
    let key = place.path("coordinator.key");
    let key = key.to_str().expect("is UTF-8");
    let words = [
        ("TICKET", &*ticket),
        ("report.pdf", report),
        ("note.txt", report),
        ("inbox/", &*inbox),
        ("coordinator.key", key),
        ("/ip4/0.0.0.0/tcp/4001", "/ip4/127.0.0.1/tcp/0"),
    ];
    let mut lobby: Option<Process> = None;
    for line in lines() {
        println!("{line}");
        match &*line {
            "arborcast host"
            | "arborcast host studio --external tree.example --history 20"
            | "arborcast host stage --strategy spt --load 4:0.02 --main-source self" => {
                let session = start(&place, &args(&line, &words));
                assert!(session.ready("ticket").starts_with("arb1"));
            }
            "arborcast host lobby --open" => lobby = Some(start(&place, &args(&line, &words))),
            "arborcast join lobby --peer /ip4/192.0.2.7/tcp/4001" => {
                let lobby = lobby.as_ref().expect("hosted before");
                let listen = lobby.event("ready")["listen"][0].as_str().expect("one").to_owned();
                let words = [("/ip4/192.0.2.7/tcp/4001", &*listen)];
                let joined = start(&place, &args(&line, &words));
                assert_eq!(joined.ready("session"), lobby.ready("session"));
            }
            "arborcast send TICKET report.pdf"
            | "arborcast send TICKET --within 5 report.pdf"
            | "arborcast send TICKET --to bea note.txt" => {
                let ended = start(&place, &args(&line, &words)).ended();
                assert_eq!(ended.code, Some(0), "{line}: {}", ended.complaint());
            }
            "tail -f log | arborcast send TICKET"
            | "frames | arborcast send TICKET --class live" => {
                let all = [&args(&line, &words)[..], &LOOPBACK].concat();
                let mut sender = place.process("arborcast", "pipe", &all).start();
                sender.raw(b"one\ntwo\n".to_vec());
                sender.close();
                let ended = sender.ended();
                assert_eq!(ended.code, Some(0), "{line}: {}", ended.complaint());
            }
            "arborcast recv TICKET"
            | "arborcast recv TICKET --count 1 --output report.pdf"
            | "arborcast recv TICKET --output inbox/" => {
                let words = words.map(|(of, instead)| match of {
                    "report.pdf" => (of, saved),
                    _ => (of, instead),
                });
                let receiver = start(&place, &args(&line, &words));
                let id = receiver.peer_id();
                host.wait("the receiver", |log| {
                    log.of("joined").any(|who| who["peer_id"] == id.as_str()).then_some(())
                });
                host.send("to be received");
                if line.contains("--count") {
                    assert_eq!(receiver.ended().code, Some(0), "{line}");
                    assert_eq!(fs::read(saved).expect("is there"), b"to be received");
                } else {
                    host.wait("a receipt", |log| (!log.receipts.is_empty()).then_some(()));
                    receiver.signal("TERM");
                    assert_eq!(receiver.ended().code, Some(0), "{line}");
                }
            }
            "arborcast tree" | "arborcast tree --format dot | dot -Tsvg" | "arborcast status" => {
                let mut command =
                    place.process("arborcast", "shown", &args(&line, &words)).command();
                let shown = command.stdin(Stdio::null()).output().expect("it runs");
                assert!(shown.status.success(), "{line}");
                assert!(String::from_utf8_lossy(&shown.stdout).contains("bea"), "{line}");
            }
            "arborcast-coordinator --listen /ip4/0.0.0.0/tcp/4001 --identity coordinator.key" => {
                let args = [&args(&line, &words)[..], &["--json"]].concat();
                let coordinator =
                    place.process("arborcast-coordinator", "coordinator", &args).start();
                coordinator.ready("peer_id");
            }
            "arborcast-coordinator plan --topology FILE --compare" => {
                let line = line.replace("FILE", super::plan::MEASURED);
                let mut command = place
                    .process("arborcast-coordinator", "planned", &args(&line, &words))
                    .command();
                let planned = command.stdin(Stdio::null()).output().expect("it runs");
                assert!(planned.status.success(), "{line}");
                assert!(String::from_utf8_lossy(&planned.stdout).contains("routing-cost"));
            }
            unknown => panic!("the README has a line that nobody tries: {unknown}"),
        }
    }
    assert_eq!(lines().len(), 18, "each of them was tried once");
}

/// A member that stays.
fn start_named(place: &Place, ticket: &str, name: &str) -> Process {
    let args = [&["join", ticket, "--json", "--nick", name][..], &LOOPBACK].concat();
    place.process("arborcast", name, &args).null_input().start()
}
