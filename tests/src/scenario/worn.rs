//! A channel of the tree gets worse (R3).

use std::time::Duration;

use serde_json::Value;

use crate::{
    group::{all_came, group, has_edge, impair},
    process::{DEADLINE, Log, Place, Process, now},
};

/// What moves while the tree is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// As many lines as are taken in.
    Lines,
    /// A line of each member every 25 ms.
    Chat,
    /// As many long lines as are taken in, which fill a narrow channel.
    Much,
    /// Nothing at all.
    Nothing,
}

/// Between looks at what members say, while they do not say more than that.
const LOOK: Duration = Duration::from_millis(25);

/// How long the tree took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// From the channel's getting worse until no member's tree has it.
    pub left: Duration,
    /// From the channel's being as it was until all trees have it again.
    pub back: Duration,
}

/// The kinds of the channel with a peer, as they were told.
pub fn kinds<'a>(log: &'a Log, peer: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    log.of("channel").filter(move |channel| channel["peer_id"] == peer).map(|one| &one["kind"])
}

/// Three members, and their peer ids: the tree has the channel of the first with the second, and no
/// reason to use that of the second with the third.
#[must_use]
pub fn three(place: &Place) -> (Vec<Process>, Vec<String>) {
    let (members, _) = group(place, 3);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for (member, own) in members.iter().zip(&ids) {
        for other in ids.iter().filter(|other| *other != own) {
            member.wait("a channel with each", |log| kinds(log, other).next().map(drop));
        }
    }
    impair(&members[1], &ids[2], "delay=15ms");
    for member in &members {
        member.wait("the tree without the slow channel", |log| {
            let is_it = !has_edge(log, &ids[1], &ids[2]) && has_edge(log, &ids[0], &ids[1]);
            (is_it && log.spans(3)).then_some(())
        });
    }
    (members, ids)
}

/// The tree leaves a channel that is made worse like this, and comes back to it when it is as it was;
/// nothing is lost, doubled or out of order.
///
/// # Panics
/// If that is not so.
#[must_use]
pub fn leaves(place: &Place, how: &str, traffic: Traffic) -> Moved {
    let (members, ids) = three(place);
    let mut said = 0;
    let filling = if traffic == Traffic::Much { "x".repeat(8 * 1024) } else { String::new() };
    let mut say = || {
        said += 1;
        for member in &members {
            member.send(&format!("{said}{filling}"));
        }
        for member in &members {
            member
                .wait("its line being taken", |log| (log.taken.len() as u64 >= said).then_some(()));
        }
        said
    };
    for _ in 0..20 {
        say();
    }
    let mut until = |what: &str, is_it: fn(&Log, &str, &str) -> bool| {
        let began = now();
        while !members.iter().all(|member| is_it(&member.log(), &ids[0], &ids[1])) {
            assert!(began.elapsed() < DEADLINE, "the tree has not {what} after {DEADLINE:?}");
            match traffic {
                Traffic::Lines | Traffic::Chat | Traffic::Much => _ = say(),
                Traffic::Nothing => {}
            }
            match traffic {
                Traffic::Lines | Traffic::Much => {}
                Traffic::Chat | Traffic::Nothing => std::thread::sleep(LOOK),
            }
        }
        began.elapsed()
    };
    impair(&members[0], &ids[1], how);
    let left = until("left it", |log, a, b| !has_edge(log, a, b));
    impair(&members[0], &ids[1], "none");
    let back = until("come back", has_edge);
    for _ in 0..20 {
        say();
    }
    let each = say();
    for member in &members {
        member.wait("all receipts", |log| (log.receipts.len() as u64 >= each).then_some(()));
        member.wait("all lines", |log| (log.messages.len() as u64 >= 2 * each).then_some(()));
    }
    for member in members.into_iter().rev() {
        let name = member.name().to_owned();
        all_came(&name, &member.leave(), 2, each);
    }
    Moved { left, back }
}
