//! Standard input line by line, with a bound on what waits. Reading blocks, so it has a thread.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use crate::protocol::limits;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

/// The longest line: a message of full size in base64, or as a JSON string with some escapes.
pub(super) const LINE: usize = limits::MESSAGE / 3 * 4 + (1 << 20);
/// Bytes of lines that wait, the one being read not counted; one of full size fits.
const ROOM: usize = 32 << 20;
const _: () = assert!(LINE <= ROOM, "a line of full size fits");
/// Lines that wait, however short.
const LINES: usize = 1024;

/// One line, without its end.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// What it says.
    pub(super) body: Body,
    /// Its share of the room, given back when dropped.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What a line says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Nothing: it had so many bytes, which is more than the limit, and was skipped.
    TooLong(u64),
}

/// Reads standard input in a thread of its own. Closes at its end.
pub(super) fn lines(limit: usize) -> mpsc::Receiver<Line> {
    let runtime = Handle::current();
    let (lines, queue) = mpsc::channel(LINES);
    let room = Arc::new(Semaphore::new(ROOM));
    std::thread::spawn(move || {
        let outcome = read(&mut io::stdin().lock(), limit.min(LINE), |number, body| {
            let size = match &body {
                Body::Bytes(bytes) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                Body::TooLong(_) => 0,
            };
            let room = runtime.block_on(Arc::clone(&room).acquire_many_owned(size)).ok();
            lines.blocking_send(Line { number, body, room }).is_ok()
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "standard input cannot be read; taken for its end");
        }
    });
    queue
}

/// Cuts `source` into lines, until its end or until `take` returns false. Holds one line at most.
fn read(
    source: &mut impl BufRead,
    limit: usize,
    mut take: impl FnMut(u64, Body) -> bool,
) -> io::Result<()> {
    let mut number = 1;
    let mut line = Vec::new();
    // Bytes of this line so far, kept or not.
    let mut length = 0_u64;
    loop {
        let chunk = match source.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            if length > 0 {
                take(number, body(line, length));
            }
            return Ok(());
        }
        let (part, ends) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (chunk.get(..at).unwrap_or_default(), true),
            None => (chunk, false),
        };
        let consumed = part.len() + usize::from(ends);
        length += part.len() as u64;
        if length <= limit as u64 {
            line.extend_from_slice(part);
        } else {
            line = Vec::new();
        }
        source.consume(consumed);
        if ends {
            if !take(number, body(std::mem::take(&mut line), length)) {
                return Ok(());
            }
            number += 1;
            length = 0;
        }
    }
}

/// The line as far as it was kept.
fn body(line: Vec<u8>, length: u64) -> Body {
    if line.len() as u64 == length { Body::Bytes(line) } else { Body::TooLong(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(source: &[u8], limit: usize) -> Vec<(u64, Body)> {
        let mut lines = Vec::new();
        // A small buffer, so that lines come in several parts.
        let mut source = io::BufReader::with_capacity(3, source);
        let take = |number, body| {
            lines.push((number, body));
            true
        };
        assert!(read(&mut source, limit, take).is_ok());
        lines
    }

    fn bytes(text: &str) -> Body {
        Body::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_are_cut_at_line_ends() {
        let lines = cut(b"one\n\nthree and more\nlast", 100);
        assert_eq!(
            lines,
            [(1, bytes("one")), (2, bytes("")), (3, bytes("three and more")), (4, bytes("last"))]
        );
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_the_next_one_is_not() {
        let lines = cut(b"0123456789\n01234\n0123456", 5);
        assert_eq!(lines, [(1, Body::TooLong(10)), (2, bytes("01234")), (3, Body::TooLong(7))]);
    }

    #[test]
    fn nothing_is_no_line() {
        assert_eq!(cut(b"", 5), []);
        assert_eq!(cut(b"\n", 5), [(1, bytes(""))]);
    }

    #[test]
    fn bytes_that_are_no_text_come_as_they_are() {
        assert_eq!(cut(b"\xff\x00\xfe\n", 5), [(1, Body::Bytes(vec![0xff, 0, 0xfe]))]);
    }

    #[test]
    fn whoever_has_enough_gets_no_more() {
        let mut seen = 0;
        let take = |_, _| {
            seen += 1;
            false
        };
        assert!(read(&mut &b"a\nb\nc\n"[..], 5, take).is_ok());
        assert_eq!(seen, 1);
    }
}
