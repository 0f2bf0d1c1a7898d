//! The last part of a group commit: the final names become durable, and that is told.

use std::{sync::Arc, time::Instant};

use super::pool::Pool;
use crate::{
    failpoint,
    fs::{Dir, SecondName},
    ledger::State,
    observe::shown,
    pipeline::{
        acknowledge,
        failure::{CommitError, Failure},
        fatal::Fatal,
        job::{Committed, Disposable},
        marks::Marks,
        stage::{Inlet, Outlet, Panics},
    },
    policy::{Durability, OnSuccess},
    stages::Stage,
};

/// An output that has its final name.
#[derive(Debug)]
pub struct Named {
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
    pub fatal: Fatal,
    pub committed: Outlet<Disposable>,
    pub pool: Pool,
}

impl Acknowledger {
    /// Acknowledges what has its names, batch by batch, until there is no more. Where storage
    /// failed nothing is: recovery finds the names and does the rest.
    pub fn run(self, inlet: &Inlet<Vec<Named>>) {
        let mut marks = Marks::default();
        while let Some(named) = inlet.receive() {
            if self.fatal.is_set() {
                continue;
            }
            let result = self.panics.guard(|| {
                failpoint::barrier("barrier::final_directory", || self.sync_directories(&named))?;
                let committed = named.into_iter().map(Named::with_one_name).collect();
                self.acknowledge(committed, &mut marks)
            });
            if let Some(Err(failure)) = result {
                self.fatal.set(&failure);
            }
        }
    }

    fn sync_directories(&self, named: &[Named]) -> Result<(), Failure> {
        let asked =
            |named: &&Named| named.committed.job.context.config.durability != Durability::None;
        let names = |named: &Named| {
            (Arc::clone(&named.dir), Arc::clone(&named.committed.job.context.meter))
        };
        self.pool.directories(named.iter().filter(asked).map(names))
    }

    /// The outputs are durable: that may be told (C3), and is, before the ledger forgets to.
    fn acknowledge(&self, committed: Vec<Committed>, late: &mut Marks) -> Result<(), Failure> {
        let Some(first) = committed.first() else { return Ok(()) };
        let context = &first.job.context;
        failpoint::hit("commit::acknowledge")
            .and_then(|()| acknowledge::published(&context.events, &told(&committed)))
            .map_err(|source| CommitError::Acknowledge { source })?;
        failpoint::pass("commit::acknowledged");
        let marks = committed
            .iter()
            .map(|file| {
                let keep = file.record.on_success == OnSuccess::Keep;
                (file.record.id, if keep { State::Done } else { State::Published }, None)
            })
            .collect();
        let path = context.config.output.clone();
        let marked = late.write(&*context.ledger, marks);
        marked.map_err(|source| CommitError::Ledger { path, source })?;
        failpoint::pass("commit::marked");
        let now = Instant::now();
        for file in committed {
            let job = &file.job;
            job.context.meter.acknowledged(job.settled_at.elapsed());
            job.context.meter.feed().tell(|| acknowledge::notice(job, &file.record, "published"));
            job.context.place.found_well(now);
            job.trace.ends(Stage::Commit);
            self.committed.send(Disposable::Committed(file));
        }
        Ok(())
    }
}

impl Named {
    /// Removes the temporary name, where there is one: the final one is durable. One that cannot be
    /// removed harms nobody, and is the sweep's after the next unclean stop.
    fn with_one_name(self) -> Committed {
        if let Some(second) = self.second {
            let removed = failpoint::hit("commit::unlink").and_then(|()| second.remove());
            if let Err(error) = removed {
                let path = self.committed.job.source_path();
                tracing::warn!(source = %shown(&path), %error, "cannot remove the temporary name of a published output");
            }
        }
        self.committed
    }
}

fn told(committed: &[Committed]) -> Vec<acknowledge::Published<'_>> {
    committed
        .iter()
        .map(|file| acknowledge::Published {
            pipeline: file.job.context.name(),
            record: &file.record,
            took: Some(file.job.settled_at.elapsed()),
        })
        .collect()
}
