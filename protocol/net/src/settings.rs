//! Settings in layers, each over those before it: what is built in, a TOML file, the environment,
//! flags. One struct is all of them; this module is the same for every program that has one.
//!
//! A file's errors name file, line, column and field. A variable is named for its field in capitals
//! behind the program's prefix, with `__` between a table and what is in it:
//! `ARBORCAST_COORDINATOR_ENGINE__LEASE_MS=20000`. A list is separated by commas.
//!
//! No library does all of that: figment and config know neither line nor column of a value.

use serde::{Serialize, de::DeserializeOwned};

#[cfg(feature = "command")]
mod layers;
#[cfg(feature = "command")]
mod print;

#[cfg(feature = "command")]
pub use {
    layers::{Layers, Origin, SettingsError},
    print::to_toml,
};

/// What can be set in layers: `serde(default, deny_unknown_fields)`, and no optional fields, so that
/// the built-in settings show every field there is and its type.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// What the names of its variables begin with, as `ARBORCAST_COORDINATOR_`.
    const PREFIX: &'static str;
    /// Variables that begin so too, and are something else; with `_` at the end a whole family.
    const FOREIGN: &'static [&'static str];

    /// What is said about the fields, table by table, the nameless one of the top first.
    fn docs() -> Vec<Docs>;

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`OutOfRange`].
    fn validate(&self) -> Result<(), OutOfRange>;
}

/// What is said about the fields of one table.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// Its name in full, as `session.relay`; the top has none.
    pub table: &'static str,
    /// The names of the fields, in order.
    pub fields: &'static [&'static str],
    /// What is said about each of them.
    pub docs: &'static [&'static str],
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: must be {must_be}")]
pub struct OutOfRange {
    /// Which, with its table: `engine.lease_ms`.
    pub field: String,
    /// What it may be.
    pub must_be: String,
}

impl OutOfRange {
    /// A field, and what it may be.
    #[must_use]
    pub fn new(field: impl Into<String>, must_be: impl Into<String>) -> Self {
        Self { field: field.into(), must_be: must_be.into() }
    }
}
