//! Sensors that tell everybody what they measure, now: readings are of class live, so one that is late gives way
//! to the next, and a slow display holds no sensor back. What must not be lost, an alarm, is sent reliably.
//!
//! ```text
//! cargo run --example sensors -- display           # prints a ticket, and what sensors tell
//! cargo run --example sensors -- sensor TICKET 21.5 23.0 99.9
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::time::Duration;

use arborcast::{HostOptions, Node, ServiceId, Ticket};

/// What is in a message.
const READING: ServiceId = ServiceId(1);
const ALARM: ServiceId = ServiceId(2);
/// Degrees from which on it is an alarm.
const HOT: f64 = 60.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [role] if role == "display" => display().await,
        [role, ticket, readings @ ..] if role == "sensor" => {
            let readings: Result<Vec<f64>, _> = readings.iter().map(|text| text.parse()).collect();
            sensor(ticket.parse()?, readings?).await
        }
        _ => Err("say: display, or sensor TICKET READINGS".into()),
    }
}

async fn sensor(ticket: Ticket, readings: Vec<f64>) -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().nick("sensor").spawn().await?;
    let (session, events) = node.join(ticket).await?;
    drop(events);
    let mut trees = session.watch_tree();
    while session.members().len() < 2 {
        trees.changed().await?;
    }
    for degrees in readings {
        let text = format!("{degrees:.1}");
        if degrees >= HOT {
            let alarm = session.message(text.clone()).service(ALARM);
            alarm.send_confirmed(Duration::from_secs(10)).await?;
        }
        session.message(text).service(READING).live().send().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    session.leave().await;
    Ok(())
}

async fn display() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().nick("display").spawn().await?;
    let hosted = node.host(HostOptions::new()).await?;
    println!("measure with: sensors sensor {}", hosted.ticket);
    let mut messages = hosted.session.messages();
    while let Some(message) = messages.next().await {
        let degrees = String::from_utf8_lossy(&message.payload);
        match message.service {
            ALARM => println!("ALARM {degrees} °C"),
            READING => println!("{degrees} °C"),
            _ => {}
        }
    }
    Ok(())
}
