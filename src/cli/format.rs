//! The status of a running service, in lines.

use std::time::Duration;

use super::terminal::cut;
use crate::{
    api::{OutcomesAnswer, PipelineAnswer, SeriesAnswer, StatusAnswer},
    observe::{
        DrainStatus, PauseReason, PauseStatus,
        units::{files, per_second, rate, size, span},
    },
    outcome::{Outcome, State},
    phase::ProcessPhase,
};

/// Failures in a status.
pub const FAILURES: usize = 5;
/// Points of the series that the rate is taken from: about the last minute.
const POINTS: usize = 12;

/// The answers of a service from which its status is shown.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub status: StatusAnswer,
    pub series: SeriesAnswer,
    /// The newest quarantined files.
    pub failures: OutcomesAnswer,
    /// The address of the page, where there is one.
    pub page: Option<String>,
}

/// The lines of `tidemill status`, cut to the width of a terminal.
pub fn status(answers: &Answers, columns: Option<usize>) -> String {
    let status = &answers.status;
    let mut lines = vec![head(status)];
    lines.extend(answers.page.as_ref().map(|page| format!("page: {page}")));
    lines.extend(status.drain.as_ref().map(drain));
    lines.extend(recent_rate(&answers.series));
    lines.extend(status.pipelines.iter().flat_map(about));
    lines.extend(failures(&answers.failures, FAILURES));
    let line = |line: &String| columns.map_or_else(|| line.clone(), |most| cut(line, most)) + "\n";
    lines.iter().map(line).collect()
}

pub fn is_paused(status: &StatusAnswer) -> bool {
    status.phase == ProcessPhase::Ready && status.paused_by_operator
}

/// The state of the service in one word: its phase, or PAUSED.
pub fn state(status: &StatusAnswer) -> &'static str {
    if is_paused(status) { "PAUSED" } else { status.phase.as_str() }
}

/// The version, the state and the age of the service.
pub fn head(status: &StatusAnswer) -> String {
    let up = span(status.uptime_seconds);
    let since = if is_paused(status) {
        let pauses =
            status.pipelines.iter().filter_map(|one| one.status.pause(PauseReason::Operator));
        let oldest = pauses.map(|pause| &*pause.since).min();
        format!(" by the operator{}", since(oldest.unwrap_or_default()))
    } else {
        String::new()
    };
    format!("Tidemill {}: {}{since}, up for {up}", status.version, state(status))
}

fn since(time: &str) -> String {
    if time.is_empty() { String::new() } else { format!(" since {time}") }
}

/// A drain in progress, in one line.
pub fn drain(drain: &DrainStatus) -> String {
    let unfinished = files(drain.unfinished_files);
    let unread = size(drain.unfinished_bytes);
    let deadline = span(drain.deadline_left_seconds);
    let estimate = drain.estimated_left_seconds;
    let estimate =
        estimate.map_or_else(String::new, |left| format!(", about {} to go", span(left)));
    format!(
        "draining: {unfinished} left, {unread} to be read{estimate}, {deadline} to the deadline"
    )
}

/// The rate of the last minute; none where nothing was published in it.
fn recent_rate(SeriesAnswer { interval_seconds, points }: &SeriesAnswer) -> Option<String> {
    let recent = points.get(points.len().saturating_sub(POINTS)..).unwrap_or_default();
    let total = recent.iter().fold([0; 3], |[files, read, written], point| {
        [files + point.all.files, read + point.all.source_bytes, written + point.all.output_bytes]
    });
    let took = Duration::from_secs(interval_seconds.saturating_mul(recent.len() as u64));
    let rates = rates(total, took)?;
    Some(format!("{rates} in the last {}", span(took.as_secs_f64())))
}

/// Files and bytes per second; none where there were no files.
pub fn rates([count, read, written]: [u64; 3], took: Duration) -> Option<String> {
    let shown = match per_second(count, took) {
        0 => "under 1 file/s".to_owned(),
        1 => "1 file/s".to_owned(),
        many => format!("{many} files/s"),
    };
    (count > 0).then(|| format!("{shown}, {} → {}", rate(read, took), rate(written, took)))
}

fn about(pipeline: &PipelineAnswer) -> Vec<String> {
    let PipelineAnswer { status, input, output, transforms, on_success, .. } = pipeline;
    let mut lines = vec![format!(
        "{}: {input} → {output} ({transforms}, on success {on_success})",
        status.name
    )];
    lines.push(format!("  {}", counts(pipeline)));
    lines.extend(pause_of(pipeline).map(|why| format!("  {why}")));
    lines
}

/// The counts of a pipeline that are not zero.
pub fn counts(PipelineAnswer { status, quarantine_files, .. }: &PipelineAnswer) -> String {
    let count = |count: u64, name: &str| (count > 0).then(|| format!("{count} {name}"));
    let published = count(status.published, "published").map(|text| {
        format!("{text} ({} → {})", size(status.source_bytes), size(status.output_bytes))
    });
    let waiting = count(status.pending, "waiting").map(|text| {
        let age = span(status.oldest_pending_seconds);
        match &status.oldest_pending {
            None => format!("{text} (oldest {age})"),
            Some(name) => format!("{text} (oldest {age}: {name})"),
        }
    });
    let in_flight = count(status.in_flight, "in flight").map(|text| {
        let age = span(status.oldest_in_flight_seconds);
        format!("{text}, {} (oldest {age})", size(status.in_flight_bytes))
    });
    let idle = (waiting.is_none() && in_flight.is_none()).then(|| "idle".to_owned());
    let quarantined = count(*quarantine_files, "in quarantine");
    let (skipped, retried) = (count(status.skipped, "skipped"), count(status.retries, "retried"));
    let all = [idle, waiting, in_flight, published, skipped, quarantined, retried];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The reason for which a pipeline takes no files, if it is paused.
pub fn pause_of(PipelineAnswer { status, .. }: &PipelineAnswer) -> Option<String> {
    if let Some(pause) = status.pause(PauseReason::Operator) {
        let since = since(&pause.since);
        return Some(format!("PAUSED by the operator{since}: `tidemill resume` resumes it"));
    }
    if let Some(PauseStatus { since: time, detail, .. }) = status.pause(PauseReason::Storage) {
        let detail = detail.as_deref().unwrap_or_default();
        return Some(format!("PAUSED by storage{}, resumes automatically: {detail}", since(time)));
    }
    let PauseStatus { since: time, detail, .. } = status.pause(PauseReason::Window)?;
    Some(format!("PAUSED{}: {}", since(time), detail.as_deref().unwrap_or_default()))
}

/// The reason for which the service takes no files of this pipeline now, if there is one.
pub fn pause(status: &StatusAnswer, pipeline: &str) -> Option<String> {
    if status.phase != ProcessPhase::Ready {
        return Some(format!("{}: it takes no files", status.phase));
    }
    pause_of(status.pipelines.iter().find(|one| one.status.name == pipeline)?)
}

/// The newest failures, at most this many, below a heading.
pub fn failures(answer: &OutcomesAnswer, most: usize) -> Vec<String> {
    if answer.outcomes.is_empty() || most == 0 {
        return Vec::new();
    }
    let mut lines = vec!["recent failures:".to_owned()];
    lines.extend(answer.outcomes.iter().take(most).map(outcome));
    lines
}

/// An outcome in one line.
pub fn outcome(outcome: &Outcome) -> String {
    let Outcome { time, state, source, output, cause, .. } = outcome;
    let time = time.split('.').next().unwrap_or_default();
    let state = state.map_or("", State::as_str);
    let detail = match (output, cause) {
        (_, Some(cause)) => format!(": {cause}"),
        (Some(output), None) => format!(" → {output}"),
        (None, None) => String::new(),
    };
    format!("  {time}Z  {state:<11} {source}{detail}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An answer with these fields.
    fn answer<T: serde::de::DeserializeOwned>(fields: Value) -> T {
        serde_json::from_value(fields).expect("an answer")
    }

    fn example() -> StatusAnswer {
        answer(json!({
            "version": "1.2.3", "phase": "READY", "uptime_seconds": 3725.0, "paused_by_operator": false,
            "drain": null,
            "pipelines": [{
                "name": "main", "published": 12, "skipped": 0, "quarantine_files": 2, "retries": 1,
                "source_bytes": 4096, "output_bytes": 1024, "pending": 3, "in_flight": 1,
                "oldest_pending_seconds": 5.0, "oldest_in_flight_seconds": 61.0,
                "in_flight_bytes": 2048,
                "paused": [{"reason": "operator", "since": "2026-01-31T08:00:00Z", "detail": null}],
                "input": "/in", "output": "/out", "transforms": "zstd:3",
                "on_success": "keep"
            }]
        }))
    }

    #[test]
    fn the_status_has_what_is_not_zero_and_why_nothing_is_taken() {
        let failed = json!({"time": "2026-01-31T08:01:02.345Z", "state": "quarantined",
            "source": "bad.gz", "cause": "gunzip: invalid header"});
        let answers = Answers {
            status: example(),
            series: answer(json!({"interval_seconds": 5, "points": [
                {"files": 20, "source_bytes": 110_000_000, "output_bytes": 10_000_000},
                {"files": 0, "source_bytes": 0, "output_bytes": 0}
            ]})),
            failures: answer(json!({ "outcomes": [failed] })),
            page: Some("http://127.0.0.1:9464/".to_owned()),
        };
        let wanted = "\
Tidemill 1.2.3: READY, up for 1h 2m
page: http://127.0.0.1:9464/
2 files/s, 11 MB/s → 1 MB/s in the last 10s
main: /in → /out (zstd:3, on success keep)
  3 waiting (oldest 5s), 1 in flight, 2.05 kB (oldest 1m 1s), 12 published (4.1 kB → 1.02 kB), 2 in quarantine, 1 retried
  PAUSED by the operator since 2026-01-31T08:00:00Z: `tidemill resume` resumes it
recent failures:
  2026-01-31T08:01:02Z  quarantined bad.gz: gunzip: invalid header
";
        assert_eq!(status(&answers, None), wanted);
        let narrow = status(&answers, Some(60));
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    }

    #[test]
    fn a_service_that_is_paused_altogether_has_that_state() {
        let mut status = example();
        status.paused_by_operator = true;
        assert_eq!(
            head(&status),
            "Tidemill 1.2.3: PAUSED by the operator since 2026-01-31T08:00:00Z, up for 1h 2m"
        );
        assert!(
            pause(&status, "main").is_some_and(|why| why.starts_with("PAUSED by the operator"))
        );
        let storage = answer(
            json!({"paused": [{"reason": "storage", "since": "2026-01-31T08:00:00Z", "detail": "no space"}]}),
        );
        assert_eq!(
            pause_of(&storage).as_deref(),
            Some("PAUSED by storage since 2026-01-31T08:00:00Z, resumes automatically: no space")
        );
        let window = answer(
            json!({"paused": [{"reason": "window", "since": "2026-01-31T06:00:00Z", "detail": "window opens 22:00"}]}),
        );
        assert_eq!(
            pause_of(&window).as_deref(),
            Some("PAUSED since 2026-01-31T06:00:00Z: window opens 22:00")
        );
        status.phase = ProcessPhase::Draining;
        assert_eq!(state(&status), "DRAINING");
        assert_eq!(pause(&status, "main").as_deref(), Some("DRAINING: it takes no files"));
    }

    #[test]
    fn a_drain_has_the_rest_and_the_time_it_may_take() {
        let state = answer(json!({
            "unfinished_files": 2, "unfinished_bytes": 1024, "seconds": 3.0, "deadline_left_seconds": 22.0,
            "estimated_left_seconds": 61.5
        }));
        assert_eq!(
            drain(&state),
            "draining: 2 files left, 1.02 kB to be read, about 1m 1s to go, 22s to the deadline"
        );
    }
}
