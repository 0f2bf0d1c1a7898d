//! What a retention removed.

use super::{meters::PipelineMeter, prometheus as names};

impl PipelineMeter {
    /// Counts files and their bytes that were removed from a place: `archive` or `quarantine`.
    pub fn expired(&self, kind: &'static str, files: u64, bytes: u64) {
        let pipeline = || metrics::SharedString::from(self.name.to_string());
        metrics::counter!(names::EXPIRED_FILES, "pipeline" => pipeline(), "kind" => kind)
            .increment(files);
        metrics::counter!(names::EXPIRED_BYTES, "pipeline" => pipeline(), "kind" => kind)
            .increment(bytes);
    }
}

/// Counts records that were removed from the ledger.
pub fn expired_records(records: u64) {
    metrics::counter!(names::EXPIRED_RECORDS).increment(records);
}
