//! A member stops while others send as fast as the session goes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    group::group,
    process::{DEADLINE, Place, Process, now},
};

const MIB: u64 = 1 << 20;

/// Bytes of a message.
const BYTES: usize = 64 * 1024;

/// Messages that are sent but not taken in yet, at most: enough to keep a sender busy.
const AHEAD: usize = 100;

/// How many more messages have to come for things to flow.
const FLOW: usize = 200;

/// What one process may take at its peak: its store of 32 MiB twice, its queues and what waits for its
/// reader.
pub const MEMORY: u64 = 400 * MIB;

/// Has a member send as fast as the session goes until it is told to stop.
pub fn flood(member: &Process, stop: &AtomicBool) {
    let line = format!("{{\"send\":\"{}\"}}\n", "x".repeat(BYTES)).into_bytes();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let taken = member.log().taken.len();
        if sent - taken.min(sent) < AHEAD {
            member.raw(line.clone());
            sent += 1;
        } else {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until so many more messages have come to each of these.
pub fn flows_on(members: &[&Process]) {
    for member in members {
        let before = member.log().messages.len();
        member.wait("more messages", |log| (log.messages.len() >= before + FLOW).then_some(()));
    }
}

/// Waits until every message of `source` up to `last` came to `member` once and in order, or was
/// reported lost, exactly.
///
/// # Panics
/// If one came twice, or was left out, or if they do not come.
pub fn accounted(member: &Process, source: &str, last: u64) {
    let end = now() + DEADLINE;
    while newest_accounted(member, source) < last {
        assert!(now() < end, "{}: not all came or was reported lost", member.name());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn newest_accounted(member: &Process, source: &str) -> u64 {
    let log = member.log();
    let mut runs = log
        .messages
        .iter()
        .filter(|message| &*message.source == source)
        .map(|message| (message.seq, message.seq))
        .chain(
            log.of("lost")
                .filter(|lost| lost["source"] == source)
                .filter_map(|lost| Some((lost["from_seq"].as_u64()?, lost["to_seq"].as_u64()?))),
        )
        .collect::<Vec<_>>();
    runs.sort_unstable();
    let mut expected = runs.first().map_or(1, |(from, _)| *from);
    for (from, to) in runs {
        assert_eq!(from, expected, "{}: doubled or left out", member.name());
        expected = to + 1;
    }
    expected - 1
}

/// The longest time after `since` in which nothing came to a member.
fn pause_after(member: &Process, since: Instant) -> Duration {
    let log = member.log();
    let came = log.messages.iter().map(|message| message.at).filter(|at| *at >= since);
    let mut last = since;
    let gaps = came.map(|at| at - std::mem::replace(&mut last, at));
    gaps.max().unwrap_or_default()
}

/// Stops one of four members while two others send; the rest go on without it, and it comes back and
/// gets what history holds or is told what is lost. Gives how long nothing came to one of the rest.
///
/// # Panics
/// If that is not so, or if a process takes more than [`MEMORY`].
#[must_use]
pub fn one_of_four(place: &Place) -> Duration {
    let (members, _) = group(place, 4);
    let [host, second, third, victim] = members.as_slice() else { panic!("four") };
    let stop = AtomicBool::new(false);
    let pause = std::thread::scope(|scope| {
        for sender in [host, second] {
            let stop = &stop;
            scope.spawn(move || flood(sender, stop));
        }
        // Whatever fails, the senders end, and with them the scope.
        let done = Stop(&stop);
        let rest = [host, second, third];
        flows_on(&rest);
        victim.signal("STOP");
        let stopped = now();
        let gone = victim.peer_id();
        for member in rest {
            member.wait("word that it left", |log| {
                log.of("left").any(|left| left["peer_id"] == *gone).then_some(())
            });
        }
        flows_on(&rest);
        let pause = pause_after(third, stopped);
        victim.signal("CONT");
        for member in rest {
            member.wait("its being back", |log| log.spans(4).then_some(()));
        }
        flows_on(&rest);
        drop(done);
        pause
    });
    for sender in [host, second] {
        accounted(victim, &sender.peer_id(), sender.log().taken.len() as u64);
    }
    for member in &members {
        let peak = member.peak_memory();
        assert!(peak < MEMORY, "{}: {} MiB", member.name(), peak / MIB);
    }
    pause
}

/// Tells senders to stop when it goes.
#[derive(Debug)]
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
