//! Removes a held source or moves it where it belongs, or restores its name.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    super::{
        Disposal, End, HeldSource, Result, SourceError, TakeRequest, TakeResult, Targets,
        Unfinished,
    },
    cross_device::{self, IfTaken},
    held::LocalHeld,
    marker::{self, Ended},
    quarantine,
};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, NodeId},
};

fn end(held: &mut LocalHeld, disposal: &Disposal<'_>) -> io::Result<()> {
    let Disposal { end, marker, on_progress } = *disposal;
    let suffix = marker.filter(|_| !held.is_name_taken());
    let marker = suffix.map(|suffix| marker::name_of(&held.name, suffix));
    match end {
        End::Removed => {
            end_marker(held, marker, marker::remove)?;
            held.remove()
        }
        End::Archived { root, path } => {
            let (parent, name) = fs::split(path);
            let root = held.targets.open(root)?;
            let to = Arc::new(root.make_beneath(parent, fs::SHARED_DIR_MODE)?);
            let kept = marker.clone().unwrap_or_default();
            end_marker(held, marker, |dir, taken| marker::archive(dir, taken, (&to, &kept)))?;
            cross_device::move_to(held, &to, (name, IfTaken::Numbered), on_progress)
        }
        End::Quarantined(slot) => {
            let (to, name) = quarantine::open(slot)?;
            let kept = suffix.map(|suffix| marker::name_of(name, suffix)).unwrap_or_default();
            end_marker(held, marker, |dir, taken| marker::quarantine(dir, taken, (&to, &kept)))?;
            cross_device::move_to(held, &to, (name, IfTaken::Refused), on_progress)
        }
    }
}

/// Ends the marker before its source, and notes how.
fn end_marker(
    held: &mut LocalHeld,
    marker: Option<OsString>,
    end: impl FnOnce(&Dir, &OsStr) -> io::Result<Option<Ended>>,
) -> io::Result<()> {
    let Some(marker) = marker else { return Ok(()) };
    failpoint::barrier("barrier::marker", || {
        let Some(taken) = held.take_marker(&marker)? else {
            // One that is missing may have ended before an interruption.
            held.marker = held.resumed.then_some((marker, Ended::Removed));
            return Ok(());
        };
        held.marker = Some((marker.clone(), Ended::Taken(taken.clone())));
        let ended = end(&held.dir, &taken)?;
        held.marker = ended.map(|ended| (marker, ended));
        Ok(())
    })
}

/// Makes, renames and removes a file in the root of the input and in the directory that a source is
/// archived in. The directories below the root are the producers': what one of them denies affects only
/// the sources below. So does a file that has the name of a directory in the archive.
pub(super) fn probe(
    input: &Dir,
    end: End<'_>,
    (instance, targets): (&NodeId, &Targets),
) -> Result<()> {
    let probe = |path: &Path, dir: io::Result<Dir>| {
        let probed = dir.and_then(|dir| fs::probe(&Arc::new(dir), instance));
        let at = |source| SourceError { path: path.to_path_buf(), source };
        probed.map(drop).map_err(at)
    };
    probe(input.path(), input.open_beneath(Path::new("")))?;
    let End::Archived { root, path } = end else { return Ok(()) };
    let (parent, _) = fs::split(path);
    probe(root, targets.open(root))?;
    let made = targets.open(root).and_then(|root| root.make_beneath(parent, fs::SHARED_DIR_MODE));
    match made {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        dir => probe(&root.join(parent), dir),
    }
}

impl HeldSource for LocalHeld {
    fn identity(&self) -> Result<Option<Fingerprint>> {
        self.identity_of_private().map_err(|error| self.at(error))
    }

    fn check(self: Box<Self>, wanted: &TakeRequest<'_>) -> Result<TakeResult> {
        let path = self.dir.path().join(&self.name);
        self.compare(wanted).map_err(|source| SourceError { path, source })
    }

    fn finish(mut self: Box<Self>, disposal: &Disposal<'_>) -> Result<(), Unfinished> {
        let ended = end(&mut self, disposal);
        ended.map_err(|error| still_held(self, error))
    }

    fn finish_put_back(
        mut self: Box<Self>,
        marker: Option<&str>,
    ) -> Result<Option<Box<dyn HeldSource>>> {
        let linked = self.dir.is_linked(&self.private, &self.dir, &self.name);
        if !linked.map_err(|error| self.at(error))? {
            return Ok(Some(self));
        }
        self.marker = marker.map(|suffix| (marker::name_of(&self.name, suffix), Ended::Removed));
        self.put_back().map(|()| None).map_err(|(_, error)| error)
    }

    fn put_back(self: Box<Self>) -> Result<(), Unfinished> {
        let restored = self.rename_back().and_then(|()| self.put_marker_back());
        restored.map_err(|error| still_held(self, error))
    }
}

fn still_held(held: Box<LocalHeld>, error: io::Error) -> Unfinished {
    let error = held.at(error);
    (held, error)
}
