//! `arborcast-coordinator plan`: computes trees offline from a file with a topology.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::Deserialize;

use super::{FAILED, USAGE, print};
use crate::engine::{
    Config,
    tree::{self, Channel, Settings, Strategy, Tier, View},
};
use figures::Figures;
use topology::{FileError, Load, Topology, Trace};

mod figures;
mod picture;
mod topology;

/// Flags of `plan`.
#[derive(clap::Args, Debug)]
pub(super) struct PlanArgs {
    /// The topology, as JSON lines, plain or gzip.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// The session of the file to plan for; default: its first one.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// What to make least.
    #[arg(long, value_name = "NAME", value_enum, default_value = "routing-cost")]
    strategy: Named,
    /// How long to search: `quick` for as many steps as a coordinator does, `thorough` for 5 s, and 15 s for more
    /// than 2,000 members.
    #[arg(long, value_name = "HOW", value_enum, default_value = "quick")]
    effort: Effort,
    /// The tree in force, as this command prints it; its edges stay unless it is worth it.
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// What happens to the topology: a tree for the beginning, and for each time.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    trace: Option<PathBuf>,
    /// How to print the tree.
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value = "json",
        conflicts_with = "compare"
    )]
    format: Format,
    /// Print the figures of all strategies beside each other.
    #[arg(long)]
    compare: bool,
    /// With --compare: one JSON object for each strategy.
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    RoutingCost,
    Mst,
    Spt,
    MinDiameter,
    Widest,
}

impl Named {
    const fn strategy(self) -> Strategy {
        match self {
            Self::RoutingCost => Strategy::RoutingCost,
            Self::Mst => Strategy::Mst,
            Self::Spt => Strategy::Spt,
            Self::MinDiameter => Strategy::MinDiameter,
            Self::Widest => Strategy::Widest,
        }
    }

    /// Whether trees obey thresholds and uplinks: the others are for comparison.
    const fn is_bound(self) -> bool {
        matches!(self, Self::RoutingCost | Self::Widest)
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    Quick,
    Thorough,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Json,
    Dot,
    Svg,
}

/// Edges by the ids of their ends, the lower one first.
type Edges = BTreeSet<(u32, u32)>;

/// What ends the command: an exit code, and what to say.
type Failure = (u8, String);

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        (FAILED, error.to_string())
    }
}

/// Runs it.
pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    if args.json && !args.compare {
        return Err((USAGE, "--json goes with --compare; a tree is JSON by itself".to_owned()));
    }
    if args.trace.is_some() && args.format != Format::Json {
        return Err((
            USAGE,
            "--trace prints a line of JSON for each time; leave --format".to_owned(),
        ));
    }
    let mut topology = Topology::read(&args.topology)?;
    let load = load(&topology, args)?;
    let mut previous = args.previous.as_deref().map(read_tree).transpose()?;
    if args.compare {
        return compare(args, &topology, &load, previous.as_ref());
    }
    let (edges, figures) = plan(args.strategy, args.effort, &topology, &load, previous.as_ref());
    let Some(trace) = &args.trace else {
        return print(&match args.format {
            Format::Json => figures.json(&args.strategy.name(), &load.name, None, Some(&edges)),
            Format::Dot => picture::dot(&topology, &edges),
            Format::Svg => picture::svg(&topology, &edges),
        });
    };
    let mut trace = Trace::open(trace)?;
    let show = |time, figures: &Figures, edges: &Edges| {
        print(&figures.json(&args.strategy.name(), &load.name, Some(time), Some(edges)))
    };
    show(0, &figures, &edges)?;
    previous = Some(edges);
    while let Some(time) = trace.advance(&mut topology)? {
        let (edges, figures) =
            plan(args.strategy, args.effort, &topology, &load, previous.as_ref());
        show(time, &figures, &edges)?;
        previous = Some(edges);
    }
    Ok(())
}

fn load(topology: &Topology, args: &PlanArgs) -> Result<Load, Failure> {
    let names = || {
        let names: Vec<&str> = topology.sessions.iter().map(|load| load.name.as_str()).collect();
        names.join(", ")
    };
    let mut loads = topology.sessions.iter();
    let load = match &args.session {
        Some(name) => loads.find(|load| load.name == *name),
        None => loads.next(),
    };
    load.cloned().ok_or_else(|| {
        let asked = args.session.as_deref().unwrap_or_default();
        (USAGE, format!("--session {asked}: the file has {}", names()))
    })
}

/// The edges of a tree that this command has printed.
fn read_tree(path: &Path) -> Result<Edges, Failure> {
    #[derive(Deserialize)]
    struct Planned {
        edges: Vec<(u32, u32)>,
    }
    let failed = |error: &dyn std::fmt::Display| (FAILED, format!("{}: {error}", path.display()));
    let file = fs::metadata(path).map_err(|error| failed(&error))?;
    if file.len() > TREE {
        return Err(failed(&format!("more than {} MiB", TREE >> 20)));
    }
    let text = fs::read(path).map_err(|error| failed(&error))?;
    let planned: Planned = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    Ok(planned.edges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect())
}

/// The largest file with a tree, in bytes.
const TREE: u64 = 64 << 20;

/// A line for each strategy.
fn compare(
    args: &PlanArgs,
    topology: &Topology,
    load: &Load,
    previous: Option<&Edges>,
) -> Result<(), Failure> {
    if !args.json {
        print(&Figures::heading())?;
    }
    for strategy in Named::value_variants() {
        let (_, figures) = plan(*strategy, args.effort, topology, load, previous);
        let name = strategy.name();
        print(&if args.json {
            figures.json(&name, &load.name, None, None)
        } else {
            figures.row(&name)
        })?;
    }
    Ok(())
}

/// The channels of a topology as the search sees them.
struct Planning {
    view: View,
    /// The ends of each channel.
    ends: Vec<(u32, u32)>,
    /// What each costs, in milliseconds.
    cost_ms: Vec<f64>,
}

/// Computes the tree of one moment, with its figures.
fn plan(
    strategy: Named,
    effort: Effort,
    topology: &Topology,
    load: &Load,
    previous: Option<&Edges>,
) -> (Edges, Figures) {
    let planning = Planning::new(topology, load, previous, strategy.is_bound());
    let config = Config::default();
    let settings = Settings {
        hysteresis_us: config.hysteresis_us.into(),
        hysteresis_percent: config.hysteresis_percent.into(),
        steps: config.tree_steps,
        is_repair: false,
    };
    let mut chosen = tree::compute(strategy.strategy(), &planning.view, &settings);
    if effort == Effort::Thorough && strategy == Named::RoutingCost {
        let patience = if planning.view.caps.len() > MANY { PATIENCE * 3 } else { PATIENCE };
        let begun = now();
        let mut progress = || now().duration_since(begun).as_secs_f64() / patience.as_secs_f64();
        chosen = tree::improve(&planning.view, &settings, &chosen, &mut progress);
    }
    let edges: Edges = chosen.iter().map(|at| planning.ends[*at]).collect();
    let bound = Planning::new(topology, load, previous, true);
    let figures = Figures::of(&bound, &edges, topology, previous);
    (edges, figures)
}

/// How long a thorough search takes...
const PATIENCE: Duration = Duration::from_secs(5);

/// ...three times as long for more members.
const MANY: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "a search by the clock is asked for")]
fn now() -> Instant {
    Instant::now()
}

impl Planning {
    /// Where thresholds and uplinks do not count, all channels are good and nobody has a cap.
    fn new(topology: &Topology, load: &Load, previous: Option<&Edges>, is_bound: bool) -> Self {
        let mut position = vec![None; topology.nodes.len()];
        let present = topology.nodes.iter().filter(|node| node.is_present).count();
        let mut caps = Vec::with_capacity(present);
        for (node, position) in topology.nodes.iter().zip(&mut position) {
            if node.is_present {
                *position = Some(caps.len());
                caps.push(if is_bound {
                    cap(node.up_mbps, load.rate_mbps, present)
                } else {
                    u32::MAX
                });
            }
        }
        let mut planning = Self {
            view: View { caps, main: None, channels: Vec::new() },
            ends: Vec::new(),
            cost_ms: Vec::new(),
        };
        for ((a, b), link) in topology.links.iter().filter(|(_, link)| link.is_up) {
            let at = |id: u32| position.get(id as usize).copied().flatten();
            let Some((low, high)) = at(*a).zip(at(*b)) else { continue };
            let figures = link.figures;
            let is_poor = figures.bandwidth_mbps < load.rate_mbps || figures.loss > load.max_loss;
            let loss = figures.loss.min(COSTLIEST_LOSS);
            let (delay, jitter) = (figures.delay_ms, figures.jitter_ms);
            let repair = loss / (1.0 - loss) * (2.0 * delay + 4.0 * jitter + PROBE_TIMEOUT_MS);
            let cost_ms = topology.hop_ms + delay + jitter + repair;
            let tier = if is_poor && is_bound { Tier::Poor } else { Tier::Good };
            let is_in_force = previous.is_some_and(|previous| previous.contains(&(*a, *b)));
            planning.view.channels.push(Channel {
                low,
                high,
                tier,
                cost_us: whole(cost_ms * 1_000.0),
                noise_us: 0,
                width_kbps: u32::try_from(whole(figures.bandwidth_mbps * 1_000.0)).ok(),
                in_force: is_in_force.then_some(tier),
            });
            planning.ends.push((*a, *b));
            planning.cost_ms.push(cost_ms);
        }
        planning
    }
}

/// Losses above this cost no more.
const COSTLIEST_LOSS: f64 = 0.5;

/// The longest that a receiver holds an acknowledgement back (RFC 9002, section 6.2), in milliseconds.
const PROBE_TIMEOUT_MS: f64 = 25.0;

/// How many neighbours an uplink can feed: each gets what all send, but for its own share.
#[expect(clippy::cast_precision_loss, reason = "members are few enough")]
fn cap(up_mbps: f64, rate_mbps: f64, members: usize) -> u32 {
    if rate_mbps <= 0.0 {
        return u32::MAX;
    }
    let more = ((up_mbps - rate_mbps / members as f64) / rate_mbps).floor().max(0.0);
    u32::try_from(whole(more)).unwrap_or(u32::MAX).saturating_add(1)
}

/// The nearest whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range comes to the nearest end of it"
)]
fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests;
