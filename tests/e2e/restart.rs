//! The coordinator by itself dies and comes back while its members talk.

use arborcast_tests::process::{Log, Place, Process, now};

use crate::group::{in_order, settle};

/// Members from the start.
const MEMBERS: usize = 5;
/// Messages of each while the coordinator is there, while it is gone, and after.
const EACH: u64 = 100;

/// Starts a coordinator that keeps its key and term in `c.key`.
fn coordinator(place: &Place, name: &str, listen: &[String]) -> Process {
    let mut prepared = place.process("arborcast-coordinator", name, &["--identity", "c.key"]);
    for address in listen {
        prepared = prepared.arg("--listen").arg(address);
    }
    prepared.arg("--json").start()
}

/// Starts a coordinator for the first time: it, one of its addresses, and all of those to start it on
/// again.
fn first(place: &Place) -> (Process, String, Vec<String>) {
    let free = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"].map(str::to_owned);
    let first = coordinator(place, "coordinator", &free);
    let ready = first.event("ready");
    let listen: Vec<String> = ready["listen"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|address| address.as_str()?.split("/p2p/").next().map(str::to_owned))
        .collect();
    assert_eq!(listen.len(), 2, "{ready}");
    let peer = ready["listen"][0].as_str().expect("an address").to_owned();
    (first, peer, listen)
}

fn join(place: &Place, peer: &str, nick: &str) -> Process {
    let args = ["join", "lobby", "--peer", peer, "--nick", nick];
    place.start(nick, &crate::group::with_loopback(&args))
}

/// The numbers of the trees that a member was told of.
fn epochs(log: &Log) -> Vec<u64> {
    log.of("tree").filter_map(|tree| tree["epoch"].as_u64()).collect()
}

fn newest_epoch(member: &Process) -> u64 {
    member.log().tree().and_then(|tree| tree["epoch"].as_u64()).unwrap_or_default()
}

/// Each member says so many more at once.
fn send(members: &[Process], from: u64, count: u64) {
    for number in from + 1..=from + count {
        for member in members {
            member.send(&number.to_string());
        }
    }
}

/// Each member says so many more, and takes in each before the next.
fn say(members: &[Process], from: u64, count: u64) {
    for number in from + 1..=from + count {
        for member in members {
            member.send(&number.to_string());
        }
        for member in members {
            member.wait("taken in", |log| (log.taken.len() as u64 >= number).then_some(()));
        }
    }
}

#[test]
fn restart_of_the_coordinator_loses_nothing_and_lets_newcomers_in() {
    let place = Place::new();
    let (first, peer, listen) = first(&place);
    let members: Vec<Process> =
        (0..MEMBERS).map(|number| join(&place, &peer, &format!("m{number}"))).collect();
    settle(&members, MEMBERS);
    say(&members, 0, EACH);

    let before: Vec<u64> = members.iter().map(newest_epoch).collect();
    // In the midst of what flows: nobody waits for anything before it dies.
    send(&members, EACH, EACH / 2);
    let key = first.peer_id();
    first.kill();
    say(&members, EACH + EACH / 2, EACH / 2);
    let again = coordinator(&place, "coordinator again", &listen);
    assert_eq!(again.peer_id(), key, "the key is kept, so members know it again");
    let began = now();
    say(&members, 2 * EACH, EACH);
    for (member, before) in members.iter().zip(&before) {
        let rises = |epochs: &[u64]| epochs.windows(2).all(|pair| pair[0] < pair[1]);
        member.wait("a tree of the new term", |log| {
            let epochs = epochs(log);
            assert!(rises(&epochs), "{epochs:?}");
            epochs.last().is_some_and(|newest| newest >> 32 > before >> 32).then_some(())
        });
        let left: Vec<_> = member.log().of("left").cloned().collect();
        assert!(left.is_empty(), "nobody was dropped: {left:?}");
    }
    println!("from the restart to a new tree at all: {:.1} s", began.elapsed().as_secs_f64());

    let newcomer = join(&place, &peer, "newcomer");
    newcomer.wait("a tree of all", |log| log.spans(MEMBERS + 1).then_some(()));
    settle(&members, MEMBERS + 1);
    newcomer.send("hello");
    say(&members, 3 * EACH, EACH);
    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for member in &members {
        let own = member.peer_id();
        member.wait("everything", |log| {
            let came = |id: &str| log.messages.iter().filter(|m| &*m.source == id).count() as u64;
            let others = ids.iter().filter(|id| **id != own);
            (others.into_iter().all(|id| came(id) == 4 * EACH)
                && log.messages.iter().any(|m| m.text.as_deref() == Some("hello")))
            .then_some(())
        });
    }
    in_order("newcomer", &newcomer.leave());
    for member in members {
        let name = member.name().to_owned();
        in_order(&name, &member.leave());
    }
    drop(again);
}

#[test]
fn members_are_told_that_the_coordinator_is_gone_and_back_and_stay_one_group_though_its_term_is_lost()
 {
    let place = Place::new();
    let (first, peer, listen) = first(&place);
    let members: Vec<Process> =
        (0..MEMBERS).map(|number| join(&place, &peer, &format!("m{number}"))).collect();
    settle(&members, MEMBERS);
    say(&members, 0, 5);
    first.kill();
    for member in &members {
        member.wait("coordinator_lost", |log| {
            log.of("error").any(|error| error["code"] == "coordinator_lost").then_some(())
        });
    }
    say(&members, 5, 5);

    std::fs::remove_file(place.path("c.key.term")).expect("the term is kept beside the key");
    let before: Vec<usize> = members.iter().map(|member| epochs(&member.log()).len()).collect();
    let again = coordinator(&place, "coordinator again", &listen);
    for member in &members {
        member.event("coordinator_back");
    }
    // Whoever comes makes a new tree.
    let newcomer = join(&place, &peer, "newcomer");
    settle(&members, MEMBERS + 1);
    settle(std::slice::from_ref(&newcomer), MEMBERS + 1);
    say(&members, 10, 5);
    for (member, before) in members.into_iter().zip(before) {
        let name = member.name().to_owned();
        member.wait("all lines", |log| {
            (log.messages.len() as u64 >= 15 * (MEMBERS as u64 - 1)).then_some(())
        });
        let log = member.leave();
        let epochs = epochs(&log);
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {epochs:?}");
        let mut trees = log.of("tree").skip(before);
        let first = trees.next().and_then(|tree| tree["edges"].as_array()).map(Vec::len);
        assert!(first >= Some(MEMBERS - 1), "{name}: a tree without some of them: {first:?}");
        in_order(&name, &log);
    }
    drop((again, newcomer));
}
