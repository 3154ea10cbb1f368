//! Whatever is written is read as what it was, and written again gives the same bytes.

use std::fmt::Debug;

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::strategies;
use crate::{codec, frame::Frame, limits, tree};

fn comes_back<T>(value: &T, limit: usize) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = codec::encode(value);
    let read: T =
        codec::decode(&bytes, limit).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, value);
    prop_assert_eq!(codec::encode(&read), bytes);
    Ok(())
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr, $limit:expr;)*) => {
        proptest! {
            $(
                #[test]
                fn $name(value in $strategy) {
                    comes_back(&value, $limit)?;
                }
            )*
        }
    };
}

round_trips! {
    session_requests: strategies::session_request(), limits::CONTROL_REQUEST;
    session_answers: strategies::session_answer(), limits::CONTROL_ANSWER;
    reports: strategies::any_report(), limits::CONTROL_REQUEST;
    report_answers: strategies::report_answer(), limits::CONTROL_ANSWER;
    path_requests: strategies::path_request(), limits::CONTROL_REQUEST;
    path_answers: strategies::path_answer(), limits::CONTROL_ANSWER;
    notices: strategies::any_notice(), limits::CONTROL_REQUEST;
    probes: strategies::any_probe(), limits::CONTROL_REQUEST;
    echoes: strategies::echo(), limits::CONTROL_ANSWER;
    pushes: strategies::push(), limits::GOSSIP;
    tree_updates: strategies::update(), limits::GOSSIP;
    edge_hellos: strategies::edge_hello(), limits::HELLO;
    data_hellos: strategies::data_hello(), limits::HELLO;
    edge_messages: strategies::edge_message(), limits::EDGE_MESSAGE;
    frame_headers: strategies::frame_header(), limits::FRAME_HEADER;
    frame_proofs: strategies::frame_proof(), limits::FRAME_PROOF;
    certificates: strategies::certificate(), limits::CONTROL_ANSWER;
    admissions: strategies::admission(), limits::CONTROL_REQUEST;
    statements: strategies::statement(), limits::CONTROL_REQUEST;
    number_sets: strategies::numbers(), limits::EDGE_MESSAGE;
    trees: strategies::any_tree(), limits::CONTROL_ANSWER;
}

proptest! {
    #[test]
    fn frames((header, proof, sealed) in strategies::any_frame()) {
        let frame = Frame::new(header.clone(), &proof, &sealed).unwrap();
        let read = Frame::decode(frame.bytes().clone()).unwrap();
        prop_assert_eq!(read.header(), &header);
        prop_assert_eq!(read.proof().unwrap(), proof);
        prop_assert_eq!(read.sealed(), sealed);
        prop_assert_eq!(read.header_bytes(), codec::encode(&header));
        prop_assert_eq!(read.digest(), frame.digest());
        prop_assert_eq!(read, frame);
    }

    #[test]
    fn r14_adjacency_lists_and_matrices_lead_back_to_the_tree(tree in strategies::any_tree()) {
        let plain = tree::Tree::new(tree.members().cloned(), tree.edges(), []).unwrap();
        let list = tree.adjacency_list();
        let matrix = tree.adjacency_matrix();
        comes_back(&list, limits::CONTROL_ANSWER)?;
        comes_back(&matrix, limits::CONTROL_ANSWER)?;
        prop_assert_eq!(&tree::Tree::try_from(list).unwrap(), &plain);
        prop_assert_eq!(&tree::Tree::try_from(matrix).unwrap(), &plain);
    }
}
