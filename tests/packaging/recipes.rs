//! The recipes of the README and of `config/`, each with the real tool that it is for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod archive_command;
mod logrotate;
mod readme;
mod rsync;
mod sftp;

use std::process::{Command, Output};

/// Runs a program to its end, which must be a good one.
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
