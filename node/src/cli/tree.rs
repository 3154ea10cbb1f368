//! `arborcast tree`: the relay tree as a running member of this user knows it.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    drawing,
    failure::Failure,
    json,
    local::{self, Snapshot},
    options::LocalArgs,
    output::Output,
    terminal,
};

mod forms;

/// How a tree is shown (R14).
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Format {
    /// As a tree that hangs from this member.
    #[default]
    Text,
    /// For Graphviz: `arborcast tree --format dot | dot -Tsvg`.
    Dot,
    /// As adjacency list: each member by number, with the numbers of its neighbours.
    List,
    /// As adjacency matrix: a row and a column for each member, 1 where two are neighbours.
    Matrix,
    /// As `--json` does: one object for each member that runs here.
    Json,
}

/// What `tree` is called with.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The session's name, or the beginning of its id; default: all.
    session: Option<String>,
    /// How to show it. As text and JSON each member that runs here tells its own view; a graph, list
    /// or matrix is shown once for each session, of the newest tree.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    #[command(flatten)]
    local: LocalArgs,
}

/// The `tree` event, with whose it is.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    session: &'a str,
    peer_id: &'a str,
    #[serde(flatten)]
    tree: &'a json::Tree,
}

/// Shows the trees.
pub(super) async fn run(args: Args, json: bool, output: &Output) -> Result<(), Failure> {
    let format = match (json, args.format) {
        (true, Format::Text | Format::Json) => Format::Json,
        (true, Format::Dot | Format::List | Format::Matrix) => {
            return Err(Failure::usage("usage", "--json has a form of its own: no --format"));
        }
        (false, format) => format,
    };
    let all = local::running(&args.local.into(), args.session.as_deref()).await?;
    let all = match format {
        Format::Text | Format::Json => all,
        Format::Dot | Format::List | Format::Matrix => newest(all),
    };
    let mut shown = false;
    for member in &all {
        let gap = if shown { "\n" } else { "" };
        let lines: Box<dyn Iterator<Item = String> + Send> = match (&member.tree, format) {
            (tree, Format::Text) => {
                let text = format!("{gap}{}", picture(member, tree.as_ref()));
                Box::new(std::iter::once(text))
            }
            (None, Format::Dot | Format::List | Format::Matrix | Format::Json) => continue,
            (Some(tree), Format::Json) => Box::new(std::iter::once(json::as_line(&Line {
                event: "tree",
                session: &member.session,
                peer_id: &member.peer_id,
                tree,
            }))),
            (Some(tree), Format::Dot) => {
                Box::new(std::iter::once(format!("{gap}{}", forms::dot(member, tree))))
            }
            (Some(tree), form @ (Format::List | Format::Matrix)) => {
                let told = forms::tree(member, tree).map_err(|error| {
                    Failure::failed("failed", format!("what {} tells: {error}", member.pid))
                })?;
                let heading = format!("{gap}{}", title(member, tree));
                let rows = if form == Format::List {
                    Box::new(forms::list(&told)) as Box<dyn Iterator<Item = String> + Send>
                } else {
                    Box::new(forms::matrix(&told))
                };
                Box::new(std::iter::once(heading).chain(rows))
            }
        };
        shown = true;
        // Line by line: the matrix of a large session is large.
        for line in lines {
            if output.line(&line).await.is_err() {
                return Ok(());
            }
        }
    }
    if shown { Ok(()) } else { Err(Failure::failed("no_tree", "there is no tree yet; try again")) }
}

/// Of each session the member with the newest tree; of several the one that knows most members. In
/// the order in which the sessions come.
fn newest(all: Vec<Snapshot>) -> Vec<Snapshot> {
    let rank =
        |member: &Snapshot| (member.tree.as_ref().map(|tree| tree.epoch), member.members.len());
    let mut chosen: Vec<Snapshot> = Vec::new();
    for member in all {
        match chosen.iter_mut().find(|other| other.session == member.session) {
            Some(other) if rank(&member) > rank(other) => *other = member,
            Some(_) => {}
            None => chosen.push(member),
        }
    }
    chosen
}

/// The first line about a session.
pub(super) fn heading(member: &Snapshot) -> String {
    let id = member.session.get(..12).unwrap_or(&member.session);
    let open = if member.open { " · open: anybody who knows the name can read" } else { "" };
    format!("session {} ({id}…){open}", terminal::name(&member.name))
}

/// The first line about a tree.
fn title(member: &Snapshot, tree: &json::Tree) -> String {
    let (term, counter) = (tree.epoch >> 32, tree.epoch & u64::from(u32::MAX));
    let members = terminal::count(member.members.len().max(1) as u64, "member");
    format!("{} · tree {term}.{counter} · {members}", heading(member))
}

fn picture(member: &Snapshot, tree: Option<&json::Tree>) -> String {
    let Some(tree) = tree else { return format!("{}\n  no tree yet", heading(member)) };
    let mut text = title(member, tree);
    for line in branches(member, tree) {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    for (a, b) in &tree.overlap {
        let (a, b) = (member.label(a), member.label(b));
        let _ = write!(text, "\n  old edge, still in use: {a} — {b}");
    }
    text
}

/// The tree from this member's point of view, one line for each member.
fn branches(member: &Snapshot, tree: &json::Tree) -> Vec<String> {
    let own = member.peer_id.as_str();
    let others = member.members.iter().map(|other| other.peer_id.as_str());
    let edges = || tree.edges.iter().map(|(a, b)| (a.as_str(), b.as_str()));
    let is_neighbour = |id: &str| edges().any(|(a, b)| (a, b) == (own, id) || (b, a) == (own, id));
    drawing::branches(std::iter::once(own).chain(others), edges())
        .into_iter()
        .map(|drawing::Branch { before, id }| {
            let you = if id == own { " (you)" } else { "" };
            let channel = match member.channels.iter().find(|channel| channel.peer_id == id) {
                Some(channel) if is_neighbour(id) => format!("  {}", describe(channel)),
                Some(_) | None => String::new(),
            };
            format!("{before}{}{you}{channel}", member.label(id))
        })
        .collect()
}

/// A channel in a few words.
pub(super) fn describe(channel: &json::Channel) -> String {
    let transport = channel.transport.as_deref().unwrap_or_default();
    match channel.delay_ms {
        Some(delay) => format!("{} {transport} {delay:.1} ms", channel.kind),
        None => format!("{} {transport}", channel.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(members: &[&str], edges: &[(&str, &str)]) -> Snapshot {
        Snapshot {
            pid: 1,
            command: "join".to_owned(),
            peer_id: "b".to_owned(),
            nick: "bea".to_owned(),
            session: "00".repeat(32),
            name: "lobby".to_owned(),
            open: true,
            coordinator: "c".to_owned(),
            tree: Some(json::Tree {
                epoch: (1 << 32) | 4,
                edges: edges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
                overlap: Vec::new(),
                neighbours: Vec::new(),
            }),
            members: members
                .iter()
                .map(|id| json::Peer { peer_id: (*id).to_owned(), nick: String::new() })
                .collect(),
            channels: Vec::new(),
            stats: serde_json::Value::Null,
        }
    }

    #[test]
    fn the_tree_hangs_from_the_member_that_tells_it() {
        let member = snapshot(&["a", "b", "c", "d", "e"], &[("a", "b"), ("a", "c"), ("b", "d")]);
        assert_eq!(
            picture(&member, member.tree.as_ref()),
            "session lobby (000000000000…) · open: anybody who knows the name can read · tree 1.4 \
             · 5 members\n  b (you)\n  ├─ a\n  │  └─ c\n  └─ d\n  e"
        );
    }

    #[test]
    fn r14_each_session_is_shown_once_with_its_newest_tree() {
        let told = |session: &str, peer_id: &str, epoch: Option<u64>| {
            let mut member = snapshot(&[], &[]);
            member.session = session.to_owned();
            member.peer_id = peer_id.to_owned();
            member.tree = member.tree.and_then(|tree| Some(json::Tree { epoch: epoch?, ..tree }));
            member
        };
        let all = vec![
            told("s", "a", None),
            told("s", "b", Some(4)),
            told("t", "c", Some(7)),
            told("s", "d", Some(5)),
            told("s", "e", Some(5)),
        ];
        let chosen: Vec<String> = newest(all).into_iter().map(|member| member.peer_id).collect();
        assert_eq!(chosen, ["d", "c"]);
    }

    #[test]
    fn a_session_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let member = snapshot(&[], &[]);
        assert!(member.is_meant_by("lobby") && member.is_meant_by("0000"));
        assert!(!member.is_meant_by("lob") && !member.is_meant_by("01"));
    }
}
