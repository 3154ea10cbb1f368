use proptest::prelude::*;

use super::*;
use crate::{id::Term, testing};

fn id(n: u64) -> MemberId {
    testing::member(n)
}

fn member(n: u64) -> Member {
    Member { id: id(n), incarnation: testing::incarnation(n), nick: String::new(), group: 0 }
}

fn edge(a: u64, b: u64) -> Edge {
    Edge::new(id(a), id(b)).unwrap()
}

fn tree(members: u64, edges: &[(u64, u64)]) -> Result<Tree, TreeError> {
    let edges = edges.iter().map(|(a, b)| edge(*a, *b));
    Tree::new((0..members).map(member), edges, [])
}

/// The members A to F of the patent's figure 2.
const FIGURE_2: [u64; 6] = [0, 1, 2, 3, 4, 5];

#[expect(clippy::many_single_char_names, reason = "the patent's names")]
fn figure_2() -> Tree {
    let [a, b, c, d, e, f] = FIGURE_2;
    tree(6, &[(a, b), (a, c), (b, e), (c, d), (d, f)]).unwrap()
}

fn next_hops(tree: &Tree, member: u64, from: Option<u64>) -> String {
    let next: BTreeSet<MemberId> = tree.next_hops(id(member), from.map(id)).collect();
    (0..6).zip("ABCDEF".chars()).filter(|(n, _)| next.contains(&id(*n))).map(|(_, l)| l).collect()
}

#[test]
#[expect(clippy::many_single_char_names, reason = "the patent's names")]
fn next_hops_are_those_of_the_patents_figure_2() {
    let tree = figure_2();
    let [a, b, c, d, e, f] = FIGURE_2;
    assert_eq!(next_hops(&tree, a, None), "BC");
    assert_eq!(next_hops(&tree, b, Some(a)), "E");
    assert_eq!(next_hops(&tree, c, Some(a)), "D");
    assert_eq!(next_hops(&tree, e, Some(b)), "");
    assert_eq!(next_hops(&tree, d, Some(c)), "F");
    assert_eq!(next_hops(&tree, f, Some(d)), "");
    assert_eq!(next_hops(&tree, f, None), "D");
    assert_eq!(next_hops(&tree, d, Some(f)), "C");
    assert_eq!(next_hops(&tree, c, Some(d)), "A");
    assert_eq!(next_hops(&tree, a, Some(c)), "B");
    assert_eq!(next_hops(&tree, 9, None), "", "a stranger has no neighbours");
}

#[test]
fn each_channel_is_crossed_once_from_any_source() {
    let tree = figure_2();
    for source in 0..6 {
        let mut crossed = BTreeMap::new();
        let mut at = vec![(id(source), None)];
        while let Some((member, from)) = at.pop() {
            for next in tree.next_hops(member, from) {
                *crossed.entry(Edge::new(member, next).unwrap()).or_insert(0) += 1;
                at.push((next, Some(member)));
            }
        }
        assert!(crossed.keys().copied().eq(tree.edges()));
        assert!(crossed.values().all(|times| *times == 1));
    }
}

#[test]
fn what_is_no_tree_is_refused() {
    assert_eq!(tree(3, &[(0, 1), (1, 2), (0, 2)]), Err(TreeError::Cycle));
    assert_eq!(tree(3, &[(0, 1), (1, 0)]), Err(TreeError::Order));
    assert_eq!(tree(3, &[(0, 7)]), Err(TreeError::Stranger));
    assert_eq!(Edge::new(id(1), id(1)), None);
    let twice = Tree::new([member(1), member(1)], [], []);
    assert_eq!(twice, Err(TreeError::Order));
    let nick = "n".repeat(limits::NICK + 1);
    let named = Tree::new([Member { nick, ..member(1) }], [], []);
    assert_eq!(named, Err(TreeError::TooLarge));
}

#[test]
fn the_overlap_may_close_cycles_but_nothing_else() {
    let members = || (0..3).map(member);
    let edges = [edge(0, 1), edge(1, 2)];
    let tree = Tree::new(members(), edges, [edge(0, 2)]).unwrap();
    assert_eq!(tree.neighbours(id(0)).count(), 2);
    assert!(!tree.contains(edge(0, 2)) && tree.contains(edge(0, 1)));
    assert_eq!(tree.edges().count(), 2);
    assert_eq!(tree.components().len(), 1);
    let refused = |overlap: Vec<Edge>| Tree::new(members(), edges, overlap).unwrap_err();
    assert_eq!(refused(vec![edge(0, 1)]), TreeError::Order);
    assert_eq!(refused(vec![edge(0, 2), edge(0, 2)]), TreeError::Order);
    assert_eq!(refused(vec![edge(0, 8)]), TreeError::Stranger);
}

#[test]
fn an_overlap_of_more_edges_than_members_is_refused() {
    let all = (0..8).flat_map(|a| (0..a).map(move |b| edge(a, b)));
    let refused = Tree::new((0..8).map(member), [], all).unwrap_err();
    assert_eq!(refused, TreeError::TooLarge);
}

#[test]
fn the_parts_of_a_forest_are_found() {
    let tree = tree(6, &[(0, 1), (1, 2), (4, 5)]).unwrap();
    let mut parts: Vec<BTreeSet<MemberId>> =
        tree.components().into_iter().map(|part| part.into_iter().collect()).collect();
    parts.sort_by_key(BTreeSet::len);
    let expected = [vec![3], vec![4, 5], vec![0, 1, 2]];
    let expected: Vec<BTreeSet<MemberId>> =
        expected.map(|part| part.into_iter().map(id).collect()).into();
    assert_eq!(parts, expected);
    let firsts: Vec<MemberId> = tree.components().iter().map(|part| part[0]).collect();
    assert!(firsts.is_sorted());
}

#[test]
fn a_chain_of_all_members_is_no_trouble() {
    let ids: Vec<MemberId> = (0..limits::MEMBERS as u64)
        .map(|n| MemberId::from_bytes(blake3::derive_key("test", &n.to_be_bytes())))
        .collect();
    let members: Vec<Member> = ids.iter().map(|id| Member { id: *id, ..member(0) }).collect();
    let edges: Vec<Edge> =
        ids.windows(2).map(|pair| Edge::new(pair[0], pair[1]).unwrap()).collect();
    let tree = Tree::new(members.clone(), edges.clone(), []).unwrap();
    assert_eq!(tree.components().len(), 1);
    let closed = edges.into_iter().chain([Edge::new(ids[0], ids[ids.len() - 1]).unwrap()]);
    assert_eq!(Tree::new(members.clone(), closed, []), Err(TreeError::Cycle));
    let more = members.into_iter().chain([member(0)]);
    assert_eq!(Tree::new(more, [], []), Err(TreeError::TooLarge));
}

/// A tree on the wire with any content.
fn read(
    members: Vec<Member>,
    edges: Vec<(u32, u32)>,
    overlap: Vec<(u32, u32)>,
) -> Result<Tree, TreeError> {
    let wire = Wire { members, edges, overlap };
    let bytes = codec::encode(&wire);
    let read = Tree::try_from(wire);
    let decoded = codec::decode::<Tree>(&bytes, bytes.len());
    assert_eq!(decoded.ok(), read.clone().ok());
    read
}

fn sorted(count: u64) -> Vec<Member> {
    let mut members: Vec<Member> = (0..count).map(member).collect();
    members.sort_by_key(|member| member.id);
    members
}

#[test]
fn malicious_trees_are_refused() {
    let refused = |edges| read(sorted(4), edges, vec![]).unwrap_err();
    assert!(read(sorted(4), vec![(0, 1), (1, 2)], vec![(0, 2)]).is_ok());
    assert_eq!(refused(vec![(0, 1), (0, 2), (1, 2)]), TreeError::Cycle);
    assert_eq!(refused(vec![(0, 4)]), TreeError::Stranger);
    assert_eq!(refused(vec![(0, u32::MAX)]), TreeError::Stranger);
    assert_eq!(refused(vec![(1, 1)]), TreeError::Loop);
    assert_eq!(refused(vec![(1, 0)]), TreeError::Order);
    assert_eq!(refused(vec![(1, 2), (0, 1)]), TreeError::Order);
    assert_eq!(refused(vec![(0, 1), (0, 1)]), TreeError::Order);
    let overlap = |overlap| read(sorted(4), vec![(0, 1)], overlap).unwrap_err();
    assert_eq!(overlap(vec![(0, 1)]), TreeError::Order);
    assert_eq!(overlap(vec![(0, 2), (0, 2)]), TreeError::Order);
    assert_eq!(overlap(vec![(2, 2)]), TreeError::Loop);
    assert_eq!(overlap(vec![(2, 9)]), TreeError::Stranger);
    let mut unsorted = sorted(4);
    unsorted.swap(0, 1);
    assert_eq!(read(unsorted, vec![], vec![]), Err(TreeError::Order));
    let twice = vec![sorted(1).remove(0); 2];
    assert_eq!(read(twice, vec![], vec![]), Err(TreeError::Order));
}

#[test]
fn r14_malicious_lists_are_refused() {
    let read = |neighbours: Vec<Vec<u32>>| {
        Tree::try_from(AdjacencyList { members: sorted(3), neighbours })
    };
    assert!(read(vec![vec![1], vec![0, 2], vec![1]]).is_ok());
    assert_eq!(read(vec![vec![1], vec![0]]), Err(TreeError::Stranger));
    assert_eq!(read(vec![vec![1], vec![], vec![]]), Err(TreeError::Stranger));
    assert_eq!(read(vec![vec![7], vec![], vec![]]), Err(TreeError::Stranger));
    assert_eq!(read(vec![vec![0], vec![], vec![]]), Err(TreeError::Loop));
    assert_eq!(read(vec![vec![1, 1], vec![0], vec![]]), Err(TreeError::Order));
    assert_eq!(read(vec![vec![2, 1], vec![0], vec![0]]), Err(TreeError::Order));
    assert_eq!(read(vec![vec![1, 2], vec![0, 2], vec![0, 1]]), Err(TreeError::Cycle));
    let mut members = sorted(2);
    members.swap(0, 1);
    let unsorted = AdjacencyList { members, neighbours: vec![vec![]; 2] };
    assert_eq!(Tree::try_from(unsorted), Err(TreeError::Order));
}

#[test]
fn r14_malicious_matrices_are_refused() {
    let read =
        |bits: &[u8]| Tree::try_from(AdjacencyMatrix { members: sorted(3), bits: bits.to_vec() });
    // Rows 010 101 010.
    assert!(read(&[0b0101_0101, 0]).is_ok());
    assert_eq!(read(&[0b0101_0101]), Err(TreeError::TooLarge));
    assert_eq!(read(&[0b0101_0101, 0, 0]), Err(TreeError::TooLarge));
    assert_eq!(read(&[0b0101_0101, 1]), Err(TreeError::TooLarge), "a bit behind the last");
    assert_eq!(read(&[0b0100_0000, 0]), Err(TreeError::Stranger), "one way only");
    assert_eq!(read(&[0b1000_0000, 0]), Err(TreeError::Loop));
    assert_eq!(read(&[0b0111_0111, 0]), Err(TreeError::Cycle));
    let empty = AdjacencyMatrix { members: vec![], bits: vec![] };
    assert_eq!(Tree::try_from(empty), Ok(Tree::default()));
}

#[test]
fn r14_the_forms_of_figure_2_say_the_same_and_lead_back() {
    let tree = figure_2();
    let list = tree.adjacency_list();
    let degrees: usize = list.neighbours.iter().map(Vec::len).sum();
    assert_eq!(degrees, 10);
    let matrix = tree.adjacency_matrix();
    assert_eq!(matrix.bits.len(), 5);
    let ones: u32 = matrix.bits.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(ones, 10);
    for (row, listed) in list.neighbours.iter().enumerate() {
        for column in 0..7 {
            let in_list = u32::try_from(column).is_ok_and(|column| listed.contains(&column));
            assert_eq!(matrix.joins(row, column), in_list, "{row}, {column}");
            assert_eq!(matrix.joins(column, row), in_list, "both ways");
        }
    }
    assert_eq!(Tree::try_from(list).as_ref(), Ok(&tree));
    assert_eq!(Tree::try_from(matrix).as_ref(), Ok(&tree));
}

const E1: Epoch = Epoch { term: Term(1), counter: 1 };

proptest! {
    #[test]
    fn a_change_leads_from_any_tree_to_any_other(
        a in crate::tests::strategies::any_tree(),
        b in crate::tests::strategies::any_tree(),
    ) {
        let change = b.change_from(&a, E1);
        prop_assert_eq!(a.apply(E1, &change), Ok(b.clone()));
        prop_assert_eq!(a.apply(E1.next(), &change), Err(TreeError::Base));
        prop_assert_eq!(b.hash(), a.apply(E1, &change).unwrap().hash());
        let none = a.change_from(&a, E1);
        prop_assert!(none.members.is_empty() && none.left.is_empty());
        prop_assert!(none.added.is_empty() && none.removed.is_empty());
        prop_assert_eq!(a.apply(E1, &none), Ok(a.clone()));
    }

    #[test]
    fn equal_hashes_mean_equal_trees(
        a in crate::tests::strategies::any_tree(),
        b in crate::tests::strategies::any_tree(),
    ) {
        prop_assert_eq!(a.hash() == b.hash(), a == b);
    }

    #[test]
    fn any_change_leads_to_a_tree_or_an_error(
        tree in crate::tests::strategies::any_tree(),
        change in crate::tests::strategies::change(),
    ) {
        if let Ok(changed) = tree.apply(change.base, &change) {
            let forest = changed.components().len() + changed.edges().len();
            prop_assert_eq!(forest, changed.members().len());
        }
    }
}

#[test]
fn the_hash_covers_everything() {
    let base = figure_2();
    let edges: Vec<Edge> = base.edges().collect();
    let with = |change: fn(&mut Member)| {
        let mut members: Vec<Member> = base.members().cloned().collect();
        change(&mut members[2]);
        Tree::new(members, edges.clone(), []).unwrap().hash()
    };
    let mut hashes = BTreeSet::from([
        base.hash(),
        with(|member| member.nick.push('x')),
        with(|member| member.group = 1),
        with(|member| member.incarnation = testing::incarnation(99)),
        Tree::new((0..6).map(member), edges[1..].to_vec(), []).unwrap().hash(),
        Tree::new((0..6).map(member), edges[1..].to_vec(), [edges[0]]).unwrap().hash(),
        Tree::new((0..7).map(member), edges.clone(), []).unwrap().hash(),
    ]);
    assert_eq!(hashes.len(), 7);
    assert!(!hashes.insert(with(|_| {})));
}

#[test]
fn rosters_are_those_of_ones_group() {
    let members = (0..4).map(|n| Member { group: u32::from(n == 3), ..member(n) });
    let tree = Tree::new(members, [edge(0, 3)], []).unwrap();
    assert_eq!(tree.roster(id(0)).count(), 3);
    assert_eq!(tree.roster(id(3)).count(), 1);
    assert_eq!(tree.roster(id(9)).count(), 0);
    assert_eq!(tree.roster_hash(id(0)), tree.roster_hash(id(1)));
    assert_ne!(tree.roster_hash(id(0)), tree.roster_hash(id(3)));
}

#[test]
fn headers_are_bound_to_session_epoch_content_and_coordinator() {
    let header = Header { session: testing::session(1), epoch: E1, hash: figure_2().hash() };
    let good = SignedHeader::sign(header, &testing::keypair(1));
    let listed = [testing::member(2), testing::member(1)];
    assert!(good.verify(testing::session(1), &listed));
    assert!(!good.verify(testing::session(2), &listed));
    assert!(!good.verify(testing::session(1), &listed[..1]));
    let refused = |change: fn(&mut SignedHeader)| {
        let mut bad = good;
        change(&mut bad);
        !bad.verify(bad.header.session, &listed)
    };
    assert!(refused(|bad| bad.header.session = testing::session(2)));
    assert!(refused(|bad| bad.header.epoch.counter += 1));
    assert!(refused(|bad| bad.header.epoch.term = Term(2)));
    assert!(refused(|bad| bad.header.hash = Digest::from_bytes([0; 32])));
    assert!(refused(|bad| bad.coordinator = testing::member(2)));
    assert!(refused(|bad| bad.signature = Signature::from_bytes([0; 64])));
}

#[test]
fn edges_on_cycles_with_the_overlap_are_found_and_no_others() {
    let found = |edges: &[(u64, u64)], overlap: &[(u64, u64)]| {
        let edge = |(a, b): &(u64, u64)| edge(*a, *b);
        let tree = Tree::new((0..9).map(member), edges.iter().map(edge), overlap.iter().map(edge));
        let mut found: Vec<(u64, u64)> = edges.to_vec();
        let on_cycles = tree.expect("a tree").on_cycles();
        found.retain(|pair| on_cycles.contains(&edge(pair)));
        assert_eq!(found.len(), on_cycles.len());
        found
    };
    let line = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)];
    assert_eq!(found(&line, &[]), []);
    assert_eq!(found(&line, &[(1, 3)]), [(1, 2), (2, 3)]);
    assert_eq!(found(&line, &[(0, 2), (1, 3), (0, 3)]), [(0, 1), (1, 2), (2, 3)]);
    assert_eq!(found(&line, &[(0, 2), (3, 5)]), [(0, 1), (1, 2), (3, 4), (4, 5)]);
    // Between parts and to members without edges nothing is closed.
    assert_eq!(found(&[(0, 1), (2, 3)], &[(1, 2), (3, 8)]), []);
    let star = [(0, 1), (0, 2), (0, 3), (3, 4)];
    assert_eq!(found(&star, &[(1, 4)]), [(0, 1), (0, 3), (3, 4)]);
}
