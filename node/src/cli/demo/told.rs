//! What the demonstration tells: text for people, or one JSON object for each fact.

use std::time::Duration;

use serde::Serialize;

use super::super::{failure::Failure, json, output::Output};

/// Where it is told.
#[derive(Debug)]
pub(super) struct Told<'a> {
    output: &'a Output,
    json: bool,
}

impl<'a> Told<'a> {
    pub(super) const fn new(output: &'a Output, json: bool) -> Self {
        Self { output, json }
    }

    /// Text, for people alone.
    pub(super) async fn say(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(text).await }
    }

    /// A fact, for programs alone.
    pub(super) async fn fact(&self, fact: &impl Serialize) -> Result<(), Failure> {
        if self.json { self.line(&json::as_line(fact)).await } else { Ok(()) }
    }

    async fn line(&self, line: &str) -> Result<(), Failure> {
        let gone = |_| Failure::failed("failed", "nobody reads the demonstration any more");
        self.output.line(line).await.map_err(gone)
    }
}

/// Milliseconds with one digit, as people read them.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
