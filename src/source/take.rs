//! The request to take a source for its disposal, and the result.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{HeldSource, SourceError};
use crate::{
    fingerprint::Fingerprint,
    ledger::{Hash, Record, RecordId},
};

/// The source that was read, to be taken.
#[derive(Clone, Copy, Debug)]
pub struct TakeRequest<'a> {
    pub path: &'a Path,
    /// The identity as it was read.
    pub read: &'a Fingerprint,
    /// The hash of the content as it was read, if it is known.
    pub content: Option<Hash>,
    /// Whether the times are too coarse to show a change after that: the content is compared.
    pub has_coarse_times: bool,
    /// How long it is unchanged as far as this process knows, by a clock that nobody sets; `None` if only
    /// its times show that.
    pub quiet_for: Option<Duration>,
    /// The suffix of its marker: the one that is there when the source is taken is its own.
    pub marker: Option<&'a str>,
    /// The record, whose number marks the source while it is held.
    pub id: RecordId,
    /// Whether an earlier disposal of this record may have been interrupted. The source may have its name
    /// again although a copy of it was moved: by a power loss, or because it could not be removed.
    pub resumed: bool,
}

impl<'a> TakeRequest<'a> {
    /// Returns the request for the source of a record.
    #[must_use]
    pub fn of(record: &'a Record) -> Self {
        let Record { id, source, identity, output, at_ns, .. } = record;
        let content = output.as_ref().map(|output| output.source_hash);
        let has_coarse_times = identity.may_hide_a_change(*at_ns);
        Self {
            path: source,
            read: identity,
            content,
            has_coarse_times,
            quiet_for: None,
            marker: None,
            id: *id,
            resumed: false,
        }
    }

    /// Returns the request for the source of a record whose disposal may have been interrupted.
    #[must_use]
    pub fn resumed(record: &'a Record) -> Self {
        Self { resumed: true, ..Self::of(record) }
    }
}

/// The result of taking a source.
#[derive(Debug)]
pub enum TakeResult {
    /// It is the file that was read.
    Taken(Box<dyn HeldSource>),
    /// No file has the name any more.
    Gone,
    /// Another file has the name, or the source changed: the file has its name.
    Replaced,
    /// A process has it open for writing, or may have: the source has its name.
    Busy,
    /// Another file had the name and could not be put back: it has this private name.
    Stranded(PathBuf, SourceError),
}
