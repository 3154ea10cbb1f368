//! A pipe with many ends: a stream of any length to everybody who has joined.
//!
//! ```text
//! cargo run --example pipe -- send 2 < file     # prints a ticket, waits for two others, and sends
//! cargo run --example pipe -- recv TICKET > copy
//! ```

#![expect(clippy::print_stderr, reason = "an example talks to people")]

use std::{io::Write as _, time::Duration};

use arborcast::{HostOptions, Node, Ticket};
use tokio::io::AsyncReadExt as _;

/// A message each; one without bytes is the end.
const BLOCK: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", receivers] => send(receivers.parse()?).await,
        ["recv", ticket] => recv(ticket.parse()?).await,
        _ => Err("say: send RECEIVERS, or recv TICKET".into()),
    }
}

async fn send(receivers: usize) -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().nick("source").spawn().await?;
    let hosted = node.host(HostOptions::new()).await?;
    eprintln!("receive with: pipe recv {}", hosted.ticket);
    let session = hosted.session;
    // Nobody takes the events: whoever sends alone has no use for them.
    drop(hosted.events);
    let mut trees = session.watch_tree();
    while session.members().len() <= receivers {
        trees.changed().await?;
    }
    let mut input = tokio::io::stdin();
    let mut block = vec![0; BLOCK];
    loop {
        match input.read(&mut block).await? {
            0 => break,
            // Waits by itself while somebody is behind.
            length => drop(session.send(block[..length].to_vec()).await?),
        }
    }
    let end = session.send_confirmed("", Duration::from_secs(60)).await?;
    session.leave().await;
    if end.complete {
        // Some have left with it already.
        eprintln!("all have all of it");
        return Ok(());
    }
    Err(format!("without: {:?}", end.missing).into())
}

async fn recv(ticket: Ticket) -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().nick("copy").spawn().await?;
    let (session, _events) = node.join(ticket).await?;
    let mut messages = session.messages();
    while let Some(message) = messages.next().await {
        if message.payload.is_empty() {
            session.leave().await;
            return Ok(());
        }
        std::io::stdout().write_all(&message.payload)?;
    }
    Err("the session ended before the stream did".into())
}
