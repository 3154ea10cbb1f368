//! What a process has printed, in a form that takes little memory however much it is.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Instant,
};

use serde_json::Value;

use super::now;

/// A message as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// When it was read here.
    pub at: Instant,
    /// Peer id of its source.
    pub source: Arc<str>,
    /// Its number.
    pub seq: u64,
    /// Its service.
    pub service: u64,
    /// Whom it is for alone, if it is not for all.
    pub to: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// [`digest`] of what came, text or base64.
    pub digest: u64,
    /// The text, if it is a short one.
    pub text: Option<String>,
}

/// A receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Of which message.
    pub seq: u64,
    /// How many have it.
    pub delivered: u64,
    /// How many have not.
    pub missing: usize,
}

/// A hash of a message.
#[must_use]
pub fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// What a process has said so far.
#[derive(Debug, Default)]
pub struct Log {
    /// Messages.
    pub messages: Vec<Arrived>,
    /// Numbers of its own messages, in the order in which it took them in.
    pub taken: Vec<u64>,
    /// Receipts for them.
    pub receipts: Vec<Receipt>,
    /// All other events.
    pub events: Vec<Value>,
    /// Lines of standard output that are not JSON.
    pub plain: Vec<String>,
    /// Lines of standard error.
    pub complaints: Vec<String>,
    /// The last lines of both, for those who must find out what happened.
    pub(super) transcript: VecDeque<String>,
    sources: Vec<Arc<str>>,
    /// Lines so far.
    pub(super) lines: u64,
}

/// Lines of a transcript, and characters of each.
const TRANSCRIPT: (usize, usize) = (400, 300);
/// How lines with counters begin.
const COUNTERS: &str = r#"{"event":"stats""#;

/// Texts up to this are kept.
const SHORT: usize = 256;

impl Log {
    /// Events of a name.
    pub fn of<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        self.events.iter().filter(move |value| value["event"] == event)
    }

    /// The newest tree.
    #[must_use]
    pub fn tree(&self) -> Option<&Value> {
        self.events.iter().rev().find(|value| value["event"] == "tree")
    }

    /// Whether the newest tree spans so many members, and nothing of an older one is in use.
    #[must_use]
    pub fn spans(&self, members: usize) -> bool {
        let count = |tree: &Value, list: &str| tree[list].as_array().map_or(0, Vec::len);
        self.tree()
            .is_some_and(|tree| count(tree, "edges") + 1 == members && count(tree, "overlap") == 0)
    }

    /// `error` codes so far.
    #[must_use]
    pub fn errors(&self) -> Vec<&str> {
        self.of("error").filter_map(|error| error["code"].as_str()).collect()
    }

    /// The errors with their words.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.of("error").map(ToString::to_string).collect()
    }

    /// What came of each source, as runs of consecutive numbers.
    pub(super) fn runs(&self) -> BTreeMap<&str, Vec<(u64, u64)>> {
        let mut sources: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for message in &self.messages {
            let runs = sources.entry(&message.source).or_default();
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == message.seq => *last = message.seq,
                Some(_) | None => runs.push((message.seq, message.seq)),
            }
        }
        sources
    }

    pub(super) fn note(&mut self, mark: &str, line: &str) {
        self.lines += 1;
        // Of counters that come one after the other the newest will do.
        if line.starts_with(COUNTERS)
            && let Some(last) = self.transcript.back()
            && last.get(2..).is_some_and(|last| last.starts_with(COUNTERS))
        {
            self.transcript.pop_back();
        }
        if self.transcript.len() == TRANSCRIPT.0 {
            self.transcript.pop_front();
        }
        let mut text: String = line.chars().take(TRANSCRIPT.1).collect();
        if text.len() < line.len() {
            text.push('…');
        }
        self.transcript.push_back(format!("{mark} {text}"));
    }

    pub(super) fn take(&mut self, line: String) {
        self.note(">", &line);
        let Ok(value) = serde_json::from_str::<Value>(&line) else {
            self.plain.push(line);
            return;
        };
        let number = |field: &str| value[field].as_u64().unwrap_or(u64::MAX);
        match value["event"].as_str() {
            Some("message") => {
                let content = value["text"].as_str().or_else(|| value["data_b64"].as_str());
                let content = content.unwrap_or_default();
                let source = value["source"].as_str().unwrap_or_default();
                let known = self.sources.iter().find(|known| &***known == source);
                let source = known.cloned().unwrap_or_else(|| {
                    let source = Arc::<str>::from(source);
                    self.sources.push(Arc::clone(&source));
                    source
                });
                self.messages.push(Arrived {
                    at: now(),
                    source,
                    seq: number("seq"),
                    service: number("service"),
                    to: value["to"].as_str().map(str::to_owned),
                    bytes: number("bytes"),
                    digest: digest(content.as_bytes()),
                    text: (content.len() <= SHORT).then(|| content.to_owned()),
                });
            }
            Some("sent") => match value["delivered"].as_u64() {
                Some(delivered) => self.receipts.push(Receipt {
                    seq: number("seq"),
                    delivered,
                    missing: value["missing"].as_array().map_or(usize::MAX, Vec::len),
                }),
                None => self.taken.push(number("seq")),
            },
            _ => self.events.push(value),
        }
    }
}
