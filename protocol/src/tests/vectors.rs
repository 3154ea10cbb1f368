//! The bytes of every kind of message, kept in `tests/vectors/*.hex` at the top of the repository:
//! what is encoded must equal them and what is decoded from them must equal what was encoded. They
//! change only when the wire changes on purpose; then [`write_vectors`] writes them anew.
//!
//! In the files `#` begins a comment; all else is hexadecimal, white space ignored. The keypairs in
//! them have secret keys of 32 equal bytes: 01 the coordinator, 02 and 03 two members, 04 a third.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

mod annotate;
mod sample;
mod samples;

use annotate::{HEADER, PROOF, TICKET, annotate};
use sample::{Form, Sample};
use samples::samples;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Name and content of each file.
        const FILES: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../tests/vectors/", $name, ".hex")),
        )),*];
    };
}

files![
    "adjacency-list",
    "adjacency-matrix",
    "admission-open",
    "admission-private",
    "certificate",
    "data-hello",
    "edge-ask",
    "edge-fin",
    "edge-have",
    "edge-heartbeat",
    "edge-heartbeat-echo",
    "edge-heartbeat-next",
    "edge-heartbeat-received",
    "edge-hello",
    "edge-inquire",
    "edge-passed",
    "edge-receipts",
    "edge-receipts-history",
    "edge-receipts-to",
    "edge-summary",
    "edge-summary-live",
    "edge-summary-history",
    "frame",
    "frame-header",
    "frame-header-in-band",
    "frame-header-piece",
    "frame-header-to",
    "frame-in-batch",
    "frame-open",
    "frame-to",
    "notice-candidates",
    "notice-neighbours",
    "notice-neighbours-overlap",
    "notice-removed",
    "noted",
    "path-answer-neighbours",
    "path-answer-refused",
    "path-answer-tree",
    "path-answer-unsubscribed",
    "path-request-query",
    "path-request-subscribe",
    "path-request-unsubscribe",
    "probe",
    "probe-echo",
    "probe-first",
    "probe-echo-train",
    "push",
    "report-answer",
    "report-answer-refused",
    "report-change",
    "report-full",
    "report-slow",
    "session-answer-busy",
    "session-answer-challenge",
    "session-answer-joined",
    "session-answer-joined-push",
    "session-answer-joined-slow",
    "session-answer-joined-history",
    "session-answer-left",
    "session-answer-handing-over",
    "session-answer-located",
    "session-answer-refused",
    "session-answer-renewed",
    "session-answer-renewed-epoch",
    "session-answer-renewed-key",
    "session-answer-renewed-measure",
    "session-request-challenge",
    "session-request-join",
    "session-request-join-open",
    "session-request-leave",
    "session-request-locate",
    "session-request-renew",
    "session-request-renew-key",
    "ticket-open",
    "ticket-private",
    "tree-update-change",
    "tree-update-fetch",
    "tree-update-full",
];

/// How many vectors there are.
pub(super) const fn count() -> usize {
    FILES.len()
}

/// The bytes of one of them.
pub(super) fn bytes(which: usize) -> Vec<u8> {
    parse(FILES[which].1)
}

fn parse(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .collect();
    data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("the file holds lower-case hex")
}

#[test]
fn the_wire_is_what_it_was() {
    for Sample { name, bytes, decodes, .. } in samples() {
        let (_, text) = FILES.iter().find(|(file, _)| *file == name).expect("it has a file");
        let kept = parse(text);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&bytes),
            data_encoding::HEXLOWER.encode(&kept),
            "{name} is encoded otherwise"
        );
        assert!(decodes(&kept), "{name} is decoded to something else");
    }
}

#[test]
fn each_file_has_a_sample_and_each_sample_a_file() {
    let files: BTreeSet<&str> = FILES.iter().map(|(name, _)| *name).collect();
    let samples: BTreeSet<&str> = samples().iter().map(|sample| sample.name).collect();
    assert_eq!(files, samples);
}

#[test]
fn each_line_of_a_file_has_a_comment() {
    for (name, text) in FILES {
        for line in text.lines() {
            assert!(line.contains('#'), "{name}: {line}");
        }
    }
}

/// Writes the files, for changes of the wire that are meant: `ARBORCAST_WRITE_VECTORS=1 cargo test -p
/// arborcast-protocol write_vectors`. Checks nothing otherwise; the tests above do.
#[test]
fn write_vectors() {
    if std::env::var_os("ARBORCAST_WRITE_VECTORS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    fs::create_dir_all(&folder).unwrap();
    for sample in samples() {
        let mut text = String::new();
        for line in sample.about.lines() {
            writeln!(text, "# {line}").unwrap();
        }
        match sample.form {
            Form::Cbor => annotate(&sample.bytes, &[], &mut text),
            Form::Header => annotate(&sample.bytes, HEADER, &mut text),
            Form::Frame => {
                let (head, rest) = sized(&sample.bytes);
                let (proof, sealed) = sized(rest);
                for (what, part, names) in [("header", head, HEADER), ("proof", proof, PROOF)] {
                    writeln!(text, "{:04x} # length of the {what}", part.len()).unwrap();
                    annotate(part, names, &mut text);
                }
                let sealed = data_encoding::HEXLOWER.encode(sealed);
                writeln!(text, "{sealed} # payload, sealed in private sessions").unwrap();
            }
            Form::Ticket => {
                let (version, rest) = sample.bytes.split_first().unwrap();
                let (cbor, sum) = rest.split_last_chunk::<4>().unwrap();
                writeln!(text, "{version:02x} # version").unwrap();
                annotate(cbor, TICKET, &mut text);
                let sum = data_encoding::HEXLOWER.encode(sum);
                writeln!(text, "{sum} # checksum").unwrap();
            }
        }
        fs::write(folder.join(sample.name).with_extension("hex"), text).unwrap();
    }
}

/// Splits off what follows a 16-bit length.
fn sized(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(usize::from(u16::from_be_bytes(*len)))
}
