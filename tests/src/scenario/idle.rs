//! What members cost that have nothing to say.

use std::{fs, thread, time::Duration};

use super::restart;
use crate::{
    lab::{Lab, Missing},
    process::{Place, Process},
};

/// Trees, measurements and trains of the beginning are over by then.
const SETTLED: Duration = Duration::from_secs(60);

/// For how long is counted.
const COUNTED: Duration = Duration::from_secs(60);

/// Traffic on one member's interface.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// In kbit/s, with all headers.
    pub kbps: f64,
    /// In packets a second.
    pub packets: f64,
}

/// Three members on hosts of their own, the last one a leaf: traffic of the busiest of the others, and of the
/// leaf.
///
/// # Errors
/// What this machine lacks for hosts of their own.
///
/// # Panics
/// If they do not come to one tree.
pub fn three(place: &Place) -> Result<[Traffic; 2], Missing> {
    let lab = Lab::new(&["a", "b", "leaf", "coordinator"])?;
    let listen = format!("/ip4/{}/tcp/4001", lab.address(3));
    let coordinator = lab.process(
        place,
        3,
        "arborcast-coordinator",
        "coordinator",
        &["--json", "--listen", &listen],
    );
    let coordinator = coordinator.start();
    let address = format!("{listen}/p2p/{}", coordinator.peer_id());
    let members: Vec<Process> = (0..3)
        .map(|host| {
            let mut args = vec![
                "join",
                "idle",
                "--json",
                "--peer",
                address.as_str(),
                "--listen",
                "/ip4/0.0.0.0/tcp/0",
            ];
            args.extend((host == 2).then_some("--leaf"));
            lab.process(place, host, "arborcast", ["a", "b", "leaf"][host], &args).start()
        })
        .collect();
    for member in &members {
        member.wait("one tree", |log| log.spans(3).then_some(()));
    }
    thread::sleep(SETTLED);
    let counted = || [0, 1, 2].map(|host| lab.counters(host));
    let before = counted();
    thread::sleep(COUNTED);
    let after = counted();
    let traffic = |host: usize| {
        let per_s = |after: u64, before: u64| {
            let more = u32::try_from(after - before).unwrap_or(u32::MAX);
            f64::from(more) / COUNTED.as_secs_f64()
        };
        Traffic {
            kbps: per_s(after[host].0, before[host].0) * 8.0 / 1000.0,
            packets: per_s(after[host].1, before[host].1),
        }
    };
    let (a, b) = (traffic(0), traffic(1));
    Ok([if a.kbps > b.kbps { a } else { b }, traffic(2)])
}

/// So many members on this machine: processor time of each in percent of a core, on average.
///
/// # Panics
/// If they do not come to one tree.
#[must_use]
pub fn processors(place: &Place, size: usize) -> f64 {
    let (_coordinator, _, members) = restart::started(place, size);
    for member in &members {
        member.wait("one tree", |log| log.spans(size).then_some(()));
    }
    thread::sleep(SETTLED);
    let ticks = || members.iter().map(ticks).sum::<u64>();
    let before = ticks();
    thread::sleep(COUNTED);
    let used = u32::try_from(ticks() - before).unwrap_or(u32::MAX);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    // A hundred ticks are a second on every Linux that there is.
    f64::from(used) / f64::from(size) / COUNTED.as_secs_f64()
}

/// Processor time of a process so far, in ticks.
fn ticks(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    let figures = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    figures.skip(11).take(2).filter_map(|figure| figure.parse::<u64>().ok()).sum()
}
