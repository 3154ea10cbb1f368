//! `arborcast status`: how the members of this user are doing.

use serde::Serialize;

use super::{
    failure::Failure,
    json,
    local::{self, Snapshot},
    options::LocalArgs,
    output::Output,
    terminal,
    tree::heading,
};

/// What `status` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The session's name, or the beginning of its id; default: all.
    session: Option<String>,
    #[command(flatten)]
    local: LocalArgs,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(flatten)]
    member: &'a Snapshot,
}

/// Shows them.
pub(super) async fn run(args: Args, json: bool, output: &Output) -> Result<(), Failure> {
    let all = local::running(&args.local.into(), args.session.as_deref()).await?;
    for (number, member) in all.iter().enumerate() {
        let text = if json {
            json::as_line(&Line { event: "status", member })
        } else {
            format!("{}{}", if number == 0 { "" } else { "\n" }, table(member))
        };
        if output.line(&text).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn table(member: &Snapshot) -> String {
    let mut lines = vec![
        heading(member),
        format!("  you          {} {}", terminal::name(&member.nick), member.peer_id),
        format!("  process      {} (arborcast {})", member.pid, member.command),
        format!("  coordinator  {}", member.coordinator),
    ];
    lines.push(match &member.tree {
        None => "  tree         none yet".to_owned(),
        Some(tree) => {
            let names: Vec<String> =
                tree.neighbours.iter().map(|peer| member.label(peer)).collect();
            let (term, counter) = (tree.epoch >> 32, tree.epoch & u64::from(u32::MAX));
            let members = terminal::count(member.members.len().max(1) as u64, "member");
            format!("  tree         {term}.{counter}, {members}, next to you: {}", names.join(", "))
        }
    });
    if !member.channels.is_empty() {
        lines.push(format!(
            "  {:<28} {:<8} {:<5} {:>9} {:>9} {:>7} {:>9}",
            "channel with", "kind", "over", "delay", "jitter", "loss", "bandwidth"
        ));
    }
    for channel in &member.channels {
        let figure = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1} {unit}"))
        };
        lines.push(format!(
            "  {:<28} {:<8} {:<5} {:>9} {:>9} {:>7} {:>9}",
            member.label(&channel.peer_id),
            channel.kind,
            channel.transport.as_deref().unwrap_or("-"),
            figure(channel.delay_ms, "ms"),
            figure(channel.jitter_ms, "ms"),
            figure(channel.loss.map(|loss| loss * 100.0), "%"),
            figure(channel.bandwidth_mbps, "Mbit/s"),
        ));
    }
    lines.push(format!("  frames       {}", counters(&member.stats["totals"])));
    lines.push(format!("  counters     {}", counters(&member.stats)));
    lines.join("\n")
}

/// The numbers of an object, by name.
fn counters(object: &serde_json::Value) -> String {
    let numbers = object.as_object().into_iter().flatten().filter(|(_, value)| value.is_number());
    let each: Vec<String> =
        numbers.map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
    each.join(", ")
}
