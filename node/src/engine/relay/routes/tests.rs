use std::sync::Arc;

use arborcast_protocol::{
    id::{Class, Flow, MemberId},
    testing::{incarnation, member},
    tree::{Edge, Member, Tree},
};

use super::{Receiver, Routes};

/// 0 - 1 - 2, 1 - 3, and 4 alone; 0 - 2 from the tree before.
fn tree() -> Tree {
    let members = (0..5).map(|n| Member {
        id: member(n),
        incarnation: incarnation(n),
        nick: String::new(),
        group: u32::from(n == 4),
    });
    let edge = |a, b| Edge::new(member(a), member(b)).expect("two members");
    Tree::new(members, [edge(0, 1), edge(1, 2), edge(1, 3)], [edge(0, 2)]).expect("a tree")
}

fn routes(me: u64) -> Routes {
    let mut routes = Routes::new(member(me));
    routes.set(Some(Arc::new(tree())));
    routes
}

fn flow(source: u64, to: u64) -> Flow {
    Flow {
        source: member(source),
        incarnation: incarnation(source),
        class: Class::Reliable,
        to: Some(member(to)),
    }
}

fn carries(me: u64, flow: &Flow) -> Vec<MemberId> {
    let routes = routes(me);
    (0..5).map(member).filter(|peer| routes.carries(flow, *peer)).collect()
}

#[test]
fn r9_data_for_one_goes_towards_it_along_the_new_edges_alone() {
    assert_eq!(carries(0, &flow(0, 2)), [member(1)]);
    assert_eq!(carries(1, &flow(0, 2)), [member(2)]);
    assert_eq!(carries(2, &flow(0, 2)), []);
    assert_eq!(carries(3, &flow(0, 2)), [member(1)], "back on the way, if it should stray");
    assert_eq!(carries(0, &flow(0, 4)), [], "cut off");
    assert_eq!(carries(0, &flow(0, 9)), [], "not there");
    assert!(routes(0).carries(&Flow { to: None, ..flow(0, 2) }, member(7)), "group data");
}

#[test]
fn the_way_is_what_lies_between_source_and_receiver() {
    let on_the_way: Vec<u64> = (0..5).filter(|me| routes(*me).passes_here(&flow(0, 2))).collect();
    assert_eq!(on_the_way, [0, 1, 2]);
    assert!(
        routes(1).concerns(&flow(0, 2), member(0)) && routes(1).concerns(&flow(0, 2), member(2))
    );
    assert!(!routes(1).concerns(&flow(0, 2), member(3)));
}

#[test]
fn without_a_tree_everywhere_may_be_the_way() {
    let routes = Routes::new(member(1));
    assert!(routes.carries(&flow(0, 2), member(3)) && routes.passes_here(&flow(0, 2)));
    assert!(!routes.carries(&flow(0, 1), member(3)), "but not on from the receiver itself");
    assert_eq!(routes.receiver(member(9)), Receiver::Unknown);
}

#[test]
fn a_receiver_is_present_if_it_is_owed_messages() {
    assert_eq!(routes(0).receiver(member(3)), Receiver::Present(incarnation(3)));
    assert_eq!(routes(0).receiver(member(4)), Receiver::Absent, "of another group");
    assert_eq!(routes(0).receiver(member(9)), Receiver::Absent);
    assert_eq!(routes(9).receiver(member(3)), Receiver::Unknown, "not in the tree itself");
}
