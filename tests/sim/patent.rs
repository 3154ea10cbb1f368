//! The patent's example (figures 2 and 3b): six devices A to F with the channels A-B, A-C, B-C, B-E,
//! C-D and D-F, of which B-C is the poorest of its cycle.

use std::{collections::BTreeSet, time::Duration};

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    World,
    graph::{Link, Shape},
    plan,
    setup::{Act, Setup},
};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;
const F: usize = 5;

fn link(a: usize, b: usize, ms: u64) -> Link {
    Link {
        a,
        b,
        delay: Duration::from_millis(ms),
        jitter: Duration::ZERO,
        lossy: 0,
        rate: 12_500_000,
        backbone: true,
    }
}

fn setup() -> Setup {
    Setup {
        links: vec![
            link(A, B, 10),
            link(A, C, 12),
            link(B, C, 60),
            link(B, E, 15),
            link(C, D, 11),
            link(D, F, 14),
        ],
        ..plan::calm(1, Shape::Line, 6)
    }
}

fn figure_3b() -> BTreeSet<(usize, usize)> {
    BTreeSet::from([(A, B), (A, C), (B, E), (C, D), (D, F)])
}

fn publish(world: &mut Setup, count: u32, bytes: usize) {
    for node in A..=F {
        let class = Class::Reliable;
        let at = Duration::from_secs(12) + Duration::from_millis(node as u64 * 7);
        world.script.push((at, Act::Publish { node, count, bytes, class }));
    }
}

/// Runs until the script is over and everything has arrived.
fn run(setup: &Setup) -> World {
    let mut world = World::new(setup, true);
    world.run_for(setup.rest);
    let arrived = world.run_until(Duration::from_secs(60), |world| {
        world.model.missing().next().is_none() && world.disagreement().is_none()
    });
    let tail = || world.trace().tail(40).join("\n");
    assert!(
        arrived,
        "{:?} {:?} {:?}\n{}",
        world.violation(),
        world.disagreement(),
        world.model.missing().map(|(who, _, seq)| (who, seq)).collect::<Vec<_>>(),
        tail()
    );
    world
}

#[test]
fn r2_the_tree_leaves_out_the_poorest_channel_of_the_cycle() {
    let world = run(&setup());
    assert_eq!(world.tree_edges(), figure_3b());
}

#[test]
fn r7_a_large_message_of_fifty_pieces_reaches_all() {
    let mut setup = setup();
    publish(&mut setup, 1, 50 * 64 * 1024);
    let world = run(&setup);
    assert_eq!(world.model.owed(), 6 * 5, "all are held to account");
    assert_eq!(world.invariants.once.frames(), 6 * 50);
}

#[test]
fn r17_each_frame_crosses_each_edge_of_the_tree_once_and_no_other_channel() {
    let mut setup = setup();
    publish(&mut setup, 1, 50 * 64 * 1024);
    publish(&mut setup, 20, 100);
    let world = run(&setup);
    assert_eq!(world.model.owed(), 6 * 5, "all are held to account");
    world.invariants.once.exactly(&figure_3b()).expect("five crossings for each frame");
    assert_eq!(world.invariants.once.between(B, C), 0);
    let frames = world.invariants.once.frames() as u64;
    assert!(frames >= 6 * 51, "{frames}");
    assert_eq!(world.invariants.once.total(), 5 * frames);
}

#[test]
fn r9_data_for_one_crosses_the_channels_on_its_path_alone_and_is_delivered_there_alone() {
    let mut setup = setup();
    for _ in 0..20 {
        setup.script.push((Duration::from_secs(12), Act::Tell { node: A, to: F, bytes: 100 }));
    }
    let bytes = 50 * 64 * 1024;
    setup.script.push((Duration::from_secs(12), Act::Tell { node: F, to: A, bytes }));
    let world = run(&setup);
    assert_eq!(world.model.owed_alone(), 2);
    let crossed = |a, b| world.invariants.once.between(a, b);
    let frames = world.invariants.once.frames() as u64;
    assert!(frames > 50, "{frames}");
    assert_eq!([crossed(A, C), crossed(C, D), crossed(D, F)], [frames; 3]);
    assert_eq!([crossed(A, B), crossed(B, E), crossed(B, C)], [0; 3], "off the path");
}

#[test]
fn r9_data_for_one_survives_a_tree_that_changes_in_mid_transfer() {
    let mut setup = setup();
    let bytes = 50 * 64 * 1024;
    for _ in 0..3 {
        setup.script.push((Duration::from_secs(12), Act::Tell { node: E, to: F, bytes }));
        setup.script.push((Duration::from_secs(12), Act::Tell { node: F, to: B, bytes: 100 }));
    }
    // A-B becomes the poorest while the pieces are under way: the tree takes B-C instead.
    setup.calm = false;
    setup.script.push((Duration::from_secs(12), Act::Delay(0, Duration::from_millis(300))));
    setup.rest = Duration::from_secs(40);
    let world = run(&setup);
    assert_eq!(world.model.owed_alone(), 2);
    assert_eq!(world.tree_edges(), BTreeSet::from([(A, C), (B, C), (B, E), (C, D), (D, F)]));
}

#[test]
fn r8_nobody_gets_a_message_twice_when_the_tree_changes_in_mid_transfer() {
    let mut setup = setup();
    publish(&mut setup, 1, 50 * 64 * 1024);
    publish(&mut setup, 20, 100);
    // A-B becomes the poorest while the pieces are under way: the tree takes B-C instead.
    setup.calm = false;
    setup.script.push((Duration::from_secs(12), Act::Delay(0, Duration::from_millis(300))));
    setup.rest = Duration::from_secs(40);
    let world = run(&setup);
    assert_eq!(world.model.owed(), 6 * 5, "all are held to account");
    assert_eq!(world.tree_edges(), BTreeSet::from([(A, C), (B, C), (B, E), (C, D), (D, F)]));
}
