//! Reasons for which the intake leaves a file alone, by the rules of the service's last start.

use std::{path::Path, time::Duration};

use crate::{
    config::{Pipeline, temporary_name},
    fs::{self, FileMetadata, Kind},
    limits::QUIET_TIME,
    observe::display_path,
    policy::{Settle, TemporaryNames},
    protocol::eligibility::{is_stale, skip_reason},
    source::{Look, NamedBy, Source},
};

/// The reason for which a file is ignored, if there is one.
pub fn of(
    config: Option<&Pipeline>,
    input: &dyn Source,
    path: &Path,
    seen: &FileMetadata,
) -> Option<String> {
    if path.iter().any(fs::is_internal_name) {
        return Some("its name is one of the service's own".to_owned());
    }
    if let Ok(Look::StateDirectory(state_dir)) = input.look(path, NamedBy::Event, &[]) {
        let path = input.path().join(state_dir);
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
    let refused = skip_reason(config.rules(), input, seen);
    if let Some(why) = refused.unwrap_or_else(|error| Some(error.source.to_string())) {
        return Some(why);
    }
    unmarked(config.keys.marker.as_deref()?, input, path, seen)
}

fn unmarked(
    marker: &str,
    input: &dyn Source,
    source: &Path,
    seen: &FileMetadata,
) -> Option<String> {
    if source.as_os_str().as_encoded_bytes().ends_with(marker.as_bytes()) {
        return Some(format!("it is a marker (`{marker}`)"));
    }
    let mut marked = source.as_os_str().to_owned();
    marked.push(marker);
    let marker = input.path().join(&marked);
    match input.stat_beneath(Path::new(&marked)) {
        Ok(Some(found)) if is_stale(&found, seen) => Some(format!(
            "its marker {} is older than the file: it was another file's, and must be written again",
            display_path(&marker)
        )),
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("its marker {} does not exist yet", display_path(&marker))),
        Err(error) => {
            Some(format!("cannot read its marker {}: {}", display_path(&marker), error.source))
        }
    }
}

/// What an unprocessed file waits for, as far as its times show.
pub fn waits_for(
    config: Option<&Pipeline>,
    input: &dyn Source,
    seen: &FileMetadata,
) -> Option<String> {
    let config = config?;
    let ctime_ns = seen.identity.mtime_ns.max(seen.identity.ctime_ns);
    let now = jiff::Timestamp::now();
    let changed = jiff::Timestamp::from_nanosecond(ctime_ns.into()).ok()?;
    if changed > now {
        return Some(format!(
            "its time lies in the future ({changed:.0}): `settle` and `min_age` count from when the service first sees it"
        ));
    }
    let (quiet, why) = match config.keys.settle {
        Settle::Quiet(quiet) => (quiet, "`settle`"),
        Settle::Auto if input.is_remote() => (QUIET_TIME, "a network file system"),
        Settle::Auto => (Duration::ZERO, ""),
    };
    let (needed, why) = (quiet, why).max((config.keys.min_age, "`min_age`"));
    let age = Duration::try_from(now.duration_since(changed)).unwrap_or_default();
    let seconds = age.as_secs_f64();
    (age < needed).then(|| format!("unchanged for {seconds:.1} s of {needed:?} ({why})"))
}
