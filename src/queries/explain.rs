//! What is known of one file, and what will become of it.

use std::path::{Path, PathBuf};

use super::{
    left_alone::{self, look_below},
    reprocess::has_other_transforms,
    time,
};
use crate::{
    config::Pipeline,
    fingerprint::Fingerprint,
    fs::{self, Dir},
    ledger::{self, HistoryQuery, Ledger, PipelineDirs, Record, State},
    observe::display_path,
    pipeline::{
        process::claim::{PriorOutcome, classify, find_record},
        publish::commit::earlier_output::is_as_published,
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

/// What to say of this path, which is absolute: the rest of a sentence that begins with it.
pub fn describe(
    ledger: &dyn Ledger,
    pipelines: &[Pipeline],
    path: &Path,
) -> ledger::Result<String> {
    let roots = ledger.roots()?;
    if let Some(moved) = moved(ledger, path)? {
        return Ok(moved);
    }
    for root in &roots {
        if let Ok(source) = path.strip_prefix(&root.input) {
            let seen = look_below(&root.input, source);
            let found = seen.ok().flatten().map_or(Fingerprint::NONE, |seen| seen.identity);
            let record = find_record(ledger, root.id, source, &found)?;
            let config = pipelines.iter().find(|pipeline| pipeline.input == root.input);
            return Ok(as_source(ledger, root, (config, source), record.as_ref()));
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
    let query = HistoryQuery { state: Some(State::Quarantined), ..Default::default() };
    let here = |record: &Record| record.moved_to.as_deref() == Some(path);
    let record = ledger.history(&query)?.into_iter().find(here);
    Ok(record.map(|record| {
        let reason = record.reason.unwrap_or_default();
        format!("is in quarantine: {reason}; `tidemill requeue` puts it back to the intake")
    }))
}

fn as_output(roots: &PipelineDirs, output: &Path, record: Option<&Record>) -> String {
    let (_, name) = fs::split(output);
    if fs::is_internal_name(name) {
        return "is a file of the service's own: work that is not published yet".to_owned();
    }
    let Some(record) = record else {
        return "was not published by this service".to_owned();
    };
    let source = roots.input.join(&record.source);
    let (source, time) = (display_path(&source), time(record));
    match record.state {
        State::Published | State::Done | State::Changed => {
            format!("was published from {source} at {time} (record {})", record.id)
        }
        _ => format!("is about to be published from {source} (record {})", record.id),
    }
}

fn as_source(
    ledger: &dyn Ledger,
    roots: &PipelineDirs,
    (config, source): (Option<&Pipeline>, &Path),
    record: Option<&Record>,
) -> String {
    let found = look_below(&roots.input, source);
    let was =
        record.map(|record| format!("; {}{}", past(roots, record), present(roots, config, record)));
    let was = was.unwrap_or_default();
    let seen = match found {
        Ok(Some(seen)) => seen,
        Ok(None) => return format!("is not there{was}"),
        Err(error) => return format!("cannot be looked at ({error}){was}"),
    };
    if let Some(why) = left_alone::reason(config, roots, source, &seen) {
        return format!("is left alone: {why}{was}");
    }
    let on_success = config.map(|config| config.on_success.clone());
    let on_success = on_success.or_else(|| record.map(|record| record.on_success.clone()));
    let on_success = on_success.unwrap_or(crate::policy::OnSuccess::Keep);
    let known_now = classify(ledger, record, &seen.identity, &on_success);
    let will = match known_now {
        PriorOutcome::New if record.is_some() => {
            "changed since, or was requeued, and will be processed again"
        }
        PriorOutcome::New => {
            "was not processed yet, and will be once it is settled (closed by its writer, old enough, quiet for long enough)"
        }
        PriorOutcome::Done => {
            "was processed, is unchanged since, and is kept: nothing more is done"
        }
        PriorOutcome::MetadataChanged => {
            "was processed, and its permissions, owner or links changed since: its content is compared, and published again only if that changed"
        }
        PriorOutcome::RetryDispose => "was processed; only its disposal is repeated",
        PriorOutcome::InQuarantine => {
            "is in quarantine, in its place: it is processed again when it changes, or by `tidemill requeue`"
        }
        PriorOutcome::RetryQuarantine => "is about to be moved to quarantine",
        PriorOutcome::Skipped => "is left: its output's name was taken",
        PriorOutcome::Unfinished => {
            "is being published, or waits for the next start to finish that"
        }
        PriorOutcome::RolledBack => {
            "is in an earlier state than the one that was processed, and is about to be quarantined"
        }
    };
    let waits = match known_now {
        PriorOutcome::New => left_alone::waits_for(config, &seen),
        _ => None,
    };
    let waits = waits.map(|why| format!("; {why}")).unwrap_or_default();
    format!("{will}{waits}{was}")
}

fn past(roots: &PipelineDirs, record: &Record) -> String {
    let time = time(record);
    let mut text = format!("record {} of {time}: {}", record.id, record.state);
    if let Some(output) = &record.output {
        text += &format!(" as {}", display_path(&roots.output.join(&output.path)));
    }
    if let Some(moved_to) = &record.moved_to {
        text += &format!(", now {}", display_path(moved_to));
    }
    if let Some(reason) = &record.reason {
        text += &format!(": {reason}");
    }
    text
}

/// What has become of a published output, and whether the transforms that made it are those of today.
fn present(roots: &PipelineDirs, config: Option<&Pipeline>, record: &Record) -> String {
    let is_published = matches!(record.state, State::Published | State::Done | State::Changed);
    let Some(output) = record.output.as_ref().filter(|_| is_published) else {
        return String::new();
    };
    let (parent, name) = fs::split(&output.path);
    let looked = Dir::open(&roots.output).and_then(|root| root.open_beneath(parent)).and_then(
        |dir| match dir.stat(Path::new(name))? {
            None => Ok("which is not there any more"),
            Some(seen) if is_as_published(output, &seen, &dir)? => Ok("which is there, unchanged"),
            Some(_) => Ok("which was changed or replaced since"),
        },
    );
    let mut text = match looked {
        Ok(found) => format!(", {found}"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ", which is not there any more".to_owned()
        }
        Err(error) => format!(", which cannot be looked at ({error})"),
    };
    if let Some(config) = config.filter(|config| has_other_transforms(record, Some(config))) {
        text += &format!(
            "; it was made by `{}`, and the transforms are `{}` now: `tidemill reprocess` makes it again",
            output.transforms, config.transforms
        );
    }
    text
}
