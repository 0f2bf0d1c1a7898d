//! The service's own file names, and the temporary file that becomes an output.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{Gid, Mode, Uid},
    process::{getegid, geteuid},
};
use tempfile::NamedTempFile;

use super::{Dir, ExtendedAttributes, FileMetadata, identity_of};
use crate::fingerprint::Fingerprint;

/// The prefix of every name that the service makes next to a user's files; none of them is taken
/// in.
const PREFIX: &str = ".tidemill";

/// The suffix of the names of temps.
const TEMP_SUFFIX: &str = ".tmp";

/// The prefix of the names of one ledger's temps.
#[derive(Clone, Debug)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Makes the prefix from the ledger's `id`: temps of another service in the same directory are
    /// not ours.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(format!("{PREFIX}-{id}-").into())
    }

    /// Checks whether this is the name of a temp of this instance.
    #[must_use]
    pub fn is_temp(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        name.starts_with(self.0.as_bytes()) && name.ends_with(TEMP_SUFFIX.as_bytes())
    }

    /// Returns the record number in a private name of this instance; the inverse of
    /// [`private_name`].
    #[must_use]
    pub fn private_id(&self, name: &OsStr) -> Option<i64> {
        let id = name.as_bytes().strip_prefix(self.0.as_bytes())?.strip_suffix(b".del")?;
        let id = i64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok()?;
        // A number has one spelling: a foreign file may have any name.
        (private_name(self, id) == name).then_some(id)
    }
}

/// Checks whether a name is one of the service's own, of any instance.
#[must_use]
pub fn is_internal_name(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX.as_bytes())
}

/// Returns the name of the temp that goes with a source's private name.
#[must_use]
pub fn temp_of(private: &OsStr) -> OsString {
    let mut name = private.to_owned();
    name.push(TEMP_SUFFIX);
    name
}

/// Returns the name of a source between the rename and the unlink of its disposal; recovery
/// recognizes it.
#[must_use]
pub fn private_name(instance: &NodeId, id: i64) -> OsString {
    format!("{}{id:x}.del", instance.0).into()
}

/// Temporary files of this process that exist now: counted like descriptors, for the report.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Returns how many temporary files this process has, those with an intent included.
#[must_use]
pub fn live_temps() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// A temporary file in the output's own directory. Dropping it removes it, unless it is protected
/// by a durable intent: then only recovery may, because a missing temp counts as published.
#[derive(Debug)]
pub struct Temp {
    file: NamedTempFile,
    dir: Arc<Dir>,
    name: OsString,
    /// Whether dropping it leaves the file under its temporary name.
    protected: bool,
    /// Whether it has another name, or the caller removes its temporary one.
    published: bool,
}

impl Temp {
    pub fn create(dir: &Arc<Dir>, instance: &NodeId) -> io::Result<Self> {
        let mut file = tempfile::Builder::new()
            .prefix(&*instance.0)
            .suffix(TEMP_SUFFIX)
            .rand_bytes(8)
            .make_in(dir.path(), |path| dir.create_file(file_name(path), 0o600))?;
        // Removed by the directory's handle, not by path: the directory may be renamed meanwhile.
        file.disable_cleanup(true);
        let name = file_name(file.path()).to_owned();
        LIVE.fetch_add(1, Ordering::Relaxed);
        Ok(Self { file, dir: Arc::clone(dir), name, protected: false, published: false })
    }

    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    #[must_use]
    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    pub fn identity(&self) -> io::Result<Fingerprint> {
        identity_of(self.file())
    }

    /// Copies the attributes of its source, as [`copy_attributes`].
    pub fn copy_attributes(
        &self,
        source: &FileMetadata,
        extended: &ExtendedAttributes,
    ) -> io::Result<Option<io::Error>> {
        static OWNER: LazyLock<(Uid, Gid)> = LazyLock::new(|| (geteuid(), getegid()));
        copy_attributes(self.file(), source, extended, (OWNER.0.as_raw(), OWNER.1.as_raw()))
    }

    /// Makes dropping it leave the file: its intent is durable, or about to be.
    pub fn protect(&mut self) {
        self.protected = true;
    }

    /// Makes dropping it remove the file again: its intent was withdrawn, durably.
    pub fn unprotect(&mut self) {
        self.protected = false;
    }

    /// Closes it and leaves the file under its temporary name, which the caller removes: NFS
    /// renames a file that is removed while it is open.
    pub(super) fn close(mut self) -> OsString {
        (self.protected, self.published) = (false, true);
        self.name.clone()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.protected {
            LIVE.fetch_sub(1, Ordering::Relaxed);
            if !self.published {
                self.dir.discard(&self.name);
            }
        }
    }
}

/// Gives a file the permissions, the modification time and the extended attributes of its source, and
/// its owner if the process may set it and the file has another (`owner`, its user and group). A file
/// system without one of these keeps its own; the error of an extended attribute is returned.
pub fn copy_attributes(
    file: &File,
    source: &FileMetadata,
    extended: &ExtendedAttributes,
    owner: (u32, u32),
) -> io::Result<Option<io::Error>> {
    // First: the source's mode may forbid its owner to set them.
    let refused = extended.write(file)?;
    if owner != (source.owner, source.group) && geteuid().is_root() {
        let source_owner = (Uid::from_raw(source.owner), Gid::from_raw(source.group));
        ignore_unsupported(rustix::fs::fchown(file, Some(source_owner.0), Some(source_owner.1)))?;
    }
    let mode = Mode::from_raw_mode(source.mode & 0o777);
    ignore_unsupported(rustix::fs::fchmod(file, mode))?;
    let modified = rustix::fs::Timespec {
        tv_sec: source.identity.mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: source.identity.mtime_ns.rem_euclid(1_000_000_000),
    };
    let times = rustix::fs::Timestamps { last_access: modified, last_modification: modified };
    ignore_unsupported(rustix::fs::futimens(file, &times))?;
    Ok(refused)
}

fn ignore_unsupported(result: rustix::io::Result<()>) -> io::Result<()> {
    use rustix::io::Errno;
    match result {
        // `INVAL` also means that a user is unknown in this user namespace.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Arc<Dir>) {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        (root, dir)
    }

    fn names(root: &tempfile::TempDir) -> Vec<OsString> {
        let entries = std::fs::read_dir(root.path()).expect("list");
        entries.map(|entry| entry.expect("entry").file_name()).collect()
    }

    #[test]
    fn a_dropped_temp_is_gone_and_a_protected_one_is_not() {
        let (root, dir) = dir();
        let instance = NodeId::new("0011");
        drop(Temp::create(&dir, &instance).expect("create"));
        assert!(names(&root).is_empty());
        let mut temp = Temp::create(&dir, &instance).expect("create");
        temp.protect();
        let name = temp.name().to_owned();
        drop(temp);
        assert_eq!(names(&root), std::slice::from_ref(&name));
        assert!(instance.is_temp(&name) && is_internal_name(&name));
        assert!(!NodeId::new("0012").is_temp(&name));
        assert_eq!(instance.private_id(&private_name(&instance, 0x2f)), Some(0x2f));
        assert_eq!(instance.private_id(&name), None);
        for spelling in ["+2f", "-1", "02f", "2F", ""] {
            let name = format!(".tidemill-0011-{spelling}.del");
            assert_eq!(instance.private_id(name.as_ref()), None, "{name}");
        }
    }

    /// The temp was removed by its path, and stayed in the consumer's directory.
    #[test]
    fn a_dropped_temp_is_gone_from_a_directory_that_was_renamed() {
        let (root, _) = dir();
        std::fs::create_dir(root.path().join("old")).expect("directory");
        let dir = Arc::new(Dir::open(&root.path().join("old")).expect("open"));
        let temp = Temp::create(&dir, &NodeId::new("0")).expect("create");
        rustix::fs::rename(root.path().join("old"), root.path().join("new")).expect("rename");
        drop(temp);
        let remaining = std::fs::read_dir(root.path().join("new")).expect("list").count();
        assert_eq!(remaining, 0);
    }
}
