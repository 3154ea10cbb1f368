//! Random operations never panic, and what must always hold does.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Join { n: u64, run: u64, fanout: u16 },
    Leave { n: u64 },
    Renew { n: u64, settled: bool },
    Full { n: u64, peers: Vec<u64>, relayed: bool },
    Change { n: u64, up: Vec<u64>, down: Vec<u64> },
    Quality { n: u64, peer: u64, delay_us: u32, loss_ppm: u32 },
    Query { n: u64, scope: Scope },
    Subscribe { n: u64, scope: Scope },
    Noted { n: u64 },
    NoticeFailed { n: u64 },
    Disconnected { n: u64 },
    Wait { ms: u64 },
}

const COUNT: u64 = 8;

fn operation() -> impl Strategy<Value = Operation> {
    let n = || 1..=COUNT;
    let scope = || prop_oneof![Just(Scope::Tree), Just(Scope::Neighbours)];
    let peers = || prop::collection::vec(1..=COUNT + 2, 0..5);
    prop_oneof![
        4 => (n(), 0_u64..2, 1_u16..4).prop_map(|(n, run, fanout)| Operation::Join { n, run, fanout }),
        1 => n().prop_map(|n| Operation::Leave { n }),
        3 => (n(), any::<bool>()).prop_map(|(n, settled)| Operation::Renew { n, settled }),
        4 => (n(), peers(), prop::bool::weighted(0.2))
            .prop_map(|(n, peers, relayed)| Operation::Full { n, peers, relayed }),
        5 => (n(), peers(), peers()).prop_map(|(n, up, down)| Operation::Change { n, up, down }),
        5 => (n(), n(), prop_oneof![0..100_000_u32, any::<u32>()], prop_oneof![0..90_000_u32, any::<u32>()])
            .prop_map(|(n, peer, delay_us, loss_ppm)| Operation::Quality { n, peer, delay_us, loss_ppm }),
        1 => (n(), scope()).prop_map(|(n, scope)| Operation::Query { n, scope }),
        2 => (n(), scope()).prop_map(|(n, scope)| Operation::Subscribe { n, scope }),
        1 => n().prop_map(|n| Operation::Noted { n }),
        1 => n().prop_map(|n| Operation::NoticeFailed { n }),
        1 => n().prop_map(|n| Operation::Disconnected { n }),
        6 => prop_oneof![0_u64..60, 0_u64..600, 0_u64..9_000].prop_map(|ms| Operation::Wait { ms }),
    ]
}

/// Runs of a member in a world: the run of member n is numbered n or 50 + n.
struct Check {
    world: World,
    runs: BTreeMap<u64, u64>,
    epoch: Epoch,
    published_ms: Option<u64>,
    told: BTreeMap<u64, Neighbours>,
}

impl Check {
    fn run_of(&self, n: u64) -> Incarnation {
        incarnation(self.runs.get(&n).copied().unwrap_or(n))
    }

    fn report(&self, n: u64) -> Report {
        Report { incarnation: self.run_of(n), ..no_report(n) }
    }

    fn apply(&mut self, operation: Operation) {
        let request = self.world.request();
        let report = |body: Report, n: u64| Input::Report { from: member(n), request, body };
        let path = |body, n: u64| Input::Path { from: member(n), request, body };
        let input = match operation {
            Operation::Join { n, run, fanout } => {
                let run = n + 50 * run;
                let join = Join { fanout, ..self.world.join_request(n, run) };
                self.runs.insert(n, run);
                Input::Session { from: member(n), request, body: Request::Join(Box::new(join)) }
            }
            Operation::Leave { n } => {
                let body = Request::Leave { session: session(), incarnation: self.run_of(n) };
                Input::Session { from: member(n), request, body }
            }
            Operation::Renew { n, settled } => {
                let (session, incarnation) = (session(), self.run_of(n));
                let body = Request::Renew {
                    session,
                    incarnation,
                    addresses: vec![],
                    settled,
                    push_key: 0,
                };
                Input::Session { from: member(n), request, body }
            }
            Operation::Full { n, peers, relayed } => {
                let kind = if relayed { ChannelKind::Relayed } else { ChannelKind::Direct };
                let adjacency = Some(Adjacency::Full(channels(&peers, kind)));
                report(Report { adjacency, ..self.report(n) }, n)
            }
            Operation::Change { n, up, down } => {
                let up = channels(&up, ChannelKind::Direct);
                let down = down.into_iter().map(member).collect();
                let adjacency = Some(Adjacency::Change { up, down });
                report(Report { adjacency, ..self.report(n) }, n)
            }
            Operation::Quality { n, peer, delay_us, loss_ppm } => {
                let qos = Qos { delay_us, loss_ppm, ..Qos::default() };
                let qos = vec![ChannelQos { peer: member(peer), qos }];
                report(Report { qos, ..self.report(n) }, n)
            }
            Operation::Query { n, scope } => {
                path(path::Request::Query { session: session(), scope }, n)
            }
            Operation::Subscribe { n, scope } => {
                path(path::Request::Subscribe { session: session(), scope }, n)
            }
            Operation::Noted { n } => Input::Noted { from: member(n), session: session() },
            Operation::NoticeFailed { n } => {
                Input::NoticeFailed { to: member(n), session: session() }
            }
            Operation::Disconnected { n } => Input::Disconnected { peer: member(n) },
            Operation::Wait { ms } => return self.wait(ms),
        };
        let is_request =
            matches!(input, Input::Session { .. } | Input::Report { .. } | Input::Path { .. });
        let outputs = self.world.handle(input);
        let answers = self.look_at(&outputs, request);
        assert_eq!(answers, usize::from(is_request), "one answer for each request");
    }

    fn wait(&mut self, ms: u64) {
        let end = self.world.now_ms + ms;
        let start = self.world.start;
        while let Some(due) = self.world.engine.poll_timeout() {
            let due = u64::try_from((due - start).as_millis()).unwrap();
            if due > end {
                break;
            }
            self.world.now_ms = due;
            let outputs = self.world.handle(Input::Tick);
            assert_eq!(self.look_at(&outputs, RequestId(0)), 0);
        }
        self.world.now_ms = end;
    }

    /// Checks outputs; gives the number of answers among them.
    fn look_at(&mut self, outputs: &[Output], asked: RequestId) -> usize {
        let mut answers = 0;
        for output in outputs {
            match output {
                Output::SessionAnswer { request, .. } | Output::ReportAnswer { request, .. } => {
                    assert_eq!(*request, asked);
                    answers += 1;
                }
                Output::PathAnswer { to, request, answer } => {
                    assert_eq!(*request, asked);
                    answers += 1;
                    if let Ok(State::Neighbours(own)) = answer {
                        self.told.insert(self.world.name(*to), (**own).clone());
                    }
                }
                Output::Compute { .. }
                | Output::Opened { .. }
                | Output::Closed { .. }
                | Output::Membership { .. } => {}
                Output::Publish { update, .. } => {
                    let epoch = update.header.header.epoch;
                    assert!(epoch > self.epoch, "epochs rise");
                    self.epoch = epoch;
                    let is_first = matches!(update.body, Body::Full(_));
                    assert!(
                        is_first || self.published_ms.is_none_or(|at| at + 50 <= self.world.now_ms),
                        "epochs are apart"
                    );
                    self.published_ms = Some(self.world.now_ms);
                }
                Output::Notify { to, notice } => {
                    if let News::Neighbours(own) = &notice.news {
                        self.told.insert(self.world.name(*to), (**own).clone());
                    }
                }
            }
        }
        self.check_tree();
        answers
    }

    fn check_tree(&mut self) {
        let state = self.world.engine.sessions.get(&session());
        self.told.retain(|n, _| state.is_some_and(|state| state.follows_neighbours(member(*n))));
        let Some((epoch, tree)) = self.world.engine.tree(session()) else { return };
        assert_eq!(epoch, self.epoch);
        assert!(tree.edges().len() < tree.members().len());
        for (n, told) in &self.told {
            let next: Vec<MemberId> = tree.neighbours(member(*n)).collect();
            let known: Vec<MemberId> = told.neighbours.iter().map(|own| own.id).collect();
            assert_eq!(known, next, "followers know their newest neighbours");
            if tree.member(member(*n)).is_some() {
                assert_eq!(told.roster_hash, tree.roster_hash(member(*n)));
            }
        }
    }

    /// When all has settled down, the tree spans what is connected, over reported channels alone.
    fn check_end(&mut self) {
        self.wait(700);
        let Some((_, tree)) = self.world.engine.tree(session()) else { return };
        let state = self.world.engine.sessions.get(&session()).unwrap();
        let channels = state.channels();
        assert!(tree.edges().all(|edge| channels.contains(&edge)), "only known channels");
        for edge in channels {
            let (a, b) = edge.ends();
            let parts = tree.components();
            let part = |id| parts.iter().position(|part| part.contains(&id));
            assert!(part(a).is_some() && part(a) == part(b), "{edge:?} is spanned");
        }
        let count = self.world.engine.member_count(session());
        assert_eq!(self.world.engine.stats().members, count as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_thousand_random_operations(operations in prop::collection::vec(operation(), 1..1_000)) {
        let mut check = Check {
            world: World::new(),
            runs: BTreeMap::new(),
            epoch: Epoch::default(),
            published_ms: None,
            told: BTreeMap::new(),
        };
        for operation in operations {
            check.apply(operation);
        }
        check.check_end();
    }

    #[test]
    fn the_order_of_reports_does_not_matter(
        links in prop::collection::btree_set((1..=COUNT, 1..=COUNT), 0..20),
        order in Just((1..=COUNT).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let links: Vec<(u64, u64)> = links.into_iter().filter(|(a, b)| a < b).collect();
        let tree = |order: &[u64]| {
            // Nothing is computed before all is reported: no tree in force tips the scales.
            let spacing = Config { epoch_spacing_ms: 100_000, repair_spacing_ms: 1_000, ..at_once() };
            let mut world = World::with(spacing);
            (1..=COUNT).for_each(|n| {
                world.join(n);
            });
            for n in order {
                let peers: Vec<u64> = links
                    .iter()
                    .filter_map(|(a, b)| match (*a == *n, *b == *n) {
                        (true, _) => Some(*b),
                        (_, true) => Some(*a),
                        (false, false) => None,
                    })
                    .collect();
                let qos = peers
                    .iter()
                    .map(|peer| {
                        let delay = Duration::from_millis((peer * n) % 7);
                        ChannelQos { peer: member(*peer), qos: Qos::with_delay(delay) }
                    })
                    .collect();
                let adjacency = Some(full(&peers));
                world.send_report(*n, Report { adjacency, qos, ..no_report(*n) }).0.unwrap();
            }
            world.until(3_000);
            world.tree().1
        };
        let sorted: Vec<u64> = (1..=COUNT).collect();
        prop_assert_eq!(tree(&order), tree(&sorted));
    }
}
