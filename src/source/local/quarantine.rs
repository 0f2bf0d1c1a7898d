//! Slots of a quarantine directory, each with a reason file next to it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::super::{MayReplace, Targets};
use crate::{
    error::of_target,
    fs::{self, Dir, NodeId, Overwrite, SecondName, Temp},
    limits,
};

/// The suffix of a reason file's name.
const REASON_SUFFIX: &[u8] = b".json";
/// Names up to this length keep their full name in the reason file's name.
const REASON_STEM_BYTES_MAX: usize = limits::NAME_BYTES_MAX - REASON_SUFFIX.len();
/// Limit for reading a reason file; this service writes shorter ones.
const REASON_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn find_slot(
    (quarantine, targets): (&Path, &Targets),
    path: &Path,
    may_replace: MayReplace<'_>,
) -> io::Result<PathBuf> {
    let (parent, name) = fs::split(path);
    let dir = make((quarantine, targets), parent)?;
    let is_free = |name: &OsStr| -> io::Result<bool> {
        let taken = dir.stat(Path::new(name))?.is_some();
        Ok(!taken && may_replace_reason(&dir, &reason_name(name), may_replace)?)
    };
    let name = if is_free(name)? {
        name.to_owned()
    } else {
        fs::free_number(name, "", REASON_STEM_BYTES_MAX, is_free)?
    };
    Ok(dir.path().join(name))
}

/// Checks whether the file in a slot is this source, or its copy on another file system.
pub(super) fn is_in_slot(input: &Dir, path: &Path, slot: &Path) -> io::Result<bool> {
    let (parent, name) = fs::split(path);
    let dir = input.open_beneath(parent)?;
    let (to, slot) = open(slot)?;
    let (source, found) = (dir.stat_fresh(name)?, to.stat_fresh(slot)?);
    let Some((source, found)) = source.zip(found) else { return Ok(false) };
    let is_elsewhere = source.identity.device != found.identity.device;
    Ok(source.identity.inode == found.identity.inode && !is_elsewhere
        || is_elsewhere && fs::have_same_content((&dir, name), (&to, slot))?)
}

/// Opens a directory below the quarantine, and makes missing ones.
fn make((quarantine, targets): (&Path, &Targets), parent: &Path) -> io::Result<Dir> {
    let above =
        quarantine.ancestors().find_map(|above| Dir::open(above).ok().map(|dir| (above, dir)));
    let Some((above, dir)) = above else {
        return Err(io::ErrorKind::NotFound.into());
    };
    targets.check(quarantine, &dir, above)?;
    let below = quarantine.strip_prefix(above).unwrap_or(Path::new(""));
    dir.make_beneath(&below.join(parent), fs::OWN_DIR_MODE)
}

fn may_replace_reason(dir: &Dir, reason: &OsStr, may_replace: MayReplace<'_>) -> io::Result<bool> {
    if dir.stat(Path::new(reason))?.is_none() {
        return Ok(true);
    }
    let Ok(file) = dir.open_file(Path::new(reason)) else {
        return Ok(false);
    };
    Ok(may_replace(&text_of(file)?))
}

/// Reads the reason file next to a slot.
pub(super) fn read_reason(slot: &Path) -> io::Result<Vec<u8>> {
    let (dir, name) = open(slot)?;
    text_of(dir.open_file(Path::new(&reason_name(name)))?)
}

fn text_of(reason: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    reason.take(REASON_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Writes `NAME.json`, atomically and durably. A name too long for that is cut.
pub(super) fn write_reason(
    slot: &Path,
    content: &[u8],
    may_replace: MayReplace<'_>,
    instance: &NodeId,
) -> io::Result<()> {
    let (dir, name) = open(slot)?;
    let reason = reason_name(name);
    let temp = Temp::create(&dir, instance)?;
    temp.file().write_all(content)?;
    temp.file().sync_all()?;
    let second_name = match temp.publish(&reason, Overwrite::Never) {
        Err((temp, error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process may have chosen this slot too.
            if !may_replace_reason(&dir, &reason, may_replace)? {
                return Err(of_target(error));
            }
            temp.publish(&reason, Overwrite::Allow)
        }
        published => published,
    };
    let second_name = second_name.map_err(|(_, error)| error)?;
    dir.sync()?;
    second_name.as_ref().map_or(Ok(()), SecondName::remove)
}

/// Opens the directory of a slot, which exists; returns it with the slot's name.
pub(super) fn open(slot: &Path) -> io::Result<(Arc<Dir>, &OsStr)> {
    let (parent, name) = fs::split(slot);
    Ok((Arc::new(Dir::open(parent)?), name))
}

/// Returns the name of the reason file next to a file of this name.
#[must_use]
pub fn reason_name(name: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = name.as_bytes();
    OsString::from_vec([name.get(..REASON_STEM_BYTES_MAX).unwrap_or(name), REASON_SUFFIX].concat())
}
