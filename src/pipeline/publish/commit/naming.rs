//! Which name an output gets where its own may be taken: the exists-policies.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use crate::{
    fs::{self, Dir, Kind, Seen},
    identity::Identity,
    ledger::{Hash, Output, Record},
    limits,
    pipeline::{
        failure::{ClaimError, CommitError, Failure},
        job::Staged,
    },
    policy::OnExists,
};

/// What is to be done about an output's name.
#[derive(Debug, PartialEq, Eq)]
pub enum Naming {
    /// Nobody has the name.
    Free,
    /// This file has it, and is to be replaced.
    Replace(Identity),
    /// This file has it, is ours and has the same content: there is nothing to publish.
    Unchanged(Identity),
    /// Its content was processed before, into this: there is nothing to publish, even where a
    /// consumer took that.
    Processed(Output),
    /// Publish under this name instead (below the output's root).
    Suffixed(PathBuf),
    /// Leave what is there.
    Skip,
    /// The source goes to quarantine, for this reason.
    Taken(&'static str),
}

/// Decides what an existing file means under a policy, except for [`OnExists::Suffix`].
///
/// `record` is the newest one of the same source that published.
#[must_use]
pub fn decide(
    policy: OnExists,
    existing: &Seen,
    record: Option<&Record>,
    output: &Path,
    hash: &Hash,
) -> Naming {
    if existing.kind != Kind::File && policy != OnExists::Skip {
        return Naming::Taken("it is not a regular file");
    }
    match policy {
        OnExists::Skip => Naming::Skip,
        OnExists::Fail => Naming::Taken("the policy is `fail`"),
        OnExists::Replace => Naming::Replace(existing.identity),
        OnExists::Suffix => Naming::Free,
        OnExists::Update => {
            let Some(ours) = record.and_then(|record| record.output.as_ref()) else {
                return Naming::Taken(
                    "the policy is `update` and this service did not publish it from this source",
                );
            };
            if ours.path != output {
                Naming::Taken("the policy is `update` and this source was published elsewhere")
            } else if !ours.identity.matches_content(&existing.identity) {
                Naming::Taken("the policy is `update` and someone changed it since")
            } else if ours.hash == *hash {
                Naming::Unchanged(existing.identity)
            } else {
                Naming::Replace(existing.identity)
            }
        }
    }
}

/// What an earlier job made of the same content, if it did.
///
/// # Errors
///
/// It is not the same content, and the file is older than what was processed.
fn processed(staged: &Staged) -> Result<Option<&Output>, Failure> {
    let Some(before) = staged.job.before.as_deref() else { return Ok(None) };
    let same = |output: &&Output| output.source_hash == staged.hashes.source;
    let seen = &staged.job.seen.identity;
    match before.output.as_ref().filter(same) {
        // Of coarse times: it was written to within the tick in which it was read.
        None if seen.matches(&before.identity) => Ok(None),
        None if seen.is_earlier_state_of(&before.identity) => {
            Err(ClaimError::Earlier { path: staged.job.source_path() }.into())
        }
        output => Ok(output),
    }
}

/// Looks at the name and asks the ledger where it is taken.
pub fn name(staged: &Staged) -> Result<Naming, Failure> {
    if let Some(output) = processed(staged)? {
        return Ok(Naming::Processed(output.clone()));
    }
    let context = &staged.job.context;
    let (parent, name) = fs::split(&staged.output);
    let path = || context.config.output.join(&staged.output);
    let look = |source| CommitError::Look { path: path(), source };
    let dir = staged.temp.dir();
    let Some(existing) = dir.look_fresh(name).map_err(look)? else {
        return Ok(Naming::Free);
    };
    if context.config.on_exists == OnExists::Suffix {
        let added = context.config.steps.added_extension();
        let free = free_name(dir, name, added).map_err(look)?;
        return Ok(Naming::Suffixed(parent.join(free)));
    }
    let record = context
        .ledger
        .latest_published(context.id, &staged.job.path)
        .map_err(|source| CommitError::Look { path: path(), source: io::Error::other(source) })?;
    let hash = &staged.hashes.output;
    Ok(decide(context.config.on_exists, &existing, record.as_ref(), &staged.output, hash))
}

/// The first of `NAME.1.EXT`, `NAME.2.EXT`, … that nobody has.
fn free_name(dir: &Dir, name: &OsStr, added: Option<&str>) -> io::Result<std::ffi::OsString> {
    use std::os::unix::ffi::OsStrExt;
    let extension = added.map(|added| format!(".{added}")).unwrap_or_default();
    let bytes = name.as_bytes();
    let stem = OsStr::from_bytes(bytes.strip_suffix(extension.as_bytes()).unwrap_or(bytes));
    for number in 1_u32.. {
        let candidate = fs::numbered(stem, number, &extension, limits::NAME_BYTES);
        if dir.look(Path::new(&candidate))?.is_none() {
            return Ok(candidate);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::State, policy::OnSuccess};

    const OURS: Identity =
        Identity { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

    fn seen(kind: Kind, identity: Identity) -> Seen {
        Seen { kind, identity, mode: 0o644, owner: 0, group: 0, names: 1 }
    }

    fn record(output: &str) -> Record {
        Record {
            id: 1,
            pipeline: 1,
            source: "a".into(),
            identity: OURS,
            output: Some(Output {
                path: output.into(),
                temp: "t".into(),
                identity: OURS,
                hash: [1; 32],
                source_hash: [2; 32],
                replaces: None,
            }),
            on_success: OnSuccess::Keep,
            state: State::Done,
            reason: None,
            moved_to: None,
            at_ns: 0,
        }
    }

    #[test]
    fn update_replaces_only_what_this_source_published_and_nobody_changed() {
        let renamed = Identity { changed_ns: 99, ..OURS };
        let changed = Identity { size: 101, ..renamed };
        let ours = record("a.zst");
        let elsewhere = record("a.gz");
        let update = |record: Option<&Record>, found, hash| {
            decide(
                OnExists::Update,
                &seen(Kind::File, found),
                record,
                "a.zst".as_ref(),
                &[hash; 32],
            )
        };
        assert_eq!(update(Some(&ours), renamed, 9), Naming::Replace(renamed));
        assert_eq!(update(Some(&ours), renamed, 1), Naming::Unchanged(renamed));
        for taken in [
            update(Some(&ours), changed, 9),
            update(Some(&elsewhere), renamed, 9),
            update(None, renamed, 9),
        ] {
            assert!(matches!(taken, Naming::Taken(_)), "{taken:?}");
        }
    }

    #[test]
    fn a_directory_is_never_replaced() {
        for policy in [OnExists::Update, OnExists::Fail, OnExists::Replace, OnExists::Suffix] {
            let found = seen(Kind::Directory, OURS);
            let naming = decide(policy, &found, None, "a.zst".as_ref(), &[0; 32]);
            assert!(matches!(naming, Naming::Taken(_)), "{policy}: {naming:?}");
        }
    }
}
