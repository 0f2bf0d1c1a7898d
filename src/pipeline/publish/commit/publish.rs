//! The second part of a group commit: intents and final names.

use std::{collections::HashSet, ffi::OsString, path::PathBuf, sync::Arc, thread, time::Instant};

use super::{
    DurableBatch,
    acknowledge::NamedOutput,
    attributes,
    conflict::{self, Resolution},
    source_name,
};
use crate::{
    failpoint,
    fs::{self, Overwrite},
    ledger::{self, ErrorKind, Flush, Ledger, Output, Record, Replaced, State},
    limits,
    observe::{SyncKind, display_path},
    pipeline::{
        channel::{Inlet, Outlet, Panics},
        clock::Clock,
        context::Context,
        failure::{CommitError, Failure},
        halt::Halt,
        job::{Committed, DisposeRequest, Job, Outcome, Staged},
        outcome,
        state_updates::StateUpdate,
    },
    policy::Durability,
    stage::Stage,
};

/// A staged output with its intent.
#[derive(Debug)]
pub(super) struct Intent {
    pub(super) staged: Staged,
    record: Record,
    replace: Overwrite,
}

/// The publishing thread.
#[derive(Debug)]
pub struct Publisher {
    pub panics: Panics,
    pub fatal: Halt,
    /// What has its final names goes on to be made durable.
    pub named: Outlet<Vec<NamedOutput>>,
    /// What needs no name, or failed, goes to dispose.
    pub ended: Outlet<DisposeRequest>,
}

impl Publisher {
    /// Publishes what is sealed, batch by batch, until there is no more.
    pub fn run(self, inlet: &Inlet<DurableBatch>) {
        while let Some(DurableBatch(files)) = inlet.receive() {
            let Some(first) = files.first() else { continue };
            let (meter, count) = (&first.job.context.meter, files.len());
            meter.batch(count);
            let mut clock = Clock::start(meter, Stage::Commit);
            self.panics.guard(|| self.publish(files, &mut clock));
            clock.stop(count);
        }
    }

    /// One batch. Two outputs of one name are published one after the other, so that the policy
    /// decides about the second.
    fn publish(&self, mut files: Vec<Staged>, clock: &mut Clock) {
        while !files.is_empty() && !self.fatal.is_set() {
            let mut names = HashSet::new();
            let (round, later): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|staged| names.insert(key(staged)));
            let (intended, mut again) = self.intend(round);
            match self.publish_round(intended, clock) {
                Ok(taken) => again.extend(taken),
                // The stop came before there was space: recovery finds the intents.
                Err(failure) if is_ledger_full(&failure) => {}
                Err(failure) => self.fatal.set(&failure),
            }
            files = later;
            files.extend(again);
        }
    }

    /// Decides each name. Gives the outputs to be published, and those to be looked at again.
    fn intend(&self, files: Vec<Staged>) -> (Vec<Intent>, Vec<Staged>) {
        let mut intended = Vec::with_capacity(files.len());
        let mut again = Vec::new();
        for mut staged in files.into_iter().filter_map(source_name::still_named) {
            match conflict::name(&staged) {
                Ok(Resolution::Free | Resolution::Beside) => {
                    intended.push(Intent::new(staged, None));
                }
                Ok(Resolution::Replace(found)) => intended.push(Intent::new(staged, Some(found))),
                Ok(Resolution::Suffixed(path)) => {
                    staged.output = path;
                    again.push(staged);
                }
                Ok(Resolution::Unchanged(identity)) => {
                    // The temp goes, and a power loss may bring it back: no record speaks for it.
                    let temp = OsString::new();
                    let output = Output { temp, identity, ..output(&staged, None) };
                    self.record_unchanged(staged, output, "the output is unchanged");
                }
                Ok(Resolution::Processed(output)) => {
                    self.record_unchanged(staged, output, "the same content was processed before");
                }
                Ok(Resolution::Skip) => self.skip(staged),
                Ok(Resolution::Conflict(policy)) => {
                    let path = output_path(&staged);
                    self.fail(staged, CommitError::NameTaken { path, policy });
                }
                Err(failure) => self.fail(staged, failure),
            }
        }
        (intended, again)
    }

    /// Steps 4 and 5 of the protocol. Gives back what found its name taken at the last moment.
    fn publish_round(&self, files: Vec<Intent>, clock: &mut Clock) -> Result<Vec<Staged>, Failure> {
        let mut files = self.drop_moved(files);
        if files.is_empty() {
            return Ok(Vec::new());
        }
        match Self::record(&mut files) {
            Err(Failure::Commit(CommitError::Ledger { source, .. }))
                if source.kind != ErrorKind::Failed =>
            {
                self.abandon(files, &source);
                return Ok(Vec::new());
            }
            result => result?,
        }
        failpoint::pass("commit::intended");
        let mut again = Vec::new();
        let mut named = Vec::with_capacity(files.len());
        let mut refused = Vec::new();
        for file in files {
            match rename(file) {
                Ok(record) => named.push(record),
                Err(back) => refused.push(*back),
            }
        }
        if !refused.is_empty() {
            again = self.withdraw(refused)?;
        }
        failpoint::pass("commit::renamed");
        let named = self.take_back_moved(named)?;
        if !named.is_empty() {
            clock.wait(|| self.named.send(named));
        }
        Ok(again)
    }

    /// Transform 4: the intents, durable before any of their names appears (C2).
    fn record(files: &mut [Intent]) -> Result<(), Failure> {
        // From here on a temp that is gone means "published", so none may be dropped (C4). Where
        // the ledger fails, nobody knows whether the intents are durable: recovery finds out.
        for file in &mut *files {
            file.staged.temp.protect();
        }
        let Some(first) = files.first() else { return Ok(()) };
        // One transaction: where it fails, none of them is written.
        let at_once = files.iter().any(|file| durability(&file.staged) != Durability::None);
        let when = if at_once { Flush::Now } else { Flush::Deferred };
        let records: Vec<Record> = files.iter().map(|file| file.record.clone()).collect();
        let ledger = &first.staged.job.context.ledger;
        let start = Instant::now();
        failpoint::hit("commit::intent")
            .map_err(ledger::Error::injected)
            .and_then(|()| append(&**ledger, &records, when))
            .map_err(|source| CommitError::Ledger { path: output_path(&first.staged), source })?;
        first.staged.job.context.meter.sync(SyncKind::Ledger, start.elapsed());
        Ok(())
    }

    /// The intents are known not to be written: the temps may go.
    fn abandon(&self, files: Vec<Intent>, error: &ledger::Error) {
        for Intent { mut staged, .. } in files {
            staged.temp.unprotect();
            let path = output_path(&staged);
            let failure = match error.kind {
                ErrorKind::Full => CommitError::LedgerFull { path },
                ErrorKind::Busy | ErrorKind::Failed => CommitError::LedgerBusy { path },
            };
            self.fail(staged, failure);
        }
    }

    /// C4: the intents are withdrawn first, then the temps may go. A name that was taken at the
    /// last moment is decided about again; another error of the rename is the job's failure.
    fn withdraw(&self, refused: Vec<(Intent, std::io::Error)>) -> Result<Vec<Staged>, Failure> {
        let Some((first, _)) = refused.first() else {
            return Ok(Vec::new());
        };
        let marks: Vec<_> = refused
            .iter()
            .map(|(file, error)| (file.record.id, State::Withdrawn, Some(error.to_string())))
            .collect();
        let path = output_path(&first.staged);
        withdraw(&first.staged.job, &marks)
            .map_err(|source| CommitError::Ledger { path, source })?;
        let mut again = Vec::new();
        for (Intent { mut staged, .. }, source) in refused {
            staged.temp.unprotect();
            if source.kind() == std::io::ErrorKind::AlreadyExists {
                again.push(staged);
            } else {
                let path = output_path(&staged);
                self.fail(staged, CommitError::Rename { path, source });
            }
        }
        Ok(again)
    }

    /// Nothing is to be published: the source counts as done under its new identity.
    fn record_unchanged(&self, staged: Staged, output: Output, reason: &str) {
        let Intent { staged, mut record, .. } = Intent::new(staged, None);
        let root = staged.job.context.output();
        record.output = Some(attributes::follow(&root, output, &staged.job.metadata));
        record.state = State::Published;
        record.reason = Some(reason.to_owned());
        let Staged { job, temp, .. } = staged;
        drop(temp);
        match job.context.ledger.append(std::slice::from_ref(&record), Flush::Deferred) {
            Ok(()) => self.ended.send(DisposeRequest::Again(Committed { job, record })),
            Err(source) => {
                let path = job.source_path();
                let failed = job.fail(CommitError::Ledger { path, source });
                self.ended.send(DisposeRequest::Failed(failed));
            }
        }
    }

    fn skip(&self, staged: Staged) {
        let path = output_path(&staged);
        let Intent { staged, mut record, .. } = Intent::new(staged, None);
        record.state = State::Skipped;
        record.reason = Some(format!("{} exists, and the policy is `skip`", display_path(&path)));
        let Staged { job, temp, .. } = staged;
        drop(temp);
        let appended = job.context.ledger.append(std::slice::from_ref(&record), Flush::Deferred);
        if let Err(source) = appended {
            let failed = job.fail(CommitError::Ledger { path, source });
            return self.ended.send(DisposeRequest::Failed(failed));
        }
        if let Err(source) = outcome::report_unpublished(&job, &record) {
            self.fatal.set(&CommitError::Acknowledge { source }.into());
        }
        job.end(Outcome::Skipped, 0);
    }

    pub(super) fn fail(&self, staged: Staged, failure: impl Into<Failure>) {
        let Staged { job, temp, .. } = staged;
        drop(temp);
        self.ended.send(DisposeRequest::Failed(job.fail(failure)));
    }
}

impl Intent {
    fn new(staged: Staged, replaces: Option<Replaced>) -> Self {
        let job = &staged.job;
        let output = output(&staged, replaces);
        let record = Record {
            id: job.id,
            pipeline: job.context.id,
            source: job.path.clone(),
            identity: job.metadata.identity,
            output: Some(output),
            on_success: job.context.config.on_success.clone(),
            state: State::Intent,
            reason: None,
            moved_to: None,
            at_ns: outcome::now_ns(),
        };
        let replace = if replaces.is_some() { Overwrite::Allow } else { Overwrite::Never };
        Self { staged, record, replace }
    }
}

/// Durably. Until it is done nothing can go on: the temps have intents. Another program's write is
/// waited for, in steps of the ledger's own patience, and space for as long as the service runs: the
/// pipeline pauses.
pub(super) fn withdraw(job: &Job, marks: &[StateUpdate]) -> ledger::Result<()> {
    let Context { ledger, breaker, .. } = &*job.context;
    let mut tries = 0;
    loop {
        let marked =
            failpoint::hit("commit::withdraw").map_err(ledger::Error::injected).and_then(|()| {
                failpoint::barrier("barrier::withdrawal", || ledger.mark(marks, Flush::Now))
            });
        tries += 1;
        match marked {
            Err(error) if error.kind == ErrorKind::Full && !job.is_stopping() => {
                let reason = format!("the ledger's disk is full: {}", error.source);
                breaker.trip(&reason, Instant::now());
                thread::park_timeout(limits::BACKOFF);
            }
            Err(error)
                if error.kind == ErrorKind::Busy && tries < limits::LEDGER_BUSY_ATTEMPTS_MAX =>
            {
                tracing::warn!(event = "ledger.unavailable", error = %error.source, "ledger locked by another process, waiting");
            }
            marked => return marked,
        }
    }
}

fn is_ledger_full(failure: &Failure) -> bool {
    let Failure::Commit(CommitError::Ledger { source, .. }) = failure else { return false };
    source.kind == ErrorKind::Full
}

fn append(ledger: &dyn Ledger, records: &[Record], when: Flush) -> ledger::Result<()> {
    let when = if failpoint::is_skipped("barrier::intent_sync") { Flush::Deferred } else { when };
    failpoint::barrier("barrier::intent", || ledger.append(records, when))
}

/// Transform 5. A refused rename gives the output back.
fn rename(file: Intent) -> Result<NamedOutput, Box<(Intent, std::io::Error)>> {
    let Intent { staged, record, replace } = file;
    let (_, name) = fs::split(&staged.output);
    let name = name.to_owned();
    let dir = Arc::clone(staged.temp.dir());
    let Staged { job, temp, identity, content, output, hashes } = staged;
    let renamed = match failpoint::hit("commit::rename") {
        Ok(()) => temp.publish(&name, replace),
        Err(error) => Err((temp, error)),
    };
    match renamed {
        Ok(second) => Ok(NamedOutput { committed: Committed { job, record }, dir, second }),
        Err((temp, error)) => {
            let staged = Staged { job, temp, identity, content, output, hashes };
            Err(Box::new((Intent { staged, record, replace }, error)))
        }
    }
}

fn key(staged: &Staged) -> (usize, PathBuf) {
    (staged.job.context.index, staged.output.clone())
}

fn output(staged: &Staged, replaces: Option<Replaced>) -> Output {
    Output {
        path: staged.output.clone(),
        temp: staged.temp.name().to_owned(),
        identity: staged.identity,
        hash: staged.hashes.output,
        source_hash: staged.hashes.source,
        replaces,
        transforms: staged.job.context.config.transforms.to_string(),
    }
}

pub(super) fn output_path(staged: &Staged) -> PathBuf {
    staged.job.context.config.output.join(&staged.output)
}

fn durability(staged: &Staged) -> Durability {
    staged.job.context.config.durability
}

const _: () = assert!(
    limits::COMMIT_BATCH_FILES_MAX >= limits::SYNC_THREADS,
    "a batch keeps every syncing thread busy"
);
