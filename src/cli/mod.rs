//! The command line: what the user typed, and the words they get back.

mod args;
mod check;
mod client;
mod explain;
mod generate;
mod history;
mod init;
mod locate;
mod operate;
mod reprocess;
mod requeue;
mod view;

use std::io::{IsTerminal, Write};

use clap::Parser;

use self::args::{Args, Command};
use crate::{config, error::Exit, hooks, lifecycle::Signals, observe, service};

/// Runs the command that was asked for, and says how the process is to end.
#[must_use]
pub fn main() -> Exit {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors; a closed output leaves nobody to tell.
            drop(error.print());
            return if error.use_stderr() { Exit::Config } else { Exit::Drained };
        }
    };
    match args.command {
        Command::Run(options) => run(&options.into()),
        Command::Check(options) => check::check(&options.into()),
        Command::Init { file } => init::init(file.as_deref()),
        Command::History(options) => tell(history::history(&options)),
        Command::Explain(options) => tell(explain::explain(&options)),
        Command::Requeue(options) => tell(requeue::requeue(&options)),
        Command::Reprocess(options) => tell(reprocess::reprocess(&options)),
        Command::Status(options) => tell(operate::status(&options)),
        Command::Pause(options) => tell(operate::pause(&options)),
        Command::Resume(options) => tell(operate::resume(&options)),
        Command::Drain(options) => tell(operate::drain(&options)),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Completions { shell } => generate::completions(shell),
        Command::HookRunner => hooks::main(),
        Command::HookExec { command } => {
            let error = hooks::replace_process(&command);
            complain(&format!("cannot run it: {error}"), Exit::Config)
        }
    }
}

/// Signals first: from here on none of them kills the process unawares.
fn run(options: &config::Options) -> Exit {
    let signals = match Signals::register() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot catch signals: {error}"), Exit::Internal),
    };
    let config = match config::load(options) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    // `--once` has its bar and its summary.
    observe::init_logs(config.log_format, if config.once { "warn" } else { "info" });
    service::run(config, options.clone(), signals)
}

/// What a command that only tells or mends came to: the exit code on success.
fn tell(told: Result<Exit, anyhow::Error>) -> Exit {
    told.unwrap_or_else(|error| complain(&format!("error: {error:#}"), Exit::Config))
}

/// All that is wrong with a configuration; in colour for a person.
fn refuse(problems: &config::Problems) -> Exit {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    complain(&problems.report(colour), Exit::Config)
}

fn complain(text: &str, exit: Exit) -> Exit {
    // A closed standard error leaves nobody to tell.
    drop(writeln!(std::io::stderr(), "{text}"));
    exit
}

/// Prints for programs and people; a reader that went away (`| head`) is no error.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}
