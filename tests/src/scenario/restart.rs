//! The coordinator by itself dies and comes back.

use std::time::Duration;

use crate::{
    group::{settle, with_loopback},
    process::{Log, Place, Process, now},
};

/// Starts a coordinator that keeps its key and term in `c.key`.
#[must_use]
pub fn coordinator(place: &Place, name: &str, listen: &[String]) -> Process {
    let mut prepared = place.process("arborcast-coordinator", name, &["--identity", "c.key"]);
    for address in listen {
        prepared = prepared.arg("--listen").arg(address);
    }
    prepared.arg("--json").start()
}

/// Starts a coordinator for the first time: it, one of its addresses, and all of those to start it on
/// again.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn first(place: &Place) -> (Process, String, Vec<String>) {
    let listen = Vec::from(place.fixed_addresses());
    let first = coordinator(place, "coordinator", &listen);
    let ready = first.event("ready");
    let peer = ready["listen"][0].as_str().expect("an address").to_owned();
    (first, peer, listen)
}

/// Starts a member of an open session at this coordinator.
#[must_use]
pub fn join(place: &Place, peer: &str, nick: &str) -> Process {
    place.start(nick, &with_loopback(&["join", "lobby", "--peer", peer, "--nick", nick]))
}

/// A coordinator with so many members, the addresses to start it on again, and one tree over all.
#[must_use]
pub fn group(place: &Place, size: usize) -> (Process, Vec<String>, Vec<Process>) {
    let (first, listen, members) = started(place, size);
    settle(&members, size);
    (first, listen, members)
}

/// The same, but the members have only just started.
#[must_use]
pub fn started(place: &Place, size: usize) -> (Process, Vec<String>, Vec<Process>) {
    let (first, peer, listen) = first(place);
    let members = (0..size).map(|number| join(place, &peer, &format!("m{number}"))).collect();
    (first, listen, members)
}

/// The numbers of the trees that a member was told of.
#[must_use]
pub fn epochs(log: &Log) -> Vec<u64> {
    log.of("tree").filter_map(|tree| tree["epoch"].as_u64()).collect()
}

/// The number of a member's newest tree.
#[must_use]
pub fn newest_epoch(member: &Process) -> u64 {
    member.log().tree().and_then(|tree| tree["epoch"].as_u64()).unwrap_or_default()
}

/// Waits until each has a tree of a higher term than these numbers', and asserts that they never fall
/// and nobody was dropped.
///
/// # Panics
/// If that is not so.
pub fn have_trees_of_a_new_term(members: &[Process], before: &[u64]) {
    for (member, before) in members.iter().zip(before) {
        let rises = |epochs: &[u64]| epochs.windows(2).all(|pair| pair[0] < pair[1]);
        member.wait("a tree of the new term", |log| {
            let epochs = epochs(log);
            assert!(rises(&epochs), "{epochs:?}");
            epochs.last().is_some_and(|newest| newest >> 32 > before >> 32).then_some(())
        });
        let left: Vec<_> = member.log().of("left").cloned().collect();
        assert!(left.is_empty(), "nobody was dropped: {left:?}");
    }
}

/// Kills the coordinator of so many members and starts it again. Gives the time from then on until all
/// of them have a tree of its new term.
///
/// # Panics
/// If they do not get one, or somebody is dropped.
#[must_use]
pub fn killed_and_back(place: &Place, size: usize) -> Duration {
    let (first, listen, members) = group(place, size);
    let before: Vec<u64> = members.iter().map(newest_epoch).collect();
    first.kill();
    let _again = coordinator(place, "coordinator again", &listen);
    let began = now();
    have_trees_of_a_new_term(&members, &before);
    began.elapsed()
}
