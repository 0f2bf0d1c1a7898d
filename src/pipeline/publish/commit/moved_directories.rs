//! Directories that are taken away while outputs are published into them.
//!
//! A consumer may take a whole directory by renaming it. Its handle stays good, so what is renamed
//! in it then gets its name in the consumer's directory. So each directory is looked up by its path
//! before the intents, and once more after the names and before the acknowledgement.
//!
//! C7: an output is acknowledged only if its directory was under its path after it got its name, or
//! if it was taken from there by then.

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
    /// Those whose directory is still under its path. The others are made anew, in the one that is
    /// there then.
    pub(super) fn drop_moved(&self, files: Vec<Intent>) -> Vec<Intent> {
        let mut looked = Looked::default();
        let (moved, files): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| looked.is_moved(&file.staged));
        for Intent { staged, .. } in moved {
            let path = output_path(&staged);
            self.fail(staged, CommitError::Moved { path });
        }
        files
    }

    /// Those whose directory was under its path after they got their names. The others are taken
    /// back (C4: the intents are withdrawn first), and made anew.
    pub(super) fn take_back_moved(
        &self,
        named: Vec<NamedOutput>,
    ) -> Result<Vec<NamedOutput>, Failure> {
        let mut looked = Looked::default();
        let (moved, mut named): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|file| looked.has_moved(file));
        let mut back = Vec::new();
        for file in moved {
            if replaces(&file.committed) {
                // The older output would be gone with it: the consumer keeps the newer one.
                back.push(file);
                continue;
            }
            match take_back(&file.committed, &file.dir) {
                Ok(Taken::Published) => named.push(file),
                Ok(Taken::Back) => back.push(file),
                Err(error) => {
                    let source = display_path(&file.committed.job.source_path()).to_string();
                    tracing::warn!(event = "file.withdraw_failed", source, %error, "cannot withdraw an output from a moved directory, publishing again");
                    back.push(file);
                }
            }
        }
        let Some(NamedOutput { committed: first, .. }) = back.first() else { return Ok(named) };
        let reason = || Some("its directory was moved".to_owned());
        let mark = |file: &NamedOutput| (file.committed.record.id, State::Withdrawn, reason());
        let marks: Vec<_> = back.iter().map(mark).collect();
        let path = first.job.source_path();
        withdraw(&first.job, &marks).map_err(|source| CommitError::Ledger { path, source })?;
        for NamedOutput { committed: Committed { job, record }, dir, .. } in back {
            if let Some(output) = &record.output {
                dir.discard(&output.temp);
            }
            let path = job.source_path();
            self.ended.send(DisposeRequest::Failed(job.fail(CommitError::Moved { path })));
        }
        Ok(named)
    }
}

/// What was found of the directories of one batch, each looked at once.
#[derive(Debug, Default)]
struct Looked(HashMap<(usize, PathBuf, u64), bool>);

impl Looked {
    /// Whether a staged output's directory is not under its path any more.
    fn is_moved(&mut self, staged: &Staged) -> bool {
        self.look(&staged.job.context, staged.temp.dir(), &staged.output)
    }

    /// The same of an output that has its name.
    fn has_moved(&mut self, NamedOutput { committed: file, dir, .. }: &NamedOutput) -> bool {
        let output = file.record.output.as_ref().map(|output| output.path.as_path());
        self.look(&file.job.context, dir, output.unwrap_or_else(|| Path::new("")))
    }

    fn look(&mut self, context: &Context, dir: &Dir, output: &Path) -> bool {
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
        Ok(is_there) => !is_there,
        // Where it cannot be looked at, its sync says what is wrong.
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// What became of an output whose directory was taken away before it got its name, or just after.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It has its temporary name again: nobody took it.
    Back,
    /// It is not in its directory any more: it was taken, as what is published is.
    Published,
}

fn replaces(file: &Committed) -> bool {
    file.record.output.as_ref().is_some_and(|output| output.replaces.is_some())
}

/// Takes an output back from a directory that is a consumer's by now.
fn take_back(file: &Committed, dir: &Dir) -> io::Result<Taken> {
    let Some(Output { path, temp, identity, .. }) = &file.record.output else {
        return Ok(Taken::Published);
    };
    let (_, name) = fs::split(path);
    match dir.stat(Path::new(name))? {
        Some(found) if found.identity.matches_content(identity) => {}
        _ => return Ok(Taken::Published),
    }
    match dir.rename(name, dir, temp, Overwrite::Never) {
        Ok(()) => Ok(Taken::Back),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Taken::Published),
        Err(error) => Err(error),
    }
}
