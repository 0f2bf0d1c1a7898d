//! dispose: what happens to the source, once its output is durable or it failed for good.
//!
//! Owns: the archive and the quarantine. Never creates an output.
//!
//! D1: a source is removed only as the file that was read: it gets a private name first, is
//! compared with the intent, and goes back to its name where it is another.
//! D2: whatever comes in, one outcome goes out.

mod cross_device;
pub mod held_source;
pub mod marker;
pub mod quarantine;

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use self::held_source::{HeldSource, TakeResult};
use crate::{
    failpoint,
    fs::{self, Dir},
    ledger::{Flush, Record, State},
    limits,
    observe::{display_path, log_seconds},
    pipeline::{
        channel::{Inlet, Panics},
        failure::{ClaimError, CommitError, DisposeError, Verdict},
        halt::Halt,
        job::{Committed, DeferReason, DisposeRequest, FailedJob, Item, Job, Outcome},
        state_updates::{StateUpdate, StateUpdates},
    },
    policy::OnSuccess,
    stage::Stage,
};

/// The disposing thread. Its inlet closes when every other stage has ended.
#[derive(Debug)]
pub struct Disposer {
    pub panics: Panics,
    pub fatal: Halt,
}

impl Disposer {
    /// Disposes of what comes, until there is no more.
    pub fn run(self, inlet: &Inlet<DisposeRequest>) {
        let mut late = StateUpdates::default();
        loop {
            let batch = inlet.receive_batch(limits::COMMIT_BATCH_FILES_MAX);
            let Some(first) = batch.first() else { return };
            let ledger = Arc::clone(&first.job().context.ledger);
            let mut marks = Vec::new();
            for item in batch {
                let job = item.job();
                job.meter.stage_started(Stage::Dispose);
                let meter = Arc::clone(&job.context.meter);
                let trace = job.trace.clone();
                trace.stage_started(Stage::Dispose);
                let start = Instant::now();
                marks.extend(self.panics.guard(|| self.process(item)).flatten());
                meter.stage(Stage::Dispose, start.elapsed());
                trace.stage_finished(Stage::Dispose);
            }
            if let Err(source) = late.write(&*ledger, marks) {
                let path = source.path.clone();
                self.fatal.set(&CommitError::Ledger { path, source }.into());
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
                let done = committed.record.state == State::Published;
                let mark = done.then_some((committed.record.id, State::Done, None));
                end(committed);
                mark
            }
            DisposeRequest::Committed(committed) => self.dispose(committed, end),
            DisposeRequest::Again(committed) => self.again(committed),
        }
    }

    /// What was processed before, by today's policy. Nothing is published, and nothing counts so.
    fn again(&self, mut committed: Committed) -> Option<StateUpdate> {
        let Committed { job, record } = &mut committed;
        let (id, today) = (record.id, &job.context.config.on_success);
        if record.on_success != *today || record.state == State::Changed {
            // Durable before the source goes: what comes under its name then is another source.
            record.on_success = today.clone();
            record.state = State::Published;
            let record = std::slice::from_ref(record);
            let append = || job.context.ledger.append(record, Flush::Now);
            if let Err(source) = failpoint::barrier("barrier::policy", append) {
                let path = job.source_path();
                self.fail(committed.job.fail(ClaimError::Ledger { path, source }));
                return None;
            }
        }
        let Committed { job, record } = &committed;
        if *today_of(job) == OnSuccess::Keep {
            let done = record.state == State::Published;
            unchanged(committed);
            return done.then_some((id, State::Done, None));
        }
        tracing::info!(event = "file.disposed", pipeline = %job.context.name(), source = %display_path(&job.path), record = id, policy = %record.on_success, "already processed, disposing of the source");
        self.dispose(committed, unchanged)
    }

    /// Deletes or archives the source of a published output.
    fn dispose(&self, committed: Committed, end: fn(Committed)) -> Option<StateUpdate> {
        let Committed { job, record } = &committed;
        let id = record.id;
        match dispose_source(job, record) {
            Ok(Disposed::Done) => {
                end(committed);
                Some((id, State::Done, None))
            }
            Ok(Disposed::Another) => {
                tracing::info!(event = "file.changed", pipeline = %job.context.name(), source = %display_path(&job.path), "source changed after reading, processing again");
                committed.job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Changed);
                Some((id, State::Changed, None))
            }
            Ok(Disposed::Busy) => {
                tracing::info!(event = "file.changed", pipeline = %job.context.name(), source = %display_path(&job.path), "source open for writing, disposal postponed");
                committed.job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
                Some((id, State::Changed, None))
            }
            Err(error) => {
                self.fail(committed.job.fail(error));
                None
            }
        }
    }

    fn fail(&self, failed: FailedJob) {
        let verdict = failed.failure.verdict();
        let FailedJob { job, failure } = failed;
        let (stage, reason) = (failure.stage(), failure.chain());
        let pipeline = Arc::clone(job.context.name());
        match verdict {
            Verdict::Unfinished => {
                tracing::debug!(event = "file.retried", %pipeline, source = %display_path(&job.path), %stage, reason, "file changed while being read, retrying");
                job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Changed);
            }
            Verdict::Retry if job.attempt < job.context.config.attempts => {
                let after = backoff(job.context.config.backoff, job.attempt);
                tracing::warn!(event = "file.retried", %pipeline, source = %display_path(&job.path), %stage, reason, attempt = job.attempt, retry_seconds = log_seconds(after), "attempt failed, retrying");
                job.context.meter.retried();
                job.defer(after, DeferReason::Failed);
            }
            Verdict::Retry | Verdict::Quarantine => {
                if let Err(error) = quarantine::quarantine(&job, stage, &reason) {
                    return self
                        .pause(job, &crate::pipeline::failure::Failure::from(error).chain());
                }
                job.end(Outcome::Quarantined, 0);
            }
            Verdict::Pause => self.pause(job, &reason),
            Verdict::Fatal => {
                self.fatal.set(&failure);
                job.end(Outcome::Unfinished, 0);
            }
        }
    }

    #[expect(clippy::unused_self, reason = "one of the disposer's answers")]
    fn pause(&self, job: Job, reason: &str) {
        job.context.breaker.trip(reason, Instant::now());
        job.defer(Duration::ZERO, DeferReason::Storage);
    }
}

fn today_of(job: &Job) -> &OnSuccess {
    &job.context.config.on_success
}

fn unchanged(committed: Committed) {
    committed.job.end(Outcome::Skipped, 0);
}

fn end(committed: Committed) {
    let bytes = committed.record.output.as_ref().map_or(0, |output| output.identity.size);
    committed.job.end(Outcome::Published, bytes);
}

/// The wait before try `attempt + 1`.
fn backoff(first: Duration, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(limits::BACKOFF_MAX)
}

enum Disposed {
    Done,
    /// The source's name is another file's, which stays.
    Another,
    /// Someone writes it, or may: it stays under its name.
    Busy,
}

/// Records a source that no longer has its name: it may appear under another one.
fn note_renamed(job: &Job, record: &Record) {
    let found = |path: &Path| job.input.stat_fresh(path).ok().flatten();
    let has_its_name =
        found(&record.source).is_some_and(|found| found.identity.inode == record.identity.inode);
    if has_its_name {
        return;
    }
    let (parent, _) = fs::split(&record.source);
    let directory = if parent.as_os_str().is_empty() {
        fs::identity_of(&*job.input).ok()
    } else {
        found(parent).map(|found| found.identity)
    };
    // A directory that is gone itself was renamed, which leaves the times of what is in it.
    let gone_ns = directory.map_or(i64::MIN, |directory| directory.changed_ns);
    job.context.in_commit.renamed(record, gone_ns);
}

fn dispose_source(job: &Job, record: &Record) -> Result<Disposed, DisposeError> {
    let what = match record.on_success {
        OnSuccess::Archive(_) => "archived",
        OnSuccess::Delete | OnSuccess::Keep => "removed",
    };
    let failed = |source| DisposeError::Source { path: job.source_path(), what, source };
    let mark = (&job.context.instance, record.id);
    let taken = failpoint::hit("dispose")
        .and_then(|()| held_source::take(&job.input, &record.source, &record.identity, mark))
        .and_then(|take| held_source::compare_content(take, record))
        .map_err(failed)?;
    let taken = match taken {
        TakeResult::Taken(taken) => taken.watched_by(&job.context.meter),
        TakeResult::Gone => {
            note_renamed(job, record);
            return Ok(Disposed::Done);
        }
        TakeResult::Replaced => {
            note_renamed(job, record);
            return Ok(Disposed::Another);
        }
        TakeResult::Busy => return Ok(Disposed::Busy),
        TakeResult::Stranded(private, source) => {
            let (path, private) = (job.source_path(), private.into());
            return Err(DisposeError::NotPutBack { path, private, source });
        }
    };
    finish_source(taken, record, job.context.config.marker.as_deref())
        .map(|()| Disposed::Done)
        .map_err(failed)
}

/// Removes or archives a source that was taken, its marker first; an error puts it back.
pub fn finish_source(taken: HeldSource, record: &Record, marker: Option<&str>) -> io::Result<()> {
    let (parent, name) = fs::split(&record.source);
    let marked = match marker.filter(|_| !taken.is_named_again()) {
        Some(marker) => failpoint::barrier("barrier::marker", || {
            marker::dispose(taken.dir(), name, marker, (parent, &record.on_success))
        }),
        None => Ok(()),
    };
    if let Err(error) = marked {
        return Err(taken.put_back().err().map_or(error, |(_, second)| second));
    }
    let finished = match &record.on_success {
        OnSuccess::Delete | OnSuccess::Keep => taken.remove(),
        OnSuccess::Archive(archive) => {
            match Dir::open(archive).and_then(|archive| archive.make_beneath(parent, fs::SHARED)) {
                Ok(to) => taken.move_to(&Arc::new(to), name).map(drop),
                Err(error) => Err((taken, error)),
            }
        }
    };
    finished.map_err(|(taken, error)| taken.put_back().err().map_or(error, |(_, second)| second))
}

/// Moves a source that was taken to its place in quarantine, its marker first.
pub fn quarantine_source(
    taken: HeldSource,
    (to, place): (&Arc<Dir>, &OsStr),
    marker: Option<&str>,
) -> Result<(), (HeldSource, io::Error)> {
    if let Some(marker) = marker.filter(|_| !taken.is_named_again())
        && let Err(error) = marker::quarantine(taken.dir(), taken.name(), marker, (to, place))
    {
        return Err((taken, error));
    }
    taken.move_to(to, place).map(drop)
}
