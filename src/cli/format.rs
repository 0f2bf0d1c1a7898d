//! The status of a running service, in lines.

use std::time::Duration;

use serde_json::Value;

use super::terminal::cut;
use crate::observe::{
    escaped,
    units::{files, per_second, rate, size, span},
};

/// Failures in a status.
pub const FAILURES: usize = 5;
/// Points of the series that the rate is taken from: about the last minute.
const POINTS: usize = 12;

/// The answers of a service from which its status is shown.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub status: Value,
    pub series: Value,
    /// The newest quarantined files.
    pub failures: Value,
    /// The address of the page, where there is one.
    pub page: Option<String>,
}

/// A text of the service, escaped: any program may have made its socket.
pub fn text(of: &Value, key: &str) -> String {
    escaped(of.get(key).and_then(Value::as_str).unwrap_or_default())
}

pub fn seconds(of: &Value, key: &str) -> f64 {
    of.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

pub fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or(0)
}

pub fn flag(of: &Value, key: &str) -> bool {
    of.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The sum of one number over all pipelines.
pub fn sum(status: &Value, key: &str) -> u64 {
    list(status, "pipelines").iter().map(|pipeline| number(pipeline, key)).sum()
}

/// The lines of `tidemill status`, cut to the width of a terminal.
pub fn status(answers: &Answers, columns: Option<usize>) -> String {
    let status = &answers.status;
    let mut lines = vec![head(status)];
    lines.extend(answers.page.as_ref().map(|page| format!("page: {page}")));
    lines.extend(status.get("drain").filter(|drain| !drain.is_null()).map(drain));
    lines.extend(recent_rate(&answers.series));
    for pipeline in list(status, "pipelines") {
        lines.extend(about(pipeline));
    }
    lines.extend(failures(&answers.failures, FAILURES));
    let line = |line: &String| columns.map_or_else(|| line.clone(), |most| cut(line, most)) + "\n";
    lines.iter().map(line).collect()
}

/// The state of the service in one word: its phase, or PAUSED.
pub fn state(status: &Value) -> String {
    let phase = text(status, "phase");
    if phase == "READY" && flag(status, "paused_by_operator") { "PAUSED".to_owned() } else { phase }
}

/// The version, the state and the age of the service.
pub fn head(status: &Value) -> String {
    let up = span(seconds(status, "uptime_seconds"));
    let version = text(status, "version");
    let since = if state(status) == "PAUSED" {
        let pauses = list(status, "pipelines").iter().filter_map(|one| pause_for(one, "operator"));
        let oldest = pauses.map(|pause| text(pause, "since")).min();
        format!(" by the operator{}", since(&oldest.unwrap_or_default()))
    } else {
        String::new()
    };
    format!("Tidemill {version}: {}{since}, up for {up}", state(status))
}

fn since(time: &str) -> String {
    if time.is_empty() { String::new() } else { format!(" since {time}") }
}

/// A drain in progress, in one line.
pub fn drain(drain: &Value) -> String {
    let unfinished = files(number(drain, "left_files"));
    let unread = size(number(drain, "left_bytes"));
    let deadline = span(seconds(drain, "deadline_seconds_left"));
    let estimate = drain.get("estimated_seconds_left").and_then(Value::as_f64);
    let estimate =
        estimate.map_or_else(String::new, |left| format!(", about {} to go", span(left)));
    format!(
        "draining: {unfinished} left, {unread} to be read{estimate}, {deadline} to the deadline"
    )
}

/// The rate of the last minute; none where nothing was published in it.
fn recent_rate(series: &Value) -> Option<String> {
    let points = list(series, "points");
    let recent = points.get(points.len().saturating_sub(POINTS)..).unwrap_or_default();
    let total = |key| recent.iter().map(|point| number(point, key)).sum();
    let took = number(series, "interval_seconds").saturating_mul(recent.len() as u64);
    let took = Duration::from_secs(took);
    let rates = rates([total("files"), total("source_bytes"), total("output_bytes")], took)?;
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

fn about(pipeline: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} → {} ({}, on success {})",
        text(pipeline, "name"),
        text(pipeline, "input"),
        text(pipeline, "output"),
        text(pipeline, "transforms"),
        text(pipeline, "on_success")
    )];
    lines.push(format!("  {}", counts(pipeline)));
    lines.extend(pause_of(pipeline).map(|why| format!("  {why}")));
    lines
}

/// The counts of a pipeline that are not zero.
pub fn counts(pipeline: &Value) -> String {
    let count = |key, name: &str| match number(pipeline, key) {
        0 => None,
        count => Some(format!("{count} {name}")),
    };
    let oldest = |shown: String, key| format!("{shown} (oldest {})", span(seconds(pipeline, key)));
    let (read, written) = (number(pipeline, "source_bytes"), number(pipeline, "output_bytes"));
    let published = count("published", "published");
    let published = published.map(|text| format!("{text} ({} → {})", size(read), size(written)));
    let waiting = count("pending", "waiting").map(|text| {
        let age = span(seconds(pipeline, "oldest_pending_seconds"));
        match &*self::text(pipeline, "oldest_pending") {
            "" => format!("{text} (oldest {age})"),
            name => format!("{text} (oldest {age}: {name})"),
        }
    });
    let in_flight = count("in_flight", "in flight").map(|text| {
        let bytes = size(number(pipeline, "in_flight_bytes"));
        oldest(format!("{text}, {bytes}"), "oldest_in_flight_seconds")
    });
    let idle = (waiting.is_none() && in_flight.is_none()).then(|| "idle".to_owned());
    let quarantined = count("quarantine_size", "in quarantine");
    let (skipped, retried) = (count("skipped", "skipped"), count("retries", "retried"));
    let all = [idle, waiting, in_flight, published, skipped, quarantined, retried];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The reason for which a pipeline takes no files, if it is paused.
pub fn pause_of(pipeline: &Value) -> Option<String> {
    if let Some(pause) = pause_for(pipeline, "operator") {
        let since = since(&text(pause, "since"));
        return Some(format!("PAUSED by the operator{since}: `tidemill resume` resumes it"));
    }
    let pause = pause_for(pipeline, "storage")?;
    let (since, detail) = (since(&text(pause, "since")), text(pause, "detail"));
    Some(format!("PAUSED by storage{since}, resumes automatically: {detail}"))
}

fn pause_for<'a>(pipeline: &'a Value, reason: &str) -> Option<&'a Value> {
    list(pipeline, "paused").iter().find(|pause| text(pause, "reason") == reason)
}

/// The reason for which the service takes no files of this pipeline now, if there is one.
pub fn pause(status: &Value, pipeline: &str) -> Option<String> {
    let phase = text(status, "phase");
    if phase != "READY" {
        return Some(format!("{phase}: it takes no files"));
    }
    let pipelines = list(status, "pipelines");
    pause_of(pipelines.iter().find(|one| text(one, "name") == pipeline)?)
}

/// The newest failures, at most this many, below a heading.
pub fn failures(answer: &Value, most: usize) -> Vec<String> {
    let found = list(answer, "outcomes");
    if found.is_empty() || most == 0 {
        return Vec::new();
    }
    let mut lines = vec!["recent failures:".to_owned()];
    lines.extend(found.iter().take(most).map(outcome));
    lines
}

/// An outcome in one line.
pub fn outcome(outcome: &Value) -> String {
    let time = text(outcome, "time");
    let time = time.split('.').next().unwrap_or_default();
    let (state, path) = (text(outcome, "state"), text(outcome, "source"));
    let detail = match (&*text(outcome, "output"), &*text(outcome, "reason")) {
        ("", "") => String::new(),
        (output, "") => format!(" → {output}"),
        (_, reason) => format!(": {}", without_path(reason, &path)),
    };
    format!("  {time}Z  {state:<11} {path}{detail}")
}

/// The cause alone, where the reason begins with the path that stands before it.
fn without_path<'a>(reason: &'a str, path: &str) -> &'a str {
    let cause = reason.strip_prefix("cannot transform ");
    let cause = cause.and_then(|rest| rest.split_once(&format!("{path}: ")));
    cause.map_or(reason, |(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub fn example() -> Value {
        json!({
            "version": "1.2.3", "phase": "READY", "uptime_seconds": 3725.0, "paused_by_operator": false,
            "drain": null,
            "pipelines": [{
                "name": "main", "published": 12, "skipped": 0, "quarantine_size": 2, "retries": 1,
                "source_bytes": 4096, "output_bytes": 1024, "pending": 3, "in_flight": 1,
                "oldest_pending_seconds": 5.0, "oldest_in_flight_seconds": 61.0,
                "in_flight_bytes": 2048,
                "paused": [{"reason": "operator", "since": "2026-01-31T08:00:00Z", "detail": null}],
                "input": "/in", "output": "/out", "transforms": "zstd:3",
                "on_success": "keep"
            }]
        })
    }

    #[test]
    fn no_text_of_a_socket_moves_the_cursor() {
        let bad = "\u{1b}[2J\u{202e}\n";
        let status = json!({"phase": bad, "version": bad, "pipelines": [{
            "name": bad, "input": bad, "output": bad, "transforms": bad, "on_success": bad,
            "pending": 1, "oldest_pending": bad,
            "paused": [{"reason": "storage", "since": bad, "detail": bad}]}]});
        let failed = json!({"time": bad, "state": bad, "source": bad, "reason": bad});
        let pipeline = &status["pipelines"][0];
        let shown = [about(pipeline), vec![head(&status), outcome(&failed)]].concat();
        for line in shown {
            assert!(!line.chars().any(|one| one.is_control() || one == '\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn the_status_has_what_is_not_zero_and_why_nothing_is_taken() {
        let failed = json!({"time": "2026-01-31T08:01:02.345Z", "state": "quarantined",
            "source": "bad.gz", "reason": "cannot transform /in/bad.gz: gunzip: invalid header"});
        let answers = Answers {
            status: example(),
            series: json!({"interval_seconds": 5, "points": [
                {"files": 20, "source_bytes": 110_000_000, "output_bytes": 10_000_000},
                {"files": 0, "source_bytes": 0, "output_bytes": 0}
            ]}),
            failures: json!({ "outcomes": [failed] }),
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
        status["paused_by_operator"] = json!(true);
        assert_eq!(
            head(&status),
            "Tidemill 1.2.3: PAUSED by the operator since 2026-01-31T08:00:00Z, up for 1h 2m"
        );
        assert!(
            pause(&status, "main").is_some_and(|why| why.starts_with("PAUSED by the operator"))
        );
        let storage = json!({"paused": [{"reason": "storage", "since": "2026-01-31T08:00:00Z", "detail": "no space"}]});
        assert_eq!(
            pause_of(&storage).as_deref(),
            Some("PAUSED by storage since 2026-01-31T08:00:00Z, resumes automatically: no space")
        );
        status["phase"] = json!("DRAINING");
        assert_eq!(state(&status), "DRAINING");
        assert_eq!(pause(&status, "main").as_deref(), Some("DRAINING: it takes no files"));
    }

    #[test]
    fn a_drain_has_the_rest_and_the_time_it_may_take() {
        let state = json!({
            "left_files": 2, "left_bytes": 1024, "seconds": 3.0, "deadline_seconds_left": 22.0,
            "estimated_seconds_left": 61.5
        });
        assert_eq!(
            drain(&state),
            "draining: 2 files left, 1.02 kB to be read, about 1m 1s to go, 22s to the deadline"
        );
    }
}
