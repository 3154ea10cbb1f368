//! A long run: thirty members talk for as long as `ARBORCAST_SOAK_MINUTES` says while some of them come, leave
//! and die at random. Those who stay lose nothing, and nobody's memory grows.
//!
//! ```text
//! ARBORCAST_SOAK_MINUTES=20 cargo test -p arborcast-tests e2e::soak -- --nocapture
//! ```

use std::time::{Duration, Instant};

use arborcast_tests::process::{Place, Process, now};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use arborcast_tests::group::{host, join, settle};

/// Members that stay, the host among them.
const STAYING: usize = 10;

/// Members that come and go.
const GUESTS: usize = 20;

/// Between two messages of each member.
const BEAT: Duration = Duration::from_millis(500);

/// Between two comings or goings, on average.
const CHANGE: Duration = Duration::from_secs(3);

/// Those who stay have everything that the others of them said by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory may grow by this much between the first quarter and the end: what allocators keep, and one more
/// member's state.
const GROWTH: f64 = 1.25;

/// Memory of each of them, in MiB.
fn memory(members: &[Process]) -> Vec<u64> {
    members.iter().map(|member| member.memory() >> 20).collect()
}

#[test]
fn memory_stays_flat_and_nothing_is_lost_in_a_long_run() {
    let minutes = std::env::var("ARBORCAST_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    let Some(minutes) = minutes.filter(|minutes| *minutes > 0_u64) else {
        println!("skipped: it takes as many minutes as ARBORCAST_SOAK_MINUTES says");
        return;
    };
    let mut rng = StdRng::seed_from_u64(minutes);
    let place = Place::new();
    let (first, ticket) = host(&place);
    let mut staying = vec![first];
    for number in 1..STAYING {
        staying.push(join(&place, &ticket, &format!("m{number}")));
    }
    let mut guests: Vec<Process> =
        (0..GUESTS).map(|number| join(&place, &ticket, &format!("g{number}"))).collect();
    settle(&staying, STAYING + GUESTS);

    let began = now();
    let end = began + Duration::from_secs(60 * minutes);
    let (mut said, mut came, mut left, mut killed) = (0_u64, GUESTS, 0, 0);
    let mut change_at: Instant = now();
    let mut told_at = began;
    let mut early = None;
    while now() < end {
        said += 1;
        for member in staying.iter().chain(&guests) {
            member.send(&format!("{said}"));
        }
        if now() >= change_at {
            change_at = now() + CHANGE.mul_f64(rng.random_range(0.2..1.8));
            let is_room = guests.len() < GUESTS;
            if is_room && (guests.len() < GUESTS / 2 || rng.random()) {
                guests.push(join(&place, &ticket, &format!("g{came}")));
                came += 1;
            } else {
                let guest = guests.swap_remove(rng.random_range(0..guests.len()));
                if rng.random() {
                    drop(guest.kill());
                    killed += 1;
                } else {
                    // Beside the talk.
                    std::thread::spawn(move || drop(guest.leave()));
                    left += 1;
                }
            }
        }
        if early.is_none() && now() >= began + Duration::from_secs(15 * minutes) {
            early = Some(memory(&staying));
        }
        if now() >= told_at + Duration::from_secs(60) {
            told_at = now();
            let minute = began.elapsed().as_secs() / 60;
            println!(
                "minute {minute}: {:?} MiB; {came} came, {left} left, {killed} killed",
                memory(&staying)
            );
        }
        std::thread::sleep(BEAT);
    }
    let ids: Vec<String> = staying.iter().map(Process::peer_id).collect();
    for (at, member) in staying.iter().enumerate() {
        member.wait_for(PATIENCE, "what the others who stay said", |log| {
            let heard = |id: &String| {
                log.messages.iter().rev().find(|m| *m.source == **id).is_some_and(|m| m.seq == said)
            };
            let others = ids.iter().enumerate().filter(|(other, _)| *other != at);
            others.map(|(_, id)| id).all(heard).then_some(())
        });
    }
    let late = memory(&staying);
    println!(
        "{said} messages of each; memory in MiB after a quarter {early:?}, at the end {late:?}"
    );
    for (at, member) in staying.iter().enumerate() {
        let (name, log) = (member.name(), member.log());
        assert_eq!(log.of("lost").count(), 0, "{name}");
        for id in ids.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, id)| id) {
            let seqs: Vec<u64> =
                log.messages.iter().filter(|m| *m.source == **id).map(|m| m.seq).collect();
            let in_order = seqs.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(in_order, "{name}: from {id}: lost, doubled or out of order");
        }
    }
    let sum = |memory: &[u64]| memory.iter().sum::<u64>();
    let (early, late) = (sum(&early.unwrap_or_default()), sum(&late));
    #[expect(clippy::cast_precision_loss, reason = "some hundred MiB")]
    let grew = late as f64 / early as f64;
    assert!(grew < GROWTH, "{early} MiB after a quarter of the time, {late} MiB at the end");
}
