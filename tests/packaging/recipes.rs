//! The recipes of the README and of `config/`, each with the real tool that it is for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod archive_command;
mod configurations;
mod exec;
mod logrotate;
mod readme;
mod rsync;
mod sftp;

use std::{
    fs,
    process::{Command, Output},
};

use crate::files::TestDir;

/// Runs a program to its end, which must be a good one.
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Puts a file of `config/` into a place, with its absolute paths below the place's root and with these
/// changes, and makes the directories of its pipelines. Its name there.
fn configured(place: &TestDir, file: &str, changes: &[(&str, &str)]) -> String {
    let shipped = fs::read_to_string(format!("config/{file}")).unwrap();
    let root = place.root();
    let mut text = shipped.replace("\"/", &format!("\"{}/", root.display()));
    text = text.replace("archive:/", &format!("archive:{}/", root.display()));
    for (from, to) in changes {
        assert!(text.contains(from), "{file} has no {from}");
        text = text.replace(from, to);
    }
    for line in text.lines() {
        if let Some((key @ ("input" | "output" | "events"), path)) = line.split_once(" = \"") {
            let path = std::path::Path::new(path.trim_end_matches('"'));
            let dir = if key == "events" { path.parent().unwrap() } else { path };
            fs::create_dir_all(dir).unwrap();
        }
    }
    fs::write(root.join(file), text).unwrap();
    file.to_owned()
}
