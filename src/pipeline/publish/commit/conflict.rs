//! Decides which name an output gets if its own may be taken: the `on_exists` policies.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs,
    ledger::{self, Hash, Output, Record, Replaced, State},
    limits,
    pipeline::{
        failure::{ClaimError, CommitError, Failure},
        job::{Job, Staged},
    },
    policy::OnExists,
    protocol::earlier_output,
    sink::{self, Occupant},
};

/// The decision about an output's name.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The name is free.
    Free,
    /// Replace this file, which has the name.
    Replace(Replaced),
    /// This file has the name, is ours and has the same content: publish nothing.
    Unchanged(Fingerprint),
    /// The same content was processed before, into this output: publish nothing, even if a consumer
    /// took that output.
    Processed(Output),
    /// Publish under a free numbered name, next to the existing file.
    Numbered,
    /// Publish under this name instead (relative to the output's root).
    Suffixed(PathBuf),
    /// Leave the existing file and publish nothing.
    Skip,
    /// Quarantine the source, for this reason.
    Conflict(&'static str),
}

/// The ledger's record of an output's name that is taken.
#[derive(Clone, Copy, Debug)]
pub struct EarlierOutput<'a> {
    /// The newest record of the same source path whose output was published.
    pub record: &'a Record,
    /// The file that has the name is the output of that record, unchanged.
    pub is_as_published: bool,
    /// The record belongs to the source that this output is made from.
    pub is_same_source: bool,
}

impl EarlierOutput<'_> {
    /// An operator requested to process this source again, and its content is still the same: that replaces
    /// its own output under every policy, which is for the files of others.
    fn is_requested_again(&self, content: &Hash) -> bool {
        let has_content = |output: &Output| output.source_hash == *content;
        self.record.state == State::Requeued
            && self.is_same_source
            && self.record.output.as_ref().is_some_and(has_content)
    }
}

/// Decides what to do about an existing file under a policy.
#[must_use]
pub fn decide(
    policy: OnExists,
    existing: &Occupant,
    earlier: Option<EarlierOutput<'_>>,
    output: &Path,
    hash: &Hash,
) -> Resolution {
    if !existing.is_file && policy != OnExists::Skip {
        return Resolution::Conflict("it is not a regular file");
    }
    let published = earlier.and_then(|earlier| {
        let output = earlier.record.output.as_ref().filter(|ours| ours.path == output)?;
        earlier.is_as_published.then_some(output)
    });
    let replaced =
        Replaced { identity: existing.identity, hash: published.map(|output| output.hash) };
    match policy {
        OnExists::Skip => Resolution::Skip,
        OnExists::Update | OnExists::Fail if published.is_some_and(|ours| ours.hash == *hash) => {
            Resolution::Unchanged(existing.identity)
        }
        OnExists::Fail => Resolution::Conflict("the policy is `fail`"),
        OnExists::Replace => Resolution::Replace(replaced),
        OnExists::Suffix => Resolution::Numbered,
        OnExists::Update => {
            let Some(EarlierOutput { record, is_same_source, .. }) = earlier else {
                return Resolution::Conflict(
                    "the policy is `update` and this service did not publish it from this source",
                );
            };
            let has_other_path = record.output.as_ref().is_none_or(|ours| ours.path != output);
            if !is_same_source {
                Resolution::Numbered
            } else if has_other_path {
                Resolution::Conflict(
                    "the policy is `update` and this source was published elsewhere",
                )
            } else if published.is_none() {
                Resolution::Conflict(
                    "the policy is `update` and the existing output was changed since",
                )
            } else {
                Resolution::Replace(replaced)
            }
        }
    }
}

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
        return Ok(Resolution::Processed(output.clone()));
    }
    let context = &staged.job.context;
    let (parent, name) = fs::split(&staged.output);
    let path = || context.config.output.join(&staged.output);
    let failed = |source| CommitError::Look { path: path(), source };
    let Some(existing) = staged.file.look(&staged.output).map_err(CommitError::of)? else {
        return Ok(Resolution::Free);
    };
    let record = failpoint::hit("commit::look_up")
        .map_err(ledger::Error::injected)
        .and_then(|()| context.ledger.latest_published(context.id, &staged.job.path))
        .map_err(|source| CommitError::LookUp { path: path(), source })?;
    let earlier = match &record {
        None => None,
        Some(record) => Some(find_earlier_output(staged, record, &existing).map_err(failed)?),
    };
    let configured = context.config.keys.on_exists;
    let replaces_own = |earlier: EarlierOutput<'_>| {
        configured == OnExists::Update
            || configured != OnExists::Replace && earlier.is_requested_again(&staged.hashes.source)
    };
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
        Resolution::Numbered => {
            let free = free_name(&*staged.file, (parent, name), extension).map_err(failed)?;
            Ok(Resolution::Suffixed(parent.join(free)))
        }
        // The ledger that had its record was lost, or the directories were moved to other paths.
        Resolution::Conflict(_)
            if policy == OnExists::Update
                && has_same_content(staged, &existing)?
                && !is_of_another_source(staged, &existing)? =>
        {
            let identity = existing.identity;
            Ok(Resolution::Replace(Replaced { identity, hash: Some(*hash) }))
        }
        resolution => Ok(resolution),
    }
}

/// Checks whether the ledger knows the output's name as another source's, of any pipeline. A file that is
/// older than the first record of its directory is not looked up: that takes as long as the ledger is large.
fn is_of_another_source(staged: &Staged, existing: &Occupant) -> Result<bool, Failure> {
    let Job { context, path, .. } = &staged.job;
    let look_up = || {
        if existing.identity.changed_ns < context.first_output_ns()? {
            return Ok(false);
        }
        for roots in context.ledger.roots()? {
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

/// Returns the numbered path under which this same source was published before, if it is not
/// `output`.
fn own_numbered_path(
    earlier: EarlierOutput<'_>,
    output: &Path,
    extension: Option<&str>,
) -> Option<PathBuf> {
    let ours = earlier.record.output.as_ref().filter(|_| earlier.is_same_source)?;
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let ((parent, name), (ours_parent, ours_name)) = (fs::split(output), fs::split(&ours.path));
    let number = ours_name.as_bytes().strip_suffix(suffix.as_bytes())?.rsplit(|byte| *byte == b'.');
    let number = str::from_utf8(number.into_iter().next()?).ok()?.parse().ok()?;
    let numbered = fs::numbered_name(stem(name, &suffix), number, &suffix, limits::NAME_BYTES_MAX);
    (parent == ours_parent && numbered == ours_name).then(|| ours.path.clone())
}

/// Returns a name without this suffix.
fn stem<'a>(name: &'a OsStr, suffix: &str) -> &'a OsStr {
    let bytes = name.as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(suffix.as_bytes()).unwrap_or(bytes))
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

/// Returns a free name of `NAME.1.EXT`, `NAME.2.EXT`, …
fn free_name(
    staged: &dyn sink::Staged,
    (parent, name): (&Path, &OsStr),
    extension: Option<&str>,
) -> io::Result<OsString> {
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    fs::free_number(stem(name, &suffix), &suffix, limits::NAME_BYTES_MAX, |candidate| {
        let found = staged.look(&parent.join(candidate)).map_err(|error| error.source)?;
        Ok(found.is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fs::NodeId, policy::OnSuccess, source};

    const OURS: Fingerprint =
        Fingerprint { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

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
                transforms: String::new(),
            }),
            on_success: OnSuccess::Keep,
            state: State::Done,
            reason: None,
            moved_to: None,
            at_ns: 0,
        }
    }

    fn earlier(record: &Record, is_as_published: bool, is_same_source: bool) -> EarlierOutput<'_> {
        EarlierOutput { record, is_as_published, is_same_source }
    }

    #[test]
    fn update_replaces_only_what_this_source_published_and_nobody_changed() {
        let renamed = Fingerprint { changed_ns: 99, ..OURS };
        let ours = record("a.zst");
        let elsewhere = record("a.gz");
        let update = |earlier: Option<EarlierOutput<'_>>, hash| {
            let found = Occupant { identity: renamed, is_file: true };
            decide(OnExists::Update, &found, earlier, "a.zst".as_ref(), &[hash; 32])
        };
        let replaced = Replaced { identity: renamed, hash: Some([1; 32]) };
        assert_eq!(update(Some(earlier(&ours, true, true)), 9), Resolution::Replace(replaced));
        assert_eq!(update(Some(earlier(&ours, true, true)), 1), Resolution::Unchanged(renamed));
        for taken in [
            update(Some(earlier(&ours, false, true)), 9),
            update(Some(earlier(&elsewhere, false, true)), 9),
            update(None, 9),
        ] {
            assert!(matches!(taken, Resolution::Conflict(_)), "{taken:?}");
        }
    }

    #[test]
    fn an_own_numbered_output_is_known_whatever_its_name() {
        let own = |output: &[u8], ours: &[u8]| {
            let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
            let mut record = record("");
            record.output.as_mut().expect("an output").path = path(ours);
            own_numbered_path(earlier(&record, false, true), &path(output), Some("zst")).is_some()
        };
        assert!(own(b"d/a.zst", b"d/a.1.zst"));
        assert!(own(b"d/\xff.zst", b"d/\xff.12.zst"));
        let long = vec![b'a'; 251];
        let cut = [&long[..249], b".3.zst"].concat();
        assert!(own(&[&long[..], b".zst"].concat(), &cut));
        for other in [&b"d/a.zst"[..], b"e/a.1.zst", b"d/b.1.zst", b"d/a.x.zst", b"d/a.01.zst"] {
            assert!(!own(b"d/a.zst", other), "{other:?}");
        }
    }

    #[test]
    fn another_sources_output_gets_a_name_of_its_own_unless_a_policy_says_otherwise() {
        let ours = record("a.zst");
        let found = Occupant { identity: OURS, is_file: true };
        let decide = |policy, hash| {
            let another = earlier(&ours, true, false);
            decide(policy, &found, Some(another), "a.zst".as_ref(), &[hash; 32])
        };
        assert_eq!(decide(OnExists::Update, 9), Resolution::Numbered);
        assert_eq!(decide(OnExists::Suffix, 9), Resolution::Numbered);
        assert_eq!(decide(OnExists::Update, 1), Resolution::Unchanged(OURS), "delivered again");
        assert_eq!(decide(OnExists::Fail, 1), Resolution::Unchanged(OURS), "delivered again");
        assert!(matches!(decide(OnExists::Fail, 9), Resolution::Conflict(_)));
        let replaced = Replaced { identity: OURS, hash: Some([1; 32]) };
        assert_eq!(decide(OnExists::Replace, 9), Resolution::Replace(replaced));
    }

    #[test]
    fn a_source_that_was_disposed_of_is_never_the_same_one() {
        let root = tempfile::tempdir().expect("temporary directory");
        let input = source::open(root.path(), &NodeId::new("test"), <_>::default()).expect("open");
        let other = Fingerprint { inode: u64::MAX, ..OURS };
        let same = |on_success: OnSuccess, state, found: &Fingerprint| {
            let record = Record { on_success, state, ..record("a.zst") };
            earlier_output::is_same_source(&record, found, &*input, true).expect("look")
        };
        assert!(same(OnSuccess::Keep, State::Done, &OURS), "rewritten in place");
        assert!(same(OnSuccess::Keep, State::Done, &other), "replaced by its producer");
        assert!(same(OnSuccess::Delete, State::Changed, &OURS), "changed before its disposal");
        for state in [State::Published, State::Done] {
            assert!(!same(OnSuccess::Delete, state, &OURS), "{state}");
            assert!(!same(OnSuccess::Archive("/a".into()), state, &other), "{state}");
        }
        assert!(!same(OnSuccess::Delete, State::Changed, &other));
    }

    #[test]
    fn a_directory_is_never_replaced() {
        for policy in [OnExists::Update, OnExists::Fail, OnExists::Replace, OnExists::Suffix] {
            let found = Occupant { identity: OURS, is_file: false };
            let resolution = decide(policy, &found, None, "a.zst".as_ref(), &[0; 32]);
            assert!(matches!(resolution, Resolution::Conflict(_)), "{policy}: {resolution:?}");
        }
    }
}
