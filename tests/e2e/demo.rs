//! The demonstration of figure 2 does what it says, and says what happened.

use arborcast_tests::process::{Place, Process};
use serde_json::{Value, json};

fn fact(demo: &Process, name: &str) -> Value {
    demo.wait(name, |log| log.of(name).next().cloned())
}

/// R1 to R3 and R17 with real processes: measured channels give the tree of figure 3b, each message
/// crosses each of its channels once, and the tree follows a channel that gets worse.
#[test]
fn r1_r2_r3_r17_the_demonstration_shows_figure_2() {
    let place = Place::new();
    let demo = place.start("demo", &["demo", "--fast"]);
    let tree = fact(&demo, "demo_tree");
    assert_eq!(tree["edges"], json!(["A-B", "A-C", "B-E", "C-D", "D-F"]));
    let channels: Vec<Value> = demo.log().of("demo_channel").cloned().collect();
    let delay = |channel: &Value| channel["delay_ms"].as_f64().expect("is measured");
    let poorest = channels.iter().max_by(|a, b| delay(a).total_cmp(&delay(b)));
    assert_eq!(poorest.expect("there are six")["channel"], "B-C");

    let moved = fact(&demo, "demo_moved");
    let messages: Vec<Value> = demo.log().of("demo_message").cloned().collect();
    assert_eq!(messages.len(), 6);
    for message in messages {
        let once = json!({ "A-B": 1, "A-C": 1, "B-C": 0, "B-E": 1, "C-D": 1, "D-F": 1 });
        assert_eq!(message["copies"], once, "{message}");
    }
    assert_eq!(moved["edges"], json!(["A-B", "B-C", "B-E", "C-D", "D-F"]));
    assert!(moved["overlap_after_ms"].is_number(), "made before it broke: {moved}");
    println!("the tree moved after {} ms", moved["took_ms"]);

    let killed = fact(&demo, "demo_killed");
    assert_eq!(killed["edges"], json!(["A-C", "C-D", "D-F"]));
    println!("nobody heard nothing for longer than {} ms", killed["longest_silence_ms"]);
    assert!(killed["longest_silence_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{killed}");
    let ended = demo.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.complaint());
    assert_eq!(ended.log.of("demo_done").count(), 1);
}
