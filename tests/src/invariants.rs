//! What must always hold, one file for each property. Worlds report what they see; a broken
//! invariant is a sentence that says what was seen.

use crate::sim::setup::Setup;

pub mod admission;
pub mod bounds;
pub mod complete;
pub mod epochs;
pub mod manner;
pub mod once;
pub mod order;
pub mod payload;
pub mod rest;
pub mod spinning;
pub mod trees;

/// All of them, with what they remember.
#[derive(Debug)]
pub struct Invariants {
    /// Frames and edges.
    pub once: once::Once,
    /// Order of delivery.
    pub order: order::Order,
    /// Nothing is missing.
    pub complete: complete::Complete,
    /// The coordinator's trees.
    pub trees: trees::Trees,
    /// Epochs only rise.
    pub epochs: epochs::Epochs,
    /// Queues and stores.
    pub bounds: bounds::Bounds,
    /// Timers.
    pub spinning: spinning::Spinning,
    /// Payloads.
    pub payload: payload::Payload,
    /// How next hops are learnt.
    pub manner: manner::Manner,
    /// Who is let in.
    pub admission: admission::Gate,
}

impl Invariants {
    /// Before anything was seen.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            once: once::Once::new(setup.calm),
            order: order::Order,
            complete: complete::Complete::default(),
            trees: trees::Trees,
            epochs: epochs::Epochs::default(),
            bounds: bounds::Bounds::new(setup.store_bytes, setup.history_bytes),
            spinning: spinning::Spinning::default(),
            payload: payload::Payload,
            manner: manner::Manner::default(),
            admission: admission::Gate::new(setup),
        }
    }
}
