//! Traces: a span for each file, and one below it for each step it went through.
//!
//! A [`Trace`] travels with its file from thread to thread and notes when each step began and ended.
//! When the last hold on it is dropped the file is through, and what was noted goes into a bounded
//! queue; where that is full it is dropped and counted, so that no step ever waits for a receiver.
//! Spans are made from it by the task that sends them.
//!
//! Without the feature `otlp` the types are empty and nothing of this is in the program; with it and
//! no receiver, a trace is `None` and reads no clock.

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
