//! Things that happen to real processes, each with what must come of it asserted and what it took
//! measured: tests run them for the one, the benchmark `figures` for the other.

pub mod failover;
pub mod idle;
pub mod noise;
pub mod paused;
pub mod restart;
pub mod siege;
pub mod stopped;
pub mod storm;
pub mod worn;
