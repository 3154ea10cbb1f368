//! CBOR as lines of hexadecimal with comments: one line for each field.

use std::fmt::Write as _;

/// Long names of short fields, by the path of fields that leads to them.
pub(super) type Names = [(&'static str, &'static str)];

pub(super) const HEADER: &Names = &[
    ("x", "session"),
    ("o", "source"),
    ("r", "incarnation"),
    ("c", "class"),
    ("n", "number"),
    ("v", "service"),
    ("q", "first_seq"),
    ("h", "content"),
    ("h.m", "messages"),
    ("h.m.n", "count"),
    ("h.p", "piece"),
    ("h.p.i", "index"),
    ("h.p.n", "of"),
    ("h.p.b", "bytes of the whole message"),
    ("k", "key"),
    ("d", "to"),
    ("i", "tree in band"),
    ("i.e", "epoch"),
    ("i.h", "hash of the tree"),
    ("i.c", "coordinator"),
    ("i.s", "its signature of session, epoch and hash"),
    ("i.p", "position of each member's parent, plus 1"),
    ("i.o", "overlap: pairs of positions"),
];

pub(super) const PROOF: &Names = &[
    ("c", "certificate"),
    ("c.r", "role"),
    ("c.e", "expires_s"),
    ("c.o", "coordinator"),
    ("c.s", "its signature"),
    ("b", "batch proof"),
    ("b.s", "signature of the root"),
    ("b.i", "index"),
    ("b.p", "path"),
];

pub(super) const TICKET: &Names =
    &[("s", "secret"), ("o", "name of the open session"), ("n", "name"), ("c", "coordinators")];

/// One item: its head in hexadecimal, what it is, the items in it, the rest of the bytes.
struct Item<'a> {
    hex: String,
    says: String,
    inner: Inner,
    rest: &'a [u8],
}

enum Inner {
    None,
    Array(u64),
    Map(u64),
}

/// Appends the lines of one CBOR value.
pub(super) fn annotate(bytes: &[u8], names: &Names, out: &mut String) {
    let rest = lines(bytes, ("", ""), (0, ""), names, out);
    assert!(rest.is_empty(), "one value");
}

/// Writes the value at the beginning of `bytes` after what stands before it, in hexadecimal and in
/// the comment. Returns what follows the value.
fn lines<'a>(
    bytes: &'a [u8],
    before: (&str, &str),
    (depth, path): (usize, &str),
    names: &Names,
    out: &mut String,
) -> &'a [u8] {
    let Item { hex, says, inner, mut rest } = item(bytes);
    let indent = "  ".repeat(depth);
    writeln!(out, "{indent}{}{hex} # {}{says}", before.0, before.1).unwrap();
    match inner {
        Inner::None => {}
        Inner::Array(count) => {
            for index in 0..count {
                let position = format!("[{index}] ");
                rest = lines(rest, ("", &position), (depth + 1, path), names, out);
            }
        }
        Inner::Map(count) => {
            for _ in 0..count {
                let key = item(rest);
                let name = key.says.trim_matches('"');
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                let long = names.iter().find(|(short, _)| *short == path);
                let long = long.map_or(String::new(), |(_, long)| format!(" ({long})"));
                let before = (format!("{} ", key.hex), format!("{name}{long}: "));
                let before = (before.0.as_str(), before.1.as_str());
                rest = lines(key.rest, before, (depth + 1, &path), names, out);
            }
        }
    }
    rest
}

fn item(bytes: &[u8]) -> Item<'_> {
    let (major, info) = (bytes[0] >> 5, bytes[0] & 0x1f);
    let width = match info {
        0..=23 => 0,
        _ => 1 << (info - 24),
    };
    let (head, rest) = bytes.split_at(1 + width);
    let value = match width {
        0 => u64::from(info),
        _ => head[1..].iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)),
    };
    let mut hex = data_encoding::HEXLOWER.encode(head);
    let (says, inner, rest) = match major {
        0 => (value.to_string(), Inner::None, rest),
        2 | 3 => {
            let (string, rest) = rest.split_at(usize::try_from(value).unwrap());
            if !string.is_empty() {
                hex.push(' ');
                hex.push_str(&data_encoding::HEXLOWER.encode(string));
            }
            let says = match major {
                2 => format!("{value} bytes"),
                _ => format!("{:?}", std::str::from_utf8(string).unwrap()),
            };
            (says, Inner::None, rest)
        }
        4 => (format!("array of {value}"), Inner::Array(value), rest),
        5 => (format!("map of {value}"), Inner::Map(value), rest),
        7 => {
            let says = match info {
                20 => "false",
                21 => "true",
                _ => "null",
            };
            (says.to_owned(), Inner::None, rest)
        }
        _ => panic!("no message has an item of major type {major}"),
    };
    Item { hex, says, inner, rest }
}
