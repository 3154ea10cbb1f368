//! Trees in frames: obeyed where they can be, without harm where they cannot (R13).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arborcast_protocol::{
    edge::{FlowReceipt, Message, Missing, Receipts},
    frame::{Content, Frame, Header, InBand},
    id::{Class, Digest, Epoch, Flow, FrameNo, SeqNo, ServiceId, Signature, Term},
    testing,
    tree::{self, Edge, Member, SignedHeader, Tree},
};
use bytes::Bytes;

use super::{
    super::{Output, config::HELD},
    edges::{A, B, Scene},
    world::World,
};
use crate::engine::event::{EdgeId, Event, PublishId, Rejection};

const C: EdgeId = EdgeId(3);

/// Less and more than a frame waits at edges that its tree does not name.
const BEFORE: Duration = Duration::from_millis(450);
const AFTER: Duration = Duration::from_millis(100);

fn tree(members: impl IntoIterator<Item = u64>, edges: &[(u64, u64)]) -> Arc<Tree> {
    let member = |n| Member {
        id: testing::member(n),
        incarnation: testing::incarnation(n),
        nick: String::new(),
        group: 0,
    };
    let edge = |(a, b): &(u64, u64)| {
        Edge::new(testing::member(*a), testing::member(*b)).expect("two members")
    };
    let members = members.into_iter().map(member);
    Arc::new(Tree::new(members, edges.iter().map(edge), []).expect("a tree"))
}

fn epoch(counter: u32) -> Epoch {
    Epoch { term: Term(1), counter }
}

/// The relay does not look at signatures: the driver has checked them.
fn signed(counter: u32, tree: &Tree) -> SignedHeader {
    let header =
        tree::Header { session: testing::session(0), epoch: epoch(counter), hash: tree.hash() };
    let signature = Signature::from_bytes([0; 64]);
    SignedHeader { header, coordinator: testing::coordinator(), signature }
}

fn carried(counter: u32, tree: &Tree) -> InBand {
    InBand::new(&signed(counter, tree), tree).expect("a small tree")
}

impl World {
    /// A node takes up a tree.
    pub(super) fn take_up(&mut self, node: u64, counter: u32, tree: &Arc<Tree>) {
        let now = self.now;
        let node = self.node(node);
        let place = tree.neighbours(node.member).collect();
        node.relay.note_tree(&signed(counter, tree), Some(tree), Some(place));
        node.relay.set_epoch(epoch(counter), now);
    }

    /// The numbers of the frames that crossed between two nodes, each once and one way.
    fn numbers(&self, a: u64, b: u64) -> BTreeSet<u64> {
        let link = &self.links[self.find(a, b)];
        let [there, back] = &link.crossed;
        assert!(there.is_disjoint(back), "a frame went back where it came from");
        there.iter().chain(back).map(|(_, number)| number.0).collect()
    }

    fn aside(&mut self, a: u64, b: u64, aside: bool) {
        let now = self.now;
        let index = self.find(a, b);
        for (node, edge) in self.links[index].ends {
            self.node(node).relay.set_aside(edge, aside, now);
        }
    }

    /// Frames sent by their trees, by all.
    fn by_tree(&self) -> u64 {
        self.nodes.values().map(|node| node.relay.stats().in_band_frames).sum()
    }
}

/// Four members with the edges of two trees, all of them up: 1 passes on to 2 and 3 in the first,
/// 0 sends to 1 and 2 and 2 passes on to 3 in the second.
fn two_trees() -> (World, Arc<Tree>, Arc<Tree>) {
    let mut world = World::with(7, 4, &[(0, 1), (1, 2), (1, 3), (0, 2), (2, 3)]);
    world.aside(0, 2, true);
    world.aside(2, 3, true);
    // Who carries trees matters at the source alone.
    world.node(0).relay.carry_trees();
    world.run(Duration::from_millis(100));
    let first = tree(0..4, &[(0, 1), (1, 2), (1, 3)]);
    let second = tree(0..4, &[(0, 1), (0, 2), (2, 3)]);
    (world, first, second)
}

fn epochs(made: &[Header]) -> Vec<u32> {
    made.iter()
        .map(|header| header.in_band.as_ref().map_or(0, |tree| tree.epoch().counter))
        .collect()
}

#[test]
fn r13_a_message_of_thirty_pieces_changes_its_tree_after_the_second() {
    // Whether the relays have heard of the second tree or not.
    for heard in [true, false] {
        let (mut world, first, second) = two_trees();
        for node in 0..4 {
            world.take_up(node, 1, &first);
        }
        world.publish(0, 30 * 64 * 1024);
        assert!(world.push_publish(0));
        let mut made: Vec<Header> = (0..2).filter_map(|_| world.make(0)).collect();
        for node in 0..if heard { 4 } else { 1 } {
            world.take_up(node, 2, &second);
        }
        made.extend(std::iter::from_fn(|| world.make(0)));
        assert_eq!(epochs(&made), [vec![1; 2], vec![2; 28]].concat());
        let index = |header: &Header| match header.content {
            Content::Piece { index, .. } => index,
            Content::Messages { .. } => u32::MAX,
        };
        assert_eq!(made.iter().map(index).collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());

        world.run(Duration::from_secs(3));
        let (early, late): (BTreeSet<u64>, BTreeSet<u64>) = ((1..=2).collect(), (3..=30).collect());
        assert_eq!(world.numbers(0, 1), (1..=30).collect());
        for (a, b) in [(1, 2), (1, 3)] {
            assert_eq!(world.numbers(a, b), early, "first tree, {a} to {b}, heard: {heard}");
        }
        for (a, b) in [(0, 2), (2, 3)] {
            assert_eq!(world.numbers(a, b), late, "second tree, {a} to {b}, heard: {heard}");
        }
        world.assert_complete(&[0, 1, 2, 3]);
        assert_eq!(world.by_tree(), 3 * 30);
        for node in world.nodes.values() {
            assert_eq!(node.relay.stats().in_band_refused, 0);
            assert_eq!(node.relay.stats().total.duplicates, 0);
        }
    }
}

#[test]
fn r13_relays_that_hold_a_newer_tree_obey_the_older_one() {
    let (mut world, first, second) = two_trees();
    world.take_up(0, 1, &first);
    for node in 1..4 {
        world.take_up(node, 1, &first);
        world.take_up(node, 2, &second);
    }
    world.publish(0, 10 * 64 * 1024);
    world.run(Duration::from_secs(3));
    for (a, b) in [(0, 1), (1, 2), (1, 3)] {
        assert_eq!(world.numbers(a, b), (1..=10).collect(), "{a} to {b}");
    }
    assert!(world.numbers(0, 2).is_empty());
    assert!(world.numbers(2, 3).is_empty());
    world.assert_complete(&[0, 1, 2, 3]);
}

#[test]
fn r13_what_a_tree_promises_over_an_edge_that_is_gone_comes_over_another() {
    let (mut world, first, _) = two_trees();
    for node in 0..4 {
        world.take_up(node, 1, &first);
    }
    world.cut(1, 3);
    world.aside(2, 3, false);
    world.publish(0, 5 * 64 * 1024);
    world.run(Duration::from_secs(3));
    assert_eq!(world.numbers(2, 3), (1..=5).collect());
    world.assert_complete(&[0, 1, 2, 3]);
}

#[test]
fn r13_nothing_is_lost_whatever_trees_frames_carry() {
    for seed in super::world::seeds(20) {
        let mut world = World::with(seed, 5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
        let line = [(0, 1), (1, 2), (2, 3), (3, 4)];
        let trees = [
            tree(0..5, &line),
            tree(0..5, &[(0, 4), (4, 1), (1, 3), (3, 2)]),
            tree(0..5, &[]),
            tree(0..4, &[(0, 1), (0, 2), (0, 3)]),
            tree(0..6, &[(0, 1), (0, 5), (5, 2), (2, 3), (3, 4)]),
        ];
        for node in 0..5 {
            world.node(node).relay.carry_trees();
            world.take_up(node, 1, &trees[0]);
        }
        let mut counter = 1;
        for round in 0..15 {
            super::trees::talk(&mut world, 5, 4);
            world.run(Duration::from_millis(3));
            counter += 1;
            // The sources are ahead of the relays, or have trees that never were.
            world.take_up((seed + round) % 5, counter, &trees[(round % 5) as usize]);
        }
        world.run(Duration::from_secs(20));
        world.assert_complete(&[0, 1, 2, 3, 4]);
        assert!(world.by_tree() > 0, "seed {seed}");
    }
}

/// A relay, member 0, with the neighbours 1, 2 and 3 on the edges A, B and C.
pub(super) struct Three {
    pub(super) scene: Scene,
    pub(super) whole: Arc<Tree>,
}

impl Three {
    /// It has the tree in which all three are its neighbours.
    pub(super) fn new() -> Self {
        let mut scene = Scene::active();
        scene.activate(B, 2, true);
        scene.activate(C, 3, true);
        let mut three = Self { scene, whole: tree(0..4, &[(0, 1), (0, 2), (0, 3)]) };
        let whole = Arc::clone(&three.whole);
        three.take_up(1, &whole);
        three
    }

    pub(super) fn take_up(&mut self, counter: u32, tree: &Arc<Tree>) {
        let me = testing::member(0);
        let place = tree.member(me).map(|_| tree.neighbours(me).collect());
        self.scene.relay.note_tree(&signed(counter, tree), Some(tree), place);
        self.scene.relay.set_epoch(epoch(counter), self.scene.now);
    }

    /// A frame of `source` comes on an edge.
    fn comes(&mut self, edge: EdgeId, source: u64, number: u64, in_band: Option<InBand>) {
        let (frame, payload) = frame(source, number, in_band);
        self.scene.relay.on_frame(edge, frame, payload, self.scene.now);
    }

    /// What goes out now on A, B and C.
    fn goes(&mut self) -> [Vec<u64>; 3] {
        [A, B, C].map(|edge| self.scene.frames(edge))
    }

    fn refused(&self) -> u64 {
        self.scene.relay.stats().in_band_refused
    }

    fn by_tree(&self) -> u64 {
        self.scene.relay.stats().in_band_frames
    }

    /// Epochs that frames or heartbeats told of.
    fn told(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.scene.relay.poll_output())
            .filter_map(|output| match output {
                Output::PeerEpoch { epoch, .. } => Some(epoch.counter),
                Output::Event(_)
                | Output::Finished(_)
                | Output::Dead(_)
                | Output::RoundTrip { .. }
                | Output::Slow
                | Output::Settled
                | Output::Overflow => None,
            })
            .collect()
    }
}

fn frame(source: u64, number: u64, in_band: Option<InBand>) -> (Frame, Bytes) {
    let (member, run) = (testing::member(source), testing::incarnation(source));
    let header = Header { in_band, ..testing::header(testing::session(0), member, run, number) };
    let payload = Bytes::from_static(b"\0\0\0\x02hi");
    (testing::frame(header, &payload), payload)
}

fn flow(source: u64) -> Flow {
    Flow {
        source: testing::member(source),
        incarnation: testing::incarnation(source),
        class: Class::Reliable,
        to: None,
    }
}

/// The tree in which 3 is behind 2.
fn chain() -> Arc<Tree> {
    tree(0..4, &[(1, 0), (0, 2), (2, 3)])
}

#[test]
fn r13_other_edges_wait_a_while_and_then_supply_what_is_lacking() {
    let mut three = Three::new();
    three.comes(A, 9, 1, Some(carried(2, &chain())));
    assert_eq!(three.goes(), [vec![], vec![1], vec![]]);
    assert_eq!(three.by_tree(), 1);
    three.scene.wait(BEFORE);
    assert!(three.goes().iter().all(Vec::is_empty));
    three.scene.wait(AFTER);
    assert_eq!(three.goes(), [vec![], vec![], vec![1]]);
    assert_eq!((three.by_tree(), three.refused()), (1, 0));
}

#[test]
fn r13_nothing_goes_twice_to_who_has_it_by_the_tree() {
    let mut three = Three::new();
    three.comes(A, 9, 1, Some(carried(2, &chain())));
    let number = FrameNo(1);
    let receipt = FlowReceipt {
        flow: flow(9),
        floor: number,
        top: number,
        delivered: FrameNo(0),
        released: FrameNo(0),
        begin: None,
    };
    let roster = Digest::from_bytes([0; 32]);
    let receipts = Receipts { roster, covered: Vec::new(), flows: vec![receipt] };
    three.scene.say(C, Message::Receipts(receipts));
    three.scene.wait(BEFORE + AFTER);
    assert_eq!(three.goes(), [vec![], vec![1], vec![]]);
}

#[test]
fn r13_who_asks_does_not_wait() {
    let mut three = Three::new();
    for number in 1..4 {
        three.comes(A, 9, number, Some(carried(2, &chain())));
    }
    assert_eq!(three.goes(), [vec![], vec![1, 2, 3], vec![]]);
    let ranges = vec![(FrameNo(2), FrameNo(3))];
    three.scene.say(C, Message::Ask(vec![Missing { flow: flow(9), ranges }]));
    assert_eq!(three.goes(), [vec![], vec![], vec![2, 3]]);
    three.scene.wait(BEFORE + AFTER);
    assert_eq!(three.goes(), [vec![], vec![], vec![1]]);
}

#[test]
fn an_edge_that_comes_up_waits_only_as_long_as_the_others() {
    let mut three = Three::new();
    three.scene.relay.edge_down(C, three.scene.now);
    three.comes(A, 9, 1, Some(carried(2, &chain())));
    three.scene.wait(BEFORE);
    three.comes(A, 9, 2, Some(carried(2, &chain())));
    three.scene.activate(C, 3, true);
    assert_eq!(three.scene.frames(C), [0; 0]);
    three.scene.wait(AFTER);
    assert_eq!(three.scene.frames(C), [1]);
    three.scene.wait(BEFORE);
    assert_eq!(three.scene.frames(C), [2]);
}

#[test]
fn r13_the_own_tree_is_used_where_the_carried_one_is_not_known_and_cannot_be_rebuilt() {
    let without_me = tree(1..5, &[(1, 2), (1, 3), (3, 4)]);
    let with_another = tree(0..5, &[(1, 0), (0, 2), (2, 3), (3, 4)]);
    // Another tree than the one that was signed.
    let mut garbled = signed(2, &chain());
    garbled.header.hash = Digest::from_bytes([1; 32]);
    let garbled = InBand::new(&garbled, &chain()).expect("a small tree");
    for bad in [carried(2, &without_me), carried(2, &with_another), garbled] {
        let mut three = Three::new();
        three.comes(A, 9, 1, Some(bad.clone()));
        assert_eq!(three.goes(), [vec![], vec![1], vec![1]], "{bad:?}");
        three.comes(A, 9, 2, Some(bad));
        assert_eq!(three.goes(), [vec![], vec![2], vec![2]]);
        assert_eq!((three.by_tree(), three.refused()), (0, 2));
    }
    // Known, but of others alone.
    let mut three = Three::new();
    let alone = tree(1..4, &[(1, 2), (2, 3)]);
    three.take_up(2, &alone);
    three.comes(A, 9, 1, Some(carried(2, &alone)));
    assert_eq!(three.goes(), [vec![], vec![1], vec![1]]);
    assert_eq!(three.refused(), 1);
}

#[test]
fn a_source_that_garbles_a_tree_spoils_it_for_nobody_else() {
    let mut three = Three::new();
    let star = &three.whole;
    // The signature is for the chain, the edges are those of the star.
    let garbled = InBand::new(&signed(2, &chain()), star).expect("a small tree");
    three.comes(A, 9, 1, Some(garbled));
    assert_eq!(three.goes(), [vec![], vec![1], vec![1]]);
    three.comes(A, 8, 1, Some(carried(2, &chain())));
    assert_eq!(three.goes(), [vec![], vec![1], vec![]]);
    // The hash stands for the chain from now on, whatever comes with it.
    let garbled = InBand::new(&signed(2, &chain()), &three.whole).expect("a small tree");
    three.comes(A, 9, 2, Some(garbled));
    assert_eq!(three.goes(), [vec![], vec![2], vec![]]);
}

#[test]
fn a_tree_that_could_not_be_rebuilt_is_tried_again_with_other_members() {
    let mut three = Three::new();
    let next = tree(0..5, &[(1, 0), (0, 2), (2, 3), (3, 4)]);
    three.comes(A, 9, 1, Some(carried(3, &next)));
    assert_eq!(three.goes(), [vec![], vec![1], vec![1]]);
    three.take_up(2, &tree(0..5, &[(0, 1), (0, 2), (0, 3), (3, 4)]));
    three.comes(A, 9, 2, Some(carried(3, &next)));
    assert_eq!(three.goes(), [vec![], vec![2], vec![]]);
}

#[test]
fn a_frame_that_comes_against_its_tree_goes_to_all_at_once() {
    let mut three = Three::new();
    three.comes(C, 9, 1, Some(carried(2, &chain())));
    assert_eq!(three.goes(), [vec![1], vec![1], vec![]]);
    assert_eq!(three.refused(), 0);
}

#[test]
fn a_newer_tree_in_a_frame_is_told_once() {
    let mut three = Three::new();
    assert_eq!(three.told(), [0; 0]);
    for number in 1..4 {
        three.comes(A, 9, number, Some(carried(5, &chain())));
    }
    three.comes(A, 9, 4, Some(carried(4, &chain())));
    assert_eq!(three.told(), [5]);
    three.take_up(5, &chain());
    three.comes(A, 9, 5, Some(carried(5, &chain())));
    assert_eq!(three.told(), [0; 0]);
}

#[test]
fn r13_who_knows_its_own_place_alone_obeys_the_newest_tree() {
    let mut scene = Scene::active();
    scene.activate(B, 2, true);
    scene.activate(C, 3, true);
    let place = BTreeSet::from([testing::member(1), testing::member(2)]);
    scene.relay.note_tree(&signed(2, &chain()), None, Some(place));
    let (obeyed, payload) = frame(9, 1, Some(carried(2, &chain())));
    scene.relay.on_frame(A, obeyed, payload, scene.now);
    assert_eq!((scene.frames(B), scene.frames(C)), (vec![1], vec![]));
}

#[test]
fn only_so_many_frames_wait() {
    let mut three = Three::new();
    for number in 1..=HELD as u64 + 2 {
        three.comes(A, 9, number, Some(carried(2, &chain())));
    }
    assert_eq!(three.scene.frames(C), [1, 2]);
}

#[test]
fn r13_a_tree_that_does_not_fit_is_refused_where_it_begins() {
    let mut three = Three::new();
    three.scene.relay.carry_trees();
    let small = Arc::clone(&three.whole);
    three.take_up(2, &small);
    let publish = |three: &mut Three, id| {
        let (service, payload) = (ServiceId(0), Bytes::from_static(b"hi"));
        let now = three.scene.now;
        three.scene.relay.publish(PublishId(id), service, Class::Reliable, None, payload, now);
        std::iter::from_fn(|| three.scene.relay.poll_output()).collect::<Vec<_>>()
    };
    let queued =
        |id, seq| vec![Output::Event(Event::Queued { id: PublishId(id), seq: SeqNo(seq) })];
    assert_eq!(publish(&mut three, 1), queued(1, 1));
    let draft = |three: &mut Three| three.scene.relay.poll_draft(three.scene.now);
    assert!(draft(&mut three).is_some_and(|draft| draft.header.in_band.is_some()));
    assert_eq!(publish(&mut three, 2), queued(2, 2));

    three.take_up(3, &tree(0..2000, &[(0, 1), (0, 2), (0, 3)]));
    let [Output::Event(Event::Rejected { why, .. })] = &publish(&mut three, 3)[..] else {
        panic!("it is refused")
    };
    assert_eq!(*why, Rejection::TreeTooLarge { members: 2_000 });
    // What was queued before goes on, and one warning says so.
    assert!(draft(&mut three).is_some_and(|draft| draft.header.in_band.is_none()));
    let outputs: Vec<Output> = std::iter::from_fn(|| three.scene.relay.poll_output()).collect();
    assert!(matches!(&outputs[..], [Output::Event(Event::Warning(_))]), "{outputs:?}");

    three.take_up(4, &small);
    assert_eq!(publish(&mut three, 4), queued(4, 3));
    assert!(draft(&mut three).is_some_and(|draft| draft.header.in_band.is_some()));
}

#[test]
fn a_source_that_is_not_in_the_tree_yet_carries_none() {
    let mut three = Three::new();
    three.scene.relay.carry_trees();
    three.take_up(2, &tree(1..4, &[(1, 2), (2, 3)]));
    let (service, payload) = (ServiceId(0), Bytes::from_static(b"hi"));
    three.scene.relay.publish(
        PublishId(1),
        service,
        Class::Reliable,
        None,
        payload,
        three.scene.now,
    );
    let draft = three.scene.relay.poll_draft(three.scene.now).expect("a draft");
    assert_eq!(draft.header.in_band, None);
}
