//! The reason of an outcome that published nothing: a code for programs, and a sentence for people.

crate::policy::words! {
    /// The code of a reason. A released code keeps its meaning; the sentence next to it may change.
    /// `REFERENCE.md` lists all of them.
    ReasonCode {
        /// The content is damaged, or is not of the transform's format.
        Corrupt = "corrupt",
        /// The content ends too early.
        Truncated = "truncated",
        /// Unknown data follows the archive.
        TrailingData = "trailing_data",
        /// `decompress` cannot detect the format.
        UnknownFormat = "unknown_format",
        /// The archive needs something that this program cannot do.
        Unsupported = "unsupported",
        /// A decoder needs more than `max_decoder_memory`.
        DecoderMemory = "decoder_memory",
        /// The output exceeds `max_output`.
        OutputLimit = "output_limit",
        /// The output exceeds `max_ratio` times the source.
        RatioLimit = "ratio_limit",
        /// A codec failed.
        TransformFailed = "transform_failed",
        /// A user's program failed.
        ProgramFailed = "program_failed",
        /// A user's program refused the file: its exit code is one of `reject_codes`.
        ProgramRejected = "program_rejected",
        /// A user's program cannot run now.
        ProgramUnavailable = "program_unavailable",
        /// The file is encrypted to other recipients than those of the identities.
        NoIdentity = "no_identity",
        /// The keys of `[age]` cannot be used now.
        KeysUnavailable = "keys_unavailable",
        /// The source cannot be opened, checked or read.
        SourceError = "source_error",
        /// The service has no permission to open or read the source.
        PermissionDenied = "permission_denied",
        /// The source changed while it was read.
        Changed = "changed",
        /// The source is in an earlier state than the one that was processed.
        RolledBack = "rolled_back",
        /// The output's name would be longer than a file system allows.
        NameTooLong = "name_too_long",
        /// The transforms leave nothing of the name.
        NameEmpty = "name_empty",
        /// Another file has the output's name, and `on_exists` does not permit to replace it.
        NameTaken = "name_taken",
        /// Another file has the name of the output's directory.
        DirectoryTaken = "directory_taken",
        /// The output's directory was moved away.
        DirectoryMoved = "directory_moved",
        /// The output cannot be written, made durable or renamed.
        OutputError = "output_error",
        /// Recovery found neither the output nor its temporary file.
        OutputMissing = "output_missing",
        /// The output would be the one that exists.
        OutputUnchanged = "output_unchanged",
        /// The same content was processed before.
        SameContent = "same_content",
        /// The output is published, and the source can be neither deleted nor archived.
        DisposalFailed = "disposal_failed",
        /// The output is published, and another file took the source's name during its disposal.
        NameLost = "name_lost",
        /// The file cannot be moved to quarantine.
        QuarantineFailed = "quarantine_failed",
        /// The file was kept as long as `[retention]` demands, and removed.
        Expired = "expired",
        /// The ledger cannot be read or written.
        LedgerError = "ledger_error",
        /// The events file cannot be written.
        EventsError = "events_error",
        /// A fault of the program.
        InternalError = "internal_error",
        /// A version without codes recorded it.
        Unclassified = "unclassified",
    }
}

impl ReasonCode {
    /// Checks whether the output is published, so that only the source's disposal is left to do.
    #[must_use]
    pub const fn is_after_publication(self) -> bool {
        matches!(self, Self::DisposalFailed | Self::NameLost)
    }
}

/// The reason of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    /// A sentence without a full stop.
    pub text: String,
}

impl Reason {
    #[must_use]
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Restores a stored reason. A code of a newer version is unknown here.
    #[must_use]
    pub fn stored(code: Option<&str>, text: String) -> Self {
        let code = code.and_then(|code| code.parse().ok());
        Self { code: code.unwrap_or(ReasonCode::Unclassified), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_code_is_read_again_and_others_are_unclassified() {
        for code in ReasonCode::ALL {
            assert_eq!(Reason::stored(Some(code.as_str()), String::new()).code, *code);
        }
        for code in [None, Some("of a newer version")] {
            assert_eq!(Reason::stored(code, String::new()).code, ReasonCode::Unclassified);
        }
    }
}
