//! A producer's half of the intake: a file appears in an input under its name at once, complete and durable.
//!
//! A copy is durable under a temporary name before it gets its own, without replacing another file; a moved file
//! on the same file system is durable before it is renamed. If the process ends in between, the same call repeats
//! it: a name that has this content already counts as delivered.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::Errno;

use crate::{
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, Kind, NodeId, Overwrite, Writers},
    observe::display_path,
};

/// The part of the ledger's instance in the names of a delivery's temps.
const INSTANCE: &str = "put";

/// Checks whether this is the name of a delivery's temp.
pub(super) fn is_temp(name: &OsStr) -> bool {
    NodeId::new(INSTANCE).is_temp(name)
}

/// What happens to the delivered file's old name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    Keep,
    /// Removed once the input has the file, durably.
    Remove,
}

/// A file that has its name in the input.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Its change time may be older than the file's.
    pub identity: Fingerprint,
    /// Whether a file with this content had the name before.
    pub was_there: bool,
}

/// A failed delivery. Nothing is visible in the input, except after an error of a sync.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{} exists and has other content: deliver it under another name", display_path(.0))]
    NameTaken(PathBuf),
    #[error("{} is open for writing: move it once it is closed", display_path(.0))]
    BeingWritten(PathBuf),
    #[error("{} is no regular file", display_path(.0))]
    NotAFile(PathBuf),
    #[error("cannot deliver {} as {}", display_path(file), display_path(target))]
    Io { file: PathBuf, target: PathBuf, source: io::Error },
}

/// Delivers `file` into a directory under this name. Blocks for the copy and its syncs.
///
/// The copy keeps permissions, times and attributes. In a directory with the set-group-ID bit, as an inbox for
/// several users, its group is the directory's and may read it.
///
/// # Errors
///
/// See [`DeliveryError`].
pub fn deliver(
    file: &Path,
    directory: &Path,
    name: &OsStr,
    original: Original,
) -> Result<Delivered, DeliveryError> {
    let target = directory.join(name);
    let failed =
        |source| DeliveryError::Io { file: file.to_path_buf(), target: target.clone(), source };
    let delivery = Delivery::open(file, directory, name).map_err(failed)?;
    if delivery.metadata.kind != Kind::File {
        return Err(DeliveryError::NotAFile(file.to_path_buf()));
    }
    // A copy is of one state of the file, and PostgreSQL has a finished segment open; what a writer adds to a
    // file that is removed would be lost.
    if original == Original::Remove
        && fs::check_writers(&delivery.opened).map_err(failed)? == Writers::Some
    {
        return Err(DeliveryError::BeingWritten(file.to_path_buf()));
    }
    let delivered = match delivery.publish(original) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let existing = delivery.accept_existing().map_err(failed)?;
            let identity = existing.ok_or_else(|| DeliveryError::NameTaken(target.clone()))?;
            Delivered { identity, was_there: true }
        }
        published => Delivered { identity: published.map_err(failed)?, was_there: false },
    };
    if original == Original::Remove {
        delivery.remove_original(&delivered.identity).map_err(failed)?;
    }
    Ok(delivered)
}

struct Delivery<'a> {
    from: Dir,
    old_name: &'a OsStr,
    opened: File,
    metadata: FileMetadata,
    to: Arc<Dir>,
    directory: FileMetadata,
    name: &'a OsStr,
}

impl<'a> Delivery<'a> {
    fn open(file: &'a Path, directory: &Path, name: &'a OsStr) -> io::Result<Self> {
        let (parent, old_name) = fs::split(file);
        let from = Dir::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        let opened = from.open_file(Path::new(old_name))?;
        let metadata = fs::metadata_of(&opened)?;
        let to = Arc::new(Dir::open(directory)?);
        let directory = fs::metadata_of(&*to)?;
        Ok(Self { from, old_name, opened, metadata, to, directory, name })
    }

    fn publish(&self, original: Original) -> io::Result<Fingerprint> {
        if self.to.stat_fresh(self.name)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if original == Original::Remove
            && let Some(moved) = self.rename()?
        {
            return Ok(moved);
        }
        let copy = fs::copy((&self.from, self.old_name), &self.to, &NodeId::new(INSTANCE), || {})?;
        fs::share_with_group(copy.file(), &self.directory)?;
        let identity = copy.identity()?;
        copy.file().sync_all()?;
        let second = copy.publish(self.name, Overwrite::Never).map_err(|(_, error)| error)?;
        self.to.sync()?;
        second.map_or(Ok(()), |second| second.remove())?;
        Ok(identity)
    }

    /// Renames the file; `None` if that needs a copy: the directory is on another file system, or the file cannot
    /// be shared with its group.
    fn rename(&self) -> io::Result<Option<Fingerprint>> {
        if fs::share_with_group(&self.opened, &self.directory).is_err() {
            return Ok(None);
        }
        self.opened.sync_all()?;
        match self.from.rename(self.old_name, &self.to, self.name, Overwrite::Never) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => return Ok(None),
            renamed => renamed?,
        }
        self.to.sync()?;
        fs::identity_of(&self.opened).map(Some)
    }

    /// Returns the identity of the file that has the name, if its content is the delivered one's, and makes it
    /// durable: the call that delivered it may have been interrupted before.
    fn accept_existing(&self) -> io::Result<Option<Fingerprint>> {
        let Some(found) = self.to.stat_fresh(self.name)? else { return Ok(None) };
        let is_itself = found.identity.file_id() == self.metadata.identity.file_id();
        let both = ((&self.from, self.old_name), (&*self.to, self.name));
        if !is_itself && (found.kind != Kind::File || !fs::have_same_content(both.0, both.1)?) {
            return Ok(None);
        }
        self.to.open_file(Path::new(self.name))?.sync_all()?;
        self.to.sync()?;
        Ok(Some(found.identity))
    }

    /// Removes the original, unless it is the delivered file or another one by now.
    fn remove_original(&self, delivered: &Fingerprint) -> io::Result<()> {
        let found = self.from.stat_fresh(self.old_name)?;
        match found {
            Some(found) if found.identity.file_id() == delivered.file_id() => Ok(()),
            Some(found) if found.identity.matches(&self.metadata.identity) => {
                // What a writer adds would be lost with it.
                if fs::check_writers(&self.opened)? == Writers::Some {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                self.from.unlink(self.old_name)
            }
            _ => Ok(()),
        }
    }
}
