//! The errors of sinks.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::observe::display_path;

/// A failed operation, and the path that it concerns.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {}", kind.action(), display_path(path))]
pub struct Error {
    pub kind: ErrorKind,
    pub path: PathBuf,
    pub source: io::Error,
}

impl Error {
    /// Makes the error of a refused publication.
    #[must_use]
    pub fn of_publish(path: PathBuf, source: io::Error) -> Self {
        let is_taken = source.kind() == io::ErrorKind::AlreadyExists;
        let kind = if is_taken { ErrorKind::Taken } else { ErrorKind::Publish };
        Self { kind, path, source }
    }
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Open or create the output's directory.
    Directory,
    /// As [`Self::Directory`], where another file has the directory's name: only the outputs below it
    /// are affected.
    DirectoryTaken,
    Write,
    /// The sink has another number of bytes than was written.
    Short {
        written: u64,
        found: u64,
    },
    /// Make content durable.
    Sync,
    /// Look at a name, or read what has it.
    Look,
    Publish,
    /// Publish: what has the name is not what the precondition states.
    Taken,
    /// Make names durable.
    SyncNames,
    /// Remove a staged name.
    Remove,
    /// List a directory.
    List,
    /// Change the attributes of a published output.
    Attributes,
}

impl ErrorKind {
    /// Returns the words between "cannot" and the path.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Directory | Self::DirectoryTaken => "open the directory of",
            Self::Write | Self::Short { .. } => "write",
            Self::Sync | Self::SyncNames => "make durable",
            Self::Look => "check",
            Self::Publish | Self::Taken => "publish",
            Self::Remove => "remove",
            Self::List => "search",
            Self::Attributes => "change the attributes of",
        }
    }

    /// Returns a function that makes an error of this kind.
    pub(super) fn at(self, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error { kind: self, path: path.as_ref().to_path_buf(), source }
    }
}
