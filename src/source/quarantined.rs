//! The way of a quarantined file back to the input.

use std::{fmt::Debug, io};

use super::Result;
use crate::{fingerprint::Fingerprint, ledger::Hash};

/// A slot of a quarantine directory, and the name that its file had in the input. Dropping it changes
/// nothing.
pub trait QuarantinedSource: Send + Debug {
    /// Returns the identity of what is in the slot, never from a cache; `None` if it is empty.
    fn in_slot(&self) -> Result<Option<Fingerprint>>;

    /// Returns the identity of what has the name in the input, never from a cache; `None` if it is free.
    fn in_input(&self) -> Result<Option<Fingerprint>>;

    /// Returns the hash of the content in the slot; an error if no regular file is there.
    fn content_hash(&self) -> Result<Hash>;

    /// Gives the file its name in the input, removes its reason file, and makes both durable. If the slot is
    /// empty and the input has the `wanted` file, an interrupted call moved it, and this one finishes that.
    ///
    /// A copy, where it cannot be renamed, has another identity: `follow` gets that once the copy is durable,
    /// and before it has the name. After an error of `follow` the file stays in its slot.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if a file has the name, also if it is this one, which has both names
    /// after an interrupted call. The error has the path of the slot, or of the directory that cannot be made
    /// durable.
    fn put_back(&self, wanted: &Fingerprint, follow: Follow<'_>) -> PutBack;

    /// Removes the file from the slot, and its reason file, and makes that durable, as the end of a
    /// [`Self::put_back`] that was interrupted. The errors have the same paths.
    fn remove(&self) -> Result<()>;

    /// Restores the file's marker, after the file: a marker that is older would count as an earlier file's. One
    /// that the quarantine does not have is made, unless the input has it.
    fn restore_marker(&self, suffix: &str) -> Result<()>;
}

/// Makes records follow a copy with this identity.
pub type Follow<'a> = &'a dyn Fn(&Fingerprint) -> io::Result<()>;

/// The result of putting a file back.
#[derive(Debug)]
#[must_use]
pub struct PutBack {
    /// Whether the file has its name in the input.
    pub is_back: bool,
    /// An error of a file that is back: the slot has it, too, or its move may not be durable.
    pub result: Result<()>,
}
