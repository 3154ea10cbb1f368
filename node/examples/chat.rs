//! A chat: what is typed goes to everybody.
//!
//! ```text
//! cargo run --example chat                # makes a session and prints its ticket
//! cargo run --example chat -- TICKET      # joins it, here or elsewhere
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use arborcast::{Event, HostOptions, Node, Ticket};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::var("USER").unwrap_or_default();
    let node = Node::builder().nick(name).spawn().await?;
    let (session, mut events) = if let Some(ticket) = std::env::args().nth(1) {
        node.join(ticket.parse::<Ticket>()?).await?
    } else {
        let hosted = node.host(HostOptions::new()).await?;
        println!("join with: {}", hosted.ticket);
        (hosted.session, hosted.events)
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => drop(session.send(line).await?),
                None => break,
            },
            event = events.next() => match event {
                Some(Event::Message(message)) => {
                    println!("{}", String::from_utf8_lossy(&message.payload));
                }
                Some(Event::Joined(who)) => println!("+ {}", who.nick),
                Some(Event::Left(who)) => println!("- {}", who.nick),
                Some(Event::Ended(why)) => return Err(why.message.into()),
                Some(_) => {}
                None => break,
            },
        }
    }
    // What was typed last is still sent.
    session.leave().await;
    Ok(())
}
