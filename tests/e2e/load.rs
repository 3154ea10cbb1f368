//! Much at once.

use arborcast_tests::process::Place;

use arborcast_tests::group::{all_came, group};

const MIB: u64 = 1 << 20;
/// Small messages of each member.
const SMALL: u64 = 10_000;
/// What one process may take at its peak. Two large messages of each of five others may be on their
/// way through it, beside its store of 32 MiB and its queues.
const MEMORY: u64 = 400 * MIB;
/// For all of it, on a small machine and without optimization.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(240);

#[test]
fn r16_six_members_send_a_large_message_and_ten_thousand_small_ones() {
    let place = Place::new();
    let (members, _) = group(&place, 6);
    for member in &members {
        let large = member.name().repeat(10 << 20);
        let large = large.get(..10 << 20).expect("names are ASCII");
        let mut lines = Vec::new();
        for number in 0..SMALL / 2 {
            lines.extend_from_slice(format!("{{\"send\":\"{number}\"}}\n").as_bytes());
        }
        lines.extend_from_slice(format!("{{\"send\":\"{large}\"}}\n").as_bytes());
        for number in SMALL / 2..SMALL {
            lines.extend_from_slice(format!("{{\"send\":\"{number}\"}}\n").as_bytes());
        }
        member.raw(lines);
    }
    let expected = usize::try_from(5 * (SMALL + 1)).expect("is small");
    for member in &members {
        member.wait_for(DEADLINE, "all messages", |log| {
            (log.messages.len() >= expected).then_some(())
        });
        member.wait_for(DEADLINE, "all receipts", |log| {
            (log.receipts.len() as u64 > SMALL).then_some(())
        });
    }
    for member in &members {
        let peak = member.peak_memory();
        println!("{}: {} MiB at its peak", member.name(), peak / MIB);
        assert!(peak < MEMORY, "{}: {} MiB", member.name(), peak / MIB);
    }
    for member in members {
        let name = member.name().to_owned();
        let log = member.leave();
        all_came(&name, &log, 5, SMALL + 1);
        let large = log.messages.iter().filter(|message| message.bytes == 10 * MIB).count();
        assert_eq!(large, 5, "{name}");
    }
}
