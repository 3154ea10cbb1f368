//! Names and passphrases as people type them: the same text for the same signs on every keyboard and system
//! (RFC 8265, profile `OpaqueString`). Spaces of all kinds are the ordinary one, letters and their marks are put
//! together (NFC), and what cannot be typed is refused. Upper and lower case differ.

use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation as _};
use zeroize::Zeroizing;

/// A text has signs that it may not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("control characters and signs that cannot be typed or told apart are not allowed")]
pub struct Untypable;

/// The text in its one form.
///
/// # Errors
/// [`Untypable`], also if it is empty.
pub fn typed(text: &str) -> Result<Zeroizing<String>, Untypable> {
    // What is plain ASCII stays as it is.
    if !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let text = Zeroizing::new(text.to_owned());
    let form = OpaqueString::enforce(text.as_str()).map_err(|_| Untypable)?;
    Ok(Zeroizing::new(form.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signs_are_the_same_text() {
        let form = |text| typed(text).unwrap().to_string();
        assert_eq!(form("Cafe\u{301} am\u{a0}Platz"), "Café am Platz");
        assert_eq!(form("ideographic\u{3000}space"), "ideographic space");
        assert_eq!(form("Ωmega ☕ ~1"), "Ωmega ☕ ~1");
        assert_ne!(form("Lobby"), form("lobby"));
    }

    #[test]
    fn what_cannot_be_typed_is_refused() {
        for bad in
            ["", "tab\t", "\u{0}", "esc\u{1b}[2J", "turned\u{202e}", "tag\u{e0041}", "\u{200b}"]
        {
            assert_eq!(typed(bad).map(drop), Err(Untypable), "{bad:?}");
        }
    }
}
