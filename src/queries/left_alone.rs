//! Reasons for which the intake leaves a file alone, by the rules of the service's last start.

use std::{io, path::Path, time::Duration};

use crate::{
    config::{Pipeline, temporary_name},
    fs::{self, Dir, FileMetadata, Kind, NodeId},
    ledger::PipelineDirs,
    limits::QUIET_TIME,
    observe::display_path,
    policy::{Settle, TemporaryNames},
    protocol::eligibility::{is_stale, skip_reason},
    source,
};

/// The reason for which it is left alone, if there is one.
pub fn reason(
    config: Option<&Pipeline>,
    (roots, instance): (&PipelineDirs, &NodeId),
    path: &Path,
    seen: &FileMetadata,
) -> Option<String> {
    if path.iter().any(fs::is_internal_name) {
        return Some("its name is one of the service's own".to_owned());
    }
    let state_dir = Dir::open(&roots.input).ok();
    let state_dir = state_dir.and_then(|input| fs::state_dir_of(&input, path).ok().flatten());
    if let Some(state_dir) = state_dir {
        let path = roots.input.join(state_dir);
        return Some(format!(
            "it is in the state directory of a service, {}: move that service's `state_dir` out of the input",
            display_path(&path)
        ));
    }
    if seen.kind != Kind::File {
        return Some(format!("it is {}, not a regular file", seen.kind.as_str()));
    }
    let Some(config) = config else {
        return Some(
            "no pipeline of the last start watches it: compare `tidemill check`".to_owned(),
        );
    };
    if config.keys.temporary_names == TemporaryNames::Ignore
        && let Some((name, pattern)) = temporary_name(path)
    {
        return Some(format!(
            "temporary name: {} matches `{pattern}`; `temporary_names = \"take\"` takes such files",
            display_path(Path::new(name))
        ));
    }
    if !config.filter.allows(path) {
        return Some("`include` and `exclude` leave it out".to_owned());
    }
    let refused = source::open(&roots.input, instance)
        .and_then(|input| skip_reason(config.rules(), &*input, seen));
    if let Some(why) = refused.unwrap_or_else(|error| Some(error.source.to_string())) {
        return Some(why);
    }
    unmarked(config.keys.marker.as_deref()?, roots, path, seen)
}

/// Reads the metadata of a name below a directory, and follows no link out of it.
pub(super) fn look_below(root: &Path, source: &Path) -> io::Result<Option<FileMetadata>> {
    let (parent, name) = fs::split(source);
    match Dir::open(root)?.open_beneath(parent) {
        Ok(dir) => dir.stat(Path::new(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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
pub fn waits_for(config: Option<&Pipeline>, input: &Path, seen: &FileMetadata) -> Option<String> {
    let config = config?;
    let changed_ns = seen.identity.modified_ns.max(seen.identity.changed_ns);
    let now = jiff::Timestamp::now();
    let changed = jiff::Timestamp::from_nanosecond(changed_ns.into()).ok()?;
    if changed > now {
        return Some(format!(
            "its time lies in the future ({changed:.0}): `settle` and `min_age` count from when the service first sees it"
        ));
    }
    let is_network = || Dir::open(input).is_ok_and(|input| fs::is_network(&input).unwrap_or(false));
    let (quiet, why) = match config.keys.settle {
        Settle::Quiet(quiet) => (quiet, "`settle`"),
        Settle::Auto if is_network() => (QUIET_TIME, "a network file system"),
        Settle::Auto => (Duration::ZERO, ""),
    };
    let (needed, why) = (quiet, why).max((config.keys.min_age, "`min_age`"));
    let age = Duration::try_from(now.duration_since(changed)).unwrap_or_default();
    let seconds = age.as_secs_f64();
    (age < needed).then(|| format!("unchanged for {seconds:.1} s of {needed:?} ({why})"))
}
