//! A small world: relays joined by reliable queues, in virtual time, everything in random order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use arborcast_protocol::{
    edge,
    frame::{Frame, Header},
    id::{Class, Digest, Flow, FrameNo, MemberId, SeqNo, ServiceId},
    testing,
    tree::{self, Tree},
};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{Config, Output, Relay, Roster};
use crate::engine::event::{EdgeId, Event, PublishId};

/// Frames under way on one edge in one direction; the rest waits at the sender.
const PIPE: usize = 3;

pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Instant,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) links: Vec<Link>,
    /// What was published: (node, seq) → payload.
    pub(super) published: BTreeMap<(MemberId, SeqNo), Bytes>,
    /// Which of that is for one receiver alone.
    pub(super) alone: BTreeMap<(MemberId, SeqNo), MemberId>,
    /// What was published live.
    pub(super) live: BTreeMap<(MemberId, SeqNo), Bytes>,
    edges: u64,
    rosters: u64,
}

pub(super) struct Node {
    pub(super) relay: Relay,
    pub(super) member: MemberId,
    /// Delivered, in order, per source.
    pub(super) got: BTreeMap<MemberId, Vec<SeqNo>>,
    /// The same of what came for it alone.
    pub(super) got_alone: BTreeMap<MemberId, Vec<SeqNo>>,
    /// The same of what is of class live.
    pub(super) got_live: BTreeMap<MemberId, Vec<SeqNo>>,
    /// The last message that a receiver is known to have of those for it alone.
    pub(super) receipts_alone: BTreeMap<MemberId, SeqNo>,
    /// What receivers are said to have missed.
    pub(super) missed_alone: Vec<(MemberId, SeqNo, SeqNo)>,
    pub(super) lost: Vec<Event>,
    pub(super) receipt: SeqNo,
    /// How many members that receipt named.
    pub(super) receivers: u32,
    pub(super) dead: Vec<EdgeId>,
    pub(super) finished: Vec<EdgeId>,
    /// What was published before it settled.
    pub(super) missed: BTreeSet<(MemberId, SeqNo)>,
    /// What it was told of messages that it asked about.
    pub(super) confirmed: Vec<Event>,
    /// Its process is stopped: it hears nothing and says nothing.
    pub(super) stopped: bool,
    /// The application takes messages.
    pub(super) pulls: bool,
    /// The most bytes of pieces that it held, and flows that waited to begin a message.
    pub(super) most_assembly: u64,
    pub(super) most_waiting: usize,
    /// A roster that it has not heard of yet.
    news: Option<(Roster, BTreeMap<MemberId, arborcast_protocol::id::Incarnation>)>,
    /// A tree that it has not heard of yet.
    tree_news: Option<Arc<Tree>>,
    waiting: VecDeque<(Option<MemberId>, Bytes)>,
}

pub(super) struct Link {
    pub(super) ends: [(u64, EdgeId); 2],
    control: [VecDeque<edge::Message>; 2],
    data: [VecDeque<Frame>; 2],
    /// What crossed, by the end that sent it.
    pub(super) crossed: [BTreeSet<(Flow, FrameNo)>; 2],
    /// Frames may cross again because receivers drop some.
    pub(super) repeats: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the origin of virtual time")]
        let now = Instant::now();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now,
            nodes: BTreeMap::new(),
            links: Vec::new(),
            published: BTreeMap::new(),
            alone: BTreeMap::new(),
            live: BTreeMap::new(),
            edges: 0,
            rosters: 0,
        }
    }

    /// A world of `n` settled members, joined by `links`, all in the roster.
    pub(super) fn with(seed: u64, n: u64, links: &[(u64, u64)]) -> Self {
        Self::with_config(seed, n, links, &Config::default())
    }

    /// The same where members keep no more than some bytes of history.
    pub(super) fn with_past(seed: u64, n: u64, links: &[(u64, u64)], history_bytes: u64) -> Self {
        Self::with_config(seed, n, links, &Config { history_bytes, ..Config::default() })
    }

    fn with_config(seed: u64, n: u64, links: &[(u64, u64)], config: &Config) -> Self {
        let mut world = Self::new(seed);
        for node in 0..n {
            world.add(node, config.clone());
            world.settle(node);
        }
        for (a, b) in links {
            world.link(*a, *b);
        }
        world.roster(&(0..n).collect::<Vec<_>>());
        world.hear_news();
        world
    }

    pub(super) fn add(&mut self, node: u64, config: Config) {
        let member = testing::member(node);
        let incarnation = testing::incarnation(node);
        let session = testing::session(0);
        let relay = Relay::new(config, member, incarnation, session, true, self.now);
        self.nodes.insert(
            node,
            Node {
                relay,
                member,
                got: BTreeMap::new(),
                got_alone: BTreeMap::new(),
                got_live: BTreeMap::new(),
                receipts_alone: BTreeMap::new(),
                missed_alone: Vec::new(),
                lost: Vec::new(),
                receipt: SeqNo(0),
                receivers: 0,
                dead: Vec::new(),
                finished: Vec::new(),
                missed: BTreeSet::new(),
                confirmed: Vec::new(),
                stopped: false,
                pulls: true,
                most_assembly: 0,
                most_waiting: 0,
                news: None,
                tree_news: None,
                waiting: VecDeque::new(),
            },
        );
    }

    pub(super) fn settle(&mut self, node: u64) {
        let now = self.now;
        self.node(node).relay.set_settled(now);
    }

    pub(super) fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("tests name nodes that are there")
    }

    pub(super) fn link(&mut self, a: u64, b: u64) {
        let (ea, eb) = (EdgeId(self.edges), EdgeId(self.edges + 1));
        self.edges += 2;
        let (now, ma, mb) = (self.now, testing::member(a), testing::member(b));
        self.node(a).relay.edge_up(ea, mb, now);
        self.node(b).relay.edge_up(eb, ma, now);
        self.links.push(Link {
            ends: [(a, ea), (b, eb)],
            control: Default::default(),
            data: Default::default(),
            crossed: Default::default(),
            repeats: false,
        });
    }

    pub(super) fn find(&self, a: u64, b: u64) -> usize {
        let same = |link: &Link| {
            let [(x, _), (y, _)] = link.ends;
            (x, y) == (a, b) || (x, y) == (b, a)
        };
        self.links.iter().position(same).expect("tests name links that are there")
    }

    /// What one end of a link calls it.
    pub(super) fn edge(&self, end: u64, (a, b): (u64, u64)) -> EdgeId {
        let ends = self.links[self.find(a, b)].ends;
        ends.into_iter().find(|(node, _)| *node == end).expect("it is an end").1
    }

    /// Cuts a link; what is under way is lost.
    pub(super) fn cut(&mut self, a: u64, b: u64) {
        let index = self.find(a, b);
        self.cut_at(index);
    }

    fn cut_at(&mut self, index: usize) {
        let now = self.now;
        for (node, edge) in self.links.remove(index).ends {
            self.node(node).relay.edge_down(edge, now);
            self.drain(node);
        }
    }

    pub(super) fn retire(&mut self, a: u64, b: u64) {
        let index = self.find(a, b);
        let now = self.now;
        for (node, edge) in self.links[index].ends {
            self.node(node).relay.retire(edge, now);
            self.drain(node);
        }
    }

    /// A node dies, with all its links.
    pub(super) fn kill(&mut self, node: u64) {
        while let Some(index) =
            self.links.iter().position(|link| link.ends.iter().any(|(end, _)| *end == node))
        {
            self.cut_at(index);
        }
        self.nodes.remove(&node);
    }

    /// The members that owe each other everything; each hears of it in its own time.
    pub(super) fn roster(&mut self, members: &[u64]) {
        self.rosters += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.rosters.to_be_bytes());
        let ids: BTreeMap<MemberId, _> =
            members.iter().map(|n| (testing::member(*n), testing::incarnation(*n))).collect();
        for n in members {
            let index = ids.keys().position(|id| *id == testing::member(*n)).expect("just added");
            let roster = Roster {
                hash: Digest::from_bytes(hash),
                len: u32::try_from(ids.len()).expect("few"),
                index: u32::try_from(index).expect("few"),
            };
            self.node(*n).news = Some((roster, ids.clone()));
        }
    }

    pub(super) fn hear_news(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.hear(node);
        }
    }

    /// The links are the tree now, but those in `overlap`, which are of the tree before; each node
    /// hears of it in its own time.
    pub(super) fn tree(&mut self, overlap: &[(u64, u64)]) {
        let edge = |a, b| tree::Edge::new(testing::member(a), testing::member(b));
        let old: BTreeSet<tree::Edge> = overlap.iter().filter_map(|(a, b)| edge(*a, *b)).collect();
        let members = self.nodes.keys().map(|node| tree::Member {
            id: testing::member(*node),
            incarnation: testing::incarnation(*node),
            nick: String::new(),
            group: 0,
        });
        let links = self.links.iter().filter_map(|link| edge(link.ends[0].0, link.ends[1].0));
        let links: BTreeSet<tree::Edge> = links.filter(|edge| !old.contains(edge)).collect();
        let tree = Tree::new(members, links, old).expect("tests link trees");
        let tree = Arc::new(tree);
        for node in self.nodes.values_mut() {
            node.tree_news = Some(Arc::clone(&tree));
        }
    }

    fn hear(&mut self, node: u64) -> bool {
        let now = self.now;
        if let Some(tree) = self.node(node).tree_news.take() {
            self.node(node).relay.set_tree(Some(tree), now);
            self.drain(node);
        }
        let Some((roster, members)) = self.node(node).news.take() else { return false };
        self.node(node).relay.set_members(&members, now);
        self.node(node).relay.set_roster(Some(roster), now);
        self.drain(node);
        true
    }

    /// The application of `node` sends `len` bytes, as soon as there is room.
    pub(super) fn publish(&mut self, node: u64, len: usize) {
        self.publish_to(node, None, len);
    }

    /// The same to one receiver alone.
    pub(super) fn publish_to(&mut self, node: u64, to: Option<u64>, len: usize) {
        let mut payload = vec![0; len];
        self.rng.fill(&mut payload[..len.min(64)]);
        self.node(node).waiting.push_back((to.map(testing::member), payload.into()));
    }

    /// The application of `node` sends `len` bytes live.
    pub(super) fn publish_live(&mut self, node: u64, len: usize) {
        let mut payload = vec![0; len];
        self.rng.fill(&mut payload[..len.min(64)]);
        let (now, payload) = (self.now, Bytes::from(payload));
        let Node { relay, member, .. } = self.node(node);
        relay.publish(PublishId(0), ServiceId(7), Class::Live, None, payload.clone(), now);
        let Some(Output::Event(Event::Queued { seq, .. })) = relay.poll_output() else {
            panic!("a live message was not queued")
        };
        let member = *member;
        self.live.insert((member, seq), payload);
    }

    pub(super) fn push_publish(&mut self, id: u64) -> bool {
        let now = self.now;
        let node = self.node(id);
        if !node.relay.may_publish() {
            return false;
        }
        let Some((to, payload)) = node.waiting.pop_front() else { return false };
        node.relay.publish(PublishId(0), ServiceId(7), Class::Reliable, to, payload.clone(), now);
        let Some(Output::Event(Event::Queued { seq, .. })) = node.relay.poll_output() else {
            panic!("a message was not queued")
        };
        let member = node.member;
        self.published.insert((member, seq), payload);
        self.alone.extend(to.map(|to| ((member, seq), to)));
        true
    }

    /// Runs for a while of virtual time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut idle = 0;
            // Time may pass while there is still work.
            while idle < 30 && self.rng.random_range(0..200) > 0 {
                idle = if self.step() { 0 } else { idle + 1 };
            }
            if idle == 30 {
                while self.work_left() {}
                let next = self.nodes.values().filter_map(|node| node.relay.poll_timeout()).min();
                self.now = next.unwrap_or(end).min(end);
            } else {
                self.now += Duration::from_micros(200);
            }
            self.tick();
        }
    }

    /// Runs, one thing at a time, until something is so. False if it is not within a second.
    pub(super) fn run_until(&mut self, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(1);
        while self.now < end {
            for _ in 0..50 * self.links.len() {
                if is_so(self) {
                    return true;
                }
                self.step();
            }
            self.now += Duration::from_micros(200);
            self.tick();
        }
        false
    }

    fn tick(&mut self) {
        let now = self.now;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let node = self.node(id);
            node.relay.tick(now);
            assert!(node.relay.poll_timeout().is_none_or(|at| at > now), "node {id} spins");
            self.drain(id);
        }
    }

    /// Everything once; true if anything happened.
    fn work_left(&mut self) -> bool {
        let mut any = false;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            any |= self.work_node(id);
        }
        for index in 0..self.links.len() {
            for side in 0..2 {
                for kind in 0..4 {
                    any |= self.links.len() > index && self.work_link(index, side, kind);
                }
            }
        }
        any
    }

    /// Something at random.
    fn step(&mut self) -> bool {
        let things = self.nodes.len() + 4 * self.links.len();
        let thing = self.rng.random_range(0..things);
        if thing < self.nodes.len() {
            let id = *self.nodes.keys().nth(thing).expect("in range");
            return self.work_node(id);
        }
        let index = (thing - self.nodes.len()) / 4;
        let (side, kind) = (self.rng.random_range(0..2), self.rng.random_range(0..4));
        self.work_link(index, side, kind)
    }

    fn work_node(&mut self, id: u64) -> bool {
        let heard = self.hear(id);
        let published = self.push_publish(id);
        let made = self.make(id).is_some();
        heard | published | made | self.deliver(id)
    }

    /// One frame of what `id` has to send, with the tree that it carries.
    pub(super) fn make(&mut self, id: u64) -> Option<Header> {
        let now = self.now;
        let relay = &mut self.node(id).relay;
        let draft = relay.poll_draft(now);
        let header = draft.as_ref().map(|draft| draft.header.clone());
        if let Some(draft) = draft {
            let frame = testing::frame(draft.header, &draft.payload);
            relay.on_made(frame, draft.payload, now);
            assert!(relay.own_bytes() <= relay.window(), "the window holds");
        }
        self.drain(id);
        header
    }

    fn deliver(&mut self, id: u64) -> bool {
        let now = self.now;
        if !self.node(id).pulls || self.node(id).stopped {
            return false;
        }
        let node = self.node(id);
        let message = node.relay.poll_delivery(now);
        let (held, (_, reserved, waiting)) =
            (node.relay.stats().assembly_bytes, node.relay.admission.state());
        assert!(held <= reserved, "room is set aside for all pieces");
        node.most_assembly = node.most_assembly.max(held);
        node.most_waiting = node.most_waiting.max(waiting);
        let Some(message) = message else {
            self.drain(id);
            return false;
        };
        self.drain(id);
        if message.class == Class::Live {
            let sent = self.live.get(&(message.source, message.seq));
            assert_eq!(sent, Some(&message.payload), "a message arrives as it was sent");
            let got = self.node(id).got_live.entry(message.source).or_default();
            assert!(got.last().is_none_or(|last| *last < message.seq), "in order, and once");
            got.push(message.seq);
            return true;
        }
        let sent = self.published.get(&(message.source, message.seq));
        assert_eq!(sent, Some(&message.payload), "a message arrives as it was sent");
        assert_eq!(message.service, ServiceId(7));
        let alone = self.alone.get(&(message.source, message.seq)).copied();
        assert_eq!(message.to, alone, "it says whom it is for");
        let node = self.node(id);
        assert!(alone.is_none_or(|to| to == node.member), "{alone:?} alone gets it, not {id}");
        let got = if alone.is_some() { &mut node.got_alone } else { &mut node.got };
        got.entry(message.source).or_default().push(message.seq);
        true
    }

    fn work_link(&mut self, index: usize, side: usize, kind: u8) -> bool {
        let now = self.now;
        let link = &mut self.links[index];
        let [(from, from_edge), (to, to_edge)] =
            if side == 0 { link.ends } else { [link.ends[1], link.ends[0]] };
        let acting = if matches!(kind, 0 | 2) { from } else { to };
        if self.nodes.get(&acting).is_some_and(|node| node.stopped) {
            return false;
        }
        match kind {
            0 => {
                let node = self.nodes.get_mut(&from).expect("links join nodes");
                let Some(message) = node.relay.poll_edge_message(from_edge, now) else {
                    return false;
                };
                link.control[side].push_back(message);
                self.drain(from);
            }
            1 => {
                let Some(message) = link.control[side].pop_front() else { return false };
                let bytes = arborcast_protocol::codec::encode(&message);
                assert!(bytes.len() <= arborcast_protocol::limits::EDGE_MESSAGE);
                self.node(to).relay.on_message(to_edge, message, now);
                self.drain(to);
            }
            2 => {
                if link.data[side].len() >= PIPE {
                    return false;
                }
                let node = self.nodes.get_mut(&from).expect("links join nodes");
                let Some(frame) = node.relay.poll_frame(from_edge, now) else { return false };
                let what = (frame.header().flow(), frame.header().number);
                let new = link.crossed[side].insert(what);
                assert!(new || link.repeats, "{what:?} goes from {from} to {to} again");
                link.data[side].push_back(frame);
            }
            _ => {
                let relay = &mut self.nodes.get_mut(&to).expect("links join nodes").relay;
                if !relay.may_read(to_edge) {
                    return false;
                }
                let Some(frame) = link.data[side].pop_front() else { return false };
                let payload = frame.sealed();
                relay.on_frame(to_edge, frame, payload, now);
                self.drain(to);
            }
        }
        true
    }

    fn drain(&mut self, id: u64) {
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(output) = node.relay.poll_output()
        {
            match output {
                Output::Event(Event::Delivered { seq, members, to: Some(to) }) => {
                    assert_eq!(members, 1);
                    let before = node.receipts_alone.insert(to, seq);
                    assert!(before.is_none_or(|before| seq > before), "receipts only rise");
                }
                Output::Event(Event::Missed { to, from, last, .. }) => {
                    node.missed_alone.push((to, from, last));
                }
                Output::Event(Event::Delivered { seq, members, to: None }) => {
                    assert!(seq > node.receipt, "receipts only rise");
                    node.receipt = seq;
                    node.receivers = members;
                }
                Output::Event(confirmed @ Event::Confirmed { .. }) => {
                    node.confirmed.push(confirmed);
                }
                Output::Event(lost @ Event::Lost { .. }) => node.lost.push(lost),
                Output::Event(event) => panic!("unexpected {event:?}"),
                Output::Dead(edge) => node.dead.push(edge),
                Output::Finished(edge) => {
                    node.finished.push(edge);
                    let ends = |link: &Link| link.ends.contains(&(id, edge));
                    // Closed gracefully: what was sent still arrives at the other end.
                    if let Some(index) = self.links.iter().position(ends) {
                        self.close(index);
                    }
                }
                Output::Overflow if self.rng.random() => node.relay.pass_on_held(),
                // An answer that takes its time, or never comes.
                Output::Overflow => node.relay.await_answer(self.now + Duration::from_millis(50)),
                Output::Settled => node.missed = self.published.keys().copied().collect(),
                Output::PeerEpoch { .. } | Output::RoundTrip { .. } | Output::Slow => {}
            }
        }
    }

    fn close(&mut self, index: usize) {
        let now = self.now;
        let mut link = self.links.remove(index);
        for side in 0..2 {
            let (to, edge) = link.ends[1 - side];
            for frame in link.data[side].drain(..) {
                let payload = frame.sealed();
                self.node(to).relay.on_frame(edge, frame, payload, now);
            }
        }
        for (node, edge) in link.ends {
            self.node(node).relay.edge_down(edge, now);
        }
        for (node, _) in link.ends {
            self.drain(node);
        }
    }

    /// Everything that was published came, in order, at all of `members`, and nothing is kept.
    pub(super) fn assert_complete(&mut self, members: &[u64]) {
        for id in members {
            assert!(self.node(*id).waiting.is_empty(), "node {id} still has something to send");
            assert_eq!(self.node(*id).lost, [], "node {id} lost something");
            let me = self.node(*id).member;
            let mut owed: BTreeMap<MemberId, Vec<SeqNo>> = BTreeMap::new();
            let mut alone = owed.clone();
            for (source, seq) in self.published.keys().filter(|(source, _)| *source != me) {
                match self.alone.get(&(*source, *seq)) {
                    None => owed.entry(*source).or_default().push(*seq),
                    Some(to) if *to == me => alone.entry(*source).or_default().push(*seq),
                    Some(_) => {}
                }
            }
            assert_eq!(self.node(*id).got, owed, "node {id} got everything once and in order");
            assert_eq!(self.node(*id).got_alone, alone, "node {id} got all that was for it alone");
        }
        self.assert_empty();
    }

    /// Nobody keeps anything, and sources know that everything has come.
    pub(super) fn assert_empty(&mut self) {
        for (id, node) in &self.nodes {
            let stats = node.relay.stats();
            assert_eq!(stats.store_bytes, 0, "node {id} still stores frames");
            assert_eq!(stats.undelivered_bytes, 0, "node {id} still has undelivered payload");
            assert_eq!(stats.assembly_bytes, 0, "node {id} still assembles");
            assert_eq!(stats.queue_bytes, 0, "node {id} still has something queued");
            let live = (stats.live_queue_bytes, stats.live_undelivered_bytes);
            assert_eq!(live, (0, 0), "node {id} still has live data");
            let mine = self.published.keys().filter(|(source, _)| *source == node.member);
            let (mut last, mut alone) = (SeqNo(0), BTreeMap::new());
            for key in mine {
                match self.alone.get(key) {
                    None => last = key.1,
                    Some(to) => drop(alone.insert(*to, key.1)),
                }
            }
            assert_eq!(node.receipt, last, "receipts of {id}");
            let missed = |to: &MemberId| node.missed_alone.iter().any(|(by, ..)| by == to);
            alone.retain(|to, _| !missed(to));
            let mut told = node.receipts_alone.clone();
            told.retain(|to, _| !missed(to));
            assert_eq!(told, alone, "receipts of {id} for what was for one alone");
        }
    }
}

/// Seeds to try: `n`, or as many times more as `ARBORCAST_SEEDS` says.
pub(super) fn seeds(n: u64) -> std::ops::Range<u64> {
    let times = std::env::var("ARBORCAST_SEEDS").ok().and_then(|times| times.parse().ok());
    0..n * times.unwrap_or(1)
}

/// A random tree over the members 0 to n - 1.
pub(super) fn random_tree(rng: &mut ChaCha8Rng, n: u64) -> Vec<(u64, u64)> {
    (1..n).map(|node| (rng.random_range(0..node), node)).collect()
}
