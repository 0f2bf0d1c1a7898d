//! Decides which name an output gets: that of its source, unless that is taken and an `on_exists` policy
//! decides otherwise.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    fingerprint::Fingerprint,
    fs,
    ledger::{Hash, Output, Record, Replaced, State},
    policy::{Checksum, OnExists},
    protocol::side_file,
    sink::Occupant,
    transforms::Chain,
};

/// The reason for which a source can have no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOutputName {
    #[error("nothing is left of its name without the extension")]
    Empty,
    #[error("the output's name would have {0} bytes")]
    TooLong(usize),
}

/// Returns the path of a source's output, below the output's root.
///
/// # Errors
///
/// See [`NoOutputName`].
pub fn output_path(
    source: &Path,
    (transforms, checksum): (&Chain, Checksum),
) -> Result<PathBuf, NoOutputName> {
    let (parent, name) = fs::split(source);
    let name = transforms.output_name(name);
    if name.is_empty() || name == "." || name == ".." {
        return Err(NoOutputName::Empty);
    }
    if name.len() > side_file::output_name_bytes_max(checksum) {
        return Err(NoOutputName::TooLong(name.len()));
    }
    Ok(parent.join(name))
}

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
    Processed(Box<Output>),
    /// Publish under a free numbered name, next to the existing file.
    Numbered,
    /// Publish under this name instead (relative to the output's root).
    Suffixed(PathBuf),
    /// Leave the existing file and publish nothing.
    Skip,
    /// Quarantine the source, for this reason.
    Conflict(&'static str),
    /// As [`Self::Skip`], because the name of its checksum file is taken.
    SideSkip,
    /// As [`Self::Conflict`], because the name of its checksum file is taken.
    SideConflict(&'static str),
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
    #[must_use]
    pub fn is_requested_again(&self, content: &Hash) -> bool {
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
    let replaced = Replaced {
        identity: existing.identity,
        hash: published.map(|output| output.hash),
        sha256: published.and_then(|output| output.sha256),
    };
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

/// Returns the numbered path under which this same source was published before, if it is not
/// `output`.
#[must_use]
pub fn own_numbered_path(
    earlier: EarlierOutput<'_>,
    output: &Path,
    extension: Option<&str>,
) -> Option<PathBuf> {
    let ours = earlier.record.output.as_ref().filter(|_| earlier.is_same_source)?;
    let suffix = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let ((parent, name), (ours_parent, ours_name)) = (fs::split(output), fs::split(&ours.path));
    let number = ours_name.as_bytes().strip_suffix(suffix.as_bytes())?.rsplit(|byte| *byte == b'.');
    let number = str::from_utf8(number.into_iter().next()?).ok()?.parse().ok()?;
    let checksum = if ours.sha256.is_some() { Checksum::Sha256 } else { Checksum::Off };
    let name_bytes_max = side_file::output_name_bytes_max(checksum);
    let numbered = fs::numbered_name(stem(name, &suffix), number, &suffix, name_bytes_max);
    (parent == ours_parent && numbered == ours_name).then(|| ours.path.clone())
}

/// Returns a name without this suffix.
#[must_use]
pub fn stem<'a>(name: &'a OsStr, suffix: &str) -> &'a OsStr {
    let bytes = name.as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(suffix.as_bytes()).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fs::NodeId, policy::OnSuccess, protocol::earlier_output, source};

    const OURS: Fingerprint =
        Fingerprint { device: 1, inode: 7, size: 100, mtime_ns: 50, ctime_ns: 60 };

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
                sha256: None,
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
        let renamed = Fingerprint { ctime_ns: 99, ..OURS };
        let ours = record("a.zst");
        let elsewhere = record("a.gz");
        let update = |earlier: Option<EarlierOutput<'_>>, hash| {
            let found = Occupant { identity: renamed, is_file: true };
            decide(OnExists::Update, &found, earlier, "a.zst".as_ref(), &[hash; 32])
        };
        let replaced = Replaced { identity: renamed, hash: Some([1; 32]), sha256: None };
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
        let replaced = Replaced { identity: OURS, hash: Some([1; 32]), sha256: None };
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
