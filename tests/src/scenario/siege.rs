//! Thousands of strangers that connect and say nothing, while members send as fast as the session goes.

use std::{
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{restart, stopped::flood};
use crate::process::{Place, Process, now};

/// Members, one of which sends.
const MEMBERS: usize = 4;

/// For how long messages are counted.
const COUNTED: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// Messages per second at a receiver during it, as a part of those before.
    pub goodput: f64,
    /// The greatest growth of a process meanwhile, the coordinator included, in bytes.
    pub grew: u64,
    /// Connections that were not refused or closed.
    pub held: usize,
}

/// So many connections, some to the coordinator and some to a member, half of them idle after the first
/// byte, the others before it.
///
/// # Panics
/// If the session does not come up, or a message is missing.
#[must_use]
pub fn of_strangers(place: &Place, connections: usize) -> Siege {
    let (coordinator, listen, members) = restart::group(place, MEMBERS);
    let targets: Vec<SocketAddr> = listen
        .iter()
        .filter_map(|address| socket(address))
        .chain(members[1].log().of("ready").filter_map(|ready| {
            socket(ready["listen"].as_array()?.iter().find_map(|at| at.as_str())?)
        }))
        .collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(&members[0], &stop));
        let before = rate(&members[2]);
        let all: Vec<&Process> = members.iter().chain([&coordinator]).collect();
        let memory: Vec<u64> = all.iter().map(|process| process.memory()).collect();
        let mut open = Vec::new();
        for number in 0..connections {
            let target = targets[number % targets.len()];
            let Ok(stream) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
                continue;
            };
            if number % 2 == 0 {
                let _ = std::io::Write::write_all(&mut &stream, b"\x13/multistream/1.0.0\n");
            }
            let _ = stream.set_nonblocking(true);
            open.push(stream);
        }
        let during = rate(&members[2]);
        let grew =
            all.iter().zip(memory).map(|(process, was)| process.memory().saturating_sub(was));
        let grew = grew.max().unwrap_or_default();
        // What was refused or closed reads as its end, or as an error.
        let is_held = |stream: &&TcpStream| {
            let mut bytes = [0; 256];
            loop {
                match std::io::Read::read(&mut &**stream, &mut bytes) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        };
        let held = open.iter().filter(is_held).count();
        stop.store(true, Ordering::Relaxed);
        Siege { goodput: during / before, grew, held }
    })
}

/// Messages per second that come to a member.
fn rate(member: &Process) -> f64 {
    let (began, before) = (now(), member.log().messages.len());
    thread::sleep(COUNTED);
    let came = u32::try_from(member.log().messages.len() - before).unwrap_or(u32::MAX);
    f64::from(came) / began.elapsed().as_secs_f64()
}

/// The socket of an address over TCP.
fn socket(address: &str) -> Option<SocketAddr> {
    let mut parts = address.split('/').skip(1);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
        ("ip4", ip, "tcp", port) => Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)),
        _ => None,
    }
}
