//! Settings as a file that a person can start from: each field under what is said about it.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::{Docs, Settings, SettingsError, layers::table_of};

/// The settings as TOML with comments; reading it gives the same settings.
///
/// # Errors
/// [`SettingsError::Unwritable`].
pub fn to_toml<T: Settings>(settings: &T) -> Result<String, SettingsError> {
    let all = table_of(settings)?;
    let mut text = String::new();
    let tables: Vec<&str> = T::docs().iter().map(|docs| docs.table).collect();
    for docs in T::docs() {
        let Some(table) = inner(&all, docs.table) else { continue };
        if !docs.table.is_empty() {
            let _ = write!(text, "\n[{}]\n", docs.table);
        }
        write_fields(&mut text, table, &docs, &tables);
    }
    Ok(text)
}

/// Writes the fields of a table but those that are `tables` themselves. Maps are written inline.
fn write_fields(text: &mut String, table: &Table, docs: &Docs, tables: &[&str]) {
    for (field, said) in docs.fields.iter().zip(docs.docs) {
        // A duration is a number of milliseconds in a file, and its name says so there.
        let with_unit = format!("{field}_ms");
        let Some((name, value)) =
            [*field, &with_unit].into_iter().find_map(|name| table.get_key_value(name))
        else {
            continue;
        };
        let whole = [docs.table, field].join(".");
        if tables.contains(&whole.trim_start_matches('.')) {
            continue;
        }
        for line in said.lines() {
            let line = line.replace("[`", "`").replace("`]", "`");
            let _ = writeln!(text, "# {}", line.trim());
        }
        let _ = writeln!(text, "{name} = {value}");
    }
}

/// A table in a table, by its name in full.
fn inner<'a>(all: &'a Table, name: &str) -> Option<&'a Table> {
    name.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(all, |table, part| table.get(part).and_then(Value::as_table))
}
