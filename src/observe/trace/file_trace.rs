//! What a trace has of one file, until its spans are made.

use std::{sync::Arc, time::Instant};

use crate::observe::OutcomeKind;

/// The trace of one file.
#[derive(Debug, Default)]
pub struct FileTrace {
    pub id: u128,
    /// Of the root; the stages' are those after it.
    pub first_span: u64,
    pub pipeline: Arc<str>,
    pub path: Option<String>,
    /// By their order; a step that has not ended has no second instant.
    pub stages: [Option<(Instant, Option<Instant>)>; 8],
    /// `None` where it was dropped on its way: left for the next start.
    pub outcome: Option<OutcomeKind>,
    pub attempt: u32,
    pub source_bytes: u64,
    pub output_bytes: u64,
    pub end: Option<Instant>,
}
