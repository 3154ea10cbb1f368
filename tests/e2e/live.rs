//! Class live (R16): whoever stops for a while loses something for himself alone.

use std::time::{Duration, Instant};

use arborcast_tests::process::{DEADLINE, Place, Process, now};
use serde_json::json;

use arborcast_tests::group::{host, in_order, join, settle, with_loopback};

/// Between two messages.
const PERIOD: Duration = Duration::from_millis(10);

/// For how long one member is stopped.
const STOPPED: Duration = Duration::from_secs(2);

/// A source that sends a live message each period.
struct Source<'a> {
    member: &'a Process,
    sent: u64,
    next: Instant,
}

impl<'a> Source<'a> {
    fn new(member: &'a Process) -> Self {
        Self { member, sent: 0, next: now() }
    }

    /// Sends at its pace until something is so, a minute at most.
    fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = now() + DEADLINE;
        while !is_so() {
            assert!(now() < deadline, "{what} does not come");
            self.sent += 1;
            self.member.line(json!({ "send": "x".repeat(800), "class": "live" }).to_string());
            self.next += PERIOD;
            std::thread::sleep(self.next.saturating_duration_since(now()));
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = now() + time;
        self.until("the end", || now() >= end);
    }
}

/// The last number that a member has got.
fn last(at: &Process) -> u64 {
    at.log().messages.last().map_or(0, |message| message.seq)
}

/// What came is in order, and nothing came twice.
fn assert_in_order(at: &Process) {
    let log = at.log();
    let rises = log.messages.windows(2).all(|pair| pair[0].seq < pair[1].seq);
    assert!(rises, "{}: doubled or out of order", at.name());
    assert_eq!(log.of("lost").count(), 0, "{}", at.name());
}

#[test]
fn r16_a_member_that_stops_loses_live_messages_for_itself_alone() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let stopped = ["join", &ticket, "--nick", "stopped", "--leaf", "--stats-interval", "0.5"];
    let stopped = place.start("stopped", &with_loopback(&stopped));
    let well = join(&place, &ticket, "well");
    let members = [host, well, stopped];
    settle(&members, 3);
    let [host, well, stopped] = &members;
    let mut source = Source::new(host);
    source.until("the first", || [well, stopped].iter().all(|at| !at.log().messages.is_empty()));
    source.run_for(Duration::from_secs(1));
    stopped.signal("STOP");
    source.run_for(STOPPED);
    let before = source.sent;
    host.wait("all numbers", |log| (log.taken.len() as u64 == before).then_some(()));
    stopped.signal("CONT");
    source.until("something new", || last(stopped) > before);
    source.run_for(Duration::from_millis(500));
    let sent = source.sent;
    for member in [well, stopped] {
        member.wait("the last message", |log| {
            log.messages.last().is_some_and(|message| message.seq == sent).then_some(())
        });
        assert_in_order(member);
    }
    // It began with what came when its edge was up.
    let came = in_order("well", &well.log());
    let (first, count) = came.values().next().copied().expect("one source");
    assert_eq!(first + count, sent + 1, "nobody else notices");
    let lacks = sent - stopped.log().messages.len() as u64;
    println!("{lacks} of {sent} did not come");
    let skipped = stopped.wait("its figures", |log| {
        let skipped = log.of("stats").last()?["live_skipped"].as_u64()?;
        // Some messages may have shared a frame.
        (skipped * 2 >= lacks).then_some(skipped)
    });
    println!("{skipped} frames are counted as passed over");
}

#[test]
fn r16_what_is_sent_live_by_a_command_arrives_before_it_ends() {
    let place = Place::new();
    let (host, ticket) = host(&place);
    let args = with_loopback(&["send", &ticket, "--class", "live", "--nick", "sender"]);
    let mut sender = place.start("sender", &args);
    for number in 0..50 {
        sender.send(&number.to_string());
    }
    sender.send(&"x".repeat(500_000));
    sender.close();
    let ended = sender.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    host.wait("the messages", |log| (log.messages.len() == 51).then_some(()));
    assert_in_order(&host);
}
