//! Liveness: once nothing fails any more, all come to agree within a stated time, what is fresh
//! reaches all, and stores become empty.

use std::time::Duration;

/// From the last fault until all members hold the same tree. The lease of a member that was killed
/// (15 s) runs out in it, and then some requests may have to be repeated.
pub const AGREEMENT: Duration = Duration::from_secs(30);

/// From then until a fresh message has reached everybody, on the longest lines too.
pub const FRESH: Duration = Duration::from_secs(20);

/// How much later that may be where a source had sent to one that is not there: it takes that long
/// to give it up, and it takes room meanwhile.
pub const ABSENT: Duration = Duration::from_secs(30);

/// From then until no store holds anything any more. What all present members have goes at once; the
/// last frames of a source that was killed, which some have and some never heard of, are kept for twice
/// a minute at most.
pub const EMPTY: Duration = Duration::from_secs(130);

/// From then until also the beginnings of large messages are forgotten whose sources were killed:
/// flows of sources that are gone are kept for a minute after their last frame.
pub const FORGOTTEN: Duration = Duration::from_secs(130);
