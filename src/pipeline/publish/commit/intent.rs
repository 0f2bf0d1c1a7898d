//! A staged output with its intent, and the names that both give.

use std::{collections::HashSet, path::PathBuf};

use super::{acknowledge::NamedOutput, side_name};
use crate::{
    failpoint,
    ledger::{Output, Record, Replaced, State},
    pipeline::{
        job::{Committed, Staged},
        side_file::SideFile,
    },
    protocol::{self, side_file},
    sink::{self, Precondition},
};

/// A staged output with its intent.
#[derive(Debug)]
pub(super) struct Intent {
    pub(super) staged: Staged,
    pub(super) record: Record,
}

impl Intent {
    pub(super) fn new(staged: Staged, replaces: Option<Replaced>) -> Self {
        let job = &staged.job;
        let output = output(&staged, replaces);
        let record = Record {
            id: job.id,
            pipeline: job.context.id,
            source: job.path.clone(),
            identity: job.metadata.identity,
            output: Some(output),
            on_success: job.context.config.on_success.clone(),
            state: State::Intent,
            reason: None,
            moved_to: None,
            at_ns: protocol::outcome::now_ns(),
        };
        Self { staged, record }
    }
}

/// Gives an output its final name. A refused one is returned.
pub(super) fn publish(file: Intent) -> Result<NamedOutput, Box<(Intent, sink::Error)>> {
    let Intent { mut staged, record } = file;
    let precondition = record.output.as_ref().map_or(Precondition::Absent, Precondition::of);
    let side = staged.side.as_mut().map_or(Ok(()), SideFile::publish);
    let published = side
        .and_then(|()| {
            failpoint::hit("commit::rename")
                .map_err(|error| sink::Error::of_publish(output_path(&staged), error))
        })
        .and_then(|()| staged.file.publish(&staged.output, precondition));
    match published {
        Ok(()) => {
            side_name::remove_earlier(&staged.job, &record);
            let Staged { job, file, side, .. } = staged;
            Ok(NamedOutput { committed: Committed { job, record }, file, side })
        }
        Err(error) => Err(Box::new((Intent { staged, record }, error))),
    }
}

pub(super) fn output(staged: &Staged, replaces: Option<Replaced>) -> Output {
    Output {
        path: staged.output.clone(),
        temp: staged.file.staged_name().to_owned(),
        identity: staged.file.identity(),
        hash: staged.hashes.output,
        source_hash: staged.hashes.source,
        replaces,
        transforms: staged.job.context.config.transforms.recorded(),
        sha256: staged.hashes.sha256,
    }
}

/// Claims the names of an output and of its checksum file for one round; false if one is claimed already.
pub(super) fn claim_names(staged: &Staged, names: &mut HashSet<PathBuf>) -> bool {
    let side = staged.side.as_ref().map(|_| side_file::path(&staged.output));
    if names.contains(&staged.output) || side.as_ref().is_some_and(|side| names.contains(side)) {
        return false;
    }
    names.insert(staged.output.clone());
    names.extend(side);
    true
}

pub(super) fn side_path(staged: &Staged) -> PathBuf {
    staged.job.context.config.output.join(side_file::path(&staged.output))
}

pub(super) fn output_path(staged: &Staged) -> PathBuf {
    staged.job.context.config.output.join(&staged.output)
}
