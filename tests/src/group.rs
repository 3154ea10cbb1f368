//! A session of real processes, and what must be true of what its members print.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use crate::process::{LOOPBACK, Log, Place, Process};

/// Starts a private session. Its ticket is ready when this returns.
#[must_use]
pub fn host(place: &Place) -> (Process, String) {
    let host = place.start("host", &with_loopback(&["host", "--nick", "host"]));
    let ticket = host.ready("ticket");
    (host, ticket)
}

/// Starts a member that reads and prints JSON.
#[must_use]
pub fn join(place: &Place, ticket: &str, nick: &str) -> Process {
    place.start(nick, &with_loopback(&["join", ticket, "--nick", nick]))
}

/// Arguments and where to listen.
#[must_use]
pub fn with_loopback<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &LOOPBACK].concat()
}

/// Starts a session with so many members, and waits until one tree spans them all at each of them.
#[must_use]
pub fn group(place: &Place, size: usize) -> (Vec<Process>, String) {
    let (host, ticket) = host(place);
    let mut members = vec![host];
    for number in 1..size {
        members.push(join(place, &ticket, &format!("m{number}")));
    }
    settle(&members, size);
    (members, ticket)
}

/// Waits until one tree spans so many members at each of these.
pub fn settle(members: &[Process], size: usize) {
    for member in members {
        member.wait(&format!("a tree of {size}"), |log| log.spans(size).then_some(()));
    }
}

/// Makes a member's channel with another worse, or good again.
pub fn impair(at: &Process, with: &str, how: &str) {
    at.line(json!({ "impair": format!("{with}:{how}") }).to_string());
}

/// Whether the newest tree has an edge between these.
#[must_use]
pub fn has_edge(log: &Log, a: &str, b: &str) -> bool {
    let edges = log.tree().and_then(|tree| tree["edges"].as_array().cloned()).unwrap_or_default();
    edges.iter().any(|edge| *edge == json!([a, b]) || *edge == json!([b, a]))
}

/// Waits until a member has so many messages.
pub fn has_messages(member: &Process, count: usize) {
    let what = format!("{count} messages");
    member.wait(&what, |log| (log.messages.len() >= count).then_some(()));
}

/// Asserts that what came of each source has consecutive numbers, each once. Returns for each the
/// first number and how many.
///
/// # Panics
/// If that is not so, or something is reported lost.
#[expect(clippy::must_use_candidate, reason = "most are called to assert")]
pub fn in_order(name: &str, log: &Log) -> BTreeMap<Arc<str>, (u64, u64)> {
    let mut sources: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
    for message in &log.messages {
        let (first, count) = sources.entry(Arc::clone(&message.source)).or_insert((message.seq, 0));
        assert_eq!(
            message.seq,
            *first + *count,
            "{name}: from {}: lost, doubled or out of order",
            message.source
        );
        *count += 1;
    }
    let lost: Vec<_> = log.of("lost").collect();
    assert!(lost.is_empty(), "{name}: {lost:?}");
    sources
}

/// Asserts that all messages of all others came, each once and in order.
///
/// # Panics
/// If that is not so.
pub fn all_came(name: &str, log: &Log, others: usize, each: u64) {
    let sources = in_order(name, log);
    assert_eq!(sources.len(), others, "{name}: sources");
    for (source, came) in sources {
        assert_eq!(came, (1, each), "{name}: from {source}: first number and count");
    }
}
