//! A sink in memory, for tests of what is built on one. It behaves as an object store: a staged output
//! has no place among the published ones, and takes one under a condition. Nothing survives the process.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io, mem,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
};

use super::{
    Attributes, Error, ErrorKind, Found, Occupant, Precondition, Remains, SealResult, Sealing,
    Sink, Staged, Swept, Writer,
};
use crate::{
    fingerprint::Fingerprint,
    fs::FileMetadata,
    ledger::{Hash, Output},
    sync::Mutex,
};

/// What is kept between two uses. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Objects>>);

#[derive(Debug, Default)]
struct Objects {
    /// By their staged names.
    staged: BTreeMap<OsString, Object>,
    published: BTreeMap<PathBuf, Object>,
    /// The number of objects that were made.
    count: u64,
}

#[derive(Clone, Debug)]
struct Object {
    identity: Fingerprint,
    content: Vec<u8>,
}

impl Object {
    fn hash(&self) -> Hash {
        *blake3::hash(&self.content).as_bytes()
    }
}

impl Objects {
    fn new_object(&mut self, content: Vec<u8>, mtime_ns: i64) -> Object {
        self.count += 1;
        let (inode, size) = (self.count, content.len() as u64);
        Object { identity: Fingerprint { device: 0, inode, size, mtime_ns, ctime_ns: 0 }, content }
    }

    fn publish(
        &mut self,
        staged_name: &OsStr,
        target: &Path,
        precondition: Precondition,
    ) -> Result<(), Error> {
        let found = self.published.get(target).map(|object| object.identity);
        let holds = match precondition {
            Precondition::Absent => found.is_none(),
            Precondition::Unchanged(shown) => found == Some(shown),
        };
        let failed = |kind: io::ErrorKind| Error::of_publish(target.to_path_buf(), kind.into());
        if !holds {
            return Err(failed(io::ErrorKind::AlreadyExists));
        }
        let object = self.staged.remove(staged_name);
        let object = object.ok_or_else(|| failed(io::ErrorKind::NotFound))?;
        self.published.insert(target.to_path_buf(), object);
        Ok(())
    }
}

impl Store {
    /// Opens the sink for the ledger with this instance.
    #[must_use]
    pub fn open(&self, instance: &str) -> Memory {
        Memory { store: self.clone(), prefix: format!("{instance}/") }
    }

    /// Writes an object as another program does.
    pub fn put(&self, target: &Path, content: &[u8]) {
        let mut objects = self.objects();
        let mtime_ns = i64::try_from(objects.count).unwrap_or(i64::MAX);
        let object = objects.new_object(content.to_vec(), mtime_ns);
        objects.published.insert(target.to_path_buf(), object);
    }

    /// Removes an object as a consumer does, and returns its content.
    #[must_use]
    pub fn take(&self, target: &Path) -> Option<Vec<u8>> {
        self.objects().published.remove(target).map(|object| object.content)
    }

    /// Returns the content of an object.
    #[must_use]
    pub fn read(&self, target: &Path) -> Option<Vec<u8>> {
        self.objects().published.get(target).map(|object| object.content.clone())
    }

    /// Returns the names of the staged outputs.
    #[must_use]
    pub fn staged_names(&self) -> Vec<OsString> {
        self.objects().staged.keys().cloned().collect()
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock()
    }
}

/// One use of a [`Store`].
#[derive(Debug)]
pub struct Memory {
    store: Store,
    /// The prefix of its staged names.
    prefix: String,
}

impl Sink for Memory {
    fn create(
        &self,
        _target: &Path,
        _model: &dyn Fn(&Path) -> Option<FileMetadata>,
    ) -> Result<Box<dyn Writer>, Error> {
        let mut objects = self.store.objects();
        let object = objects.new_object(Vec::new(), 0);
        let name = OsString::from(format!("{}{}", self.prefix, object.identity.inode));
        objects.staged.insert(name.clone(), object);
        drop(objects);
        Ok(Box::new(MemoryOutput {
            store: self.store.clone(),
            name,
            identity: Fingerprint::NONE,
            is_protected: false,
        }))
    }

    fn seal(&self, batch: &mut [&mut dyn Staged]) -> SealResult {
        SealResult { contents: batch.iter().map(|_| Ok(())).collect(), names: Ok(()) }
    }

    fn sync_names(&self, _published: &mut [&mut dyn Staged]) -> Result<(), Error> {
        Ok(())
    }

    fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    fn has(&self, target: &Path) -> Result<bool, Error> {
        Ok(self.store.objects().published.contains_key(target))
    }

    fn inspect(&self, output: &Output) -> Result<Remains, Error> {
        let objects = self.store.objects();
        let staged = objects.staged.get(&output.temp).map(|object| object.identity);
        let published = objects.published.get(&output.path);
        let differs = |object: &&Object| !object.identity.matches_content(&output.identity);
        let same_content =
            published.filter(differs).is_some_and(|object| object.hash() == output.hash);
        Ok(Remains { staged, published: published.map(|object| object.identity), same_content })
    }

    fn resume(&self, output: &Output, precondition: Precondition) -> Result<(), Error> {
        self.store.objects().publish(&output.temp, &output.path, precondition)
    }

    fn read(&self, target: &Path, max_bytes: u64) -> Result<Option<Found>, Error> {
        let objects = self.store.objects();
        Ok(objects.published.get(target).map(|object| Found {
            identity: object.identity,
            content: (object.content.len() as u64 <= max_bytes).then(|| object.content.clone()),
        }))
    }

    fn write_side_file(
        &self,
        output: &Output,
        (target, content): (&Path, &[u8]),
        precondition: Precondition,
    ) -> Result<(), Error> {
        let mut objects = self.store.objects();
        let object = objects.new_object(content.to_vec(), output.identity.mtime_ns);
        let name = OsString::from(format!("{}{}", self.prefix, object.identity.inode));
        objects.staged.insert(name.clone(), object);
        let published = objects.publish(&name, target, precondition);
        objects.staged.remove(&name);
        published
    }

    fn remove_side_file(&self, target: &Path, shown: &Fingerprint) -> Result<(), Error> {
        let mut objects = self.store.objects();
        if objects.published.get(target).is_some_and(|object| object.identity == *shown) {
            objects.published.remove(target);
        }
        Ok(())
    }

    fn sweep(&self, is_live: &dyn Fn(&OsStr) -> bool) -> Swept {
        let mut objects = self.store.objects();
        let count = objects.staged.len();
        let is_own = |name: &OsStr| name.to_string_lossy().starts_with(&self.prefix);
        objects.staged.retain(|name, _| !is_own(name) || is_live(name));
        Swept { removed: (count - objects.staged.len()) as u64, deferred: Vec::new() }
    }
}

/// An output in a [`Store`].
#[derive(Debug)]
struct MemoryOutput {
    store: Store,
    /// The staged name; empty once it is published.
    name: OsString,
    identity: Fingerprint,
    is_protected: bool,
}

impl MemoryOutput {
    /// Changes its staged object.
    fn update<T>(&self, update: impl FnOnce(&mut Object) -> T) -> Result<T, Error> {
        let mut objects = self.store.objects();
        let object = objects.staged.get_mut(&self.name).map(update);
        object.ok_or_else(|| ErrorKind::Write.at(&self.name)(io::ErrorKind::NotFound.into()))
    }
}

impl Writer for MemoryOutput {
    fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.update(|object| object.content.extend_from_slice(chunk))
    }

    fn finish(
        mut self: Box<Self>,
        attributes: Attributes<'_>,
        _hash: &Hash,
        _sealing: Sealing,
    ) -> Result<Box<dyn Staged>, Error> {
        self.identity = self.update(|object| {
            object.identity.size = object.content.len() as u64;
            object.identity.mtime_ns = attributes.metadata.identity.mtime_ns;
            object.identity
        })?;
        Ok(self)
    }
}

impl Staged for MemoryOutput {
    fn staged_name(&self) -> &OsStr {
        &self.name
    }

    fn identity(&self) -> Fingerprint {
        self.identity
    }

    fn protect(&mut self) {
        self.is_protected = true;
    }

    fn unprotect(&mut self) {
        self.is_protected = false;
    }

    fn look(&self, target: &Path) -> Result<Option<Occupant>, Error> {
        let objects = self.store.objects();
        let found = objects.published.get(target).map(|object| object.identity);
        Ok(found.map(|identity| Occupant { identity, is_file: true }))
    }

    fn hash_of(&self, target: &Path) -> Result<Hash, Error> {
        let hash = self.store.objects().published.get(target).map(Object::hash);
        hash.ok_or_else(|| ErrorKind::Look.at(target)(io::ErrorKind::NotFound.into()))
    }

    fn publish(&mut self, target: &Path, precondition: Precondition) -> Result<(), Error> {
        self.store.objects().publish(&self.name, target, precondition)?;
        drop(mem::take(&mut self.name));
        Ok(())
    }
}

impl Drop for MemoryOutput {
    fn drop(&mut self) {
        if !self.is_protected {
            self.store.objects().staged.remove(&self.name);
        }
    }
}
