//! The protocol on disk: what is true of sources, outputs, quarantine and events between two system calls.
//!
//! The pipeline performs it, recovery finishes it after a crash, and the queries explain it; none of its
//! modules has a thread, a channel or a job.

pub mod prior_outcome;

pub mod eligibility;

pub mod earlier_output;

pub mod conflict;

pub mod side_file;

pub mod outcome;

pub mod cause;

pub mod disposal;

pub mod quarantine;
pub mod retention;

use std::sync::Arc;

use crate::{observe::OutcomeLog, sync::Mutex};

/// The events file, if one is configured, shared by all pipelines.
pub type SharedOutcomeLog = Arc<Mutex<Option<OutcomeLog>>>;
