//! The recorded data of one file's trace, from which the exporter makes spans.

use std::{sync::Arc, time::Instant};

use crate::outcome::OutcomeKind;

/// The trace of one file.
#[derive(Debug, Default)]
pub struct FileTrace {
    pub id: u128,
    /// Number of the root span; the stages have the following numbers.
    pub first_span: u64,
    pub pipeline: Arc<str>,
    pub path: Option<String>,
    /// Start and finish by stage; an unfinished stage has no finish.
    pub stages: [Option<(Instant, Option<Instant>)>; 8],
    /// `None` if the file was dropped in flight and deferred to the next start.
    pub outcome: Option<OutcomeKind>,
    pub attempt: u32,
    pub source_bytes: u64,
    pub output_bytes: u64,
    pub end: Option<Instant>,
}
