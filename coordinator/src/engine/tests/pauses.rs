//! The coordinator itself stands still: stopped, asleep, starved, flooded.

use super::{hand_over::around_two, *};

impl World {
    /// Nothing is heard of the coordinator's own loop for so long.
    fn stand_still(&mut self, time_ms: u64) {
        self.until(self.now_ms);
        self.now_ms += time_ms;
    }

    fn names_as_slow(&mut self, n: u64, slow: u64) {
        let slow = vec![member(slow)];
        assert!(self.send_report(n, Report { slow, ..no_report(n) }).0.is_ok());
    }

    fn says_silent(&mut self, n: u64, silent: u64) {
        let silent = vec![member(silent)];
        assert!(self.send_report(n, Report { silent, ..no_report(n) }).0.is_ok());
    }
}

#[test]
fn everybody_has_a_fresh_lease_after_a_pause() {
    for pause_s in [20, 30, 300] {
        let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
        world.until(14_000);
        world.stand_still(pause_s * 1_000);
        assert_eq!(world.handle(Input::Tick), []);
        assert_eq!(world.engine.stats().pauses, 1);
        let woke = world.now_ms;
        assert_eq!(world.until(woke + 14_900), [""; 0], "{pause_s}");
        let (renewed, _) = world.renew(1, true);
        assert_eq!(renewed.unwrap().now_s, 1_000 + world.now_ms / 1_000, "clocks go on");
        world.until(woke + 15_100);
        assert_eq!(world.listed(), [1], "leases end as ever");
    }
}

#[test]
fn whatever_comes_first_after_a_pause_wakes_it_up() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    world.stand_still(60_000);
    assert!(world.renew(2, true).0.is_ok());
    assert_eq!(world.listed(), [1, 2, 3]);
    assert_eq!(world.engine.stats().pauses, 1);
}

#[test]
fn who_was_cut_off_during_a_pause_has_its_grace_after_it() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    world.report(2, down(&[3]));
    world.handle(Input::Disconnected { peer: member(3) });
    world.stand_still(30_000);
    world.handle(Input::Tick);
    assert!(world.renew(3, true).0.is_ok());
    assert_eq!(world.engine.stats().dead, 0);
}

#[test]
fn complaints_that_date_from_a_pause_count_for_nothing() {
    let mut world = around_two();
    world.names_as_slow(1, 2);
    world.stand_still(30_000);
    world.names_as_slow(4, 2);
    world.says_silent(1, 2);
    world.says_silent(3, 2);
    let woke = world.now_ms;
    for s in 1..10 {
        let seen = world.until(woke + s * 1_000);
        assert!(seen.iter().all(|seen| !seen.contains("removed")), "{seen:?}");
        for n in [1, 3, 4] {
            assert!(world.renew(n, true).0.is_ok());
        }
    }
    let stats = world.engine.stats();
    assert_eq!((stats.detached, stats.moved), (0, 0));
    assert_eq!(world.engine.member_count(session()), 4);
}

#[test]
fn complaints_after_a_pause_count_as_ever() {
    let mut world = around_two();
    world.stand_still(30_000);
    world.handle(Input::Tick);
    world.until(world.now_ms + 2_000);
    world.says_silent(1, 4);
    world.says_silent(2, 4);
    for n in [1, 2, 3] {
        world.names_as_slow(n, 4);
    }
    world.until(world.now_ms + 3_000);
    assert_eq!(world.listed(), [1, 2, 3]);
}

#[test]
fn no_lease_ends_while_more_waits_to_be_read_but_a_flood_does_not_hold_them_for_ever() {
    let mut world = World::with_members(3, &[(1, 2), (2, 3)]);
    let flood = |world: &mut World, end_ms: u64| {
        while world.now_ms < end_ms {
            world.now_ms += 500;
            let now = world.now();
            world.engine.handle(Input::Overdue, now);
            while world.engine.poll_output().is_some() {}
        }
    };
    flood(&mut world, 29_500);
    assert_eq!(world.engine.member_count(session()), 3);
    assert!(world.renew(2, true).0.is_ok());
    flood(&mut world, 30_500);
    assert_eq!(world.listed(), [2]);
    assert_eq!(world.engine.stats().expired, 2);
}
