//! The patent's six devices (figure 2), each in a network namespace of its own. Pairs without a channel
//! are blocked by nftables, B-C loses packets and is narrowed by tc, and the coordinator can be reached by all: so circuits
//! between those that are blocked are possible, and must not be used while direct channels span.

use std::{collections::BTreeSet, time::Duration};

use arborcast_tests::{
    lab::{Host, Lab},
    process::{Log, Place, Process, now},
};
use serde_json::{Value, json};

const NAMES: [&str; 7] = ["A", "B", "C", "D", "E", "F", "S"];
const A: Host = 0;
const B: Host = 1;
const C: Host = 2;
const D: Host = 3;
const E: Host = 4;
const F: Host = 5;
/// The coordinator ("server").
const S: Host = 6;

const CHANNELS: [(Host, Host); 6] = [(A, B), (A, C), (B, C), (B, E), (C, D), (D, F)];
const FIGURE_3B: [(Host, Host); 5] = [(A, B), (A, C), (B, E), (C, D), (D, F)];
const WITHOUT_A_C: [(Host, Host); 5] = [(A, B), (B, C), (B, E), (C, D), (D, F)];

/// Packets in a hundred that B-C loses each way at first, and in the end: the worst that TCP and QUIC
/// still get along with.
const POOR: u8 = 8;
const POORER: u8 = 30;

/// What B-C carries, in kbit/s...
const NARROW: u32 = 2000;

/// ...and where it is not narrow any more.
const WIDE: u32 = 1_000_000;

/// How long the tree may take to become what the channels are, and until nothing counts any more that a
/// channel has lost: some rounds of probes and reports, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(240);

struct World {
    lab: Lab,
    members: Vec<Process>,
    ids: Vec<String>,
    // Last: processes end before the folder goes.
    _coordinator: Process,
    _place: Place,
}

impl World {
    /// All six in the tree of figure 3b; `None` where there can be no lab.
    fn new() -> Option<Self> {
        let mut lab = match Lab::new(&NAMES) {
            Ok(lab) => lab,
            Err(missing) => {
                println!("skipped: {}", missing.0);
                return None;
            }
        };
        for a in A..=F {
            for b in a + 1..=F {
                if !CHANNELS.contains(&(a, b)) {
                    lab.block(a, b);
                }
            }
        }
        lab.lose(B, C, POOR);
        lab.narrow(B, C, NARROW);
        let place = Place::new();
        let at = |host: Host| {
            let address = lab.address(host);
            [format!("/ip4/{address}/tcp/4001"), format!("/ip4/{address}/udp/4001/quic-v1")]
        };
        let [tcp, quic] = at(S);
        let args = ["--listen", &tcp, "--listen", &quic, "--json"];
        let coordinator =
            lab.process(&place, S, "arborcast-coordinator", "coordinator", &args).start();
        let ready = coordinator.event("ready");
        let peer = ready["listen"][0].as_str().expect("an address").to_owned();
        let members: Vec<Process> = (A..=F)
            .map(|host| {
                let [tcp, quic] = at(host);
                let args = [
                    "join",
                    "figure-2",
                    "--peer",
                    &peer,
                    "--nick",
                    NAMES[host],
                    "--listen",
                    &tcp,
                    "--listen",
                    &quic,
                    "--stats-interval",
                    "0.2",
                    "--json",
                ];
                lab.process(&place, host, "arborcast", NAMES[host], &args).start()
            })
            .collect();
        let ids = members.iter().map(Process::peer_id).collect();
        let world = Self { lab, members, ids, _coordinator: coordinator, _place: place };
        world.stands(&FIGURE_3B);
        Some(world)
    }

    /// The edges of a list in a `tree` event, the lower position first.
    fn edges(&self, tree: &Value, list: &str) -> BTreeSet<(Host, Host)> {
        let position = |id: &Value| self.ids.iter().position(|other| id == other);
        let pair = |edge: &Value| {
            let (a, b) = (position(&edge[0])?, position(&edge[1])?);
            Some((a.min(b), a.max(b)))
        };
        tree[list].as_array().into_iter().flatten().filter_map(pair).collect()
    }

    fn holds(&self, log: &Log, tree: &[(Host, Host)]) -> bool {
        log.tree().is_some_and(|newest| {
            self.edges(newest, "edges").iter().eq(tree) && self.edges(newest, "overlap").is_empty()
        })
    }

    /// Waits until all members hold this tree and nothing else.
    fn stands(&self, tree: &[(Host, Host)]) {
        for member in &self.members {
            member.wait_for(PATIENCE, &format!("the tree {tree:?}"), |log| {
                self.holds(log, tree).then_some(())
            });
        }
    }

    /// Waits until a member has this text from each of the others but `but`.
    fn heard(&self, at: Host, from: Host, text: &str) {
        let source = self.ids[from].as_str();
        self.members[at].wait(&format!("{text:?} from {}", NAMES[from]), |log| {
            let is_it = |message: &arborcast_tests::process::Arrived| {
                &*message.source == source && message.text.as_deref() == Some(text)
            };
            log.messages.iter().any(is_it).then_some(())
        });
    }

    /// What a member counted on its channels, as told after all that it has said so far.
    fn counted(&self, at: Host) -> Value {
        let seen = self.members[at].log().of("stats").count();
        // The next one may have been on its way already.
        self.members[at].wait("counters", |log| log.of("stats").nth(seen + 1).cloned())
    }

    /// Data frames that have crossed each channel, both ways together, as the members count.
    fn frames(&self) -> Vec<u64> {
        let counted: Vec<Value> = (A..=F).map(|host| self.counted(host)).collect();
        let out = |from: Host, to: Host| {
            let channels = counted[from]["channels"].as_array().into_iter().flatten();
            let to = channels.filter(|channel| channel["peer_id"] == self.ids[to].as_str());
            to.filter_map(|channel| channel["frames_out"].as_u64()).sum::<u64>()
        };
        CHANNELS.iter().map(|(a, b)| out(*a, *b) + out(*b, *a)).collect()
    }

    fn bytes(&self) -> Vec<u64> {
        CHANNELS.iter().map(|(a, b)| self.lab.bytes(*a, *b)).collect()
    }

    /// Datagrams that the ends of each channel had no room for.
    fn overruns(&self) -> Vec<u64> {
        CHANNELS.iter().map(|(a, b)| self.lab.overruns(*a) + self.lab.overruns(*b)).collect()
    }
}

/// All in one world, one after another, for it takes long to come to rest.
#[test]
fn r2_r3_r17_the_tree_is_that_of_figure_3b_and_follows_what_tc_and_nft_do_to_channels() {
    let Some(mut world) = World::new() else { return };
    world.has_a_circuit();
    each_frame_crosses_each_channel_of_the_tree_once(&world);
    a_channel_that_gets_narrow_is_left(&mut world);
    a_channel_that_gets_lossy_is_left(&mut world);
}

/// R2, R17: the tree is that of figure 3b, and a large message crosses each of its channels once and
/// B-C not at all, by the members' counters and by the bytes that the kernel saw.
fn each_frame_crosses_each_channel_of_the_tree_once(world: &World) {
    let size = 4 << 20;
    let to_the_coordinator =
        || -> Vec<u64> { (A..=F).map(|host| world.lab.bytes(host, S)).collect() };
    let before = to_the_coordinator();
    for (number, source) in (A..=F).enumerate() {
        let (frames, bytes, overruns) = (world.frames(), world.bytes(), world.overruns());
        world.members[source].line(json!({ "send": "x".repeat(size) }).to_string());
        world.members[source].wait("the receipt", |log| (!log.receipts.is_empty()).then_some(()));
        let marker = format!("after {number}");
        world.members[source].send(&marker);
        for at in (A..=F).filter(|at| *at != source) {
            world.heard(at, source, &marker);
        }
        let (frames_after, bytes_after) = (world.frames(), world.bytes());
        let crossed: Vec<u64> = frames_after.iter().zip(&frames).map(|(a, b)| a - b).collect();
        let bytes: Vec<u64> = bytes_after.iter().zip(&bytes).map(|(a, b)| a - b).collect();
        let overruns: Vec<u64> =
            world.overruns().iter().zip(&overruns).map(|(a, b)| a - b).collect();
        println!(
            "{} sent 4 MiB: frames {crossed:?}, bytes {bytes:?}, overruns {overruns:?}",
            NAMES[source]
        );
        let once = crossed[0];
        assert!(once >= (size as u64).div_ceil(64 << 10), "{once} frames");
        for (((channel, crossed), bytes), overruns) in
            CHANNELS.iter().zip(crossed).zip(bytes).zip(overruns)
        {
            if *channel == (B, C) {
                assert_eq!(crossed, 0, "frames on B-C");
                // Its bandwidth may be measured just now.
                assert!(bytes < size as u64 / 4, "{bytes} bytes on B-C");
            } else {
                assert_eq!(crossed, once, "frames on {channel:?}");
                // Encryption, headers, acknowledgements and all else. What a busy machine's kernel drops is
                // sent again by the transport, and is far from a second copy of all.
                let size = size as u64;
                let most = if overruns == 0 { size * 5 / 4 } else { size * 2 };
                assert!(
                    (size..most).contains(&bytes),
                    "{bytes} bytes on {channel:?}, {overruns} overruns"
                );
            }
        }
    }
    // Nothing went over a circuit: the server has seen no such traffic.
    world.used_no_circuit();
    for ((name, before), after) in NAMES.iter().zip(before).zip(to_the_coordinator()) {
        let bytes = after - before;
        println!("{name} and the coordinator: {bytes} bytes");
        assert!(bytes < size as u64 / 2, "{name} and the coordinator: {bytes} bytes");
    }
}

impl World {
    /// Has all talk until they hold this tree, and then looks whether all was heard, once and in order.
    fn talk_until(&self, tree: &[(Host, Host)]) {
        let patience = now() + PATIENCE;
        // Enough that a narrow channel has more to carry than it can.
        let filling = "and on ".repeat(150);
        while !self.members.iter().all(|member| self.holds(&member.log(), tree)) {
            assert!(
                now() < patience,
                "the tree is not {tree:?} after {PATIENCE:?}:\n{}",
                self.what_ends_told_of(&[(A, C), (B, C)])
            );
            self.say(&filling);
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = self.say("the last word");
        for (at, member) in self.members.iter().enumerate() {
            for (source, said) in self.ids.iter().zip(&said).filter(|(id, _)| **id != self.ids[at])
            {
                let came = |log: &Log| -> Vec<u64> {
                    log.messages.iter().filter(|m| *m.source == **source).map(|m| m.seq).collect()
                };
                let came = member.wait("the last word of each", |log| {
                    Some(came(log)).filter(|came| came.last() >= Some(said))
                });
                let name = NAMES[at];
                assert_eq!(came, (1..=*said).collect::<Vec<_>>(), "{name}: from {source}");
            }
            assert_eq!(member.log().of("lost").count(), 0, "{}", NAMES[at]);
        }
    }

    /// All say one thing more, at the pace of the session. Gives how much each has said so far.
    fn say(&self, text: &str) -> Vec<u64> {
        let before: Vec<usize> =
            self.members.iter().map(|member| member.log().taken.len()).collect();
        for member in &self.members {
            member.send(text);
        }
        let taken = |(member, before): (&Process, usize)| {
            member.wait("its being taken in", |log| {
                (log.taken.len() > before).then_some(log.taken.len() as u64)
            })
        };
        self.members.iter().zip(before).map(taken).collect()
    }

    /// The last few figures that the ends of these channels told.
    fn what_ends_told_of(&self, channels: &[(Host, Host)]) -> String {
        const FEW: usize = 12;
        let both_ways = channels.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        let told = both_ways.flat_map(|(at, with)| {
            let log = self.members[at].log();
            let of_it: Vec<String> = log
                .of("channel")
                .filter(|channel| channel["peer_id"] == self.ids[with])
                .map(|channel| format!("{} of {}: {channel}", NAMES[at], NAMES[with]))
                .collect();
            of_it.into_iter().rev().take(FEW)
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// Waits until some who cannot reach each other have a circuit, which a tree could use.
    fn has_a_circuit(&self) {
        let began = now();
        let circuits = || {
            let kinds = self.members.iter().flat_map(|member| {
                let log = member.log();
                log.of("channel").map(|channel| channel["kind"].clone()).collect::<Vec<_>>()
            });
            kinds.filter(|kind| kind == "relayed").count()
        };
        while circuits() == 0 {
            assert!(began.elapsed() < PATIENCE, "no circuit after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("a circuit {:.1} s later", began.elapsed().as_secs_f64());
    }

    /// No tree has had an edge that is no direct channel so far. (Later a connection may break where much
    /// is lost, and then a circuit is right until there is another.)
    fn used_no_circuit(&self) {
        for (host, member) in self.members.iter().enumerate() {
            for tree in member.log().of("tree") {
                let mut edges = self.edges(tree, "edges");
                edges.extend(self.edges(tree, "overlap"));
                assert!(
                    edges.iter().all(|edge| CHANNELS.contains(edge)),
                    "{}: {tree}",
                    NAMES[host]
                );
            }
        }
    }
}

/// R3: tc narrows A-C, once B-C has become a good channel and is known to be one: the tree moves there
/// while all talk.
fn a_channel_that_gets_narrow_is_left(world: &mut World) {
    world.lab.mend(B, C);
    world.lab.narrow(B, C, WIDE);
    for (at, with) in [(B, C), (C, B)] {
        world.members[at].wait_for(PATIENCE, "B-C as a good channel", |log| {
            let with = world.ids[with].as_str();
            let last = log.of("channel").filter(|channel| channel["peer_id"] == with).last()?;
            let is_wide = last["bandwidth_mbps"].as_f64()? >= f64::from(NARROW) / 500.0;
            (is_wide && last["loss"].as_f64()? < 0.05).then_some(())
        });
    }
    world.lab.narrow(A, C, NARROW / 4);
    world.talk_until(&WITHOUT_A_C);
}

/// R3: A-C is wide again, and nft drops packets on B-C, which carries the tree by now.
fn a_channel_that_gets_lossy_is_left(world: &mut World) {
    world.lab.narrow(A, C, WIDE);
    world.lab.lose(B, C, POORER);
    world.talk_until(&FIGURE_3B);
}
