use super::*;

const NOTHING: [&str; 0] = [];

/// The patent's six devices, A to F as 1 to 6.
const FIGURE_2: [(u64, u64); 6] = [(1, 2), (1, 3), (2, 3), (2, 5), (3, 4), (4, 6)];

#[test]
fn r1_r2_both_kinds_of_information_give_the_tree_of_figure_2() {
    let mut world = World::with_members(6, &FIGURE_2);
    // B-C is the poorest channel of its cycle.
    world.report_qos(2, 3, 80, 0);
    world.until(2_000);
    assert_eq!(world.tree().1, [(1, 2), (1, 3), (2, 5), (3, 4), (4, 6)]);
}

#[test]
fn r3_a_channel_that_gets_worse_loses_its_place_and_gets_it_back_only_for_a_real_gain() {
    let mut world = World::with_members(3, &[(1, 2), (1, 3), (2, 3)]);
    world.report_qos(2, 3, 30, 0);
    world.until(2_000);
    let (epoch, edges) = world.tree();
    assert_eq!(edges, [(1, 2), (1, 3)]);
    // Far more than before is no noise and counts at once.
    assert_eq!(world.report_qos(1, 2, 90, 0), NOTHING);
    assert_eq!(world.until(2_500), [format!("publish 7.{} change", epoch + 1)]);
    assert_eq!(world.tree().1, [(1, 3), (2, 3)]);
    // A little better than what is in force is not enough.
    for _ in 0..8 {
        world.report_qos(1, 2, 27, 0);
    }
    assert_eq!(world.until(3_000), NOTHING);
    for _ in 0..8 {
        world.report_qos(1, 2, 9, 0);
    }
    assert_eq!(world.until(3_500), [format!("publish 7.{} change", epoch + 2)]);
    assert_eq!(world.tree().1, [(1, 2), (1, 3)]);
}

#[test]
fn r3_a_lossy_channel_goes_at_once_but_stays_where_it_is_the_only_one() {
    let mut world = World::with_members(4, &[(1, 2), (1, 3), (2, 3), (3, 4)]);
    world.report_qos(2, 3, 45, 0);
    world.until(2_000);
    assert_eq!(world.tree().1, [(1, 2), (1, 3), (3, 4)]);
    for (from, to) in [(1, 2), (2, 1), (3, 4), (4, 3)] {
        world.report_qos(from, to, 10, 21);
    }
    world.until(3_000);
    assert_eq!(world.tree().1, [(1, 3), (2, 3), (3, 4)]);
}

#[test]
fn circuits_come_last() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let relayed = Adjacency::Change { up: channels(&[3], ChannelKind::Relayed), down: vec![] };
    world.report(1, relayed);
    world.report_qos(1, 3, 1, 0);
    world.report_qos(2, 3, 400, 12);
    assert_eq!(world.until(3_000), NOTHING);
    assert_eq!(world.tree().1, [(1, 2), (2, 3)]);
    assert_eq!(world.report(3, down(&[2])), ["publish 7.3 change"]);
    assert_eq!(world.tree().1, [(1, 2), (1, 3)]);
}

#[test]
fn fan_out_is_kept() {
    let mut world = World::new();
    for n in 1..=5 {
        let join = Join { fanout: 2, ..world.join_request(n, n) };
        world.try_join(n, join).0.unwrap();
    }
    // Member 1 is nearest to all; a ring of slower channels goes around it.
    for n in 1..=5 {
        let peers: Vec<u64> = (1..=5).filter(|peer| *peer != n).collect();
        world.send_report(n, Report { adjacency: Some(full(&peers)), ..no_report(n) }).0.unwrap();
        for peer in peers {
            world.report_qos(n, peer, if n == 1 || peer == 1 { 1 } else { 20 }, 0);
        }
    }
    world.until(2_000);
    let (_, edges) = world.tree();
    assert_eq!(edges.len(), 4);
    for n in 1..=5 {
        assert!(edges.iter().filter(|(a, b)| *a == n || *b == n).count() <= 2, "{edges:?}");
    }
}

#[test]
fn what_is_only_better_waits_twice_as_long_each_time_and_what_has_worn_a_sixth() {
    let pairs: Vec<(u64, u64)> = (1..=6).flat_map(|a| (a + 1..=6).map(move |b| (a, b))).collect();
    let strategy = tree::Strategy::Mst;
    let config = Config { lease_ms: 3_600_000, strategy, ..at_once() };
    let mut world = World::configured(config, 6, &pairs);
    for (from, to) in &pairs {
        world.report_qos(*from, *to, 200, 0);
    }
    world.until(100_000);
    let is_free = |world: &World, pair: &(u64, u64)| !world.tree().1.contains(pair);
    let took = |world: &mut World| {
        let (epoch, began) = (world.tree().0, world.now_ms);
        (began..began + 60_000).step_by(10).find(|at| {
            world.until(*at);
            world.tree().0 > epoch
        })
    };
    let mut times = Vec::new();
    for better_ms in (0..9).map(|step| 100 - 10 * step) {
        let (from, to) = *pairs.iter().find(|pair| is_free(&world, pair)).unwrap();
        world.report_qos(from, to, better_ms, 0);
        times.push(took(&mut world).unwrap());
    }
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    // What has worn is left soon all the same.
    let (from, to) = world.tree().1[0];
    let began = world.now_ms;
    world.report_qos(from, to, 900, 0);
    assert!(took(&mut world).unwrap() <= began + 5_000);
    // After a while of quiet it is as before.
    let began = world.now_ms + 61_000;
    world.until(began);
    let (from, to) = *pairs.iter().find(|pair| is_free(&world, pair)).unwrap();
    world.report_qos(from, to, 1, 0);
    assert!(took(&mut world).unwrap() <= began + 300);
}

#[test]
fn epochs_are_a_quarter_second_apart_but_repairs_are_not_kept_waiting() {
    let mut world = World::with_members(3, &[(1, 2), (1, 3), (2, 3)]);
    world.until(10_000);
    let (epoch, edges) = world.tree();
    assert_eq!(edges.len(), 2);
    let published = |plus: u32| format!("publish 7.{} change", epoch + plus);
    // Quality: batched for 20 ms, then every 250 ms.
    let first = edges[0];
    world.report_qos(first.0, first.1, 400, 0);
    assert_eq!(world.until(10_019), NOTHING);
    assert_eq!(world.until(10_020), [published(1)]);
    let second = world.tree().1[0];
    world.report_qos(second.0, second.1, 4_000, 0);
    assert_eq!(world.until(10_269), NOTHING);
    assert_eq!(world.until(10_270), [published(2)]);
    // A dead edge of the tree: 50 ms after the last tree.
    let third = world.tree().1[0];
    assert_eq!(world.report(third.0, down(&[third.1])), NOTHING);
    assert_eq!(world.until(10_319), NOTHING);
    assert_eq!(world.until(10_320), [published(3)]);
    // And at once when that was longer ago.
    world.until(11_000);
    assert_eq!(world.report(third.0, up(&[third.1])), NOTHING);
    let fourth = world.tree().1[0];
    assert_eq!(world.report(fourth.0, down(&[fourth.1])), [published(4)]);
}

#[test]
fn nothing_new_makes_no_epoch() {
    let mut world = World::with_members(3, &[(1, 2), (1, 3), (2, 3)]);
    let before = world.tree();
    let recomputes = world.engine.stats().recomputes;
    for round in 0..20 {
        world.report_qos(1, 2, 10 + round % 2, 0);
        assert_eq!(world.until(1_300 + 300 * round), NOTHING);
    }
    assert_eq!(world.tree(), before);
    assert!(world.engine.stats().recomputes > recomputes);
}

#[test]
fn a_change_without_a_full_report_before_is_asked_to_be_made_up_for() {
    let mut world = World::new();
    world.join(1);
    world.join(2);
    world.until(100);
    let report = Report { adjacency: Some(up(&[1])), ..no_report(2) };
    let (answer, rest) = world.send_report(2, report);
    assert!(answer.unwrap().report_full);
    assert_eq!(rest, ["publish 7.2 change"], "what it says counts all the same");
    assert_eq!(world.report(2, full(&[1])), NOTHING);
}

#[test]
fn reports_of_strangers_and_over_limit_reports_are_refused() {
    let mut world = World::with_members(2, &[(1, 2)]);
    let before = world.tree();
    assert_eq!(code(&world.send_report(3, no_report(3)).0), Some(Code::NOT_MEMBER));
    let session = arborcast_protocol::testing::session(5);
    let elsewhere = Report { session, ..no_report(1) };
    assert_eq!(code(&world.send_report(1, elsewhere).0), Some(Code::NOT_MEMBER));
    let qos = ChannelQos { peer: member(2), qos: Qos::default() };
    let too_many: Vec<u64> = (3..70).collect();
    let bad = [
        Report { adjacency: Some(full(&too_many)), ..no_report(1) },
        Report { adjacency: Some(full(&[1])), ..no_report(1) },
        Report { qos: vec![qos; limits::CHANNELS + 1], ..no_report(1) },
        Report { carrying: vec![member(2); limits::CHANNELS + 1], ..no_report(1) },
    ];
    for report in bad {
        assert_eq!(code(&world.send_report(1, report).0), Some(Code::INVALID));
    }
    assert_eq!(world.until(3_000), NOTHING);
    assert_eq!(world.tree(), before);
}

#[test]
fn a_large_session_computes_beside_its_work_and_only_what_is_still_there_counts() {
    let mut world = World::with(Config { compute_apart: 3, ..at_once() });
    for n in 1..=4 {
        world.join(n);
    }
    world.report(1, full(&[2, 3, 4]));
    world.report(2, full(&[1, 3, 4]));
    world.until(world.now_ms + 300);
    let job = world.jobs.pop().unwrap();
    assert!(world.jobs.is_empty(), "one at a time");
    let before = world.tree().1;
    // Requests are answered meanwhile, and one of them takes channels away.
    assert!(world.renew(1, true).0.is_ok());
    world.leave(4);
    world.report(3, full(&[1, 2]));
    world.until(world.now_ms + 1_000);
    assert_eq!((world.tree().1, world.jobs.len()), (before, 0));
    let serial = job.serial();
    let stray = Input::Computed { session: session(), job: serial + 7, computed: None };
    assert_eq!(world.handle(stray), []);
    world.handle(Input::Computed { session: session(), job: serial, computed: Some(job.run()) });
    let (_, edges) = world.tree();
    assert_eq!(edges.len(), 2, "{edges:?}");
    assert!(edges.iter().all(|(a, b)| *a != 4 && *b != 4), "{edges:?}");
    // What changed meanwhile is computed next; one that comes to nothing is tried again.
    world.until(world.now_ms + 300);
    let next = world.jobs.pop().unwrap();
    world.handle(Input::Computed { session: session(), job: next.serial(), computed: None });
    world.until(world.now_ms + 300);
    let last = world.jobs.pop().unwrap();
    assert_ne!(last.serial(), next.serial());
}
