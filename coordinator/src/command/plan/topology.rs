//! Files with topologies and traces: JSON lines, plain or gzip. Nothing in them is believed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, de::DeserializeOwned};

/// A file may unpack to so many bytes...
const FILE: u64 = 256 << 20;

/// ...and a line of it have so many.
const LINE: u64 = 1 << 20;

/// The first two bytes of a gzip file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A network of members and channels.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    /// Time that a relay needs to pass something on, in milliseconds.
    pub(super) hop_ms: f64,
    pub(super) sessions: Vec<Load>,
    pub(super) nodes: Vec<Node>,
    /// By their ends, the lower one first.
    pub(super) links: BTreeMap<(u32, u32), Link>,
}

/// What a session sends, and what it can bear.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Load {
    pub(super) name: String,
    /// What all members together send, in Mbit/s.
    pub(super) rate_mbps: f64,
    /// A channel that loses a larger share is poor.
    pub(super) max_loss: f64,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) label: String,
    pub(super) up_mbps: f64,
    pub(super) is_present: bool,
}

/// A channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) figures: Figures,
    pub(super) is_up: bool,
}

/// How good a channel is, one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) delay_ms: f64,
    pub(super) jitter_ms: f64,
    pub(super) bandwidth_mbps: f64,
    pub(super) loss: f64,
}

/// A line of a topology.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Header {
        format: u32,
        nodes: u32,
        links: u64,
        hop_ms: f64,
        sessions: Vec<Load>,
    },
    Node {
        id: u32,
        #[serde(default)]
        label: String,
        up_mbps: f64,
    },
    Link {
        a: u32,
        b: u32,
        delay_ms: f64,
        jitter_ms: f64,
        bandwidth_mbps: f64,
        loss: f64,
    },
}

/// A line of a trace.
#[derive(Deserialize)]
struct Step {
    t: u64,
    #[serde(flatten)]
    change: Change,
}

/// What happens at some time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Change {
    /// New figures; those that are not given stay.
    Link {
        a: u32,
        b: u32,
        delay_ms: Option<f64>,
        jitter_ms: Option<f64>,
        bandwidth_mbps: Option<f64>,
        loss: Option<f64>,
    },
    LinkDown {
        a: u32,
        b: u32,
    },
    LinkUp {
        a: u32,
        b: u32,
    },
    Leave {
        node: u32,
    },
    Join {
        node: u32,
    },
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot read {file}: {error}")]
    Read { file: String, error: io::Error },
    #[error("{file}:{line}: {what}")]
    Line { file: String, line: u64, what: String },
}

/// Reads a file line by line.
struct Lines {
    file: String,
    from: Box<dyn BufRead>,
    line: u64,
    bytes: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, FileError> {
        let file = path.display().to_string();
        let failed = |error| FileError::Read { file: file.clone(), error };
        let mut from = BufReader::new(File::open(path).map_err(failed)?);
        let is_gzip = from.fill_buf().map_err(failed)?.starts_with(&GZIP);
        let from: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::new(MultiGzDecoder::new(from)))
        } else {
            Box::new(from)
        };
        Ok(Self { file, from, line: 0, bytes: 0 })
    }

    fn wrong(&self, what: impl Into<String>) -> FileError {
        FileError::Line { file: self.file.clone(), line: self.line, what: what.into() }
    }

    /// The next line that is not empty, and what it says.
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FileError> {
        loop {
            self.line += 1;
            let mut bytes = Vec::new();
            let read = self.from.by_ref().take(LINE + 1).read_until(b'\n', &mut bytes);
            let read = read.map_err(|error| self.wrong(format!("cannot be read: {error}")))?;
            self.bytes += read as u64;
            if read as u64 > LINE {
                return Err(self.wrong(format!("a line of more than {LINE} bytes")));
            }
            if self.bytes > FILE {
                return Err(self.wrong(format!("more than {} MiB unpacked", FILE >> 20)));
            }
            if read == 0 {
                return Ok(None);
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value = serde_json::from_slice(&bytes);
            return value.map(Some).map_err(|error| self.wrong(what_is_wrong(&error)));
        }
    }
}

/// An error without its place in the line's text, which counts from 1 there.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// Whether a figure is a number that can be.
fn check(name: &str, figure: f64, most: f64) -> Result<(), String> {
    if figure.is_finite() && (0.0..=most).contains(&figure) {
        return Ok(());
    }
    let range = if most < f64::MAX { format!("from 0 to {most}") } else { "from 0 on".to_owned() };
    Err(format!("{name} is {figure}, and has to be {range}"))
}

impl Figures {
    fn check(self) -> Result<Self, String> {
        check("delay_ms", self.delay_ms, LONGEST_MS)?;
        check("jitter_ms", self.jitter_ms, LONGEST_MS)?;
        check("bandwidth_mbps", self.bandwidth_mbps, f64::MAX)?;
        check("loss", self.loss, 1.0)?;
        Ok(self)
    }
}

/// A longer delay or jitter is nonsense: an hour.
const LONGEST_MS: f64 = 3_600_000.0;

impl Topology {
    /// Reads a topology.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let mut lines = Lines::open(path)?;
        let Some(Line::Header { format, nodes, links, hop_ms, sessions }) = lines.next()? else {
            return Err(lines.wrong("the first line has to be of type \"header\""));
        };
        if format != 1 {
            return Err(lines.wrong(format!("format {format} is not known; this reads format 1")));
        }
        if nodes == 0 {
            return Err(lines.wrong("a topology has one node at least"));
        }
        if sessions.is_empty() {
            return Err(lines.wrong("sessions names none; a tree is judged by one"));
        }
        let mut wrong = check("hop_ms", hop_ms, LONGEST_MS).err();
        for load in &sessions {
            wrong = wrong.or(check("rate_mbps", load.rate_mbps, f64::MAX).err());
            wrong = wrong.or(check("max_loss", load.max_loss, 1.0).err());
        }
        if let Some(what) = wrong {
            return Err(lines.wrong(what));
        }
        let mut read = Self { hop_ms, sessions, nodes: Vec::new(), links: BTreeMap::new() };
        while let Some(line) = lines.next()? {
            read.take(line, nodes).map_err(|what| lines.wrong(what))?;
        }
        if read.nodes.len() as u64 != u64::from(nodes) || read.links.len() as u64 != links {
            return Err(lines.wrong(format!(
                "the file ends after {} nodes and {} links, and its header says {nodes} and {links}",
                read.nodes.len(),
                read.links.len()
            )));
        }
        Ok(read)
    }

    fn take(&mut self, line: Line, nodes: u32) -> Result<(), String> {
        match line {
            Line::Header { .. } => Err("a second header".to_owned()),
            Line::Node { id, label, up_mbps } => {
                check("up_mbps", up_mbps, f64::MAX)?;
                let expected = self.nodes.len();
                if id as usize != expected || id >= nodes {
                    return Err(format!(
                        "node {id}, where nodes come in order, {expected} is next, and there are {nodes}"
                    ));
                }
                self.nodes.push(Node { label, up_mbps, is_present: true });
                Ok(())
            }
            Line::Link { a, b, delay_ms, jitter_ms, bandwidth_mbps, loss } => {
                self.check_node(a)?;
                self.check_node(b)?;
                let ends = ends(a, b)?;
                let figures = Figures { delay_ms, jitter_ms, bandwidth_mbps, loss }.check()?;
                if self.links.insert(ends, Link { figures, is_up: true }).is_some() {
                    return Err(format!("a second link of {a} and {b}"));
                }
                Ok(())
            }
        }
    }

    fn check_node(&self, id: u32) -> Result<(), String> {
        if (id as usize) < self.nodes.len() {
            return Ok(());
        }
        Err(format!("node {id} is not known"))
    }

    /// Does what a trace says.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), String> {
        match change {
            Change::Link { a, b, delay_ms, jitter_ms, bandwidth_mbps, loss } => {
                let link = self.link(a, b)?;
                let old = link.figures;
                let figures = Figures {
                    delay_ms: delay_ms.unwrap_or(old.delay_ms),
                    jitter_ms: jitter_ms.unwrap_or(old.jitter_ms),
                    bandwidth_mbps: bandwidth_mbps.unwrap_or(old.bandwidth_mbps),
                    loss: loss.unwrap_or(old.loss),
                };
                link.figures = figures.check()?;
            }
            Change::LinkDown { a, b } => self.link(a, b)?.is_up = false,
            Change::LinkUp { a, b } => self.link(a, b)?.is_up = true,
            Change::Leave { node } => self.node(node)?.is_present = false,
            Change::Join { node } => self.node(node)?.is_present = true,
        }
        Ok(())
    }

    fn link(&mut self, a: u32, b: u32) -> Result<&mut Link, String> {
        let ends = ends(a, b)?;
        self.links.get_mut(&ends).ok_or_else(|| format!("there is no link of {a} and {b}"))
    }

    fn node(&mut self, id: u32) -> Result<&mut Node, String> {
        self.nodes.get_mut(id as usize).ok_or_else(|| format!("node {id} is not known"))
    }
}

fn ends(a: u32, b: u32) -> Result<(u32, u32), String> {
    if a == b {
        return Err(format!("a link of {a} with itself"));
    }
    Ok((a.min(b), a.max(b)))
}

/// A trace, read step by step.
pub(super) struct Trace {
    lines: Lines,
    next: Option<(u64, Change)>,
}

impl Trace {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let mut trace = Self { lines: Lines::open(path)?, next: None };
        trace.next = trace.read()?;
        Ok(trace)
    }

    fn read(&mut self) -> Result<Option<(u64, Change)>, FileError> {
        Ok(self.lines.next::<Step>()?.map(|step| (step.t, step.change)))
    }

    /// Does all that happens at the next time, and says when that is; `None` at the end.
    pub(super) fn advance(&mut self, topology: &mut Topology) -> Result<Option<u64>, FileError> {
        let Some((time, _)) = self.next else { return Ok(None) };
        while let Some((at, change)) = self.next.filter(|(at, _)| *at <= time) {
            if at < time {
                return Err(self.lines.wrong(format!("t is {at} after {time}")));
            }
            topology.apply(change).map_err(|what| self.lines.wrong(what))?;
            self.next = self.read()?;
        }
        Ok(Some(time))
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("next", &self.next).finish_non_exhaustive()
    }
}
