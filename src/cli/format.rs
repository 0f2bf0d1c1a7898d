//! What a running service looks like in a terminal of 80 columns.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::Value;

/// A line has no more letters, so that none is broken in two.
const COLUMNS: usize = 79;
/// Files in work that are shown; with the rest they fit into 24 lines for a few pipelines.
const FILES: usize = 10;
const BAR: usize = 10;

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn seconds(of: &Value, key: &str) -> f64 {
    of.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn bytes(of: &Value, key: &str) -> ByteSize {
    ByteSize(number(of, key))
}

/// `1d 2h`, `3m 4s`, `5s`.
fn time(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, _) => format!("{minutes}m {}s", whole % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// At most [`COLUMNS`] letters; a path keeps its end, which tells it from others.
fn cut(line: &str) -> String {
    if line.chars().count() <= COLUMNS {
        return line.to_owned();
    }
    let kept: String = line.chars().take(COLUMNS - 1).collect();
    kept + "…"
}

fn end_of(path: &str, most: usize) -> String {
    let count = path.chars().count();
    if count <= most {
        return path.to_owned();
    }
    let kept: String = path.chars().skip(count - (most - 1)).collect();
    format!("…{kept}")
}

/// The whole status, for `tidemill status`.
pub fn status(status: &Value) -> String {
    let mut lines = vec![head(status)];
    if let Some(told) = status.get("drain").filter(|drain| !drain.is_null()) {
        lines.push(drain(told));
    }
    for pipeline in list(status, "pipelines") {
        lines.extend(about(pipeline));
    }
    lines.join("\n") + "\n"
}

fn head(status: &Value) -> String {
    let up = time(seconds(status, "uptime_seconds"));
    let held = status.get("held").and_then(Value::as_bool).unwrap_or(false);
    let held = if held { ", paused by the operator" } else { "" };
    format!("Tidemill {}: {}, up for {up}{held}", text(status, "version"), text(status, "phase"))
}

/// A drain under way, in one line.
pub fn drain(drain: &Value) -> String {
    let left = number(drain, "left_files");
    let (unread, deadline) =
        (bytes(drain, "left_bytes"), time(seconds(drain, "deadline_seconds_left")));
    let estimate = drain.get("estimated_seconds_left").and_then(Value::as_f64);
    let estimate =
        estimate.map_or_else(String::new, |left| format!(", about {} to go", time(left)));
    format!(
        "draining: {left} files left, {unread} to be read{estimate}, {deadline} to the deadline"
    )
}

fn about(pipeline: &Value) -> Vec<String> {
    let name = text(pipeline, "name");
    let mut lines = vec![
        format!(
            "{name}: {} → {} ({}, on success {})",
            text(pipeline, "input"),
            text(pipeline, "output"),
            text(pipeline, "transforms"),
            text(pipeline, "on_success")
        ),
        counts(pipeline),
        format!(
            "  {} waiting, {} in work ({})",
            number(pipeline, "pending"),
            number(pipeline, "in_work"),
            bytes(pipeline, "in_work_bytes")
        ),
    ];
    lines.extend(state_text(pipeline).map(|why| format!("  {why}")));
    lines
}

fn counts(pipeline: &Value) -> String {
    format!(
        "  {} published ({} → {}), {} skipped, {} in quarantine, {} retried",
        number(pipeline, "published"),
        bytes(pipeline, "source_bytes"),
        bytes(pipeline, "output_bytes"),
        number(pipeline, "skipped"),
        number(pipeline, "quarantine_size"),
        number(pipeline, "retries")
    )
}

/// Why nothing is taken in, if so.
fn state_text(pipeline: &Value) -> Option<String> {
    if pipeline.get("held").and_then(Value::as_bool) == Some(true) {
        return Some("paused by the operator; resume it with `tidemill resume`".to_owned());
    }
    let reason = pipeline.get("paused").and_then(Value::as_str)?;
    Some(format!("paused, resumes automatically: {reason}"))
}

/// What `tidemill status --watch` shows; `last` is the status of the look before.
pub fn live(status: &Value, work: &Value, last: Option<&Value>) -> String {
    let mut lines = vec![head(status)];
    if let Some(told) = status.get("drain").filter(|drain| !drain.is_null()) {
        lines.push(drain(told));
    }
    lines.push(pace(status, last));
    for pipeline in list(status, "pipelines") {
        lines.push(String::new());
        lines.push(format!("{}: {} waiting", text(pipeline, "name"), number(pipeline, "pending")));
        lines.push(counts(pipeline));
        lines.extend(state_text(pipeline).map(|why| format!("  {why}")));
    }
    let files = list(work, "files");
    lines.push(String::new());
    lines.push(format!("{} files in work", all(status, "in_work")));
    lines.extend(files.iter().take(FILES).map(file));
    lines.push(String::new());
    lines.push("Ctrl-C closes this view; the service keeps running".to_owned());
    lines.iter().map(|line| cut(line) + "\n").collect()
}

fn all(status: &Value, key: &str) -> u64 {
    list(status, "pipelines").iter().map(|pipeline| number(pipeline, key)).sum()
}

fn pace(status: &Value, last: Option<&Value>) -> String {
    let Some(last) = last else { return String::new() };
    let took = seconds(status, "uptime_seconds") - seconds(last, "uptime_seconds");
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a pace for people"
    )]
    let since = |key| {
        let done = all(status, key).saturating_sub(all(last, key));
        (done as f64 / took.max(0.001)).round() as u64
    };
    let (read, written) = (ByteSize(since("source_bytes")), ByteSize(since("output_bytes")));
    format!("{} files/s, {read}/s → {written}/s", since("published"))
}

fn file(file: &Value) -> String {
    let (done, whole) = (number(file, "done_bytes"), number(file, "bytes"));
    let tenths = done.saturating_mul(BAR as u64).checked_div(whole).unwrap_or(0);
    let full = usize::try_from(tenths).unwrap_or(BAR).min(BAR);
    let bar = "#".repeat(full) + &".".repeat(BAR - full);
    let (stage, age) = (text(file, "stage"), time(seconds(file, "seconds")));
    let size = bytes(file, "bytes").to_string();
    let begin = format!("  [{bar}] {stage:<9} {age:>7} {size:>10} ");
    let room = COLUMNS.saturating_sub(begin.chars().count());
    begin + &end_of(text(file, "path"), room)
}

/// A number of an answer.
pub fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> (Value, Value) {
        let status = json!({
            "version": "1.2.3", "phase": "READY", "uptime_seconds": 3725.0, "held": false,
            "drain": null,
            "pipelines": [{
                "name": "main", "published": 12, "skipped": 0, "quarantine_size": 2, "retries": 1,
                "source_bytes": 4096, "output_bytes": 1024, "pending": 3, "in_work": 1,
                "in_work_bytes": 2048, "held": true, "paused": null, "input": "/in",
                "output": "/out", "transforms": "zstd:3", "on_success": "keep"
            }]
        });
        let work = json!({"files": [{
            "id": 1, "pipeline": "main", "path": "a/".repeat(60) + "end.log", "bytes": 2048,
            "done_bytes": 1024, "stage": "transform", "seconds": 61.0
        }]});
        (status, work)
    }

    #[test]
    fn the_status_says_what_there_is_and_why_nothing_is_taken() {
        assert_eq!(
            status(&example().0),
            "Tidemill 1.2.3: READY, up for 1h 2m\n\
             main: /in → /out (zstd:3, on success keep)\n  \
             12 published (4.0 KiB → 1.0 KiB), 0 skipped, 2 in quarantine, 1 retried\n  \
             3 waiting, 1 in work (2.0 KiB)\n  \
             paused by the operator; resume it with `tidemill resume`\n"
        );
    }

    #[test]
    fn no_line_of_the_live_view_is_wider_than_a_terminal_of_80_columns() {
        let (mut now, work) = example();
        let before = now.clone();
        now["uptime_seconds"] = json!(3727.0);
        now["pipelines"][0]["published"] = json!(32);
        now["pipelines"][0]["name"] = json!("x".repeat(200));
        let shown = live(&now, &work, Some(&before));
        assert!(shown.lines().all(|line| line.chars().count() <= COLUMNS), "{shown}");
        assert!(shown.contains("\n10 files/s, 0 B/s → 0 B/s\n"), "{shown}");
        assert!(shown.contains("[#####.....] transform   1m 1s    2.0 KiB …"), "{shown}");
        assert!(shown.contains("a/end.log\n"), "{shown}");
    }

    #[test]
    fn a_drain_tells_what_is_left_and_how_long_it_may_take() {
        let told = json!({
            "left_files": 2, "left_bytes": 1024, "seconds": 3.0, "deadline_seconds_left": 22.0,
            "estimated_seconds_left": 61.5
        });
        assert_eq!(
            drain(&told),
            "draining: 2 files left, 1.0 KiB to be read, about 1m 1s to go, 22s to the deadline"
        );
    }
}
