//! The coordinator by itself dies and comes back while its members talk.

use arborcast_tests::{
    group::{in_order, settle},
    process::{Place, Process},
    scenario::restart::{
        coordinator, epochs, first, have_trees_of_a_new_term, join, killed_and_back, newest_epoch,
    },
};

/// Members from the start.
const MEMBERS: usize = 5;
/// Messages of each while the coordinator is there, while it is gone, and after.
const EACH: u64 = 100;

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
    say(&members, 2 * EACH, EACH);
    have_trees_of_a_new_term(&members, &before);

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
fn restart_of_the_coordinator_drops_nobody_with_the_periods_of_the_default() {
    let _ = killed_and_back(&Place::with_default_periods(), 3);
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
