//! The port of a pipeline's input: every side effect on sources goes through [`Source`].
//!
//! The stages and recovery decide (when a file is ready, what its record means, in which order its
//! disposal happens); a source does what they decide where the files are. [`local::Local`], a
//! directory, is the one implementation of the service. Another one, such as a bucket, passes the suite
//! of `conformance.rs` and is opened by [`open`].
//!
//! Calls block: one for each file, batch, page of a listing or chunk of up to
//! [`limits::CHUNK_BYTES`](crate::limits::CHUNK_BYTES). None can be cancelled. Paths are relative to
//! the source's root unless stated otherwise.

#[cfg(test)]
mod conformance;
pub mod event_queue;
pub mod local;
#[cfg(any(test, feature = "failpoints"))]
pub mod memory;
mod moved_files;
mod quarantined;
pub mod successions;
mod take;
mod targets;

use std::{
    error::Error as StdError,
    fmt::Debug,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::{
    moved_files::{MovedFile, MovedFiles, Removal},
    quarantined::{Follow, PutBack, QuarantinedSource},
    take::{TakeRequest, TakeResult},
    targets::Targets,
};
use crate::{
    fingerprint::{FileId, Fingerprint},
    fs::{ExtendedAttributes, FileMetadata, NodeId, Writers},
    ledger::{Record, RecordId},
    observe::display_path,
    policy::OnSuccess,
};

/// A failed operation of a source.
#[derive(Debug, thiserror::Error)]
#[error("cannot access {}", display_path(path))]
pub struct SourceError {
    /// The full path of the file or directory.
    pub path: PathBuf,
    /// The error number decides whether it blames the file or the storage (`error::blames_input`).
    pub source: io::Error,
}

pub type Result<T, E = SourceError> = std::result::Result<T, E>;

/// Opens the source of this configured input, for the ledger instance that names what it takes.
pub fn open(input: &Path, instance: &NodeId, targets: Arc<Targets>) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(local::Local::open(input, instance, targets)?))
}

/// Opens an archive or a quarantine, for the ledger instance that names what it takes there.
///
/// # Errors
///
/// `ENODEV` if its file system is not mounted, by the targets.
pub fn moved_files(
    root: &Path,
    instance: &NodeId,
    targets: &Targets,
) -> Result<Box<dyn MovedFiles>> {
    Ok(Box::new(local::LocalMovedFiles::open(root, instance, targets)?))
}

/// Checks whether a file has this full path, in an input or in a quarantine slot. Opens no input, so that
/// an operator sees the files of one that is not mounted.
pub fn exists(path: &Path) -> Result<bool> {
    local::exists(path)
}

/// Reads the reason file next to a slot, as far as its size is one that the service writes. Opens no input.
pub fn read_reason(slot: &Path) -> Result<Vec<u8>> {
    local::read_reason(slot)
}

/// An opened input. All threads of a pipeline share it, and each job holds the one that its file was
/// found in: dropping the last reference closes it. If the input is replaced, the intake opens another
/// one.
pub trait Source: Send + Sync + Debug {
    /// Returns the input as it was configured, for messages.
    fn path(&self) -> &Path;

    /// Checks whether other machines may change it without this one's knowledge: an error then may
    /// blame a server, and no event reports all changes.
    fn is_remote(&self) -> bool;

    /// Checks whether a file may have another inode number after each look.
    fn may_renumber(&self) -> bool {
        self.is_remote()
    }

    /// Returns the metadata of the root: which place it is, its owner, its latest change.
    fn metadata(&self) -> Result<FileMetadata>;

    /// Checks whether it has no entry at all, as a mount point without its mount. A source that cannot
    /// be confused with another one is never empty.
    fn is_empty(&self) -> bool {
        false
    }

    /// Sends events of its files to the queue until the subscription is dropped; `None` if it reports
    /// none, and must be listed at intervals. Events are hints: they may be lost or late, and the queue
    /// has an overflow.
    fn subscribe(
        &self,
        queue: event_queue::EventQueue,
    ) -> Result<Option<Subscription>, Box<dyn StdError + Send + Sync>>;

    /// Lists the files below this directory; empty for all. `own` are the IDs of the service's own
    /// directories, which are not entered.
    fn list(&self, below: PathBuf, own: &Arc<[FileId]>) -> Box<dyn Listing>;

    /// Looks at a path that an event or a listing named. `own` are the IDs of the service's own files
    /// and directories, and of the root, to which no path may lead.
    fn look(&self, path: &Path, named_by: NamedBy, own: &[FileId]) -> Result<Look>;

    /// Returns the metadata of a path without opening it; `None` if it does not exist. The answer may
    /// be as old as the latest listing of its directory.
    fn stat(&self, path: &Path) -> Result<Option<FileMetadata>>;

    /// As [`Self::stat`], never from a cache.
    fn stat_fresh(&self, path: &Path) -> Result<Option<FileMetadata>>;

    /// As [`Self::stat`], of a path that a person wrote: no link leads out of the source.
    fn stat_beneath(&self, path: &Path) -> Result<Option<FileMetadata>> {
        self.stat(path)
    }

    /// Returns the time at which a file was created, in nanoseconds since the epoch by this machine's
    /// clock; `None` if that is unknown.
    fn born_ns(&self, _: &Path) -> Result<Option<i64>> {
        Ok(None)
    }

    /// Checks whether a directory has this file, unchanged, under any of its first `max_names` names that
    /// are not temporary: an editor or rsync keeps the old version of a file as a backup (`NAME~`). True
    /// if the directory has more names. A source without renames has it under none.
    fn keeps(&self, _directory: &Path, _wanted: &Fingerprint, _max_names: usize) -> Result<bool> {
        Ok(false)
    }

    /// Opens a file for reading.
    fn open(&self, path: &Path) -> Result<Opened>;

    /// Takes a source for its disposal (D1): from then on no other program finds it under its name.
    /// Takes only the file that was read, as far as a look beforehand shows; a file that came in between
    /// gets its name back.
    fn take(&self, wanted: &TakeRequest<'_>) -> Result<TakeResult>;

    /// Checks whether [`Self::take`], which failed, may have taken the source: it has its private name, or
    /// that cannot be looked up.
    fn may_hold(&self, _wanted: &TakeRequest<'_>) -> bool {
        false
    }

    /// Checks that the input's root and the archive permit a disposal: makes, renames and removes a file
    /// in each. Where it succeeds, an error of the disposal is one of the file. A source without
    /// directories permits every disposal.
    fn probe_disposal(&self, _end: End<'_>) -> Result<()> {
        Ok(())
    }

    /// Finds what an unclean stop of this instance left. Walks the entire source. A directory that
    /// cannot be listed is an error among the results.
    fn leftovers(&self) -> Vec<Result<Leftover>>;

    /// Opens a source that [`Self::leftovers`] found, whose record names `source`. Its directory may
    /// have been renamed since.
    fn recover(&self, taken: &Taken, source: &Path) -> Result<Box<dyn HeldSource>>;

    /// Removes a temporary file that [`Self::leftovers`] found.
    fn remove_temp(&self, path: &Path) -> Result<()>;

    /// Returns the full path of a free slot in a quarantine directory: the source's name, or `NAME.1`,
    /// `NAME.2`, … where neither the name nor its reason file's name is taken. A reason file without a
    /// file next to it is free if `may_replace` accepts its content. Makes missing directories.
    fn quarantine_slot(
        &self,
        quarantine: &Path,
        path: &Path,
        may_replace: MayReplace<'_>,
    ) -> Result<PathBuf>;

    /// Checks whether the file in a quarantine slot is this source, or its copy on another file system; false
    /// if that cannot be checked.
    fn is_in_slot(&self, path: &Path, slot: &Path) -> bool;

    /// Writes the reason file next to a slot, atomically and durably; over another one only if
    /// `may_replace` accepts its content. Otherwise the error is as at the end in a taken slot.
    fn write_reason(&self, slot: &Path, content: &[u8], may_replace: MayReplace<'_>) -> Result<()>;

    /// Opens a quarantined file, by the full path of its slot and by its path, to return it to the input.
    /// Makes missing directories of the input.
    fn quarantined(&self, slot: &Path, path: &Path) -> Result<Box<dyn QuarantinedSource>>;
}

/// Decides by its content whether a reason file may be replaced.
pub type MayReplace<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A running subscription. Dropping it ends the events.
pub type Subscription = Box<dyn Debug + Send>;

/// The origin of a path to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// An event, at any time before: each directory above may be another one by now.
    Event,
    /// A listing, which has just opened the directories above.
    Listing,
}

/// The result of a look at a path.
#[derive(Debug)]
pub enum Look {
    /// A file, a directory, or a special file.
    Found(FileMetadata),
    Missing,
    /// One of the service's own directories has this path, too.
    OwnDirectory(PathBuf),
    /// It is in this state directory of a service, or is that directory.
    StateDirectory(PathBuf),
    /// The input itself is mounted below itself: this is the file's path in the input.
    InNestedInput(PathBuf),
}

/// A listing in progress. Holds one open directory, not the tree.
pub trait Listing: Send + Debug {
    /// Returns the next page, with 1 to `limit` regular files; one without files is the end. A
    /// directory that `enters` rejects is left out with everything below it. A directory that cannot be
    /// listed is skipped and reported.
    fn next_page(&mut self, limit: usize, enters: &dyn Fn(&Path) -> bool) -> Page;
}

/// A page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// Paths of regular files, each file once in all pages.
    pub files: Vec<PathBuf>,
    /// Directories that could not be listed, and names that could not be looked at.
    pub failed: Vec<SourceError>,
    /// Listed directories that were gone when they were opened.
    pub gone: Vec<PathBuf>,
    /// The service's own directories that were met and not entered.
    pub own_directories: Vec<PathBuf>,
    /// State directories of services that were met and not entered.
    pub state_directories: Vec<PathBuf>,
}

/// The result of opening a file.
#[derive(Debug)]
pub enum Opened {
    File(Box<dyn SourceFile>),
    /// It is gone, or no file any more.
    Gone,
    /// Another program denies the opening for now.
    Busy,
}

/// An open file. Reads come in order from offset 0 on, more than once if the stage starts again.
/// Dropping it closes it.
pub trait SourceFile: Send + Sync + Debug {
    /// Returns the metadata of the open file now. Equal identities before and after a read mean that
    /// the bytes are one state of the file (R1).
    fn metadata(&self) -> io::Result<FileMetadata>;

    /// Returns the attributes that its output gets in addition to the metadata.
    fn extended_attributes(&self) -> io::Result<ExtendedAttributes> {
        Ok(ExtendedAttributes::default())
    }

    /// Checks whether a program is still writing it.
    fn writers(&self) -> io::Result<Writers>;

    /// Fills the buffer from this offset, and returns the number of bytes; fewer than its length only
    /// at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Announces that the entire file will be read, once.
    fn advise_sequential(&self) {}

    /// Returns the local file, from which the kernel can copy.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// A source that was taken. Dropping it leaves it as it is: recovery finds it.
pub trait HeldSource: Send + Debug {
    /// Returns the identity of what is held now; `None` if it is gone.
    fn identity(&self) -> Result<Option<Fingerprint>>;

    /// Checks that it is the file that was read, and that no program writes it; otherwise it gets its
    /// name back.
    fn check(self: Box<Self>, wanted: &TakeRequest<'_>) -> Result<TakeResult>;

    /// Removes it, or moves it where it belongs, after its marker.
    fn finish(self: Box<Self>, disposal: &Disposal<'_>) -> Result<(), Unfinished>;

    /// Finishes a [`Self::put_back`] by a link that was interrupted when it had both names; returns a source
    /// that has its private name alone.
    fn finish_put_back(
        self: Box<Self>,
        marker: Option<&str>,
    ) -> Result<Option<Box<dyn HeldSource>>>;

    /// Restores its original name, unless another file has it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if another file has it.
    fn put_back(self: Box<Self>) -> Result<(), Unfinished>;
}

/// A source that is still held, and the error.
pub type Unfinished = (Box<dyn HeldSource>, SourceError);

/// The end of a held source.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Disposal<'a> {
    pub end: End<'a>,
    /// The suffix of the marker's name. The marker ends the same way before the source does, unless
    /// another file has the source's name by now.
    pub marker: Option<&'a str>,
    /// Called after each chunk of a move that copies.
    pub on_progress: &'a dyn Fn(),
}

/// Where a held source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    Removed,
    /// Below the archive's root, at this path; `NAME.1`, `NAME.2`, … if that is taken.
    Archived {
        root: &'a Path,
        path: &'a Path,
    },
    /// At this full path, a slot of a quarantine directory. If it was taken since, that is an error of
    /// the target: [`io::ErrorKind::AlreadyExists`].
    Quarantined(&'a Path),
}

impl<'a> Disposal<'a> {
    /// Returns the disposal by the policy of a record whose output is published.
    #[must_use]
    pub fn of(record: &'a Record, marker: Option<&'a str>, on_progress: &'a dyn Fn()) -> Self {
        match &record.on_success {
            OnSuccess::Delete => Self { end: End::Removed, marker, on_progress },
            OnSuccess::Keep => Self { end: End::Removed, marker: None, on_progress },
            OnSuccess::Archive(root) => {
                let end = End::Archived { root, path: &record.source };
                Self { end, marker, on_progress }
            }
        }
    }
}

/// What an unclean stop left in a source.
#[derive(Debug)]
pub enum Leftover {
    Taken(Taken),
    /// A temporary file of this instance.
    Temp(PathBuf),
}

/// A source that an earlier run had taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number of its record.
    pub id: RecordId,
    /// The path that it has while it is held.
    pub path: PathBuf,
}
