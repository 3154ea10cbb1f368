//! What those who join late get of what was sent before.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a joiner gets of the messages that were sent before it came, as far as the members keep them.
/// By choice of the session. What not all who are present have yet, it gets in any case.
///
/// As text, on the wire and in files: `none`, a number, or `all`. A number of 0 means `none`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum History {
    /// Nothing.
    #[default]
    None,
    /// At most so many messages of each source, the last ones.
    Last(NonZeroU32),
    /// All.
    All,
}

impl History {
    /// Whether joiners get nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A text, or number, that says nothing about history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be none, all, or a number of messages up to 4294967295")]
pub struct NoHistory;

impl FromStr for History {
    type Err = NoHistory;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse::<u32>().map(Self::from).map_err(|_| NoHistory)
            }
            _ => Err(NoHistory),
        }
    }
}

impl From<u32> for History {
    fn from(messages: u32) -> Self {
        NonZeroU32::new(messages).map_or(Self::None, Self::Last)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Last(messages) => messages.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whoever writes a file may leave out the quotes around a number.
impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = History;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"all\" or a number of messages up to 4294967295")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<History, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<History, E> {
                let messages = u32::try_from(number);
                messages
                    .map(History::from)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<History, E> {
                let messages = u32::try_from(number);
                messages
                    .map(History::from)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (text, history) in [
            ("none", History::None),
            ("0", History::None),
            ("all", History::All),
            ("5", History::from(5)),
            (" 4294967295 ", History::from(u32::MAX)),
        ] {
            assert_eq!(text.parse(), Ok(history), "{text}");
            assert_eq!(history.to_string().parse(), Ok(history), "{history}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "some", "-1", "+1", "1.5", "4294967296", "ALL", "5 messages"] {
            assert_eq!(text.parse::<History>(), Err(NoHistory), "{text:?}");
        }
    }
}
