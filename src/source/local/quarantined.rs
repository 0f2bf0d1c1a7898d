//! Returns a quarantined file to the input: by a rename or, from another file system, by a copy.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::{Follow, PutBack, QuarantinedSource, Result},
    at, marker, quarantine,
};
use crate::{
    fingerprint::Fingerprint,
    fs::{self, Dir, NodeId, Overwrite, SecondName},
    ledger::Hash,
};

/// Holds both directories open.
#[derive(Debug)]
pub(super) struct LocalQuarantined {
    slot: PathBuf,
    from: Arc<Dir>,
    /// The slot's name in its directory.
    kept_name: OsString,
    to: Arc<Dir>,
    /// The source's name in its directory.
    name: OsString,
    instance: NodeId,
}

/// What a file that has its name in the input has left.
enum Rest {
    Nothing,
    /// The original of a copy, and the copy's temporary name if it has that, too.
    Original(Option<SecondName>),
}

impl LocalQuarantined {
    pub(super) fn open(input: &Dir, slot: &Path, path: &Path, instance: &NodeId) -> Result<Self> {
        let (kept_in, _) = fs::split(slot);
        let (from, kept_name) = quarantine::open(slot).map_err(at(kept_in))?;
        let (parent, name) = fs::split(path);
        let to = input.make_beneath(parent, fs::SHARED_DIR_MODE);
        let to = to.map_err(at(&input.path().join(parent)))?;
        Ok(Self {
            slot: slot.to_path_buf(),
            from,
            kept_name: kept_name.to_owned(),
            to: Arc::new(to),
            name: name.to_owned(),
            instance: instance.clone(),
        })
    }

    fn give_name(&self, wanted: &Fingerprint, follow: Follow<'_>) -> io::Result<Rest> {
        match self.from.rename(&self.kept_name, &self.to, &self.name, Overwrite::Never) {
            // An interrupted request moved it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_back(wanted) => {
                Ok(Rest::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.copy(follow).map(Rest::Original)
            }
            renamed => renamed.map(|()| Rest::Nothing),
        }
    }

    /// Checks whether the input has this file under its own name.
    fn is_back(&self, wanted: &Fingerprint) -> bool {
        let found = self.in_input().ok().flatten();
        found.is_some_and(|found| found.matches_content(wanted))
    }

    /// Gives a durable copy the name, after its records follow it.
    fn copy(&self, follow: Follow<'_>) -> io::Result<Option<SecondName>> {
        let copy = fs::copy((&self.from, &self.kept_name), &self.to, &self.instance, || ())?;
        follow(&copy.identity()?)?;
        copy.publish(&self.name, Overwrite::Never).map_err(|(_, error)| error)
    }

    /// Removes the original once the copy's name is durable.
    fn remove_rest(&self, rest: &Rest) -> io::Result<()> {
        let Rest::Original(second_name) = rest else { return Ok(()) };
        self.to.sync()?;
        second_name.as_ref().map_or(Ok(()), SecondName::remove)?;
        self.from.unlink(&self.kept_name)
    }

    /// Removes the reason file and makes the move durable.
    fn finish(&self) -> Result<()> {
        // The history has the reason as well; a missing reason file is no loss.
        drop(self.from.unlink(&quarantine::reason_name(&self.kept_name)));
        self.to.sync().map_err(at(self.to.path()))?;
        self.from.sync().map_err(at(self.from.path()))
    }
}

fn identity_of(dir: &Dir, name: &OsStr) -> Result<Option<Fingerprint>> {
    let found = dir.stat_fresh(name).map_err(at(&dir.path().join(name)))?;
    Ok(found.map(|found| found.identity))
}

impl QuarantinedSource for LocalQuarantined {
    fn in_slot(&self) -> Result<Option<Fingerprint>> {
        identity_of(&self.from, &self.kept_name)
    }

    fn in_input(&self) -> Result<Option<Fingerprint>> {
        identity_of(&self.to, &self.name)
    }

    fn content_hash(&self) -> Result<Hash> {
        fs::content_hash(&self.from, &self.kept_name).map_err(at(&self.slot))
    }

    fn put_back(&self, wanted: &Fingerprint, follow: Follow<'_>) -> PutBack {
        match self.give_name(wanted, follow) {
            Ok(rest) => {
                let removed = self.remove_rest(&rest).map_err(at(&self.slot));
                PutBack { is_back: true, result: removed.and_then(|()| self.finish()) }
            }
            Err(error) => PutBack { is_back: false, result: Err(at(&self.slot)(error)) },
        }
    }

    fn remove(&self) -> Result<()> {
        self.from.unlink(&self.kept_name).map_err(at(&self.slot))?;
        self.finish()
    }

    fn restore_marker(&self, suffix: &str) -> Result<()> {
        let kept = marker::name_of(&self.kept_name, suffix);
        let own = marker::name_of(&self.name, suffix);
        let restored = marker::restore((&self.from, &kept), (&self.to, &own));
        restored.and_then(|()| self.to.sync()).map_err(at(&self.to.path().join(own)))
    }
}
