//! The last part of a group commit: makes the final names durable and acknowledges them.

use std::{path::Path, sync::Arc, time::Instant};

use crate::{
    failpoint,
    ledger::{PipelineEnd, State},
    limits,
    observe::{display_path, escaped},
    pipeline::{
        channel::{Inlet, Outlet, Panics, Received},
        clock::Clock,
        context::Context,
        failure::{CommitError, Failure, Verdict},
        halt::Halt,
        job::{Committed, DisposeRequest, Job},
        outcome,
        side_file::SideFile,
        state_updates::StateUpdates,
    },
    policy::OnSuccess,
    protocol,
    sink::{self, HelperGuard},
    stage::Stage,
};

/// An output that has its final name, which is not durable yet.
#[derive(Debug)]
pub struct NamedOutput {
    pub committed: Committed,
    /// The output in the sink.
    pub file: Box<dyn sink::Staged>,
    /// Its checksum file, which has its final name; `None` without one.
    pub side: Option<SideFile>,
}

impl NamedOutput {
    /// Returns the output's path.
    pub(super) fn path(&self) -> &Path {
        let output = self.committed.record.output.as_ref();
        output.map_or(Path::new(""), |output| &output.path)
    }
}

/// The acknowledge thread.
#[derive(Debug)]
pub struct Acknowledger {
    /// The pipeline that the stage belongs to.
    pub context: Arc<Context>,
    pub panics: Panics,
    pub fatal: Halt,
    pub committed: Outlet<DisposeRequest>,
    /// Keeps the sink's helpers: this is the last stage that uses them.
    pub helpers: HelperGuard,
}

impl Acknowledger {
    /// Acknowledges named outputs, batch by batch, until the inlet closes. Outputs that a full disk
    /// holds up wait for space; after a storage failure nothing is acknowledged. Outputs that are
    /// never acknowledged have their final names: recovery finds them and does the rest.
    pub fn run(self, inlet: &Inlet<Vec<NamedOutput>>) {
        let mut updates = StateUpdates::default();
        let mut waiting: Vec<NamedOutput> = Vec::new();
        loop {
            let received = if waiting.is_empty() && !updates.are_postponed() {
                inlet.receive().map_or(Received::Closed, Received::Item)
            } else {
                inlet.receive_within(limits::BACKOFF)
            };
            let is_closed = matches!(received, Received::Closed);
            if let Received::Item(named) = received {
                waiting.extend(named);
            }
            if !self.fatal.is_set() {
                let acknowledged =
                    self.panics.guard(|| self.acknowledge(&mut waiting, &mut updates));
                if acknowledged.is_none() {
                    waiting.clear();
                }
            }
            if is_closed && !waiting.is_empty() {
                self.context.set_unfinished();
            }
            if is_closed {
                return updates.end(&self.context);
            }
            if self.fatal.is_set() {
                waiting.clear();
            }
        }
    }

    /// Acknowledges the waiting outputs. On a full disk they keep waiting.
    fn acknowledge(&self, waiting: &mut Vec<NamedOutput>, updates: &mut StateUpdates) {
        let mut clock = Clock::start(&self.context.meter, Stage::Commit);
        let acknowledged = self.make_durable(waiting).and_then(|()| self.report_published(waiting));
        let finished = match acknowledged {
            Ok(()) => self.finish(std::mem::take(waiting), updates, &mut clock),
            Err(failure) if failure.verdict() == Verdict::Pause => {
                self.context.breaker.trip(&failure.chain(), Instant::now());
                // These jobs hold permits that the stages before this one may wait for when they
                // stop.
                let count = waiting.len();
                let is_stopping = |file: &mut NamedOutput| file.committed.job.is_stopping();
                for stopped in waiting.extract_if(.., is_stopping) {
                    self.context.note_deferred(&stopped.committed.record);
                }
                if waiting.len() < count {
                    self.context.set_unfinished();
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = finished {
            self.fatal.set(&failure);
        }
        // The publisher counts the files.
        clock.stop(0);
    }

    /// Makes the final names durable, and the removal of the staged ones.
    fn make_durable(&self, named: &mut [NamedOutput]) -> Result<(), Failure> {
        let mut files: Vec<&mut dyn sink::Staged> = Vec::with_capacity(named.len());
        for NamedOutput { file, side, .. } in named {
            files.push(&mut **file);
            files.extend(side.as_mut().map(SideFile::file_mut));
        }
        Ok(self.context.sink.sync_names(&mut files).map_err(CommitError::of)?)
    }

    /// Reports the outputs as published; their names are durable (C3).
    fn report_published(&self, named: &[NamedOutput]) -> Result<(), Failure> {
        if named.is_empty() {
            return Ok(());
        }
        let Context { events, ledger, .. } = &*self.context;
        failpoint::hit("commit::acknowledge")
            .and_then(|()| {
                protocol::outcome::report_published(events, ledger.instance(), &publications(named))
            })
            .map_err(|source| CommitError::Acknowledge { source })?;
        failpoint::pass("commit::acknowledged");
        Ok(())
    }

    /// Marks the records and sends the sources to dispose.
    fn finish(
        &self,
        named: Vec<NamedOutput>,
        updates: &mut StateUpdates,
        clock: &mut Clock,
    ) -> Result<(), Failure> {
        let path = self.context.config.output.clone();
        if named.is_empty() {
            let retried = updates.retry(&*self.context.ledger);
            return Ok(retried.map_err(|source| CommitError::Ledger { path, source })?);
        }
        if let Some(inode) = self.context.sink.take_replaced() {
            self.context.note_root(PipelineEnd::Output, inode);
        }
        if let Some(last) = named.last() {
            self.context.note_input(&last.committed.job.input);
        }
        let new_updates = named
            .iter()
            .map(|NamedOutput { committed: file, .. }| {
                // Here, and not when the job ends: the disposal of its source may be postponed or fail.
                let meter = file.job.context.meter.outcomes();
                meter.published(file.record.identity.size, file.record.output_bytes());
                let keep = file.record.on_success == OnSuccess::Keep;
                (file.record.id, if keep { State::Done } else { State::Published }, None)
            })
            .collect();
        let written = updates.write(&*self.context.ledger, new_updates);
        written.map_err(|source| CommitError::Ledger { path, source })?;
        failpoint::pass("commit::marked");
        let now = Instant::now();
        for NamedOutput { committed: mut file, .. } in named {
            file.job.end_intent();
            let job = &file.job;
            job.context.meter.acknowledged(job.settled_at.elapsed());
            count_recompressed(job);
            job.context
                .meter
                .outcome_stream()
                .send(|| outcome::streamed(job, &file.record, State::Published));
            // Otherwise its disposal decides, which may need other storage.
            if file.record.on_success == OnSuccess::Keep {
                job.context.breaker.reset(now);
            }
            job.trace.stage_finished(Stage::Commit);
            clock.wait(|| self.committed.send(DisposeRequest::Committed(file)));
        }
        Ok(())
    }
}

/// Counts a compressed source that was compressed again, and logs the first of its pipeline.
fn count_recompressed(job: &Job) {
    let name = job.path.file_name().unwrap_or_default();
    if !job.context.config.transforms.recompresses(name) || !job.context.meter.count_recompressed()
    {
        return;
    }
    let extension = job.path.extension().unwrap_or_default().to_string_lossy();
    tracing::warn!(
        event = "pipeline.recompresses",
        pipeline = %job.context.name(),
        source = %display_path(&job.path),
        hint = format!("leave such files out with `--exclude '*.{}'`, or begin the transforms with `decompress:or-copy`", escaped(&extension)),
        "compressed sources are compressed again"
    );
}

fn publications(named: &[NamedOutput]) -> Vec<protocol::outcome::Published<'_>> {
    named
        .iter()
        .map(|NamedOutput { committed: file, .. }| protocol::outcome::Published {
            pipeline: file.job.context.name(),
            record: &file.record,
            took: Some(file.job.settled_at.elapsed()),
            attempts: file.job.attempt,
        })
        .collect()
}
