//! Outputs whose directories a consumer moved away while they were published.
//!
//! A consumer may take an entire directory by renaming it, and an output may then get its name in the
//! consumer's directory. So the sink is queried before the intents, and again after the names and before
//! the acknowledgement.
//!
//! C7: an output is acknowledged only if its directory was under its path after the output got its
//! name, or if a consumer had taken the output from there by then.

use std::path::Path;

use super::{
    acknowledge::NamedOutput,
    intent::{Intent, output_path},
    publish::{Publisher, withdraw},
};
use crate::{
    ledger::State,
    observe::display_path,
    pipeline::{
        failure::{CommitError, Failure},
        job::{Committed, DisposeRequest},
        side_file::SideFile,
    },
    reason::{Reason, ReasonCode},
    sink::{Staged, TakeBack},
};

/// A file in the sink, and its path.
type Located<'a> = (&'a dyn Staged, &'a Path);

impl Publisher {
    /// Returns the outputs whose directories are still under their paths. The others are made
    /// again, in the directory that has the path then.
    pub(super) fn drop_displaced(&self, files: Vec<Intent>) -> Vec<Intent> {
        let (displaced, files) = self.partition(files, |Intent { staged, .. }| {
            let side = staged.side.as_ref().map(SideFile::place);
            ((&*staged.file, &*staged.output), side)
        });
        for Intent { staged, .. } in displaced {
            let path = output_path(&staged);
            self.fail(staged, CommitError::Moved { path });
        }
        files
    }

    /// Splits files into those whose directories, or those of their checksum files, were moved away, and the
    /// others.
    fn partition<T>(
        &self,
        files: Vec<T>,
        place: impl for<'a> Fn(&'a T) -> (Located<'a>, Option<Located<'a>>),
    ) -> (Vec<T>, Vec<T>) {
        let mut places = Vec::with_capacity(files.len());
        for (output, side) in files.iter().map(place) {
            places.push(output);
            places.push(side.unwrap_or(output));
        }
        let displaced = self.context.sink.are_displaced(&places);
        let mut displaced = displaced.chunks(2).map(|pair| pair.contains(&true));
        files.into_iter().partition(|_| displaced.next() == Some(true))
    }

    /// Returns the outputs whose directories were under their paths after they got their names. The
    /// others are withdrawn (C4: the intents first) and made again.
    pub(super) fn withdraw_displaced(
        &self,
        named: Vec<NamedOutput>,
    ) -> Result<Vec<NamedOutput>, Failure> {
        let (displaced, mut named) = self.partition(named, |file| {
            let side = file.side.as_ref().map(SideFile::place);
            ((&*file.file, file.path()), side)
        });
        let mut withdrawn = Vec::new();
        for mut file in displaced {
            let Some(output) = &file.committed.record.output else { continue };
            if output.replaces.is_some() {
                // Taking it back would lose the older output as well: the consumer keeps the newer
                // one.
                withdrawn.push(file);
                continue;
            }
            match file.file.take_back(output) {
                Ok(TakeBack::Taken) => named.push(file),
                Ok(TakeBack::TakenBack) => {
                    take_back_side_file(&mut file);
                    withdrawn.push(file);
                }
                Err(error) => {
                    let (job, error) = (&file.committed.job, error.source);
                    tracing::warn!(event = "file.withdraw_failed", pipeline = %job.context.name(), source = %display_path(&job.path), %error, "cannot withdraw an output from a moved directory, publishing again");
                    withdrawn.push(file);
                }
            }
        }
        let Some(NamedOutput { committed: first, .. }) = withdrawn.first() else {
            return Ok(named);
        };
        let reason = || Some(Reason::new(ReasonCode::DirectoryMoved, "its directory was moved"));
        let update = |file: &NamedOutput| (file.committed.record.id, State::Withdrawn, reason());
        let updates: Vec<_> = withdrawn.iter().map(update).collect();
        let path = first.job.source_path();
        let is_stopping = || first.job.is_stopping();
        withdraw(&self.context, &updates, is_stopping)
            .map_err(|source| CommitError::Ledger { path, source })?;
        for NamedOutput { committed: Committed { mut job, .. }, mut file, .. } in withdrawn {
            job.end_intent();
            file.unprotect();
            drop(file);
            let path = job.source_path();
            self.to_dispose.send(DisposeRequest::Failed(job.fail(CommitError::Moved { path })));
        }
        Ok(named)
    }
}

/// Takes a checksum file back with its output. An error leaves it in the consumer's directory.
fn take_back_side_file(file: &mut NamedOutput) {
    let Some(Err(error)) = file.side.take().map(SideFile::take_back) else { return };
    let job = &file.committed.job;
    tracing::warn!(event = "file.withdraw_failed", pipeline = %job.context.name(), source = %display_path(&job.path), error = %error.source, "cannot withdraw a checksum file from a moved directory");
}
