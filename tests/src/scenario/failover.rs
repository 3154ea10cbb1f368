//! Relays die, stop without a word, or leave, while all talk.

use std::time::{Duration, Instant};

use crate::{
    group::{settle, with_loopback},
    process::{DEADLINE, Log, Place, Process, now},
};

/// Members beside the host.
const MEMBERS: usize = 9;

/// Between two messages of each member.
const BEAT: Duration = Duration::from_millis(50);

/// How a relay is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its process is killed.
    Killed,
    /// Its process is stopped, and goes on when all is over.
    Stopped,
    /// It leaves as it should.
    Left,
}

/// The longest time in which a survivor heard nothing of another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silence {
    /// How the relay was taken away.
    pub end: End,
    /// The longest of all.
    pub longest: Duration,
}

fn join(place: &Place, ticket: &str, name: &str) -> Process {
    place.start(
        name,
        &with_loopback(&[
            "join",
            ticket,
            "--nick",
            name,
            "--fanout",
            "3",
            "--stats-interval",
            "0.2",
        ]),
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
        let deadline = now() + DEADLINE;
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

/// Data that a member has had to ask for so far, as told after all that it has said by now.
fn repaired(member: &Process) -> u64 {
    let seen = member.log().of("stats").count();
    // The next one may have been on its way already.
    member.wait("its figures", |log| {
        log.of("stats").nth(seen + 1).and_then(|stats| stats["totals"]["repaired"].as_u64())
    })
}

/// Takes relays away in these ways, one after another, and starts others in their place. All that
/// survivors say reaches each other once and in order, and where a relay leaves nothing has to be asked
/// for again.
///
/// # Panics
/// If that is not so.
#[must_use]
pub fn take_away(place: &Place, ends: &[End]) -> Vec<Silence> {
    let stats = ["--stats-interval", "0.2"];
    let host =
        place.start("host", &with_loopback(&[&["host", "--nick", "host"], &stats[..]].concat()));
    let ticket = host.ready("ticket");
    let mut talk = Talk { members: vec![host], said: 0 };
    for number in 0..MEMBERS {
        talk.members.push(join(place, &ticket, &format!("m{number}")));
    }
    settle(&talk.members, MEMBERS + 1);
    let mut silences = Vec::new();
    let (mut stopped, mut leavers) = (Vec::new(), Vec::new());
    for (round, end) in ends.iter().copied().enumerate() {
        for _ in 0..20 {
            talk.beat();
        }
        let relay = (1..talk.members.len())
            .max_by_key(|at| degree(&talk.members[0].log(), &talk.members[*at].peer_id()))
            .expect("there are members beside the host");
        let relay = talk.members.remove(relay);
        let id = relay.peer_id();
        let asked: Vec<u64> = talk.members.iter().map(repaired).collect();
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
        silences.push(Silence { end, longest: longest.max().unwrap_or_default() });
        if end == End::Left {
            for (member, before) in talk.members.iter().zip(asked) {
                let asked = repaired(member) - before;
                assert_eq!(asked, 0, "{}: what was under way was cut off", member.name());
            }
        }
        talk.members.push(join(place, &ticket, &format!("n{round}")));
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
    silences
}
