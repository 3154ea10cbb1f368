//! Names for sessions that nobody named: two words that people can tell each other.

use crate::protocol::id::SessionId;

const HOW: [&str; 32] = [
    "amber", "brave", "bright", "brisk", "calm", "clear", "cosy", "daring", "eager", "early",
    "fair", "gentle", "glad", "golden", "keen", "kind", "light", "lively", "lucky", "mellow",
    "merry", "neat", "noble", "proud", "quick", "quiet", "sharp", "silver", "smart", "sunny",
    "swift", "warm",
];

const WHO: [&str; 32] = [
    "badger", "beaver", "bison", "crane", "dolphin", "eagle", "falcon", "finch", "fox", "gecko",
    "hare", "hawk", "heron", "ibis", "jay", "koala", "lark", "lynx", "marten", "mole", "newt",
    "otter", "owl", "panda", "puffin", "raven", "robin", "seal", "stork", "swan", "toad", "wren",
];

/// The name of a session. Not unique, and no secret: it follows from the public id.
pub(super) fn name_of(session: SessionId) -> String {
    let [first, second, ..] = *session.as_bytes();
    let how = HOW[usize::from(first) % HOW.len()];
    let who = WHO[usize::from(second) % WHO.len()];
    format!("{how}-{who}")
}
