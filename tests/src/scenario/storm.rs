//! Very many members that start at once, and lose their coordinator at once.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::restart;
use crate::process::{Log, Place, Process, now};

/// What came of it, each in time.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// From the last start until each has had a tree over all.
    pub whole: Duration,
    /// Until a message sent then was with all.
    pub reached: Duration,
    /// From the new start of a coordinator that was killed until each has had its tree over all.
    pub back: Duration,
    /// Trees in [`QUIET`] after that.
    pub trees: usize,
    /// Members that were out for a moment.
    pub dropped: usize,
}

/// For how long nothing is done at the end.
pub const QUIET: Duration = Duration::from_secs(20);

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// So many members start at once on this machine.
///
/// # Panics
/// If one of them ends, or if they do not come together.
#[must_use]
pub fn all_at_once(place: &Place, size: usize) -> Storm {
    let (first, listen, members) = restart::started(place, size);
    let began = now();
    let whole_since =
        |term: u64| move |log: &Log| log.of("tree").any(|tree| is_whole(tree, size, term));
    until_all(&members, "one tree over all", whole_since(0));
    let whole = began.elapsed();
    let sent = now();
    members[0].line(json!({ "send": "to all" }).to_string());
    until_all(&members[1..], "the message", |log| !log.messages.is_empty());
    let reached = sent.elapsed();
    let before = members.iter().map(restart::newest_epoch).max().unwrap_or_default();
    first.kill();
    let _again = restart::coordinator(place, "coordinator again", &listen);
    let began = now();
    until_all(&members, "a tree of the new term", whole_since((before >> 32) + 1));
    let back = began.elapsed();
    let seen = restart::newest_epoch(&members[0]);
    thread::sleep(QUIET);
    let trees = usize::try_from(restart::newest_epoch(&members[0]) - seen).unwrap_or(usize::MAX);
    let dropped: BTreeSet<String> = members
        .iter()
        .flat_map(|member| {
            member.log().of("left").map(|left| left["peer_id"].to_string()).collect::<Vec<_>>()
        })
        .collect();
    Storm { whole, reached, back, trees, dropped: dropped.len() }
}

/// Whether a tree has an edge less than there are members, and is of this term or a later one.
fn is_whole(tree: &Value, size: usize, term: u64) -> bool {
    tree["edges"].as_array().is_some_and(|edges| edges.len() + 1 == size)
        && tree["epoch"].as_u64().is_some_and(|epoch| epoch >> 32 >= term)
}

/// Waits until this has come to hold for each of them.
fn until_all(members: &[Process], what: &str, holds: impl Fn(&Log) -> bool) {
    let end: Instant = now() + PATIENCE;
    loop {
        let behind = members.iter().filter(|member| !holds(&member.log())).count();
        if behind == 0 {
            return;
        }
        assert!(now() < end, "{behind} of {} still lack {what}", members.len());
        thread::sleep(Duration::from_millis(50));
    }
}
