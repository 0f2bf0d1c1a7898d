//! Reports of the outcomes of jobs: to the events file, the log, and the stream of outcomes.

use std::io;

use crate::{
    ledger::{Record, State},
    observe::display_path,
    outcome::{Outcome, OutcomeKind},
    pipeline::job::Job,
    protocol::{
        cause::OutcomeCause,
        outcome::{append_unpublished, listed, outcome_line, unpublished_outcome},
    },
    reason::ReasonCode,
};

/// Reports the outcome of a job without an output, by its record.
pub fn report_unpublished(job: &Job, record: &Record) -> io::Result<()> {
    let outcome = unpublished_outcome(record);
    let code = record.reason.as_ref().map(|reason| reason.code);
    let reason = record.reason_text();
    if let Some(code) = code.filter(|_| outcome == OutcomeKind::Quarantined) {
        job.context.meter.quarantined(code);
    }
    tracing::warn!(event = %format_args!("file.{outcome}"), pipeline = %job.context.name(), source = %display_path(&job.path), record = record.id, reason_code = code.map(ReasonCode::as_str), reason, "{outcome}");
    job.context.meter.outcome_stream().send(|| streamed(job, record, record.state));
    let line = Outcome {
        seconds: Some(job.settled_at.elapsed().as_secs_f64()),
        ..outcome_line(
            (job.context.ledger.instance(), job.context.name()),
            outcome,
            (record.id, &job.path, job.metadata.identity.size),
        )
    };
    append_unpublished(&job.context.events, line.with_reason(record.reason.as_ref()))
}

/// Creates an outcome for the live stream, with this state.
pub fn streamed(job: &Job, record: &Record, state: State) -> Outcome {
    let time = jiff::Timestamp::now().to_string();
    let config = &job.context.config;
    Outcome {
        cause: OutcomeCause::of(record, &config.input, &config.output).map(|cause| cause.text),
        state: Some(state),
        attempts: Some(job.attempt),
        seconds: Some(job.settled_at.elapsed().as_secs_f64()),
        ..listed(record, job.context.name(), time)
    }
}
