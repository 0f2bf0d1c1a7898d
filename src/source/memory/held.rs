//! A source of the store in memory that was taken.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{Disposal, HeldSource, Result, SourceError, TakeRequest, TakeResult, Unfinished},
    Object, Store,
};
use crate::{fingerprint::Fingerprint, fs::Writers};

/// A taken file.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) root: PathBuf,
    /// The private name.
    pub(super) key: OsString,
    /// The marker when it was taken, [`Fingerprint::NONE`] if there was none; `None` if that is unknown.
    pub(super) own_marker: Option<Fingerprint>,
    pub(super) store: Store,
}

/// Returns the path of a source's marker.
pub(super) fn marker_of(source: &Path, suffix: &str) -> PathBuf {
    let mut name = source.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Held {
    fn failed(self: Box<Self>, path: &Path, source: io::Error) -> Unfinished {
        let path = self.root.join(path);
        (self, SourceError { path, source })
    }
}

impl HeldSource for Held {
    fn identity(&self) -> Result<Option<Fingerprint>> {
        Ok(self.store.lock().taken.get(&self.key).map(|(_, object)| object.identity))
    }

    fn check(self: Box<Self>, wanted: &TakeRequest<'_>) -> Result<TakeResult> {
        let found = self.store.lock().taken.get(&self.key).cloned();
        let Some((path, object)) = found else { return Ok(TakeResult::Gone) };
        let result = match object.writers() {
            _ if !object.is_wanted(wanted) => TakeResult::Replaced,
            Writers::Some => TakeResult::Busy,
            Writers::None | Writers::Denied | Writers::Unknown => {
                return Ok(TakeResult::Taken(self));
            }
        };
        Ok(match self.put_back() {
            Ok(()) => result,
            Err((_, error)) => TakeResult::Stranded(path, error),
        })
    }

    fn finish(self: Box<Self>, disposal: &Disposal<'_>) -> Result<(), Unfinished> {
        let store = self.store.clone();
        let mut objects = store.lock();
        let Some((path, object)) = objects.taken.get(&self.key).cloned() else { return Ok(()) };
        let marker = disposal.marker.filter(|_| !objects.files.contains_key(&path));
        let ended_marker = marker.map_or(Ok(()), |suffix| {
            let name = marker_of(&path, suffix);
            let is_own = |found: &&Object| self.own_marker.is_none_or(|own| own == found.identity);
            let found = objects.files.get(&name).filter(is_own).cloned();
            objects.files.retain(|path, _| found.is_none() || *path != name);
            found.map_or(Ok(()), |marker| objects.end(disposal.end, suffix, marker))
        });
        match ended_marker.and_then(|()| objects.end(disposal.end, "", object)) {
            Ok(()) => {
                objects.taken.remove(&self.key);
                Ok(())
            }
            Err(error) => Err(self.failed(&path, error)),
        }
    }

    fn finish_put_back(self: Box<Self>, _: Option<&str>) -> Result<Option<Box<dyn HeldSource>>> {
        Ok(Some(self))
    }

    fn put_back(self: Box<Self>) -> Result<(), Unfinished> {
        let store = self.store.clone();
        let mut objects = store.lock();
        let Some((path, object)) = objects.taken.remove(&self.key) else { return Ok(()) };
        if objects.files.contains_key(&path) {
            objects.taken.insert(self.key.clone(), (path.clone(), object));
            return Err(self.failed(&path, io::ErrorKind::AlreadyExists.into()));
        }
        objects.files.insert(path, object);
        Ok(())
    }
}
