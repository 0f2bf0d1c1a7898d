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
    display_path,
    in_flight::InFlightView,
    logging::{UNFILTERED, log_seconds},
    observer::Observer,
    status::{Status, Totals},
    stderr::write_lines,
    units::{files, per_second, rate, size, span},
};
use crate::{limits, policy::LogFormat, stage::Stage};

const EVERY: Duration = Duration::from_millis(100);
/// The steps of the bar.
const STEPS: u32 = 1000;
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
    let bar = ProgressBar::new(STEPS.into());
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

/// One moment of a `--once`. Skipped files are no part of the work: there was nothing to do.
#[derive(Debug)]
struct Progress {
    totals: Totals,
    took: Duration,
    /// The largest file that is being processed.
    largest: Option<InFlightView>,
}

impl Progress {
    fn new(status: &Status, took: Duration, largest: Option<InFlightView>) -> Self {
        Self { totals: status.totals(), took, largest }
    }

    /// Returns the number of finished files, and of all that the scan has found so far.
    const fn files(&self) -> (u64, u64) {
        let Totals { ended, skipped, in_flight, pending, .. } = self.totals;
        let ended = ended.saturating_sub(skipped);
        (ended, ended + in_flight + pending)
    }

    /// Returns the finished part of the work, from 0 to 1: of the files or of the bytes, whichever part
    /// is smaller. One large file takes as long as many small ones, and the other way round.
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    fn share(&self) -> f64 {
        let part = |done: f64, all: u64| if all == 0 { 1.0 } else { done / all as f64 };
        let Totals { in_flight, in_flight_bytes, in_flight_done_bytes, .. } = self.totals;
        let Totals { ended_bytes, pending_bytes, .. } = self.totals;
        let (ended, found) = self.files();
        // The part of the files in flight that is read.
        let partly = in_flight as f64 * in_flight_done_bytes as f64 / in_flight_bytes.max(1) as f64;
        let of_files = part(ended as f64 + partly, found);
        let done_bytes = ended_bytes + in_flight_done_bytes;
        let of_bytes = part(done_bytes as f64, ended_bytes + in_flight_bytes + pending_bytes);
        of_files.min(of_bytes).min(1.0)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to STEPS")]
    fn steps(&self) -> u64 {
        (self.share() * f64::from(STEPS)) as u64
    }

    /// `10/40 files 25 % 11 MB/s ETA 27s big12.log`.
    fn line(&self) -> String {
        let (ended, found) = self.files();
        let Totals { skipped, quarantined, source_bytes, in_flight_done_bytes, .. } = self.totals;
        let mut line = if found == 0 {
            "scanning".to_owned()
        } else {
            let share = self.share();
            let speed = rate(source_bytes + in_flight_done_bytes, self.took);
            let mut line =
                format!("{ended}/{found} files {:.0} % {speed}", (share * 100.0).floor());
            if share > 0.0 && self.took >= ESTIMATE_AFTER {
                let left = self.took.as_secs_f64() * (1.0 - share) / share;
                line += &format!(" ETA {}", span(left.ceil()));
            }
            line
        };
        if skipped > 0 {
            line += &format!(", {skipped} skipped");
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
    /// Compressed files that were compressed again.
    pub recompressed: u64,
    /// The output directories.
    pub outputs: Vec<PathBuf>,
}

/// Reports the end of a `--once` on the standard error: as an event of a log in JSON, else as lines for
/// people.
pub fn print_summary(format: LogFormat, status: &Status, took: Duration, outcome: &OnceOutcome) {
    if format == LogFormat::Json {
        return log_summary(&status.totals(), took, outcome);
    }
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
    if outcome.recompressed > 0 {
        let text = format!(
            "{} compressed again: leave compressed files out with `--exclude`, or begin the transforms with `decompress:or-copy`\n",
            files(outcome.recompressed)
        );
        write_lines(text.as_bytes());
    }
}

fn log_summary(totals: &Totals, took: Duration, outcome: &OnceOutcome) {
    tracing::info!(
        target: UNFILTERED,
        event = "once.finished",
        published = totals.published,
        skipped = totals.skipped,
        in_quarantine = outcome.in_quarantine,
        deferred = outcome.deferred,
        other_transforms = outcome.other_transforms,
        recompressed = outcome.recompressed,
        source_size = size(totals.source_bytes),
        output_size = size(totals.output_bytes),
        seconds = log_seconds(took),
        "finished"
    );
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
    fn the_bar_shows_the_part_of_files_or_bytes_that_is_smaller_and_estimates_by_it() {
        let totals = Totals {
            ended: 9,
            ended_bytes: 10_000_000,
            in_flight: 2,
            in_flight_bytes: 200_000_000,
            in_flight_done_bytes: 100_000_000,
            pending: 29,
            pending_bytes: 100_000_000,
            source_bytes: 10_000_000,
            ..Totals::default()
        };
        let mut progress = Progress { totals, took: Duration::from_secs(10), largest: None };
        assert_eq!(progress.line(), "9/40 files 25 % 11 MB/s ETA 30s");
        progress.totals.skipped = 1000;
        progress.totals.ended += 1000;
        assert_eq!(progress.line(), "9/40 files 25 % 11 MB/s ETA 30s, 1000 skipped");
        progress.totals = totals;
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
        progress = Progress { totals: Totals::default(), took: Duration::ZERO, largest: None };
        assert_eq!(progress.line(), "scanning");
    }

    #[test]
    fn one_large_file_after_many_small_ones_is_most_of_the_work() {
        let large = Totals {
            ended: 20,
            ended_bytes: 2_000,
            in_flight: 1,
            in_flight_bytes: 54_000_000,
            in_flight_done_bytes: 2_700_000,
            ..Totals::default()
        };
        let running = Progress { totals: large, took: Duration::from_secs(10), largest: None };
        let line = running.line();
        assert!(line.starts_with("20/21 files 5 % ") && line.ends_with(" ETA 3m 10s"), "{line}");
        // The same while it waits for its turn.
        let pending = Totals {
            in_flight: 0,
            in_flight_bytes: 0,
            in_flight_done_bytes: 0,
            pending: 1,
            pending_bytes: 54_000_000,
            ..large
        };
        let waiting = Progress { totals: pending, took: Duration::from_secs(10), largest: None };
        assert!(waiting.line().starts_with("20/21 files 0 % "), "{}", waiting.line());
        // Many small files after a large one: the files decide.
        let small = Totals {
            ended: 1,
            ended_bytes: 54_000_000,
            pending: 19,
            pending_bytes: 19,
            ..Totals::default()
        };
        let small = Progress { totals: small, took: Duration::from_secs(10), largest: None };
        assert!(small.line().ends_with(" ETA 3m 10s"), "{}", small.line());
    }
}
