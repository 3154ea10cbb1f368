//! Members come, leave and die while others send.

use arborcast_tests::process::{Place, Process};

use arborcast_tests::group::{group, in_order, join};

/// Messages of each member that stays.
const EACH: u64 = 200;

/// Has a member send its next messages and waits until it took them in, which it does as fast as the
/// session goes.
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

#[test]
fn those_who_stay_lose_and_double_nothing() {
    let place = Place::new();
    let (members, ticket) = group(&place, 4);

    // One comes while all send, says something, and leaves.
    say(&members, 1, 20);
    let guest = join(&place, &ticket, "guest");
    say(&members, 21, 60);
    guest.wait("being in the tree", |log| (log.tree().is_some()).then_some(()));
    guest.send("hello");
    guest.wait("a receipt", |log| (!log.receipts.is_empty()).then_some(()));
    say(&members, 61, 80);
    in_order("guest", &guest.leave());

    // Two come, and die without a word: one that says something and one that does not.
    let first = join(&place, &ticket, "victim1");
    let second = join(&place, &ticket, "victim2");
    say(&members, 81, 100);
    for victim in [&first, &second] {
        victim.wait("being in the tree", |log| log.spans(6).then_some(()));
    }
    first.send("I feel strange");
    say(&members, 101, 120);
    in_order("victim1", &first.kill());
    say(&members, 121, 160);
    in_order("victim2", &second.kill());

    // One comes last and hears the rest.
    let last = join(&place, &ticket, "last");
    say(&members, 161, 180);
    last.wait("being in the tree", |log| log.tree().map(drop));
    say(&members, 181, EACH);
    for member in &members {
        member.wait("all receipts", |log| (log.receipts.len() as u64 >= EACH).then_some(()));
    }

    let ids: Vec<String> = members.iter().map(Process::peer_id).collect();
    for member in &members {
        let own = member.peer_id();
        member.wait("all messages of those who stay", |log| {
            let came = |id: &str| log.messages.iter().filter(|m| &*m.source == id).count() as u64;
            ids.iter().filter(|id| **id != own).all(|id| came(id) == EACH).then_some(())
        });
    }
    let mut processes = members;
    processes.push(last);
    processes.reverse();
    for member in processes {
        let (name, own) = (member.name().to_owned(), member.peer_id());
        let sources = in_order(&name, &member.leave());
        if name != "last" {
            for id in ids.iter().filter(|id| **id != own) {
                assert_eq!(sources.get(id.as_str()), Some(&(1, EACH)), "{name}: from {id}");
            }
        }
    }
}
