//! A member that puts the tree into its frames, among others that do not (R13).

use arborcast_tests::process::{Log, Place, Process};

use arborcast_tests::group::{has_messages, settle, with_loopback};

fn in_band_frames(log: &Log) -> u64 {
    log.of("stats").last().and_then(|stats| stats["in_band_frames"].as_u64()).unwrap_or(0)
}

#[test]
fn r13_relays_in_manner_three_pass_a_frame_on_by_the_tree_in_it() {
    let place = Place::new();
    let start = |name: &str, args: &[&str]| {
        place.start(name, &with_loopback(&[args, &["--stats-interval", "0.2"]].concat()))
    };
    let host = start("host", &["host"]);
    let ticket = host.ready("ticket");
    let members: Vec<Process> = [
        host,
        // A leaf: somebody else passes on what it sends.
        start("source", &["join", &ticket, "--next-hops", "in-band", "--fanout", "1"]),
        start("third", &["join", &ticket]),
        start("fourth", &["join", &ticket]),
    ]
    .into();
    settle(&members, 4);
    let [host, source, third, fourth] = &members[..] else { panic!("there are four") };
    // In the first moment the others may have had channels with it alone.
    let id = source.peer_id();
    for member in &members {
        member.wait("a tree in which the source is a leaf", |log| {
            let tree = log.tree()?;
            let edges = tree["edges"].as_array()?.iter();
            let degree = edges.filter(|edge| edge[0] == *id || edge[1] == *id).count();
            (degree == 1 && tree["overlap"].as_array()?.is_empty()).then_some(())
        });
    }
    for number in 1..=3 {
        source.send("by the tree");
        source.wait("its receipt", |log| (log.receipts.len() == number).then_some(()));
    }
    for receiver in [host, third, fourth] {
        has_messages(receiver, 3);
    }
    source.wait("the figures of all", |log| {
        let passed_on: u64 =
            [host, third, fourth].iter().map(|member| in_band_frames(&member.log())).sum();
        (in_band_frames(log) > 0 && passed_on > 0).then_some(())
    });
    for member in &members {
        let stats = member.wait("its figures", |log| log.of("stats").last().cloned());
        assert_eq!(stats["in_band_refused"], 0, "{}", member.name());
    }
}
