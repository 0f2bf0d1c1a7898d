//! The end of a job.

use std::time::Duration;

use crate::outcome::OutcomeKind;

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Its output is durable, and the source was disposed of.
    Published,
    /// There was nothing to do.
    Skipped,
    /// Its name is gone: the file was removed, or has another name.
    Gone,
    /// It is in quarantine.
    Quarantined,
    /// It goes through the intake again after this time, as this attempt.
    Deferred { after: Duration, attempt: u32, cause: DeferReason },
    /// The service stops after the job began, or after an earlier attempt failed: the next start
    /// resumes the file.
    Unfinished,
    /// The intake closed before the job began: the next start finds the file in the input.
    Returned,
}

impl JobEnd {
    /// Returns the outcome as it is counted.
    #[must_use]
    pub const fn kind(&self) -> OutcomeKind {
        match self {
            Self::Published => OutcomeKind::Published,
            Self::Skipped | Self::Gone => OutcomeKind::Skipped,
            Self::Quarantined => OutcomeKind::Quarantined,
            Self::Deferred { .. } | Self::Unfinished | Self::Returned => OutcomeKind::Deferred,
        }
    }

    /// Checks whether its name was gone, or belonged to another file.
    #[must_use]
    pub const fn has_lost_name(&self) -> bool {
        matches!(self, Self::Gone | Self::Deferred { cause: DeferReason::Replaced, .. })
    }

    /// Checks whether this outcome leaves unfinished work.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        matches!(
            self,
            Self::Unfinished
                | Self::Deferred { cause: DeferReason::Failed | DeferReason::Storage, .. }
        )
    }
}

/// The reason why a job goes through the intake again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferReason {
    /// A process has it open for writing.
    Busy,
    /// The kernel cannot report writers: the file must be quiet for a time.
    Unsure,
    /// The kernel may not report the writers of another user's file, and neither a close nor a rename of it
    /// was seen: it must be quiet for a longer time.
    Unseen,
    /// It changed while it was read.
    Changed,
    /// It failed, and another attempt may succeed.
    Failed,
    /// Another file got its name before its output was published.
    Replaced,
    /// Storage is unavailable.
    Storage,
    /// The output of the file before it under its name is not acknowledged.
    Unacknowledged,
}

impl DeferReason {
    /// Checks whether the file may not be finished by its producer, or by this service under its name.
    #[must_use]
    pub const fn is_unfinished_source(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::Unsure | Self::Unseen | Self::Changed | Self::Unacknowledged
        )
    }
}
