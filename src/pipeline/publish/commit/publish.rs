//! The second part of a group commit: records the intents and gives the final names.

use std::{collections::HashSet, ffi::OsString, path::Path, sync::Arc, thread, time::Instant};

use super::{
    DurableBatch,
    acknowledge::NamedOutput,
    intent::{Intent, claim_names, output, output_path, publish, side_path},
    side_name, source_name,
};
use crate::{
    failpoint,
    ledger::{self, ErrorKind, Flush, Ledger, Output, Record, State, StateUpdate},
    limits,
    observe::{SyncKind, display_path},
    pipeline::{
        channel::{Inlet, Outlet, Panics},
        clock::Clock,
        context::Context,
        failure::{CommitError, Failure},
        halt::Halt,
        job::{Committed, DisposeRequest, Job, JobEnd, Staged},
        outcome,
    },
    policy::{Durability, OnSuccess},
    protocol::conflict::Resolution,
    reason::{Reason, ReasonCode},
    sink,
    stage::Stage,
};

/// The publish thread.
#[derive(Debug)]
pub struct Publisher {
    /// The pipeline that the stage belongs to.
    pub context: Arc<Context>,
    pub panics: Panics,
    pub fatal: Halt,
    /// Outputs with final names, which [`Acknowledger`](super::acknowledge::Acknowledger) makes
    /// durable.
    pub named: Outlet<Vec<NamedOutput>>,
    /// Outputs that need no name or failed go to dispose.
    pub to_dispose: Outlet<DisposeRequest>,
}

impl Publisher {
    /// Publishes sealed outputs, batch by batch, until the inlet closes.
    pub fn run(self, inlet: &Inlet<DurableBatch>) {
        while let Some(DurableBatch(files)) = inlet.receive() {
            let (meter, count) = (&self.context.meter, files.len());
            meter.batch(count);
            let mut clock = Clock::start(meter, Stage::Commit);
            self.panics.guard(|| self.publish(files, &mut clock));
            clock.stop(count);
        }
    }

    /// Publishes one batch. Two outputs of one name are published one after the other, so that the
    /// policy decides about the second.
    fn publish(&self, mut files: Vec<Staged>, clock: &mut Clock) {
        let mut rounds = 0..limits::NAME_ROUNDS_MAX;
        while !files.is_empty() && !self.fatal.is_set() {
            let mut names = HashSet::new();
            let (round, later): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|staged| claim_names(staged, &mut names));
            let (intents, mut undecided) = self.decide_names(round);
            match self.publish_round(intents, clock) {
                Ok(taken) if rounds.next().is_some() => undecided.extend(taken),
                Ok(taken) => taken.into_iter().for_each(|staged| {
                    let path = output_path(&staged);
                    self.fail(staged, CommitError::Contended { path });
                }),
                // The service stopped before the ledger could be written: recovery finds the intents.
                Err(failure) if is_ledger_usable(&failure) => {
                    self.context.set_unfinished();
                }
                Err(failure) => self.fatal.set(&failure),
            }
            files = later;
            files.extend(undecided);
        }
    }

    /// Decides each name. Returns the outputs to publish, and those whose names must be decided
    /// again.
    fn decide_names(&self, files: Vec<Staged>) -> (Vec<Intent>, Vec<Staged>) {
        let mut intents = Vec::with_capacity(files.len());
        let mut undecided = Vec::new();
        for mut staged in files.into_iter().filter_map(source_name::check_source_name) {
            match side_name::resolve(&mut staged) {
                Ok(Resolution::Free | Resolution::Numbered) => {
                    intents.push(Intent::new(staged, None));
                }
                Ok(Resolution::Replace(found)) => intents.push(Intent::new(staged, Some(found))),
                Ok(Resolution::Suffixed(path)) => {
                    staged.output = path;
                    undecided.push(staged);
                }
                Ok(Resolution::Unchanged(identity)) => {
                    // The temp is removed, and a power loss may bring it back: no record may name
                    // it.
                    let temp = OsString::new();
                    let output = Output { temp, identity, ..output(&staged, None) };
                    self.record_unchanged(
                        staged,
                        output,
                        (ReasonCode::OutputUnchanged, "the output is unchanged"),
                    );
                }
                Ok(Resolution::Processed(output)) => {
                    self.record_unchanged(
                        staged,
                        *output,
                        (ReasonCode::SameContent, "the same content was processed before"),
                    );
                }
                Ok(Resolution::Skip) => {
                    let path = output_path(&staged);
                    self.skip(staged, &path);
                }
                Ok(Resolution::SideSkip) => {
                    let path = side_path(&staged);
                    self.skip(staged, &path);
                }
                Ok(Resolution::SideConflict(policy)) => {
                    let path = side_path(&staged);
                    self.fail(staged, CommitError::NameTaken { path, policy });
                }
                Ok(Resolution::Conflict(policy)) => {
                    let path = output_path(&staged);
                    self.fail(staged, CommitError::NameTaken { path, policy });
                }
                Err(failure) => self.fail(staged, failure),
            }
        }
        (intents, undecided)
    }

    /// Records the intents and renames the outputs. Returns those whose names were just taken.
    fn publish_round(&self, files: Vec<Intent>, clock: &mut Clock) -> Result<Vec<Staged>, Failure> {
        let mut files = self.drop_displaced(files);
        if files.is_empty() {
            return Ok(Vec::new());
        }
        match self.record_intents(&mut files) {
            Err(Failure::Commit(CommitError::Ledger { source, .. }))
                if source.kind != ErrorKind::Failed =>
            {
                self.abandon(files, &source);
                return Ok(Vec::new());
            }
            result => result?,
        }
        failpoint::pass("commit::intended");
        let mut undecided = Vec::new();
        let mut named = Vec::with_capacity(files.len());
        let mut refused = Vec::new();
        for file in files {
            match publish(file) {
                Ok(output) => named.push(output),
                Err(intent) => refused.push(*intent),
            }
        }
        if !refused.is_empty() {
            undecided = self.withdraw(refused)?;
        }
        failpoint::pass("commit::renamed");
        let named = self.withdraw_displaced(named)?;
        if !named.is_empty() {
            clock.wait(|| self.named.send(named));
        }
        Ok(undecided)
    }

    /// Records the intents durably, before any of their names appears (C2).
    fn record_intents(&self, files: &mut [Intent]) -> Result<(), Failure> {
        // From here on a missing temp means "published", so none may be dropped (C4). If the ledger
        // fails, it is unknown whether the intents are durable: recovery finds out.
        for file in &mut *files {
            file.staged.file.protect();
            file.staged.job.begin_intent();
        }
        let Some(first) = files.first() else { return Ok(()) };
        let path = output_path(&first.staged);
        // One transaction: if it fails, no intent is written.
        let is_deferred = self.context.config.keys.durability == Durability::None;
        let when = if is_deferred { Flush::Deferred } else { Flush::Now };
        let records: Vec<Record> = files.iter().map(|file| file.record.clone()).collect();
        let Context { ledger, meter, .. } = &*self.context;
        let start = Instant::now();
        failpoint::hit("commit::intent")
            .map_err(ledger::Error::injected)
            .and_then(|()| append_intents(&**ledger, &records, when))
            .map_err(|source| CommitError::Ledger { path, source })?;
        meter.sync(SyncKind::Ledger, start.elapsed());
        Ok(())
    }

    /// Fails jobs whose intents are known not to be written: their temps may be removed.
    fn abandon(&self, files: Vec<Intent>, error: &ledger::Error) {
        for Intent { mut staged, .. } in files {
            staged.file.unprotect();
            staged.job.end_intent();
            let path = output_path(&staged);
            let failure = match error.kind {
                ErrorKind::Full => CommitError::LedgerFull { path },
                ErrorKind::Busy | ErrorKind::Failed => CommitError::LedgerBusy { path },
            };
            self.fail(staged, failure);
        }
    }

    /// C4: withdraws the intents before the temps may be removed. A name that was taken in the last
    /// moment is decided again; any other error of the rename fails the job.
    fn withdraw(&self, refused: Vec<(Intent, sink::Error)>) -> Result<Vec<Staged>, Failure> {
        let Some((first, _)) = refused.first() else {
            return Ok(Vec::new());
        };
        let updates: Vec<_> = refused
            .iter()
            .map(|(file, error)| (file.record.id, State::Withdrawn, Some(refusal(error))))
            .collect();
        let path = output_path(&first.staged);
        for (file, _) in &refused {
            side_name::undo(&file.staged, &file.record);
        }
        let is_stopping = || first.staged.job.is_stopping();
        withdraw(&self.context, &updates, is_stopping)
            .map_err(|source| CommitError::Ledger { path, source })?;
        let mut undecided = Vec::new();
        for (Intent { mut staged, .. }, error) in refused {
            staged.file.unprotect();
            staged.job.end_intent();
            if error.kind == sink::ErrorKind::Taken {
                undecided.push(staged);
            } else {
                self.fail(staged, CommitError::of(error));
            }
        }
        Ok(undecided)
    }

    /// Records that nothing is published: the source counts as done under its new identity.
    fn record_unchanged(&self, staged: Staged, output: Output, (code, text): (ReasonCode, &str)) {
        let Intent { staged, mut record, .. } = Intent::new(staged, None);
        record.output = Some(update_attributes(output, &staged.job));
        record.state = State::Published;
        record.reason = Some(Reason::new(code, text));
        let Staged { job, file, .. } = staged;
        drop(file);
        // Its number is in the private name that the source gets before it is removed.
        let is_kept = record.on_success == OnSuccess::Keep;
        let may_wait = is_kept || failpoint::is_skipped("barrier::unchanged");
        let when = if may_wait { Flush::Deferred } else { Flush::Now };
        match job.context.ledger.append(std::slice::from_ref(&record), when) {
            Ok(()) => self.to_dispose.send(DisposeRequest::Again(Committed { job, record })),
            Err(source) => {
                let path = job.source_path();
                let failed = job.fail(CommitError::Ledger { path, source });
                self.to_dispose.send(DisposeRequest::Failed(failed));
            }
        }
    }

    /// Records that nothing is published, because this path is taken.
    fn skip(&self, staged: Staged, path: &Path) {
        let Intent { staged, mut record, .. } = Intent::new(staged, None);
        record.state = State::Skipped;
        let text = format!("{} exists, and the policy is `skip`", display_path(path));
        record.reason = Some(Reason::new(ReasonCode::NameTaken, text));
        let Staged { job, file, .. } = staged;
        drop(file);
        let appended = job.context.ledger.append(std::slice::from_ref(&record), Flush::Deferred);
        if let Err(source) = appended {
            let failed = job.fail(CommitError::Ledger { path: path.to_path_buf(), source });
            return self.to_dispose.send(DisposeRequest::Failed(failed));
        }
        if let Err(source) = outcome::report_unpublished(&job, &record) {
            self.fatal.set(&CommitError::Acknowledge { source }.into());
        }
        job.end(JobEnd::Skipped, 0);
    }

    pub(super) fn fail(&self, staged: Staged, failure: impl Into<Failure>) {
        let Staged { job, file, .. } = staged;
        drop(file);
        self.to_dispose.send(DisposeRequest::Failed(job.fail(failure)));
    }
}

/// The reason of an intent whose rename was refused.
fn refusal(error: &sink::Error) -> Reason {
    let code = if error.kind == sink::ErrorKind::Taken {
        ReasonCode::NameTaken
    } else {
        ReasonCode::OutputError
    };
    Reason::new(code, error.source.to_string())
}

/// Copies attributes of the source that changed after its output was published, and returns the output
/// as it is afterwards. An output that cannot be changed stays as it is; an error is logged.
fn update_attributes(output: Output, job: &Job) -> Output {
    match job.context.sink.update_attributes(&output, job.attributes()) {
        Ok(Some(identity)) => {
            tracing::debug!(event = "file.attributes_copied", pipeline = %job.context.name(), source = %display_path(&job.path), output = %display_path(&output.path), "changed attributes copied to the output");
            Output { identity, ..output }
        }
        Ok(None) => output,
        Err(sink::Error { source: error, .. }) => {
            tracing::warn!(event = "file.attributes_failed", pipeline = %job.context.name(), source = %display_path(&job.path), output = %display_path(&output.path), %error, "cannot copy changed attributes to the output");
            output
        }
    }
}

/// Withdraws intents durably. Nothing can go on before that: the temps have intents. It waits for
/// another program's write and for space as long as the service runs, with the pipeline paused.
pub(super) fn withdraw(
    context: &Context,
    updates: &[StateUpdate],
    is_stopping: impl Fn() -> bool,
) -> ledger::Result<()> {
    let Context { ledger, breaker, .. } = context;
    loop {
        let result =
            failpoint::hit("commit::withdraw").map_err(ledger::Error::injected).and_then(|()| {
                failpoint::barrier("barrier::withdrawal", || ledger.set_states(updates, Flush::Now))
            });
        let (cause, error) = match result {
            Err(error) if is_stopping() => return Err(error),
            Err(error) if error.kind == ErrorKind::Full => ("the ledger's disk is full", error),
            Err(error) if error.kind == ErrorKind::Busy => {
                ("another program writes to the ledger", error)
            }
            result => return result,
        };
        breaker.trip(&format!("{cause}: {}", error.source), Instant::now());
        thread::park_timeout(limits::BACKOFF);
    }
}

/// Checks whether a failure of the ledger wrote nothing.
fn is_ledger_usable(failure: &Failure) -> bool {
    let Failure::Commit(CommitError::Ledger { source, .. }) = failure else { return false };
    source.kind != ErrorKind::Failed
}

fn append_intents(ledger: &dyn Ledger, records: &[Record], when: Flush) -> ledger::Result<()> {
    let when = if failpoint::is_skipped("barrier::intent_sync") { Flush::Deferred } else { when };
    failpoint::barrier("barrier::intent", || ledger.append(records, when))
}

const _: () = assert!(
    limits::COMMIT_BATCH_FILES_MAX >= limits::SYNC_THREADS,
    "a batch keeps every syncing thread busy"
);
