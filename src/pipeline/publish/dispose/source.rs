//! The end of a source: taken by a private name, compared, then removed or archived (D1).

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use super::across;
use crate::{
    failpoint,
    fs::{self, Dir, Instance, Kind, Replace},
    identity::Identity,
    ledger::{Id, Record},
    limits,
};

/// A source under its private name, in its own directory.
#[derive(Debug)]
#[must_use = "it has no name that its producer knows"]
pub struct Taken {
    pub(super) dir: Dir,
    name: OsString,
    pub(super) private: OsString,
    /// Whose temps a copy of it is made as.
    pub(super) instance: Instance,
    /// Recovery found it: the move may be half done.
    pub(super) found: bool,
}

/// What came of taking a source.
#[derive(Debug)]
pub enum Take {
    /// It is the file that was read.
    Ours(Taken),
    /// Nobody has the name any more.
    Gone,
    /// Another file has the name, or it changed: it is back under it.
    Another,
    /// Another file had the name, and could not be put back: it has the private name.
    NotPutBack(OsString, io::Error),
}

/// Takes a source by its private name and compares it with what was read.
pub fn take(
    input: &Dir,
    source: &Path,
    read: &Identity,
    mark: (&Instance, Id),
) -> io::Result<Take> {
    let (parent, name) = fs::split(source);
    let dir = match input.open_beneath(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Take::Gone),
        dir => dir?,
    };
    // Not taken where it is another already: its producer never sees it without its name then.
    match dir.look(Path::new(name))? {
        None => return Ok(Take::Gone),
        Some(seen) if seen.kind != Kind::File || !read.matches_content(&seen.identity) => {
            return Ok(Take::Another);
        }
        Some(_) => {}
    }
    let (instance, id) = mark;
    let taken = Taken {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        found: false,
    };
    match taken.dir.rename_to_own(name, &taken.private) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Take::Gone),
        result => result?,
    }
    compare(taken, read)
}

/// A source that recovery found under its private name.
pub fn taken_before(input: &Dir, source: &Path, mark: (&Instance, Id)) -> io::Result<Taken> {
    let (parent, name) = fs::split(source);
    let (instance, id) = mark;
    let dir = input.open_beneath(parent)?;
    Ok(Taken {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        found: true,
    })
}

/// The second look, at the name that only we use. Whatever comes of it, it keeps that name only
/// where it is ours.
pub fn compare(taken: Taken, read: &Identity) -> io::Result<Take> {
    let looked = failpoint::hit("dispose::taken").and_then(|()| taken.identity());
    let back = match looked {
        Ok(None) => return Ok(Take::Gone),
        Ok(Some(found)) if read.matches_content(&found) => return Ok(Take::Ours(taken)),
        Ok(Some(_)) => Ok(Take::Another),
        Err(error) => Err(error),
    };
    match taken.put_back() {
        Ok(()) => back,
        Err((taken, error)) => Ok(Take::NotPutBack(taken.private, error)),
    }
}

/// The third look, at the content, where the times are too coarse to tell that it changed after it
/// was read.
pub fn compare_content(take: Take, record: &Record) -> io::Result<Take> {
    let Take::Ours(taken) = take else { return Ok(take) };
    let hash = record.output.as_ref().map(|output| output.source_hash);
    let Some(hash) = hash.filter(|_| record.identity.may_hide_a_change(record.at_ns)) else {
        return Ok(Take::Ours(taken));
    };
    let back = match fs::content_hash(&taken.dir, &taken.private) {
        Ok(found) if found == hash => return Ok(Take::Ours(taken)),
        Ok(_) => Ok(Take::Another),
        Err(error) => Err(error),
    };
    match taken.put_back() {
        Ok(()) => back,
        Err((taken, error)) => Ok(Take::NotPutBack(taken.private, error)),
    }
}

impl Taken {
    /// Of what has the private name now.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        Ok(self.dir.look(Path::new(&self.private))?.map(|seen| seen.identity))
    }

    /// Gives it its name back, if nobody has it by now.
    pub fn put_back(self) -> Result<(), (Self, io::Error)> {
        let renamed = self.dir.rename(&self.private, &self.dir, &self.name, Replace::No);
        renamed.map_err(|error| (self, error))
    }

    pub fn remove(self) -> Result<(), (Self, io::Error)> {
        let removed =
            failpoint::hit("dispose::unlink").and_then(|()| self.dir.unlink_own(&self.private));
        removed.map_err(|error| (self, error))
    }

    /// Moves it into a directory, as `NAME` or, where that is taken, `NAME.1`, `NAME.2`, …: by a
    /// rename, or by a copy to another file system. Gives the name it got.
    pub fn move_to(self, to: &Arc<Dir>, name: &OsStr) -> Result<OsString, (Self, io::Error)> {
        let mut number = 0_u32;
        let mut target = name.to_owned();
        loop {
            match self.dir.rename(&self.private, to, &target, Replace::No) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if across::is_needed(&error) => return across::move_to(self, to, name),
                Err(error) => return Err((self, error)),
            }
            number += 1;
            target = fs::numbered(name, number, "", limits::NAME_BYTES);
        }
    }
}
