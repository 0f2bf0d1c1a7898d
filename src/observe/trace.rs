//! Traces: a span for each file, with a child span for each stage.
//!
//! A [`Trace`] travels with its file from thread to thread and records when each stage started and
//! finished. Dropping its last clone puts the record into a bounded queue; a full queue drops and
//! counts it, so that no stage waits for a receiver. The exporter makes the spans.
//!
//! Without the feature `otlp` the types are empty; with the feature and without a receiver, a trace is
//! `None` and reads no clock.

#[cfg(feature = "otlp")]
mod file_trace;

#[cfg(feature = "otlp")]
mod recorder;

#[cfg(not(feature = "otlp"))]
mod off;

#[cfg(feature = "otlp")]
mod exporter;

#[cfg(feature = "otlp")]
mod spans;

#[cfg(feature = "otlp")]
pub use {
    exporter::OtlpExporter as TraceSender,
    recorder::{Trace, Tracer},
};

#[cfg(not(feature = "otlp"))]
pub use off::{Trace, Tracer};
