use super::{Message, Missing};
use crate::{
    codec,
    id::{Class, Flow, FrameNo},
    limits, testing,
};

fn missing(run: u64, ranges: usize) -> Missing {
    let (source, incarnation) = (testing::member(0), testing::incarnation(run));
    let flow = Flow { source, incarnation, class: Class::Reliable, to: None };
    Missing { flow, ranges: (1..=ranges as u64).map(|n| (FrameNo(n), FrameNo(n))).collect() }
}

fn is_read(asks: Vec<Missing>) -> bool {
    let message = Message::Ask(asks);
    let bytes = codec::encode(&message);
    codec::decode::<Message>(&bytes, limits::EDGE_MESSAGE).is_ok_and(|read| read == message)
}

#[test]
fn a_request_names_at_most_so_many_ranges_over_all_flows() {
    assert!(is_read(vec![missing(1, limits::RANGES)]));
    assert!(!is_read(vec![missing(1, limits::RANGES + 1)]));
    assert!(is_read(vec![missing(1, limits::RANGES - 1), missing(2, 1)]));
    assert!(!is_read(vec![missing(1, limits::RANGES), missing(2, 1)]));
    assert!(!is_read(vec![missing(1, 0); limits::RANGES + 1]), "flows count, too");
}
