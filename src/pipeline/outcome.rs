//! Reports of the outcomes of jobs: to the events file, the log, and the stream of outcomes.

use std::io;

use crate::{
    ledger::{Record, State},
    observe::{OutcomeKind, OutcomeLine, OutcomeRecord, display_path},
    pipeline::job::Job,
    protocol::outcome::{append_unpublished, outcome_line, unpublished_outcome},
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
    job.context.meter.outcome_stream().send(|| outcome_record(job, record, outcome.as_str()));
    let line = OutcomeLine {
        seconds: Some(job.settled_at.elapsed().as_secs_f64()),
        ..outcome_line(
            (job.context.ledger.instance(), job.context.name()),
            outcome,
            (record.id, &job.path, job.metadata.identity.size),
        )
    };
    append_unpublished(&job.context.events, line.with_reason(record.reason.as_ref()))
}

/// Creates an outcome for the live stream and the hooks.
pub fn outcome_record(job: &Job, record: &Record, state: &'static str) -> OutcomeRecord {
    let output = record.output.as_ref().filter(|_| record.state != State::Skipped);
    OutcomeRecord {
        id: record.id,
        pipeline: job.context.name().to_string(),
        path: display_path(&record.source).to_string(),
        state,
        at: jiff::Timestamp::now().to_string(),
        output: output.map(|output| display_path(&output.path).to_string()),
        source_bytes: record.identity.size,
        output_bytes: output.map(|output| output.identity.size),
        reason_code: record.reason.as_ref().map(|reason| reason.code),
        reason: record.reason_text().map(str::to_owned),
        attempts: Some(job.attempt),
        seconds: Some(job.settled_at.elapsed().as_secs_f64()),
    }
}
