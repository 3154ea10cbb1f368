//! A tree in the forms of R14: adjacency list, adjacency matrix, and a graph for Graphviz.

use std::fmt::Write as _;

use crate::protocol::{
    id::{Incarnation, MemberId},
    tree::{Edge, Member, Tree, TreeError},
};

use crate::cli::{json, local::Snapshot, terminal};

/// What a running member tells, as the tree that it is. Runs of members are not told and left blank.
pub(super) fn tree(member: &Snapshot, told: &json::Tree) -> Result<Tree, TreeError> {
    let id = |text: &str| text.parse::<MemberId>().map_err(|_| TreeError::Stranger);
    let mut edges = Vec::new();
    let mut ends = Vec::new();
    for (a, b) in &told.edges {
        edges.push(Edge::new(id(a)?, id(b)?).ok_or(TreeError::Loop)?);
        ends.extend([a, b]);
    }
    let listed = member.members.iter().map(|other| (&other.peer_id, other.nick.as_str()));
    // Who follows its neighbours alone knows no list of members.
    let unlisted = ends
        .into_iter()
        .chain([&member.peer_id])
        .filter(|end| !member.members.iter().any(|other| other.peer_id == **end))
        .map(|end| (end, ""));
    let mut members = std::collections::BTreeMap::new();
    for (peer_id, nick) in listed.chain(unlisted) {
        let id = id(peer_id)?;
        let incarnation = Incarnation::from_bytes([0; 16]);
        members.insert(id, Member { id, incarnation, nick: nick.to_owned(), group: 0 });
    }
    Tree::new(members.into_values(), edges, [])
}

/// One line for each member: its number, its name, the numbers of its neighbours.
pub(super) fn list(tree: &Tree) -> impl Iterator<Item = String> + Send + use<> {
    let list = tree.adjacency_list();
    let width = digits(list.members.len());
    list.members.into_iter().zip(list.neighbours).enumerate().map(
        move |(number, (member, neighbours))| {
            let mut line = format!("  {number:width$}  {}:", label(&member));
            for neighbour in neighbours {
                let _ = write!(line, " {neighbour}");
            }
            line
        },
    )
}

/// One row for each member: its number, 0 or 1 for each member, its name.
pub(super) fn matrix(tree: &Tree) -> impl Iterator<Item = String> + Send + use<> {
    let matrix = tree.adjacency_matrix();
    let count = matrix.members.len();
    let width = digits(count);
    (0..count).map(move |row| {
        let mut line = format!("  {row:width$} ");
        for column in 0..count {
            line.push_str(if matrix.joins(row, column) { " 1" } else { " 0" });
        }
        if let Some(member) = matrix.members.get(row) {
            let _ = write!(line, "  {}", label(member));
        }
        line
    })
}

/// A graph in Graphviz' language; old edges that are still in use are dashed.
pub(super) fn dot(member: &Snapshot, tree: &json::Tree) -> String {
    let mut text = format!("graph {} {{", quoted(&terminal::name(&member.name)));
    for other in &member.members {
        let (id, label) = (quoted(&other.peer_id), quoted(&member.label(&other.peer_id)));
        let _ = write!(text, "\n  {id} [label={label}];");
    }
    for (edges, style) in [(&tree.edges, ""), (&tree.overlap, " [style=dashed]")] {
        for (a, b) in edges {
            let _ = write!(text, "\n  {} -- {}{style};", quoted(a), quoted(b));
        }
    }
    text.push_str("\n}");
    text
}

fn digits(members: usize) -> usize {
    members.saturating_sub(1).to_string().len()
}

fn label(member: &Member) -> String {
    if member.nick.is_empty() {
        return format!("{:?}", member.id);
    }
    format!("{} ({:?})", terminal::name(&member.nick), member.id)
}

/// A text as one word of that language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use crate::identity::Keypair;

    use super::*;

    /// The patent's figure 2: A-B, A-C, B-E, C-D, D-F, told by A; members in order of ids.
    fn figure_2() -> (Snapshot, json::Tree) {
        let mut ids: Vec<MemberId> = (0..6_u8)
            .map(|seed| {
                let key = Keypair::ed25519_from_bytes([seed; 32]).expect("any bytes are a seed");
                MemberId::from(&key.try_into_ed25519().expect("it is one"))
            })
            .collect();
        ids.sort_unstable();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let edges = [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5)]
            .map(|(a, b): (usize, usize)| (ids[a].clone(), ids[b].clone()));
        let tree = json::Tree {
            epoch: (1 << 32) | 4,
            edges: edges.to_vec(),
            overlap: vec![(ids[1].clone(), ids[2].clone())],
            neighbours: ids[1..3].to_vec(),
        };
        let nicks = ["A", "B", "C", "D", "E", "F \"x\" \\"];
        let members = ids
            .iter()
            .zip(nicks)
            .map(|(peer_id, nick)| json::Peer { peer_id: peer_id.clone(), nick: nick.to_owned() });
        let snapshot = Snapshot {
            pid: 1,
            command: "join".to_owned(),
            peer_id: ids[0].clone(),
            nick: "A".to_owned(),
            session: "00".repeat(32),
            name: "lobby".to_owned(),
            open: false,
            coordinator: ids[0].clone(),
            members: members.collect(),
            tree: Some(tree.clone()),
            channels: Vec::new(),
            stats: serde_json::Value::Null,
        };
        (snapshot, tree)
    }

    #[test]
    fn r14_the_list_names_each_members_neighbours() {
        let (member, told) = figure_2();
        let lines: Vec<String> = list(&tree(&member, &told).expect("is a tree")).collect();
        let numbers: Vec<&str> =
            lines.iter().filter_map(|line| Some(line.rsplit_once(": ")?.1)).collect();
        assert_eq!(numbers, ["1 2", "0 4", "0 3", "2 5", "1", "3"]);
        assert!(lines[0].starts_with("  0  A ("), "{lines:?}");
    }

    #[test]
    fn r14_the_matrix_has_a_one_where_two_are_neighbours() {
        let (member, told) = figure_2();
        let lines: Vec<String> = matrix(&tree(&member, &told).expect("is a tree")).collect();
        let rows: Vec<&str> = lines.iter().filter_map(|line| line.get(5..16)).collect();
        assert_eq!(
            rows,
            [
                "0 1 1 0 0 0",
                "1 0 0 0 1 0",
                "1 0 0 1 0 0",
                "0 0 1 0 0 1",
                "0 1 0 0 0 0",
                "0 0 0 1 0 0"
            ]
        );
    }

    #[test]
    fn r14_the_graph_has_every_edge_and_escapes_names() {
        let (member, told) = figure_2();
        let text = dot(&member, &told);
        assert_eq!(text.matches(" -- ").count(), 6);
        assert_eq!(text.matches("style=dashed").count(), 1);
        assert_eq!(text.matches("label=").count(), 6);
        assert!(text.contains(r#"F \"x\" \\"#), "{text}");
        assert!(text.starts_with("graph \"lobby\" {") && text.ends_with('}'));
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let (member, mut told) = figure_2();
        told.edges.extend(told.overlap.clone());
        assert_eq!(tree(&member, &told), Err(TreeError::Cycle));
        told.edges = vec![("x".to_owned(), "y".to_owned())];
        assert_eq!(tree(&member, &told), Err(TreeError::Stranger));
    }
}
