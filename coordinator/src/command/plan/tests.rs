use std::{io::Write as _, path::PathBuf};

use flate2::{Compression, write::GzEncoder};

use super::*;

const HEADER: &str = r#"{"type":"header","format":1,"name":"six","nodes":6,"links":6,"hop_ms":0.5,"sessions":[{"name":"chat","rate_mbps":0.25,"max_loss":0.05},{"name":"conf","rate_mbps":4.0,"max_loss":0.02}]}"#;

/// A file that goes with the test.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path =
            std::env::temp_dir().join(format!("arborcast-plan-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("the folder for temporary files can be written to");
        Self(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The patent's six devices: between 1 and 2 the way is longest.
fn six() -> Vec<String> {
    let mut lines = vec![HEADER.to_owned()];
    lines.extend(
        (0..6).map(|id| format!(r#"{{"type":"node","id":{id},"label":"<{id}>","up_mbps":10}}"#)),
    );
    for (a, b, delay) in [(0, 1, 10), (0, 2, 10), (1, 2, 40), (1, 4, 10), (2, 3, 10), (3, 5, 10)] {
        lines.push(format!(
            r#"{{"type":"link","a":{a},"b":{b},"delay_ms":{delay},"jitter_ms":1,"bandwidth_mbps":8,"loss":0}}"#
        ));
    }
    lines
}

fn read(name: &str, lines: &[String]) -> Result<Topology, String> {
    let file = Written::new(name, lines.join("\n").as_bytes());
    Topology::read(&file.0).map_err(|error| {
        let error = error.to_string();
        error.strip_prefix(&format!("{}:", file.0.display())).map_or(error.clone(), str::to_owned)
    })
}

fn planned(topology: &Topology, strategy: Named, previous: Option<&Edges>) -> (Edges, Figures) {
    plan(strategy, Effort::Quick, topology, &topology.sessions[0], previous)
}

#[test]
fn r2_every_strategy_leaves_the_worst_of_the_cycle_of_figure_2() {
    let topology = read("six", &six()).expect("is a topology");
    for strategy in Named::value_variants() {
        let (edges, figures) = planned(&topology, *strategy, None);
        assert_eq!(edges, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5)].into(), "{strategy:?}");
        assert_eq!((figures.poor_links, figures.excess_degree), (0, 0));
        // From E to F: five edges of 11.5 ms.
        assert!((figures.max_ms - 57.5).abs() < 1e-9, "{figures:?}");
    }
}

#[test]
fn the_same_file_may_be_packed() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(six().join("\n").as_bytes()).expect("memory takes all");
    let mut gzip = gzip.finish().expect("memory takes all");
    let whole = Written::new("whole.gz", &gzip);
    assert_eq!(Topology::read(&whole.0).expect("is a topology").links.len(), 6);
    gzip.truncate(gzip.len() / 2);
    let half = Written::new("half.gz", &gzip);
    let error = Topology::read(&half.0).expect_err("is cut off").to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let wrong = |at: usize, line: &str| {
        let mut lines = six();
        lines[at] = line.to_owned();
        read("wrong", &lines).expect_err(line)
    };
    let link =
        |a: u32, b: u32, figures: &str| format!(r#"{{"type":"link","a":{a},"b":{b},{figures}}}"#);
    let good = r#""delay_ms":1,"jitter_ms":0,"bandwidth_mbps":1,"loss":0"#;
    for (at, line, told) in [
        (0, HEADER.replace(":1,\"name", ":2,\"name"), "1: format 2 is not known"),
        (0, HEADER.replace("\"nodes\":6", "\"nodes\":0"), "1: a topology has one node"),
        (0, HEADER.replace("\"nodes\":6", "\"nodes\":7"), "the file ends after 6 nodes"),
        (0, HEADER.replace("\"links\":6", "\"links\":5"), "and 6 links"),
        (0, link(0, 1, good), "1: the first line has to be"),
        (1, link(0, 1, good), "2: node 0 is not known"),
        (
            2,
            r#"{"type":"node","id":5,"up_mbps":1}"#.to_owned(),
            "3: node 5, where nodes come in order",
        ),
        (2, r#"{"type":"node","id":1}"#.to_owned(), "3: missing field `up_mbps`"),
        (2, r#"{"type":"node","id":1,"up_mbps":-1}"#.to_owned(), "3: up_mbps is -1"),
        (7, link(0, 9, good), "8: node 9 is not known"),
        (7, link(3, 3, good), "8: a link of 3 with itself"),
        (8, link(1, 0, good), "9: a second link of 1 and 0"),
        (7, link(0, 1, &good.replace(":1,", ":-1,")), "8: delay_ms is -1"),
        (7, link(0, 1, &good.replace(":1,", ":1e999,")), "8: number out of range"),
        (7, link(0, 1, &good.replace(":1,", ":NaN,")), "8: "),
        (7, link(0, 1, &good.replace("\"loss\":0", "\"loss\":1.5")), "8: loss is 1.5"),
        (7, "nonsense".to_owned(), "8: "),
    ] {
        let error = wrong(at, &line);
        assert!(error.contains(told), "{line}: {error}");
    }
    let long = wrong(7, &"x".repeat(2 << 20));
    assert!(long.contains("8: a line of more than"), "{long}");
}

#[test]
fn one_member_has_an_empty_tree() {
    let header = HEADER.replace("\"nodes\":6,\"links\":6", "\"nodes\":1,\"links\":0");
    let topology = read("one", &[header, six()[1].clone()]).expect("is a topology");
    for strategy in Named::value_variants() {
        let (edges, figures) = planned(&topology, *strategy, None);
        assert!(edges.is_empty() && figures.bottleneck_mbps.is_none());
        assert!(figures.mean_ms.abs() < f64::EPSILON);
    }
    assert!(picture::svg(&topology, &Edges::new()).contains("&lt;0&gt;"));
}

#[test]
fn a_trace_goes_on_from_tree_to_tree() {
    let mut topology = read("trace", &six()).expect("is a topology");
    let steps = [
        r#"{"t":1,"op":"link","a":0,"b":2,"delay_ms":90}"#,
        r#"{"t":1,"op":"leave","node":5}"#,
        r#"{"t":3,"op":"link_down","a":0,"b":1}"#,
        r#"{"t":4,"op":"join","node":5}"#,
        r#"{"t":4,"op":"link_up","a":1,"b":0}"#,
    ];
    let file = Written::new("steps", steps.join("\n").as_bytes());
    let mut trace = Trace::open(&file.0).expect("is a trace");
    let mut trees = vec![planned(&topology, Named::RoutingCost, None).0];
    while let Some(time) = trace.advance(&mut topology).expect("is right") {
        let (tree, figures) = planned(&topology, Named::RoutingCost, trees.last());
        let changed = trees.last().map_or(0, |last| last.symmetric_difference(&tree).count());
        assert_eq!(figures.changed_edges, Some(changed), "at {time}");
        trees.push(tree);
    }
    assert_eq!(trees[1], [(0, 1), (1, 2), (1, 4), (2, 3)].into());
    assert_eq!(trees[2], [(0, 2), (1, 2), (1, 4), (2, 3)].into());
    assert!(trees[3].contains(&(3, 5)) && trees[3].contains(&(0, 1)));
    for (name, lines, told) in [
        (
            "back",
            "{\"t\":2,\"op\":\"join\",\"node\":1}\n{\"t\":1,\"op\":\"join\",\"node\":1}",
            "2: t is 1 after 2",
        ),
        ("who", "{\"t\":2,\"op\":\"join\",\"node\":9}", "1: node 9 is not known"),
        ("what", "{\"t\":2,\"op\":\"link_up\",\"a\":0,\"b\":5}", "1: there is no link of 0 and 5"),
        ("odd", "{\"t\":2,\"op\":\"explode\"}", "1: "),
    ] {
        let file = Written::new(name, lines.as_bytes());
        let trace = Trace::open(&file.0);
        let error =
            trace.and_then(|mut trace| trace.advance(&mut topology)).expect_err(name).to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn pictures_show_every_member_and_edge() {
    let topology = read("picture", &six()).expect("is a topology");
    let (edges, _) = planned(&topology, Named::RoutingCost, None);
    let dot = picture::dot(&topology, &edges);
    assert_eq!((dot.matches(" -- ").count(), dot.matches("[label=\"<").count()), (5, 6));
    let svg = picture::svg(&topology, &edges);
    assert_eq!((svg.matches("<line").count(), svg.matches("<circle").count()), (5, 6));
}
