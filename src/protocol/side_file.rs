//! The checksum file of an output, `NAME.sha256`: its name, its content, and its place in the protocol.
//!
//! Its content is a pure function of the record: the digest and the output's name. So recovery writes
//! it again, and a file is ours if it has these bytes; no other file is replaced or removed.
//!
//! C8: a checksum file has its name, with durable content, before its output has its own, and both names
//! are in one directory: one sync makes both durable.
//! C9: a checksum file that belongs to a withdrawn intent is removed, or gets its earlier content again,
//! durably, before the withdrawal.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    failpoint, fs,
    ledger::{Output, Sha256},
    limits,
    policy::Checksum,
    sink::{self, Found, Precondition, Sink},
};

/// The suffix of its name.
pub const SUFFIX: &str = ".sha256";

/// The bytes of the longest content: a backslash, the digest, two spaces, a name of escapes only and a
/// newline.
pub const CONTENT_BYTES_MAX: u64 = 1 + 64 + 2 + 2 * limits::NAME_BYTES_MAX as u64 + 1;

/// Returns the path of an output's checksum file.
#[must_use]
pub fn path(output: &Path) -> PathBuf {
    let (parent, name) = fs::split(output);
    let mut name: OsString = name.to_owned();
    name.push(SUFFIX);
    parent.join(name)
}

/// Returns the path of the output whose checksum file has this path; the inverse of [`path`].
#[must_use]
pub fn output_of(side: &Path) -> Option<PathBuf> {
    let (parent, name) = fs::split(side);
    let name = name.as_bytes().strip_suffix(SUFFIX.as_bytes()).filter(|name| !name.is_empty())?;
    Some(parent.join(OsStr::from_bytes(name)))
}

/// Returns the most bytes of an output's name, for which the name of its checksum file is not too long.
#[must_use]
pub const fn output_name_bytes_max(checksum: Checksum) -> usize {
    match checksum {
        Checksum::Off => limits::NAME_BYTES_MAX,
        Checksum::Sha256 => limits::NAME_BYTES_MAX - SUFFIX.len(),
    }
}

/// Returns the line that `sha256sum` prints for a file of this name. A name with a backslash, a newline
/// or a carriage return has them escaped, and a backslash before the digest says so, as GNU does it.
#[must_use]
pub fn line(sha256: &Sha256, name: &OsStr) -> Vec<u8> {
    let needs_escapes = name.as_bytes().iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    let mut line = Vec::with_capacity(name.len() + 68);
    line.extend(needs_escapes.then_some(b'\\'));
    for byte in sha256 {
        line.extend(format!("{byte:02x}").bytes());
    }
    line.extend(b"  ");
    for byte in name.as_bytes() {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// Returns the content of the checksum file of the output with this path.
#[must_use]
pub fn content(sha256: &Sha256, output: &Path) -> Vec<u8> {
    line(sha256, fs::split(output).1)
}

/// Returns what has the name of an output's checksum file.
///
/// # Errors
///
/// As [`Sink::read`].
pub fn find(sink: &dyn Sink, output: &Path) -> Result<Option<Found>, sink::Error> {
    sink.read(&path(output), CONTENT_BYTES_MAX)
}

/// The result of [`place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The checksum file has its name, or the record has none.
    Placed,
    /// Another file has its name.
    Taken,
}

/// Gives the checksum file of a recorded output its name, if it does not have it; the name is durable
/// after the output's own. An earlier checksum file of an output that this one replaces without having one
/// is left: [`complete`] removes it. May be repeated.
///
/// # Errors
///
/// The sink cannot be read or written.
pub fn place(sink: &dyn Sink, output: &Output) -> Result<Placement, sink::Error> {
    let Some(sha256) = &output.sha256 else { return Ok(Placement::Placed) };
    let wanted = content(sha256, &output.path);
    let precondition = match find(sink, &output.path)? {
        None => Precondition::Absent,
        Some(Found { content: Some(found), .. }) if found == wanted => {
            return Ok(Placement::Placed);
        }
        Some(found) if is_replaced(output, &found) => Precondition::Unchanged(found.identity),
        Some(_) => return Ok(Placement::Taken),
    };
    match sink.write_side_file(output, (&path(&output.path), &wanted), precondition) {
        Ok(()) => Ok(Placement::Placed),
        Err(error) if error.kind == sink::ErrorKind::Taken => Ok(Placement::Taken),
        Err(error) => Err(error),
    }
}

/// Completes the checksum file of an output that has its final name: as [`place`], and one that belongs to
/// the replaced output alone is removed. A consumer may have put another file there by now, which stays.
///
/// # Errors
///
/// As [`place`].
pub fn complete(sink: &dyn Sink, output: &Output) -> Result<(), sink::Error> {
    if output.sha256.is_some() {
        return place(sink, output).map(|_| ());
    }
    if output.replaces.is_none_or(|replaced| replaced.sha256.is_none()) {
        return Ok(());
    }
    match find(sink, &output.path)? {
        Some(found) if is_replaced(output, &found) => {
            sink.remove_side_file(&path(&output.path), &found.identity)
        }
        _ => Ok(()),
    }
}

/// C9: undoes [`place`] for an intent that is about to be withdrawn: the replaced output's checksum
/// file gets its name again, or none has it. Durable. `is_output` checks whether another output has this path,
/// by the ledger: such a one stays. May be repeated.
///
/// # Errors
///
/// The sink cannot be read or written, or `is_output` failed.
pub fn undo<E: From<sink::Error>>(
    sink: &dyn Sink,
    output: &Output,
    is_output: impl FnOnce(&Path) -> Result<bool, E>,
) -> Result<(), E> {
    let Some(sha256) = &output.sha256 else { return Ok(()) };
    let side = path(&output.path);
    let found = match find(sink, &output.path)? {
        Some(found) if found.content.as_ref() == Some(&content(sha256, &output.path)) => found,
        _ => return Ok(()),
    };
    match output.replaces.and_then(|replaced| replaced.sha256) {
        Some(earlier) if earlier == *sha256 => return Ok(()),
        Some(earlier) => {
            let earlier = content(&earlier, &output.path);
            let shown = Precondition::Unchanged(found.identity);
            sink.write_side_file(output, (&side, &earlier), shown)?;
        }
        None if is_output(&side)? => return Ok(()),
        None => sink.remove_side_file(&side, &found.identity)?,
    }
    failpoint::pass("commit::side_undone");
    Ok(sink.sync_name(&output.path)?)
}

/// Checks whether this is the checksum file of the output that this one replaces.
fn is_replaced(output: &Output, found: &Found) -> bool {
    let earlier = output.replaces.and_then(|replaced| replaced.sha256);
    earlier.is_some_and(|earlier| found.content.as_ref() == Some(&content(&earlier, &output.path)))
}

#[cfg(test)]
mod tests;
