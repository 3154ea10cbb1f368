//! Tests of the wire as a whole: what is written is read, hostile bytes do no harm, and the bytes
//! stay what they were.

mod robustness;
mod round_trip;
pub(crate) mod strategies;
mod vectors;
