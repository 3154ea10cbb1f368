//! Layers of settings.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Serialize;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{OutOfRange, Settings};

/// Why settings cannot be used. Each is one line that says where to look.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or has a field that is unknown or of a wrong type.
    #[error("{path}:{line}:{column}: {message}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
        /// The field, and what is wrong with it.
        message: String,
    },
    /// A variable of the environment is unknown or of a wrong type.
    #[error("{variable}: {message}")]
    Variable {
        /// Which.
        variable: String,
        /// What is wrong with it.
        message: String,
    },
    /// A figure is out of its range.
    #[error("{origin}: {error}")]
    OutOfRange {
        /// Where it was set.
        origin: Origin,
        /// Which, and what it may be.
        error: OutOfRange,
    },
    /// A figure that TOML has no form for.
    #[error("cannot be written as TOML: {0}")]
    Unwritable(String),
}

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    BuiltIn,
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character of the line at which the value begins, from 1.
        column: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("the flags"),
        }
    }
}

/// Settings whose layers are being put together.
#[derive(Debug)]
pub struct Layers<T> {
    settings: T,
    /// By the field's name in full; what is not here is built in.
    origins: BTreeMap<String, Origin>,
    /// Variables that look like ours and name no setting; with what may be meant.
    ignored: Vec<String>,
}

/// The most that is read of a file: far more than all settings with all that is said about them.
const FILE_BYTES: u64 = 1 << 20;

impl<T: Settings> Layers<T> {
    /// What is built in, under a file, under variables of the environment.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut layers =
            Self { settings: T::default(), origins: BTreeMap::new(), ignored: Vec::new() };
        if let Some(path) = file {
            layers.lay_file(path)?;
        }
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| is_ours::<T>(name))
            .collect();
        variables.sort();
        for (name, value) in variables {
            layers.lay_variable(&name, value)?;
        }
        Ok(layers)
    }

    /// What is built in, under the file that a flag or else the variable `…CONFIG` names, under the
    /// variables of this process. Warns of variables that look like settings and are none.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn of_process(file: Option<&Path>) -> Result<Self, SettingsError> {
        let named =
            std::env::var_os(format!("{}CONFIG", T::PREFIX)).filter(|path| !path.is_empty());
        let file = file.or(named.as_deref().map(Path::new));
        let layers = Self::load(file, std::env::vars_os())?;
        for ignored in layers.ignored() {
            tracing::warn!("{ignored}");
        }
        Ok(layers)
    }

    /// Lays flags over it.
    ///
    /// # Errors
    /// [`SettingsError::Unwritable`].
    pub fn flags(mut self, lay: impl FnOnce(&mut T)) -> Result<Self, SettingsError> {
        let before = fields_of(&self.settings)?;
        lay(&mut self.settings);
        let after = fields_of(&self.settings)?;
        for (field, value) in after {
            if before.get(&field) != Some(&value) {
                self.origins.insert(field, Origin::Flag);
            }
        }
        Ok(self)
    }

    /// What there is to say about variables that begin like ours and name no setting, one text for
    /// each of them.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The settings.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`], with where the figure comes from.
    pub fn finish(self) -> Result<T, SettingsError> {
        match self.settings.validate() {
            Ok(()) => Ok(self.settings),
            Err(error) => {
                let origin = self.origin(&error);
                Err(SettingsError::OutOfRange { origin, error })
            }
        }
    }

    /// Where to look for a field that is out of its range: where it was set. If it is built in, where
    /// a field of the same table was set that its range depends on.
    fn origin(&self, error: &OutOfRange) -> Origin {
        if let Some(origin) = self.origins.get(&error.field) {
            return origin.clone();
        }
        // The field may be a table of figures, one of which is out of range.
        let inside = below(&error.field, "");
        if let Some((_, origin)) = self.origins.iter().find(|(field, _)| field.starts_with(&inside))
        {
            return origin.clone();
        }
        let table = error.field.rsplit_once('.').map_or("", |(table, _)| table);
        error
            .must_be
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .find_map(|word| self.origins.get(&below(table, word)))
            .map_or(Origin::BuiltIn, Clone::clone)
    }

    fn lay_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if read as u64 > FILE_BYTES {
            return Err(unreadable(io::Error::other("is larger than 1 MiB")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let (line, column) = position(&String::from_utf8_lossy(error.as_bytes()), good);
            let message = "is not UTF-8, which TOML is".to_owned();
            SettingsError::File { path: path.to_owned(), line, column, message }
        })?;
        let wrong = |field: Option<String>, error: &toml::de::Error| {
            let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
            let message = with_field(field.as_deref(), error);
            SettingsError::File { path: path.to_owned(), line, column, message }
        };
        let table = DeTable::parse(&text).map_err(|error| wrong(None, &error))?;
        let mut lines = BTreeMap::new();
        if let Err((field, byte)) = lines_of(table.get_ref(), "", &text, &mut lines) {
            let (line, column) = position(&text, byte);
            let message = format!("{field}: is no whole number of 64 bits");
            return Err(SettingsError::File { path: path.to_owned(), line, column, message });
        }
        self.settings = serde_path_to_error::deserialize(toml::Deserializer::from(table))
            .map_err(|error| wrong(field_in(error.path()), error.inner()))?;
        for (field, (line, column)) in lines {
            self.origins.insert(field, Origin::File { path: path.to_owned(), line, column });
        }
        Ok(())
    }

    fn lay_variable(&mut self, variable: &str, value: OsString) -> Result<(), SettingsError> {
        let wrong =
            |message: String| SettingsError::Variable { variable: variable.to_owned(), message };
        let Some(name) = variable.strip_prefix(T::PREFIX) else { return Ok(()) };
        let name = name.to_ascii_lowercase();
        let parts: Vec<&str> = name.split("__").collect();
        let mut all = table_of(&self.settings)?;
        let mut table = &mut all;
        let Some((last, above)) = parts.split_last() else { return Ok(()) };
        for (depth, part) in above.iter().enumerate() {
            let known = names(table);
            table = match table.get_mut(*part) {
                Some(Value::Table(inner)) => inner,
                Some(_) => return Err(wrong(format!("{part} is no table"))),
                None if depth == 0 => return self.ignore(variable),
                None => return Err(wrong(format!("unknown table {part:?}, known: {known}"))),
            };
        }
        let known = names(table);
        let takes_more = !above.is_empty() && is_by_number(table);
        let text = value.into_string().map_err(|_| wrong("is not UTF-8".to_owned()))?;
        match table.get_mut(*last) {
            Some(Value::Table(inner)) => {
                return Err(wrong(format!(
                    "{last} is a table; set what is in it, as {variable}__{}",
                    inner.keys().next().map(|key| key.to_ascii_uppercase()).unwrap_or_default()
                )));
            }
            Some(field) => *field = read_as(field, &text).map_err(wrong)?,
            None if takes_more && is_number(last) => {
                let figure = read_as(&Value::Integer(0), &text).map_err(wrong)?;
                table.insert((*last).to_owned(), figure);
            }
            None if above.is_empty() => return self.ignore(variable),
            None => return Err(wrong(format!("unknown field {last:?}, known: {known}"))),
        }
        self.settings = serde_path_to_error::deserialize(all)
            .map_err(|error| wrong(with_field(field_in(error.path()).as_deref(), error.inner())))?;
        self.origins.insert(parts.join("."), Origin::Variable(variable.to_owned()));
        Ok(())
    }

    /// Somebody else's variable may begin like ours: where a service is called arborcast, Kubernetes
    /// sets `ARBORCAST_PORT` and more. So it is no error; but whoever mistyped a name is told.
    fn ignore(&mut self, variable: &str) -> Result<(), SettingsError> {
        let name = variable.strip_prefix(T::PREFIX).unwrap_or(variable).to_ascii_lowercase();
        let fields: Vec<String> = fields_of(&self.settings)?.into_keys().collect();
        let mut meant: Vec<&String> = fields.iter().filter(|field| ends_in(field, &name)).collect();
        if meant.is_empty() {
            let likeness = |field: &String| strsim::jaro(&field.replace('.', "__"), &name);
            let likest = fields.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            meant.extend(likest.filter(|field| likeness(field) > ALIKE));
        }
        let variable_of = |field: &String| {
            format!("{}{}", T::PREFIX, field.to_ascii_uppercase().replace('.', "__"))
        };
        let meant: Vec<String> = meant.into_iter().map(variable_of).collect();
        self.ignored.push(match meant.as_slice() {
            [] => format!("{variable} names no setting"),
            [..] => format!("{variable} names no setting; did you mean {}?", meant.join(" or ")),
        });
        Ok(())
    }
}

fn is_ours<T: Settings>(variable: &str) -> bool {
    let foreign =
        |other: &str| variable == other || (other.ends_with('_') && variable.starts_with(other));
    variable.starts_with(T::PREFIX) && !T::FOREIGN.iter().any(|other| foreign(other))
}

/// Whether a name in a variable is that of a field without some of the tables that it is in, or with
/// too few `_` between them.
fn ends_in(field: &str, name: &str) -> bool {
    let name = name.replace("__", "_");
    let mut rest = Some(field);
    while let Some(part) = rest {
        if part.replace('.', "_") == name {
            return true;
        }
        rest = part.split_once('.').map(|(_, inner)| inner);
    }
    false
}

/// Names that are more alike than this (Jaro's measure, from 0 to 1) are taken for a mistyped one: one
/// wrong letter of four is above it.
const ALIKE: f64 = 0.83;

/// Whether a table has figures by number, and so may get more of them. No field's name is a number.
fn is_by_number(table: &Table) -> bool {
    table.keys().all(|key| is_number(key))
}

fn is_number(name: &str) -> bool {
    name.parse::<u64>().is_ok()
}

/// A text as a value of the same type as another.
fn read_as(like: &Value, text: &str) -> Result<Value, String> {
    match like {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Integer(_) => match text.trim().parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err(format!("must be a whole number, not {text:?}")),
        },
        Value::Float(_) => match text.trim().parse() {
            Ok(number) => Ok(Value::Float(number)),
            Err(_) => Err(format!("must be a number, not {text:?}")),
        },
        Value::Boolean(_) => match text.trim() {
            "true" => Ok(Value::Boolean(true)),
            "false" => Ok(Value::Boolean(false)),
            _ => Err(format!("must be true or false, not {text:?}")),
        },
        Value::Array(_) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        Value::Datetime(_) | Value::Table(_) => Err("cannot be set here".to_owned()),
    }
}

pub(super) fn table_of<T: Serialize>(settings: &T) -> Result<Table, SettingsError> {
    Table::try_from(settings).map_err(|error| SettingsError::Unwritable(error.to_string()))
}

/// All fields by their names in full.
fn fields_of<T: Serialize>(settings: &T) -> Result<BTreeMap<String, Value>, SettingsError> {
    let mut fields = BTreeMap::new();
    let mut waiting = vec![(String::new(), table_of(settings)?)];
    while let Some((above, table)) = waiting.pop() {
        for (name, value) in table {
            let name = below(&above, &name);
            match value {
                Value::Table(inner) => waiting.push((name, inner)),
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => {
                    fields.insert(name, value);
                }
            }
        }
    }
    Ok(fields)
}

/// Line and column of the value of each field of a file. As deep as the parser lets a file be.
///
/// # Errors
/// The first field with a number that TOML does not have, and where. The parser leaves that to the
/// type, and an unsigned one may have room for what could not be written again.
fn lines_of(
    table: &DeTable<'_>,
    above: &str,
    text: &str,
    lines: &mut BTreeMap<String, (usize, usize)>,
) -> Result<(), (String, usize)> {
    for (key, value) in table {
        let name = below(above, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => lines_of(inner, &name, text, lines)?,
            DeValue::Integer(number)
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() =>
            {
                return Err((name, value.span().start));
            }
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                lines.insert(name, position(text, value.span().start));
            }
        }
    }
    Ok(())
}

fn below(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

/// Line and column, from 1, of a byte of a text.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The field that a path leads to, unless it is the top.
fn field_in(path: &serde_path_to_error::Path) -> Option<String> {
    path.iter().next().map(|_| path.to_string())
}

/// What is wrong with a field, in one line.
fn with_field(field: Option<&str>, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    match field {
        Some(field) => format!("{field}: {message}"),
        None => message,
    }
}

/// The names in a table, for those who mistyped one.
fn names(table: &Table) -> String {
    table.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
