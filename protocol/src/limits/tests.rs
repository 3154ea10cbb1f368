//! What the comments promise to fit does fit.

use multiaddr::Multiaddr;

use super::*;
use crate::{
    codec, edge,
    frame::{self, Proof, ShortCertificate},
    id::{Class, Digest, Epoch, Flow, FrameNo, Incarnation, MemberId, Signature, Term},
    numbers::NumberSet,
    qos::{ChannelKind, Qos, Transport},
    report,
    session::{Address, Contact},
    signature::BatchProof,
    testing, tree,
};

fn id(n: usize) -> MemberId {
    MemberId::from_bytes(blake3::derive_key("test", &n.to_be_bytes()))
}

const RUN: Incarnation = Incarnation::from_bytes([0xff; 16]);
const EPOCH: Epoch = Epoch { term: Term(u32::MAX), counter: u32::MAX };

fn held() -> tree::SignedHeader {
    let hash = Digest::from_bytes([0xff; 32]);
    let header = tree::Header { session: testing::session(1), epoch: EPOCH, hash };
    tree::SignedHeader { header, coordinator: id(0), signature: Signature::from_bytes([0xff; 64]) }
}

#[test]
fn a_whole_tree_fits_an_answer() {
    let members: Vec<tree::Member> = (0..MEMBERS)
        .map(|n| tree::Member {
            id: id(n),
            incarnation: RUN,
            nick: "n".repeat(NICK),
            group: u32::MAX,
        })
        .collect();
    let edge = |a: usize, b: usize| tree::Edge::new(id(a), id(b)).unwrap();
    let edges = (1..MEMBERS).map(|n| edge(n, n - 1));
    let overlap = (2..MEMBERS).map(|n| edge(n, n - 2));
    let tree = tree::Tree::new(members, edges, overlap).unwrap();
    let update = tree::Update { header: held(), body: tree::Body::Full(Box::new(tree)) };
    let answer: crate::path::Answer = Ok(crate::path::State::Tree(Box::new(update)));
    let bytes = codec::encode(&answer);
    assert!(bytes.len() <= CONTROL_ANSWER, "{}", bytes.len());
    assert_eq!(codec::decode(&bytes, CONTROL_ANSWER), Ok(answer));
}

#[test]
fn a_summary_of_one_flow_for_each_member_fits_an_edge_message() {
    let flows: Vec<edge::FlowSummary> = (0..MEMBERS)
        .map(|n| edge::FlowSummary {
            flow: Flow { source: id(n), incarnation: RUN, class: Class::Reliable, to: None },
            has: NumberSet::up_to(FrameNo(u64::MAX - 1)),
            released: FrameNo(u64::MAX - 1),
            begin: None,
            start: None,
        })
        .collect();
    let summary = edge::Message::Summary(edge::Summary { settled: true, flows, live: true });
    let len = codec::encode(&summary).len();
    assert!(len <= EDGE_MESSAGE, "{len}");
}

#[test]
fn receipts_of_one_flow_for_each_member_fit_an_edge_message() {
    let number = FrameNo(u64::MAX - 1);
    let flows: Vec<edge::FlowReceipt> = (0..MEMBERS)
        .map(|n| edge::FlowReceipt {
            flow: Flow { source: id(n), incarnation: RUN, class: Class::Reliable, to: None },
            floor: number,
            top: number,
            delivered: number,
            released: number,
            begin: None,
        })
        .collect();
    let roster = Digest::from_bytes([0xff; 32]);
    let receipts = edge::Receipts { roster, covered: vec![0xff; MEMBERS / 8], flows };
    let len = codec::encode(&edge::Message::Receipts(receipts)).len();
    assert!(len <= EDGE_MESSAGE, "{len}");
}

#[test]
fn the_largest_report_fits_a_request() {
    let channels = || (0..CHANNELS).map(id);
    let qos = Qos {
        delay_us: u32::MAX,
        jitter_us: u32::MAX,
        loss_ppm: u32::MAX,
        bandwidth_kbps: Some(u32::MAX),
    };
    let channel =
        |peer| report::Channel { peer, kind: ChannelKind::Relayed, transport: Transport::Other };
    let report = report::Report {
        session: testing::session(1),
        incarnation: RUN,
        adjacency: Some(report::Adjacency::Full(channels().map(channel).collect())),
        qos: channels().map(|peer| report::ChannelQos { peer, qos }).collect(),
        held: Some(held()),
        carrying: channels().collect(),
        settled: true,
        silent: channels().collect(),
        slow: channels().collect(),
    };
    let len = codec::encode(&report).len();
    assert!(len <= CONTROL_REQUEST, "{len}");
}

#[test]
fn the_most_candidates_fit_a_notice() {
    let address: Multiaddr = format!("/dns4/{}/tcp/1", "a".repeat(ADDRESS - 10)).parse().unwrap();
    let address = Address::from(&address);
    assert!(address.multiaddr().is_some());
    let contact = |n| Contact { member: id(n), addresses: vec![address.clone(); ADDRESSES] };
    let news = crate::notice::News::Candidates((0..CANDIDATES).map(contact).collect());
    let notice = crate::notice::Notice { session: testing::session(1), news };
    let len = codec::encode(&notice).len();
    assert!(len <= CONTROL_REQUEST, "{len}");
}

#[test]
fn headers_proofs_and_hellos_leave_room() {
    let signature = Signature::from_bytes([0xff; 64]);
    let certificate = ShortCertificate { expires_s: u64::MAX, ..testing::proof().certificate };
    let path = vec![Digest::from_bytes([0xff; 32]); BATCH_PATH];
    let proof = Proof { certificate, batch: BatchProof { signature, index: u16::MAX, path } };
    assert!(codec::encode(&proof).len() <= FRAME_PROOF);
    let header = frame::Header {
        content: frame::Content::Piece { index: PIECES, of: PIECES, bytes: MESSAGE as u64 },
        ..testing::header(testing::session(1), id(1), RUN, u64::MAX)
    };
    let len = codec::encode(&header).len();
    assert!(len <= FRAME_HEADER - IN_BAND, "{len} with the largest tree beside it");
    let hello = edge::Hello {
        session: testing::session(1),
        certificate: testing::certificate(testing::session(1), id(1), RUN),
        epoch: EPOCH,
        token: [0xff; 16],
    };
    assert!(codec::encode(&hello).len() <= HELLO);
}
