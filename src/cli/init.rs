//! `tidemill init`: a configuration to begin with.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use super::{complain, notify, print};
use crate::error::Exit;

/// The annotated default; a test loads it.
const ANNOTATED: &str = include_str!("../../config/tidemill.toml");

/// Writes it to the file, which must not exist, or to the standard output (also as `-`).
pub fn init(file: Option<&Path>) -> Exit {
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        print(ANNOTATED);
        return Exit::Success;
    };
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(ANNOTATED.as_bytes()));
    match written {
        Ok(()) => {
            let path = path.display();
            let next = format!("`tidemill check --config {path}`");
            notify(&format!("{path} is written: edit it, then {next}"));
            Exit::Success
        }
        Err(error) => {
            let is_taken = error.kind() == io::ErrorKind::AlreadyExists;
            let hint = if is_taken { "; nothing is overwritten" } else { "" };
            let text = format!("error: cannot write {}: {error}{hint}", path.display());
            complain(&text, Exit::Config)
        }
    }
}
