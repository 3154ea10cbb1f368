//! Coming in at any moment: a joiner gets everything from its first message on, contiguously, and is
//! owed everything from the moment it is settled.

use std::time::Duration;

use arborcast_protocol::{history::History, id::Class};
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

fn steady(setup: &mut Setup, nodes: usize, from: u64, to: u64) {
    for node in 0..nodes {
        for at in (from..to).step_by(400) {
            let at = Duration::from_millis(at + node as u64 * 31);
            let class = Class::Reliable;
            setup.script.push((at, Act::Publish { node, count: 1, bytes: 80, class }));
        }
    }
}

#[test]
fn all_at_once_come_to_one_tree() {
    for shape in [Shape::Full, Shape::Star, Shape::Line, Shape::Grid, Shape::Cliques(4)] {
        let setup = plan::calm(11, shape, 16);
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{shape:?}: {failure:?}"));
    }
}

#[test]
fn joiners_in_the_middle_of_traffic_lose_nothing_from_then_on() {
    for seed in 0..6 {
        let mut setup = plan::calm(seed, Shape::Random(4), 14);
        setup.calm = false;
        setup.script.clear();
        for node in 0..14 {
            let at = if node < 4 { 0 } else { 4_000 + node as u64 * 700 };
            setup.script.push((Duration::from_millis(at), Act::Start(node)));
        }
        steady(&mut setup, 14, 3_000, 18_000);
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(summary.messages > 2_000, "{summary:?}");
    }
}

#[test]
fn late_joiners_get_as_much_history_as_the_session_grants() {
    const EACH: u32 = 5;
    let taken = |seed, history| {
        let mut setup = plan::calm(seed, Shape::Random(4), 10);
        setup.calm = false;
        setup.history = history;
        setup.script.retain(|(_, act)| !matches!(act, Act::Start(8 | 9)));
        for node in 0..8 {
            for count in 0..EACH {
                let at = Duration::from_millis(12_000 + node as u64 * 31 + u64::from(count) * 200);
                let class = Class::Reliable;
                setup.script.push((at, Act::Publish { node, count: 1, bytes: 80, class }));
            }
        }
        // All has arrived everywhere long before they come.
        setup.script.push((Duration::from_secs(20), Act::Start(8)));
        setup.script.push((Duration::from_secs(24), Act::Start(9)));
        setup.rest = Duration::from_secs(30);
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(summary.losses, 0, "{history}, seed {seed}");
        summary.messages
    };
    for seed in 0..4 {
        let none = taken(seed, History::None);
        let joiners_and_sources = 2 * 8;
        assert_eq!(taken(seed, History::from(3)), none + joiners_and_sources * 3);
        assert_eq!(taken(seed, History::All), none + joiners_and_sources * u64::from(EACH));
    }
}

#[test]
fn members_find_each_other_by_what_the_coordinator_tells_alone() {
    for seed in 0..3 {
        let mut setup = plan::calm(seed, Shape::Full, 12);
        setup.acquainted = false;
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}

#[test]
fn a_restarted_member_is_a_new_source_and_a_new_reader() {
    for seed in 0..6 {
        let mut setup = plan::calm(seed, Shape::Random(4), 8);
        setup.calm = false;
        for member in setup.members.iter_mut().take(3) {
            member.stays = false;
        }
        // Taking leaves out of the tree leaves the others connected only where links say so.
        setup.links = plan::calm(seed, Shape::Full, 8).links;
        steady(&mut setup, 8, 5_000, 18_000);
        for node in 0..3 {
            let at = Duration::from_millis(7_000 + node as u64 * 900);
            setup.script.push((at, Act::Kill(node)));
            setup.script.push((at + Duration::from_millis(300), Act::Start(node)));
            setup.script.push((at + Duration::from_secs(5), Act::Kill(node)));
            setup.script.push((at + Duration::from_millis(5_100), Act::Start(node)));
        }
        sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
    }
}
