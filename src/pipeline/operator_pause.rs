//! The operator's pause of an intake, in addition to the automatic one of [`super::circuit_breaker`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::observe::PipelineMeter;

/// The pause flag of one pipeline. The intake reads it before it sends, the operator's commands write
/// it. It does not survive the process.
#[derive(Debug)]
pub struct OperatorPause {
    name: Arc<str>,
    meter: Arc<PipelineMeter>,
    paused: AtomicBool,
}

impl OperatorPause {
    pub fn new(name: &Arc<str>, meter: Arc<PipelineMeter>) -> Self {
        Self { name: Arc::clone(name), meter, paused: AtomicBool::new(false) }
    }

    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Pauses or resumes the intake, and logs only a change.
    pub fn set(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::AcqRel) == paused {
            return;
        }
        self.meter.set_paused_by_operator(paused);
        if paused {
            tracing::info!(event = "intake.paused", pipeline = %self.name, "intake paused by the operator");
        } else {
            tracing::info!(event = "intake.resumed", pipeline = %self.name, "intake resumed by the operator");
        }
    }
}
