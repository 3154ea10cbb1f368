//! Relays die, stop without a word, or leave, while all talk.

use std::time::{Duration, Instant};

use arborcast_tests::process::{Log, Place, Process, now};

use crate::group::{settle, with_loopback};

/// Members beside the host.
const MEMBERS: usize = 9;

/// Between two messages of each member.
const BEAT: Duration = Duration::from_millis(50);

/// How often a relay is taken away; `ARBORCAST_KILLS` says otherwise.
const KILLS: usize = 3;

/// How a relay is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Killed,
    Stopped,
    Left,
}

fn join(place: &Place, ticket: &str, name: &str) -> Process {
    place.start(
        name,
        &with_loopback(&["join", ticket, "--nick", name, "--fanout", "3", "--stats-interval", "1"]),
    )
}

/// Members that talk, each with what it said last.
struct Talk {
    members: Vec<Process>,
    said: u64,
}

impl Talk {
    /// Each says its next line, at the pace of the talk.
    fn beat(&mut self) {
        self.said += 1;
        for member in &self.members {
            member.send(&format!("{}", self.said));
        }
        std::thread::sleep(BEAT);
    }

    /// Talks until something is so.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&[Process]) -> bool) {
        let deadline = now() + Duration::from_secs(60);
        while !is_so(&self.members) {
            assert!(now() < deadline, "{what} does not come");
            self.beat();
        }
    }
}

/// Neighbours of a member in the newest tree.
fn degree(log: &Log, id: &str) -> usize {
    let tree = log.tree().and_then(|tree| tree["edges"].as_array().cloned()).unwrap_or_default();
    tree.iter().filter(|edge| edge[0] == id || edge[1] == id).count()
}

/// The longest time in which a member heard nothing of some other one, from `begin` on.
fn silence(log: &Log, sources: &[String], begin: Instant, end: Instant) -> Duration {
    let gaps = sources.iter().map(|source| {
        let came = log.messages.iter().filter(|m| *m.source == **source).map(|m| m.at);
        let times: Vec<Instant> =
            [begin].into_iter().chain(came.filter(|at| *at > begin)).chain([end]).collect();
        let gaps = times.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0]));
        gaps.max().unwrap_or_default()
    });
    gaps.max().unwrap_or_default()
}

/// Takes relays away one by one, starts others in their place, and gives the longest silence that any
/// survivor had after each.
fn take_away(end: End) -> Vec<Duration> {
    let kills = std::env::var("ARBORCAST_KILLS").ok().and_then(|text| text.parse().ok());
    let place = Place::new();
    let stats = ["--stats-interval", "1"];
    let host =
        place.start("host", &with_loopback(&[&["host", "--nick", "host"], &stats[..]].concat()));
    let ticket = host.ready("ticket");
    let mut talk = Talk { members: vec![host], said: 0 };
    for number in 0..MEMBERS {
        talk.members.push(join(&place, &ticket, &format!("m{number}")));
    }
    settle(&talk.members, MEMBERS + 1);
    let mut silences = Vec::new();
    let (mut stopped, mut leavers) = (Vec::new(), Vec::new());
    for round in 0..kills.unwrap_or(KILLS) {
        for _ in 0..40 {
            talk.beat();
        }
        let relay = (1..talk.members.len())
            .max_by_key(|at| degree(&talk.members[0].log(), &talk.members[*at].peer_id()))
            .expect("there are members beside the host");
        let relay = talk.members.remove(relay);
        let id = relay.peer_id();
        let relays = degree(&talk.members[0].log(), &id);
        let began = now();
        match end {
            End::Killed => drop(relay.kill()),
            End::Stopped => {
                relay.signal("STOP");
                stopped.push(relay);
            }
            // It is waited for beside the talk.
            End::Left => leavers.push(std::thread::spawn(|| relay.leave())),
        }
        // Until all have heard again of each other, and each holds a tree that does not go through it.
        talk.until("a tree around it", |members| {
            members.iter().all(|member| degree(&member.log(), &id) <= 1)
        });
        for _ in 0..20 {
            talk.beat();
        }
        let last = Some(talk.said.to_string());
        let ids: Vec<String> = talk.members.iter().map(Process::peer_id).collect();
        let others = |own: usize| {
            let ids = ids.iter().enumerate().filter(move |(at, _)| *at != own);
            ids.map(|(_, id)| id.clone()).collect::<Vec<String>>()
        };
        for (at, member) in talk.members.iter().enumerate() {
            let others = others(at);
            member.wait("what the others said", |log| {
                let heard = |other: &String| {
                    let mut newest = log.messages.iter().rev();
                    newest.any(|message| *message.source == **other && message.text == last)
                };
                others.iter().all(heard).then_some(())
            });
        }
        let ended = now();
        let longest = talk
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| silence(&member.log(), &others(at), began, ended));
        let longest = longest.max().unwrap_or_default();
        println!("{end:?} a relay between {relays}: longest silence {} ms", longest.as_millis());
        silences.push(longest);
        talk.members.push(join(&place, &ticket, &format!("n{round}")));
        talk.until("the new member", |members| {
            let newest = members.last().map(Process::peer_id).unwrap_or_default();
            members.iter().all(|member| degree(&member.log(), &newest) > 0)
        });
    }
    let survivors: Vec<String> = talk.members.iter().map(Process::peer_id).collect();
    for member in &talk.members {
        let (name, log) = (member.name(), member.log());
        assert_eq!(log.of("lost").count(), 0, "{name}");
        for source in &survivors {
            let seqs: Vec<u64> =
                log.messages.iter().filter(|m| *m.source == **source).map(|m| m.seq).collect();
            let in_order = seqs.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(in_order, "{name}: from {source}: lost, doubled or out of order");
        }
    }
    for relay in &stopped {
        relay.signal("CONT");
    }
    for leaver in leavers {
        leaver.join().expect("it left as it should");
    }
    if end == End::Left {
        for member in &talk.members {
            let name = member.name();
            let repaired = member.wait("its figures", |log| {
                log.of("stats").last().and_then(|stats| stats["totals"]["repaired"].as_u64())
            });
            assert_eq!(repaired, 0, "{name}: what was under way was cut off");
        }
    }
    silences.sort();
    silences
}

/// The middle of the silences, in words.
fn told(silences: &[Duration]) -> String {
    let all: Vec<u128> = silences.iter().map(Duration::as_millis).collect();
    format!("silences in ms: {all:?}, median {:?}", all.get(all.len() / 2))
}

#[test]
fn relays_that_are_killed_are_replaced_and_nothing_is_lost() {
    println!("{}", told(&take_away(End::Killed)));
}

#[test]
fn relays_that_are_stopped_are_replaced_and_nothing_is_lost() {
    println!("{}", told(&take_away(End::Stopped)));
}

#[test]
fn relays_that_leave_hand_over_and_nothing_has_to_be_repaired() {
    println!("{}", told(&take_away(End::Left)));
}
