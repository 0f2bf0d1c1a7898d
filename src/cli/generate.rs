//! `tidemill man` and `tidemill completions`, from the definition of the options.

use std::{fs::DirBuilder, path::Path};

use clap::{Command, CommandFactory, builder::PossibleValuesParser};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{args::Args, complain, print};
use crate::{config, error::Exit, outcome::State, transforms};

/// The sections of the first page that the options do not define, as `roff`.
const SECTIONS: &str = include_str!("manual.roff");

/// Writes the manual: every page as a file of this directory, or the first page to the standard output.
pub fn man(dir: Option<&Path>) -> Exit {
    let made = match dir {
        Some(dir) => pages(dir).map_err(|error| format!("{}: {error}", dir.display())),
        None => first_page().map_err(|error| error.to_string()).map(|page| print(&page)),
    };
    match made {
        Ok(()) => Exit::Success,
        Err(error) => complain(&format!("error: cannot write the manual: {error}"), Exit::Config),
    }
}

fn pages(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)?;
    clap_mangen::generate_to(Args::command(), dir)?;
    std::fs::write(dir.join("tidemill.1"), first_page()?)?;
    std::fs::write(dir.join("tidemill.toml.5"), config::manual())
}

/// The page of the program: clap's sections, and those of the text.
fn first_page() -> std::io::Result<String> {
    let man = Man::new(Args::command().disable_help_subcommand(true));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    man.render_subcommands_section(&mut text)?;
    text.extend_from_slice(SECTIONS.as_bytes());
    man.render_version_section(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes the completion script of a shell.
pub fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut with_values(Args::command()), "tidemill", &mut text);
    print(&String::from_utf8_lossy(&text));
    Exit::Success
}

/// The command with the values of its options, for completion alone: the configuration checks them, and
/// reports more than clap would.
fn with_values(command: Command) -> Command {
    let by_kind = config::tables().flat_map(|(_, table)| table.keys).filter_map(|key| {
        let words = key.facts?.words;
        (key.option.is_some() && !words.is_empty()).then_some((key.name, words))
    });
    let transforms = transforms::notations();
    let by_hand = [("transforms", &*transforms), ("on_success", &["keep", "delete", "archive:"])];
    let run: Vec<_> = by_kind.chain(by_hand).collect();
    let with = |command: Command, values: &[(&'static str, &[&'static str])]| {
        values.iter().fold(command, |command, (name, values)| {
            let values = values.to_vec();
            command.mut_arg(*name, |arg| arg.value_parser(PossibleValuesParser::new(values)))
        })
    };
    command
        .mut_subcommand("run", |command| with(command, &run))
        .mut_subcommand("check", |command| with(command, &run))
        .mut_subcommand("history", |command| with(command, &[("state", State::WORDS)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::transforms::Chain;

    #[test]
    fn a_completed_value_is_accepted() {
        let values = |command: &str, option: &str| {
            let found = with_values(Args::command());
            let found = found.find_subcommand(command).expect("a command").clone();
            let arg = found.get_arguments().find(|arg| arg.get_id() == option).cloned();
            let values = arg.expect("an option").get_possible_values();
            values.iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>()
        };
        for word in values("run", "transforms") {
            assert!(word.replace("exec:", "exec:a").parse::<Chain>().is_ok(), "{word}");
        }
        for word in values("history", "state") {
            assert!(word.parse::<State>().is_ok(), "{word}");
        }
        let words =
            |option: &str| values("run", &option.trim_start_matches("--").replace('-', "_"));
        for option in ["--on-exists", "--temporary-names", "--settle", "--durability", "--sandbox"]
            .into_iter()
            .chain(["--log-format", "--on-success"])
        {
            assert!(!words(option).is_empty(), "{option}");
            for word in words(option) {
                let word = word.replace(':', ":a");
                let written = format!("{option}={word}");
                let args = Args::try_parse_from(["tidemill", "check", "in", "out", &written]);
                let Ok(Args { command: crate::cli::args::Command::Check(check) }) = args else {
                    panic!("{written}")
                };
                let resolved = config::resolve(&check.run.options);
                assert!(resolved.is_ok(), "{written}: {resolved:?}");
            }
        }
    }
}
