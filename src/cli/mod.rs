//! The command line.

mod args;
mod check;
mod checksums;
mod client;
mod control;
mod explain;
mod format;
mod generate;
mod history;
mod init;
mod live;
mod plan;
mod processes;
mod ps;
mod put;
mod reprocess;
mod requeue;
mod state_dir;
mod terminal;

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use clap::Parser;
use tidemill_lifecycle::Signals;

use self::{
    args::{Args, Command},
    client::NotRunning,
    state_dir::NotFound,
};
use crate::{config, error::Exit, exec, hooks, ledger, observe, patience, service};

/// Runs the command of the arguments and returns the exit code of the process.
#[must_use]
pub fn main() -> Exit {
    let exit = command();
    match PRINT_FAILED.get() {
        Some(error) if exit == Exit::Success => {
            complain(&format!("error: cannot write the output: {error}"), Exit::Storage)
        }
        _ => exit,
    }
}

fn command() -> Exit {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors. A closed output is ignored.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    match args.command {
        Command::Run(options) => {
            let level = options.log_level();
            let options = options.into_options();
            if options.file.events.as_deref() == Some(std::path::Path::new("-")) {
                let text = "error: --events: the events file is locked and made durable, so it is no stream: name a file, and follow it with `tail -F FILE`";
                return complain(text, Exit::Usage);
            }
            run(&options, level)
        }
        Command::Check(options) => check::check(options),
        Command::Plan(options) => report(plan::plan(options)),
        Command::Init { file } => init::init(file.as_deref()),
        Command::Put(options) => report(put::put(&options)),
        Command::History(options) => report(history::history(&options)),
        Command::Explain(options) => report(explain::explain(&options)),
        Command::Checksums(options) => report(checksums::checksums(&options)),
        Command::Requeue(options) => report(requeue::requeue(&options)),
        Command::Reprocess(options) => report(reprocess::reprocess(&options)),
        Command::Status(options) => report(control::status(&options)),
        Command::Ps => ps::ps(),
        Command::Pause(options) => report(control::pause(&options)),
        Command::Resume(options) => report(control::resume(&options)),
        Command::Drain(options) => report(control::drain(&options)),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Completions { shell } => generate::completions(shell),
        Command::HookRunner => hooks::main(),
        Command::ExecRunner => exec::runner_main(),
        Command::ExecSupervisor => exec::supervisor_main(),
        Command::ExecProgram => exec::program_main(),
        Command::Look { path } => {
            if patience::is_available(&path) {
                Exit::Success
            } else {
                Exit::Storage
            }
        }
        Command::HookExec { command } => {
            let error = hooks::replace_process(&command);
            complain(&format!("cannot run it: {error}"), Exit::Config)
        }
    }
}

/// Runs the service. A hang-up may come at any time; SIGTERM and SIGINT end the process as the kernel
/// does until the service follows them, because everything before that may hang in a mount.
fn run(options: &config::Options, level: Option<&str>) -> Exit {
    let signals = match Signals::catch_hangups() {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("cannot catch signals: {error}"), Exit::Internal),
    };
    patience::begin_single_threaded();
    let config = match config::load(options) {
        Ok(config) => config,
        Err(problems) => return report_problems(&problems),
    };
    // `--once` has its bar and its summary.
    let default = if config.once { "warn" } else { "info" };
    observe::init_logs(config.keys.log_format, level.unwrap_or(default));
    service::run(config, options.clone(), signals)
}

/// Prints the error of a command, and returns its exit code.
fn report(result: Result<Exit, anyhow::Error>) -> Exit {
    result.unwrap_or_else(|error| complain(&format!("error: {error:#}"), exit_of(&error)))
}

/// Returns the exit code of a command's error.
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.is::<NotRunning>() || error.is::<NotFound>() {
        return Exit::Unavailable;
    }
    if error.is::<BadValue>() {
        return Exit::Usage;
    }
    if error.is::<NotAll>() {
        return Exit::WorkLeft;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<ledger::Error>()) {
        Some(error) if error.kind == ledger::ErrorKind::Failed => Exit::Storage,
        Some(_) => Exit::WorkLeft,
        None => Exit::Config,
    }
}

/// The value of an option cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1:#}")]
struct BadValue(&'static str, anyhow::Error);

/// A command did a part of its work; it printed the rest with the reasons.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} {what}")]
struct NotAll {
    failed: usize,
    all: usize,
    what: &'static str,
}

/// Prints every error of a configuration, in colour on a terminal.
fn report_problems(problems: &config::Diagnostics) -> Exit {
    let exit = if problems.is_usage { Exit::Usage } else { Exit::Config };
    complain(&problems.report(observe::is_coloured()), exit)
}

/// Prints an error to the standard error, and returns the exit code that goes with it.
fn complain(text: &str, exit: Exit) -> Exit {
    notify(text);
    exit
}

/// Prints to the standard error.
fn notify(text: &str) {
    observe::write_message(format!("{text}\n").as_bytes());
}

/// The error of the standard output, for the exit code of the command.
static PRINT_FAILED: OnceLock<io::Error> = OnceLock::new();

/// Prints to the standard output; a reader that went away (`| head`) is no error, a full disk is one.
fn print(text: &str) {
    print_to_reader(text);
}

/// Prints like [`print`]; returns false if more need not be printed.
fn print_to_reader(text: &str) -> bool {
    print_bytes(text.as_bytes())
}

/// As [`print_to_reader`], for names that are no text.
fn print_bytes(bytes: &[u8]) -> bool {
    let mut stdout = io::stdout();
    let printed = stdout.write_all(bytes).and_then(|()| stdout.flush());
    let is_printed = printed.is_ok();
    if let Err(error) = printed
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        drop(PRINT_FAILED.set(error));
    }
    is_printed
}
