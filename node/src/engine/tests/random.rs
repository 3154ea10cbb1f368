//! Whatever comes in, in whatever order: no panic, no spinning, epochs that only rise, and the same
//! outputs for the same inputs.

use arborcast_protocol::{
    notice::{News, Notice},
    session::Granted,
};
use proptest::prelude::*;

use super::*;
use crate::engine::event::{Echoed, Spread};

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Session(usize, u8),
    Report(usize, u8),
    Path(usize, u8, u32),
    Push(u32, u8),
    Notice(u32, u8),
    Coordinator(bool),
    Addresses(u8),
    ChannelUp(usize, bool),
    ChannelDown(usize),
    DialFailed(usize),
    Probed(usize, u64, Option<u16>),
    EdgeUp(usize, u32),
    EdgeFailed(usize),
    EdgeDown(u64),
    Summary(u64),
    Heartbeat(u64, u32),
    Fin(u64),
    BadFrame(u64),
    Pull(u64),
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0_usize..21;
    let counter = || 0_u32..12;
    let edge = || 0_u64..12;
    prop_oneof![
        4 => (0_u64..400).prop_map(Step::Wait),
        1 => (0_u64..60_000).prop_map(Step::Wait),
        6 => (0_usize..3, 0_u8..8).prop_map(|(n, what)| Step::Session(n, what)),
        3 => (0_usize..3, 0_u8..5).prop_map(|(n, what)| Step::Report(n, what)),
        3 => (0_usize..3, 0_u8..8, counter()).prop_map(|(n, what, c)| Step::Path(n, what, c)),
        3 => (counter(), 0_u8..5).prop_map(|(c, what)| Step::Push(c, what)),
        1 => (counter(), 0_u8..12).prop_map(|(c, what)| Step::Notice(c, what)),
        2 => prop::bool::weighted(0.8).prop_map(Step::Coordinator),
        1 => (0_u8..3).prop_map(Step::Addresses),
        3 => (peer(), any::<bool>()).prop_map(|(p, direct)| Step::ChannelUp(p, direct)),
        1 => peer().prop_map(Step::ChannelDown),
        1 => peer().prop_map(Step::DialFailed),
        2 => (peer(), 0_u64..30, any::<Option<u16>>())
            .prop_map(|(p, serial, took)| Step::Probed(p, serial, took)),
        3 => (peer(), counter()).prop_map(|(p, c)| Step::EdgeUp(p, c)),
        1 => peer().prop_map(Step::EdgeFailed),
        1 => edge().prop_map(Step::EdgeDown),
        2 => edge().prop_map(Step::Summary),
        2 => (edge(), counter()).prop_map(|(e, c)| Step::Heartbeat(e, c)),
        1 => edge().prop_map(Step::Fin),
        1 => edge().prop_map(Step::BadFrame),
        3 => edge().prop_map(Step::Pull),
    ]
}

/// A tree that differs from counter to counter.
fn some_tree(counter: u32) -> Tree {
    let peers: Vec<MemberId> =
        (0..21).filter(|n| *n != 10 && (counter >> (n % 4)) & 1 == 1).map(ordered).collect();
    star(&peers)
}

/// Requests that were not answered yet.
#[derive(Default)]
struct Open {
    session: Vec<RequestId>,
    report: Vec<RequestId>,
    path: Vec<RequestId>,
}

impl Open {
    fn note(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::SessionRequest { request, .. } => self.session.push(*request),
                Output::ReportRequest { request, .. } => self.report.push(*request),
                Output::PathRequest { request, .. } => self.path.push(*request),
                Output::Dial(_)
                | Output::Probe { .. }
                | Output::OpenEdge { .. }
                | Output::CloseEdge { .. }
                | Output::Event(_) => {}
            }
        }
    }
}

fn update(counter: u32, what: u8) -> Update {
    let tree = some_tree(counter);
    match what {
        0 => Update { header: signed(counter, &tree), body: Body::Fetch },
        1 => {
            let base = some_tree(counter.saturating_sub(1));
            let change = tree.change_from(&base, epoch(counter.saturating_sub(1)));
            Update { header: signed(counter, &tree), body: Body::Change(change) }
        }
        2 => Update { header: signed(counter, &some_tree(counter + 1)), ..full(counter, &tree) },
        _ => full(counter, &tree),
    }
}

fn neighbours(counter: u32) -> Neighbours {
    let tree = some_tree(counter);
    Neighbours {
        header: signed(counter, &tree),
        neighbours: tree.members().cloned().collect(),
        overlap: vec![],
        cyclic: vec![],
        roster_hash: tree.roster_hash(me()),
        roster_len: 3,
        roster_index: Some(counter),
    }
}

fn refusal(what: u8) -> Refusal {
    let code = match what {
        0 => Code::RATE_LIMITED,
        1 => Code::NOT_MEMBER,
        2 => Code::NO_TREE,
        _ => Code(99),
    };
    Refusal::new(code, "no")
}

fn input(step: &Step, open: &mut Open, edges: &mut u64) -> Option<Input> {
    let unanswered = || Unanswered("silence".to_owned());
    let take = |requests: &mut Vec<RequestId>, n: usize| {
        (!requests.is_empty()).then(|| requests.remove(n % requests.len()))
    };
    Some(match step {
        Step::Wait(_) | Step::Pull(_) => return None,
        Step::Session(n, what) => {
            let request = take(&mut open.session, *n)?;
            let renewed = Renewed {
                certificate: None,
                settled: true,
                candidates: vec![],
                now_s: 0,
                epoch: None,
                push_key: None,
                measure: Vec::new(),
            };
            let answer = match what {
                0 | 1 => Ok(Err(refusal(*what))),
                2 => Err(unanswered()),
                3 | 4 => Ok(Ok(challenge_granted())),
                5 | 6 => Ok(Ok(Granted::Joined(joined(*what == 5, vec![contact(high(3))])))),
                _ => Ok(Ok(Granted::Renewed(Box::new(renewed)))),
            };
            Input::SessionAnswer { request, answer }
        }
        Step::Report(n, what) => {
            let request = take(&mut open.report, *n)?;
            let answer = match what {
                0 | 1 => Ok(Err(refusal(*what))),
                2 => Err(unanswered()),
                _ => Ok(Ok(Accepted { candidates: vec![], report_full: *what == 3 })),
            };
            Input::ReportAnswer { request, answer }
        }
        Step::Path(n, what, counter) => {
            let request = take(&mut open.path, *n)?;
            let answer = match what {
                0..=2 => Ok(Err(refusal(*what))),
                3 => Err(unanswered()),
                4 => Ok(Ok(State::Neighbours(Box::new(neighbours(*counter))))),
                _ => Ok(Ok(State::Tree(Box::new(update(*counter, *what - 5))))),
            };
            Input::PathAnswer { request, answer }
        }
        Step::Push(counter, what) => Input::Pushed(Box::new(update(*counter, *what))),
        Step::Notice(counter, what) => {
            let news = match what {
                0 => News::Removed(refusal(9)),
                1..=4 => News::Candidates((0..21).map(|n| contact(ordered(n))).collect()),
                _ => News::Neighbours(Box::new(neighbours(*counter))),
            };
            Input::Notice(Box::new(Notice { session: session(), news }))
        }
        Step::Coordinator(true) => Input::CoordinatorUp,
        Step::Coordinator(false) => Input::CoordinatorDown,
        Step::Addresses(n) => Input::Addresses(vec![Address(vec![*n])]),
        Step::ChannelUp(peer, direct) => Input::ChannelUp {
            peer: ordered(*peer),
            kind: if *direct { ChannelKind::Direct } else { ChannelKind::Relayed },
            transport: Transport::Tcp,
        },
        Step::ChannelDown(peer) => Input::ChannelDown { peer: ordered(*peer) },
        Step::DialFailed(peer) => Input::DialFailed { peer: ordered(*peer) },
        Step::Probed(peer, serial, took) => Input::Probed {
            peer: ordered(*peer),
            serial: *serial,
            echo: took.map(|took| Echoed {
                round_trip: ms(took.into()),
                lag: ms((took / 2).into()),
                spread: (took % 3 == 0)
                    .then(|| Spread { bytes: took.into(), time: ms((took / 3).into()) }),
            }),
        },
        Step::EdgeUp(peer, counter) => {
            *edges += 1;
            Input::EdgeUp { edge: EdgeId(*edges), peer: ordered(*peer), epoch: epoch(*counter) }
        }
        Step::EdgeFailed(peer) => Input::EdgeFailed { peer: ordered(*peer) },
        Step::EdgeDown(n) => Input::EdgeDown { edge: EdgeId(edges.saturating_sub(*n)) },
        Step::Summary(n) => Input::EdgeMessage {
            edge: EdgeId(edges.saturating_sub(*n)),
            message: EdgeMessage::Summary(Summary::default()),
        },
        Step::Heartbeat(n, counter) => Input::EdgeMessage {
            edge: EdgeId(edges.saturating_sub(*n)),
            message: EdgeMessage::Heartbeat(Heartbeat {
                epoch: epoch(*counter),
                ..Heartbeat::default()
            }),
        },
        Step::Fin(n) => {
            Input::EdgeMessage { edge: EdgeId(edges.saturating_sub(*n)), message: EdgeMessage::Fin }
        }
        Step::BadFrame(n) => Input::BadFrame { edge: EdgeId(edges.saturating_sub(*n)) },
        Step::Leave => Input::Leave,
    })
}

/// Plays the steps on one engine and checks it after each.
fn play(steps: &[Step], manner: NextHops) -> Vec<Output> {
    let mut bench = Bench::with(Config { next_hops: manner, ..Config::default() });
    let (mut open, mut edges) = (Open::default(), 0_u64);
    let mut seen = Vec::new();
    let mut newest = Epoch::default();
    let begin = bench.now;
    for step in steps {
        let outputs = if let Step::Wait(time) = step {
            // Checks that the engine does not spin.
            bench.wait(ms(*time))
        } else if let Step::Pull(n) = step {
            bench.pull(EdgeId(edges.saturating_sub(*n)))
        } else {
            input(step, &mut open, &mut edges).map(|input| bench.give(input)).unwrap_or_default()
        };
        open.note(&outputs);
        let epoch = bench.engine.tree().map(|(epoch, _)| epoch).unwrap_or_default();
        assert!(epoch >= newest, "the epoch fell");
        newest = epoch;
        for output in &outputs {
            if let Output::Event(Event::Tree(tree)) = output {
                assert!(tree.epoch <= epoch);
            }
        }
        if bench.engine.phase() == Phase::Ended {
            assert_eq!(bench.engine.poll_timeout(), None);
        }
        seen.extend(outputs);
    }
    assert!(bench.now >= begin);
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_sequence_of_inputs_breaks_the_engine(
        steps in prop::collection::vec(step(), 0..200),
        leave in any::<bool>(),
        manner in prop::sample::select(&NextHops::ALL[..]),
    ) {
        let mut steps = steps;
        if leave {
            steps.push(Step::Leave);
            steps.push(Step::Wait(3000));
        }
        // Most sequences should get past the join.
        let mut begin =
            vec![Step::Coordinator(true), Step::Session(0, 3), Step::Session(0, 5)];
        begin.append(&mut steps);
        let seen = play(&begin, manner);
        prop_assert_eq!(&seen, &play(&begin, manner), "the same inputs gave other outputs");
        if leave {
            let ended = Output::Event(Event::Ended);
            prop_assert_eq!(seen.iter().filter(|output| **output == ended).count(), 1);
            prop_assert_eq!(seen.last(), Some(&ended));
        }
    }
}
