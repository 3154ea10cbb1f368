//! What commands share, and no library needs.

pub mod file_limit;
pub mod panics;
pub mod signals;
