//! Members that keep the others waiting: stopped processes, applications that do not read.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use arborcast_tests::process::{Log, Place, Process, now};

use crate::group::{group, with_loopback};

const MIB: u64 = 1 << 20;
/// Bytes of a message.
const BYTES: usize = 64 * 1024;
/// The time over which a rate is measured, and how soon it is to be what it was.
const WINDOW: Duration = Duration::from_secs(5);
/// What one process may take at its peak: its store of 32 MiB twice, its queues and what waits for its
/// reader.
const MEMORY: u64 = 400 * MIB;
/// Messages that are sent but not taken in yet, at most: enough to keep a sender busy.
const AHEAD: usize = 100;

/// Has a member send as fast as the session goes until it is told to stop.
fn flood(member: &Process, stop: &AtomicBool) {
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

/// How many messages came to these in [`WINDOW`].
fn rate(members: &[&Process]) -> usize {
    let came = || members.iter().map(|member| member.log().messages.len()).sum::<usize>();
    let before = came();
    let end = now() + WINDOW;
    while now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    came() - before
}

/// The longest time after `since` in which nothing came to a member.
fn pause_after(member: &Process, since: Instant) -> Duration {
    let log = member.log();
    let came = log.messages.iter().map(|message| message.at).filter(|at| *at >= since);
    let mut last = since;
    let gaps = came.map(|at| at - std::mem::replace(&mut last, at));
    gaps.max().unwrap_or_default()
}

/// Every message of `source` came to `member` once and in order, or was reported lost, exactly.
fn accounted(member: &Process, source: &str, last: u64) -> bool {
    let log = member.log();
    let mut next = log
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
    next.sort_unstable();
    let mut expected = next.first().map_or(1, |(from, _)| *from);
    for (from, to) in next {
        assert_eq!(from, expected, "{}: doubled or left out", member.name());
        expected = to + 1;
    }
    expected > last
}

#[test]
fn one_that_is_stopped_for_a_minute_holds_nobody_back_and_comes_back() {
    let place = Place::new();
    let (members, _) = group(&place, 4);
    let [host, others @ .., victim] = members.as_slice() else { panic!("four") };
    let [second, third] = others else { panic!("four") };
    let stop = AtomicBool::new(false);
    let ids = [host.peer_id(), second.peer_id()];
    std::thread::scope(|scope| {
        for sender in [host, second] {
            scope.spawn(|| flood(sender, &stop));
        }
        let rest = [host, second, third];
        host.wait("things to flow", |log| (log.messages.len() > 200).then_some(()));
        // The lower of two: a machine with other work is not always as fast.
        let before = rate(&rest).min(rate(&rest));
        victim.signal("STOP");
        let stopped = now();
        // Until the others go on as before.
        let mut rates = Vec::new();
        let back = loop {
            let began = stopped.elapsed();
            let now = rate(&rest);
            rates.push(now);
            if now * 10 >= before * 9 {
                break began;
            }
            assert!(stopped.elapsed() < Duration::from_secs(40), "{before}, then {rates:?}");
        };
        let pause = pause_after(third, stopped);
        println!("{before} messages in {WINDOW:?}, then {rates:?}; nothing came for {pause:?}");
        assert!(back <= WINDOW + Duration::from_millis(500), "{back:?}");
        assert!(pause < WINDOW, "{pause:?}");
        let left = victim.peer_id();
        host.wait("word that it left", |log| {
            log.of("left").any(|left_of| left_of["peer_id"] == *left).then_some(())
        });
        while stopped.elapsed() < Duration::from_secs(60) {
            let during = rate(&rest);
            assert!(during * 2 >= before, "{during} of {before}");
        }
        for member in rest {
            let peak = member.peak_memory();
            println!("{}: {} MiB at its peak", member.name(), peak / MIB);
            assert!(peak < MEMORY, "{}: {} MiB", member.name(), peak / MIB);
        }
        victim.signal("CONT");
        host.wait("its being back", |log| log.spans(4).then_some(()));
        let again = now();
        let after = rate(&rest);
        println!("{after} messages in {:?} after its return", again.elapsed());
        stop.store(true, Ordering::Relaxed);
    });
    for (sender, id) in [host, second].iter().zip(&ids) {
        let last = sender.log().taken.len() as u64;
        let end = now() + Duration::from_secs(60);
        while !accounted(victim, id, last) {
            assert!(now() < end, "not all of {} came or was reported lost", sender.name());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let lost = victim.log().of("lost").count();
    println!("{lost} reports of losses; {} MiB", victim.peak_memory() / MIB);
    assert!(victim.peak_memory() < MEMORY);
    let told = victim.log().of("error").any(|error| error["code"] == "detached");
    println!("told that it was detached: {told}");
}

#[test]
fn one_that_does_not_read_is_detached_and_says_why_once_it_is_read() {
    let place = Place::new();
    let (members, ticket) = group(&place, 3);
    let args = with_loopback(&["join", &ticket, "--nick", "deaf", "--json"]);
    let mut deaf = place.process("arborcast", "deaf", &args).unread().start();
    for member in &members {
        member.wait("four members", |log| log.spans(4).then_some(()));
    }
    let [host, second, third] = members.as_slice() else { panic!("three") };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(host, &stop));
        let gone = |log: &Log| log.of("left").any(|left| left["nick"] == "deaf").then_some(());
        second.wait("word that it was left out", gone);
        let rate = rate(&[second, third]);
        println!("{rate} messages in {WINDOW:?} without it");
        assert!(rate > 100, "{rate}");
        stop.store(true, Ordering::Relaxed);
    });
    deaf.read();
    deaf.wait("the reason", |log| {
        let mut errors = log.of("error").filter(|error| error["code"] == "detached");
        let error = errors.next()?;
        let message = error["message"].as_str()?;
        assert!(message.contains("application takes no messages"), "{message}");
        Some(())
    });
    second.wait("being back", |log| log.spans(4).then_some(()));
    let (id, last) = (host.peer_id(), host.log().taken.len() as u64);
    let end = now() + Duration::from_secs(60);
    while !accounted(&deaf, &id, last) {
        assert!(now() < end, "not all came or was reported lost");
        std::thread::sleep(Duration::from_millis(50));
    }
}
