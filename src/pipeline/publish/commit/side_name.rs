//! Finds whether an output can have its checksum file: the name of that must be free, or be that of a
//! checksum file which this service published. Any other file there counts as a taken name, under every policy.

use std::path::Path;

use super::conflict;
use crate::{
    ledger::{self, Output, Record, Replaced, Sha256},
    observe::display_path,
    pipeline::{
        context::Context,
        failure::{CommitError, Failure},
        job::{Job, Staged},
        side_file::SideFile,
    },
    policy::OnExists,
    protocol::{
        conflict::Resolution,
        side_file::{self, CONTENT_BYTES_MAX, content},
    },
    sink::{self, Found, Precondition},
};

/// Resolves the output's name, then that of its checksum file. After a resolution that publishes, the
/// checksum file is staged for this name, with its precondition.
pub fn resolve(staged: &mut Staged) -> Result<Resolution, Failure> {
    let resolution = conflict::resolve(staged)?;
    let Some(sha256) = staged.hashes.sha256 else { return Ok(resolution) };
    let resolution = match resolution {
        Resolution::Replace(_) if is_side_file(staged)? => {
            return Ok(Resolution::Conflict("it is the checksum file of another output"));
        }
        Resolution::Free | Resolution::Replace(_) | Resolution::Unchanged(_) => resolution,
        other => return Ok(other),
    };
    let side = side_file::path(&staged.output);
    let is_taken = staged.file.look(&side).map_err(CommitError::of)?.is_some();
    let sink = &*staged.job.context.sink;
    let found = if is_taken { side_file::find(sink, &staged.output) } else { Ok(None) };
    let Some(found) = found.map_err(CommitError::of)? else {
        let resolution = with_side_file(staged, resolution, None);
        return prepare(staged, Precondition::Absent).map(|()| resolution);
    };
    let wanted = content(&sha256, &staged.output);
    let is_as_wanted = found.content.as_ref() == Some(&wanted);
    if is_output(staged, &side)? {
        // Its producer delivers checksum files: this one has the same bytes.
        if is_as_wanted && resolution == Resolution::Free {
            discard(staged);
            return Ok(resolution);
        }
        return taken(staged);
    }
    let Some(owner) = owner(staged, &found)? else { return taken(staged) };
    match resolution {
        // A consumer took the output alone.
        Resolution::Free if !is_as_wanted => {
            sink.remove_side_file(&side, &found.identity).map_err(CommitError::of)?;
            prepare(staged, Precondition::Absent).map(|()| resolution)
        }
        Resolution::Unchanged(_) if is_as_wanted => Ok(resolution),
        resolution => {
            let resolution = with_side_file(staged, resolution, Some(owner));
            prepare(staged, Precondition::Unchanged(found.identity)).map(|()| resolution)
        }
    }
}

/// Adds the digest of the checksum file that is there to what is replaced. An output that is unchanged, but
/// has no checksum file or an old one, is published again, with the same bytes.
fn with_side_file(staged: &Staged, resolution: Resolution, sha256: Option<Sha256>) -> Resolution {
    match resolution {
        Resolution::Replace(replaced) => Resolution::Replace(Replaced { sha256, ..replaced }),
        Resolution::Unchanged(identity) => {
            let hash = Some(staged.hashes.output);
            Resolution::Replace(Replaced { identity, hash, sha256 })
        }
        other => other,
    }
}

/// Resolves a name of a checksum file that another file has.
fn taken(staged: &Staged) -> Result<Resolution, Failure> {
    Ok(match staged.job.context.config.keys.on_exists {
        OnExists::Skip => Resolution::SideSkip,
        OnExists::Suffix => return conflict::numbered(staged),
        OnExists::Update | OnExists::Fail | OnExists::Replace => {
            Resolution::SideConflict("it is not the checksum file of an output of this service")
        }
    })
}

/// Stages the checksum file again, durably, if the output has another name by now, or a withdrawn intent
/// used it up.
fn prepare(staged: &mut Staged, precondition: Precondition) -> Result<(), Failure> {
    let path = side_file::path(&staged.output);
    let is_valid = |side: &SideFile| side.path == path && !side.is_published();
    if !staged.side.as_ref().is_some_and(is_valid) {
        discard(staged);
        let job = &staged.job;
        let context = &job.context;
        let parts = (&*context.sink, &*job.input, &job.metadata);
        let side = SideFile::stage(parts, &staged.output, staged.hashes.sha256.as_ref());
        staged.side = side.and_then(|side| seal(context, side)).map_err(CommitError::of)?;
    }
    if let Some(side) = &mut staged.side {
        side.precondition = precondition;
    }
    Ok(())
}

fn discard(staged: &mut Staged) {
    if let Some(side) = staged.side.take() {
        side.discard();
    }
}

fn seal(context: &Context, mut side: Option<SideFile>) -> Result<Option<SideFile>, sink::Error> {
    if let Some(side) = &mut side {
        let sealed = context.sink.seal(&mut [side.file_mut()]);
        sealed.contents.into_iter().collect::<Result<(), _>>()?;
        sealed.names?;
    }
    Ok(side)
}

/// Returns the digest in a checksum file of this output's name, if the ledger has it: of the newest output
/// of that name. This output's own digest counts as well: the ledger may be lost.
fn owner(staged: &Staged, found: &Found) -> Result<Option<Sha256>, CommitError> {
    let Job { context, path, .. } = &staged.job;
    let Some(found) = &found.content else { return Ok(None) };
    let is_it = |sha256: &Sha256| content(sha256, &staged.output) == *found;
    let digest_of = |record: Option<Record>| {
        let output = record?.output.filter(|output| output.path == staged.output)?;
        output.sha256.filter(is_it)
    };
    if let Some(own) = staged.hashes.sha256.filter(is_it) {
        return Ok(Some(own));
    }
    // The look-up by the output's name takes as long as the ledger is large.
    let has_its_form = found.ends_with(content(&[0; 32], &staged.output).split_at(65).1);
    let look_up = || {
        let published = context.ledger.latest_published(context.id, path)?;
        if let Some(own) = digest_of(published) {
            return Ok(Some(own));
        }
        if !has_its_form {
            return Ok(None);
        }
        for roots in context.ledger.pipelines()? {
            if roots.output == context.config.output
                && let Some(owner) =
                    digest_of(context.ledger.latest_for_output(roots.id, &staged.output)?)
            {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    };
    look_up().map_err(|source| look_up_error(staged, source))
}

/// Checks whether the ledger knows this path, of a checksum file, as that of an output.
fn is_output(staged: &Staged, side: &Path) -> Result<bool, CommitError> {
    let Context { config, ledger, id, .. } = &*staged.job.context;
    let has_path = |record: Option<Record>| {
        record.and_then(|record| record.output).is_some_and(|output| output.path == side)
    };
    let look_up = || {
        if config.transforms.added_extension().is_some() {
            return Ok(false);
        }
        // A copy has its source's name, which the ledger finds by its index; its record may be an intent still.
        if config.transforms.only_copies() {
            let is_latest = has_path(ledger.latest(*id, side)?);
            return Ok(is_latest || has_path(ledger.latest_published(*id, side)?));
        }
        Ok(has_path(ledger.latest_for_output(*id, side)?))
    };
    look_up().map_err(|source| look_up_error(staged, source))
}

/// Checks whether the file that has this output's name is the checksum file of another output.
fn is_side_file(staged: &Staged) -> Result<bool, CommitError> {
    let Context { config, ledger, sink, id, .. } = &*staged.job.context;
    let Some(of) = side_file::output_of(&staged.output) else { return Ok(false) };
    let Some(found) = sink.read(&staged.output, CONTENT_BYTES_MAX).map_err(CommitError::of)? else {
        return Ok(false);
    };
    let sha256_of = |output: Output| output.sha256;
    let look_up = || {
        for roots in ledger.pipelines()? {
            if roots.output != config.output {
                continue;
            }
            let record = ledger.latest_for_output(roots.id, &of)?;
            let sha256 = record.and_then(|record| record.output).and_then(sha256_of);
            let side = sha256.map(|sha256| content(&sha256, &of));
            if let Some(side) = side.filter(|side| found.content.as_ref() == Some(side)) {
                // Its producer delivers checksum files: this one has the same bytes.
                let is_same = *blake3::hash(&side).as_bytes() == staged.hashes.output;
                return Ok(!is_same && ledger.latest_for_output(*id, &staged.output)?.is_none());
            }
        }
        Ok(false)
    };
    look_up().map_err(|source| look_up_error(staged, source))
}

fn look_up_error(staged: &Staged, source: ledger::Error) -> CommitError {
    let path = staged.job.context.config.output.join(&staged.output);
    CommitError::LookUp { path, source }
}

/// C9: undoes the publication of a checksum file before its intent is withdrawn. One that cannot be removed
/// is logged, and stays.
pub fn undo(staged: &Staged, record: &Record) {
    let (Some(side), Some(output)) = (&staged.side, &record.output) else { return };
    if !side.is_published() {
        return;
    }
    let context = &staged.job.context;
    let is_known = |path: &Path| is_output(staged, path);
    if let Err(error) = side_file::undo(&*context.sink, output, is_known) {
        warn(&staged.job, output, error);
    }
}

/// Removes the checksum file of a replaced output where its new version has none.
pub fn remove_earlier(job: &Job, record: &Record) {
    let Some(output) = record.output.as_ref().filter(|output| output.sha256.is_none()) else {
        return;
    };
    if let Err(error) = side_file::complete(&*job.context.sink, output) {
        warn(job, output, CommitError::of(error));
    }
}

fn warn(job: &Job, output: &Output, error: CommitError) {
    let error = Failure::from(error).chain();
    tracing::warn!(event = "file.checksum_stays", pipeline = %job.context.name(), source = %display_path(&job.path), output = %display_path(&output.path), error, "cannot remove the checksum file of an earlier output");
}
