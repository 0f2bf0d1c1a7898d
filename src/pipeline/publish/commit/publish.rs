//! The second part of a group commit: intents and final names.

use std::{collections::HashSet, ffi::OsString, path::PathBuf, sync::Arc, thread, time::Instant};

use super::{
    Sealed,
    acknowledge::Named,
    attributes,
    naming::{self, Naming},
    source_name,
};
use crate::{
    failpoint,
    fs::{self, Replace},
    ledger::{self, ErrorKind, Ledger, Output, Record, Replaced, State, When},
    limits,
    observe::{SyncKind, shown},
    pipeline::{
        acknowledge,
        clock::Clock,
        context::Context,
        failure::{CommitError, Failure},
        fatal::Fatal,
        job::{Committed, Disposable, Job, Outcome, Staged},
        marks::Mark,
        stage::{Inlet, Outlet, Panics},
    },
    policy::Durability,
    stages::Stage,
};

/// A staged output with its intent.
#[derive(Debug)]
pub(super) struct Intended {
    pub(super) staged: Staged,
    record: Record,
    replace: Replace,
}

/// The publishing thread.
#[derive(Debug)]
pub struct Publisher {
    pub panics: Panics,
    pub fatal: Fatal,
    /// What has its final names goes on to be made durable.
    pub named: Outlet<Vec<Named>>,
    /// What needs no name, or failed, goes to dispose.
    pub ended: Outlet<Disposable>,
}

impl Publisher {
    /// Publishes what is sealed, batch by batch, until there is no more.
    pub fn run(self, inlet: &Inlet<Sealed>) {
        while let Some(Sealed(files)) = inlet.receive() {
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
    fn intend(&self, files: Vec<Staged>) -> (Vec<Intended>, Vec<Staged>) {
        let mut intended = Vec::with_capacity(files.len());
        let mut again = Vec::new();
        for mut staged in files.into_iter().filter_map(source_name::still_named) {
            match naming::name(&staged) {
                Ok(Naming::Free | Naming::Beside) => intended.push(Intended::new(staged, None)),
                Ok(Naming::Replace(found)) => intended.push(Intended::new(staged, Some(found))),
                Ok(Naming::Suffixed(path)) => {
                    staged.output = path;
                    again.push(staged);
                }
                Ok(Naming::Unchanged(identity)) => {
                    // The temp goes, and a power loss may bring it back: no record speaks for it.
                    let temp = OsString::new();
                    let output = Output { temp, identity, ..output(&staged, None) };
                    self.leave(staged, output, "the output is unchanged");
                }
                Ok(Naming::Processed(output)) => {
                    self.leave(staged, output, "the same content was processed before");
                }
                Ok(Naming::Skip) => self.skip(staged),
                Ok(Naming::Taken(policy)) => {
                    let path = output_path(&staged);
                    self.fail(staged, CommitError::NameTaken { path, policy });
                }
                Err(failure) => self.fail(staged, failure),
            }
        }
        (intended, again)
    }

    /// Steps 4 and 5 of the protocol. Gives back what found its name taken at the last moment.
    fn publish_round(
        &self,
        files: Vec<Intended>,
        clock: &mut Clock,
    ) -> Result<Vec<Staged>, Failure> {
        let mut files = self.drop_moved(files);
        if files.is_empty() {
            return Ok(Vec::new());
        }
        match Self::record(&mut files) {
            Err(Failure::Commit(CommitError::Ledger { source, .. }))
                if source.kind != ErrorKind::Failed =>
            {
                self.give_up(files, &source);
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

    /// Step 4: the intents, durable before any of their names appears (C2).
    fn record(files: &mut [Intended]) -> Result<(), Failure> {
        // From here on a temp that is gone means "published", so none may be dropped (C4). Where
        // the ledger fails, nobody knows whether the intents are durable: recovery finds out.
        for file in &mut *files {
            file.staged.temp.protect();
        }
        let Some(first) = files.first() else { return Ok(()) };
        // One transaction: where it fails, none of them is written.
        let at_once = files.iter().any(|file| durability(&file.staged) != Durability::None);
        let when = if at_once { When::Now } else { When::Later };
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
    fn give_up(&self, files: Vec<Intended>, error: &ledger::Error) {
        for Intended { mut staged, .. } in files {
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
    fn withdraw(&self, refused: Vec<(Intended, std::io::Error)>) -> Result<Vec<Staged>, Failure> {
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
        for (Intended { mut staged, .. }, source) in refused {
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
    fn leave(&self, staged: Staged, output: Output, reason: &str) {
        let Intended { staged, mut record, .. } = Intended::new(staged, None);
        let root = staged.job.context.output();
        record.output = Some(attributes::follow(&root, output, &staged.job.seen));
        record.state = State::Published;
        record.reason = Some(reason.to_owned());
        let Staged { job, temp, .. } = staged;
        drop(temp);
        match job.context.ledger.append(std::slice::from_ref(&record), When::Later) {
            Ok(()) => self.ended.send(Disposable::Again(Committed { job, record })),
            Err(source) => {
                let path = job.source_path();
                let failed = job.fail(CommitError::Ledger { path, source });
                self.ended.send(Disposable::Failed(failed));
            }
        }
    }

    fn skip(&self, staged: Staged) {
        let path = output_path(&staged);
        let Intended { staged, mut record, .. } = Intended::new(staged, None);
        record.state = State::Skipped;
        record.reason = Some(format!("{} exists, and the policy is `skip`", shown(&path)));
        let Staged { job, temp, .. } = staged;
        drop(temp);
        let appended = job.context.ledger.append(std::slice::from_ref(&record), When::Later);
        if let Err(source) = appended {
            let failed = job.fail(CommitError::Ledger { path, source });
            return self.ended.send(Disposable::Failed(failed));
        }
        if let Err(source) = acknowledge::ended(&job, &record) {
            self.fatal.set(&CommitError::Acknowledge { source }.into());
        }
        job.end(Outcome::Skipped, 0);
    }

    pub(super) fn fail(&self, staged: Staged, failure: impl Into<Failure>) {
        let Staged { job, temp, .. } = staged;
        drop(temp);
        self.ended.send(Disposable::Failed(job.fail(failure)));
    }
}

impl Intended {
    fn new(staged: Staged, replaces: Option<Replaced>) -> Self {
        let job = &staged.job;
        let output = output(&staged, replaces);
        let record = Record {
            id: job.id,
            pipeline: job.context.id,
            source: job.path.clone(),
            identity: job.seen.identity,
            output: Some(output),
            on_success: job.context.config.on_success.clone(),
            state: State::Intent,
            reason: None,
            moved_to: None,
            at_ns: acknowledge::now_ns(),
        };
        let replace = if replaces.is_some() { Replace::Yes } else { Replace::No };
        Self { staged, record, replace }
    }
}

/// Durably. Until it is done nothing can go on: the temps have intents. Another program's write is
/// waited for, in steps of the ledger's own patience, and space for as long as the service runs: the
/// pipeline pauses.
pub(super) fn withdraw(job: &Job, marks: &[Mark]) -> ledger::Result<()> {
    let Context { ledger, place, .. } = &*job.context;
    let mut tries = 0;
    loop {
        let marked =
            failpoint::hit("commit::withdraw").map_err(ledger::Error::injected).and_then(|()| {
                failpoint::barrier("barrier::withdrawal", || ledger.mark(marks, When::Now))
            });
        tries += 1;
        match marked {
            Err(error) if error.kind == ErrorKind::Full && !job.is_stopping() => {
                let reason = format!("the ledger's disk is full: {}", error.source);
                place.found_sick(&reason, Instant::now());
                thread::park_timeout(limits::BACKOFF);
            }
            Err(error) if error.kind == ErrorKind::Busy && tries < limits::BUSY_TRIES => {
                tracing::warn!(error = %error.source, "ledger locked by another process, waiting");
            }
            marked => return marked,
        }
    }
}

fn is_ledger_full(failure: &Failure) -> bool {
    let Failure::Commit(CommitError::Ledger { source, .. }) = failure else { return false };
    source.kind == ErrorKind::Full
}

fn append(ledger: &dyn Ledger, records: &[Record], when: When) -> ledger::Result<()> {
    let when = if failpoint::leaves_out("barrier::intent_sync") { When::Later } else { when };
    failpoint::barrier("barrier::intent", || ledger.append(records, when))
}

/// Step 5. A refused rename gives the output back.
fn rename(file: Intended) -> Result<Named, Box<(Intended, std::io::Error)>> {
    let Intended { staged, record, replace } = file;
    let (_, name) = fs::split(&staged.output);
    let name = name.to_owned();
    let dir = Arc::clone(staged.temp.dir());
    let Staged { job, temp, identity, content, output, hashes } = staged;
    let renamed = match failpoint::hit("commit::rename") {
        Ok(()) => temp.publish(&name, replace),
        Err(error) => Err((temp, error)),
    };
    match renamed {
        Ok(second) => Ok(Named { committed: Committed { job, record }, dir, second }),
        Err((temp, error)) => {
            let staged = Staged { job, temp, identity, content, output, hashes };
            Err(Box::new((Intended { staged, record, replace }, error)))
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
        steps: staged.job.context.config.steps.to_string(),
    }
}

pub(super) fn output_path(staged: &Staged) -> PathBuf {
    staged.job.context.config.output.join(&staged.output)
}

fn durability(staged: &Staged) -> Durability {
    staged.job.context.config.durability
}

const _: () = assert!(limits::BATCH >= limits::SYNCS, "a batch keeps every syncing thread busy");
