//! What makes a line the acknowledgement of one record, and of no other.

use serde::Deserialize;

use super::OutcomeLine;

/// All that a line and a record must share. A file outlives the ledger beside it, and a ledger that is
/// restored from a backup counts again from where the backup was made: the number alone proves
/// nothing.
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

/// A line of the file, as far as it is read again.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub outcome: String,
    #[serde(flatten)]
    pub proof: Proof,
}
