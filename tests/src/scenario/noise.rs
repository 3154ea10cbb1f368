//! Channels that are noisy, and no worse than they were (R3).

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    group::{all_came, group, has_edge, impair},
    process::{DEADLINE, Place, Process, now},
};

/// Between two lines of each member.
const LINE: Duration = Duration::from_millis(250);

/// Less than any of these channels takes for most probes, and more than loopback does.
const IMPAIRED_MS: f64 = 4.0;

/// Has four members with noisy channels talk for a time, and then say nothing for as long. Gives how
/// often the tree changed, which it has no reason to.
///
/// # Panics
/// If something is lost, doubled or out of order.
#[must_use]
pub fn moves(place: &Place, time: Duration) -> usize {
    let (members, _) = group(place, 4);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (at, member) in members.iter().enumerate() {
        for (with, id) in ids.iter().enumerate().skip(at + 1) {
            // The host's are equal in all, and the others somewhat worse but for chance.
            let how = match (at, with) {
                (0, _) => "delay=5ms,loss=0.02",
                (1, 2) => "delay=10ms,jitter=9ms,loss=0.01",
                _ => "delay=12ms,loss=0.02",
            };
            impair(member, id, how);
        }
    }
    // The group was a star before any of that counted.
    for (at, member) in members.iter().enumerate() {
        let others = (0..ids.len()).filter(|other| *other != at);
        for other in others {
            member.wait("the delay of a channel", |log| {
                let of_it = log.of("channel").filter(|event| event["peer_id"] == ids[other]);
                (of_it.last()?["delay_ms"].as_f64()? >= IMPAIRED_MS).then_some(())
            });
        }
    }
    let mut said = 0;
    let mut talk_until = |end: Instant| {
        while now() < end {
            said += 1;
            for member in &members {
                member.send(&format!("{said}"));
            }
            std::thread::sleep(LINE);
        }
        said
    };
    let is_star = |member: &Process| {
        let log = member.log();
        let settled = log.tree().is_some_and(|tree| tree["overlap"] == Value::Array(Vec::new()));
        settled && ids.iter().skip(1).all(|id| has_edge(&log, &ids[0], id))
    };
    let patience = now() + DEADLINE;
    while !members.iter().all(is_star) {
        assert!(now() < patience, "the host's channels do not become the tree");
        talk_until(now() + LINE);
    }
    let trees = |member: &Process| member.log().of("tree").count();
    let before: Vec<usize> = members.iter().map(trees).collect();
    let each = talk_until(now() + time);
    std::thread::sleep(time);
    let moves = members.iter().zip(before).map(|(member, before)| trees(member) - before).max();
    for member in members.into_iter().rev() {
        let name = member.name().to_owned();
        all_came(&name, &member.leave(), 3, each);
    }
    moves.unwrap_or_default()
}
