//! The outcome of a file: its words, and the one form in which the events file, the history, the API and
//! its streams have it.

use serde::{Deserialize, Serialize};

use crate::reason::{Reason, ReasonCode};

crate::policy::words! {
    /// Outcome of a file.
    OutcomeKind {
        Published = "published",
        Skipped = "skipped",
        Quarantined = "quarantined",
        /// Returned to the intake, now or at the next start.
        Deferred = "deferred",
    }
}

crate::policy::words! {
    /// The state of a record.
    State {
        /// Its output may be published: recovery finishes it.
        Intent = "intent",
        /// Its output is durable under its final name; the source is not disposed of.
        Published = "published",
        /// It is finished.
        Done = "done",
        /// The intent was not carried out, and its temp may be deleted.
        Withdrawn = "withdrawn",
        /// The output's name was taken, and the policy skips the source.
        Skipped = "skipped",
        /// It failed, or cannot be explained: the operator decides.
        Quarantined = "quarantined",
        /// The operator requested to process it again; it was in quarantine, or was published.
        Requeued = "requeued",
        /// Its output is published. The source changed before its disposal: it stayed, and its new
        /// content belongs to another record. Or it was to be kept, and its producer deleted it.
        Changed = "changed",
    }
}

impl State {
    /// Checks whether recovery must finish it.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Intent | Self::Published)
    }
}

/// One outcome. A field that has no value is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// RFC 3339, UTC. The first field: a line of the events file begins with it.
    pub time: String,
    /// Number of the record in the ledger.
    pub id: i64,
    /// Identity of the ledger. The number alone is ambiguous, because every ledger counts from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    pub pipeline: String,
    /// In the events file, which has no other state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeKind>,
    /// State of the record, where it is read from the ledger, or is streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Relative to the input; `source_hex` holds the exact bytes of a name that is not UTF-8.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_hex: Option<String>,
    pub source_bytes: u64,
    /// Relative to the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// BLAKE3, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_hash: Option<String>,
    /// Hash of the output that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transforms: Option<String>,
    /// Where the source is in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// Number of attempts, which the ledger does not record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Time from settle to this outcome; unknown after a recovery, and in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason without the names of its file, where those stand next to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Outcome {
    #[must_use]
    pub fn with_reason(self, reason: Option<&Reason>) -> Self {
        let reason_code = reason.map(|reason| reason.code);
        Self { reason_code, reason: reason.map(|reason| reason.text.clone()), ..self }
    }
}
