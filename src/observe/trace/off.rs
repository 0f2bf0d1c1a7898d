//! Tracing without the feature `otlp`: nothing is recorded.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{outcome::OutcomeKind, stage::Stage};

/// Makes no traces.
#[derive(Clone, Debug, Default)]
pub struct Tracer(());

/// Records nothing.
#[derive(Clone, Debug, Default)]
pub struct Trace(());

impl Tracer {
    #[must_use]
    pub const fn now(&self) -> Option<Instant> {
        None
    }

    #[must_use]
    pub const fn begin(
        &self,
        _look_started: Option<Instant>,
        _file: (&Arc<str>, &Path),
        _settle_time: Duration,
        _ready_at: Instant,
    ) -> Trace {
        Trace(())
    }
}

impl Trace {
    pub const fn stage_started(&self, _stage: Stage) {}

    pub const fn stage_finished(&self, _stage: Stage) {}

    pub const fn outcome(&self, _kind: OutcomeKind, _attempt: u32, _bytes: (u64, u64)) {}
}
