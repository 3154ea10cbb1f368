//! How fast messages go over one relay, against a bare copy over the same two hops.
//!
//! ```text
//! cargo bench -p arborcast-tests --bench relay
//! cargo bench -p arborcast-tests --bench relay -- history    # what keeping history costs
//! ```
//!
//! One source, one relay, one receiver, each with a node of its own, in this process on loopback
//! (TCP, noise, yamux): reliable, sealed and signed, in an order that the receiver sees. The *bare
//! copy* moves the same bytes in blocks of 64 KiB over libp2p-stream, from one swarm through a second
//! to a third, and does nothing else. Both run in turns, so that the ratio is of one machine in one
//! state; the median of the rounds counts. Absolute figures are for this machine alone.
//!
//! `ARBORCAST_BENCH_MIB` (default 256) and `ARBORCAST_BENCH_ROUNDS` (default 5) size it.

#![expect(clippy::print_stdout, reason = "prints what it measured")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::wildcard_enum_match_arm, reason = "events that do not matter here")]

use std::time::{Duration, Instant};

use arborcast::{Event, Events, Invitation, Node, Session};
use arborcast_coordinator::{Config, Coordinator};
use arborcast_protocol::{
    id::Term,
    keys::{Access, Secret},
    session::{Address, Contact},
    ticket::Ticket,
};
use libp2p::identity::Keypair;

#[path = "relay/bare.rs"]
mod bare;

/// One large message.
const MESSAGE: usize = 4 << 20;
/// One small message.
const SMALL: usize = 100;
/// Small messages in one round.
const SMALL_COUNT: usize = 200_000;

fn main() {
    let mib = setting("ARBORCAST_BENCH_MIB", 256);
    let rounds = setting("ARBORCAST_BENCH_ROUNDS", 5).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if std::env::args().any(|argument| argument == "history") {
        return runtime.block_on(history(mib, setting("ARBORCAST_BENCH_ROUNDS", 7).max(1)));
    }
    runtime.block_on(async {
        let mut path = Path::new(None).await;
        let mut copy = bare::Path::new().await;
        let mut samples: [Vec<Sample>; 3] = Default::default();
        for round in 0..=rounds {
            let sample = [
                sample(copy.run(mib << 20)).await,
                sample(path.large(mib << 20)).await,
                sample(path.small()).await,
            ];
            // The first one warms up.
            if round > 0 {
                samples.iter_mut().zip(sample).for_each(|(all, sample)| all.push(sample));
            }
        }
        let [bare, relayed, small] = samples.map(median);
        let bytes = (mib << 20) as f64 / 1e6;
        let row = |what: &str, Sample { wall, cpu }: Sample| {
            println!(
                "{what:<28} {:8.0} MB/s {:8.0} us of CPU for 64 KiB",
                bytes / wall,
                cpu * 65536.0 / bytes
            );
        };
        row("bare copy over two hops", bare);
        row("messages over one relay", relayed);
        println!(
            "{:<28} {:8.2} in time, {:.2} in CPU",
            "ratio",
            bare.wall / relayed.wall,
            bare.cpu / relayed.cpu
        );
        println!(
            "{:<28} {:8.0} /s, {:.1} us of CPU each",
            format!("messages of {SMALL} bytes"),
            SMALL_COUNT as f64 / small.wall,
            small.cpu * 1e6 / SMALL_COUNT as f64
        );
    });
}

/// Nodes that keep history and nodes that keep none, in turns.
async fn history(mib: usize, rounds: usize) {
    let (mut with, mut without) = (Path::new(None).await, Path::new(Some(0)).await);
    let mut ratios: [Vec<f64>; 4] = Default::default();
    for round in 0..=rounds {
        let large = [sample(with.large(mib << 20)).await, sample(without.large(mib << 20)).await];
        let small = [sample(with.small()).await, sample(without.small()).await];
        // The first one warms up.
        if round == 0 {
            continue;
        }
        let pairs = [large, small]
            .into_iter()
            .flat_map(|[with, without]| [without.wall / with.wall, without.cpu / with.cpu]);
        ratios.iter_mut().zip(pairs).for_each(|(all, ratio)| all.push(ratio));
    }
    let [large, large_cpu, small, small_cpu] = ratios.map(|mut all| {
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!("with history, of the rate without, medians of {rounds} pairs   goal 0.95");
    println!("large messages {large:20.3} in time, {large_cpu:.3} in CPU");
    println!("messages of {SMALL} bytes {small:15.3} in time, {small_cpu:.3} in CPU");
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Seconds that a round took, by the clock and of processors' time.
#[derive(Clone, Copy)]
struct Sample {
    wall: f64,
    cpu: f64,
}

async fn sample(round: impl Future<Output = Duration>) -> Sample {
    let before = cpu_s();
    let wall = round.await.as_secs_f64();
    Sample { wall, cpu: cpu_s() - before }
}

/// Processors' time of this process so far in seconds; 0 where it cannot be known.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    // Fields 14 and 15 (proc(5)), in hundredths of a second.
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The middle one by the clock.
fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_unstable_by(|a, b| a.wall.total_cmp(&b.wall));
    samples[samples.len() / 2]
}

/// The one place that asks for the time.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Source, relay and receiver, with all that keeps them alive.
struct Path {
    source: Session,
    receiver: Events,
    _coordinator: Coordinator,
    _nodes: Vec<(Node, Session)>,
    _drains: Vec<tokio::task::JoinHandle<()>>,
}

impl Path {
    /// Nodes that keep so many bytes of history; `None` for as many as by default.
    async fn new(history_bytes: Option<u64>) -> Self {
        let listen = || vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
        let config = Config { listen: listen(), ..Config::default() };
        let coordinator =
            Coordinator::start(config, Keypair::generate_ed25519(), Term(1)).await.expect("starts");
        let contact = Contact {
            member: coordinator.member_id(),
            addresses: coordinator.addresses().iter().map(|at| Address(at.to_vec())).collect(),
        };
        let access = Access::Private(Secret::from_bytes([7; 32]));
        let ticket = Ticket::new(access, None, vec![contact]).expect("a ticket");

        let mut nodes = Vec::new();
        let mut events = Vec::new();
        // Ends are leaves, so the one in the middle relays.
        for (nick, fanout) in [("source", 1), ("relay", 2), ("receiver", 1)] {
            let mut config = arborcast::Config { listen: listen(), ..arborcast::Config::default() };
            config.session.fanout = fanout;
            if let Some(bytes) = history_bytes {
                config.session.relay.history_bytes = bytes;
            }
            let node = Node::builder().config(config).nick(nick).spawn().await.expect("a node");
            let (session, own) =
                node.join(Invitation::from(ticket.clone())).await.expect("is let in");
            nodes.push((node, session));
            events.push(own);
        }
        let relay = nodes[1].1.member_id();
        for (_, session) in &nodes {
            loop {
                let tree = session.tree().map(|(_, tree)| tree);
                if tree.is_some_and(|tree| tree.neighbours(relay).count() == 2) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let receiver = events.pop().expect("three");
        // Source and relay look at what they are told, as applications do.
        let drains = events
            .into_iter()
            .map(|mut events| tokio::spawn(async move { while events.next().await.is_some() {} }))
            .collect();
        Self {
            source: nodes[0].1.clone(),
            receiver,
            _coordinator: coordinator,
            _nodes: nodes,
            _drains: drains,
        }
    }

    /// Time until `bytes` in large messages have arrived.
    async fn large(&mut self, bytes: usize) -> Duration {
        let payload = bytes::Bytes::from(vec![0x5a; MESSAGE]);
        self.messages(payload, bytes / MESSAGE).await
    }

    /// Time until all small messages have arrived.
    async fn small(&mut self) -> Duration {
        self.messages(bytes::Bytes::from(vec![0x5a; SMALL]), SMALL_COUNT).await
    }

    async fn messages(&mut self, payload: bytes::Bytes, count: usize) -> Duration {
        let source = self.source.clone();
        let began = now();
        let sending = tokio::spawn(async move {
            for _ in 0..count {
                source.send(payload.clone()).await.expect("the session goes on");
            }
        });
        let mut missing = count;
        while missing > 0 {
            match self.receiver.next().await.expect("the session goes on") {
                Event::Message(_) => missing -= 1,
                Event::Lost { reason, .. } => panic!("lost: {reason}"),
                _ => {}
            }
        }
        let took = began.elapsed();
        sending.await.expect("all were taken in");
        took
    }
}
