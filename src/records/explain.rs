//! What is known of one file, and what will become of it.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::time;
use crate::{
    config::Pipeline,
    fs::{self, Dir, Kind, Seen},
    identity::Identity,
    ledger::{self, Ledger, Query, Record, Roots, State},
    observe::shown,
    pipeline::{
        process::claim::{Known, known, recorded},
        trust::refused,
    },
};

/// The path with its directory resolved; the file itself may be gone, or a link.
pub fn real(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let (parent, name) = fs::split(&absolute);
    Ok(parent.canonicalize().unwrap_or_else(|_| parent.to_path_buf()).join(name))
}

/// A path that is not absolute, below the first input that has it, or else the first one.
pub fn below_an_input(pipelines: &[Pipeline], path: PathBuf) -> PathBuf {
    if path.is_absolute() {
        return path;
    }
    let has_it = |pipeline: &&Pipeline| {
        look_below(&pipeline.input, &path).is_ok_and(|found| found.is_some())
    };
    let found = pipelines.iter().find(has_it).or(pipelines.first());
    found.map_or_else(|| path.clone(), |pipeline| pipeline.input.join(&path))
}

/// Looks at a name in a directory, and never through a link out of it.
fn look_below(root: &Path, source: &Path) -> io::Result<Option<Seen>> {
    let (parent, name) = fs::split(source);
    match Dir::open(root)?.open_beneath(parent) {
        Ok(dir) => dir.look(Path::new(name)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        },
    }
}

/// What to say of this path, which is absolute: the rest of a sentence that begins with it.
pub fn tell(ledger: &dyn Ledger, pipelines: &[Pipeline], path: &Path) -> ledger::Result<String> {
    let roots = ledger.roots()?;
    if let Some(moved) = moved(ledger, path)? {
        return Ok(moved);
    }
    for root in &roots {
        if let Ok(source) = path.strip_prefix(&root.input) {
            let seen = look_below(&root.input, source);
            let found = seen.ok().flatten().map_or(Identity::NONE, |seen| seen.identity);
            let record = recorded(ledger, root.id, source, &found)?;
            let config = pipelines.iter().find(|pipeline| pipeline.input == root.input);
            return Ok(as_source(root, config, source, record.as_ref()));
        }
    }
    for root in &roots {
        if let Ok(output) = path.strip_prefix(&root.output) {
            let record = ledger.latest_for_output(root.id, output)?;
            return Ok(as_output(root, output, record.as_ref()));
        }
    }
    Ok("is neither below an input nor below an output of this service".to_owned())
}

/// A file in quarantine, by where it is now.
fn moved(ledger: &dyn Ledger, path: &Path) -> ledger::Result<Option<String>> {
    let query = Query { state: Some(State::Quarantined), ..Default::default() };
    let here = |record: &Record| record.moved_to.as_deref() == Some(path);
    let record = ledger.history(&query)?.into_iter().find(here);
    Ok(record.map(|record| {
        let reason = record.reason.unwrap_or_default();
        format!("is in quarantine: {reason}; `tidemill requeue` puts it back to the intake")
    }))
}

fn as_output(roots: &Roots, output: &Path, record: Option<&Record>) -> String {
    let (_, name) = fs::split(output);
    if fs::is_ours(name) {
        return "is a file of the service's own: work that is not published yet".to_owned();
    }
    let Some(record) = record else {
        return "was not published by this service".to_owned();
    };
    let source = roots.input.join(&record.source);
    let (source, time) = (shown(&source), time(record));
    match record.state {
        State::Published | State::Done => {
            format!("was published from {source} at {time} (record {})", record.id)
        }
        _ => format!("is about to be published from {source} (record {})", record.id),
    }
}

fn as_source(
    roots: &Roots,
    config: Option<&Pipeline>,
    source: &Path,
    record: Option<&Record>,
) -> String {
    let found = look_below(&roots.input, source);
    let was = record.map(|record| format!("; {}", past(roots, record))).unwrap_or_default();
    let seen = match found {
        Ok(Some(seen)) => seen,
        Ok(None) => return format!("is not there{was}"),
        Err(error) => return format!("cannot be looked at ({error}){was}"),
    };
    if let Some(why) = left_alone(config, roots, source, &seen) {
        return format!("is left alone: {why}{was}");
    }
    let on_success = config.map(|config| config.on_success.clone());
    let on_success = on_success.or_else(|| record.map(|record| record.on_success.clone()));
    let on_success = on_success.unwrap_or(crate::policy::OnSuccess::Keep);
    let will = match known(record, &seen.identity, &on_success) {
        Known::New if record.is_some() => {
            "changed since, or was requeued, and will be processed again"
        }
        Known::New => {
            "was not processed yet, and will be once it is settled (closed by its writer, old enough, quiet for long enough)"
        }
        Known::Done => "was processed, is unchanged since, and is kept: nothing more is done",
        Known::Touched => {
            "was processed, and its permissions, owner or links changed since: its content is compared, and published again only if that changed"
        }
        Known::DisposeAgain => "was processed; only its disposal is repeated",
        Known::InQuarantine => {
            "is in quarantine, in its place: it is processed again when it changes, or by `tidemill requeue`"
        }
        Known::MoveAgain => "is about to be moved to quarantine",
        Known::Skipped => "is left: its output's name was taken",
        Known::Unfinished => "is being published, or waits for the next start to finish that",
        Known::Earlier => {
            "is in an earlier state than the one that was processed, and is about to be quarantined"
        }
    };
    format!("{will}{was}")
}

fn past(roots: &Roots, record: &Record) -> String {
    let time = time(record);
    let mut text = format!("record {} of {time}: {}", record.id, record.state);
    if let Some(output) = &record.output {
        text += &format!(" as {}", shown(&roots.output.join(&output.path)));
    }
    if let Some(moved_to) = &record.moved_to {
        text += &format!(", now {}", shown(moved_to));
    }
    if let Some(reason) = &record.reason {
        text += &format!(": {reason}");
    }
    text
}

/// Why the intake does not take it, by the rules of the service's last start.
fn left_alone(
    config: Option<&Pipeline>,
    roots: &Roots,
    source: &Path,
    seen: &Seen,
) -> Option<String> {
    if source.components().any(|component| fs::is_ours(component.as_os_str())) {
        return Some("its name is one of the service's own".to_owned());
    }
    if seen.kind != Kind::File {
        return Some(format!("it is {}, not a regular file", seen.kind.as_str()));
    }
    let Some(config) = config else {
        return Some("no pipeline of the last start watches it".to_owned());
    };
    if !config.filter.allows(source) {
        return Some("`include` and `exclude` leave it out".to_owned());
    }
    let refused = Dir::open(&roots.input).and_then(|input| refused(config.trust, &input, seen));
    if let Some(why) = refused.unwrap_or_else(|error| Some(error.to_string())) {
        return Some(why);
    }
    let marker = config.marker.as_ref()?;
    let mut marked: std::ffi::OsString = roots.input.join(source).into();
    marked.push(marker);
    let is_marker = source.as_os_str().as_encoded_bytes().ends_with(marker.as_bytes());
    let mut marked_source = source.as_os_str().to_owned();
    marked_source.push(marker);
    let missing = !look_below(&roots.input, Path::new(&marked_source)).is_ok_and(|it| it.is_some());
    if is_marker {
        return Some(format!("it is a marker (`{marker}`)"));
    }
    missing.then(|| format!("its marker {} is not there yet", shown(&PathBuf::from(marked))))
}
