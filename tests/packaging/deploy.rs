//! What is shipped with the binary: units, images, manifests, packages, the manual.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod debian;
mod docker;
mod image;
mod kubernetes;
mod manual;
mod operations;
mod reference;
mod sbom;
mod systemd;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    let path: PathBuf = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a command prints on its standard output; it must end well.
fn output(command: &mut Command) -> String {
    let ended = command.current_dir(root()).output();
    let ended =
        ended.unwrap_or_else(|error| panic!("{command:?}: {error} (tests/run installs it)"));
    let (stdout, stderr) = (ended.stdout, ended.stderr);
    let stdout = String::from_utf8(stdout).unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(ended.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", ended.status);
    stdout
}
