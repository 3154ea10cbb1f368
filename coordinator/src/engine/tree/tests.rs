#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use petgraph::unionfind::UnionFind;
use proptest::{prelude::*, strategy::Strategy as Draw};

use super::{Channel, Settings, Strategy, Tier, View, compute};

const SETTINGS: Settings =
    Settings { hysteresis_us: 2_000, hysteresis_percent: 20, steps: 1_000_000 };

fn channel(low: usize, high: usize, cost_ms: u64) -> Channel {
    Channel { low, high, tier: Tier::Good, cost_us: cost_ms * 1_000, noise_us: 0, in_force: None }
}

fn view(caps: Vec<u32>, mut channels: Vec<Channel>) -> View {
    channels.sort_by_key(|channel| (channel.low, channel.high));
    View { caps, channels }
}

fn edges(view: &View) -> Vec<(usize, usize)> {
    compute(Strategy::Spanning, view, &SETTINGS)
        .into_iter()
        .map(|position| (view.channels[position].low, view.channels[position].high))
        .collect()
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;
const F: usize = 5;

#[test]
fn r2_figure_2_of_the_patent() {
    let view = view(
        vec![8; 6],
        vec![
            channel(A, B, 10),
            channel(A, C, 10),
            channel(B, C, 40),
            channel(B, E, 10),
            channel(C, D, 10),
            channel(D, F, 10),
        ],
    );
    assert_eq!(edges(&view), [(A, B), (A, C), (B, E), (C, D), (D, F)]);
}

#[test]
fn no_members_one_member_and_no_channels_give_no_edges() {
    assert_eq!(edges(&view(vec![], vec![])), []);
    assert_eq!(edges(&view(vec![1], vec![])), []);
    assert_eq!(edges(&view(vec![1, 1], vec![])), []);
    assert_eq!(edges(&view(vec![1, 1], vec![channel(A, B, 1)])), [(A, B)]);
}

#[test]
fn r3_an_edge_in_force_stays_unless_the_gain_is_worth_it() {
    let with = |in_force_ms, other_ms| {
        let mut old = channel(A, B, in_force_ms);
        old.in_force = Some(Tier::Good);
        view(vec![8; 3], vec![old, channel(A, C, 1), channel(B, C, other_ms)])
    };
    // 20 % of 50 ms are 10 ms; a gain of just that is not enough.
    assert_eq!(edges(&with(50, 40)), [(A, B), (A, C)]);
    assert_eq!(edges(&with(50, 39)), [(A, C), (B, C)]);
    // For short ones 2 ms are the threshold.
    assert_eq!(edges(&with(5, 3)), [(A, B), (A, C)]);
    assert_eq!(edges(&with(5, 2)), [(A, C), (B, C)]);
}

#[test]
fn r3_an_edge_that_has_become_poor_gives_way_at_any_cost() {
    let mut old = channel(A, B, 10);
    old.in_force = Some(Tier::Good);
    old.tier = Tier::Poor;
    let view = view(vec![8; 3], vec![old, channel(A, C, 10), channel(B, C, 900)]);
    assert_eq!(edges(&view), [(A, C), (B, C)]);
}

#[test]
fn ties_fall_to_the_lower_ids() {
    let view = view(
        vec![8; 4],
        vec![
            channel(A, B, 5),
            channel(A, C, 5),
            channel(A, D, 5),
            channel(B, C, 5),
            channel(C, D, 5),
        ],
    );
    assert_eq!(edges(&view), [(A, B), (A, C), (A, D)]);
}

#[test]
fn a_full_relay_hands_members_on() {
    // A star around A is cheapest, but A takes two neighbours at most.
    let mut channels: Vec<Channel> = (1..6).map(|end| channel(A, end, end as u64)).collect();
    channels.extend([channel(B, C, 10), channel(C, D, 20), channel(D, E, 10), channel(E, F, 10)]);
    let edges = edges(&view(vec![2; 6], channels));
    assert_eq!(edges, [(A, B), (A, D), (B, C), (D, E), (E, F)]);
}

#[test]
fn a_cap_gives_way_where_the_tree_would_fall_apart() {
    let star: Vec<Channel> = (1..6).map(|end| channel(A, end, 1)).collect();
    assert_eq!(edges(&view(vec![2; 6], star)).len(), 5);
    // Nobody but two members can be leaves of the same path.
    let all = (0..5).flat_map(|a| (a + 1..5).map(move |b| channel(a, b, 1))).collect();
    assert_eq!(edges(&view(vec![1; 5], all)).len(), 4);
}

#[test]
fn with_caps_in_the_way_the_tree_in_force_stays_as_far_as_it_is_good() {
    let all = |cost: &dyn Fn(usize, usize) -> u64| -> Vec<Channel> {
        (0..8)
            .flat_map(|a| (a + 1..8).map(move |b| (a, b)))
            .map(|(a, b)| channel(a, b, cost(a, b)))
            .collect()
    };
    let mut view = view(vec![2; 8], all(&|a, b| 20 + ((a * 7 + b * 13) % 11) as u64));
    let first = compute(Strategy::Spanning, &view, &SETTINGS);
    for position in &first {
        view.channels[*position].in_force = Some(Tier::Good);
    }
    // Noise of a millisecond on every channel moves nothing.
    for (position, channel) in view.channels.iter_mut().enumerate() {
        channel.cost_us += (position as u64 % 3) * 500;
    }
    assert_eq!(compute(Strategy::Spanning, &view, &SETTINGS), first);
}

#[test]
fn a_line_of_a_thousand_members_is_no_trouble() {
    let channels: Vec<Channel> = (0..999).map(|a| channel(a, a + 1, 1)).collect();
    assert_eq!(edges(&view(vec![1; 1000], channels)).len(), 999);
}

/// Number of parts that the members are in.
fn parts(view: &View, positions: impl IntoIterator<Item = usize>) -> usize {
    let mut sets = UnionFind::<usize>::new(view.caps.len());
    let joined = positions
        .into_iter()
        .filter(|position| {
            let channel = view.channels[*position];
            sets.union(channel.low, channel.high)
        })
        .count();
    view.caps.len() - joined
}

fn up_to(view: &View, tier: Tier) -> impl Iterator<Item = usize> + '_ {
    (0..view.channels.len()).filter(move |position| view.channels[*position].tier <= tier)
}

fn excess(view: &View, edges: &[usize]) -> u32 {
    let degree = |member| {
        let at = |position: &&usize| {
            let channel = view.channels[**position];
            channel.low == member || channel.high == member
        };
        u32::try_from(edges.iter().filter(at).count()).unwrap()
    };
    view.caps.iter().enumerate().map(|(member, cap)| degree(member).saturating_sub(*cap)).sum()
}

/// The least excess of all forests that span and have as few poor and relayed edges as can be, by
/// looking at each of them.
fn least_excess(view: &View) -> u32 {
    let count = view.caps.len() - parts(view, 0..view.channels.len());
    let mut least = u32::MAX;
    let mut chosen = Vec::new();
    each_forest(view, 0, count, &mut chosen, &mut |forest| {
        let spans = Tier::ALL.iter().all(|tier| {
            let own = forest.iter().copied().filter(|p| view.channels[*p].tier <= *tier);
            parts(view, own) == parts(view, up_to(view, *tier))
        });
        if spans {
            least = least.min(excess(view, forest));
        }
    });
    least
}

fn each_forest(
    view: &View,
    at: usize,
    count: usize,
    chosen: &mut Vec<usize>,
    found: &mut impl FnMut(&[usize]),
) {
    if chosen.len() == count {
        found(chosen);
        return;
    }
    if at == view.channels.len() {
        return;
    }
    chosen.push(at);
    if parts(view, chosen.iter().copied()) == view.caps.len() - chosen.len() {
        each_forest(view, at + 1, count, chosen, found);
    }
    chosen.pop();
    each_forest(view, at + 1, count, chosen, found);
}

fn tier() -> impl Draw<Value = Tier> {
    prop_oneof![
        6 => Just(Tier::Good),
        2 => Just(Tier::Poor),
        2 => Just(Tier::Relayed),
        1 => Just(Tier::OneSided),
        1 => Just(Tier::HeldDown),
    ]
}

fn views(members: usize) -> impl Draw<Value = View> {
    (1..=members)
        .prop_flat_map(|members| {
            let pairs = members * (members - 1) / 2;
            let channel = (any::<bool>(), tier(), 0_u64..60, proptest::option::of(tier()));
            (
                prop::collection::vec(1_u32..4, members),
                prop::collection::vec(channel, pairs..=pairs),
            )
        })
        .prop_map(|(caps, drawn)| {
            let pairs = (0..caps.len()).flat_map(|a| (a + 1..caps.len()).map(move |b| (a, b)));
            let channels = pairs
                .zip(drawn)
                .filter(|(_, (is_there, ..))| *is_there)
                .map(|((low, high), (_, tier, cost_ms, in_force))| Channel {
                    low,
                    high,
                    tier,
                    cost_us: cost_ms * 1_000,
                    noise_us: 0,
                    in_force,
                })
                .collect();
            View { caps, channels }
        })
}

fn check_forest(view: &View, edges: &[usize]) {
    assert!(edges.is_sorted_by(|a, b| a < b));
    assert!(edges.iter().all(|position| *position < view.channels.len()));
    assert_eq!(parts(view, edges.iter().copied()), view.caps.len() - edges.len(), "acyclic");
    for tier in Tier::ALL {
        let own = edges.iter().copied().filter(|p| view.channels[*p].tier <= tier);
        assert_eq!(parts(view, own), parts(view, up_to(view, tier)), "spans with {tier:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acyclic_spanning_and_no_worse_tier_than_needed(view in views(24)) {
        check_forest(&view, &compute(Strategy::Spanning, &view, &SETTINGS));
    }

    #[test]
    fn caps_are_kept_wherever_they_can_be(view in views(7)) {
        let edges = compute(Strategy::Spanning, &view, &SETTINGS);
        check_forest(&view, &edges);
        if least_excess(&view) == 0 {
            prop_assert_eq!(excess(&view, &edges), 0);
        }
    }

    #[test]
    fn without_caps_no_forest_is_cheaper(mut view in views(6)) {
        view.caps.fill(100);
        view.channels.iter_mut().for_each(|channel| channel.in_force = None);
        let cost = |edges: &[usize]| -> u64 {
            edges.iter().map(|position| view.channels[*position].cost_us).sum()
        };
        let edges = compute(Strategy::Spanning, &view, &SETTINGS);
        let own = cost(&edges);
        each_forest(&view, 0, edges.len(), &mut Vec::new(), &mut |forest| {
            let tiers = |edges: &[usize]| {
                Tier::ALL.map(|tier| edges.iter().filter(|p| view.channels[**p].tier == tier).count())
            };
            assert!(tiers(forest) != tiers(&edges) || own <= cost(forest));
        });
    }

    #[test]
    fn the_tree_in_force_stays_while_nothing_changes(mut view in views(12)) {
        view.caps.fill(100);
        let first = adopt(&mut view);
        prop_assert_eq!(adopt(&mut view), first);
    }

    /// Where caps are in the way, a later search may find what an earlier one did not, but each
    /// change is a gain, and so it comes to rest.
    #[test]
    fn with_caps_too_trees_only_get_better_and_come_to_rest(mut view in views(12)) {
        let figures = |view: &View, edges: &[usize]| {
            let cost: u64 = edges.iter().map(|position| view.channels[*position].cost_us).sum();
            (excess(view, edges), cost)
        };
        let mut edges = adopt(&mut view);
        let mut rounds = 0;
        loop {
            let next = adopt(&mut view);
            if next == edges {
                break;
            }
            prop_assert!(figures(&view, &next) < figures(&view, &edges));
            edges = next;
            rounds += 1;
            prop_assert!(rounds < 10);
        }
    }
}

/// Computes a tree and puts it in force.
fn adopt(view: &mut View) -> Vec<usize> {
    let edges = compute(Strategy::Spanning, view, &SETTINGS);
    view.channels.iter_mut().for_each(|channel| channel.in_force = None);
    for position in &edges {
        view.channels[*position].in_force = Some(view.channels[*position].tier);
    }
    edges
}
