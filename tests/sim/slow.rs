//! Members that keep the others waiting: they are detached, the others go on, and they come back.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self, World,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

/// Six members of which two send more than fits, all the time from 14 s to 34 s.
fn world(seed: u64) -> Setup {
    let mut setup = plan::calm(seed, Shape::Full, 6);
    setup.store_bytes = 1024 * 1024;
    setup.calm = false;
    setup.rest = Duration::from_secs(60);
    for link in &mut setup.links {
        link.rate = 12_500_000;
    }
    for tenth in 0..200_u64 {
        for node in [1, 2] {
            let at = Duration::from_millis(14_000 + tenth * 100);
            let class = Class::Reliable;
            setup.script.push((at, Act::Publish { node, count: 2, bytes: 60_000, class }));
        }
    }
    setup
}

#[test]
fn a_stopped_process_is_detached_and_comes_back() {
    for seed in 0..4 {
        let mut setup = world(seed);
        setup.script.push((Duration::from_secs(18), Act::Sleep(4, Duration::from_secs(12))));
        let mut world = World::new(&setup, false);
        world.run_for(Duration::from_secs(23));
        let (_, members) = world.size();
        assert_eq!((world.violation(), members), (None, 5), "it is left out");
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.detached, 1, "{summary:?}");
    }
}

#[test]
fn nobody_is_detached_for_a_short_sleep() {
    for seed in 0..4 {
        let mut setup = world(seed);
        setup.script.push((Duration::from_secs(18), Act::Sleep(4, Duration::from_secs(2))));
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.detached, 0, "{summary:?}");
    }
}

#[test]
fn an_application_that_takes_next_to_nothing_is_detached_and_the_others_get_all() {
    for seed in 0..4 {
        let mut setup = world(seed);
        setup.rest = Duration::from_secs(40);
        if let Some(member) = setup.members.get_mut(4) {
            member.slow = Some(Duration::from_secs(20));
            member.stays = false;
        }
        let mut world = World::new(&setup, false);
        world.run_for(Duration::from_secs(36));
        assert_eq!(world.violation(), None);
        assert!(world.detached() > 0, "seed {seed}");
        assert_eq!(world.model.missing().count(), 0, "the others have all");
    }
}

#[test]
fn a_member_behind_a_link_of_ten_kbit_is_detached_and_the_others_get_all() {
    for seed in 0..4 {
        let mut setup = world(seed);
        for link in setup.links.iter_mut().filter(|link| link.a == 4 || link.b == 4) {
            link.rate = 1_250;
        }
        let mut world = World::new(&setup, false);
        let sent = Duration::from_secs(34);
        world.run_for(sent);
        let others_have_all =
            |world: &World| world.model.missing().all(|(who, _, _)| who.node == 4);
        let in_time = world.run_until(Duration::from_secs(60), others_have_all);
        assert!(in_time, "seed {seed}: {:?}, {}", world.violation(), world.detached());
        assert!(world.detached() > 0, "seed {seed}");
    }
}

#[test]
fn who_is_never_to_be_detached_holds_the_others_back() {
    let mut setup = world(1);
    setup.slow_ms = 0;
    setup.script.push((Duration::from_secs(18), Act::Sleep(4, Duration::from_secs(9))));
    let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(summary.detached, 0, "{summary:?}");
}
