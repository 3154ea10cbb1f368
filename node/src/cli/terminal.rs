//! Text for people. What others chose, be it a name or a message, must not steer the terminal nor
//! look like lines of ours.

use std::borrow::Cow;

/// One line: control characters and marks that turn the direction of writing are shown as `�`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let shown = |c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Several lines: as [`printable`], with all but the first one indented, so that nobody mistakes them
/// for other people's words.
pub(super) fn paragraph(text: &str) -> String {
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let without_return =
        |line: &'_ str| printable(line.strip_suffix('\r').unwrap_or(line)).into_owned();
    let mut shown = lines.next().map(without_return).unwrap_or_default();
    for line in lines {
        shown.push_str("\n    ");
        shown.push_str(&without_return(line));
    }
    shown
}

/// A name: one line without spaces at its ends, or `?` if nothing is left.
pub(super) fn name(text: &str) -> String {
    let shown = printable(text.trim());
    if shown.is_empty() { "?".to_owned() } else { shown.into_owned() }
}

/// The same beginning, and `…` with the size where a text is too long for a screen.
pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let begin = text.get(..end).unwrap_or_default();
    Cow::Owned(format!("{begin}… ({} in all)", size(text.len() as u64)))
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    // Tenths, rounded up, so that what is over a limit never looks as if it were not.
    let tenths = |unit: u64| (u128::from(bytes) * 10).div_ceil(u128::from(unit));
    let shown = |unit: u64, name: &str| match (tenths(unit) / 10, tenths(unit) % 10) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    };
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => shown(KIB, "KiB"),
        MIB.. => shown(MIB, "MiB"),
    }
}

/// `1 member`, `2 members`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The first few of some names, and how many more there are.
pub(super) fn some_of(names: &[String]) -> String {
    let some = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

/// Names in one sentence.
const NAMED: usize = 8;

fn is_harmless(c: char) -> bool {
    match c {
        '\t' => true,
        // The Arabic letter mark, embeddings, overrides, isolates, line and paragraph separators, invisible
        // joiners, tags.
        '\u{061c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => false,
        c => !c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\rd"), "a�[2Jb�c�d");
        for mark in ['\u{202e}', '\u{61c}', '\u{e0001}', '\u{e0041}'] {
            assert_eq!(printable(&format!("abc{mark}cba")), "abc�cba");
        }
        assert_eq!(printable("grüße 🦦\tok"), "grüße 🦦\tok");
    }

    #[test]
    fn further_lines_are_indented() {
        assert_eq!(paragraph("one\r\nbob: two\n"), "one\n    bob: two");
        assert_eq!(paragraph("one"), "one");
        assert_eq!(paragraph(""), "");
    }

    #[test]
    fn a_name_is_never_empty() {
        assert_eq!(name(" bea "), "bea");
        assert_eq!(name("  "), "?");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äöü", 3), "ä… (6 bytes in all)");
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(16 << 20), "16 MiB");
        assert_eq!(size((16 << 20) + 1), "16.1 MiB");
        assert_eq!(size(u64::MAX), "17592186044416 MiB");
    }
}
