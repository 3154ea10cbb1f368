#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::Duration;

use arborcast_protocol::{qos::Transport, testing::member};

use super::*;

fn channel(n: u64, kind: ChannelKind) -> Channel {
    Channel { peer: member(n), kind, transport: Transport::Quic }
}

fn direct(peers: &[u64]) -> Vec<Channel> {
    peers.iter().map(|n| channel(*n, ChannelKind::Direct)).collect()
}

fn full(peers: &[u64]) -> Adjacency {
    Adjacency::Full(direct(peers))
}

fn up(peers: &[u64]) -> Adjacency {
    Adjacency::Change { up: direct(peers), down: Vec::new() }
}

fn down(peers: &[u64]) -> Adjacency {
    Adjacency::Change { up: Vec::new(), down: peers.iter().map(|n| member(*n)).collect() }
}

fn edge(a: u64, b: u64) -> Edge {
    Edge::new(member(a), member(b)).expect("two members")
}

fn with_members(count: u64) -> Topology {
    let mut topology = Topology::default();
    (1..=count).for_each(|n| topology.add(member(n)));
    topology
}

fn edges(topology: &Topology) -> Vec<Edge> {
    topology.channels().into_iter().map(|(edge, _)| edge).collect()
}

fn delay(ms: u64) -> Qos {
    Qos::with_delay(Duration::from_millis(ms))
}

#[test]
fn one_report_is_enough_until_the_other_end_denies_it() {
    let mut topology = with_members(2);
    let changes = topology.on_adjacency(member(1), &full(&[2])).unwrap();
    assert_eq!(changes, Changes { up: [edge(1, 2)].into(), ..Changes::default() });
    let one_sided = |topology: &Topology| topology.channels().iter().all(|(_, c)| c.is_one_sided);
    assert!(one_sided(&topology));
    let confirmed = Changes { quality: true, ..Changes::default() };
    assert_eq!(topology.on_adjacency(member(2), &full(&[1])), Ok(confirmed));
    assert!(!one_sided(&topology));
    let changes = topology.on_adjacency(member(2), &down(&[1])).unwrap();
    assert_eq!(changes, Changes { down: [edge(1, 2)].into(), ..Changes::default() });
    // Repeating is no news, saying it anew is.
    assert_eq!(topology.on_adjacency(member(1), &full(&[2])), Ok(Changes::default()));
    let changes = topology.on_adjacency(member(1), &up(&[2])).unwrap();
    assert_eq!(changes, Changes { up: [edge(1, 2)].into(), ..Changes::default() });
}

#[test]
fn a_full_report_ends_what_it_does_not_list() {
    let mut topology = with_members(3);
    topology.on_adjacency(member(1), &full(&[2, 3])).unwrap();
    topology.on_adjacency(member(2), &full(&[3])).unwrap();
    assert_eq!(edges(&topology), { sorted([edge(1, 3), edge(2, 3)]) });
    topology.on_adjacency(member(1), &full(&[])).unwrap();
    assert_eq!(edges(&topology), [edge(2, 3)]);
}

#[test]
fn who_speaks_of_a_channel_takes_its_own_denial_back() {
    let mut topology = with_members(2);
    topology.on_adjacency(member(1), &up(&[2])).unwrap();
    // Made before the channel came up, or so it seems.
    topology.on_adjacency(member(2), &full(&[])).unwrap();
    assert_eq!(edges(&topology), []);
    topology.on_adjacency(member(2), &up(&[1])).unwrap();
    assert!(topology.channels().iter().all(|(_, channel)| !channel.is_one_sided));
    // The other end has lost it all the same.
    topology.on_adjacency(member(1), &down(&[2])).unwrap();
    assert_eq!(edges(&topology), []);
}

fn sorted<const N: usize>(mut edges: [Edge; N]) -> [Edge; N] {
    edges.sort();
    edges
}

#[test]
fn the_worse_end_counts_and_a_circuit_is_worse() {
    let mut topology = with_members(2);
    topology.on_adjacency(member(1), &full(&[2])).unwrap();
    topology.on_adjacency(member(2), &full(&[1])).unwrap();
    let qos = |n, ms| [ChannelQos { peer: member(n), qos: delay(ms) }];
    assert!(topology.on_qos(member(1), &qos(2, 10)).quality);
    assert!(topology.on_qos(member(2), &qos(1, 30)).quality);
    let merged = |topology: &Topology| topology.channels().first().map(|(_, merged)| *merged);
    let direct = Merged { kind: ChannelKind::Direct, qos: Some(delay(30)), is_one_sided: false };
    assert_eq!(merged(&topology), Some(direct));
    // A changed kind voids that end's figures; the other's remain.
    let relayed =
        Adjacency::Change { up: vec![channel(1, ChannelKind::Relayed)], down: Vec::new() };
    topology.on_adjacency(member(2), &relayed).unwrap();
    let relayed = Merged { kind: ChannelKind::Relayed, qos: Some(delay(10)), is_one_sided: false };
    assert_eq!(merged(&topology), Some(relayed));
}

#[test]
fn figures_of_channels_that_are_not_there_are_left_out() {
    let mut topology = with_members(2);
    let qos = [ChannelQos { peer: member(2), qos: delay(1) }];
    assert_eq!(topology.on_qos(member(1), &qos), Changes::default());
    assert_eq!(edges(&topology), []);
}

#[test]
fn channels_to_strangers_count_once_they_join() {
    let mut topology = with_members(1);
    topology.on_adjacency(member(1), &full(&[2, 3])).unwrap();
    assert_eq!(edges(&topology), []);
    topology.add(member(2));
    assert_eq!(edges(&topology), [edge(1, 2)]);
}

#[test]
fn after_leaving_and_coming_back_channels_must_be_reported_anew() {
    let mut topology = with_members(2);
    topology.on_adjacency(member(1), &full(&[2])).unwrap();
    topology.on_adjacency(member(2), &full(&[1])).unwrap();
    topology.remove(member(2));
    assert_eq!(edges(&topology), []);
    topology.add(member(2));
    assert_eq!(edges(&topology), []);
    assert!(!topology.has_reported(member(2)));
    topology.on_adjacency(member(2), &full(&[1])).unwrap();
    assert_eq!(edges(&topology), [edge(1, 2)]);
    assert!(topology.has_reported(member(2)));
}

#[test]
fn who_lost_all_channels_by_others_word_is_cut_off() {
    let mut topology = with_members(3);
    assert!(!topology.is_cut_off(member(1)));
    topology.on_adjacency(member(1), &full(&[2, 3])).unwrap();
    topology.on_adjacency(member(2), &down(&[1])).unwrap();
    assert!(!topology.is_cut_off(member(1)), "3 has not denied its channel");
    topology.on_adjacency(member(3), &down(&[1])).unwrap();
    assert!(topology.is_cut_off(member(1)));
    assert!(!topology.is_cut_off(member(2)));
    topology.on_adjacency(member(3), &up(&[1])).unwrap();
    assert!(!topology.is_cut_off(member(1)));
}

#[test]
fn too_many_channels_or_loops_change_nothing() {
    let mut topology = with_members(2);
    topology.on_adjacency(member(1), &full(&[2])).unwrap();
    let many: Vec<u64> = (100..100 + limits::CHANNELS as u64).collect();
    assert_eq!(topology.on_adjacency(member(1), &up(&many)), Err(ReportError::TooMany));
    assert_eq!(topology.on_adjacency(member(1), &full(&[1])), Err(ReportError::Loop));
    assert_eq!(topology.on_adjacency(member(1), &down(&[1])), Err(ReportError::Loop));
    assert_eq!(edges(&topology), [edge(1, 2)]);
    let fits = Adjacency::Change { up: direct(&many), down: vec![member(2)] };
    let changes = topology.on_adjacency(member(1), &fits).unwrap();
    assert_eq!(changes, Changes { down: [edge(1, 2)].into(), ..Changes::default() });
}
