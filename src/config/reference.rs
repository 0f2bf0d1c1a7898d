//! The manual page of the configuration keys, made from their declarations.

use std::fmt::Write;

use super::{
    declare::{Key, KeyTable, ValueKind},
    keys::RawFile,
};

/// The tables of a configuration file, each with its heading.
pub fn tables() -> impl Iterator<Item = (String, &'static KeyTable)> {
    let below = RawFile::TABLE.keys.iter().filter_map(|key| match key.kind {
        ValueKind::Table(table) => Some((format!("[{}]", key.name), table)),
        ValueKind::Tables(table) => Some((format!("[[{}]]", key.name), table)),
        ValueKind::Named(table) => Some((format!("[{}.NAME]", key.name), table)),
        _ => None,
    });
    std::iter::once(("Top level".to_owned(), &RawFile::TABLE)).chain(below)
}

/// The keys of a table that take a value.
fn values(table: &KeyTable) -> impl Iterator<Item = &Key> {
    table.keys.iter().filter(|key| !key.help.is_empty())
}

/// As a manual page of section 5.
#[must_use]
pub fn manual() -> String {
    let escaped = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    let mut text = String::from(
        ".TH tidemill.toml 5\n.SH NAME\ntidemill.toml \\- the configuration of tidemill(1)\n\
         .SH DESCRIPTION\nA TOML file, read with \\fB\\-\\-config\\fR. Relative paths are relative to its directory. \
         Durations are written 250ms, 2s, 1m 30s; sizes 65536, 64KiB, 1TiB. \
         \\fBtidemill init\\fR writes an annotated file, \\fBtidemill check\\fR reports every error of one.\n",
    );
    for (heading, table) in tables() {
        _ = writeln!(text, ".SH {}", escaped(&heading.to_uppercase()));
        for Key { name, kind, option, default, help, .. } in values(table) {
            _ = writeln!(text, ".TP\n\\fB{}\\fR", escaped(name));
            _ = write!(text, "{}. Takes {}.", escaped(help), escaped(kind.words()));
            if let Some(default) = default {
                _ = write!(text, " Default: {}.", escaped(default));
            }
            if let Some(option) = option {
                _ = write!(text, " Option: \\fB{}\\fR.", escaped(option));
            }
            text.push('\n');
        }
    }
    text.push_str(".SH SEE ALSO\n.BR tidemill (1)\n");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Options, PipelineOptions, resolve};

    #[test]
    fn the_annotated_file_has_every_key() {
        let annotated = include_str!("../../config/tidemill.toml");
        for (heading, table) in tables() {
            for key in values(table) {
                let assigned = format!("{} = ", key.name);
                let named = format!("`{}`", key.name);
                assert!(
                    annotated.contains(&assigned) || annotated.contains(&named),
                    "config/tidemill.toml does not mention `{}` of {heading}",
                    key.name
                );
            }
        }
    }

    /// A default that does not parse, or is written in another way than `check` writes it, would be
    /// shown as a difference.
    #[test]
    fn defaults_are_written_as_they_resolve() {
        let options = Options {
            pipeline: PipelineOptions {
                input: Some("in".into()),
                output: Some("out".into()),
                ..PipelineOptions::default()
            },
            ..Options::default()
        };
        let config = resolve(&options).expect("a configuration");
        let changed = config.changed();
        let keys: BTreeSet<_> =
            changed.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
        let expected = ["input", "name", "output", "quarantine", "state_dir", "workers"];
        assert_eq!(keys, BTreeSet::from(expected), "{changed}");
    }
}
