//! The live view of a running service, in a window of any size.

use std::time::Duration;

use serde_json::Value;

use super::{
    format::{
        counts, drain, failures, flag, head, list, number, outcome, pause_of, rates, seconds,
        state, sum, text,
    },
    terminal::{Window, cut, end_of},
};
use crate::observe::units::{files, size, span};

/// The answers of one look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub status: Value,
    pub work: Value,
    /// The newest outcomes, and the newest quarantined files.
    pub outcomes: Value,
    pub failures: Value,
}

const HELP: &str = "p: pause, r: resume, q: close (the service keeps running)";

/// The lines that fill the window; `last` is the status of the look before.
pub fn view(look: &Look, last: Option<&Value>, page: Option<&str>, window: Window) -> Vec<String> {
    let status = &look.status;
    let mut lines = vec![head(status)];
    lines.extend(page.map(|page| format!("page: {page}")));
    lines.extend(status.get("drain").filter(|drain| !drain.is_null()).map(drain));
    lines.push(pace(status, last));
    // Pipelines take a third of the window at most, failures and outcomes a quarter each; files in
    // flight get the rest.
    lines.extend(pipelines(list(status, "pipelines"), window.rows / 3));
    let failed = failures(&look.failures, (window.rows / 8).max(1));
    let in_flight = in_flight(look, window, &lines, failed.len());
    lines.extend(in_flight);
    if !failed.is_empty() {
        lines.push(String::new());
        lines.extend(failed);
    }
    let room = window.rows.saturating_sub(lines.len() + 4);
    let newest = list(&look.outcomes, "outcomes");
    if room > 0 && !newest.is_empty() {
        lines.push(String::new());
        lines.push("last outcomes:".to_owned());
        lines.extend(newest.iter().take(room).map(outcome));
    }
    lines.truncate(window.rows.saturating_sub(1));
    lines.resize(window.rows.saturating_sub(1), String::new());
    lines.push(HELP.to_owned());
    lines.iter().map(|line| cut(line, window.columns)).collect()
}

/// The escape sequence of a state's colour.
pub fn colour(status: &Value) -> &'static str {
    let is_paused = list(status, "pipelines").iter().any(|one| pause_of(one).is_some());
    match &*state(status) {
        "READY" if !is_paused => "\x1b[1;32m",
        "READY" | "PAUSED" => "\x1b[1;33m",
        _ => "\x1b[1;36m",
    }
}

/// Each pipeline in two or three lines, in this many rows.
fn pipelines(all: &[Value], rows: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (shown, pipeline) in all.iter().enumerate() {
        let mut more = vec![format!("{}: {}", text(pipeline, "name"), counts(pipeline))];
        more.extend(pause_of(pipeline).map(|why| format!("  {why}")));
        if shown > 0 && lines.len() + more.len() > rows {
            lines.push(format!("and {} more pipelines", all.len() - shown));
            return lines;
        }
        lines.extend(more);
    }
    lines
}

/// The files in flight that fit, and the count of the rest.
fn in_flight(look: &Look, window: Window, above: &[String], below: usize) -> Vec<String> {
    let total = sum(&look.status, "in_flight");
    let listed = list(&look.work, "files");
    if total == 0 && listed.is_empty() {
        return Vec::new();
    }
    let bytes = size(sum(&look.status, "in_flight_bytes"));
    let mut lines = vec![String::new(), format!("{} in flight, {bytes}", files(total))];
    // What is above and below, the help, and three blank lines; a quarter is for the outcomes.
    let reserved = match list(&look.outcomes, "outcomes").len() {
        0 => 0,
        count => (count + 2).min(window.rows / 4),
    };
    let used = above.len() + below + lines.len() + 4 + reserved;
    let room = window.rows.saturating_sub(used).max(1);
    let shown = if listed.len() <= room { listed.len() } else { room.saturating_sub(1).max(1) };
    lines.extend(listed.iter().take(shown).map(|one| file(one, window.columns)));
    let rest = total.max(listed.len() as u64).saturating_sub(shown as u64);
    if rest > 0 {
        lines.push(format!("  and {rest} more"));
    }
    lines
}

/// The rates since the last look.
fn pace(status: &Value, last: Option<&Value>) -> String {
    let Some(last) = last else { return String::new() };
    let took = seconds(status, "uptime_seconds") - seconds(last, "uptime_seconds");
    let took = Duration::try_from_secs_f64(took).unwrap_or_default();
    let since = |key| sum(status, key).saturating_sub(sum(last, key));
    let done = ["published", "source_bytes", "output_bytes"].map(since);
    rates(done, took).unwrap_or_else(|| "0 files/s".to_owned())
}

/// A file in flight: how much of it is read, its stage, age, size and path.
fn file(file: &Value, columns: usize) -> String {
    let width = if columns >= 120 { 20 } else { 10 };
    let (done, whole) = (number(file, "done_bytes"), number(file, "bytes"));
    let full = done.saturating_mul(width as u64).checked_div(whole).unwrap_or(0);
    let full = usize::try_from(full).unwrap_or(width).min(width);
    let bar = "#".repeat(full) + &".".repeat(width - full);
    let age = span(seconds(file, "seconds"));
    let stage = if flag(file, "queued") { "queued".to_owned() } else { text(file, "stage") };
    let begin = format!("  [{bar}] {stage:<9} {age:>7} {:>8} ", size(whole));
    let room = columns.saturating_sub(begin.chars().count());
    begin + &end_of(&text(file, "source"), room)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example(in_flight: u64) -> Look {
        let file = |id: u64| {
            json!({
                "id": id, "pipeline": "main", "source": format!("{}{id}.log", "a/".repeat(60)),
                "bytes": 2048, "done_bytes": 1024, "stage": "transform", "seconds": 61.0
            })
        };
        let outcome = json!({"time": "2026-01-31T08:01:02.345Z", "state": "done", "source": "old.log",
            "output": "old.log.zst"});
        let failure = json!({"time": "2026-01-31T08:01:02.345Z", "state": "quarantined",
            "source": "bad.gz", "reason": "gunzip: invalid header"});
        Look {
            status: json!({
                "version": "1.2.3", "phase": "READY", "uptime_seconds": 3727.0, "paused_by_operator": false,
                "drain": null, "pipelines": [{
                    "name": "x".repeat(200), "published": 32, "source_bytes": 4096,
                    "output_bytes": 1024, "pending": 3, "in_flight": in_flight, "in_flight_bytes": 2048
                }]
            }),
            work: json!({ "files": (0..in_flight.min(100)).map(file).collect::<Vec<_>>() }),
            outcomes: json!({ "outcomes": vec![outcome; 50] }),
            failures: json!({ "outcomes": vec![failure; 50] }),
        }
    }

    #[test]
    fn the_view_fills_every_window_and_no_line_is_wider() {
        let mut before = example(110).status;
        before["uptime_seconds"] = json!(3725.0);
        before["pipelines"][0]["published"] = json!(12);
        for (columns, rows) in [(80, 24), (160, 40), (60, 24), (20, 8), (1, 1)] {
            let window = Window { columns, rows };
            let shown = view(&example(110), Some(&before), Some("http://127.0.0.1:9464/"), window);
            assert_eq!(shown.len(), rows, "{shown:?}");
            assert!(shown.iter().all(|line| line.chars().count() <= columns), "{shown:?}");
        }
        let large = view(&example(110), Some(&before), None, Window { columns: 160, rows: 40 });
        let blank = large.iter().filter(|line| line.is_empty()).count();
        assert!(blank <= 4, "{large:#?}");
        let files = large.iter().filter(|line| line.contains("] transform ")).count();
        assert!(files >= 12, "{large:#?}");
        assert!(large.contains(&format!("  and {} more", 110 - files)), "{large:#?}");
        assert!(large.iter().any(|line| line.starts_with("10 files/s")), "{large:#?}");
        assert!(large.iter().any(|line| line.contains("gunzip: invalid header")), "{large:#?}");
    }

    #[test]
    fn a_file_shows_how_far_it_is_and_the_end_of_its_path() {
        let look = example(1);
        let shown = file(&list(&look.work, "files")[0], 80);
        assert!(shown.starts_with("  [#####.....] transform   1m 1s  2.05 kB …"), "{shown}");
        assert!(shown.ends_with("a/0.log"), "{shown}");
    }
}
