//! The coordinator stands still for a time, by itself or with the host that it is part of, while members
//! chat.

use std::{thread, time::Duration};

use serde_json::json;

use super::restart;
use crate::{
    group::{all_came, group},
    process::{Place, Process, now},
};

/// Members, the host included.
const MEMBERS: usize = 4;

/// Lines that each says before the pause, and again after it.
const LINES: u64 = 3;

/// Between two lines of one member.
const PACE: Duration = Duration::from_millis(500);

/// A coordinator of its own is stopped for so long. Nobody ends, nobody is dropped, nothing is lost, and
/// all come to all in order. Gives the time from its waking until all have everything.
///
/// # Panics
/// If that is not so.
#[must_use]
pub fn coordinator(place: &Place, pause: Duration) -> Duration {
    let (coordinator, _, members) = restart::group(place, MEMBERS);
    through(&members, &coordinator, pause)
}

/// The same with a host: its member is stopped with it, and says nothing meanwhile.
///
/// # Panics
/// If that is not so.
#[must_use]
pub fn host(place: &Place, pause: Duration) -> Duration {
    let (mut members, _) = group(place, MEMBERS);
    let host = members.remove(0);
    through(&members, &host, pause)
}

fn through(members: &[Process], stopped: &Process, pause: Duration) -> Duration {
    let mut lines = 0;
    let mut chat = |until: &dyn Fn(u64) -> bool| {
        while !until(lines) {
            for member in members {
                member.line(json!({ "send": format!("line {lines}") }).to_string());
            }
            lines += 1;
            thread::sleep(PACE);
        }
        lines
    };
    chat(&|lines| lines >= LINES);
    stopped.signal("STOP");
    let end = now() + pause;
    let said = chat(&|_| now() >= end);
    stopped.signal("CONT");
    let awake = now();
    let all = chat(&|lines| lines >= said + LINES);
    let total = |member: &Process| {
        let others = members.iter().filter(|other| other.name() != member.name()).count() as u64;
        others * all
    };
    for member in members {
        let all = usize::try_from(total(member)).unwrap_or(usize::MAX);
        member.wait("all lines", |log| (log.messages.len() >= all).then_some(()));
    }
    let took = awake.elapsed();
    for member in members {
        let log = member.log();
        all_came(member.name(), &log, members.len() - 1, all);
        let gone: Vec<_> = log.of("left").chain(log.of("lost")).collect();
        assert!(gone.is_empty(), "{}: {gone:?}", member.name());
    }
    took
}
