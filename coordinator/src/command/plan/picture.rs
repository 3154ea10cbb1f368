//! Pictures of trees.

use std::fmt::Write as _;

use super::{Edges, Topology};

/// As a graph for Graphviz.
pub(super) fn dot(topology: &Topology, edges: &Edges) -> String {
    let mut dot = "graph tree {\n".to_owned();
    for (id, node) in topology.nodes.iter().enumerate().filter(|(_, node)| node.is_present) {
        let label = node.label.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(dot, "  {id} [label=\"{label}\"];");
    }
    for (a, b) in edges {
        let delay = topology.links.get(&(*a, *b)).map_or(0.0, |link| link.figures.delay_ms);
        let _ = writeln!(dot, "  {a} -- {b} [label=\"{delay:.1} ms\"];");
    }
    dot.push('}');
    dot
}

/// One member in the picture.
struct Place {
    id: usize,
    parent: Option<usize>,
    /// Steps from the middle.
    depth: u32,
    /// The sector that it and what hangs from it take, as shares of the circle.
    from: f64,
    to: f64,
}

/// As a picture: the middle of the largest part in the middle, what hangs from a member beyond it.
pub(super) fn svg(topology: &Topology, edges: &Edges) -> String {
    let places = places(topology, edges);
    let deepest = places.iter().map(|place| place.depth).max().unwrap_or(0);
    let ring = (RING / (f64::from(deepest) + 1.0)).max(60.0);
    let half = ring * (f64::from(deepest) + 1.0) + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{0:.0} {0:.0} {1:.0} {1:.0}\" font-family=\"sans-serif\" \
         font-size=\"{2}\">\n<rect x=\"{0:.0}\" y=\"{0:.0}\" width=\"{1:.0}\" height=\"{1:.0}\" fill=\"white\"/>\n",
        -half,
        half * 2.0,
        if places.len() > 100 { 7 } else { 12 },
    );
    let point = |place: &Place| {
        let angle = (place.from + place.to) * std::f64::consts::PI;
        let radius = f64::from(place.depth) * ring;
        (radius * angle.cos(), radius * angle.sin(), angle)
    };
    let mut at = vec![None; topology.nodes.len()];
    for place in &places {
        at[place.id] = Some(point(place));
    }
    for place in &places {
        let (Some((x, y, _)), Some((px, py, _))) =
            (at[place.id], place.parent.and_then(|parent| at[parent]))
        else {
            continue;
        };
        let _ = writeln!(
            svg,
            "<line x1=\"{px:.1}\" y1=\"{py:.1}\" x2=\"{x:.1}\" y2=\"{y:.1}\" stroke=\"#789\"/>"
        );
    }
    for place in &places {
        let Some((x, y, angle)) = at[place.id] else { continue };
        let label = escaped(&topology.nodes[place.id].label);
        // Outwards, and never upside down.
        let is_left = angle.cos() < 0.0;
        let turn = angle.to_degrees() + if is_left { 180.0 } else { 0.0 };
        let (anchor, off) = if is_left { ("end", -6) } else { ("start", 6) };
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#246\"/><text transform=\"translate({x:.1} {y:.1}) \
             rotate({turn:.1})\" x=\"{off}\" y=\"3\" text-anchor=\"{anchor}\">{label}</text>"
        );
    }
    svg.push_str("</svg>");
    svg
}

/// From the middle to the rim, in units of the picture, where that is room enough.
const RING: f64 = 400.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Where members are: each part has a share of the circle by its size, each member one by what hangs from it.
fn places(topology: &Topology, edges: &Edges) -> Vec<Place> {
    let mut beside: Vec<Vec<usize>> = vec![Vec::new(); topology.nodes.len()];
    for (a, b) in edges {
        beside[*a as usize].push(*b as usize);
        beside[*b as usize].push(*a as usize);
    }
    let present = || (0..topology.nodes.len()).filter(|id| topology.nodes[*id].is_present);
    let all = present().count();
    let mut is_placed = vec![false; topology.nodes.len()];
    let mut places = Vec::new();
    let mut begun = 0.0;
    let mut roots: Vec<usize> = present().collect();
    roots.sort_by_key(|id| std::cmp::Reverse(beside[*id].len()));
    for root in roots {
        if is_placed[root] {
            continue;
        }
        let part = walk(&beside, middle(&beside, root));
        let mut size = vec![1_usize; part.len()];
        let index: std::collections::BTreeMap<usize, usize> =
            part.iter().enumerate().map(|(at, (id, ..))| (*id, at)).collect();
        for at in (1..part.len()).rev() {
            if let Some(parent) = part[at].1.and_then(|parent| index.get(&parent)) {
                size[*parent] += size[at];
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "members are few enough")]
        let share = |size: usize| size as f64 / all.max(1) as f64;
        // Where the sector of the next one below each begins.
        let mut next = vec![0.0; part.len()];
        for (at, (id, parent, depth)) in part.iter().enumerate() {
            let from = match parent.and_then(|parent| index.get(&parent)) {
                Some(parent) => {
                    let from = next[*parent];
                    next[*parent] += share(size[at]);
                    from
                }
                None => begun,
            };
            next[at] = from;
            is_placed[*id] = true;
            // Parts beside the largest one have no middle of their own to lie in.
            let depth = *depth + u32::from(begun > 0.0);
            places.push(Place {
                id: *id,
                parent: *parent,
                depth,
                from,
                to: from + share(size[at]),
            });
        }
        begun += share(part.len());
    }
    places
}

/// From a member outwards: each with the one before it, and how many steps away it is.
fn walk(beside: &[Vec<usize>], root: usize) -> Vec<(usize, Option<usize>, u32)> {
    let mut order = vec![(root, None, 0)];
    let mut at = 0;
    while let Some((member, before, depth)) = order.get(at).copied() {
        at += 1;
        let next = beside[member].iter().filter(|other| Some(**other) != before);
        order.extend(next.map(|other| (*other, Some(member), depth + 1)));
    }
    order
}

/// A member halfway between the two that are most steps apart.
fn middle(beside: &[Vec<usize>], member: usize) -> usize {
    let last = |from| walk(beside, from).last().map_or(from, |(member, ..)| *member);
    let way = walk(beside, last(member));
    let Some((mut at, _, depth)) = way.last().copied() else { return member };
    let before: std::collections::BTreeMap<usize, Option<usize>> =
        way.iter().map(|(member, before, _)| (*member, *before)).collect();
    for _ in 0..depth / 2 {
        at = before.get(&at).copied().flatten().unwrap_or(at);
    }
    at
}
