//! One output in a directory, from its first byte to its acknowledgement.

use std::{
    any::Any,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::shared::Shared;
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, Kind, Overwrite, SecondName, Temp},
    ledger::{Hash, Output},
    limits,
    policy::Durability,
    sink::{
        Attributes, Error, ErrorKind, Occupant, Precondition, Sealing, Staged, TakeBack, Writer,
    },
};

/// An output, and its directory as of its creation: a consumer may move that away.
#[derive(Debug)]
pub struct LocalFile {
    shared: Arc<Shared>,
    dir: Arc<Dir>,
    state: State,
    /// Bytes written so far.
    written: u64,
    /// Bytes whose writeback has been started.
    writeback_started: u64,
    /// Its identity once it is complete.
    identity: Fingerprint,
    hash: Hash,
    /// Whether its content was made durable before its batch.
    is_synced: bool,
    /// Whether its intent was withdrawn after it had got its final name.
    is_withdrawn: bool,
}

#[derive(Debug)]
enum State {
    Staged(Temp),
    /// A batch's sync has it.
    Syncing,
    /// Its final name is not durable, and it may have its temporary one too.
    Published(Option<SecondName>),
    /// It has this temporary name again.
    TakenBack(OsString),
}

/// The content of a staged output while it is synced.
#[derive(Debug)]
pub struct Content {
    /// Its position in the batch.
    pub index: usize,
    pub temp: Temp,
    pub identity: Fingerprint,
    pub hash: Hash,
}

impl LocalFile {
    pub fn new(shared: Arc<Shared>, temp: Temp) -> Self {
        Self {
            shared,
            dir: Arc::clone(temp.dir()),
            state: State::Staged(temp),
            written: 0,
            writeback_started: 0,
            identity: Fingerprint::NONE,
            hash: [0; 32],
            is_synced: false,
            is_withdrawn: false,
        }
    }

    /// Returns the file behind a staged output; `None` if another sink staged it.
    pub fn of(staged: &dyn Staged) -> Option<&Self> {
        (staged as &dyn Any).downcast_ref()
    }

    /// As [`Self::of`].
    pub fn of_mut(staged: &mut dyn Staged) -> Option<&mut Self> {
        (staged as &mut dyn Any).downcast_mut()
    }

    pub const fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    pub const fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Lends the content of a staged output to a sync.
    pub fn begin_sync(&mut self, index: usize) -> Option<Content> {
        match mem::replace(&mut self.state, State::Syncing) {
            State::Staged(temp) => {
                Some(Content { index, temp, identity: self.identity, hash: self.hash })
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    pub fn end_sync(&mut self, temp: Temp) {
        self.state = State::Staged(temp);
    }

    /// Removes the temporary name of a published output, whose final name is durable. Returns whether it
    /// had one.
    pub fn remove_second_name(&mut self) -> io::Result<bool> {
        let State::Published(second_name @ Some(_)) = &mut self.state else { return Ok(false) };
        failpoint::hit("commit::unlink")?;
        second_name.as_ref().map_or(Ok(()), SecondName::remove)?;
        *second_name = None;
        Ok(true)
    }

    fn temp(&self) -> io::Result<&Temp> {
        match &self.state {
            State::Staged(temp) => Ok(temp),
            _ => Err(not_staged()),
        }
    }

    /// Returns a function that makes an error of the temporary file.
    fn failed(&self, kind: ErrorKind) -> impl FnOnce(io::Error) -> Error {
        move |error| kind.at(self.dir.path().join(self.staged_name()))(error)
    }

    fn path_of(&self, target: &Path) -> PathBuf {
        self.dir.path().join(fs::split(target).1)
    }

    /// Starts the writeback of gathered bytes, so that the final sync finds few dirty pages, and checks the
    /// free space. An error fails the file here, because the sync need not report it.
    fn start_writeback(&mut self) -> Result<(), Error> {
        if self.written - self.writeback_started < limits::WRITEBACK_BYTES {
            return Ok(());
        }
        self.shared.free_space.check_now(&self.dir).map_err(self.failed(ErrorKind::Write))?;
        if self.shared.durability != Durability::None {
            let started = self.temp().and_then(|temp| fs::start_writeback(temp.file()));
            started.map_err(self.failed(ErrorKind::Sync))?;
        }
        self.writeback_started = self.written;
        Ok(())
    }

    /// Makes the content of a large file durable, so that it does not delay the next batch.
    fn sync(&self) -> io::Result<()> {
        let file = self.temp()?.file();
        fs::start_writeback(file)?;
        file.sync_all()?;
        self.shared.check_content((file, self.identity.size), &self.hash)
    }

    /// Checks whether the version that is to be replaced still has the name. A directory cannot do this
    /// and the rename in one step.
    fn check_unchanged(&self, name: &OsStr, shown: &Fingerprint) -> io::Result<()> {
        let found = self.dir.stat_fresh(name)?;
        if found.is_some_and(|found| is_version(&found.identity, shown)) {
            Ok(())
        } else {
            Err(rustix::io::Errno::EXIST.into())
        }
    }
}

impl Writer for LocalFile {
    fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let written = self.temp().and_then(|temp| temp.file().write_all(chunk));
        written.map_err(self.failed(ErrorKind::Write))?;
        self.written += chunk.len() as u64;
        self.start_writeback()
    }

    fn share(&mut self, source: &File, size: u64) -> Result<bool, Error> {
        let shared = self.temp().and_then(|temp| fs::share_content(source, temp.file()));
        let shared = shared.map_err(self.failed(ErrorKind::Write))?;
        if shared {
            self.written = size;
        }
        Ok(shared)
    }

    fn copy(&mut self, source: &File, max_bytes: usize) -> Result<Option<u64>, Error> {
        let copy = |temp: &Temp| fs::copy_range(source, temp.file(), self.written, max_bytes);
        let copied = self.temp().and_then(copy).map_err(self.failed(ErrorKind::Write))?;
        self.written += copied.unwrap_or_default();
        self.start_writeback()?;
        Ok(copied)
    }

    fn reader(&self) -> Result<Option<File>, Error> {
        let reader = self.temp().and_then(|temp| temp.file().try_clone());
        reader.map(Some).map_err(self.failed(ErrorKind::Write))
    }

    /// Sets mode, owner and times, and checks W1.
    fn finish(
        mut self: Box<Self>,
        attributes: Attributes<'_>,
        hash: &Hash,
        sealing: Sealing,
    ) -> Result<Box<dyn Staged>, Error> {
        let Attributes { metadata, extended } = attributes;
        let copied = self.temp().and_then(|temp| temp.copy_attributes(metadata, extended));
        if let Some(error) = copied.map_err(self.failed(ErrorKind::Write))? {
            self.shared.warn_of_lost_attributes(&error);
        }
        failpoint::pass("write::sealed");
        let identity = self.temp().and_then(Temp::identity);
        self.identity = identity.map_err(self.failed(ErrorKind::Write))?;
        let (written, found) = (self.written, self.identity.size);
        if written != found {
            let short = self.failed(ErrorKind::Short { written, found });
            return Err(short(io::ErrorKind::UnexpectedEof.into()));
        }
        self.hash = *hash;
        if sealing == Sealing::Single && self.shared.durability == Durability::Fsync {
            let synced = failpoint::barrier("barrier::temp", || self.sync());
            synced.map_err(self.failed(ErrorKind::Sync))?;
            self.is_synced = true;
        }
        Ok(self)
    }
}

impl Staged for LocalFile {
    fn staged_name(&self) -> &OsStr {
        match &self.state {
            State::Staged(temp) => temp.name(),
            State::TakenBack(name) => name,
            State::Syncing | State::Published(_) => OsStr::new(""),
        }
    }

    fn identity(&self) -> Fingerprint {
        self.identity
    }

    fn protect(&mut self) {
        match &mut self.state {
            State::Staged(temp) => temp.protect(),
            _ => self.is_withdrawn = false,
        }
    }

    fn unprotect(&mut self) {
        match &mut self.state {
            State::Staged(temp) => temp.unprotect(),
            _ => self.is_withdrawn = true,
        }
    }

    fn look(&self, target: &Path) -> Result<Option<Occupant>, Error> {
        let found = self.dir.stat_fresh(fs::split(target).1);
        let found = found.map_err(|error| ErrorKind::Look.at(self.path_of(target))(error))?;
        Ok(found.as_ref().map(occupant))
    }

    fn hash_of(&self, target: &Path) -> Result<Hash, Error> {
        let file = self.dir.open_file(Path::new(fs::split(target).1));
        let hash = file.and_then(|file| fs::hash_of(&file));
        hash.map_err(|error| ErrorKind::Look.at(self.path_of(target))(error))
    }

    fn publish(&mut self, target: &Path, precondition: Precondition) -> Result<(), Error> {
        let (_, name) = fs::split(target);
        let (checked, overwrite) = match precondition {
            Precondition::Absent => (Ok(()), Overwrite::Never),
            Precondition::Unchanged(shown) => {
                (self.check_unchanged(name, &shown), Overwrite::Allow)
            }
        };
        let published =
            checked.and_then(|()| match mem::replace(&mut self.state, State::Published(None)) {
                State::Staged(temp) => match temp.publish(name, overwrite) {
                    Ok(second_name) => {
                        self.state = State::Published(second_name);
                        Ok(())
                    }
                    Err((temp, error)) => {
                        self.state = State::Staged(temp);
                        Err(error)
                    }
                },
                state => {
                    self.state = state;
                    Err(not_staged())
                }
            });
        published.map_err(|error| Error::of_publish(self.path_of(target), error))
    }

    fn take_back(&mut self, output: &Output) -> Result<TakeBack, Error> {
        let (_, name) = fs::split(&output.path);
        let failed = |error| ErrorKind::Publish.at(self.path_of(&output.path))(error);
        match self.dir.stat(Path::new(name)).map_err(failed)? {
            Some(found) if found.identity.matches_content(&output.identity) => {}
            _ => return Ok(TakeBack::Taken),
        }
        match self.dir.rename(name, &self.dir, &output.temp, Overwrite::Never) {
            Ok(()) => {
                self.state = State::TakenBack(output.temp.clone());
                Ok(TakeBack::TakenBack)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TakeBack::Taken),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if !self.is_withdrawn {
            return;
        }
        match &self.state {
            // An error may pass, so it is tried twice.
            State::Published(Some(second_name)) => {
                drop(second_name.remove().or_else(|_| second_name.remove()));
            }
            State::TakenBack(name) => self.dir.discard(name),
            State::Staged(_) | State::Syncing | State::Published(None) => {}
        }
    }
}

/// Checks whether a file is the version with this identity. Some file systems (FAT, SSHFS) give a file
/// another inode number at each look-up: there its size and both times must do.
pub fn is_version(found: &Fingerprint, shown: &Fingerprint) -> bool {
    found.matches_content(shown) || (found.is_copy_of(shown) && found.ctime_ns == shown.ctime_ns)
}

pub const fn occupant(found: &FileMetadata) -> Occupant {
    Occupant { identity: found.identity, is_file: matches!(found.kind, Kind::File) }
}

fn not_staged() -> io::Error {
    io::Error::other("it is not staged")
}
