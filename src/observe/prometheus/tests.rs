use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::{
    observe::{Observer, OldestPending, SyncKind},
    outcome::OutcomeKind,
    stage::Stage,
};

/// Renders the metrics of this work with a separate recorder: `HELP`, `TYPE` and samples by metric.
fn rendered(pipeline: &str, work: impl FnOnce(&Observer)) -> BTreeMap<String, Vec<String>> {
    let recorder = builder().expect("buckets").build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe();
        work(&Observer::new(&[Arc::from(pipeline)], &[("claim", 64)]));
    });
    let mut metrics = BTreeMap::<String, Vec<String>>::new();
    let mut name = String::new();
    for line in recorder.handle().render().lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            name = help.split(' ').next().expect("a name").to_owned();
            assert!(!metrics.contains_key(&name), "duplicate {name}");
        }
        metrics.entry(name.clone()).or_default().push(line.to_owned());
    }
    for lines in metrics.values_mut() {
        // The sort is stable, so the buckets of a series keep their numeric order.
        lines.sort_by_key(|line| (!line.starts_with('#'), series(line)));
    }
    metrics
}

/// Returns a sample's labels except the bucket's.
fn series(line: &str) -> String {
    let (_, labels) = line.split_once('{').unwrap_or_default();
    let labels = labels.split_once('}').unwrap_or_default().0;
    labels.split(',').filter(|label| !label.starts_with("le=")).collect::<Vec<_>>().join(",")
}

fn everything(observer: &Observer) {
    let meter = observer.pipeline(0).expect("a pipeline");
    let millis = Duration::from_millis;
    meter.outcomes().published(1000, 100);
    meter.outcomes().ended(OutcomeKind::Quarantined, 7);
    meter.stage(Stage::Transform, millis(3));
    meter.sync(SyncKind::File, millis(20));
    meter.batch(3);
    meter.event();
    meter.overflow();
    meter.rescan_found(2);
    meter.retried();
    meter.pending(4, 0, Some(OldestPending { source: "a".into(), age: millis(1500) }));
    meter.job_started(1, "a".as_ref(), 1);
    meter.job_started(2, "b".as_ref(), 1);
    meter.job_finished(1);
    meter.paused(crate::observe::Pause::Output, Some("No space left on device"));
    meter.set_paused_by_operator(false);
    let channel = observer.channel("claim");
    channel.entered();
    channel.entered();
    channel.left(1);
    channel.waited(millis(40));
    observer.set_phase(crate::phase::ProcessPhase::Ready);
    meter.program_ran("pdf", "failed");
    meter.expired("archive", 2, 10);
    crate::observe::expired_records(3);
    let hook = crate::observe::HookMeter::new("on_published");
    hook.ran(crate::observe::HookEnd::TimedOut);
    hook.dropped(3);
}

#[test]
fn the_text_of_all_metrics_matches_the_snapshot() {
    let metrics = rendered("main", everything);
    let mut text = String::new();
    for line in metrics.values().flatten() {
        let line = match line.split_once("} ") {
            Some((series, _)) if series.starts_with(LAST_PUBLISHED) => format!("{series}}} [time]"),
            Some((series, value)) if series.starts_with(BUILD) => {
                format!("{} {value}", series.replace(env!("CARGO_PKG_VERSION"), "[version]") + "}")
            }
            _ => line.clone(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_metric_is_rendered_with_its_help_type_and_labels() {
    let metrics = rendered("main", everything);
    let shown: BTreeSet<&str> = metrics.keys().map(String::as_str).collect();
    assert_eq!(shown, SPECS.iter().map(|spec| spec.name).collect());
    for Spec { name, metric_type, labels, help } in SPECS {
        let lines = &metrics[*name];
        assert_eq!(lines[0], format!("# HELP {name} {help}"));
        assert_eq!(
            lines[1],
            format!("# TYPE {name} {}", format!("{metric_type:?}").to_lowercase())
        );
        assert!(lines.len() > 2, "{name} has no sample");
        for line in &lines[2..] {
            let series = series(line);
            let found = series.split(',').filter_map(|label| Some(label.split_once('=')?.0));
            let found: BTreeSet<&str> = found.collect();
            assert_eq!(found, labels.iter().copied().collect(), "{line}");
        }
    }
}

/// A row of the reference: name, type, labels and help.
fn row(name: &str, lines: &[String]) -> String {
    let after = |prefix: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(&format!("# {prefix} {name} ")));
        line.expect(prefix)
    };
    let sample = lines.iter().find(|line| !line.starts_with('#')).expect("a sample");
    let labels = series(sample);
    let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0));
    let labels: Vec<_> = labels.map(|label| format!("`{label}`")).collect();
    let (kind, help) = (after("TYPE"), after("HELP").trim_end_matches('.'));
    format!("| `{name}` | {kind} | {} | {help} |", labels.join(", ")).replace("|  |", "| |")
}

#[test]
fn the_reference_has_every_metric_with_its_type_labels_and_help() {
    let metrics = rendered("main", |observer| {
        ProcessMetrics::describe().collect();
        everything(observer);
    });
    let rows: BTreeSet<String> = metrics.iter().map(|(name, lines)| row(name, lines)).collect();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/REFERENCE.md");
    let reference = std::fs::read_to_string(reference).expect("the reference");
    let section = reference.split("\n## Metrics\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("its text");
    let table = section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned);
    assert_eq!(table.collect::<BTreeSet<_>>(), rows);
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let labels = BTreeSet::from([
        "pipeline", "outcome", "stage", "channel", "kind", "phase", "version", "hook", "program",
        "reason",
    ]);
    let mut names = BTreeSet::new();
    for spec in SPECS {
        let name = spec.name;
        assert!(names.insert(name), "duplicate {name}");
        assert!(name.starts_with("tidemill_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), spec.metric_type == MetricType::Counter, "{name}");
        // Suffixes that the format reserves for histograms.
        for reserved in ["_bucket", "_count", "_sum"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        let other_units = ["_milliseconds", "_ms", "_kilobytes", "_minutes"];
        assert!(other_units.iter().all(|unit| !name.contains(unit)), "{name}");
        assert!(spec.help.ends_with('.') && !spec.help.contains('\n'), "{name}");
        assert!(spec.labels.iter().all(|label| labels.contains(label)), "{name}");
    }
}

#[test]
fn a_hostile_pipeline_name_cannot_end_its_label() {
    let metrics = rendered("a\"} 1\nb\\c", |_| {});
    let sample = &metrics[EVENTS][2];
    assert_eq!(sample, "tidemill_events_total{pipeline=\"a\\\"} 1\\nb\\\\c\"} 0");
}

#[test]
fn the_status_counts_without_a_recorder() {
    let observer = Observer::new(&["main".into()], &[("claim", 64)]);
    everything(&observer);
    let status = observer.status();
    assert_eq!(
        status.not_ready().as_deref(),
        Some("pipeline main pauses: No space left on device")
    );
    let (pipeline, channel) = (&status.pipelines[0], &status.channels[0]);
    assert_eq!((pipeline.published, pipeline.quarantined, pipeline.in_flight), (1, 1, 1));
    assert_eq!((pipeline.source_bytes, pipeline.output_bytes), (1000, 100));
    assert_eq!((pipeline.overflows, pipeline.rescan_finds, pipeline.retries), (1, 2, 1));
    assert_eq!((channel.entered, channel.queued, channel.capacity), (2, 1, 64));
    assert_eq!(pipeline.pending, 2, "of 4, two were sent");
}
