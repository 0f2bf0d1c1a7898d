//! A source in memory, for tests of what is built on one. It is an object store in the terms of the
//! port: keys without directories, a version for each put, and no rename of its own.

mod held;
mod keys;
mod quarantined;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
};

use self::{held::Held, keys::Keys, quarantined::Quarantined};
use super::{
    End, HeldSource, Leftover, Listing, Look, MayReplace, NamedBy, Opened, QuarantinedSource,
    Result, Source, SourceError, SourceFile, Subscription, TakeRequest, TakeResult, Taken,
    event_queue::{EventQueue, NameEvent},
};
use crate::{
    error::of_target,
    fingerprint::{FileId, Fingerprint},
    fs::{self, FileMetadata, Kind, NodeId, Writers},
    limits,
    sync::Mutex,
};

/// What is kept when the service is killed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Objects>>);

#[derive(Debug, Default)]
struct Objects {
    /// The input's files by their paths.
    files: BTreeMap<PathBuf, Object>,
    /// Taken files with their paths, by private names.
    taken: BTreeMap<OsString, (PathBuf, Object)>,
    /// Archived and quarantined files and reason files, by their full paths.
    outside: BTreeMap<PathBuf, Object>,
    /// Directories in which there may be files outside.
    directories: BTreeSet<PathBuf>,
    queues: BTreeMap<u64, EventQueue>,
    /// The number of the latest version or queue.
    latest: u64,
}

/// One version of a file.
#[derive(Clone, Debug)]
struct Object {
    content: Arc<[u8]>,
    identity: Fingerprint,
    /// Dropped when its writer has finished.
    writer: std::sync::Weak<()>,
}

impl Object {
    fn metadata(&self) -> FileMetadata {
        let Self { identity, .. } = *self;
        FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 }
    }

    fn writers(&self) -> Writers {
        if self.writer.strong_count() == 0 { Writers::None } else { Writers::Some }
    }

    /// Checks whether a conditional request for the version that was read reaches this one.
    fn is_wanted(&self, wanted: &TakeRequest<'_>) -> bool {
        let hash = || *blake3::hash(&self.content).as_bytes();
        wanted.read.matches_content(&self.identity)
            && (!wanted.has_coarse_times || wanted.content.is_none_or(|content| content == hash()))
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock()
    }

    /// Opens the input for this ledger instance.
    #[must_use]
    pub fn open(&self, path: &Path, instance: &NodeId) -> Memory {
        Memory { path: path.to_path_buf(), instance: instance.clone(), store: self.clone() }
    }

    /// Puts a new version of a file, as a producer.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut objects = self.lock();
        let object = objects.version(content);
        objects.files.insert(path.to_path_buf(), object);
        for queue in objects.queues.values() {
            queue.path(path.to_path_buf(), NameEvent::Closed);
        }
    }

    /// Marks a file as being written until the returned value is dropped.
    #[must_use]
    pub fn write(&self, path: &Path) -> Arc<()> {
        let writer = Arc::new(());
        if let Some(object) = self.lock().files.get_mut(path) {
            object.writer = Arc::downgrade(&writer);
        }
        writer
    }

    /// Removes a file, as its producer.
    pub fn remove(&self, path: &Path) {
        self.lock().files.remove(path);
    }

    /// Makes a directory for archived files.
    pub fn make_directory(&self, path: &Path) {
        self.lock().directories.insert(path.to_path_buf());
    }

    /// Returns the paths and contents of all files, those outside of the input with full paths.
    #[must_use]
    pub fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let objects = self.lock();
        let all = objects.files.iter().chain(&objects.outside);
        all.map(|(path, object)| (path.clone(), object.content.to_vec())).collect()
    }
}

impl Objects {
    fn version(&mut self, content: &[u8]) -> Object {
        self.latest += 1;
        let time = i64::try_from(self.latest).unwrap_or(i64::MAX);
        let size = content.len() as u64;
        let identity =
            Fingerprint { device: 0, inode: self.latest, size, mtime_ns: time, ctime_ns: time };
        Object { content: content.into(), identity, writer: std::sync::Weak::new() }
    }

    /// Returns this path or, if it is taken, one with a number.
    fn free(&self, path: &Path, is_free: impl Fn(&Path) -> bool) -> PathBuf {
        let (parent, name) = fs::split(path);
        let numbered = (1..)
            .map(|number| parent.join(fs::numbered_name(name, number, "", limits::NAME_BYTES_MAX)));
        std::iter::once(path.to_path_buf())
            .chain(numbered)
            .find(|path| !self.outside.contains_key(path) && is_free(path))
            .unwrap_or_default()
    }

    /// Puts a file outside of the input; an error if its directory does not exist.
    fn store_outside(&mut self, directory: &Path, path: &Path, object: Object) -> io::Result<()> {
        if !self.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.free(path, |_| true);
        self.outside.insert(path, object);
        Ok(())
    }

    /// Ends a file, or the marker of one.
    fn end(&mut self, end: End<'_>, suffix: &str, object: Object) -> io::Result<()> {
        let with_suffix = |path: PathBuf| {
            let mut path = path.into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        };
        match end {
            End::Removed => Ok(()),
            End::Archived { root, path } => {
                self.store_outside(root, &with_suffix(root.join(path)), object)
            }
            End::Quarantined(slot) => {
                if suffix.is_empty() && self.outside.contains_key(slot) {
                    return Err(of_target(io::ErrorKind::AlreadyExists.into()));
                }
                self.store_outside(fs::split(slot).0, &with_suffix(slot.to_path_buf()), object)
            }
        }
    }
}

/// The opened input.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    instance: NodeId,
    store: Store,
}

impl Memory {
    /// Rejects a name that no store has.
    fn check_name(&self, path: &Path) -> Result<()> {
        if path.iter().all(|name| name.len() <= limits::NAME_BYTES_MAX) {
            return Ok(());
        }
        let path = self.path.join(path);
        Err(SourceError { path, source: io::ErrorKind::InvalidFilename.into() })
    }

    fn find(&self, path: &Path) -> Result<Option<Object>> {
        self.check_name(path)?;
        Ok(self.store.lock().files.get(path).cloned())
    }

    fn hold(&self, id: i64) -> Held {
        let key = fs::private_name(&self.instance, id);
        Held { root: self.path.clone(), key, own_marker: None, store: self.store.clone() }
    }
}

impl Source for Memory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn metadata(&self) -> Result<FileMetadata> {
        let (kind, identity) = (Kind::Directory, Fingerprint::NONE);
        Ok(FileMetadata { kind, identity, mode: 0o755, owner: 0, group: 0, names: 1 })
    }

    fn subscribe(
        &self,
        queue: EventQueue,
    ) -> Result<Option<Subscription>, Box<dyn StdError + Send + Sync>> {
        let mut objects = self.store.lock();
        objects.latest += 1;
        let number = objects.latest;
        objects.queues.insert(number, queue);
        Ok(Some(Box::new(Subscribed { number, store: self.store.clone() })))
    }

    fn list(&self, below: PathBuf, _: &Arc<[FileId]>) -> Box<dyn Listing> {
        Box::new(Keys { store: self.store.clone(), below, after: None })
    }

    fn look(&self, path: &Path, _: NamedBy, _: &[FileId]) -> Result<Look> {
        let found = self.find(path)?;
        Ok(found.map_or(Look::Missing, |object| Look::Found(object.metadata())))
    }

    fn stat(&self, path: &Path) -> Result<Option<FileMetadata>> {
        Ok(self.find(path)?.map(|object| object.metadata()))
    }

    fn stat_fresh(&self, path: &Path) -> Result<Option<FileMetadata>> {
        self.stat(path)
    }

    fn open(&self, path: &Path) -> Result<Opened> {
        let found = self.find(path)?;
        Ok(found.map_or(Opened::Gone, |object| Opened::File(Box::new(object))))
    }

    fn take(&self, wanted: &TakeRequest<'_>) -> Result<TakeResult> {
        self.check_name(wanted.path)?;
        let mut objects = self.store.lock();
        let result = match objects.files.get(wanted.path) {
            None => TakeResult::Gone,
            Some(object) if !object.identity.matches(wanted.read) || !object.is_wanted(wanted) => {
                TakeResult::Replaced
            }
            Some(object) if object.writers() != Writers::None => TakeResult::Busy,
            Some(object) => {
                let object = object.clone();
                let own_marker = wanted.marker.map(|suffix| {
                    let marker = objects.files.get(&held::marker_of(wanted.path, suffix));
                    marker.map_or(Fingerprint::NONE, |marker| marker.identity)
                });
                let held = Held { own_marker, ..self.hold(wanted.id) };
                objects.files.remove(wanted.path);
                objects.taken.insert(held.key.clone(), (wanted.path.to_path_buf(), object));
                TakeResult::Taken(Box::new(held))
            }
        };
        Ok(result)
    }

    fn leftovers(&self) -> Vec<Result<Leftover>> {
        let objects = self.store.lock();
        let own = objects.taken.iter().filter_map(|(name, (path, _))| {
            let id = self.instance.private_id(name)?;
            Some(Ok(Leftover::Taken(Taken { id, path: path.clone() })))
        });
        let temps = objects.files.keys().filter(|path| self.instance.is_temp(fs::split(path).1));
        let temps = temps.map(|path| Ok(Leftover::Temp(path.clone())));
        own.chain(temps).collect()
    }

    fn recover(&self, taken: &Taken, _: &Path) -> Result<Box<dyn HeldSource>> {
        Ok(Box::new(self.hold(taken.id)))
    }

    fn remove_temp(&self, path: &Path) -> Result<()> {
        self.store.remove(path);
        Ok(())
    }

    /// A moved file is gone from the input at once.
    fn is_in_slot(&self, _path: &Path, _slot: &Path) -> bool {
        false
    }

    fn quarantine_slot(
        &self,
        quarantine: &Path,
        path: &Path,
        may_replace: MayReplace<'_>,
    ) -> Result<PathBuf> {
        let mut objects = self.store.lock();
        let slot = objects.free(&quarantine.join(path), |slot| {
            let reason = objects.outside.get(&reason_path(slot));
            reason.is_none_or(|reason| may_replace(&reason.content))
        });
        objects.directories.insert(fs::split(&slot).0.to_path_buf());
        Ok(slot)
    }

    fn write_reason(&self, slot: &Path, content: &[u8], may_replace: MayReplace<'_>) -> Result<()> {
        let mut objects = self.store.lock();
        let path = reason_path(slot);
        if objects.outside.get(&path).is_some_and(|found| !may_replace(&found.content)) {
            let source = of_target(io::ErrorKind::AlreadyExists.into());
            return Err(SourceError { path, source });
        }
        let object = objects.version(content);
        objects.outside.insert(path, object);
        Ok(())
    }

    fn quarantined(&self, slot: &Path, path: &Path) -> Result<Box<dyn QuarantinedSource>> {
        let (slot, path) = (slot.to_path_buf(), path.to_path_buf());
        Ok(Box::new(Quarantined { slot, path, store: self.store.clone() }))
    }
}

fn reason_path(slot: &Path) -> PathBuf {
    slot.with_file_name(super::local::reason_name(fs::split(slot).1))
}

impl SourceFile for Object {
    fn metadata(&self) -> io::Result<FileMetadata> {
        Ok(self.metadata())
    }

    fn writers(&self) -> io::Result<Writers> {
        Ok(self.writers())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.content.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }
}

/// Ends the events when it is dropped.
#[derive(Debug)]
struct Subscribed {
    number: u64,
    store: Store,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.store.lock().queues.remove(&self.number);
    }
}
