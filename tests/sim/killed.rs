//! Sources and relays that are gone without a word.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Setup},
};

fn world(seed: u64, nodes: usize) -> Setup {
    let mut setup = plan::calm(seed, Shape::Full, nodes);
    setup.calm = false;
    setup.rest = Duration::from_secs(30);
    setup
}

fn kill(setup: &mut Setup, node: usize, at: Duration) {
    setup.script.push((at, Act::Kill(node)));
    if let Some(member) = setup.members.get_mut(node) {
        member.stays = false;
    }
}

#[test]
fn the_beginning_of_a_message_whose_source_died_is_forgotten() {
    for seed in 0..4 {
        let mut setup = world(seed, 7);
        let class = Class::Reliable;
        let begin = Duration::from_secs(14);
        setup.script.push((begin, Act::Publish { node: 0, count: 1, bytes: 5_000_000, class }));
        kill(&mut setup, 0, begin + Duration::from_millis(400));
        setup.thorough = true;
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(summary.frames > 0, "{summary:?}");
    }
}

#[test]
fn large_messages_arrive_though_relays_die_on_the_way() {
    for seed in 0..6 {
        let mut setup = world(seed, 12);
        for link in &mut setup.links {
            link.rate = 12_500_000;
        }
        let class = Class::Reliable;
        for node in 0..12 {
            let at = Duration::from_millis(14_000 + node as u64 * 50);
            setup.script.push((at, Act::Publish { node, count: 2, bytes: 1_000_000, class }));
        }
        for (node, at) in [(3, 14_500), (5, 15_000), (7, 15_700), (9, 18_000)] {
            kill(&mut setup, node, Duration::from_millis(at));
        }
        let summary = sim::replayed(&setup).unwrap_or_else(|failure| panic!("{failure:?}"));
        // Eight stay, and each gets the messages of the seven others.
        assert!(summary.messages >= 8 * 7 * 2, "{summary:?}");
    }
}
