//! dispose: removes, archives or quarantines the source, once its output is durable or the job
//! failed for good.
//!
//! Owns the archive and the quarantine. Never creates an output.
//!
//! D1: a source is removed only if it is the file that was read: it gets a private name first, is
//! compared with the intent, and gets its name back if it is another file.
//! D2: every request that comes in results in exactly one outcome.

mod quarantine;

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error, failpoint, fs,
    ledger::{self, Flush, Record, State, StateUpdate},
    limits,
    observe::{display_path, log_seconds},
    pipeline::{
        channel::{Inlet, Panics},
        clock::Clock,
        context::Context,
        failure::{CommitError, DisposeError, Failure, Verdict},
        halt::Halt,
        job::{Committed, DeferReason, DisposeRequest, FailedJob, Item, Job, JobEnd},
        state_updates::StateUpdates,
    },
    policy::OnSuccess,
    protocol::disposal::{Undisposed, finish_source, take_source},
    source::{Disposal, SourceError, TakeRequest, TakeResult},
    stage::Stage,
};

/// The dispose thread. Its inlet closes when every other stage has ended.
#[derive(Debug)]
pub struct Disposer {
    /// The pipeline that the stage belongs to.
    pub context: Arc<Context>,
    pub panics: Panics,
    pub fatal: Halt,
}

impl Disposer {
    /// Handles requests, batch by batch, until the inlet closes.
    pub fn run(self, inlet: &Inlet<DisposeRequest>) {
        let mut updates = StateUpdates::default();
        loop {
            let batch = inlet.receive_batch(limits::COMMIT_BATCH_FILES_MAX);
            let is_closed = batch.is_empty();
            let mut new_updates = Vec::new();
            for item in batch {
                let job = item.job();
                job.meter.stage_started(Stage::Dispose);
                let meter = Arc::clone(&job.context.meter);
                let trace = job.trace.clone();
                trace.stage_started(Stage::Dispose);
                let clock = Clock::start(&meter, Stage::Dispose);
                new_updates.extend(self.panics.guard(|| self.process(item)).flatten());
                clock.stop(1);
                trace.stage_finished(Stage::Dispose);
            }
            if let Err(source) = updates.write(&*self.context.ledger, new_updates) {
                let path = source.path.clone();
                self.fatal.set(&CommitError::Ledger { path, source }.into());
            }
            if is_closed {
                return updates.end(&self.context);
            }
        }
    }

    fn process(&self, item: DisposeRequest) -> Option<StateUpdate> {
        match item {
            DisposeRequest::Failed(failed) => {
                self.fail(failed);
                None
            }
            DisposeRequest::Committed(committed)
                if committed.record.on_success == OnSuccess::Keep =>
            {
                let Committed { job, record } = &committed;
                if job.commit.is_some() {
                    note_renamed(job, record);
                }
                let done = record.state == State::Published;
                let update = done.then_some((record.id, State::Done, None));
                end_published(committed);
                update
            }
            DisposeRequest::Committed(committed) => self.dispose(committed, end_published),
            DisposeRequest::Again(committed) => self.dispose_again(committed),
        }
    }

    /// Disposes of a source that was processed before, by the current policy. Nothing is published
    /// or counted as published.
    fn dispose_again(&self, mut committed: Committed) -> Option<StateUpdate> {
        let Committed { job, record } = &mut committed;
        let (id, policy) = (record.id, &job.context.config.on_success);
        if record.on_success != *policy || record.state == State::Changed {
            // Durable before the source is removed: a file that comes under its name then is
            // another source.
            record.on_success = policy.clone();
            record.state = State::Published;
            if record.is_undisposed() {
                record.reason = None;
            }
            let record = std::slice::from_ref(record);
            let append = || {
                failpoint::hit("dispose::record").map_err(ledger::Error::injected)?;
                job.context.ledger.append(record, Flush::Now)
            };
            if let Err(source) = failpoint::barrier("barrier::policy", append) {
                let path = job.source_path();
                self.fail(committed.job.fail(DisposeError::Record { path, source }));
                return None;
            }
        }
        let Committed { job, record } = &committed;
        if job.context.config.on_success == OnSuccess::Keep {
            let done = record.state == State::Published;
            job.context.in_commit.forget(&record.identity);
            end_skipped(committed);
            return done.then_some((id, State::Done, None));
        }
        tracing::debug!(event = "file.disposed", pipeline = %job.context.name(), source = %display_path(&job.path), record = id, policy = %record.on_success, "already processed, disposing of the source");
        self.dispose(committed, end_skipped)
    }

    /// Deletes or archives the source of a published output.
    fn dispose(&self, committed: Committed, finish: fn(Committed)) -> Option<StateUpdate> {
        let Committed { job, record } = &committed;
        let id = record.id;
        match dispose_source(job, record) {
            Ok(Disposed::Done) => {
                job.context.breaker.reset(Instant::now());
                finish(committed);
                Some((id, State::Done, None))
            }
            Ok(Disposed::Replaced) => {
                tracing::debug!(event = "file.changed", pipeline = %job.context.name(), source = %display_path(&job.path), hint = "set `settle` or `marker`, or rename into the input", "source changed after reading, processing again");
                committed.job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Changed);
                Some((id, State::Changed, None))
            }
            Ok(Disposed::Busy) => {
                tracing::debug!(event = "file.changed", pipeline = %job.context.name(), source = %display_path(&job.path), "source open for writing, disposal postponed");
                job.context.in_commit.awaits_disposal(record);
                committed.job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
                Some((id, State::Changed, None))
            }
            Err(error) => {
                if matches!(error, DisposeError::NotPutBack { .. }) {
                    job.context.set_unfinished();
                }
                job.context.in_commit.awaits_disposal(record);
                let error = find_denying_directory(job, record).unwrap_or(error);
                self.fail(committed.job.fail(error));
                None
            }
        }
    }

    fn fail(&self, failed: FailedJob) {
        let verdict = failed.failure.verdict_with(failed.job.input.is_remote());
        let FailedJob { job, failure } = failed;
        let (stage, reason) = (failure.stage(), failure.reason());
        let pipeline = Arc::clone(job.context.name());
        match verdict {
            Verdict::Unfinished => {
                tracing::debug!(event = "file.retried", %pipeline, source = %display_path(&job.path), %stage, reason_code = %reason.code, reason = reason.text, "file changed while being read, retrying");
                job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Changed);
            }
            Verdict::Retry if job.attempt < job.context.config.keys.attempts => {
                let delay = backoff(job.context.config.keys.backoff, job.attempt);
                tracing::warn!(event = "file.retried", %pipeline, source = %display_path(&job.path), %stage, reason_code = %reason.code, reason = reason.text, attempt = job.attempt, retry_seconds = log_seconds(delay), "attempt failed, retrying");
                job.context.meter.retried();
                job.defer(delay, DeferReason::Failed);
            }
            Verdict::Retry | Verdict::Quarantine => {
                match quarantine::quarantine(&job, stage, &reason).map_err(Failure::from) {
                    Ok(()) => {
                        job.context.in_commit.forget(&job.metadata.identity);
                        job.end(JobEnd::Quarantined, 0);
                    }
                    Err(failure) if failure.verdict() == Verdict::Fatal => self.halt(job, &failure),
                    Err(failure) => pause(job, &failure.chain(), Duration::ZERO),
                }
            }
            // Another file may end the pause at once, and would have this one tried again and again.
            Verdict::Pause if stage == Stage::Transform => {
                pause(job, &reason.text, limits::BACKOFF);
            }
            Verdict::Pause => pause(job, &reason.text, Duration::ZERO),
            Verdict::Fatal => self.halt(job, &failure),
        }
    }

    /// Ends the job at a storage failure, which stops the service.
    fn halt(&self, job: Job, failure: &Failure) {
        self.fatal.set(failure);
        job.end(JobEnd::Unfinished, 0);
    }
}

fn pause(job: Job, reason: &str, delay: Duration) {
    job.context.breaker.trip(reason, Instant::now());
    job.defer(delay, DeferReason::Storage);
}

fn end_skipped(committed: Committed) {
    committed.job.end(JobEnd::Skipped, 0);
}

fn end_published(committed: Committed) {
    let bytes = committed.record.output_bytes();
    committed.job.end(JobEnd::Published, bytes);
}

/// Returns the wait before attempt `attempt + 1`.
fn backoff(first: Duration, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(limits::BACKOFF_MAX)
}

enum Disposed {
    Done,
    /// The source's name belongs to another file, which stays.
    Replaced,
    /// A process writes the source, or may: it stays under its name.
    Busy,
}

/// Notes a source that no longer has its name: it may appear under another one.
fn note_renamed(job: &Job, record: &Record) {
    let found = |path: &Path| job.input.stat_fresh(path).ok().flatten();
    let has_its_name = found(&record.source)
        .is_some_and(|found| found.identity.may_be_same_file(&record.identity));
    if has_its_name {
        return;
    }
    job.context.note_lost_name();
    let (parent, _) = fs::split(&record.source);
    let directory = if parent.as_os_str().is_empty() {
        job.input.metadata().ok().map(|root| root.identity)
    } else {
        found(parent).map(|found| found.identity)
    };
    // A missing directory was itself renamed, which keeps the times of the files in it.
    let gone_ns = directory.map_or(i64::MIN, |directory| directory.ctime_ns);
    job.context.in_commit.renamed(record, gone_ns);
}

/// Finds the directory because of which no source can be disposed of: it is unavailable, or this user
/// may not write there. Where there is none, the error of a disposal blames the file.
fn find_denying_directory(job: &Job, record: &Record) -> Option<DisposeError> {
    let Disposal { end, .. } = Disposal::of(record, None, &|| ());
    let SourceError { path, source } = job.input.probe_disposal(end).err()?;
    let what = if path == job.input.path() { "removed from" } else { "archived in" };
    // The probe makes a file, and a removal needs no space.
    let is_full =
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let is_denied = error::blames_output(&source) && !is_full;
    is_denied.then_some(DisposeError::Directory { path, what, source })
}

fn dispose_source(job: &Job, record: &Record) -> Result<Disposed, DisposeError> {
    let action = match record.on_success {
        OnSuccess::Archive(_) => "archived",
        OnSuccess::Delete | OnSuccess::Keep => "removed",
    };
    let failed = |SourceError { path, source }| DisposeError::Source { path, what: action, source };
    failpoint::hit("dispose")
        .map_err(|source| failed(SourceError { path: job.source_path(), source }))?;
    let resumed = job.commit.is_none() || job.earlier_record.is_some();
    let marker = job.context.config.keys.marker.as_deref();
    let quiet_for = Some(job.quiet_now());
    let wanted = TakeRequest { quiet_for, marker, resumed, ..TakeRequest::of(record) };
    let session = job.context.ledger.session();
    let held = match take_source(&*job.input, session, &wanted).map_err(failed)? {
        TakeResult::Taken(held) => {
            // It has its private name, and another file may get its inode.
            job.context.in_commit.forget(&record.identity);
            held
        }
        TakeResult::Gone => {
            note_renamed(job, record);
            return Ok(Disposed::Done);
        }
        TakeResult::Replaced => {
            note_renamed(job, record);
            return Ok(Disposed::Replaced);
        }
        TakeResult::Busy => return Ok(Disposed::Busy),
        TakeResult::Stranded(private, SourceError { path, source }) => {
            return Err(DisposeError::NotPutBack { path, private, source });
        }
    };
    match finish_source(held, record, marker, &|| job.context.meter.progressed()) {
        Ok(()) => Ok(Disposed::Done),
        Err(Undisposed { error, stranded }) => {
            if let Some(stranded) = stranded {
                note_stranded(job, &stranded);
            }
            Err(failed(error))
        }
    }
}

/// Notes a source that has its private name still: the next start finishes its disposal.
fn note_stranded(job: &Job, SourceError { path, source: error }: &SourceError) {
    job.context.set_unfinished();
    tracing::warn!(event = "file.stranded", pipeline = %job.context.name(), source = %display_path(path), %error, "cannot restore a source's name, left to the next start");
}
