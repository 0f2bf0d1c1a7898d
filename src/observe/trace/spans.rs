//! Makes OpenTelemetry spans from recorded traces.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use prost::Message;

use super::file_trace::FileTrace;
use crate::{observe::STAGES, outcome::OutcomeKind};

/// Both clocks at one instant, which converts steady times to wall-clock times.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    steady: Instant,
    wall_ns: u64,
}

impl Clocks {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { steady: Instant::now(), wall_ns }
    }

    fn unix_ns(self, instant: Instant) -> u64 {
        let ago = self.steady.saturating_duration_since(instant).as_nanos();
        self.wall_ns.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }
}

/// Encodes the request with the spans of these files.
pub fn request(files: &[FileTrace]) -> Vec<u8> {
    let clocks = Clocks::now();
    let scope = InstrumentationScope {
        name: "tidemill".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![
            text("service.name", "tidemill"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            number("process.pid", std::process::id().into()),
        ],
        ..Resource::default()
    };
    let spans = files.iter().flat_map(|file| spans(file, clocks)).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// Makes the root span, and a child for each stage that started.
fn spans(file: &FileTrace, clocks: Clocks) -> Vec<Span> {
    let end = file.end.unwrap_or(clocks.steady);
    let stages = STAGES.into_iter().zip(&file.stages).zip(1..);
    let stages = stages.filter_map(|((stage, times), number)| Some((stage, (*times)?, number)));
    let start = stages.clone().map(|(_, (began, _), _)| began).min().unwrap_or(end);
    let trace_id = file.id.to_be_bytes().to_vec();
    let root_id = span_id(file, 0);
    let span = |name: &str, times: (Instant, Instant), id| Span {
        trace_id: trace_id.clone(),
        span_id: id,
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: clocks.unix_ns(times.0),
        end_time_unix_nano: clocks.unix_ns(times.1),
        ..Span::default()
    };
    let mut spans = vec![Span {
        attributes: attributes(file),
        status: Some(status(file)),
        ..span("file", (start, end), root_id.clone())
    }];
    spans.extend(stages.map(|(stage, (began, ended), number)| Span {
        parent_span_id: root_id.clone(),
        // An interrupted stage ended with the file.
        ..span(stage.as_str(), (began, ended.unwrap_or(end)), span_id(file, number))
    }));
    spans
}

fn attributes(file: &FileTrace) -> Vec<KeyValue> {
    let outcome = file.outcome.unwrap_or(OutcomeKind::Deferred).as_str();
    let mut attributes = vec![
        text("tidemill.pipeline", &file.pipeline),
        text("tidemill.outcome", outcome),
        number("tidemill.attempt", file.attempt.into()),
        number("tidemill.source_bytes", file.source_bytes),
        number("tidemill.output_bytes", file.output_bytes),
    ];
    attributes.extend(file.path.as_deref().map(|path| text("file.path", path)));
    attributes
}

fn status(file: &FileTrace) -> Status {
    let code = match file.outcome {
        Some(OutcomeKind::Published | OutcomeKind::Skipped) => StatusCode::Ok,
        Some(OutcomeKind::Quarantined) => StatusCode::Error,
        Some(OutcomeKind::Deferred) | None => StatusCode::Unset,
    };
    Status { code: code.into(), ..Status::default() }
}

/// Returns a span id. It is not 0, which means none.
fn span_id(file: &FileTrace, number: u64) -> Vec<u8> {
    file.first_span.wrapping_add(number).max(1).to_be_bytes().to_vec()
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}
