//! Side files: small files next to an output, which recovery and withdrawals write and remove. Those of
//! the pipeline itself are staged and published as outputs are.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use super::{Local, file::is_version};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, ExtendedAttributes, Kind, Overwrite, Temp},
    ledger::Output,
    policy::Durability,
    sink::{Error, ErrorKind, Found, Precondition},
};

/// Returns what has a name, and its content if it is a file of at most `max_bytes`.
pub fn read(root: &Dir, target: &Path, max_bytes: u64) -> Result<Option<Found>, Error> {
    let (parent, name) = fs::split(target);
    let read = || -> io::Result<Option<Found>> {
        let dir = match root.open_beneath(parent) {
            Err(error) if is_missing(&error) => return Ok(None),
            dir => dir?,
        };
        let Some(found) = dir.stat(Path::new(name))? else { return Ok(None) };
        let identity = found.identity;
        if found.kind != Kind::File || identity.size > max_bytes {
            return Ok(Some(Found { identity, content: None }));
        }
        let file = match dir.open_file(Path::new(name)) {
            // A consumer took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let identity = fs::identity_of(&file)?;
        let mut content = Vec::new();
        file.take(max_bytes + 1).read_to_end(&mut content)?;
        let is_small = content.len() as u64 <= max_bytes;
        Ok(Some(Found { identity, content: is_small.then_some(content) }))
    };
    read().map_err(ErrorKind::Look.at(root.path().join(target)))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Writes a side file with the attributes of its output.
pub fn write(
    local: &Local,
    output: &Output,
    (target, content): (&Path, &[u8]),
    precondition: Precondition,
) -> Result<(), Error> {
    let root = local.root.dir();
    let path = root.path().join(target);
    let (parent, name) = fs::split(target);
    let dir = root.open_beneath(parent).map(Arc::new);
    let dir = dir.map_err(|error| ErrorKind::Directory.at(&path)(error))?;
    let stage = || -> io::Result<Temp> {
        let temp = Temp::create(&dir, &local.instance)?;
        temp.file().write_all(content)?;
        let (_, output_name) = fs::split(&output.path);
        let staged = dir.stat(Path::new(&output.temp))?.filter(|_| !output.temp.is_empty());
        let model = if staged.is_some() { staged } else { dir.stat(Path::new(output_name))? };
        if let Some(model) = model {
            // Without extended attributes nothing can be refused.
            drop(temp.copy_attributes(&model, &ExtendedAttributes::default())?);
        }
        Ok(temp)
    };
    let temp = stage().map_err(|error| ErrorKind::Write.at(&path)(error))?;
    let sync = || failpoint::barrier("barrier::side_file", || temp.file().sync_all());
    if local.shared.durability != Durability::None {
        sync().map_err(|error| ErrorKind::Sync.at(&path)(error))?;
    }
    let publish = || -> io::Result<()> {
        let overwrite = match precondition {
            Precondition::Absent => Overwrite::Never,
            Precondition::Unchanged(shown) => {
                let found = dir.stat_fresh(name)?;
                if found.is_none_or(|found| !is_version(&found.identity, &shown)) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Overwrite::Allow
            }
        };
        let second_name = temp.publish(name, overwrite).map_err(|(_, error)| error)?;
        second_name.map_or(Ok(()), |second_name| {
            dir.sync()?;
            second_name.remove()
        })
    };
    publish().map_err(|error| Error::of_publish(path, error))
}

/// Removes a side file, if its name still has this version.
pub fn remove(root: &Dir, target: &Path, shown: &Fingerprint) -> Result<(), Error> {
    let (parent, name) = fs::split(target);
    let remove = || -> io::Result<()> {
        let dir = root.open_beneath(parent)?;
        match dir.stat_fresh(name)? {
            Some(found) if is_version(&found.identity, shown) => dir.unlink_own(name),
            _ => Ok(()),
        }
    };
    match remove() {
        Err(error) if is_missing(&error) => Ok(()),
        removed => removed.map_err(ErrorKind::Remove.at(root.path().join(target))),
    }
}
