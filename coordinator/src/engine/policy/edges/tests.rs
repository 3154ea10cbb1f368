use arborcast_protocol::{id::Term, testing::member};

use super::*;

const FIRST: Duration = Duration::from_secs(10);

fn edge(n: u64) -> Edge {
    Edge::new(member(0), member(n)).expect("two members")
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn epoch(counter: u32) -> Epoch {
    Epoch { term: Term(1), counter }
}

/// A ledger in which these edges are chosen and looked at after [`FIRST`].
fn chosen(numbers: impl IntoIterator<Item = u64>, now: Instant) -> Edges {
    let mut edges = Edges::default();
    let tree = numbers.into_iter().map(|n| (edge(n), (Tier::Good, 0))).collect();
    edges.choose(&tree, epoch(1));
    edges.watch(|_| now + FIRST, |_| true);
    edges
}

/// Both ends say that it carries.
fn comes_up(edges: &mut Edges, n: u64) -> bool {
    let first = edges.say(member(0), member(n), epoch(1));
    edges.say(member(n), member(0), epoch(1)).or(first) == Some(edge(n))
}

/// Looks at all that is due, where all members are heard.
fn judge(edges: &mut Edges, now: Instant) -> (Vec<Edge>, Vec<Edge>) {
    edges.judge(|_| true, |_| true, (now + FIRST, FIRST), now)
}

#[test]
fn each_state_goes_on_as_the_table_says() {
    use State::{Added, Carrying, HeldDown, Old};
    let (low, high) = (State::Half(End::Low), State::Half(End::High));
    let [suspect, suspect_low, suspect_high] =
        [None, Some(End::Low), Some(End::High)].map(State::Suspect);
    let events = [
        Event::Chosen,
        Event::NotChosen,
        Event::NotNeeded,
        Event::Said(End::Low),
        Event::Said(End::High),
        Event::Trusted,
        Event::Late,
        Event::Silent,
        Event::Reset,
    ];
    #[rustfmt::skip]
    let table = [
        // chosen, not chosen, not needed, low says, high says, trusted, late, silent, reset
        (HeldDown, [Added, HeldDown, HeldDown, HeldDown, HeldDown, HeldDown, HeldDown, HeldDown, HeldDown]),
        (Added, [Added, HeldDown, Added, low, high, Added, suspect, suspect, Added]),
        (low, [low, HeldDown, low, low, Carrying, Carrying, suspect_low, suspect, Added]),
        (high, [high, HeldDown, high, Carrying, high, Carrying, suspect_high, suspect, Added]),
        (Carrying, [Carrying, Old, Carrying, Carrying, Carrying, Carrying, Carrying, suspect, Added]),
        (suspect, [suspect, HeldDown, suspect, suspect_low, suspect_high, suspect, suspect, suspect, suspect]),
        (suspect_low, [suspect_low, HeldDown, suspect_low, suspect_low, Carrying, Carrying, suspect_low, suspect, suspect]),
        (suspect_high, [suspect_high, HeldDown, suspect_high, Carrying, suspect_high, Carrying, suspect_high, suspect, suspect]),
        (Old, [Carrying, Old, HeldDown, Old, Old, Old, Old, HeldDown, HeldDown]),
    ];
    for (state, next) in table {
        assert_eq!(events.map(|event| state.after(event)), next, "{state:?}");
    }
}

#[test]
fn an_edge_carries_once_both_ends_say_so_under_a_tree_that_has_it() {
    let mut edges = chosen([1], start());
    assert_eq!(edges.say(member(0), member(1), epoch(0)), None);
    assert_eq!(edges.say(member(0), member(1), epoch(2)), None);
    assert_eq!(edges.say(member(0), member(1), epoch(1)), None, "one end alone");
    assert_eq!(edges.say(member(1), member(2), epoch(1)), None, "no edge");
    assert_eq!(edges.say(member(1), member(0), epoch(1)), Some(edge(1)));
    assert_eq!(edges.say(member(1), member(0), epoch(1)), None, "no news");
    assert_eq!(edges.next_due(), None);
}

#[test]
fn one_end_is_believed_where_the_other_cannot_be_heard() {
    let now = start();
    for (says, hears, expected) in [
        (Some(0), [true, false], State::Carrying),
        (Some(1), [true, false], State::Suspect(Some(End::High))),
        (Some(0), [true, true], State::Suspect(Some(End::Low))),
        (None, [false, false], State::Added),
        (None, [true, false], State::Suspect(None)),
    ] {
        let mut edges = chosen([1], now);
        let (low, high) = edge(1).ends();
        match says {
            Some(0) => _ = edges.say(low, high, epoch(1)),
            Some(_) => _ = edges.say(high, low, epoch(1)),
            None => {}
        }
        let is_connected = |end| if end == low { hears[0] } else { hears[1] };
        let due = now + FIRST;
        assert_eq!(edges.next_due(), Some(due));
        let (up, failed) = edges.judge(is_connected, |_| true, (due + FIRST, FIRST), due);
        assert_eq!(edges.state(edge(1)), expected);
        assert_eq!(up.len(), usize::from(expected == State::Carrying));
        assert_eq!(failed.len(), usize::from(matches!(expected, State::Suspect(_))));
    }
}

#[test]
fn where_nothing_could_flow_nobody_has_failed() {
    let (mut edges, now) = (chosen([], start()), start());
    edges.choose(&BTreeMap::from([(edge(1), (Tier::Good, 0))]), epoch(1));
    edges.watch(|_| now, |_| false);
    assert_eq!(judge(&mut edges, now), (vec![], vec![]));
    assert_eq!(judge(&mut edges, now + FIRST), (vec![], vec![edge(1)]), "by then it could");
}

#[test]
fn each_failure_is_held_against_an_edge_for_twice_as_long() {
    let mut now = start();
    let mut edges = chosen([1], now);
    now += FIRST;
    for wait_s in [10, 20, 40, 80, 160, 320, 640, 640] {
        assert_eq!(judge(&mut edges, now), (vec![], vec![edge(1)]));
        let until = now + Duration::from_secs(wait_s);
        assert!(edges.has_failed(edge(1), now) && !edges.has_failed(edge(1), until));
        assert_eq!(edges.counts_as(edge(1), (Tier::Good, 7), now), (Tier::HeldDown, 7));
        assert_eq!((edges.next_release(now), edges.next_due()), (Some(until), Some(until)));
        now = until;
    }
    assert_eq!(judge(&mut edges, now), (vec![], vec![edge(1)]));
    assert!(comes_up(&mut edges, 1), "it carries after all");
    assert!(!edges.has_failed(edge(1), now));
    edges.silent(edge(1), FIRST, now + FIRST, now);
    let held = |edges: &Edges, now| edges.next_release(now).map(|until| until - now);
    assert_eq!(held(&edges, now), Some(FIRST * 64), "it has not been good for long");
    now += FIRST * (64 + 16);
    edges.silent(edge(1), FIRST, now + FIRST, now);
    assert_eq!(held(&edges, now), Some(FIRST), "long ago");
    edges.acquit(edge(1));
    assert_eq!(held(&edges, now), None, "it has another channel");
}

#[test]
fn what_gave_way_twice_counts_as_bad_as_it_was_for_a_while() {
    let now = start();
    let (bad, good) = ((Tier::Poor, 40), (Tier::Good, 1));
    let mut edges = chosen([1, 2], now);
    edges.give_way(edge(1), bad, FIRST, now);
    assert_eq!(edges.counts_as(edge(1), good, now), good);
    edges.give_way(edge(1), bad, FIRST, now + FIRST);
    assert_eq!(edges.counts_as(edge(1), good, now + FIRST), bad);
    assert_eq!(edges.counts_as(edge(1), (Tier::Relayed, 1), now + FIRST), (Tier::Relayed, 40));
    assert_eq!(edges.counts_as(edge(2), good, now + FIRST), good);
    assert_eq!(edges.counts_as(edge(1), good, now + FIRST * 2), good);
    edges.give_way(edge(1), bad, FIRST, now + FIRST * 2);
    assert_eq!(edges.counts_as(edge(1), good, now + FIRST * 3), bad);
    edges.acquit(edge(1));
    assert_eq!(edges.counts_as(edge(1), good, now + FIRST * 3), good);
}

#[test]
fn old_edges_stay_in_use_while_they_are_needed() {
    let now = start();
    let mut edges = chosen([1, 2, 3], now);
    assert!(comes_up(&mut edges, 1) && comes_up(&mut edges, 2));
    let tree = BTreeMap::from([(edge(4), (Tier::Poor, 0))]);
    assert_eq!(edges.choose(&tree, epoch(2)), [1, 2, 3].map(edge).into());
    edges.keep(&BTreeSet::from([edge(2)]), now);
    let states = [1, 2, 3, 4].map(|n| edges.state(edge(n)));
    assert_eq!(states, [State::HeldDown, State::Old, State::HeldDown, State::Added]);
    assert_eq!(edges.records.len(), 2, "what nothing is held against is forgotten");
    assert_eq!([2, 4].map(|n| edges.tier(edge(n))), [Some(Tier::Good), Some(Tier::Poor)]);
    edges.choose(&BTreeMap::from([(edge(2), (Tier::Good, 0))]), epoch(3));
    assert_eq!(edges.state(edge(2)), State::Carrying, "it need not come up again");
}

#[test]
fn what_is_kept_of_edges_out_of_use_is_bounded() {
    let now = start();
    let count = KEPT as u64 + 10;
    let mut edges = chosen(1..=count, now);
    for n in 1..=count {
        let later = now + Duration::from_millis(n);
        edges.silent(edge(n), FIRST, later, later);
    }
    edges.choose(&BTreeMap::new(), epoch(2));
    edges.keep(&BTreeSet::new(), now);
    assert_eq!(edges.records.len(), KEPT);
    assert!(!edges.has_failed(edge(10), now) && edges.has_failed(edge(11), now));
    edges.forget_member(member(0));
    assert_eq!(edges.records.len(), 0);
}
