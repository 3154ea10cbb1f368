//! A session inside an application: it counts what others ask it to, answers each of them alone, and tells all how
//! far it is.
//!
//! ```text
//! cargo run --example host                 # prints a ticket; ends after three questions
//! arborcast join TICKET                    # say something
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to people")]

use arborcast::{Event, History, HostOptions, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().nick("counter").spawn().await?;
    let options = HostOptions::new().name("counting").history(History::All);
    let mut hosted = node.host(options).await?;
    println!("ask with: arborcast join {}", hosted.ticket);
    let session = hosted.session;
    let mut count = 0_u32;
    while count < 3 {
        // A real application has more to do here: `tokio::select!` takes it beside this.
        match hosted.events.next().await {
            Some(Event::Message(question)) => {
                count += 1;
                let answer = format!("you asked {} bytes", question.payload.len());
                session.message(answer).to(question.source).send().await?;
                session.send(format!("{count} so far")).await?;
            }
            Some(Event::NotSent { why, .. }) => eprintln!("not sent: {why}"),
            Some(Event::Ended(why)) => return Err(why.message.into()),
            Some(_) => {}
            None => break,
        }
    }
    let coordinator = session.coordinator().and_then(|own| own.addresses().into_iter().next());
    println!("counted {count} of {} members at {coordinator:?}", session.members().len());
    node.shutdown().await;
    Ok(())
}
