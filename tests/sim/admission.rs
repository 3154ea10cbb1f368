//! Who does not know the secret gets nothing and disturbs nobody. That the intruder gets nothing is
//! an invariant of every world with one.

use std::time::Duration;

use arborcast_protocol::id::Class;
use arborcast_tests::sim::{
    self,
    graph::Shape,
    plan,
    setup::{Act, Member, Setup},
};

fn world(intruders: usize) -> Setup {
    let mut setup = plan::calm(2, Shape::Full, 6 + intruders);
    for (node, member) in setup.members.iter_mut().enumerate() {
        if node < intruders {
            *member = Member { invited: false, stays: false, ..Member::staying(8) };
        } else {
            let publish = Act::Publish { node, count: 5, bytes: 100, class: Class::Reliable };
            setup.script.push((Duration::from_secs(14), publish));
        }
    }
    setup
}

#[test]
fn an_intruder_is_refused_and_the_others_are_not_disturbed() {
    let summary = sim::replayed(&world(1)).expect("the members come to their messages");
    assert!(summary.messages >= 6 * 5 * 5, "{summary:?}");
}

#[test]
fn more_intruders_than_members_change_nothing() {
    let summary = sim::replayed(&world(8)).expect("the members come to their messages");
    assert!(summary.messages >= 6 * 5 * 5, "{summary:?}");
}
