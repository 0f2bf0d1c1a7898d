//! The first part of a group commit: makes contents and staged names durable.

use std::sync::Arc;

use super::DurableBatch;
use crate::{
    limits,
    pipeline::{
        channel::{Inlet, Outlet, Shared},
        clock::Clock,
        context::Context,
        failure::{CommitError, Failure, Verdict},
        halt::Halt,
        job::{DisposeRequest, Staged},
        side_file::SideFile,
    },
    sink::{self, SealResult},
    stage::Stage,
};

/// The seal thread.
#[derive(Debug)]
pub struct Sealer {
    /// The pipeline that the stage belongs to.
    pub context: Arc<Context>,
    pub shared: Shared,
    pub fatal: Halt,
}

impl Sealer {
    /// Seals staged outputs, batch by batch, until the inlet closes.
    pub fn run(self, inlet: &Inlet<Staged>, outlet: &Outlet<DurableBatch>) {
        loop {
            let batch = inlet.receive_batch(limits::COMMIT_BATCH_FILES_MAX);
            if batch.is_empty() {
                return;
            }
            let clock = Clock::start(&self.context.meter, Stage::Commit);
            let sealed = self.shared.panics.guard(|| self.seal(batch)).unwrap_or_default();
            // The publisher counts the files.
            clock.stop(0);
            if !sealed.is_empty() {
                outlet.send(DurableBatch(sealed));
            }
        }
    }

    fn seal(&self, mut batch: Vec<Staged>) -> Vec<Staged> {
        if self.fatal.is_set() {
            return Vec::new();
        }
        for staged in &batch {
            staged.job.meter.stage_started(Stage::Commit);
            staged.job.trace.stage_started(Stage::Commit);
        }
        let mut files: Vec<&mut dyn sink::Staged> = Vec::with_capacity(batch.len());
        for Staged { file, side, .. } in &mut batch {
            files.push(&mut **file);
            files.extend(side.as_mut().map(SideFile::file_mut));
        }
        let SealResult { contents, names } = self.context.sink.seal(&mut files);
        let sealed = self.keep_sealed(batch, contents);
        match names.map_err(|error| Failure::from(CommitError::of(error))) {
            Ok(()) => sealed,
            // The disk is full: none of these outputs has an intent, and their sources are read
            // again.
            Err(failure) if failure.verdict() == Verdict::Pause => {
                self.drop_all(sealed, &failure);
                Vec::new()
            }
            // Any other failure to sync a directory ends all publishing.
            Err(failure) => {
                self.fatal.set(&failure);
                Vec::new()
            }
        }
    }

    fn drop_all(&self, sealed: Vec<Staged>, failure: &Failure) {
        for staged in sealed {
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, failure.chain());
            self.drop_unsealed(staged, source);
        }
    }

    /// C5: drops the outputs whose contents, or those of their checksum files, are not durable; their sources go through the intake again.
    fn keep_sealed(
        &self,
        batch: Vec<Staged>,
        contents: Vec<Result<(), sink::Error>>,
    ) -> Vec<Staged> {
        let mut kept = Vec::with_capacity(batch.len());
        let mut contents = contents.into_iter();
        for staged in batch {
            let (Some(mut content), side) =
                (contents.next(), staged.side.as_ref().and_then(|_| contents.next()))
            else {
                return kept;
            };
            content = content.and(side.unwrap_or(Ok(())));
            match content {
                Ok(()) => kept.push(staged),
                Err(error) => self.drop_unsealed(staged, error.source),
            }
        }
        kept
    }

    fn drop_unsealed(&self, staged: Staged, source: std::io::Error) {
        let path = staged.job.source_path();
        let failed = staged.job.fail(CommitError::Sync { path, source });
        self.shared.failed.send(DisposeRequest::Failed(failed));
    }
}
