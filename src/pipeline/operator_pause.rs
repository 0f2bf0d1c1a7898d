//! An operator's hold on an intake, beside what [`super::circuit_breaker`] decides by itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::observe::PipelineMeter;

/// Shared by the intake, which asks before it sends, and by who steers it. It lasts as long as the
/// process.
#[derive(Debug)]
pub struct OperatorPause {
    name: Arc<str>,
    meter: Arc<PipelineMeter>,
    held: AtomicBool,
}

impl OperatorPause {
    pub fn new(name: &Arc<str>, meter: Arc<PipelineMeter>) -> Self {
        Self { name: Arc::clone(name), meter, held: AtomicBool::new(false) }
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Holds, or lets go; what is so already is not told again.
    pub fn set(&self, held: bool) {
        if self.held.swap(held, Ordering::AcqRel) == held {
            return;
        }
        self.meter.set_paused_by_operator(held);
        if held {
            tracing::info!(event = "intake.paused", pipeline = %self.name, "intake paused by the operator");
        } else {
            tracing::info!(event = "intake.resumed", pipeline = %self.name, "intake resumed by the operator");
        }
    }
}
