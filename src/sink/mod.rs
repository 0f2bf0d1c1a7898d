//! The sink of a pipeline: the place of its outputs, from their first byte to their final names.
//!
//! [`Sink`] is the seam at which an object store can replace the local directory ([`local::Local`]).
//! The commit protocol stays in the stages and in recovery: an intent before a name, durable content
//! before the intent, durable names before the acknowledgement, a durable withdrawal before anything
//! is discarded. A sink carries out its steps, and decides nothing about them. Each implementation
//! passes the suite of `conformance.rs`.
//!
//! | step | local directory | object store |
//! |---|---|---|
//! | [`Sink::create`], [`Writer`] | a temporary file in the output's directory | a multipart upload and its parts |
//! | [`Sink::seal`] | `fsync` or `syncfs` | every part is acknowledged |
//! | [`Staged::publish`] | `renameat2`, or a link | a conditional completion |
//! | [`Sink::sync_names`] | `fsync` of the directories | nothing |
//! | [`Sink::inspect`] | look at both names | list the upload, look at the object |
//! | [`Sink::sweep`] | remove temporary files | abort uploads |

#[cfg(test)]
mod conformance;
mod error;
pub mod local;
#[cfg(any(test, feature = "failpoints"))]
pub mod memory;
mod options;

use std::{
    any::Any,
    ffi::OsStr,
    fmt::{self, Debug},
    fs::File,
    io,
    path::Path,
    sync::Arc,
};

pub use self::{
    error::{Error, ErrorKind},
    options::SinkOptions,
};

use crate::{
    fingerprint::Fingerprint,
    fs::{ExtendedAttributes, FileMetadata},
    ledger::{Hash, Output},
};

/// Opens the sink of a configured output.
pub fn open(options: SinkOptions) -> io::Result<Arc<dyn Sink>> {
    Ok(Arc::new(local::Local::open(options)?))
}

/// The place of a pipeline's outputs. Shared by the threads of its stages; calls block. Paths are
/// relative to its root.
pub trait Sink: Send + Sync + Debug {
    /// Returns the threads that make [`Self::seal`] and [`Self::sync_names`] faster. Without them both
    /// work on the calling thread.
    fn helpers(&self) -> Helpers {
        Helpers::default()
    }

    /// Begins the output of this path, which stays invisible until it is published. Directories above
    /// it that are missing are created durably; `model` returns the metadata of the source's directory of
    /// the same path.
    fn create(
        &self,
        target: &Path,
        model: &dyn Fn(&Path) -> Option<FileMetadata>,
    ) -> Result<Box<dyn Writer>, Error>;

    /// Makes the contents of a batch and their staged names durable, as far as the pipeline's
    /// durability requires.
    fn seal(&self, batch: &mut [&mut dyn Staged]) -> SealResult;

    /// Makes the names of published outputs durable, and removes those under which they were staged.
    /// After an error, none counts as durable; a later call continues where it ended.
    fn sync_names(&self, published: &mut [&mut dyn Staged]) -> Result<(), Error>;

    /// Checks, for each output and its path, whether a consumer moved the directory away that it is in.
    fn are_displaced(&self, outputs: &[(&dyn Staged, &Path)]) -> Vec<bool> {
        vec![false; outputs.len()]
    }

    /// Gives a published output, unless it was changed since, other attributes. Returns its new
    /// identity, durably, or `None` if nothing was changed.
    fn update_attributes(
        &self,
        _output: &Output,
        _attributes: Attributes<'_>,
    ) -> Result<Option<Fingerprint>, Error> {
        Ok(None)
    }

    /// Tests the storage with a small write, of which nothing remains.
    fn probe(&self) -> Result<(), Error>;

    /// Checks whether any file has the name of this output.
    fn has(&self, target: &Path) -> Result<bool, Error>;

    /// Finds what an earlier run left of an output with an intent.
    fn inspect(&self, output: &Output) -> Result<Remains, Error>;

    /// Checks, for outputs of which nothing remains in their directory, whether a consumer moved that
    /// directory away before they were published. Slow.
    fn were_displaced(&self, outputs: &[&Output]) -> Vec<Result<bool, Error>> {
        outputs.iter().map(|_| Ok(false)).collect()
    }

    /// Publishes an output that an earlier run staged. The name is durable only after
    /// [`Self::sync_name`].
    fn resume(&self, output: &Output, precondition: Precondition) -> Result<(), Error>;

    /// Removes the staged name of an output that an earlier run published.
    fn remove_staged_name(&self, _output: &Output) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the name of an output that was published before durable, with all names of its directory.
    fn sync_name(&self, _target: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the inode of its root if that was replaced since the last call.
    fn take_replaced(&self) -> Option<u64> {
        None
    }

    /// Checks whether its root has another inode than this and no file, as a mount point without its mount.
    fn is_unmounted(&self, _inode: u64) -> bool {
        false
    }

    /// Returns what has a name, and its content if it is a file of at most `max_bytes`.
    fn read(&self, target: &Path, max_bytes: u64) -> Result<Option<Found>, Error>;

    /// Writes a side file, with this path and content, of an output that is staged or published: a small file
    /// in the output's directory, with its mode, owner and time. Its content is durable before it gets the name; the name
    /// is durable after [`Self::sync_name`]. [`ErrorKind::Taken`] means that the precondition does not hold.
    fn write_side_file(
        &self,
        output: &Output,
        side_file: (&Path, &[u8]),
        precondition: Precondition,
    ) -> Result<(), Error>;

    /// Removes a side file, if its name still has this version. The removal is durable after
    /// [`Self::sync_name`].
    fn remove_side_file(&self, target: &Path, shown: &Fingerprint) -> Result<(), Error>;

    /// Removes this ledger's staged outputs whose staged names are not live, and no other file.
    fn sweep(&self, is_live: &dyn Fn(&OsStr) -> bool) -> Swept;
}

/// An output that is being written. Dropping it discards it.
pub trait Writer: Send + Debug {
    /// Appends a chunk.
    fn write(&mut self, chunk: &[u8]) -> Result<(), Error>;

    /// Takes the entire content of a source of `size` bytes without copying it; false if the sink
    /// cannot.
    fn share(&mut self, _source: &File, _size: u64) -> Result<bool, Error> {
        Ok(false)
    }

    /// Copies at most `max_bytes` of the source's next bytes without passing them through this process:
    /// 0 at the source's end, `None` if the sink cannot.
    fn copy(&mut self, _source: &File, _max_bytes: usize) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Returns another handle, to read what [`Self::share`] and [`Self::copy`] wrote; `None` if the sink
    /// has neither.
    fn reader(&self) -> Result<Option<File>, Error> {
        Ok(None)
    }

    /// Completes the output, whose content has this hash. It has the number of bytes that were written,
    /// by the sink's own account.
    fn finish(
        self: Box<Self>,
        attributes: Attributes<'_>,
        hash: &Hash,
        sealing: Sealing,
    ) -> Result<Box<dyn Staged>, Error>;
}

/// A complete output, from its staging to its acknowledgement. The targets of its methods are in the
/// directory of the path that it was created for.
///
/// Dropping it discards what is not published, unless it is protected; what cannot be discarded then is
/// left to [`Sink::sweep`].
pub trait Staged: Any + Send + Debug {
    /// Returns the name under which it is staged, by which the ledger's record identifies it: unique,
    /// never used again, and empty once the output is published.
    fn staged_name(&self) -> &OsStr;

    /// Returns its identity, which publication changes in the change time only.
    fn identity(&self) -> Fingerprint;

    /// Makes dropping it leave everything: its intent is durable, or about to be.
    fn protect(&mut self);

    /// Makes dropping it discard what is not published: its intent was withdrawn, durably.
    fn unprotect(&mut self);

    /// Looks at a path, without any cache.
    fn look(&self, target: &Path) -> Result<Option<Occupant>, Error>;

    /// Returns the hash of the content at a path.
    fn hash_of(&self, target: &Path) -> Result<Hash, Error>;

    /// Gives it its final name. After an error it is staged as before: a sink whose answer can be lost
    /// finds out before this returns. [`ErrorKind::Taken`] means that the precondition does not hold.
    fn publish(&mut self, target: &Path, precondition: Precondition) -> Result<(), Error>;

    /// Takes it back from a directory that was moved away, under its staged name.
    fn take_back(&mut self, _output: &Output) -> Result<TakeBack, Error> {
        Ok(TakeBack::Taken)
    }
}

/// The attributes of a source that its output gets, as far as the sink has them.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub metadata: &'a FileMetadata,
    pub extended: &'a ExtendedAttributes,
}

/// The time at which a staged output's content is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// By [`Sink::seal`], with its batch.
    Batch,
    /// Before it is staged, where the sink syncs files one by one: it is large, and must not hold up a
    /// batch.
    Single,
}

/// The result of sealing a batch.
#[derive(Debug)]
pub struct SealResult {
    /// Whether each output's content is durable, in the order of the batch.
    pub contents: Vec<Result<(), Error>>,
    /// Whether the staged names are durable.
    pub names: Result<(), Error>,
}

/// What must be under a name for an output to get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    Absent,
    /// This version, which is replaced.
    Unchanged(Fingerprint),
}

impl Precondition {
    /// Returns the precondition that an intent records.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        output.replaces.map_or(Self::Absent, |replaced| Self::Unchanged(replaced.identity))
    }
}

/// What has a name in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupant {
    pub identity: Fingerprint,
    /// Whether it is a file, as outputs are; anything else is never replaced.
    pub is_file: bool,
}

impl Occupant {
    /// Checks whether it is this output, as it was published: by its identity or, if a move to another
    /// disk or a change of its times altered that, by its content.
    pub fn is_output(
        &self,
        output: &Output,
        hash: impl FnOnce() -> Result<Hash, Error>,
    ) -> Result<bool, Error> {
        if !self.is_file || self.identity.size != output.identity.size {
            return Ok(false);
        }
        Ok(output.identity.matches_content(&self.identity) || hash()? == output.hash)
    }
}

/// What has a name, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub identity: Fingerprint,
    /// `None` if it is larger than was asked for, or no file.
    pub content: Option<Vec<u8>>,
}

/// The result of taking back a published output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// It has its staged name again: no consumer took it.
    TakenBack,
    /// It left its directory: a consumer took it, as it takes published outputs.
    Taken,
}

/// What an earlier run left of an output with an intent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// What has the staged name: the intended identity, if it has the intended content.
    pub staged: Option<Fingerprint>,
    /// What has the final name.
    pub published: Option<Fingerprint>,
    /// Whether what has the final name has the intended content, byte for byte; compared only if its
    /// identity differs.
    pub same_content: bool,
}

impl Remains {
    /// Checks whether this output is published, and unchanged since.
    #[must_use]
    pub fn is_published(&self, output: &Output) -> bool {
        let found = self.published.as_ref();
        found.is_some_and(|found| found.matches_content(&output.identity) || self.same_content)
    }
}

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// The number of outputs that were removed.
    pub removed: u64,
    /// What could not be searched or removed: a later sweep must.
    pub deferred: Vec<Error>,
}

/// The threads of a sink, which the caller runs, and the guard that keeps them.
#[derive(Default)]
pub struct Helpers {
    pub threads: Vec<Box<dyn FnOnce() + Send>>,
    /// Dropping it ends the threads.
    pub guard: HelperGuard,
}

impl Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helpers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

/// Keeps a sink's threads until it is dropped.
#[derive(Default)]
pub struct HelperGuard {
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

impl HelperGuard {
    fn new(guard: impl Any + Send + Sync) -> Self {
        Self { _guard: Some(Box::new(guard)) }
    }
}

impl Debug for HelperGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelperGuard")
    }
}
