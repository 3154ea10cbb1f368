use arborcast_protocol::{
    id::{Class, Flow},
    testing,
};

use super::Admission;

/// Flows from low to high.
fn flows() -> [Flow; 4] {
    let mut flows = [0, 1, 2, 3].map(|n| Flow {
        source: testing::member(n),
        incarnation: testing::incarnation(0),
        class: Class::Reliable,
        to: None,
    });
    flows.sort_unstable();
    flows
}

#[test]
fn what_does_not_fit_waits_and_the_first_to_wait_is_the_first_to_begin() {
    let [a, b, c, d] = flows();
    let mut admission = Admission::default();
    assert!(admission.begin(a, 6, 10));
    assert!(!admission.begin(c, 5, 10));
    assert!(!admission.begin(b, 1, 10), "another one has waited for longer");
    assert!(!admission.begin(c, 5, 10), "asking again changes nothing");
    assert_eq!(admission.next().collect::<Vec<_>>(), [b, c]);
    admission.end(&a);
    assert!(admission.begin(c, 5, 10));
    assert!(!admission.is_waiting(&c));
    assert!(admission.begin(b, 1, 10));
    assert!(admission.begin(d, 4, 10));
    assert_eq!(admission.next().count(), 0);
}

#[test]
fn the_lowest_flow_never_waits() {
    let [a, b, c, d] = flows();
    let mut admission = Admission::default();
    assert!(admission.begin(c, 100, 10), "none is begun");
    assert!(!admission.begin(d, 1, 10));
    assert!(admission.begin(b, 10, 10));
    assert!(admission.begin(a, u64::MAX, 10));
}

#[test]
fn a_flow_that_is_no_more_leaves_its_place_to_others() {
    let [a, b, c, _] = flows();
    let mut admission = Admission::default();
    assert!(admission.begin(a, 10, 10));
    assert!(!admission.begin(b, 10, 10));
    assert!(!admission.begin(c, 10, 10));
    admission.forget(&b);
    admission.forget(&a);
    assert_eq!(admission.next().collect::<Vec<_>>(), [c, c]);
    assert!(admission.begin(c, 10, 10));
    admission.end(&c);
    assert_eq!(admission.state(), (0, 0, 0));
}
