//! CBOR ([RFC 8949]) in a strict profile: what comes from outside is walked once, without
//! allocating, before anything is built from it.
//!
//! Refused are indefinite lengths, lengths beyond the end, more than [`limits::CBOR_DEPTH`] levels,
//! floats, tags, simple values but false, true and null, text that is not UTF-8, a field that occurs
//! twice, and anything after the value. Integers and lengths need not have their shortest form.
//! Unknown fields are skipped, so that later versions may add some.
//!
//! [RFC 8949]: https://www.rfc-editor.org/rfc/rfc8949

use cbor4ii::core::{dec::Read as _, utils::SliceReader};
use serde::{Serialize, de::DeserializeOwned};

use crate::limits;

/// Why bytes from outside were refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than such a message may be.
    #[error("{len} bytes, but at most {limit} are allowed")]
    TooLarge {
        /// How long it is, or says it is.
        len: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not CBOR of the strict profile.
    #[error("not well-formed CBOR: {0}")]
    Malformed(&'static str),
    /// Well-formed, but not this type of message.
    #[error("not a message of the expected kind: {0}")]
    Unexpected(String),
}

/// The CBOR of `value`.
///
/// # Panics
/// Never for the types of this crate: writing to memory cannot fail and none of them has a failing
/// `Serialize`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    cbor4ii::serde::to_vec(Vec::new(), value).expect("wire types serialize without errors")
}

/// Decodes a value of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`]; nothing was allocated beyond what the bytes themselves justify.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { len: bytes.len(), limit });
    }
    check(bytes)?;
    let mut reader = cbor4ii::serde::Deserializer::new(SliceReader::new(bytes));
    let value =
        T::deserialize(&mut reader).map_err(|error| DecodeError::Unexpected(error.to_string()))?;
    // The value is all of the bytes, but a content given to an enum's variant that has none is left
    // unread by the decoder.
    match reader.into_inner().fill(1) {
        Ok(rest) if rest.as_ref().is_empty() => Ok(value),
        Ok(_) => Err(DecodeError::Unexpected("a variant has content but takes none".to_owned())),
        Err(never) => match never {},
    }
}

/// Walks one CBOR value and refuses whatever the strict profile does not know.
fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut rest = bytes;
    // Items still to come at each open level; a map counts its keys and values.
    let mut open = [0_u64; limits::CBOR_DEPTH];
    let mut depth = 0;
    loop {
        let (&first, after) = rest.split_first().ok_or(DecodeError::Malformed("ends early"))?;
        rest = after;
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            31 => return Err(DecodeError::Malformed("indefinite length")),
            _ => return Err(DecodeError::Malformed("reserved length")),
        };
        let (argument, after) =
            rest.split_at_checked(width).ok_or(DecodeError::Malformed("ends early"))?;
        rest = after;
        let value = match width {
            0 => u64::from(info),
            _ => argument.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)),
        };
        let inner = match major {
            0 | 1 => 0,
            2 | 3 => {
                let len = usize::try_from(value)
                    .map_err(|_| DecodeError::Malformed("string longer than the message"))?;
                let (text, after) = rest
                    .split_at_checked(len)
                    .ok_or(DecodeError::Malformed("string longer than the message"))?;
                if major == 3 && std::str::from_utf8(text).is_err() {
                    return Err(DecodeError::Malformed("text is not UTF-8"));
                }
                rest = after;
                0
            }
            4 => value,
            5 => value
                .checked_mul(2)
                .ok_or(DecodeError::Malformed("container longer than the message"))?,
            6 => return Err(DecodeError::Malformed("tag")),
            _ if width == 0 && (20..=22).contains(&info) => 0,
            _ => return Err(DecodeError::Malformed("float or unknown simple value")),
        };
        // Each item takes a byte at least.
        if inner > rest.len() as u64 {
            return Err(DecodeError::Malformed("container longer than the message"));
        }
        if inner > 0 {
            let level = open.get_mut(depth).ok_or(DecodeError::Malformed("nested too deeply"))?;
            *level = inner;
            depth += 1;
            continue;
        }
        while let Some(left) = open.get_mut(..depth).and_then(<[u64]>::last_mut) {
            // An open level has an item to come at least, or it would have been closed.
            *left -= 1;
            if *left > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return if rest.is_empty() {
                Ok(())
            } else {
                Err(DecodeError::Malformed("something follows the value"))
            };
        }
    }
}

#[cfg(test)]
mod tests;
