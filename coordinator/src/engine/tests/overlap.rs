//! Make before break: two epochs, withdrawal, and what noise and nonsense do (R3).

use arborcast_protocol::tree::SignedHeader;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;

const NOTHING: [&str; 0] = [];

/// The patent's six devices, A to F as 1 to 6.
const FIGURE_2: [(u64, u64); 6] = [(1, 2), (1, 3), (2, 3), (2, 5), (3, 4), (4, 6)];

fn prompt() -> Config {
    Config { resume_ms: 0, ..Config::default() }
}

impl World {
    /// As [`World::configured`], where every edge carries as soon as its ends have been told.
    pub(super) fn carrying(count: u64, links: &[(u64, u64)]) -> Self {
        let mut world = Self::configured(prompt(), count, links);
        (1..=count).for_each(|n| {
            world.renew(n, true).0.unwrap();
        });
        world.all_carry();
        world
    }

    /// `n` says that its edges with `peers` carry, holding the newest tree.
    pub(super) fn say_carrying(&mut self, n: u64, peers: &[u64]) -> Vec<String> {
        let held = Some(self.held());
        let carrying = peers.iter().map(|peer| member(*peer)).collect();
        let (answer, rest) = self.send_report(n, Report { held, carrying, ..no_report(n) });
        assert!(answer.is_ok());
        rest
    }

    fn held(&mut self) -> SignedHeader {
        let query = path::Request::Query { session: session(), scope: Scope::Neighbours };
        let Ok(State::Neighbours(own)) = self.path(1, query).0 else { panic!("no tree") };
        own.header
    }

    /// Both ends of all edges say that they carry.
    pub(super) fn all_carry(&mut self) {
        for (a, b) in self.tree().1 {
            self.say_carrying(a, &[b]);
            self.say_carrying(b, &[a]);
        }
    }

    /// Old edges beside the tree, by numbers.
    pub(super) fn overlap(&self) -> Vec<(u64, u64)> {
        let (_, tree) = self.engine.tree(session()).expect("a tree");
        let mut edges: Vec<(u64, u64)> = tree
            .overlap()
            .map(|edge| {
                let (a, b) = edge.ends();
                (self.name(a).min(self.name(b)), self.name(a).max(self.name(b)))
            })
            .collect();
        edges.sort_unstable();
        edges
    }

    /// Figure 2, where B-C is the poorest of its cycle, until A-C becomes worse still.
    fn moving() -> Self {
        let mut world = Self::about_to_move();
        for n in 1..=6 {
            world.subscribe(n, Scope::Tree).unwrap();
        }
        world.moves();
        world
    }

    /// The same where nobody follows updates.
    fn moving_to_those_who_ask() -> Self {
        let mut world = Self::about_to_move();
        world.moves();
        world
    }

    fn about_to_move() -> Self {
        let mut world = Self::carrying(6, &FIGURE_2);
        world.report_qos(2, 3, 20, 0);
        world.until(2_000);
        world.all_carry();
        world.until(2_200);
        assert_eq!(world.tree().1, [(1, 2), (1, 3), (2, 5), (3, 4), (4, 6)]);
        assert_eq!(world.overlap(), []);
        world
    }

    fn moves(&mut self) {
        let (epoch, _) = self.tree();
        self.report_qos(3, 1, 40, 0);
        assert_eq!(self.until(2_500), [format!("publish 7.{} change", epoch + 1)]);
    }
}

#[test]
fn r3_a_better_edge_comes_in_beside_the_old_one_which_goes_once_both_ends_say_it_carries() {
    let mut world = World::moving();
    let (epoch, edges) = world.tree();
    assert_eq!(edges, [(1, 2), (2, 3), (2, 5), (3, 4), (4, 6)]);
    assert_eq!(world.overlap(), [(1, 3)]);
    // One end is not enough, nor are others' words, nor is it a word under a tree of before.
    assert_eq!(world.say_carrying(2, &[3]), NOTHING);
    assert_eq!(world.say_carrying(1, &[3]), NOTHING);
    let mut old = world.held();
    old.header.epoch.counter -= 1;
    let early = Report { held: Some(old), carrying: vec![member(2)], ..no_report(3) };
    world.send_report(3, early).0.unwrap();
    assert_eq!(world.until(5_000), NOTHING);
    assert_eq!(world.overlap(), [(1, 3)]);
    world.say_carrying(3, &[2]);
    assert_eq!(world.until(5_020), [format!("publish 7.{} change", epoch + 1)]);
    assert_eq!((world.tree().1, world.overlap()), (edges, vec![]));
    assert_eq!(world.until(12_000), NOTHING);
}

#[test]
fn r3_followers_are_told_of_both_epochs_and_of_cycles_they_cannot_see() {
    let mut world = World::carrying(6, &FIGURE_2);
    world.report_qos(2, 3, 20, 0);
    world.until(2_000);
    world.all_carry();
    world.until(2_200);
    for n in [1, 2, 5] {
        world.subscribe(n, Scope::Neighbours).unwrap();
    }
    let place = |world: &mut World, n: u64| {
        let query = path::Request::Query { session: session(), scope: Scope::Neighbours };
        let Ok(State::Neighbours(own)) = world.path(n, query).0 else { panic!("no tree") };
        let names = |ids: &[MemberId]| ids.iter().map(|id| world.name(*id)).collect::<Vec<_>>();
        (names(&own.overlap), names(&own.cyclic))
    };
    world.report_qos(3, 1, 40, 0);
    let seen = world.until(2_500);
    assert!(seen.iter().any(|news| news == "tell 1 neighbours [2 3]"), "{seen:?}");
    assert!(seen.iter().any(|news| news == "tell 2 neighbours [1 3 5]"), "{seen:?}");
    assert!(!seen.iter().any(|news| news.starts_with("tell 5")), "{seen:?}");
    assert_eq!(place(&mut world, 1), (vec![3], vec![2]));
    let mut cyclic = place(&mut world, 2).1;
    cyclic.sort_unstable();
    assert_eq!(cyclic, [1, 3]);
    world.all_carry();
    let seen = world.until(3_000);
    assert!(seen.iter().any(|news| news == "tell 1 neighbours [2]"), "{seen:?}");
    // Its neighbours are the same, but nothing is a cycle any more.
    assert!(seen.iter().any(|news| news == "tell 2 neighbours [1 3 5]"), "{seen:?}");
    assert_eq!(place(&mut world, 2), (vec![], vec![]));
}

#[test]
fn r3_r10_members_that_ask_have_a_renewal_more_and_hear_of_the_tree_with_it() {
    let mut world = World::moving_to_those_who_ask();
    let (epoch, _) = world.tree();
    world.until(7_600);
    assert_eq!((world.tree().0, world.overlap()), (epoch, vec![(1, 3)]));
    let told = |world: &mut World, n| world.renew(n, true).0.unwrap().epoch.map(|at| at.counter);
    assert_eq!(told(&mut world, 2), Some(epoch));
    world.subscribe(2, Scope::Tree).unwrap();
    assert_eq!(told(&mut world, 2), Some(epoch), "an update may be lost");
    world.subscribe(2, Scope::Neighbours).unwrap();
    assert_eq!(told(&mut world, 2), None, "most trees do not concern it");
    world.until(14_600);
    assert_eq!(world.tree().0, epoch + 1);
    assert_eq!((world.overlap(), world.engine.stats().withdrawn), (vec![], 1));
}

#[test]
fn r3_an_edge_that_does_not_carry_in_time_is_withdrawn_and_the_old_one_comes_back() {
    let mut world = World::moving();
    // One end lies or errs: that is no proof.
    world.say_carrying(2, &[3]);
    let (epoch, _) = world.tree();
    world.until(6_900);
    assert_eq!((world.tree().0, world.overlap()), (epoch, vec![(1, 3)]));
    world.until(7_600);
    assert_eq!(world.tree(), (epoch + 1, vec![(1, 2), (1, 3), (2, 5), (3, 4), (4, 6)]));
    assert_eq!((world.overlap(), world.engine.stats().withdrawn), (vec![], 1));
    // It is tried again, after twice as long each time.
    let mut tried = Vec::new();
    while world.now_ms < 300_000 {
        (1..=6).for_each(|n| {
            world.renew(n, true).0.unwrap();
        });
        let before = world.tree().0;
        world.until(world.now_ms + 1_000);
        if world.tree().0 > before && !world.overlap().is_empty() {
            tried.push(world.now_ms);
        }
    }
    assert!((2..=4).contains(&tried.len()), "{tried:?}");
    // A channel that goes and comes is another one.
    world.report(2, down(&[3]));
    world.report(2, up(&[3]));
    world.report(3, up(&[2]));
    world.report_qos(2, 3, 20, 0);
    world.until(302_000);
    assert_eq!(world.overlap(), [(1, 3)]);
}

#[test]
fn r3_an_edge_that_is_the_only_way_stays_though_it_does_not_carry() {
    let mut world = World::carrying(2, &[(1, 2)]);
    world.join(3);
    for n in 1..=3 {
        world.subscribe(n, Scope::Tree).unwrap();
    }
    world.report(3, full(&[2]));
    world.report(2, up(&[3]));
    world.until(8_000);
    assert_eq!(world.tree().1, [(1, 2), (2, 3)]);
    assert_eq!(world.engine.stats().withdrawn, 1);
    // Another way is taken as soon as there is one.
    world.report(3, up(&[1]));
    world.report(1, up(&[3]));
    world.until(9_000);
    assert_eq!(world.tree().1, [(1, 2), (1, 3)]);
}

#[test]
fn r3_one_end_is_believed_if_the_other_cannot_be_heard() {
    let mut world = World::moving();
    world.say_carrying(2, &[3]);
    world.handle(Input::Disconnected { peer: member(3) });
    let (epoch, edges) = world.tree();
    world.until(8_000);
    assert_eq!(world.tree(), (epoch + 1, edges));
    assert_eq!((world.overlap(), world.engine.stats().withdrawn), (vec![], 0));
}

#[test]
fn r3_edges_between_members_without_floors_are_not_blamed() {
    let mut world = World::with(prompt());
    for n in 1..=3 {
        let join = Join { held: Some(foreign()), ..world.join_request(n, n) };
        world.try_join(n, join).0.unwrap();
    }
    world.report(1, full(&[2, 3]));
    world.report(2, full(&[1, 3]));
    world.report(3, full(&[1, 2]));
    for at in [4_000, 8_000, 12_000] {
        world.until(at);
        (1..=3).for_each(|n| {
            world.renew(n, false).0.unwrap();
        });
    }
    assert_eq!(world.engine.stats().withdrawn, 0);
}

/// A header under a tree of this coordinator, so that who shows it is not the first of a session.
fn foreign() -> SignedHeader {
    let hash = arborcast_protocol::id::Digest::from_bytes([0; 32]);
    let header = arborcast_protocol::tree::Header { session: session(), epoch: EARLIER, hash };
    SignedHeader::sign(header, &keypair(COORDINATOR))
}

const EARLIER: Epoch = Epoch { term: Term(6), counter: 41 };

#[test]
fn r3_changes_during_an_overlap_keep_what_carries_in_use() {
    let mut world = World::moving();
    // A joiner does not hold the overlap up, and gets no overlap of its own.
    world.join(7);
    world.report(7, full(&[6]));
    world.report(6, up(&[7]));
    world.until(3_000);
    assert_eq!(world.overlap(), [(1, 3)]);
    assert!(world.tree().1.contains(&(6, 7)));
    // The new edge breaks before it carried: the old one is in the tree again at once.
    world.report(2, down(&[3]));
    world.until(3_100);
    assert_eq!(world.tree().1, [(1, 2), (1, 3), (2, 5), (3, 4), (4, 6), (6, 7)]);
    assert_eq!(world.overlap(), []);
}

#[test]
fn r3_a_broken_edge_is_no_overlap_and_who_leaves_takes_its_edges_along() {
    let mut world = World::moving();
    world.report(1, down(&[3]));
    world.until(2_600);
    assert_eq!(world.overlap(), []);
    assert_eq!(world.tree().1, [(1, 2), (2, 3), (2, 5), (3, 4), (4, 6)]);
    let mut world = World::moving();
    // It asks until it may: the edges that are to replace its own do not carry yet.
    assert!(!world.try_leave(1).0);
    world.until(4_600);
    world.leave(1);
    world.until(4_700);
    assert_eq!(world.overlap(), []);
    assert_eq!(world.tree().1, [(2, 3), (2, 5), (3, 4), (4, 6)]);
}

#[test]
fn r3_one_end_alone_can_bring_a_channel_in_only_where_nothing_else_connects() {
    let mut world = World::carrying(3, &[(1, 2), (2, 3)]);
    // Member 1 says that it has the best of channels with 3.
    world.report(1, up(&[3]));
    world.report_qos(1, 3, 0, 0);
    let epoch = world.tree().0;
    world.until(20_000 - 6_000);
    assert_eq!(world.tree(), (epoch, vec![(1, 2), (2, 3)]));
    // Both say so: it takes its place.
    let mut world = World::carrying(3, &[(1, 2), (2, 3)]);
    world.report(1, up(&[3]));
    world.report(3, up(&[1]));
    world.report_qos(1, 3, 0, 0);
    world.until(3_000);
    assert!(world.tree().1.contains(&(1, 3)));
}

#[test]
fn r3_noise_moves_nothing_and_a_degraded_edge_is_left_within_two_periods() {
    let mut world = World::carrying(6, &FIGURE_2);
    let mut rng = ChaCha8Rng::from_seed([9; 32]);
    let period = |world: &mut World, rng: &mut ChaCha8Rng, degraded: Option<(u64, u64)>| {
        for (a, b) in FIGURE_2 {
            for (from, to) in [(a, b), (b, a)] {
                let base = if degraded == Some((a, b)) { 400_000 } else { 10_000 };
                let delay_us = base * rng.random_range(90..=110) / 100;
                let jitter_us = rng.random_range(0..base / 20);
                let loss_ppm = rng.random_range(0..20_000);
                let qos = Qos { delay_us, jitter_us, loss_ppm, bandwidth_kbps: None };
                let qos = vec![ChannelQos { peer: member(to), qos }];
                world.send_report(from, Report { qos, ..no_report(from) }).0.unwrap();
            }
        }
        for n in 1..=6 {
            world.renew(n, true).0.unwrap();
        }
        world.until(world.now_ms + 5_000);
    };
    let epoch = world.tree().0;
    for _ in 0..720 {
        period(&mut world, &mut rng, None);
        assert_eq!(world.tree().0, epoch, "an hour of noise");
    }
    let degraded = world.tree().1.into_iter().find(|edge| [(1, 2), (1, 3), (2, 3)].contains(edge));
    period(&mut world, &mut rng, degraded);
    assert_eq!((world.tree().0, world.overlap().len()), (epoch + 1, 1));
    assert!(!world.tree().1.contains(&degraded.unwrap()));
}

#[test]
fn r3_a_channel_that_flaps_is_held_back_longer_and_longer() {
    let mut world = World::carrying(3, &[(1, 2), (1, 3), (2, 3)]);
    world.report_qos(2, 3, 20, 0);
    let before = world.engine.stats().epochs;
    for round in 0..720 {
        world.report_qos(1, 2, if round % 2 == 0 { 60 } else { 1 }, 0);
        for n in 1..=3 {
            world.renew(n, true).0.unwrap();
        }
        world.until(world.now_ms + 100);
        world.all_carry();
        world.until(world.now_ms + 4_900);
    }
    let epochs = world.engine.stats().epochs - before;
    assert!((4..60).contains(&epochs), "{epochs} in an hour");
}

#[test]
fn r3_nonsense_is_brought_into_range_and_counted_and_the_worse_end_counts() {
    let mut world = World::carrying(3, &[(1, 2), (1, 3), (2, 3)]);
    let (epoch, edges) = world.tree();
    let (a, b) = edges[0];
    let absurd = [
        Qos { bandwidth_kbps: Some(0), ..Qos::default() },
        Qos { jitter_us: u32::MAX, ..Qos::default() },
        Qos { loss_ppm: u32::MAX, ..Qos::default() },
        Qos { delay_us: u32::MAX, ..Qos::default() },
    ];
    for (qos, count) in absurd.into_iter().zip(1..) {
        let qos = vec![ChannelQos { peer: member(b), qos }];
        assert!(world.send_report(a, Report { qos, ..no_report(a) }).0.is_ok());
        assert_eq!(world.engine.stats().clamped, count);
    }
    world.until(2_000);
    assert!(!world.tree().1.contains(&(a, b)), "the other end's 10 ms do not help");
    assert_eq!(world.tree().0, epoch + 1);
    world.all_carry();
    world.until(3_000);
    // Nor does it help to call the worst channel the best.
    let epoch = world.tree().0;
    for _ in 0..20 {
        world.report_qos(b, a, 0, 0);
    }
    assert_eq!(world.until(4_000), NOTHING);
    assert_eq!(world.tree().0, epoch);
}

#[test]
fn restart_what_the_members_have_in_use_stays_in_force_until_the_new_carries() {
    let mut world = World::with(prompt());
    let come_back = |world: &mut World, n: u64, peers: &[u64], carrying: &[u64]| {
        let join = Join { held: Some(foreign()), settled: true, ..world.join_request(n, n) };
        world.try_join(n, join).0.unwrap();
        let qos = peers
            .iter()
            .map(|peer| {
                let delay_ms = match n + peer {
                    3 => 15,
                    5 => 17,
                    _ => 14,
                };
                let qos = Qos::with_delay(Duration::from_millis(delay_ms));
                ChannelQos { peer: member(*peer), qos }
            })
            .collect();
        let report = Report {
            adjacency: Some(full(peers)),
            qos,
            held: Some(foreign()),
            carrying: carrying.iter().map(|peer| member(*peer)).collect(),
            settled: true,
            ..no_report(n)
        };
        world.send_report(n, report).0.unwrap();
    };
    // 1-2 and 1-3 are in use. With 2-3 all would be a little nearer, but not by enough. 3-4 is broken
    // but said by one end to carry; 2-4 is there instead.
    come_back(&mut world, 1, &[2, 3], &[2, 3]);
    come_back(&mut world, 2, &[1, 3, 4], &[1]);
    world.until(10_000);
    (1..=2).for_each(|n| {
        world.renew(n, true).0.unwrap();
    });
    assert!(world.engine.tree(session()).is_none(), "3 and 4 are awaited");
    come_back(&mut world, 3, &[1, 2], &[1, 4]);
    come_back(&mut world, 4, &[2], &[]);
    world.until(10_100);
    assert_eq!(world.tree(), (1, vec![(1, 2), (1, 3), (2, 4)]));
    assert_eq!((world.overlap(), world.listed()), (vec![], vec![1, 2, 3, 4]));
    // Leases are fresh: nobody is dropped before one ends.
    world.until(24_000);
    assert_eq!(world.listed(), [1, 2, 3, 4]);
}

#[test]
fn restart_an_edge_in_use_that_the_new_tree_leaves_out_becomes_its_overlap() {
    let mut world = World::with(prompt());
    for (n, peers, used) in [(1, [2, 3], [2, 3]), (2, [1, 3], [1, 1]), (3, [1, 2], [1, 1])] {
        let join = Join { held: Some(foreign()), settled: true, ..world.join_request(n, n) };
        world.try_join(n, join).0.unwrap();
        let qos = peers
            .iter()
            .map(|peer| {
                let delay = Duration::from_millis(if n + peer == 3 { 90 } else { 10 });
                ChannelQos { peer: member(*peer), qos: Qos::with_delay(delay) }
            })
            .collect();
        let report = Report {
            adjacency: Some(full(&peers)),
            qos,
            held: Some(foreign()),
            carrying: used.iter().map(|peer| member(*peer)).collect(),
            settled: true,
            ..no_report(n)
        };
        world.send_report(n, report).0.unwrap();
    }
    world.until(100);
    assert_eq!(world.tree(), (1, vec![(1, 3), (2, 3)]));
    assert_eq!(world.overlap(), [(1, 2)]);
    world.say_carrying(2, &[3]);
    world.say_carrying(3, &[2]);
    world.until(1_000);
    assert_eq!((world.tree().0, world.overlap()), (2, vec![]));
}

#[test]
fn a_silent_neighbour_is_left_at_once_and_what_lies_behind_it_joined_by_others() {
    let mut world = hand_over::around_two();
    let epoch = world.tree().0;
    // 2 was stopped: its channels still look alive.
    for n in [1, 3, 4] {
        let silent = vec![member(2)];
        let (answer, _) = world.send_report(n, Report { silent, ..no_report(n) });
        assert!(answer.is_ok());
    }
    world.until(3_300);
    let (next, edges) = world.tree();
    assert!(next > epoch);
    let behind: Vec<_> = edges.iter().filter(|(a, b)| *a != 2 && *b != 2).collect();
    assert_eq!(behind.len(), 2, "1, 3 and 4 are joined without it: {edges:?}");
    assert!(world.overlap().iter().all(|(a, b)| *a != 2 && *b != 2), "{:?}", world.overlap());
    assert_eq!(edges.len(), 3, "it keeps one edge, as a leaf: {edges:?}");
}

#[test]
fn what_is_said_of_others_than_neighbours_in_the_tree_counts_for_nothing() {
    let mut world = World::carrying(3, &[(1, 2), (2, 3)]);
    let before = world.tree();
    for silent in [vec![member(3)], vec![member(1)], vec![member(9)]] {
        let (answer, _) = world.send_report(1, Report { silent, ..no_report(1) });
        assert!(answer.is_ok());
    }
    let silent = vec![member(2); limits::CHANNELS + 1];
    let (answer, _) = world.send_report(1, Report { silent, ..no_report(1) });
    assert_eq!(code(&answer), Some(Code::INVALID));
    world.until(10_000);
    assert_eq!(world.tree(), before);
}
