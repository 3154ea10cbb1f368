use proptest::prelude::*;

use super::*;
use crate::{
    codec::DecodeError,
    frame::{self, Frame},
    testing,
    tests::strategies,
};

/// A line of `n` members in order of ids.
fn line(n: u64) -> Tree {
    let mut members: Vec<Member> = (0..n)
        .map(|n| Member {
            id: testing::member(n),
            incarnation: testing::incarnation(n),
            nick: String::new(),
            group: 0,
        })
        .collect();
    members.sort();
    let edges: Vec<Edge> = members
        .windows(2)
        .filter_map(|pair| Edge::new(pair.first()?.id, pair.last()?.id))
        .collect();
    Tree::new(members, edges, []).unwrap()
}

fn signed(tree: &Tree) -> SignedHeader {
    let epoch = Epoch { term: crate::id::Term(u32::MAX), counter: u32::MAX };
    let header = Header { session: testing::session(1), epoch, hash: tree.hash() };
    SignedHeader::sign(header, &testing::keypair(testing::COORDINATOR))
}

fn wire(parents: &[u16], overlap: &[(u16, u16)]) -> Wire {
    let header = signed(&line(1));
    Wire {
        epoch: header.header.epoch,
        hash: header.header.hash,
        coordinator: header.coordinator,
        signature: header.signature,
        parents: parents.iter().flat_map(|up| up.to_be_bytes()).collect(),
        overlap: overlap.iter().flat_map(|(a, b)| [a, b]).flat_map(|n| n.to_be_bytes()).collect(),
    }
}

fn read(parents: &[u16], overlap: &[(u16, u16)]) -> Result<InBand, TreeError> {
    InBand::try_from(wire(parents, overlap))
}

fn in_frame(in_band: InBand) -> Result<Frame, DecodeError> {
    let header =
        testing::header(testing::session(1), testing::member(1), testing::incarnation(1), 7);
    let header = frame::Header { in_band: Some(in_band), ..header };
    Frame::new(header, &testing::proof(), b"payload")
}

proptest! {
    #[test]
    fn r13_r14_a_carried_tree_becomes_the_same_tree_where_its_members_are_known(
        tree in strategies::any_tree(),
        other in strategies::member(),
    ) {
        let carried = InBand::new(&signed(&tree), &tree).unwrap();
        prop_assert_eq!(carried.members(), tree.members().len());
        prop_assert_eq!(carried.hash(), tree.hash());
        prop_assert_eq!(carried.header(testing::session(1)), signed(&tree));
        prop_assert_eq!(&carried.tree(tree.members()).unwrap(), &tree);
        let bytes = codec::encode(&carried);
        prop_assert_eq!(carried.encoded_len(), bytes.len());
        let again: InBand = codec::decode(&bytes, limits::FRAME_HEADER).unwrap();
        prop_assert_eq!(&again.tree(tree.members()).unwrap(), &tree);
        // Other members: one more, one less, another name.
        let mut members: Vec<Member> = tree.members().cloned().collect();
        members.push(other);
        prop_assert_eq!(carried.tree(members.iter()), Err(TreeError::Hash));
        members.pop();
        if let Some(mut last) = members.pop() {
            prop_assert_eq!(carried.tree(members.iter()), Err(TreeError::Hash));
            last.nick.push('!');
            members.push(last);
            prop_assert_eq!(carried.tree(members.iter()), Err(TreeError::Hash));
        }
    }

    /// Whatever is accepted is a forest in the form in which it would be written.
    #[test]
    fn any_parents_are_refused_or_those_of_a_forest(
        parents in prop::collection::vec(0..9_u16, 0..9),
        overlap in prop::collection::vec((0..9_u16, 0..9_u16), 0..3),
    ) {
        if let Ok(carried) = read(&parents, &overlap) {
            let tree = line(parents.len() as u64);
            let ids: Vec<MemberId> = tree.members().map(|member| member.id).collect();
            let edge = |a: u16, b: u16| Edge::new(ids[usize::from(a)], ids[usize::from(b)]).unwrap();
            let edges = (0..).zip(&parents).filter(|(_, up)| **up > 0).map(|(at, up)| edge(at, up - 1));
            let overlap = overlap.iter().map(|(a, b)| edge(*a, *b));
            let tree = Tree::new(tree.members().cloned(), edges, overlap).unwrap();
            let written = InBand::new(&carried.header(testing::session(1)), &tree).unwrap();
            prop_assert_eq!(written, carried);
        }
    }
}

#[test]
fn trees_that_are_none_are_refused() {
    assert!(read(&[], &[]).is_ok());
    assert!(read(&[0, 1, 2, 0], &[(0, 2), (0, 3)]).is_ok());
    for (parents, overlap, why) in [
        (&[0, 3, 2][..], &[][..], TreeError::Cycle),
        (&[1], &[], TreeError::Cycle),
        (&[0, 4, 1], &[], TreeError::Stranger),
        (&[0, u16::MAX], &[], TreeError::Stranger),
        // The root is not the first of its part.
        (&[2, 0], &[], TreeError::Order),
        (&[0, 1], &[(0, 1)], TreeError::Order),
        (&[0, 0], &[(0, 1), (0, 1)], TreeError::Order),
        (&[0, 0, 0], &[(1, 2), (0, 1)], TreeError::Order),
        (&[0, 0], &[(1, 1)], TreeError::Loop),
        (&[0, 0], &[(1, 0)], TreeError::Loop),
        (&[0, 0], &[(0, 2)], TreeError::Stranger),
        (&[0], &[(0, 1), (0, 2)], TreeError::TooLarge),
    ] {
        assert_eq!(read(parents, overlap), Err(why), "{parents:?} {overlap:?}");
    }
    let many = vec![0; limits::MEMBERS + 1];
    assert_eq!(read(&many, &[]), Err(TreeError::TooLarge));
    let half = Wire { parents: vec![0, 0, 0], ..wire(&[], &[]) };
    assert_eq!(InBand::try_from(half), Err(TreeError::Stranger));
    let half = Wire { overlap: vec![0, 0, 0], ..wire(&[0, 0], &[]) };
    assert_eq!(InBand::try_from(half), Err(TreeError::Stranger));
}

#[test]
fn a_frame_with_a_cyclic_tree_is_malformed() {
    let frame = in_frame(read(&[0, 1, 2], &[]).unwrap()).unwrap();
    let good = frame.bytes().to_vec();
    assert!(Frame::decode(good.clone().into()).is_ok());
    let at = good.windows(6).position(|bytes| bytes == [0, 0, 0, 1, 0, 2]).unwrap();
    let mut bad = good;
    // The second and the third are each other's parents.
    bad[at + 3] = 3;
    assert!(matches!(Frame::decode(bad.into()), Err(DecodeError::Unexpected(_))));
}

#[test]
fn the_largest_tree_fits_a_frame_and_a_larger_one_is_refused() {
    let fits = |n| {
        let tree = line(n);
        InBand::new(&signed(&tree), &tree)
    };
    let (mut fitting, mut over) = (1, limits::MEMBERS as u64);
    while over - fitting > 1 {
        let middle = u64::midpoint(fitting, over);
        if fits(middle).is_ok() { fitting = middle } else { over = middle }
    }
    assert!(fitting >= 1700, "{fitting}");
    assert_eq!(fits(over), Err(TreeError::TooLarge));
    let largest = in_frame(fits(fitting).unwrap()).unwrap();
    assert!(largest.header_bytes().len() <= limits::FRAME_HEADER);
}
