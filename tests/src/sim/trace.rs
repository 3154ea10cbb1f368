//! What happened in a world, in order: always as a hash, as text on demand.
//!
//! Two runs of one seed must give the same hash. A failing run is repeated with the text kept,
//! so the usual run pays for no formatting.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Lines of text kept: the tail is what shows how it came to the failure.
const LINES: usize = 2_000_000;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: Option<VecDeque<String>>,
    count: u64,
}

impl Trace {
    /// An empty record; `text` keeps the lines too.
    #[must_use]
    pub fn new(text: bool) -> Self {
        Self { hasher: DefaultHasher::new(), lines: text.then(VecDeque::new), count: 0 }
    }

    /// Records one happening: `what` and `figures` are hashed, `detail` is only for the text.
    pub fn note(
        &mut self,
        at: Duration,
        who: &str,
        what: &'static str,
        figures: &[u64],
        detail: impl FnOnce() -> String,
    ) {
        self.count += 1;
        at.hash(&mut self.hasher);
        who.hash(&mut self.hasher);
        what.hash(&mut self.hasher);
        figures.hash(&mut self.hasher);
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES {
                lines.pop_front();
            }
            let mut line = format!("{:>12.6} {who:>5} {what}", at.as_secs_f64());
            let detail = detail();
            if !detail.is_empty() {
                let _ = write!(line, " {detail}");
            }
            lines.push_back(line);
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How much was recorded.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last `most` lines, oldest first; none unless text is kept.
    #[must_use]
    pub fn tail(&self, most: usize) -> Vec<String> {
        let lines = self.lines.iter().flatten();
        let skip = lines.clone().count().saturating_sub(most);
        lines.skip(skip).cloned().collect()
    }
}

/// A number for bytes, to be recorded in place of them.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
