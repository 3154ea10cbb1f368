//! Members behind NATs, with nothing but `host` and `join`.

use std::time::Duration;

use arborcast_tests::{
    lab::{Host, Lab},
    process::{Place, Process},
};

const H: Host = 0;
const A: Host = 1;
const B: Host = 2;

/// Hole punching takes some round trips, and more than one try on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A host that knows of no address from outside still gives its members circuits: by them they find each
/// other, and then a direct way through both NATs.
#[test]
fn two_members_behind_nats_meet_at_a_host_and_talk_directly() {
    let mut lab = match Lab::new(&["host", "a", "b"]) {
        Ok(lab) => lab,
        Err(missing) => return println!("skipped: {}", missing.0),
    };
    lab.put_behind_nat(A);
    lab.put_behind_nat(B);
    let place = Place::new();
    let host = lab.process(&place, H, "arborcast", "host", &["host", "--json"]).start();
    let ticket = host.ready("ticket");
    let join = |at: Host, nick: &str| -> Process {
        let args = ["join", &ticket, "--json", "--nick", nick];
        lab.process(&place, at, "arborcast", nick, &args).start()
    };
    let (a, b) = (join(A, "a"), join(B, "b"));
    let (at_a, at_b) = (a.peer_id(), b.peer_id());
    for (member, other) in [(&a, &at_b), (&b, &at_a)] {
        member.wait_for(PATIENCE, "a direct channel with the other", |log| {
            let of_other = log.of("channel").filter(|channel| channel["peer_id"] == other.as_str());
            of_other.last().is_some_and(|channel| channel["kind"] == "direct").then_some(())
        });
    }
    a.send("through two NATs");
    b.wait("the message", |log| {
        let came = |message: &arborcast_tests::process::Arrived| {
            message.text.as_deref() == Some("through two NATs")
        };
        log.messages.iter().any(came).then_some(())
    });
}
