//! What takes how long, with real processes on loopback and the settings of the default, each figure
//! beside its goal. Tests assert that these things happen; this tells how soon.
//!
//! ```text
//! cargo bench -p arborcast-tests --bench figures              # all, some six minutes
//! cargo bench -p arborcast-tests --bench figures -- silence   # those with this in their names
//! cargo bench -p arborcast-tests --bench figures -- storm     # a hundred processes; only when asked for
//! cargo bench -p arborcast-tests --bench figures -- siege     # ten thousand connections; only when asked for
//! ```
//!
//! `ARBORCAST_BENCH_ROUNDS` (default 3) says how often each is measured, `ARBORCAST_BENCH_MEMBERS` (default
//! 100) how many processes make a storm. Times depend on the machine: look
//! at them beside figures of the same one.

#![expect(clippy::print_stdout, reason = "prints what it measured")]

use std::time::Duration;

use arborcast_tests::{
    group::{host, join, settle},
    process::{Place, now},
    scenario::{
        failover::{End, take_away},
        idle, noise, paused, restart, siege, stopped, storm,
        worn::{Traffic, leaves},
    },
};

/// For how long noisy channels are looked at while members talk, and again while they do not.
const NOISE: Duration = Duration::from_secs(30);

/// Members that start at once.
const MANY: usize = 10;

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let rounds: usize = number("ARBORCAST_BENCH_ROUNDS").unwrap_or(3).max(1);
    println!("{:<58} {:>9} {:>9} {:>9}   goal", "figure", "least", "median", "most");
    let figure = |name: &str, goal: &str, measure: &dyn Fn() -> Vec<f64>| {
        if only.as_deref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let mut values: Vec<f64> = (0..rounds).flat_map(|_| measure()).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (least, median, most) = (at(0), at(values.len() / 2), at(values.len() - 1));
        println!("{name:<58} {least:>9.2} {median:>9.2} {most:>9.2}   {goal}");
    };
    figure("join: start of a process to its tree, s", "0.5", &|| vec![join_one()]);
    figure("join: ten processes at once to one tree over all, s", "3", &|| vec![join_many()]);
    for end in [End::Left, End::Killed, End::Stopped] {
        let goal = match end {
            End::Left => "100",
            End::Killed => "120",
            End::Stopped => "500",
        };
        let name = format!("silence: longest when one of ten relays is {end:?}, ms");
        figure(&name.to_lowercase(), goal, &|| {
            let silences = take_away(&Place::with_default_periods(), &[end; 3]);
            silences.iter().map(|silence| silence.longest.as_secs_f64() * 1000.0).collect()
        });
    }
    figure("silence: longest when one of four stops under load, s", "5", &|| {
        vec![stopped::one_of_four(&Place::with_default_periods()).as_secs_f64()]
    });
    for (how, traffic) in [
        ("delay=60ms", Traffic::Lines),
        ("loss=0.2", Traffic::Lines),
        ("rate=1mbit", Traffic::Much),
        ("delay=110ms", Traffic::Nothing),
        ("loss=0.2", Traffic::Nothing),
    ] {
        let name = format!("worn channel: left, {how}, {traffic:?}, s").to_lowercase();
        figure(&name, "10", &|| vec![worn(how, traffic)]);
    }
    figure("restart of the coordinator: to a new tree at all, s", "15", &|| {
        vec![restart::killed_and_back(&Place::with_default_periods(), 5).as_secs_f64()]
    });
    for seconds in [30, 300] {
        let pause = Duration::from_secs(seconds);
        for (who, measure) in [
            ("coordinator", paused::coordinator as fn(&Place, Duration) -> Duration),
            ("host", paused::host),
        ] {
            let name = format!("pause: {who} stopped for {seconds} s, all is with all after, s");
            figure(&name, "10", &|| {
                vec![measure(&Place::with_default_periods(), pause).as_secs_f64()]
            });
        }
    }
    if only.as_deref().is_none_or(|only| "idle".contains(only)) {
        match idle::three(&Place::with_default_periods()) {
            Ok([member, leaf]) => {
                let row = single("idle: three members on hosts of their own".to_owned());
                row("traffic of a member, kbit/s", member.kbps, "5");
                row("its packets a second", member.packets, "6");
                row("traffic of a leaf, kbit/s", leaf.kbps, "2");
            }
            Err(why) => println!("idle: skipped: {}", why.0),
        }
        let row = single("idle: 60 members on this machine".to_owned());
        row("each, percent of a core", idle::processors(&Place::with_default_periods(), 60), "0.3");
    }
    if only.as_deref().is_some_and(|only| "storm".contains(only)) {
        let size = number("ARBORCAST_BENCH_MEMBERS").unwrap_or(100);
        let storm = storm::all_at_once(&Place::with_default_periods(), size);
        let row = single(format!("storm: {size} members at once"));
        row("one tree over all, s", storm.whole.as_secs_f64(), "60");
        row("a message is with all, s", storm.reached.as_secs_f64(), "5");
        row("coordinator killed, all back, s", storm.back.as_secs_f64(), "15");
        row("members dropped meanwhile", count(storm.dropped), "0");
        row("trees in 20 quiet s", count(storm.trees), "0");
    }
    if only.as_deref().is_some_and(|only| "siege".contains(only)) {
        let size = number("ARBORCAST_BENCH_CONNECTIONS").unwrap_or(10_000);
        let siege = siege::of_strangers(&Place::with_default_periods(), size);
        let row = single(format!("siege: {size} silent connections"));
        row("goodput, part of before", siege.goodput, "0.9");
        row(
            "greatest growth, MiB",
            count(usize::try_from(siege.grew >> 10).unwrap_or(usize::MAX)) / 1024.0,
            "64",
        );
        row("connections held", count(siege.held), "");
    }
    figure("noise: moves of the tree in a minute", "0", &|| {
        let moves = noise::moves(&Place::with_default_periods(), NOISE);
        vec![f64::from(u32::try_from(moves).unwrap_or(u32::MAX)) * 30.0 / NOISE.as_secs_f64()]
    });
}

/// Prints figures that are measured once.
fn single(of: String) -> impl Fn(&str, f64, &str) {
    move |what, value, goal| {
        println!("{:<58} {:>9} {value:>9.2} {:>9}   {goal}", format!("{of}: {what}"), "", "");
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// The second member of a session, from its start to its tree.
fn join_one() -> f64 {
    let place = Place::with_default_periods();
    let (host, ticket) = host(&place);
    let began = now();
    let second = join(&place, &ticket, "second");
    second.wait("its tree", |log| log.spans(2).then_some(()));
    let took = began.elapsed();
    drop(host);
    took.as_secs_f64()
}

/// Ten members that start at once.
fn join_many() -> f64 {
    let place = Place::with_default_periods();
    let (host, ticket) = host(&place);
    let began = now();
    let mut members = vec![host];
    members.extend((1..MANY).map(|number| join(&place, &ticket, &format!("m{number}"))));
    settle(&members, MANY);
    began.elapsed().as_secs_f64()
}

/// How long the tree keeps a channel that got worse like this.
fn worn(how: &str, traffic: Traffic) -> f64 {
    leaves(&Place::with_default_periods(), how, traffic).left.as_secs_f64()
}
