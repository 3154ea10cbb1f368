//! What arrives is what was sent, byte for byte.

use arborcast::engine::event::Message;

use crate::{model::Model, sim::Who};

/// Nothing to remember.
#[derive(Debug, Default)]
pub struct Payload;

impl Payload {
    /// An application takes a message.
    pub fn delivered(&self, model: &Model, who: Who, message: &Message) -> Result<(), String> {
        let run = (message.source, message.incarnation);
        let sent = model.sources.get(&run).and_then(|source| source.message(message.seq));
        match sent {
            Some(sent) if sent.payload != message.payload => Err(format!(
                "{who:?} gets #{} of {:?} with other bytes ({} of {})",
                message.seq,
                message.source,
                message.payload.len(),
                sent.payload.len()
            )),
            Some(_) | None => Ok(()),
        }
    }
}
