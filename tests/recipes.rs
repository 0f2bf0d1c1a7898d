//! The recipes of the README and of `config/`, each with the real tool that it is for.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]
#![expect(dead_code, reason = "not every test file needs all of the support")]

#[path = "support/files.rs"]
mod files;
#[path = "support/prove.rs"]
mod prove;

#[path = "recipes/archive_command.rs"]
mod archive_command;
#[path = "recipes/logrotate.rs"]
mod logrotate;
#[path = "recipes/readme.rs"]
mod readme;
#[path = "recipes/rsync.rs"]
mod rsync;
#[path = "recipes/sftp.rs"]
mod sftp;

use std::process::{Command, Output};

/// Runs a program to its end, which must be a good one.
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}
