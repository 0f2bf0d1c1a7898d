//! The last part of a group commit: the final names become durable, and that is acknowledged.

use std::{sync::Arc, time::Instant};

use super::sync_pool::SyncPool;
use crate::{
    failpoint,
    fs::{Dir, SecondName},
    ledger::State,
    limits,
    pipeline::{
        channel::{Inlet, Outlet, Panics, Received},
        context::Context,
        failure::{CommitError, Failure, Verdict},
        halt::Halt,
        job::{Committed, DisposeRequest},
        outcome,
        state_updates::StateUpdates,
    },
    policy::{Durability, OnSuccess},
    stage::Stage,
};

/// An output that has its final name.
#[derive(Debug)]
pub struct NamedOutput {
    pub committed: Committed,
    /// What must be synced to make the name durable.
    pub dir: Arc<Dir>,
    /// Its temporary name, where it got the final one by a link.
    pub second: Option<SecondName>,
}

/// The acknowledging thread.
#[derive(Debug)]
pub struct Acknowledger {
    pub panics: Panics,
    pub fatal: Halt,
    pub committed: Outlet<DisposeRequest>,
    pub pool: SyncPool,
}

impl Acknowledger {
    /// Acknowledges what has its names, batch by batch, until there is no more. What a full disk
    /// keeps from it waits for space; where storage failed nothing is acknowledged. What is left in
    /// the end recovery finds under its names, and does the rest.
    pub fn run(self, inlet: &Inlet<Vec<NamedOutput>>) {
        let mut marks = StateUpdates::default();
        let mut waiting: Vec<NamedOutput> = Vec::new();
        loop {
            let received = if waiting.is_empty() {
                inlet.receive().map_or(Received::Closed, Received::Item)
            } else {
                inlet.receive_within(limits::BACKOFF)
            };
            let is_last = matches!(received, Received::Closed);
            if let Received::Item(named) = received {
                waiting.extend(named);
            }
            if !self.fatal.is_set() {
                let acknowledged = self.panics.guard(|| self.acknowledge(&mut waiting, &mut marks));
                if acknowledged.is_none() {
                    waiting.clear();
                }
            }
            if is_last {
                return;
            }
            if self.fatal.is_set() {
                waiting.clear();
            }
        }
    }

    /// Acknowledges what waits, unless the disk is full.
    fn acknowledge(&self, waiting: &mut Vec<NamedOutput>, marks: &mut StateUpdates) {
        let acknowledged =
            self.make_durable(waiting).and_then(|()| Self::report_published(waiting));
        let ended = match acknowledged {
            Ok(()) => self.end(std::mem::take(waiting), marks),
            Err(failure) if failure.verdict() == Verdict::Pause => {
                let (reason, now) = (failure.chain(), Instant::now());
                for file in &*waiting {
                    file.committed.job.context.place.trip(&reason, now);
                }
                // They hold permits that what is to end before this stage may wait for.
                waiting.retain(|file| !file.committed.job.is_stopping());
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = ended {
            self.fatal.set(&failure);
        }
    }

    /// The final names become durable and then the only ones. A temporary name that a power loss
    /// brought back after the acknowledgement would be taken for an output that has no name yet, so
    /// its removal is durable as well.
    fn make_durable(&self, named: &mut [NamedOutput]) -> Result<(), Failure> {
        failpoint::barrier("barrier::final_directory", || self.sync_directories(named.iter()))?;
        let mut linked = false;
        for file in &mut *named {
            let Some(second) = &file.second else { continue };
            linked = true;
            failpoint::hit("commit::unlink").and_then(|()| second.remove()).map_err(|source| {
                let path = file.committed.job.source_path();
                CommitError::TemporaryName { path, source }
            })?;
            file.second = None;
        }
        if !linked {
            return Ok(());
        }
        failpoint::barrier("barrier::second_directory", || self.sync_directories(named.iter()))
    }

    fn sync_directories<'a>(
        &self,
        named: impl Iterator<Item = &'a NamedOutput>,
    ) -> Result<(), Failure> {
        let asked = |named: &&NamedOutput| {
            named.committed.job.context.config.durability != Durability::None
        };
        let names = |named: &NamedOutput| {
            (Arc::clone(&named.dir), Arc::clone(&named.committed.job.context.meter))
        };
        self.pool.directories(named.filter(asked).map(names))
    }

    /// That the names are durable may be reported (C3).
    fn report_published(named: &[NamedOutput]) -> Result<(), Failure> {
        let Some(NamedOutput { committed: first, .. }) = named.first() else { return Ok(()) };
        let Context { events, ledger, .. } = &*first.job.context;
        failpoint::hit("commit::acknowledge")
            .and_then(|()| outcome::published(events, ledger.instance(), &published(named)))
            .map_err(|source| CommitError::Acknowledge { source })?;
        failpoint::pass("commit::acknowledged");
        Ok(())
    }

    /// The ledger learns of it, and the sources go on to be disposed of.
    fn end(&self, named: Vec<NamedOutput>, late: &mut StateUpdates) -> Result<(), Failure> {
        let Some(NamedOutput { committed: first, .. }) = named.first() else { return Ok(()) };
        let context = &first.job.context;
        let marks = named
            .iter()
            .map(|NamedOutput { committed: file, .. }| {
                let keep = file.record.on_success == OnSuccess::Keep;
                (file.record.id, if keep { State::Done } else { State::Published }, None)
            })
            .collect();
        let path = context.config.output.clone();
        let marked = late.write(&*context.ledger, marks);
        marked.map_err(|source| CommitError::Ledger { path, source })?;
        failpoint::pass("commit::marked");
        let now = Instant::now();
        for NamedOutput { committed: file, .. } in named {
            let job = &file.job;
            job.context.meter.acknowledged(job.settled_at.elapsed());
            job.context
                .meter
                .outcome_stream()
                .send(|| outcome::notice(job, &file.record, "published"));
            job.context.place.reset(now);
            job.trace.stage_finished(Stage::Commit);
            self.committed.send(DisposeRequest::Committed(file));
        }
        Ok(())
    }
}

fn published(named: &[NamedOutput]) -> Vec<outcome::Published<'_>> {
    named
        .iter()
        .map(|NamedOutput { committed: file, .. }| outcome::Published {
            pipeline: file.job.context.name(),
            record: &file.record,
            took: Some(file.job.settled_at.elapsed()),
        })
        .collect()
}
