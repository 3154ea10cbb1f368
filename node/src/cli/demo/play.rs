//! The scenes of the demonstration, one after another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    super::{drawing, failure::Failure},
    PATIENCE,
    cast::Cast,
    figure::{
        A, B, C, CHANNELS, D, DEGRADED_MS, E, F, NAMES, Pair, called, first_tree, last_tree,
        second_tree,
    },
    told::{Told, ms},
};

/// How often each member says something while the tree changes.
const TALK: Duration = Duration::from_millis(100);

/// How long the members may take to measure bandwidth, in a demonstration that is not fast.
const MEASURING: Duration = Duration::from_secs(20);

/// How long people are given to read, in a demonstration that is not fast.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs all scenes.
pub(super) async fn run(folder: &Path, fast: bool, told: Told<'_>) -> Result<(), Failure> {
    let pause = async || {
        if !fast {
            tokio::time::sleep(PAUSE).await;
        }
    };
    told.say(
        "Six devices, A to F, and a coordinator: seven processes on this machine. Only six channels\n\
         are allowed, as in figure 2 of the patent, and each is slowed down by some milliseconds.",
    )
    .await?;
    let began = Instant::now();
    let mut cast = Cast::start(folder, fast).await?;
    cast.until("all members let in", |cast| cast.members().iter().all(|member| member.ready))
        .await?;
    channels(&mut cast, &told, began, fast).await?;
    pause().await;
    messages(&mut cast, &told).await?;
    pause().await;
    degrade(&mut cast, &told).await?;
    pause().await;
    kill(&mut cast, &told).await?;
    cast.end().await?;
    told.fact(&json!({ "event": "demo_done", "took_ms": ms(began.elapsed()) })).await?;
    told.say("\nThat was all; every process has ended.").await
}

/// The channels as measured, and the tree that the coordinator makes of them.
async fn channels(
    cast: &mut Cast,
    told: &Told<'_>,
    began: Instant,
    fast: bool,
) -> Result<(), Failure> {
    cast.until("the tree of figure 3b", |cast| {
        stands(cast, &(A..=F).collect::<Vec<_>>(), &first_tree())
            && CHANNELS.iter().all(|(pair, _)| delay(cast, *pair).is_some())
    })
    .await?;
    let took = began.elapsed();
    if !fast {
        told.say("\nEach member measures how wide its channels are, one after another, while all is quiet.")
            .await?;
        let measured = cast.until("all bandwidths", |cast| {
            CHANNELS.iter().all(|(pair, _)| bandwidth(cast, *pair).is_some())
        });
        // On a busy machine a measurement may be put off; then the table says that there is none.
        let _ = tokio::time::timeout(MEASURING, measured).await;
    }
    told.say("\n  channel   delay    jitter   loss    bandwidth   measured by its ends").await?;
    for (pair @ (a, b), _) in CHANNELS {
        let other = cast.member(b)?.id.clone();
        let Some(channel) = cast.member(a)?.channels.get(&other) else { continue };
        let figure =
            |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |v| format!("{v:.1}"));
        let measured = bandwidth(cast, pair);
        let bandwidth =
            measured.map_or_else(|| "not measured".to_owned(), |mbps| format!("{mbps:.0} Mbit/s"));
        let row = format!(
            "  {:<8} {:>6} ms {:>6} ms {:>5.1} %   {bandwidth}",
            called(pair),
            figure(channel.delay_ms),
            figure(channel.jitter_ms),
            channel.loss.unwrap_or_default() * 100.0,
        );
        told.say(&row).await?;
        told.fact(&json!({
            "event": "demo_channel", "channel": called(pair), "delay_ms": channel.delay_ms,
            "jitter_ms": channel.jitter_ms, "loss": channel.loss,
            "bandwidth_mbps": measured,
        }))
        .await?;
    }
    told.say(&format!(
        "\nB-C is the poorest of its cycle, so the relay tree does without it (after {:.1} s):\n\n{}",
        took.as_secs_f64(),
        drawn(&cast.member(A)?.tree)
    ))
    .await?;
    told.fact(&json!({ "event": "demo_tree", "edges": called_all(&cast.member(A)?.tree) })).await
}

/// A message from each member to all others, and the copies of it that crossed each channel.
async fn messages(cast: &mut Cast, told: &Told<'_>) -> Result<(), Failure> {
    told.say("\nEach member sends one message. How long it took to each other, and how many copies of it\n\
              crossed each channel, as counted by the members:\n").await?;
    let mut head = String::from("  from  ");
    for name in NAMES {
        let _ = write!(head, "{name:>9}");
    }
    head.push_str("   copies on ");
    for (pair, _) in CHANNELS {
        let _ = write!(head, "{:>5}", called(pair));
    }
    told.say(&head).await?;
    for (source, name) in NAMES.into_iter().enumerate() {
        let before = settled(cast).await?;
        let text = format!("hello from {name}");
        let began = Instant::now();
        cast.send(source, &text).await?;
        let came = |cast: &Cast, at: usize| {
            let arrived = cast.member(at).ok()?.arrived.iter();
            arrived
                .filter(|(from, said, _)| *from == source && *said == text)
                .map(|(_, _, at)| *at)
                .next()
        };
        cast.until(&format!("{name}'s message at all others"), |cast| {
            (A..=F).all(|at| at == source || came(cast, at).is_some())
        })
        .await?;
        let after = settled(cast).await?;
        let copies: BTreeMap<String, u64> = after
            .iter()
            .map(|(pair, frames)| {
                (
                    called(*pair),
                    frames.saturating_sub(before.get(pair).copied().unwrap_or_default()),
                )
            })
            .collect();
        let mut row = format!("  {name}     ");
        let mut times = BTreeMap::new();
        for (at, other) in NAMES.into_iter().enumerate() {
            match came(cast, at) {
                Some(when) if at != source => {
                    let took = ms(when.saturating_duration_since(began));
                    times.insert(other, took);
                    let _ = write!(row, "{:>9}", format!("{took:.0} ms"));
                }
                Some(_) | None => row.push_str("        -"),
            }
        }
        row.push_str("             ");
        for (pair, _) in CHANNELS {
            let _ = write!(row, "{:>5}", copies.get(&called(pair)).copied().unwrap_or_default());
        }
        told.say(&row).await?;
        told.fact(&json!({
            "event": "demo_message", "source": name, "arrived_ms": times, "copies": copies,
        }))
        .await?;
    }
    Ok(())
}

/// A-C becomes the poorest channel while all talk: the tree moves to B-C.
async fn degrade(cast: &mut Cast, told: &Told<'_>) -> Result<(), Failure> {
    told.say(&format!(
        "\nNow all talk, ten messages a second each, and channel A-C becomes slow: {DEGRADED_MS} ms."
    ))
    .await?;
    let all: Vec<usize> = (A..=F).collect();
    let mut talk = Talk::new(cast, &all)?;
    cast.impair((A, C), DEGRADED_MS).await?;
    let began = Instant::now();
    let mut both = None;
    talk.until(cast, "the tree without A-C", |cast| {
        if both.is_none() && cast.members().iter().any(|member| !member.overlap.is_empty()) {
            both = Some(began.elapsed());
        }
        stands(cast, &all, &second_tree())
    })
    .await?;
    let took = began.elapsed();
    let talked = talk.finish(cast).await?;
    let said = talked.messages;
    told.fact(&json!({
        "event": "demo_moved", "edges": called_all(&cast.member(A)?.tree), "took_ms": ms(took),
        "overlap_after_ms": both.map(ms), "messages": talked.messages, "lost": talked.lost,
        "doubled": talked.doubled,
    }))
    .await?;
    let overlap = both.map_or_else(String::new, |both| {
        format!(
            " Both B-C and A-C were in use from {:.1} s on, lest anything be lost.",
            both.as_secs_f64()
        )
    });
    told.say(&format!(
        "{:.1} s later the tree has moved to B-C.{overlap}\n{said} messages were sent meanwhile; each \
         reached all five others, once and in order.\n\n{}",
        took.as_secs_f64(),
        drawn(&cast.member(A)?.tree)
    ))
    .await
}

/// B dies. The others go on by what channels they have.
async fn kill(cast: &mut Cast, told: &Told<'_>) -> Result<(), Failure> {
    told.say("\nNow B is killed, which relays between A, C and E. E has no other channel.").await?;
    let others = [A, C, D, F];
    let mut talk = Talk::new(cast, &others)?;
    cast.kill(B).await?;
    let began = Instant::now();
    // The coordinator may keep B as a leaf for some seconds: it cannot know yet that B is dead.
    let is_so = |cast: &Cast, so: &dyn Fn(&BTreeSet<Pair>) -> bool| {
        others.iter().all(|at| cast.member(*at).is_ok_and(|member| so(&member.tree)))
    };
    let theirs = |(a, b): &&Pair| others.contains(a) && others.contains(b);
    let joined = |tree: &BTreeSet<Pair>| tree.iter().filter(theirs).copied().eq(last_tree());
    talk.until(cast, "a tree around B", |cast| is_so(cast, &joined)).await?;
    let took = began.elapsed();
    let without_b = |tree: &BTreeSet<Pair>| !tree.iter().any(|(a, b)| *a == B || *b == B);
    talk.until(cast, "a tree without B", |cast| {
        began.elapsed() >= GOES_ON && is_so(cast, &|tree| joined(tree) && without_b(tree))
    })
    .await?;
    let talked = talk.finish(cast).await?;
    let said = talked.messages;
    let tree = cast.member(A)?.tree.clone();
    told.fact(&json!({
        "event": "demo_killed", "member": "B", "edges": called_all(&tree),
        "took_ms": ms(took), "messages": said, "lost": talked.lost, "doubled": talked.doubled,
        "longest_silence_ms": ms(talked.silence),
    }))
    .await?;
    told.say(&format!(
        "{:.2} s later A, C, D and F are joined again, over A-C, poor as it is. They sent {said} messages\n\
         until B was out of the tree, one each every 100 ms, and each got those of the other three, once and in\n\
         order. None of them heard nothing of another for longer than {:.0} ms. {} waits for a channel.\n\n{}",
        took.as_secs_f64(),
        ms(talked.silence),
        NAMES.get(E).copied().unwrap_or_default(),
        drawn(&tree)
    ))
    .await
}

/// The session goes on for so long at least after a relay was killed.
const GOES_ON: Duration = Duration::from_secs(2);

/// Members that say something all the time.
struct Talk {
    who: Vec<usize>,
    began: Instant,
    said: u32,
    /// What each had heard before.
    before: BTreeMap<usize, usize>,
}

/// What came of a talk, over all who listened.
struct Talked {
    messages: usize,
    lost: usize,
    doubled: usize,
    /// The longest time that any of them heard nothing of another.
    silence: Duration,
}

impl Talk {
    fn new(cast: &Cast, who: &[usize]) -> Result<Self, Failure> {
        let heard = |at: &usize| Ok((*at, cast.member(*at)?.arrived.len()));
        let before = who.iter().map(heard).collect::<Result<_, Failure>>()?;
        Ok(Self { who: who.to_vec(), began: Instant::now(), said: 0, before })
    }

    async fn until(
        &mut self,
        cast: &mut Cast,
        what: &str,
        mut look: impl FnMut(&Cast) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut beat = tokio::time::interval(TALK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !look(cast) {
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    self.said += 1;
                    for at in &self.who {
                        cast.send(*at, &self.said.to_string()).await?;
                    }
                }
                heard = cast.listen(deadline, what) => heard?,
            }
        }
        Ok(())
    }

    /// Waits until all have heard all, counts, and checks that each heard each other's words once, in
    /// order.
    async fn finish(self, cast: &mut Cast) -> Result<Talked, Failure> {
        let Self { who, began, said, before } = self;
        let heard = |cast: &Cast, at: usize, from: usize| -> Vec<(String, Instant)> {
            let skip = before.get(&at).copied().unwrap_or_default();
            let arrived = cast.members().get(at).map(|member| member.arrived.iter());
            let arrived = arrived.into_iter().flatten().skip(skip);
            arrived
                .filter(|(source, ..)| *source == from)
                .map(|(_, text, at)| (text.clone(), *at))
                .collect()
        };
        let pairs: Vec<Pair> = who
            .iter()
            .flat_map(|at| who.iter().filter(move |from| *from != at).map(move |from| (*at, *from)))
            .collect();
        let last = said.to_string();
        cast.until("the last message everywhere", |cast| {
            let newest = |at: usize, from: usize| heard(cast, at, from).pop();
            pairs.iter().all(|(at, from)| newest(*at, *from).is_some_and(|(text, _)| text == last))
        })
        .await?;
        let expected: Vec<String> = (1..=said).map(|number| number.to_string()).collect();
        let mut talked = Talked {
            messages: who.len() * said as usize,
            lost: 0,
            doubled: 0,
            silence: Duration::ZERO,
        };
        for (at, from) in &pairs {
            let (heard, times): (Vec<String>, Vec<Instant>) =
                heard(cast, *at, *from).into_iter().unzip();
            let gaps = std::iter::once(&began).chain(&times).zip(&times);
            let gaps = gaps.map(|(before, after)| after.saturating_duration_since(*before));
            talked.silence = gaps.max().unwrap_or_default().max(talked.silence);
            let once: BTreeSet<&String> = heard.iter().collect();
            talked.lost += expected.iter().filter(|text| !once.contains(text)).count();
            talked.doubled += heard.len() - once.len();
            if heard != expected {
                let (at, from) = (NAMES.get(*at), NAMES.get(*from));
                return Err(Failure::failed(
                    "demo",
                    format!("{at:?} heard from {from:?} {heard:?} and not 1 to {said}"),
                ));
            }
        }
        Ok(talked)
    }
}

/// Whether these members all hold this tree, and no old edge is in use any more.
fn stands(cast: &Cast, who: &[usize], tree: &BTreeSet<Pair>) -> bool {
    who.iter().all(|at| {
        cast.member(*at).is_ok_and(|member| member.tree == *tree && member.overlap.is_empty())
    })
}

/// The delay of a channel as its first end measured it.
fn delay(cast: &Cast, (a, b): Pair) -> Option<f64> {
    let other = &cast.member(b).ok()?.id;
    cast.member(a).ok()?.channels.get(other)?.delay_ms
}

/// The bandwidth of a channel in Mbit/s, by the end that found it narrower.
fn bandwidth(cast: &Cast, (a, b): Pair) -> Option<f64> {
    let seen = |at: usize, other: usize| {
        let other = &cast.member(other).ok()?.id;
        cast.member(at).ok()?.channels.get(other)?.bandwidth_mbps
    };
    [seen(a, b), seen(b, a)].into_iter().flatten().min_by(f64::total_cmp)
}

/// What has crossed the channels, once every member has counted after all that was heard so far.
async fn settled(cast: &mut Cast) -> Result<BTreeMap<Pair, u64>, Failure> {
    // The next count may have been made before, and was on its way; the one after it was not.
    let wanted: Vec<u64> = cast.members().iter().map(|member| member.counted + 2).collect();
    cast.until("what the members count", |cast| {
        cast.members().iter().zip(&wanted).all(|(member, wanted)| member.counted >= *wanted)
    })
    .await?;
    Ok(cast.crossings())
}

fn called_all(tree: &BTreeSet<Pair>) -> Vec<String> {
    tree.iter().map(|pair| called(*pair)).collect()
}

/// A tree in text, from A.
fn drawn(tree: &BTreeSet<Pair>) -> String {
    let edges: Vec<(&str, &str)> =
        tree.iter().filter_map(|(a, b)| Some((*NAMES.get(*a)?, *NAMES.get(*b)?))).collect();
    let mut text = String::new();
    for line in drawing::branches(["A"], edges) {
        let _ = writeln!(text, "  {}{}", line.before, line.id);
    }
    text.trim_end().to_owned()
}
