//! Groups whose members all learn their next hops in one manner: lines stream while one joins and one
//! leaves, large messages while the tree changes under them, and all come once and in order.

use arborcast_tests::{
    group::{has_edge, impair, in_order, settle, with_loopback},
    process::{DEADLINE, Log, Place, Process, now},
};
use serde_json::Value;

/// Messages of each member that stays.
const EACH: u64 = 120;

/// Questions of a member that is told of trees without asking: when a push overtook another, or was
/// late, it makes sure.
const FEW: u64 = 3;

/// What a member has counted by now.
fn stats(member: &Process) -> Value {
    let seen = member.log().of("stats").count();
    member.wait("newer stats", |log| log.of("stats").nth(seen).cloned())
}

fn count(stats: &Value, what: &str) -> u64 {
    stats[what].as_u64().unwrap_or_else(|| panic!("no {what} in {stats}"))
}

/// Has all send their messages from one number to another, and waits until they were taken in.
fn say(members: &[Process], from: u64, to: u64) {
    for number in from..=to {
        for member in members {
            member.send(&format!("{number}"));
        }
    }
    for member in members {
        member.wait("own messages taken in", |log| (log.taken.len() as u64 >= to).then_some(()));
    }
}

/// Starts a member that is set to `manner`.
fn start(place: &Place, manner: &str, name: &str, command: &[&str]) -> Process {
    let flags = ["--nick", name, "--next-hops", manner, "--stats-interval", "0.2"];
    place.start(name, &with_loopback(&[command, &flags].concat()))
}

/// So many of them in one session, and its ticket.
fn group(place: &Place, manner: &str, size: usize) -> (Vec<Process>, String) {
    let mut members = vec![start(place, manner, "host", &["host"])];
    let ticket = members[0].ready("ticket");
    for number in 1..size {
        members.push(start(place, manner, &format!("m{number}"), &["join", &ticket]));
    }
    settle(&members, size);
    (members, ticket)
}

/// Streams through a group in which all are set to `manner`. Gives what those who stay have counted.
fn stream(manner: &str) -> Vec<Value> {
    let place = Place::new();
    let (mut members, ticket) = group(&place, manner, 4);

    say(&members, 1, 20);
    let guest = start(&place, manner, "guest", &["join", &ticket]);
    say(&members, 21, 60);
    settle(std::slice::from_ref(&guest), 5);
    guest.send("hello");
    guest.wait("a receipt", |log| (!log.receipts.is_empty()).then_some(()));
    say(&members, 61, 80);
    in_order("guest", &guest.leave());
    say(&members, 81, 100);
    settle(&members, 4);
    say(&members, 101, EACH);

    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for member in &members {
        let own = member.peer_id();
        member.wait("all messages of those who stay", |log| {
            let came = |id: &str| log.messages.iter().filter(|m| &*m.source == id).count() as u64;
            ids.iter().filter(|id| **id != own).all(|id| came(id) == EACH).then_some(())
        });
        member.wait("all receipts", |log| (log.receipts.len() as u64 >= EACH).then_some(()));
    }
    let counted = members.iter().map(stats).collect();
    members.reverse();
    for member in members {
        let (name, own) = (member.name().to_owned(), member.peer_id());
        let log = member.leave();
        let sources = in_order(&name, &log);
        for id in ids.iter().filter(|id| **id != own) {
            assert_eq!(sources.get(id.as_str()), Some(&(1, EACH)), "{name}: from {id}");
        }
        assert_eq!(log.complaints(), Vec::<String>::new(), "{name}");
    }
    counted
}

#[test]
fn r10_members_that_poll_stream_while_one_joins_and_one_leaves() {
    for stats in stream("poll") {
        // One when it joined, one for each tree at least.
        assert!(count(&stats, "queries") >= 3, "{stats}");
        assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
        assert_eq!(count(&stats, "held_bytes"), 0, "{stats}");
    }
}

#[test]
fn r11_members_that_ask_on_overflow_stream_while_one_joins_and_one_leaves() {
    for stats in stream("overflow") {
        assert!(count(&stats, "queries") >= 5, "{stats}");
        assert!(count(&stats, "overflows") >= 3, "{stats}");
        assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
    }
}

#[test]
fn r12_members_that_subscribe_stream_while_one_joins_and_one_leaves() {
    for stats in stream("subscribe") {
        assert_eq!(count(&stats, "subscribes"), 1, "{stats}");
        assert_eq!(count(&stats, "overflows"), 0, "{stats}");
        assert!(count(&stats, "queries") <= FEW, "{stats}");
    }
}

#[test]
fn r13_members_that_put_the_tree_into_frames_stream_while_one_joins_and_one_leaves() {
    let all = stream("in-band");
    for stats in &all {
        assert_eq!(count(stats, "subscribes"), 1, "{stats}");
        assert_eq!(count(stats, "overflows"), 0, "{stats}");
        assert!(count(stats, "queries") <= FEW, "{stats}");
    }
    let by_their_trees: u64 = all.iter().map(|stats| count(stats, "in_band_frames")).sum();
    assert!(by_their_trees > 0, "frames went by the trees in them");
}

/// Bytes of a large message: 96 pieces, which take six seconds at 8 Mbit/s.
const LARGE: usize = 6 << 20;

/// Has all chat until they hold a tree with one edge and without the other, and nothing of an older
/// one. (Whoever asks on overflow asks when there is something to pass on.) `said` counts the messages
/// of each so far.
fn moved(members: &[Process], said: &mut u64, to: (&str, &str), from: (&str, &str)) {
    let began = now();
    let is_it = |log: &Log| {
        has_edge(log, to.0, to.1) && !has_edge(log, from.0, from.1) && log.spans(members.len())
    };
    while !members.iter().all(|member| is_it(&member.log())) {
        assert!(began.elapsed() < DEADLINE, "the tree that was to be did not come");
        *said += 1;
        say(members, *said, *said);
    }
}

/// What a member has counted in whose midst of a message the tree changed.
struct Counted {
    stats: Value,
    /// Frames that went from the first large message on until a moment before the tree changed...
    old: u64,
    /// ...and from then on.
    new: u64,
}

/// In a group in which all are set to `manner`, a member that sends large messages gets another
/// neighbour in the midst of one.
fn change_tree_in_mid_message(manner: &str) -> Counted {
    let place = Place::new();
    let (members, _) = group(&place, manner, 4);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    let [host, source, second, third] = [0, 1, 2, 3];
    let impair = |at: usize, with: usize, how: &str| impair(&members[at], &ids[with], how);
    let edge = |a: usize, b: usize| (&*ids[a], &*ids[b]);
    let mut said = 0;
    // The host is the best neighbour of all others, the second is the source's second best.
    impair(source, second, "delay=15ms");
    impair(source, third, "delay=40ms");
    impair(second, third, "delay=40ms");
    moved(&members, &mut said, edge(source, host), edge(source, second));
    moved(&members, &mut said, edge(source, host), edge(source, third));
    moved(&members, &mut said, edge(third, host), edge(second, third));
    let before = count(&stats(&members[source])["totals"], "frames_out");

    let text = "x".repeat(LARGE);
    // One goes whole, and is counted, while nothing changes yet.
    let mut large = 1;
    members[source].send(&text);
    members[source].wait("its receipt", |log| (log.receipts.len() as u64 > said).then_some(()));
    let _ = stats(&members[source]);
    impair(source, host, "delay=60ms,rate=8mbit");
    let is_new = |log: &Log| {
        has_edge(log, &ids[source], &ids[second]) && !has_edge(log, &ids[source], &ids[host])
    };
    while !is_new(&members[source].log()) {
        large += 1;
        members[source].send(&text);
        // Some more are begun before the last ones are known to have come, so something always goes.
        members[source].wait("the end of it, or the new tree", |log| {
            (is_new(log) || log.receipts.len() as u64 + 3 >= said + large).then_some(())
        });
    }
    let at_change = members[source].wait("its figures", |log| {
        log.of("stats").last().map(|stats| count(&stats["totals"], "frames_out"))
    });
    members[source]
        .wait("all receipts", |log| (log.receipts.len() as u64 >= said + large).then_some(()));
    let stats = stats(&members[source]);
    let old = at_change - before;
    let new = count(&stats["totals"], "frames_out") - at_change;
    println!("{manner}: in {large} messages {old} frames until the tree changed, then {new}");
    assert!(old >= 2 && new >= 2, "{manner}: {old} until the tree changed, then {new}");
    for (member, id) in members.into_iter().zip(&ids).rev() {
        let name = member.name().to_owned();
        let log = member.leave();
        let sources = in_order(&name, &log);
        if *id != ids[source] {
            assert_eq!(sources.get(&*ids[source]), Some(&(1, said + large)), "{name}");
            let whole = log.messages.iter().filter(|one| one.bytes == LARGE as u64).count();
            assert_eq!(whole as u64, large, "{name}");
        }
    }
    Counted { stats, old, new }
}

#[test]
fn r10_a_member_that_polls_gets_another_tree_in_mid_message() {
    let stats = change_tree_in_mid_message("poll").stats;
    assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
    assert!(count(&stats, "queries") >= 3, "{stats}");
}

#[test]
fn r11_a_member_that_asks_on_overflow_gets_another_tree_in_mid_message() {
    let stats = change_tree_in_mid_message("overflow").stats;
    assert_eq!(count(&stats, "subscribes"), 0, "{stats}");
    assert!(count(&stats, "overflows") >= 3, "{stats}");
}

#[test]
fn r12_a_member_that_subscribes_gets_another_tree_in_mid_message() {
    let stats = change_tree_in_mid_message("subscribe").stats;
    assert_eq!(count(&stats, "subscribes"), 1, "{stats}");
    assert_eq!(count(&stats, "in_band_frames"), 0, "{stats}");
}

#[test]
fn r13_the_first_pieces_go_by_one_tree_and_the_rest_by_the_next() {
    let Counted { stats, old, new } = change_tree_in_mid_message("in-band");
    let total = count(&stats["totals"], "frames_out");
    let named = count(&stats, "in_band_frames");
    // What was made before the change, and had not gone yet, names the old tree and goes by the new
    // one: 32 frames at most, and the few that were on their way when the edge went.
    assert!(named <= total && total - named <= 48, "{named} of {total}: {stats}");
    assert!(named >= total - new + 2, "{old} until the tree changed, then {new}: {stats}");
}

#[test]
fn r3_r10_groups_that_poll_leave_a_worn_channel() {
    leave_a_worn_channel(&Place::new(), "poll");
}

#[test]
fn r3_r10_groups_that_poll_leave_a_worn_channel_with_the_periods_of_the_default() {
    leave_a_worn_channel(&Place::with_default_periods(), "poll");
}

#[test]
fn r3_r11_groups_that_ask_on_overflow_leave_a_worn_channel() {
    leave_a_worn_channel(&Place::new(), "overflow");
}

/// A group that says nothing any more hears of a new tree when it asks.
fn leave_a_worn_channel(place: &Place, manner: &str) {
    let (members, _) = group(place, manner, 3);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    impair(&members[1], &ids[2], "delay=15ms");
    // Whoever asks on overflow asks when there is something to pass on.
    moved(&members, &mut 0, (&ids[0], &ids[1]), (&ids[1], &ids[2]));
    impair(&members[0], &ids[1], "delay=60ms");
    for member in &members {
        member.wait("the tree without the worn channel", |log| {
            let is_it = !has_edge(log, &ids[0], &ids[1]) && has_edge(log, &ids[1], &ids[2]);
            (is_it && log.spans(3)).then_some(())
        });
    }
    for member in members.into_iter().rev() {
        let name = member.name().to_owned();
        in_order(&name, &member.leave());
    }
}
