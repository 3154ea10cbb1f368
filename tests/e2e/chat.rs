//! A small group that talks.

use std::collections::BTreeSet;

use arborcast_tests::process::Place;

use arborcast_tests::group::{all_came, group, has_messages, host, join, settle};

#[test]
fn six_processes_talk_and_leave() {
    const EACH: u64 = 20;
    let place = Place::new();
    let (host, ticket) = host(&place);
    println!("host: ready after {} ms", host.age().as_millis());
    let mut members = vec![host];
    for number in 1..6 {
        let member = join(&place, &ticket, &format!("m{number}"));
        member.wait("a tree of all so far", |log| log.spans(number + 1).then_some(()));
        println!("m{number}: in the tree after {} ms", member.age().as_millis());
        members.push(member);
    }
    settle(&members, 6);
    let trees: BTreeSet<String> = members
        .iter()
        .map(|member| member.log().tree().map(|tree| tree["edges"].to_string()).unwrap_or_default())
        .collect();
    assert_eq!(trees.len(), 1, "all have the same tree: {trees:?}");

    for number in 0..EACH {
        for member in &members {
            member.send(&format!("{} says {number}", member.name()));
        }
    }
    for member in &members {
        has_messages(member, 5 * usize::try_from(EACH).expect("is small"));
        member.wait("receipts", |log| (log.receipts.len() as u64 == EACH).then_some(()));
    }
    members.reverse();
    for member in members {
        let name = member.name().to_owned();
        let log = member.leave();
        all_came(&name, &log, 5, EACH);
        assert_eq!(log.taken, (1..=EACH).collect::<Vec<_>>(), "{name}: numbers of its own");
        let receipts: Vec<_> =
            log.receipts.iter().map(|receipt| (receipt.seq, receipt.delivered)).collect();
        let expected: Vec<_> = (1..=EACH).map(|seq| (seq, 5)).collect();
        assert_eq!(receipts, expected, "{name}: receipts");
        assert_eq!(log.complaints(), Vec::<String>::new(), "{name}");
        let said = log.messages.iter().filter_map(|message| message.text.as_deref());
        assert!(said.clone().any(|text| text == "m1 says 7" || text == "m2 says 7"), "{name}");
    }
}

#[test]
fn a_line_that_waits_while_joining_reaches_all_who_are_there() {
    let place = Place::new();
    let (members, ticket) = group(&place, 3);
    let mut late = join(&place, &ticket, "late");
    late.send("am I late?");
    late.close();
    assert_eq!(late.ended().code, Some(0));
    for member in &members {
        has_messages(member, 1);
    }
}

#[test]
fn bytes_services_and_empty_messages_arrive_as_they_are() {
    let place = Place::new();
    let (members, _) = group(&place, 2);
    let [host, member] = members.try_into().expect("are two");
    member.line(r#"{"send_b64":"//4A"}"#);
    member.line(r#"{"send":"","service":7}"#);
    member.line(r#"{"send":"zwei\nZeilen"}"#);
    has_messages(&host, 3);
    let log = host.leave();
    let came: Vec<_> = log
        .messages
        .iter()
        .map(|message| (message.service, message.bytes, message.text.as_deref()))
        .collect();
    assert_eq!(came, [(0, 3, Some("//4A")), (7, 0, Some("")), (0, 11, Some("zwei\nZeilen"))]);
}
