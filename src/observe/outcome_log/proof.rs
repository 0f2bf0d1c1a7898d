//! The fields that make a line the acknowledgement of exactly one record.

use serde::{Deserialize, Deserializer};

use crate::outcome::{Outcome, OutcomeKind};

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

impl From<Outcome> for Proof {
    fn from(event: Outcome) -> Self {
        let Outcome { id, ledger, source, source_hex, output, output_hex, .. } = event;
        let Outcome { source_hash, output_hash, .. } = event;
        let ledger = ledger.unwrap_or_default();
        Self { id, ledger, source, source_hex, output, output_hex, source_hash, output_hash }
    }
}

/// A line of the file, with the fields that recovery needs.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    /// `None` for a word that this version does not know.
    #[serde(deserialize_with = "known_outcome")]
    pub outcome: Option<OutcomeKind>,
    #[serde(flatten)]
    pub proof: Proof,
}

fn known_outcome<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OutcomeKind>, D::Error> {
    Ok(String::deserialize(from)?.parse().ok())
}
