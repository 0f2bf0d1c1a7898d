//! The directories that sources were moved to, an archive or a quarantine, and the removal of files there.

use std::{
    ffi::OsStr,
    fmt::Debug,
    path::{Path, PathBuf},
};

use super::Result;
use crate::{
    fingerprint::Fingerprint,
    ledger::{Hash, RecordId},
};

/// A regular file of an archive or a quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedFile {
    /// Below the root.
    pub path: PathBuf,
    pub identity: Fingerprint,
    /// The number of its hard links.
    pub names: u64,
    /// The record for which an interrupted removal took it.
    pub taken_for: Option<RecordId>,
}

/// The result of removing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// It was gone.
    Missing,
    /// Another file has its name, it was changed, or it has other names: it stays.
    Changed,
}

/// An opened archive or quarantine. Paths are below its root. Calls block and cannot be cancelled.
pub trait MovedFiles: Send + Debug {
    /// Checks whether a file may have another inode number after each look.
    fn may_renumber(&self) -> bool;

    /// Lists every regular file once. No link is followed. An error is that of a directory that cannot be
    /// listed or does not respond: the list is not complete then.
    fn files(&self) -> Box<dyn Iterator<Item = Result<MovedFile>> + '_>;

    /// Looks at one path; `None` if no regular file has it.
    fn look(&self, path: &Path) -> Result<Option<MovedFile>>;

    /// Looks for the file of this path that an interrupted removal took for a record.
    fn taken(&self, path: &Path, id: RecordId) -> Result<Option<MovedFile>>;

    /// Returns the hash of a file's content.
    fn content_hash(&self, path: &Path) -> Result<Hash>;

    /// Removes a file if it is still what the look showed, and has no other name. It is taken under a
    /// private name made of the record's number before it is compared; a kill leaves it there, and
    /// [`Self::files`] finds it. One that was taken before keeps that name. Durable only after [`Self::sync`].
    fn remove(&self, file: &MovedFile, id: RecordId) -> Result<Removal>;

    /// Gives a file that an interrupted removal took the name `name`, or `NAME.1`, `NAME.2`, …
    fn restore(&self, file: &MovedFile, name: &OsStr) -> Result<()>;

    /// Reads the reason file next to a slot; an error if there is none.
    fn read_reason(&self, path: &Path) -> Result<Vec<u8>>;

    /// Removes the reason file next to a slot; a missing one is no error.
    fn remove_reason(&self, path: &Path) -> Result<()>;

    /// Makes the removals in the directory of this path durable.
    fn sync(&self, path: &Path) -> Result<()>;
}
