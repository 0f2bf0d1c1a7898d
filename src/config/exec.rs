//! The programs of a user that `exec` runs: the tables `[exec.NAME]`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use toml::Spanned;

use super::{
    declare::{Entry, Located, LocatedText, Location},
    hooks::wrong_with_command,
    keys::{ExecEntries, ExecKeys, ExecOptions, RawExec},
    load::Resolver,
};
use crate::transforms::exec::{INPUT, OUTPUT, Program, Programs, is_name};

impl From<&Program> for ExecKeys {
    fn from(program: &Program) -> Self {
        Self {
            extension: program.extension.clone(),
            replaces: program.replaces.clone(),
            timeout: program.timeout,
            memory: program.memory,
            processes: program.processes,
            network: program.network,
            reject_codes: program.reject_codes.clone(),
            pause_codes: program.pause_codes.clone(),
            allow_empty: program.allow_empty,
        }
    }
}

impl Resolver {
    pub(super) fn programs(&mut self, file: BTreeMap<String, Spanned<RawExec>>) -> Programs {
        let programs = file.into_iter().filter_map(|(name, table)| {
            let program = self.program(name.clone(), table)?;
            Some((name, Arc::new(program)))
        });
        programs.collect()
    }

    /// `None` if the command is missing or wrong, which is reported.
    fn program(&mut self, name: String, table: Spanned<RawExec>) -> Option<Program> {
        let table_at = Location::File(table.span());
        let mut table = table.into_inner();
        let options = ExecOptions::default();
        let ExecKeys {
            extension,
            replaces,
            timeout,
            memory,
            processes,
            network,
            reject_codes,
            pause_codes,
            allow_empty,
        } = table.values(&options, self);
        let ExecEntries { command, read, write, environment } = table.entries(&options);
        if !is_name(&name) {
            let message = format!("`{}` is not a name", name.escape_debug());
            let help = "a name has letters, digits, `-` and `_`";
            self.problems.add(Some(&table_at), message, Some(help));
        }
        Some(Program {
            command: self.command(&name, command, &table_at)?,
            extension,
            replaces,
            timeout,
            memory,
            processes,
            read: self.paths(read),
            write: self.paths(write),
            network,
            environment: self.environment(environment),
            reject_codes,
            pause_codes,
            allow_empty,
            name,
        })
    }

    fn command(
        &mut self,
        name: &str,
        entry: Entry<Vec<LocatedText>>,
        table: &Location,
    ) -> Option<Vec<String>> {
        let Located { value, at } =
            entry.written.unwrap_or(Located { value: vec![], at: table.clone() });
        let command = texts(value);
        let wrong = if command.is_empty() {
            let help = "write `command = [\"/usr/bin/program\", \"argument\"]`";
            Some((format!("`[exec.{name}]` has no `command`"), help.to_owned()))
        } else {
            wrong_with_command(&command).or_else(|| wrong_with_placeholders(&command))
        };
        match wrong {
            None => Some(command),
            Some((message, help)) => {
                self.problems.add(Some(&at), message, Some(&help));
                None
            }
        }
    }

    fn paths(&mut self, entry: Entry<Vec<LocatedText>>) -> Vec<PathBuf> {
        let Some(Located { value, .. }) = entry.written else { return Vec::new() };
        let located = |LocatedText(text): LocatedText| Located {
            at: Location::File(text.span()),
            value: PathBuf::from(text.into_inner()),
        };
        value.into_iter().map(|path| self.path(&located(path))).collect()
    }

    fn environment(&mut self, entry: Entry<Vec<LocatedText>>) -> Vec<String> {
        let Some(Located { value, .. }) = entry.written else { return Vec::new() };
        for LocatedText(text) in &value {
            let name = text.get_ref().split_once('=').map(|(name, _)| name);
            if name.is_none_or(str::is_empty) || text.get_ref().contains('\0') {
                let at = Location::File(text.span());
                let help = "a variable is written `NAME=VALUE`";
                self.problems.add(Some(&at), "this is not a variable", Some(help));
            }
        }
        texts(value)
    }
}

fn texts(all: Vec<LocatedText>) -> Vec<String> {
    all.into_iter().map(|LocatedText(text)| text.into_inner()).collect()
}

/// Checks that braces are of a placeholder, or of something that cannot be meant as one.
fn wrong_with_placeholders(command: &[String]) -> Option<(String, String)> {
    for similar in ["{input}", "{output}", "{infile}", "{outfile}", "{file}", "{}"] {
        if command.iter().any(|word| word == similar) {
            let help = format!("the placeholders are `{INPUT}` and `{OUTPUT}`");
            return Some((format!("`{similar}` is not a placeholder"), help));
        }
    }
    None
}
