//! Reads the text of a configuration file so that one mistake does not hide the next.

use std::path::Path;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue, Deserializer},
};

use super::{
    declare::{Key, KeyTable, Location, ValueKind},
    diagnostics::Diagnostics,
    keys::RawFile,
};

/// The least similarity at which a name is taken for a misspelt key.
const SIMILAR: f64 = 0.75;

/// Reads a file. Keys that do not exist and values of a wrong type are reported and left
/// out; a file that is not TOML is None.
pub fn read(path: &Path, problems: &mut Diagnostics) -> Option<RawFile> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let help = "`tidemill init FILE` writes a configuration to begin with";
            problems.add(Some(&Location::Option("--config")), message, Some(help));
            return None;
        }
    };
    let (mut table, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        problems.add(error.span().map(Location::File).as_ref(), error.message(), None);
    }
    let file = errors.is_empty().then(|| {
        prune(table.get_mut(), &RawFile::TABLE, problems);
        RawFile::deserialize(Deserializer::from(table))
    });
    let file = file.and_then(|file| {
        file.inspect_err(|error| {
            problems.add(error.span().map(Location::File).as_ref(), error.message(), None);
        })
        .ok()
    });
    problems.set_file(path.to_path_buf(), &text);
    file
}

/// Removes unknown keys and values of a wrong type from a table and those below it.
fn prune(table: &mut DeTable<'_>, of: &KeyTable, problems: &mut Diagnostics) {
    for (key, mut value) in std::mem::take(table) {
        let name = key.get_ref().as_ref();
        let Some(Key { kind, .. }) = of.keys.iter().find(|key| key.name == name) else {
            let message = format!("there is no key `{name}` {}", of.place);
            problems.add(Some(&Location::File(key.span())), message, Some(&instead(name, of)));
            continue;
        };
        if !fits(*kind, value.get_ref()) {
            let at = Location::File(value.span());
            let message = format!("`{name}` must be {}", kind.words());
            problems.add(Some(&at), message, Some(&kind.example(name)));
            continue;
        }
        match (kind, value.get_mut()) {
            (ValueKind::Table(of), DeValue::Table(below)) => prune(below, of, problems),
            (ValueKind::Tables(of), DeValue::Array(all)) => {
                for below in all.iter_mut() {
                    if let DeValue::Table(below) = below.get_mut() {
                        prune(below, of, problems);
                    }
                }
            }
            (ValueKind::Named(of), DeValue::Table(named)) => {
                for (_, below) in named.iter_mut() {
                    if let DeValue::Table(below) = below.get_mut() {
                        prune(below, of, problems);
                    }
                }
            }
            _ => {}
        }
        table.insert(key, value);
    }
}

fn fits(kind: ValueKind, value: &DeValue<'_>) -> bool {
    let strings = |all: &[Spanned<DeValue<'_>>]| all.iter().all(|one| one.get_ref().is_str());
    let tables = |all: &[Spanned<DeValue<'_>>]| all.iter().all(|one| one.get_ref().is_table());
    match (kind, value) {
        (ValueKind::Text, value) => value.is_str(),
        (ValueKind::Number, DeValue::Integer(number)) => whole::<u32>(number),
        (ValueKind::Signed, DeValue::Integer(number)) => signed::<i32>(number),
        (ValueKind::Large, DeValue::Integer(number)) => whole::<i64>(number),
        (ValueKind::Boolean, value) => value.is_bool(),
        (ValueKind::Texts, DeValue::Array(all)) => strings(all),
        (ValueKind::Numbers, DeValue::Array(all)) => {
            all.iter().all(|one| fits(ValueKind::Number, one.get_ref()))
        }
        (ValueKind::Hook, DeValue::Array(all)) => !all.is_empty() && strings(all),
        (ValueKind::Hook, DeValue::Table(table)) => {
            table.len() == 1 && table.get("url").is_some_and(|url| url.get_ref().is_str())
        }
        (ValueKind::Share, DeValue::Integer(number)) => {
            whole::<u8>(number) && share(number.as_str())
        }
        (ValueKind::Share, DeValue::Float(number)) => share(number.as_str()),
        (ValueKind::Table(_), value) => value.is_table(),
        (ValueKind::Tables(_), DeValue::Array(all)) => tables(all),
        (ValueKind::Named(_), DeValue::Table(named)) => {
            named.iter().all(|(_, one)| one.get_ref().is_table())
        }
        _ => false,
    }
}

fn share(number: &str) -> bool {
    number.parse().is_ok_and(|number: f64| (0.0..=1.0).contains(&number))
}

/// Whether a number is not negative and within the type.
fn signed<T: TryFrom<i64>>(number: &DeInteger<'_>) -> bool {
    let number = i64::from_str_radix(number.as_str(), number.radix());
    number.is_ok_and(|number| T::try_from(number).is_ok())
}

fn whole<T: TryFrom<i64>>(number: &DeInteger<'_>) -> bool {
    !number.as_str().starts_with('-') && signed::<T>(number)
}

/// What to write in place of a key that does not exist here.
fn instead(name: &str, of: &KeyTable) -> String {
    let has_it = |table: &&KeyTable| table.keys.iter().any(|key| key.name == name);
    let below = RawFile::TABLE.keys.iter().filter_map(|key| match key.kind {
        ValueKind::Table(table) | ValueKind::Tables(table) | ValueKind::Named(table) => Some(table),
        _ => None,
    });
    if let Some(table) = std::iter::once(&RawFile::TABLE).chain(below).find(has_it) {
        return format!("`{name}` belongs {}", table.place);
    }
    let similarity = |key: &Key| (strsim::jaro_winkler(key.name, name), key.name);
    let nearest = of.keys.iter().map(similarity).max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((similarity, key)) if similarity >= SIMILAR => format!("write `{key}`"),
        _ => {
            let keys: Vec<_> = of.keys.iter().map(|key| key.name).collect();
            format!("the keys are `{}`", keys.join("`, `"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_whole_not_negative_and_fits() {
        let fits = |text: &str, kind| fits(kind, DeValue::parse(text).expect(text).get_ref());
        assert!(fits("0", ValueKind::Number));
        assert!(fits("4_294_967_295", ValueKind::Number));
        assert!(!fits("4294967296", ValueKind::Number));
        assert!(fits("4294967296", ValueKind::Large));
        assert!(fits("0x10", ValueKind::Number));
        assert!(!fits("-1", ValueKind::Number));
        assert!(!fits("-1", ValueKind::Large));
        assert!(!fits("1.5", ValueKind::Number));
        assert!(!fits("9223372036854775808", ValueKind::Large));
        for share in ["0", "1", "0.25", "1.0"] {
            assert!(fits(share, ValueKind::Share), "{share}");
        }
        for other in ["2", "-0.5", "1.5", "nan", "inf", "'1'"] {
            assert!(!fits(other, ValueKind::Share), "{other}");
        }
    }
}
