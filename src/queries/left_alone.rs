//! Reasons for which the intake leaves a file alone, by the rules of the service's last start.

use std::{io, path::Path};

use crate::{
    config::{Pipeline, temporary_name},
    fs::{self, Dir, FileMetadata, Kind},
    ledger::PipelineDirs,
    observe::display_path,
    policy::TemporaryNames,
    protocol::{eligibility::skip_reason, marker::is_stale},
};

/// The reason for which it is left alone, if there is one.
pub fn reason(
    config: Option<&Pipeline>,
    roots: &PipelineDirs,
    source: &Path,
    seen: &FileMetadata,
) -> Option<String> {
    if source.iter().any(fs::is_internal_name) {
        return Some("its name is one of the service's own".to_owned());
    }
    if seen.kind != Kind::File {
        return Some(format!("it is {}, not a regular file", seen.kind.as_str()));
    }
    let Some(config) = config else {
        return Some("no pipeline of the last start watches it".to_owned());
    };
    if config.temporary_names == TemporaryNames::Ignore
        && let Some((name, pattern)) = temporary_name(source)
    {
        return Some(format!(
            "temporary name: {} matches `{pattern}`; `temporary_names = \"take\"` takes such files",
            display_path(Path::new(name))
        ));
    }
    if !config.filter.allows(source) {
        return Some("`include` and `exclude` leave it out".to_owned());
    }
    let refused = Dir::open(&roots.input).and_then(|input| skip_reason(config.trust, &input, seen));
    if let Some(why) = refused.unwrap_or_else(|error| Some(error.to_string())) {
        return Some(why);
    }
    unmarked(config.marker.as_deref()?, roots, source, seen)
}

/// Reads the metadata of a name below a directory, and follows no link out of it.
pub(super) fn look_below(root: &Path, source: &Path) -> io::Result<Option<FileMetadata>> {
    let (parent, name) = fs::split(source);
    match Dir::open(root)?.open_beneath(parent) {
        Ok(dir) => dir.stat(Path::new(name)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

fn unmarked(
    marker: &str,
    roots: &PipelineDirs,
    source: &Path,
    seen: &FileMetadata,
) -> Option<String> {
    if source.as_os_str().as_encoded_bytes().ends_with(marker.as_bytes()) {
        return Some(format!("it is a marker (`{marker}`)"));
    }
    let mut marked = source.as_os_str().to_owned();
    marked.push(marker);
    let marker = roots.input.join(&marked);
    match look_below(&roots.input, Path::new(&marked)) {
        Ok(Some(found)) if is_stale(&found, seen) => Some(format!(
            "its marker {} is older than the file: it was another file's, and must be written again",
            display_path(&marker)
        )),
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("its marker {} does not exist yet", display_path(&marker))),
        Err(error) => Some(format!("cannot read its marker {}: {error}", display_path(&marker))),
    }
}

/// What an unprocessed file waits for, as far as its times show.
pub fn waits_for(config: Option<&Pipeline>, seen: &FileMetadata) -> Option<String> {
    let config = config?;
    let changed_ns = seen.identity.modified_ns.max(seen.identity.changed_ns);
    let now = jiff::Timestamp::now();
    let changed = jiff::Timestamp::from_nanosecond(changed_ns.into()).ok()?;
    let min_age = config.min_age;
    if changed > now {
        return Some(format!(
            "its time lies in the future ({changed:.0}): `settle` and `min_age` count from when the service first sees it"
        ));
    }
    let age = std::time::Duration::try_from(now.duration_since(changed)).unwrap_or_default();
    (age < min_age).then(|| format!("it is younger than `min_age` ({min_age:?})"))
}
