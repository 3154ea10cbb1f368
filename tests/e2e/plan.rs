//! Trees computed offline, from what was measured of a real network.

use std::process::Output;

use arborcast_tests::process::Place;
use serde_json::Value;

/// Round trips between the regions of a cloud; see `tests/topologies/README.md`.
pub(super) const MEASURED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/aws21-full.jsonl.gz");

fn plan(args: &[&str]) -> Output {
    let place = Place::new();
    let args = [&["plan", "--topology"], args].concat();
    place.process("arborcast-coordinator", "plan", &args).command().output().expect("it runs")
}

fn planned(args: &[&str]) -> Value {
    let output = plan(&[&[MEASURED], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("is JSON")
}

fn mean_ms(plan: &Value) -> f64 {
    plan["mean_ms"].as_f64().expect("is a number")
}

#[test]
fn a_measured_network_gets_a_tree_near_the_best_known() {
    for (session, best_ms, share) in [("chat", 108.12, 1.01), ("conf", 108.88, 1.05)] {
        let tree = planned(&["--session", session]);
        assert_eq!(tree["edges"].as_array().map(Vec::len), Some(20));
        assert_eq!((&tree["poor_links"], &tree["excess_degree"]), (&0.into(), &0.into()));
        assert!(mean_ms(&tree) <= best_ms * share, "{session}: {}", mean_ms(&tree));
        assert!(mean_ms(&tree) < mean_ms(&planned(&["--session", session, "--strategy", "mst"])));
    }
}

#[test]
fn a_minimum_spanning_tree_is_exact() {
    // The best known figure of that tree on this network, in milliseconds.
    let tree = planned(&["--strategy", "mst"]);
    assert!((mean_ms(&tree) - 122.33).abs() < 0.01, "{}", mean_ms(&tree));
}

#[test]
fn what_cannot_be_planned_is_said_in_words() {
    for (args, code, told) in [
        (&["nowhere.jsonl"][..], 1, "cannot read nowhere.jsonl"),
        (&[MEASURED, "--session", "none"], 2, "the file has chat, conf"),
        (&[MEASURED, "--strategy", "best"], 2, "routing-cost"),
        (&[MEASURED, "--previous", "nowhere.json"], 1, "nowhere.json"),
        (&[MEASURED, "--json"], 2, "--compare"),
    ] {
        let output = plan(args);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        assert!(complaint.contains(told), "{complaint}");
        assert!(output.stdout.is_empty());
    }
}
