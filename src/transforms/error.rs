//! The failure of a transformation, and the transform that it happened in.

use std::{fmt, io, sync::Arc};

use super::Stopped;

/// Failure of a transformation.
#[derive(Debug)]
pub struct Error {
    /// Notation of the transform that failed; `None` if it was not one of them.
    transform: Option<Arc<str>>,
    cause: FailureCause,
}

/// The cause of a failed transformation.
#[derive(Debug, thiserror::Error)]
pub enum FailureCause {
    #[error("the next stage stopped")]
    Stopped,
    #[error("the input is damaged, or is not of this format")]
    Corrupt(#[source] io::Error),
    #[error("unknown data after {members} complete archives; hint: remove it")]
    Trailing { members: u64, source: io::Error },
    #[error(
        "the archive needs more memory than the {limit} bytes of a decoder; hint: raise `max_decoder_memory`, and `limits.memory` if it is the lower one"
    )]
    Memory { limit: u64 },
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("the input is truncated")]
    Truncated,
    #[error("cannot detect the format of the input (Brotli cannot be detected)")]
    Unknown,
    #[error("the output exceeds {limit} bytes; hint: raise `max_output` if this is expected")]
    OutputBytes { limit: u64 },
    #[error(
        "the output exceeds {limit} times the size of the file; hint: raise `max_ratio` if this is expected"
    )]
    Ratio { limit: u64 },
    #[error("this program was built without the feature `{0}`")]
    NotCompiledIn(&'static str),
    #[error(
        "no identity fits: it is encrypted to other recipients; hint: add their identity to the `identity_file` of `[age]`"
    )]
    NoIdentity,
    /// The keys of `[age]` cannot be used now; the file is not at fault.
    #[error("{0}")]
    KeysUnavailable(String),
    /// A user's program failed: what it wrote to its standard error, or how it ended.
    #[error("{0}")]
    Program(String),
    /// It refused the file for good.
    #[error("{0}")]
    Rejected(String),
    /// It cannot run now; the file is not at fault.
    #[error("{0}")]
    Unavailable(String),
    #[error(
        "the output does not decode to its source: the processor or the memory gave wrong data; hint: test the memory"
    )]
    NotReversed {
        /// The decoder's error, if it could not decode the output at all.
        source: Option<Box<Error>>,
    },
    #[error("the transform failed")]
    Failed(#[source] io::Error),
}

impl Error {
    /// Names the transform, unless one further down the chain is named already.
    #[must_use]
    pub(super) fn of(mut self, transform: &Arc<str>) -> Self {
        if !matches!(self.cause, FailureCause::Stopped) {
            self.transform.get_or_insert_with(|| Arc::clone(transform));
        }
        self
    }

    /// Returns the cause, or the error itself if it is one of another transform.
    pub(super) fn into_own_cause(self) -> Result<FailureCause, Self> {
        if self.transform.is_none() { Ok(self.cause) } else { Err(self) }
    }

    #[must_use]
    pub const fn cause(&self) -> &FailureCause {
        &self.cause
    }

    /// Returns whether the receiver of the output stopped the transformation.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(self.cause, FailureCause::Stopped)
    }

    /// Returns whether the file is not at fault.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(
            self.cause,
            FailureCause::Unavailable(_)
                | FailureCause::KeysUnavailable(_)
                | FailureCause::NotReversed { .. }
        )
    }

    /// Returns whether a retry with the same bytes fails in the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(
            self.cause,
            FailureCause::Stopped
                | FailureCause::Failed(_)
                | FailureCause::Program(_)
                | FailureCause::Unavailable(_)
                | FailureCause::KeysUnavailable(_)
                | FailureCause::NotReversed { .. }
        )
    }
}

impl From<FailureCause> for Error {
    fn from(cause: FailureCause) -> Self {
        Self { transform: None, cause }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        FailureCause::Failed(source).into()
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        FailureCause::Stopped.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transform) = &self.transform {
            write!(f, "`{transform}`: ")?;
        }
        self.cause.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}
