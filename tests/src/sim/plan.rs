//! Whole worlds from a seed: calm ones, and ones in which everything fails now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arborcast::engine::NextHops;
use arborcast_protocol::{history::History, id::Class, path::Scope};
use rand::{Rng, RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{
    graph::{self, Shape},
    setup::{Act, Gossip, Member, Setup},
};

/// Most tree neighbours of a member in planned worlds. The backbone of every shape but the star
/// needs at most four.
const FANOUT: u16 = 8;

/// Bytes of a store, as coordinators set them.
const STORE_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of history, as members keep them by default.
const HISTORY_BYTES: u64 = 4 * 1024 * 1024;

/// A world in which nothing fails: all are there from the start, none leaves, no delay changes.
/// Nobody publishes yet.
#[must_use]
pub fn calm(seed: u64, shape: Shape, nodes: usize) -> Setup {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pairs = shape.pairs(nodes, &mut rng);
    let links = pairs
        .into_iter()
        .map(|(a, b)| graph::Link { jitter: Duration::ZERO, ..graph::draw(a, b, true, &mut rng) })
        .collect();
    let fanout = if shape == Shape::Star { 64 } else { FANOUT };
    let script = (0..nodes).map(|node| (Duration::from_millis(200), Act::Start(node))).collect();
    Setup {
        seed,
        links,
        members: vec![Member::staying(fanout); nodes],
        script,
        gossip: Gossip { lost: 0, doubled: 0, delay: Duration::from_millis(100) },
        wire: true,
        verify: true,
        genuine: false,
        acquainted: true,
        calm: true,
        rest: Duration::from_secs(20),
        alone: false,
        open: false,
        thorough: false,
        lateness: Duration::ZERO,
        store_bytes: STORE_BYTES,
        slow_ms: 2_000,
        compute_apart: 256,
        history: History::None,
        history_bytes: HISTORY_BYTES,
        poll: Duration::from_secs(30),
        sabotage: None,
        #[cfg(feature = "sabotage")]
        bug: None,
    }
}

/// How many nodes the world of a seed has, from 5 to 60. Small worlds are many: they show most of what
/// there is to be seen, and cost little.
#[must_use]
pub fn size(seed: u64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(!seed);
    (0..3).map(|_| rng.random_range(5..=60)).min().unwrap_or(5)
}

/// A world of about `nodes` nodes in which about a third come and go, links break and change, the
/// ways to the coordinator are cut, and in some the coordinator itself restarts.
#[must_use]
pub fn churn(seed: u64, nodes: usize) -> Setup {
    // Not the generator of the world itself, or plan and course would be correlated.
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
    let rng = &mut rng;
    let staying = (nodes * 2 / 3).max(2);
    let rest = Duration::from_secs(40);
    let shape = match rng.random_range(0..8) {
        0 => Shape::Cliques(5),
        1 => Shape::Grid,
        2 if staying <= 20 => Shape::Line,
        3 if staying <= 20 => Shape::Full,
        4 => Shape::Random(2),
        _ => Shape::Random(5),
    };
    let mut pairs: BTreeMap<(usize, usize), bool> =
        shape.pairs(staying, rng).into_iter().map(|pair| (pair, true)).collect();
    for node in staying..nodes {
        // One with somebody who stays, so that all are connected when nothing fails any more.
        pairs.entry((rng.random_range(0..staying), node)).or_insert(false);
        for _ in 0..rng.random_range(1..=3) {
            pairs.entry((rng.random_range(0..node), node)).or_insert(false);
        }
    }
    if shape == Shape::Full {
        for pair in shape.pairs(nodes, rng) {
            pairs.entry(pair).or_insert(false);
        }
    }
    for _ in 0..staying {
        let (a, b) = (rng.random_range(0..staying), rng.random_range(0..staying));
        if a != b {
            pairs.entry((a.min(b), a.max(b))).or_insert(false);
        }
    }
    let links: Vec<graph::Link> =
        pairs.into_iter().map(|((a, b), backbone)| graph::draw(a, b, backbone, rng)).collect();
    let neighbours = rng.random_bool(0.3);
    let members = (0..nodes)
        .map(|node| Member {
            scope: if neighbours && rng.random_bool(0.25) {
                Scope::Neighbours
            } else {
                Scope::Tree
            },
            stays: node < staying,
            slow: rng.random_ratio(1, 50).then_some(Duration::from_millis(20)),
            ..Member::staying(FANOUT)
        })
        .collect();
    let mut setup = Setup {
        links,
        members,
        script: Vec::new(),
        gossip: Gossip { lost: *[0, 100, 500].choose(rng).unwrap_or(&100), ..Gossip::default() },
        wire: rng.random_bool(0.3),
        verify: rng.random_bool(0.05),
        genuine: seed % 100 == 99,
        acquainted: shape != Shape::Full || rng.random(),
        calm: false,
        rest,
        alone: true,
        open: rng.random_bool(0.2),
        lateness: Duration::from_millis(*[0, 5].choose(rng).unwrap_or(&0)),
        store_bytes: if rng.random_ratio(1, 4) { 1024 * 1024 } else { STORE_BYTES },
        ..calm(seed, Shape::Line, 0)
    };
    setup.coming_and_going(staying, rng);
    setup.faults(staying, rng);
    setup.traffic(rng);
    // All this from a generator of its own: the worlds of before stay what they were.
    let rng = &mut ChaCha8Rng::seed_from_u64(seed ^ 0x5851_f42d_4c95_7f2d);
    setup.stand_stills(staying, rng);
    setup.live(rng);
    setup.compute_apart = if rng.random_ratio(1, 4) { 0 } else { setup.compute_apart };
    setup.intruders(rng);
    setup.history =
        *[History::None, History::from(3), History::All].choose(rng).unwrap_or(&setup.history);
    setup.history_bytes = *[HISTORY_BYTES, 20_000, 0].choose(rng).unwrap_or(&HISTORY_BYTES);
    setup
}

impl Setup {
    /// The same world with members that learn their next hops in these manners, by turns.
    #[must_use]
    pub fn in_manners(mut self, manners: &[NextHops]) -> Self {
        for (member, manner) in self.members.iter_mut().zip(manners.iter().cycle()) {
            member.next_hops = *manner;
        }
        self
    }

    /// When something is to happen at the latest, so that it is over when the world comes to rest.
    fn moment(&self, from: u64, rng: &mut impl Rng) -> Duration {
        let last = u64::try_from(self.rest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.random_range(from.min(last - 1)..last))
    }

    /// How long something lasts that begins at `at`: up to `most_ms`, and over when the world comes to rest.
    fn time_from(&self, at: Duration, most_ms: u64, rng: &mut impl Rng) -> Duration {
        let time = Duration::from_millis(rng.random_range(100..most_ms));
        time.min(self.rest.saturating_sub(at))
    }

    fn coming_and_going(&mut self, staying: usize, rng: &mut impl Rng) {
        for node in 0..staying {
            let at = Duration::from_millis(rng.random_range(0..5_000));
            self.script.push((at, Act::Start(node)));
        }
        for node in staying..self.members.len() {
            let mut at = Duration::from_millis(rng.random_range(0..25_000));
            self.script.push((at, Act::Start(node)));
            while rng.random_ratio(9, 10) {
                at += Duration::from_millis(rng.random_range(500..20_000));
                let end = if rng.random() { Act::Kill(node) } else { Act::Leave(node) };
                if at >= self.rest {
                    break;
                }
                self.script.push((at, end));
                if rng.random() {
                    break;
                }
                at += Duration::from_millis(rng.random_range(50..10_000));
                if at < self.rest {
                    self.script.push((at, Act::Start(node)));
                }
            }
        }
    }

    fn faults(&mut self, staying: usize, rng: &mut impl Rng) {
        let nodes = self.members.len();
        for _ in 0..nodes / 4 {
            let link = rng.random_range(0..self.links.len());
            let at = self.moment(1_000, rng);
            let time = Duration::from_millis(rng.random_range(50..10_000))
                .min(self.rest.saturating_sub(at));
            if self.links.get(link).is_some_and(|link| !link.backbone) {
                self.script.push((at, Act::Break(link, time)));
            }
        }
        for _ in 0..nodes / 4 {
            let link = rng.random_range(0..self.links.len());
            let at = self.moment(1_000, rng);
            let delay = Duration::from_micros(rng.random_range(1_000..200_000));
            self.script.push((at, Act::Delay(link, delay)));
        }
        for _ in 0..nodes / 20 {
            let node = rng.random_range(0..nodes);
            let at = self.moment(1_000, rng);
            // A member that stays must not lose its lease of 15 s, of which 5 s may be over.
            let most = if node < staying { 5_000 } else { 20_000 };
            let time = Duration::from_millis(rng.random_range(100..most))
                .min(self.rest.saturating_sub(at));
            self.script.push((at, Act::Cut(node, time)));
        }
        while rng.random_ratio(1, 6) {
            let at = self.moment(5_000, rng);
            let time = Duration::from_millis(rng.random_range(100..5_000))
                .min(self.rest.saturating_sub(at));
            self.script.push((at, Act::Restart(time)));
        }
    }

    /// Paths go dead without a word; the coordinator, members and applications stand still for a time.
    fn stand_stills(&mut self, staying: usize, rng: &mut impl Rng) {
        let nodes = self.members.len();
        for _ in 0..nodes / 6 {
            let link = rng.random_range(0..self.links.len());
            if self.links.get(link).is_some_and(|link| !link.backbone) {
                let at = self.moment(1_000, rng);
                self.script.push((at, Act::Dead(link)));
            }
        }
        if rng.random_ratio(1, 4) {
            let at = self.moment(1_000, rng);
            let most = *[3_000, 40_000].choose(rng).unwrap_or(&3_000);
            let time = self.time_from(at, most, rng);
            self.script.push((at, Act::Pause(time)));
        }
        // Some worlds are under pressure, so that those who stand still keep others waiting.
        let is_pressed = rng.random_ratio(1, 10);
        if is_pressed {
            self.press(staying, rng);
        }
        if is_pressed || rng.random_ratio(1, 4) {
            for _ in 0..rng.random_range(1..=2) {
                let node = rng.random_range(0..nodes);
                let at = self.moment(6_000, rng);
                let time = self.time_from(at, 25_000, rng);
                let act =
                    if rng.random() { Act::Sleep(node, time) } else { Act::Stall(node, time) };
                self.script.push((at, act));
            }
        }
    }

    /// One member sends more for some seconds than stores hold.
    fn press(&mut self, staying: usize, rng: &mut impl Rng) {
        self.store_bytes = 1024 * 1024;
        for link in &mut self.links {
            link.rate = 12_500_000;
        }
        let node = rng.random_range(0..staying);
        let from_ms = rng.random_range(6_000..20_000);
        for tenth in 0..80_u64 {
            let at = Duration::from_millis(from_ms + tenth * 100);
            let class = Class::Reliable;
            self.script.push((at, Act::Publish { node, count: 1, bytes: 60_000, class }));
        }
    }

    /// Some members of some worlds send live messages beside the others.
    fn live(&mut self, rng: &mut impl Rng) {
        if !rng.random_ratio(1, 4) {
            return;
        }
        for _ in 0..rng.random_range(1..=3) {
            let node = rng.random_range(0..self.members.len());
            let from = self.moment(5_000, rng);
            for nth in 0..rng.random_range(5..60_u32) {
                let at = from + Duration::from_millis(100) * nth;
                let bytes = rng.random_range(20..2_000);
                if at < self.rest {
                    let class = Class::Live;
                    self.script.push((at, Act::Publish { node, count: 1, bytes, class }));
                }
            }
        }
    }

    /// Each member publishes a few bursts of small messages, a few publish large ones.
    fn traffic(&mut self, rng: &mut impl Rng) {
        for node in 0..self.members.len() {
            for _ in 0..rng.random_range(1..=3) {
                let at = self.moment(1_000, rng);
                let (count, bytes) = if rng.random_ratio(1, 40) {
                    (1, rng.random_range(70_000..300_000))
                } else {
                    (rng.random_range(1..=4), rng.random_range(1..600))
                };
                let class = Class::Reliable;
                self.script.push((at, Act::Publish { node, count, bytes, class }));
            }
        }
    }

    /// Some worlds have one who was not invited.
    fn intruders(&mut self, rng: &mut impl Rng) {
        if !rng.random_ratio(1, 5) || self.open {
            return;
        }
        let node = self.members.len();
        let peers: BTreeSet<usize> = (0..4).map(|_| rng.random_range(0..node)).collect();
        self.links.extend(peers.into_iter().map(|peer| graph::draw(peer, node, false, rng)));
        self.members.push(Member { invited: false, stays: false, ..Member::staying(FANOUT) });
        self.script.push((self.moment(1_000, rng), Act::Start(node)));
    }
}
