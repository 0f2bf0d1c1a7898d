//! What is shipped beside the binary: units, images, manifests, packages, the manual.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

#[path = "support/files.rs"]
#[expect(dead_code, reason = "not every test uses all of it")]
mod files;

#[path = "deploy/debian.rs"]
mod debian;
#[path = "deploy/docker.rs"]
mod docker;
#[path = "deploy/image.rs"]
mod image;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "deploy/manual.rs"]
mod manual;
#[path = "deploy/operations.rs"]
mod operations;
#[path = "deploy/reference.rs"]
mod reference;
#[path = "deploy/sbom.rs"]
mod sbom;
#[path = "deploy/systemd.rs"]
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
    let (told, complained) = (ended.stdout, ended.stderr);
    let told = String::from_utf8(told).unwrap();
    let complained = String::from_utf8_lossy(&complained);
    assert!(ended.status.success(), "{command:?}: {}\n{told}\n{complained}", ended.status);
    told
}
