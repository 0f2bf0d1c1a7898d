//! The records and the rules that apply to one file, and the next action on it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{cause, ignore_reason, open_input, pages, reprocess::has_other_transforms, time};
use crate::{
    config::Pipeline,
    fingerprint::Fingerprint,
    fs::{self, FileMetadata, Kind},
    ledger::{self, HistoryQuery, Ledger, PipelineDirs, Record, State},
    observe::{display_path, units::size},
    protocol::{
        prior_outcome::{PriorOutcome, classify, find_record, known_identity},
        side_file,
    },
    sink::{self, Remains, SinkOptions},
    source::{self, Source},
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
    // Nothing is taken, so the ledger's instance does not matter.
    let has_it =
        |pipeline: &&Pipeline| matches!(look(&pipeline.input, "", &path), Ok((_, Some(_))));
    let found = pipelines.iter().find(has_it).or(pipelines.first());
    found.map_or_else(|| path.clone(), |pipeline| pipeline.input.join(&path))
}

/// Opens an input and looks at a path below it.
fn look(
    input: &Path,
    instance: &str,
    path: &Path,
) -> source::Result<(Arc<dyn Source>, Option<FileMetadata>)> {
    let input = open_input(input, instance)?;
    let seen = input.stat_beneath(path)?;
    Ok((input, seen))
}

/// The answer about one path: its state, and facts in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    pub state: String,
    /// Labels of at most ten letters, and their facts.
    pub facts: Vec<(&'static str, String)>,
    /// What happens to the file, or what to do; shown last.
    pub next: Option<String>,
    /// The pipeline whose intake the file waits for; none where it does not wait.
    pub waits_in: Option<String>,
}

impl Explanation {
    fn new(state: impl Into<String>) -> Self {
        Self { state: state.into(), ..Self::default() }
    }

    /// Adds one fact.
    #[must_use]
    pub fn with(mut self, label: &'static str, fact: impl Into<String>) -> Self {
        self.facts.push((label, fact.into()));
        self
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    fn and(mut self, facts: Vec<(&'static str, String)>) -> Self {
        self.facts.extend(facts);
        self
    }
}

/// The state ends a sentence that begins with the path; each fact is a line below it.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)?;
        let next = self.next.iter().map(|next| ("next", next));
        for (label, fact) in self.facts.iter().map(|(label, fact)| (*label, fact)).chain(next) {
            write!(f, "\n  {:<12}{fact}", format!("{label}:"))?;
        }
        Ok(())
    }
}

/// Explains this path, which is absolute. Only directories of `roots` are looked at.
pub fn describe(
    ledger: &dyn Ledger,
    (roots, pipelines): (&[PipelineDirs], &[Pipeline]),
    path: &Path,
) -> ledger::Result<Explanation> {
    if let Some(moved) = moved(ledger, roots, path)? {
        return Ok(moved);
    }
    for root in roots {
        if path == root.input || path == root.output {
            let role = if path == root.input { "input" } else { "output" };
            return Ok(Explanation::new(format!(
                "is a directory, the {role} of pipeline {}",
                root.name
            ))
            .next("name a file in it"));
        }
        if let Ok(source) = path.strip_prefix(&root.input) {
            let looked = look(&root.input, ledger.instance(), source);
            let seen = looked.as_ref().ok().and_then(|(_, seen)| seen.as_ref());
            let found = seen.map_or(Fingerprint::NONE, |seen| seen.identity);
            let record = find_record(ledger, ledger.latest(root.id, source)?, &found)?;
            let config = pipelines.iter().find(|pipeline| pipeline.input == root.input);
            return Ok(as_source(ledger, root, (config, source), looked, record.as_ref()));
        }
    }
    for root in roots {
        if let Ok(output) = path.strip_prefix(&root.output) {
            let record = ledger.latest_for_output(root.id, output)?;
            if record.is_none()
                && let Some(of) = side_file::output_of(output)
                && let Some(record) = ledger.latest_for_output(root.id, &of)?
                && record.output.as_ref().is_some_and(|output| output.sha256.is_some())
            {
                let explanation = Explanation::new("is the checksum file of an output");
                let of = display_path(&root.output.join(of)).to_string();
                return Ok(explanation.with("output", of).with("record", when(&record)));
            }
            return Ok(as_output(root, output, record.as_ref()));
        }
    }
    let inputs: Vec<_> = roots.iter().map(|root| display_path(&root.input).to_string()).collect();
    let answer = Explanation::new("is in no input and no output of this service");
    Ok(answer.with("inputs", inputs.join(", ")))
}

/// A file in quarantine, by its present path.
fn moved(
    ledger: &dyn Ledger,
    roots: &[PipelineDirs],
    path: &Path,
) -> ledger::Result<Option<Explanation>> {
    let query = HistoryQuery { state: Some(State::Quarantined), ..Default::default() };
    let here = |record: &Record| {
        record.moved_to.as_deref() == Some(path)
            && roots.iter().any(|roots| roots.id == record.pipeline)
    };
    let mut found = None;
    for records in pages(ledger, query) {
        found = records?.into_iter().find(here);
        if found.is_some() {
            break;
        }
    }
    Ok(found.map(|record| {
        let of = roots.iter().find(|roots| roots.id == record.pipeline);
        let source = of.map_or_else(|| record.source.clone(), |of| of.input.join(&record.source));
        let reason =
            of.and_then(|of| cause(&record, of)).map_or_else(String::new, |cause| cause.text);
        let code = reason_code(&record).map_or_else(String::new, |(_, code)| code);
        Explanation::new("is in quarantine")
            .with("source", display_path(&source).to_string())
            .with("record", when(&record))
            .with("reason", reason)
            .with("code", code)
            .next("`tidemill requeue` puts it back to the intake")
    }))
}

fn as_output(roots: &PipelineDirs, output: &Path, record: Option<&Record>) -> Explanation {
    let (_, name) = fs::split(output);
    if fs::is_internal_name(name) {
        return Explanation::new("is a temporary file of the service, not published yet");
    }
    let Some(record) = record else {
        return Explanation::new("was not published by this service");
    };
    let source = display_path(&roots.input.join(&record.source)).to_string();
    let is_published = matches!(record.state, State::Published | State::Done | State::Changed);
    let state = if is_published { "was published" } else { "is being published" };
    Explanation::new(state)
        .with("source", source)
        .with("record", when(record))
        .and(conversion(record))
}

fn as_source(
    ledger: &dyn Ledger,
    roots: &PipelineDirs,
    (config, source): (Option<&Pipeline>, &Path),
    looked: source::Result<(Arc<dyn Source>, Option<FileMetadata>)>,
    record: Option<&Record>,
) -> Explanation {
    let past = record.map(|record| past(roots, config, record)).unwrap_or_default();
    let (input, seen) = match looked {
        Ok((input, Some(seen))) => (input, seen),
        Ok((_, None)) => return Explanation::new("does not exist").and(past),
        Err(error) => {
            return Explanation::new(format!("cannot be read: {}", error.source)).and(past);
        }
    };
    if seen.kind == Kind::Directory {
        return Explanation::new("is a directory").next("name a file in it").and(past);
    }
    if let Some(why) = ignore_reason::of(config, &*input, source, &seen) {
        return Explanation::new(format!("is ignored: {why}")).and(past);
    }
    let on_success = config.map(|config| config.on_success.clone());
    let on_success = on_success.or_else(|| record.map(|record| record.on_success.clone()));
    let on_success = on_success.unwrap_or(crate::policy::OnSuccess::Keep);
    let born_ns = || input.born_ns(source).ok()?;
    let found = known_identity(record, seen.identity, input.may_renumber());
    let outcome = classify(ledger, record, &found, &on_success, born_ns);
    let (state, next) = state_and_next(outcome, record.is_some());
    let is_other = |record: &Record| !seen.identity.matches_content(&record.identity);
    let (state, next) = match (outcome, record) {
        (PriorOutcome::Unfinished, Some(record)) if is_other(record) => (
            "waits for the output of the file before it under this name",
            "that is finished now, or by the next start of the service",
        ),
        _ => (state, next),
    };
    let mut explanation = Explanation::new(state).and(past);
    if outcome == PriorOutcome::New {
        explanation.waits_in = Some(roots.name.clone());
        if let Some(why) = ignore_reason::waits_for(config, &*input, &seen) {
            explanation = explanation.with("waits", why);
        }
    }
    explanation.next(next)
}

/// The state of a source that the intake takes, and the next action on it.
const fn state_and_next(outcome: PriorOutcome, has_record: bool) -> (&'static str, &'static str) {
    match outcome {
        PriorOutcome::New if has_record => {
            ("changed since it was processed, or was requeued", "it is processed again")
        }
        PriorOutcome::New => ("was not processed yet", "it is processed once it is settled"),
        PriorOutcome::Done => (
            "was processed, is unchanged since, and is kept",
            "it is processed again when its content changes, or by `tidemill reprocess`",
        ),
        PriorOutcome::MetadataChanged => (
            "was processed, and its permissions, owner or links changed since",
            "its content is compared, and published again only if that changed",
        ),
        PriorOutcome::RetryDispose => ("was processed", "only its disposal is repeated"),
        PriorOutcome::InQuarantine => (
            "is in quarantine, and stays in the input",
            "fix the reason, then `tidemill requeue` it; it is also processed again when it changes",
        ),
        PriorOutcome::RetryQuarantine => ("failed", "it is moved to quarantine"),
        PriorOutcome::Skipped => (
            "was skipped: its output's name was taken, and `on_exists` is \"skip\"",
            "`tidemill reprocess` it when that name is free",
        ),
        PriorOutcome::Unfinished => {
            ("is being published", "it is finished now, or by the next start")
        }
        PriorOutcome::RolledBack => {
            ("is in an earlier state than the one that was processed", "it is moved to quarantine")
        }
    }
}

fn when(record: &Record) -> String {
    format!("{} at {} (number {})", record.state, time(record), record.id)
}

fn reason_code(record: &Record) -> Option<(&'static str, String)> {
    record.reason.as_ref().map(|reason| ("code", reason.code.to_string()))
}

/// The facts of a record: its state and time, the output, the sizes, the transforms and the reason.
fn past(
    roots: &PipelineDirs,
    config: Option<&Pipeline>,
    record: &Record,
) -> Vec<(&'static str, String)> {
    let mut facts = vec![("record", when(record))];
    if let Some(output) = &record.output {
        let path = display_path(&roots.output.join(&output.path)).to_string();
        facts.push(("output", format!("{path}{}", output_state(roots, record))));
        facts.extend(conversion(record));
    }
    if let Some(moved_to) = &record.moved_to {
        facts.push(("moved to", display_path(moved_to).to_string()));
    }
    facts.extend(cause(record, roots).map(|cause| ("reason", cause.text)));
    facts.extend(reason_code(record));
    if let Some(config) = config.filter(|config| has_other_transforms(record, Some(config))) {
        let made_by = record.output.as_ref().map_or("", |output| output.transforms.as_str());
        facts.push((
            "outdated",
            format!(
                "it was made by `{made_by}`, and the transforms are `{}` now: `tidemill reprocess` makes it again",
                config.transforms.recorded()
            ),
        ));
    }
    facts
}

/// The sizes before and after, and the transforms in between.
fn conversion(record: &Record) -> Vec<(&'static str, String)> {
    let Some(output) = &record.output else { return Vec::new() };
    let (before, after) = (record.identity.size, output.identity.size);
    let mut facts = vec![("size", format!("{} → {}", size(before), size(after)))];
    if !output.transforms.is_empty() {
        facts.push(("transforms", output.transforms.clone()));
    }
    facts
}

/// Whether a published output still exists as it was published.
fn output_state(roots: &PipelineDirs, record: &Record) -> String {
    let is_published = matches!(record.state, State::Published | State::Done | State::Changed);
    let Some(output) = record.output.as_ref().filter(|_| is_published) else {
        return String::new();
    };
    // Nothing is staged or swept, so the ledger's instance does not matter.
    let looked = sink::open(SinkOptions::offline(&roots.name, &roots.output, ""))
        .and_then(|sink| sink.inspect(output).map_err(|error| error.source));
    match looked {
        Ok(Remains { published: None, .. }) => ", does not exist any more".to_owned(),
        Ok(remains) if remains.is_published(output) => ", exists, unchanged".to_owned(),
        Ok(_) => ", was changed or replaced since".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ", does not exist any more".to_owned()
        }
        Err(error) => format!(", cannot be read: {error}"),
    }
}
