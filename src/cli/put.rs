//! `tidemill put`: a producer's half, for programs that cannot write under another name first.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    BadValue,
    args::Put,
    complain, print,
    state_dir::{StateDir, locate},
};
use crate::{
    config::{self, Options, Pipeline},
    error::{self, Exit},
    fs,
    ledger::{self, Access, Ledger, PipelineDirs, Record, RecordId, State},
    limits,
    observe::display_path,
    queries::{self, configured_first, delivered, explain},
    source::local::delivery::{self, Delivered, DeliveryError, Original},
};

pub fn put(options: &Put) -> anyhow::Result<Exit> {
    if options.name.is_some() && options.files.len() > 1 {
        bail!(BadValue("--name", anyhow::anyhow!("it names one file, and there are several")));
    }
    let timeout = config::duration(&options.timeout).with_context(|| {
        BadValue("--timeout", anyhow::anyhow!("`{}` is no duration (`60s`)", options.timeout))
    })?;
    let directory = directory(options)?;
    let outcomes = options.wait.then(|| Outcomes::open(options, &directory)).transpose()?;
    let original = if options.moves { Original::Remove } else { Original::Keep };
    let mut exit = Exit::Success;
    let mut put = Vec::new();
    for file in &options.files {
        let name = options.name.as_deref().or_else(|| file.file_name()).unwrap_or_default();
        let before = outcomes.as_ref().map(|all| all.newest(&directory.join(name))).transpose()?;
        match deliver(file, &directory, options.name.as_deref(), original) {
            Ok((path, delivered)) => put.push((path, delivered, before.flatten())),
            Err(error) => {
                let failed = exit_of(&error);
                exit = complain(&format!("error: {}", error::chain(&error)), failed);
            }
        }
    }
    let deadline = Instant::now() + timeout;
    for (path, delivered, before) in &put {
        let Some(outcomes) = &outcomes else { break };
        let ended = outcomes.wait(path, delivered, (*before, deadline))?;
        exit = if exit == Exit::Success { ended } else { exit };
    }
    Ok(exit)
}

fn exit_of(error: &DeliveryError) -> Exit {
    match error {
        DeliveryError::NameTaken(_) => Exit::NameTaken,
        DeliveryError::BeingWritten(_) => Exit::WorkLeft,
        DeliveryError::NotAFile(_) => Exit::Usage,
        DeliveryError::Io { .. } => Exit::Storage,
    }
}

/// Delivers one file. Returns its path in the input and its identity there.
fn deliver(
    file: &Path,
    directory: &Path,
    name: Option<&OsStr>,
    original: Original,
) -> Result<(PathBuf, Delivered), DeliveryError> {
    let name = name.or_else(|| file.file_name());
    let name = name.ok_or_else(|| DeliveryError::NotAFile(file.to_path_buf()))?;
    // A copy is made of the file that a link leads to; a link itself is not moved.
    let real = match original {
        Original::Keep => file.canonicalize().ok(),
        Original::Remove => None,
    };
    let file = real.as_deref().unwrap_or(file);
    let delivered = delivery::deliver(file, directory, name, original)?;
    Ok((directory.join(name), delivered))
}

/// Returns the directory of the request, with its links resolved.
fn directory(options: &Put) -> anyhow::Result<PathBuf> {
    if let Some(name) = &options.name
        && (Path::new(name).file_name() != Some(name) || fs::is_internal_name(name))
    {
        bail!(BadValue(
            "--name",
            anyhow::anyhow!("it is a name without `/`, and not `.tidemill…`")
        ));
    }
    let directory = match &options.pipeline {
        Some(name) => input_of(options, name)?,
        None => options.to.clone().unwrap_or_default(),
    };
    directory.canonicalize().with_context(|| format!("cannot open {}", display_path(&directory)))
}

/// Returns the input of a pipeline of the configuration, which is that of the service's last start by default.
fn input_of(options: &Put, name: &str) -> anyhow::Result<PathBuf> {
    let file = match &options.service.config {
        Some(file) => file.clone(),
        None => locate(&options.service, None)?.config(),
    };
    let pipelines = pipelines(&file)?;
    let found = pipelines.iter().find(|pipeline| *pipeline.name == *name);
    let Some(found) = found else {
        let names: Vec<_> = pipelines.iter().map(|pipeline| &*pipeline.name).collect();
        bail!(BadValue(
            "--pipeline",
            anyhow::anyhow!("no pipeline `{name}`; pipelines: {}", names.join(", "))
        ));
    };
    Ok(found.input.clone())
}

fn pipelines(file: &Path) -> anyhow::Result<Vec<Pipeline>> {
    let options = Options { config: Some(file.to_path_buf()), ..Options::default() };
    let config = config::resolve(&options).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    Ok(config.pipelines)
}

/// The outcomes of a service, from its ledger.
#[derive(Debug)]
struct Outcomes {
    state: StateDir,
    ledger: Arc<dyn Ledger>,
    pipelines: Vec<Pipeline>,
    roots: Vec<PipelineDirs>,
}

impl Outcomes {
    fn open(options: &Put, directory: &Path) -> anyhow::Result<Self> {
        let state = locate(&options.service, Some(directory))
            .context("--wait reads the ledger; without it the file is put all the same")?;
        let ledger = ledger::open(&state.ledger(), Access::Reading)?;
        let pipelines = pipelines(&state.config()).unwrap_or_default();
        let roots = configured_first(&*ledger, &pipelines)?;
        if delivered::pipeline_of(&roots, &directory.join("file")).is_none() {
            bail!(
                "{} is in no input of the service with the state in {}",
                display_path(directory),
                display_path(state.dir())
            );
        }
        Ok(Self { state, ledger, pipelines, roots })
    }

    /// Returns the newest record of a path.
    fn newest(&self, path: &Path) -> ledger::Result<Option<RecordId>> {
        let Some((dirs, source)) = delivered::pipeline_of(&self.roots, path) else {
            return Ok(None);
        };
        Ok(self.ledger.latest(dirs.id, source)?.map(|record| record.id))
    }

    /// Waits for the outcome of a delivered file, and prints it. `before` was the newest record of its path.
    fn wait(
        &self,
        path: &Path,
        delivered: &Delivered,
        (before, deadline): (Option<RecordId>, Instant),
    ) -> anyhow::Result<Exit> {
        let shown = display_path(path);
        let Some((dirs, source)) = delivered::pipeline_of(&self.roots, path) else {
            return Ok(Exit::WorkLeft);
        };
        let after = before.filter(|_| !delivered.was_there);
        loop {
            let is_running = self.state.holder().is_some();
            let found =
                delivered::outcome(&*self.ledger, dirs, source, &delivered.identity, after)?;
            if let Some(record) = found {
                return Ok(report(&record, dirs, path));
            }
            if !is_running {
                let text =
                    format!("{shown}: no service is running; the file is durable in the input");
                return Ok(complain(&text, Exit::WorkLeft));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                let roots = (&*self.roots, &*self.pipelines);
                let explanation = explain::describe(&*self.ledger, roots, path)?;
                let text = format!("{shown}: not finished yet; it {explanation}");
                return Ok(complain(&text, Exit::WorkLeft));
            }
            thread::park_timeout(limits::OUTCOME_POLL_INTERVAL.min(left));
        }
    }
}

/// Prints the outcome of a delivered file.
fn report(record: &Record, dirs: &PipelineDirs, path: &Path) -> Exit {
    let shown = display_path(path);
    let cause = queries::cause(record, dirs).map(|cause| format!(": {}", cause.text));
    let cause = cause.unwrap_or_default();
    match (record.state, &record.output) {
        (State::Quarantined, _) => {
            complain(&format!("{shown}: quarantined{cause}"), Exit::Quarantined)
        }
        (State::Skipped, _) | (_, None) => {
            complain(&format!("{shown}: skipped{cause}"), Exit::NameTaken)
        }
        (_, Some(output)) => {
            let output = dirs.output.join(&output.path);
            print(&format!("{shown}: published as {}\n", display_path(&output)));
            Exit::Success
        }
    }
}
