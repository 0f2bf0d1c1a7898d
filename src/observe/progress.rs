//! The progress bar and the summary of `--once`. Neither waits for a stopped terminal (Ctrl-S): a thread
//! of its own draws the bar.

use std::{
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::oneshot, time::timeout};

use super::{
    display_path::display_path,
    in_flight::InFlightView,
    observer::Observer,
    status::{Status, Totals},
    stderr::write_lines,
    units::{files, per_second, rate, size, span},
};
use crate::{limits, stage::Stage};

const EVERY: Duration = Duration::from_millis(100);
/// The steps of the bar.
const STEPS: u64 = 1000;
/// No estimate is shown earlier: the first files are no measure.
const ESTIMATE_AFTER: Duration = Duration::from_secs(1);

/// Shows a bar until `stop` resolves; nothing where the standard error is no terminal.
pub async fn run(observer: Arc<Observer>, stop: impl Future<Output = ()>) {
    if !stderr().is_terminal() {
        return stop.await;
    }
    let (end, ended) = channel::<()>();
    let (gone, is_gone) = oneshot::channel::<()>();
    let drawing = thread::Builder::new().name("progress".to_owned()).spawn(move || {
        draw(&observer, &ended);
        drop(gone);
    });
    stop.await;
    drop(end);
    if drawing.is_ok() {
        // A stopped terminal blocks that thread alone.
        drop(timeout(limits::LOG_FLUSH_TIMEOUT, is_gone).await);
    }
}

fn draw(observer: &Observer, ended: &Receiver<()>) {
    let bar = ProgressBar::new(STEPS);
    if let Ok(style) = ProgressStyle::with_template("[{bar:20}] {wide_msg}") {
        bar.set_style(style.progress_chars("##."));
    }
    let began = Instant::now();
    while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        let in_flight = observer.in_flight(limits::IN_FLIGHT_ENTRIES_MAX).into_iter();
        // A file whose stage is still `settle` only waits.
        let running = in_flight.map(|(_, file)| file).filter(|file| file.stage != Stage::Settle);
        let largest = running.max_by_key(|file| file.bytes);
        let progress = Progress::new(&observer.status(), began.elapsed(), largest);
        bar.set_position(progress.steps());
        bar.set_message(progress.line());
    }
    bar.finish_and_clear();
}

/// One moment of a `--once`.
#[derive(Debug)]
struct Progress {
    totals: Totals,
    /// Files that the scan has found so far, finished or not.
    found: u64,
    took: Duration,
    /// The largest file that is being processed.
    largest: Option<InFlightView>,
}

impl Progress {
    fn new(status: &Status, took: Duration, largest: Option<InFlightView>) -> Self {
        let totals = status.totals();
        let pending: u64 = status.pipelines.iter().map(|pipeline| pipeline.pending).sum();
        let found = totals.ended + totals.in_work + pending;
        Self { totals, found, took, largest }
    }

    /// The finished part, from 0 to [`STEPS`]: files, and the bytes that are read of those in flight.
    fn steps(&self) -> u64 {
        let Totals { ended, in_work, in_work_bytes, in_work_done_bytes, .. } = self.totals;
        let partly = in_work * in_work_done_bytes.saturating_mul(STEPS) / in_work_bytes.max(1);
        ((ended * STEPS + partly) / self.found.max(1)).min(STEPS)
    }

    /// `10/40 files 25 % 11 MB/s ETA 27s big12.log`.
    fn line(&self) -> String {
        if self.found == 0 {
            return "scanning".to_owned();
        }
        let Totals { ended, quarantined, source_bytes, in_work_done_bytes, .. } = self.totals;
        let steps = self.steps();
        let speed = rate(source_bytes + in_work_done_bytes, self.took);
        let mut line = format!("{ended}/{} files {} % {speed}", self.found, steps * 100 / STEPS);
        if steps > 0 && self.took >= ESTIMATE_AFTER {
            #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
            let left = self.took.as_secs_f64() * (STEPS - steps) as f64 / steps as f64;
            line += &format!(" ETA {}", span(left.ceil()));
        }
        if quarantined > 0 {
            line += &format!(", {quarantined} quarantined");
        }
        if let Some(file) = &self.largest {
            let percent = file.done_bytes.saturating_mul(100) / file.bytes.max(1);
            line += &format!(" {} ({}, {percent} %)", display_path(&file.path), size(file.bytes));
        }
        line
    }
}

/// The result of a `--once`, in addition to its totals.
#[derive(Clone, Debug, Default)]
pub struct OnceOutcome {
    /// Files in quarantine, from this run or before.
    pub in_quarantine: u64,
    /// Files that this run did not finish.
    pub deferred: u64,
    /// Files that an earlier run processed with other transforms.
    pub other_transforms: u64,
    /// The output directories.
    pub outputs: Vec<PathBuf>,
}

/// Prints the last lines of a `--once` to the standard error.
pub fn print_summary(status: &Status, took: Duration, outcome: &OnceOutcome) {
    let working_directory = std::env::current_dir().unwrap_or_default();
    let text = summary(&status.totals(), took, outcome, &working_directory);
    write_lines(format!("{text}\n").as_bytes());
    if outcome.other_transforms > 0 {
        let text = format!(
            "{} done before with other transforms: `tidemill reprocess --changed-transforms` processes them again\n",
            outcome.other_transforms
        );
        write_lines(text.as_bytes());
    }
}

fn summary(
    totals: &Totals,
    took: Duration,
    outcome: &OnceOutcome,
    working_directory: &Path,
) -> String {
    let Totals { published, skipped, source_bytes, output_bytes, .. } = *totals;
    let mut text = format!("{} published", files(published));
    if published > 0
        && let [output] = outcome.outputs.as_slice()
    {
        let short = output.strip_prefix(working_directory).unwrap_or(output);
        text += &format!(" into {}/", display_path(short));
    }
    text += &format!(" in {:.1} s", took.as_secs_f64());
    if published > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = source_bytes as f64 / output_bytes.max(1) as f64;
        text += &format!(
            " ({}/s, {}): {} → {} (ratio {ratio:.2})",
            files(per_second(published, took)),
            rate(source_bytes, took),
            size(source_bytes),
            size(output_bytes)
        );
    }
    if skipped > 0 {
        text += &format!(", {skipped} skipped: nothing to do");
    }
    let OnceOutcome { in_quarantine, deferred, .. } = *outcome;
    if in_quarantine > 0 {
        text +=
            &format!(", {in_quarantine} in quarantine: see `tidemill history --state quarantined`");
    }
    if deferred > 0 {
        text += &format!(", {deferred} deferred to the next run");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_counts_rates_and_the_output() {
        let totals = Totals {
            published: 10,
            skipped: 2,
            source_bytes: 4_000_000,
            output_bytes: 1_000_000,
            ..Totals::default()
        };
        let outcome = OnceOutcome {
            in_quarantine: 1,
            deferred: 3,
            outputs: vec!["/srv/out".into()],
            ..OnceOutcome::default()
        };
        let took = Duration::from_secs(2);
        assert_eq!(
            summary(&totals, took, &outcome, Path::new("/srv")),
            "10 files published into out/ in 2.0 s (5 files/s, 2 MB/s): 4 MB → 1 MB (ratio 4.00), 2 skipped: nothing to do, 1 in quarantine: see `tidemill history --state quarantined`, 3 deferred to the next run"
        );
        let one = Totals { published: 1, source_bytes: 3, output_bytes: 16, ..Totals::default() };
        assert!(
            summary(&one, took, &outcome, Path::new("/")).starts_with(
                "1 file published into srv/out/ in 2.0 s (1 file/s, 2 B/s): 3 B → 16 B"
            )
        );
        let none = OnceOutcome::default();
        assert_eq!(
            summary(&Totals::default(), took, &none, Path::new("/")),
            "0 files published in 2.0 s"
        );
    }

    #[test]
    fn the_bar_counts_files_and_the_part_of_those_in_flight_and_estimates() {
        let totals = Totals {
            ended: 9,
            in_work: 2,
            in_work_bytes: 200_000_000,
            in_work_done_bytes: 100_000_000,
            source_bytes: 10_000_000,
            ..Totals::default()
        };
        let mut progress =
            Progress { totals, found: 40, took: Duration::from_secs(10), largest: None };
        assert_eq!(progress.steps(), 250);
        assert_eq!(progress.line(), "9/40 files 25 % 11 MB/s ETA 30s");
        progress.largest = Some(InFlightView {
            id: 1,
            path: "big12.log".into(),
            bytes: 190_000_000,
            done_bytes: 95_000_000,
            stage: Stage::Transform,
            since: Instant::now(),
        });
        let line = progress.line();
        assert!(line.ends_with("ETA 30s big12.log (190 MB, 50 %)"), "{line}");
        progress.took = Duration::from_millis(10);
        assert!(!progress.line().contains("ETA"), "{}", progress.line());
        progress.found = 0;
        assert_eq!(progress.line(), "scanning");
    }
}
