//! The fields that make a line the acknowledgement of exactly one record.

use serde::Deserialize;

use super::OutcomeLine;

/// The fields that a line and its record share. The number alone proves nothing: an events file may
/// outlive its ledger, and a restored ledger reuses the numbers after its backup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Proof {
    pub id: i64,
    pub ledger: String,
    pub source: String,
    pub source_hex: Option<String>,
    pub output: Option<String>,
    pub output_hex: Option<String>,
    pub source_hash: Option<String>,
    pub output_hash: Option<String>,
}

impl From<OutcomeLine> for Proof {
    fn from(event: OutcomeLine) -> Self {
        let OutcomeLine { id, ledger, source, source_hex, output, output_hex, .. } = event;
        let OutcomeLine { source_hash, output_hash, .. } = event;
        Self { id, ledger, source, source_hex, output, output_hex, source_hash, output_hash }
    }
}

/// A line of the file, with the fields that recovery needs.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub outcome: String,
    #[serde(flatten)]
    pub proof: Proof,
}
