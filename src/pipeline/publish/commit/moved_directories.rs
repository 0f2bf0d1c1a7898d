//! Detects directories that are moved away while outputs are published into them.
//!
//! A consumer may take an entire directory by renaming it. Its handle stays valid, so an output
//! renamed through it then gets its name in the consumer's directory. So each directory is looked
//! up by its path before the intents, and again after the names and before the acknowledgement.
//!
//! C7: an output is acknowledged only if its directory was under its path after the output got its
//! name, or if a consumer had taken the output from there by then.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{
    acknowledge::NamedOutput,
    publish::{Intent, Publisher, output_path, withdraw},
};
use crate::{
    failpoint,
    fs::{self, Dir, Overwrite},
    ledger::{Output, State},
    observe::display_path,
    pipeline::{
        context::Context,
        failure::{CommitError, Failure},
        job::{Committed, DisposeRequest, Staged},
    },
};

impl Publisher {
    /// Returns the outputs whose directories are still under their paths. The others are made
    /// again, in the directory that has the path then.
    pub(super) fn drop_moved(&self, files: Vec<Intent>) -> Vec<Intent> {
        let mut dirs = MovedDirs::default();
        let (moved, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| dirs.is_moved(&file.staged));
        for Intent { staged, .. } in moved {
            let path = output_path(&staged);
            self.fail(staged, CommitError::Moved { path });
        }
        files
    }

    /// Returns the outputs whose directories were under their paths after they got their names. The
    /// others are withdrawn (C4: the intents first) and made again.
    pub(super) fn withdraw_moved(
        &self,
        named: Vec<NamedOutput>,
    ) -> Result<Vec<NamedOutput>, Failure> {
        let mut dirs = MovedDirs::default();
        let (moved, mut named): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|file| dirs.is_output_moved(file));
        let mut withdrawn = Vec::new();
        for file in moved {
            if replaces_output(&file.committed) {
                // Taking it back would lose the older output as well: the consumer keeps the newer
                // one.
                withdrawn.push(file);
                continue;
            }
            match take_back(&file.committed, &file.dir) {
                Ok(TakeBack::Published) => named.push(file),
                Ok(TakeBack::Renamed) => withdrawn.push(file),
                Err(error) => {
                    let source = display_path(&file.committed.job.source_path()).to_string();
                    tracing::warn!(event = "file.withdraw_failed", source, %error, "cannot withdraw an output from a moved directory, publishing again");
                    withdrawn.push(file);
                }
            }
        }
        let Some(NamedOutput { committed: first, .. }) = withdrawn.first() else {
            return Ok(named);
        };
        let reason = || Some("its directory was moved".to_owned());
        let update = |file: &NamedOutput| (file.committed.record.id, State::Withdrawn, reason());
        let updates: Vec<_> = withdrawn.iter().map(update).collect();
        let path = first.job.source_path();
        let is_stopping = || first.job.is_stopping();
        withdraw(&self.context, &updates, is_stopping)
            .map_err(|source| CommitError::Ledger { path, source })?;
        for NamedOutput { committed: Committed { job, record }, dir, .. } in withdrawn {
            if let Some(output) = &record.output {
                dir.discard(&output.temp);
            }
            let path = job.source_path();
            self.to_dispose.send(DisposeRequest::Failed(job.fail(CommitError::Moved { path })));
        }
        Ok(named)
    }
}

/// The directories of one batch, each checked once: whether it was moved.
#[derive(Debug, Default)]
struct MovedDirs(HashMap<(usize, PathBuf, u64), bool>);

impl MovedDirs {
    /// Checks whether a staged output's directory was moved from its path.
    fn is_moved(&mut self, staged: &Staged) -> bool {
        self.check(&staged.job.context, staged.temp.dir(), &staged.output)
    }

    /// Checks the same of an output that has its name.
    fn is_output_moved(&mut self, NamedOutput { committed: file, dir, .. }: &NamedOutput) -> bool {
        let output = file.record.output.as_ref().map(|output| output.path.as_path());
        self.check(&file.job.context, dir, output.unwrap_or_else(|| Path::new("")))
    }

    fn check(&mut self, context: &Context, dir: &Dir, output: &Path) -> bool {
        let (parent, _) = fs::split(output);
        let inode = dir.id().map_or(0, |id| id.inode);
        let key = (context.index, parent.to_path_buf(), inode);
        *self.0.entry(key).or_insert_with(|| is_moved(context, dir, parent))
    }
}

fn is_moved(context: &Context, dir: &Dir, parent: &Path) -> bool {
    if failpoint::is_skipped("barrier::moved_directory") {
        return false;
    }
    match context.is_current(dir, parent) {
        Ok(is_same) => !is_same,
        // The directory's sync reports other errors.
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The result of taking back an output whose directory was moved.
#[derive(Debug, PartialEq, Eq)]
enum TakeBack {
    /// The output has its temporary name again: no consumer took it.
    Renamed,
    /// The output left its directory: a consumer took it, as it takes published outputs.
    Published,
}

fn replaces_output(file: &Committed) -> bool {
    file.record.output.as_ref().is_some_and(|output| output.replaces.is_some())
}

/// Takes an output back from a directory that a consumer moved.
fn take_back(file: &Committed, dir: &Dir) -> io::Result<TakeBack> {
    let Some(Output { path, temp, identity, .. }) = &file.record.output else {
        return Ok(TakeBack::Published);
    };
    let (_, name) = fs::split(path);
    match dir.stat(Path::new(name))? {
        Some(found) if found.identity.matches_content(identity) => {}
        _ => return Ok(TakeBack::Published),
    }
    match dir.rename(name, dir, temp, Overwrite::Never) {
        Ok(()) => Ok(TakeBack::Renamed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(TakeBack::Published),
        Err(error) => Err(error),
    }
}
