//! Gossipsub, by which trees are pushed.

use std::time::Duration;

use arborcast_protocol::limits;
use libp2p::{gossipsub, identity::Keypair};

/// Pushes that wait for one peer: of small sessions those of a minute. Of large ones they are announcements.
const WAITING_PUSHES: usize = 256;

/// Gossipsub as all Arborcast peers must run it: signed, strict, and validated by hand, so that
/// nothing a coordinator did not sign is passed on.
///
/// # Errors
/// What libp2p finds wrong.
pub fn gossipsub(keypair: &Keypair) -> Result<gossipsub::Behaviour, String> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(limits::GOSSIP)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .connection_handler_queue_len(WAITING_PUSHES)
        .build()
        .map_err(|error| error.to_string())?;
    gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(keypair.clone()), config)
        .map_err(str::to_owned)
}
