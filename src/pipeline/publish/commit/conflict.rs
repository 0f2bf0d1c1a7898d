//! Finds which name an output gets if its own may be taken: looks at the name and at the ledger, and applies
//! the `on_exists` policies of [`crate::protocol::conflict`].

use std::{io, path::Path};

use crate::{
    failpoint, fs,
    ledger::{self, Output, Record, Replaced},
    pipeline::{
        failure::{ClaimError, CommitError, Failure},
        job::{Job, Staged},
    },
    policy::{OnExists, OnSuccess},
    protocol::{
        conflict::{EarlierOutput, Resolution, decide, own_numbered_path, stem},
        earlier_output, side_file,
    },
    sink::Occupant,
};

/// Returns the output that an earlier job made of the same content, if there is one.
///
/// # Errors
///
/// The content differs, and the file is older than the processed one.
fn same_content_output(staged: &Staged) -> Result<Option<&Output>, Failure> {
    let Some(before) = staged.job.earlier_record.as_deref() else { return Ok(None) };
    let has_same_content = |output: &&Output| output.source_hash == staged.hashes.source;
    let found = &staged.job.metadata.identity;
    match before.output.as_ref().filter(has_same_content) {
        // The times are coarse: the file was written within the tick in which it was read.
        None if found.matches(&before.identity) => Ok(None),
        None if found.is_earlier_state_of(&before.identity) => {
            Err(ClaimError::Earlier { path: staged.job.source_path() }.into())
        }
        output => Ok(output),
    }
}

/// Checks whether the name is taken and, if it is, looks the source up in the ledger.
pub fn resolve(staged: &Staged) -> Result<Resolution, Failure> {
    if let Some(output) = same_content_output(staged)? {
        return Ok(Resolution::Processed(Box::new(output.clone())));
    }
    let context = &staged.job.context;
    let path = || context.config.output.join(&staged.output);
    let failed = |source| CommitError::Look { path: path(), source };
    let existing = staged.file.look(&staged.output).map_err(CommitError::of)?;
    let may_have_own = staged.job.is_known && context.config.on_success == OnSuccess::Keep;
    if existing.is_none() && !may_have_own {
        return Ok(Resolution::Free);
    }
    let record = failpoint::hit("commit::look_up")
        .map_err(ledger::Error::injected)
        .and_then(|()| context.ledger.latest_published(context.id, &staged.job.path))
        .map_err(|source| CommitError::LookUp { path: path(), source })?;
    let Some(existing) = existing else { return own_output(staged, record.as_ref()) };
    let earlier = match &record {
        None => None,
        Some(record) => Some(find_earlier_output(staged, record, &existing).map_err(failed)?),
    };
    let configured = context.config.keys.on_exists;
    let replaces_own = |earlier| replaces_own(staged, earlier);
    let extension = context.config.transforms.added_extension();
    if let Some(earlier) = earlier.filter(|earlier| replaces_own(*earlier))
        && let Some(path) = own_numbered_path(earlier, &staged.output, extension)
    {
        return Ok(Resolution::Suffixed(path));
    }
    let hash = &staged.hashes.output;
    let is_own = earlier.is_some_and(|earlier| earlier.is_as_published && replaces_own(earlier));
    let policy = if is_own { OnExists::Update } else { configured };
    match decide(policy, &existing, earlier, &staged.output, hash) {
        Resolution::Numbered => numbered(staged),
        // The ledger that had its record was lost, or the directories were moved to other paths.
        Resolution::Conflict(_)
            if policy == OnExists::Update
                && has_same_content(staged, &existing)?
                && !is_of_another_source(staged, &existing)? =>
        {
            let identity = existing.identity;
            Ok(Resolution::Replace(Replaced { identity, hash: Some(*hash), sha256: None }))
        }
        resolution => Ok(resolution),
    }
}

/// Checks whether an output replaces the earlier one of its source.
fn replaces_own(staged: &Staged, earlier: EarlierOutput<'_>) -> bool {
    let configured = staged.job.context.config.keys.on_exists;
    configured == OnExists::Update
        || configured != OnExists::Replace && earlier.is_requested_again(&staged.hashes.source)
}

/// Resolves a free name: to the numbered one of this source's output, if that is there, unchanged, since the
/// name was another's; the name is free because a consumer took that one's output.
fn own_output(staged: &Staged, record: Option<&Record>) -> Result<Resolution, Failure> {
    let context = &staged.job.context;
    let Some((record, ours)) = record.and_then(|record| Some((record, record.output.as_ref()?)))
    else {
        return Ok(Resolution::Free);
    };
    if ours.path == staged.output {
        return Ok(Resolution::Free);
    }
    let Some(existing) = staged.file.look(&ours.path).map_err(CommitError::of)? else {
        return Ok(Resolution::Free);
    };
    let path = || context.config.output.join(&ours.path);
    let failed = |source| CommitError::Look { path: path(), source };
    let is_ours = existing.is_output(ours, || staged.file.hash_of(&ours.path));
    if !is_ours.map_err(|error| failed(error.source))? {
        return Ok(Resolution::Free);
    }
    let earlier = find_earlier_output(staged, record, &existing).map_err(failed)?;
    let extension = context.config.transforms.added_extension();
    let own = Some(earlier).filter(|earlier| replaces_own(staged, *earlier));
    let own = own.and_then(|own| own_numbered_path(own, &staged.output, extension));
    Ok(own.map_or(Resolution::Free, Resolution::Suffixed))
}

/// Checks whether the ledger knows the output's name as another source's, of any pipeline. A file that is
/// older than the first record of its directory is not looked up: that takes as long as the ledger is large.
fn is_of_another_source(staged: &Staged, existing: &Occupant) -> Result<bool, Failure> {
    let Job { context, path, .. } = &staged.job;
    let look_up = || {
        if existing.identity.ctime_ns < context.first_output_ns()? {
            return Ok(false);
        }
        for roots in context.ledger.pipelines()? {
            if roots.output != context.config.output {
                continue;
            }
            let record = context.ledger.latest_for_output(roots.id, &staged.output)?;
            if record.is_some_and(|record| roots.id != context.id || record.source != *path) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    look_up().map_err(|source| {
        CommitError::LookUp { path: context.config.output.join(&staged.output), source }.into()
    })
}

/// Checks whether the file that has the output's name is the output, byte for byte.
fn has_same_content(staged: &Staged, existing: &Occupant) -> Result<bool, Failure> {
    let is_as_large = existing.identity.size == staged.file.identity().size;
    let hash = || staged.file.hash_of(&staged.output).map_err(CommitError::of);
    Ok(existing.is_file && is_as_large && hash()? == staged.hashes.output)
}

fn find_earlier_output<'a>(
    staged: &Staged,
    record: &'a Record,
    existing: &Occupant,
) -> io::Result<EarlierOutput<'a>> {
    let is_as_published = match &record.output {
        Some(ours) if ours.path == staged.output => {
            let hash = || staged.file.hash_of(&ours.path);
            existing.is_output(ours, hash).map_err(|error| error.source)?
        }
        _ => false,
    };
    let Job { input, metadata, .. } = &staged.job;
    let is_of_this_run = staged.job.context.ledger.session().is_of_this_run(record.id);
    let is_same_source = staged.job.succession.is_none_or(|succession| record.id > succession)
        && earlier_output::is_same_source(record, &metadata.identity, &**input, is_of_this_run)?;
    Ok(EarlierOutput { record, is_as_published, is_same_source })
}

/// Resolves to a free name of `NAME.1.EXT`, `NAME.2.EXT`, …, of which the checksum file's name is free, too.
pub fn numbered(staged: &Staged) -> Result<Resolution, Failure> {
    let context = &staged.job.context;
    let (parent, name) = fs::split(&staged.output);
    let extension = context.config.transforms.added_extension();
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let name_bytes_max = side_file::output_name_bytes_max(context.config.keys.checksum);
    let is_free = |path: &Path| {
        let found = staged.file.look(path).map_err(|error| error.source)?;
        Ok::<_, io::Error>(found.is_none())
    };
    let free = fs::free_number(stem(name, &suffix), &suffix, name_bytes_max, |candidate| {
        let path = parent.join(candidate);
        Ok(is_free(&path)? && (staged.side.is_none() || is_free(&side_file::path(&path))?))
    });
    let path = context.config.output.join(&staged.output);
    let free = free.map_err(|source| CommitError::Look { path, source })?;
    Ok(Resolution::Suffixed(parent.join(free)))
}
