//! A quarantined file of the store in memory, which returns as a copy: another version.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{Follow, PutBack, QuarantinedSource, Result, SourceError},
    Objects, Store, held, reason_path,
};
use crate::{fingerprint::Fingerprint, ledger::Hash};

#[derive(Debug)]
pub(super) struct Quarantined {
    pub(super) slot: PathBuf,
    pub(super) path: PathBuf,
    pub(super) store: Store,
}

impl Quarantined {
    /// Checks that the name is free and the slot is not.
    fn check(&self, objects: &Objects) -> io::Result<()> {
        if !objects.outside.contains_key(&self.slot) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if objects.files.contains_key(&self.path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(())
    }

    fn copy(&self, follow: Follow<'_>) -> io::Result<()> {
        let mut objects = self.store.lock();
        self.check(&objects)?;
        let content = objects.outside.get(&self.slot).map(|kept| kept.content.clone());
        let copy = objects.version(&content.unwrap_or_default());
        drop(objects);
        follow(&copy.identity)?;
        let mut objects = self.store.lock();
        self.check(&objects)?;
        objects.files.insert(self.path.clone(), copy);
        Ok(())
    }

    /// Checks whether an interrupted call finished all but the reason file.
    fn is_back(&self, wanted: &Fingerprint) -> bool {
        let objects = self.store.lock();
        let found = objects.files.get(&self.path);
        !objects.outside.contains_key(&self.slot)
            && found.is_some_and(|found| found.identity.matches_content(wanted))
    }

    fn at(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
        move |source| SourceError { path: path.to_path_buf(), source }
    }
}

impl QuarantinedSource for Quarantined {
    fn in_slot(&self) -> Result<Option<Fingerprint>> {
        Ok(self.store.lock().outside.get(&self.slot).map(|kept| kept.identity))
    }

    fn in_input(&self) -> Result<Option<Fingerprint>> {
        Ok(self.store.lock().files.get(&self.path).map(|found| found.identity))
    }

    fn content_hash(&self) -> Result<Hash> {
        let objects = self.store.lock();
        let hash =
            objects.outside.get(&self.slot).map(|kept| *blake3::hash(&kept.content).as_bytes());
        hash.ok_or(io::ErrorKind::NotFound.into()).map_err(Self::at(&self.slot))
    }

    fn put_back(&self, wanted: &Fingerprint, follow: Follow<'_>) -> PutBack {
        let copied = if self.is_back(wanted) { Ok(()) } else { self.copy(follow) };
        match copied {
            Ok(()) => PutBack { is_back: true, result: self.remove() },
            Err(error) => PutBack { is_back: false, result: Err(Self::at(&self.slot)(error)) },
        }
    }

    fn remove(&self) -> Result<()> {
        let mut objects = self.store.lock();
        objects.outside.remove(&self.slot);
        objects.outside.remove(&reason_path(&self.slot));
        Ok(())
    }

    fn restore_marker(&self, suffix: &str) -> Result<()> {
        let mut objects = self.store.lock();
        let kept = objects.outside.remove(&held::marker_of(&self.slot, suffix));
        let content = kept.map(|kept| kept.content).unwrap_or_default();
        let marker = objects.version(&content);
        objects.files.entry(held::marker_of(&self.path, suffix)).or_insert(marker);
        Ok(())
    }
}
