//! What `--once` shows to a person: a bar while it works, on a terminal, and a summary. Neither waits
//! for a terminal that is stopped (Ctrl-S): the bar has a thread of its own.

use std::{
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::oneshot, time::timeout};

use super::{
    observer::Observer,
    status::{Status, Totals},
    stderr::write_lines,
};
use crate::limits;

const EVERY: Duration = Duration::from_millis(100);

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
        // A stopped terminal keeps the thread, and nobody else.
        drop(timeout(limits::LOG_FLUSH_TIMEOUT, is_gone).await);
    }
}

fn draw(observer: &Observer, ended: &Receiver<()>) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
        bar.set_style(style);
    }
    while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        bar.set_message(line(&observer.status().totals()));
        bar.tick();
    }
    bar.finish_and_clear();
}

fn line(totals: &Totals) -> String {
    let Totals { published, skipped, quarantined, in_work, source_bytes, output_bytes, .. } =
        totals;
    let (read, written) = (ByteSize(*source_bytes), ByteSize(*output_bytes));
    format!(
        "{published} published, {in_work} in work, {skipped} skipped, {quarantined} quarantined, {read} → {written}"
    )
}

/// What `--once` came to, besides its totals, in files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnceEnds {
    pub in_quarantine: u64,
    pub left: u64,
    pub other_transforms: u64,
}

/// The last lines of a `--once`, on the standard error: what it did, what is in quarantine, also from
/// before, what it left, and what other transforms made before.
pub fn print_summary(status: &Status, took: Duration, ends: OnceEnds) {
    let text = summary(&status.totals(), took, ends.in_quarantine, ends.left);
    write_lines(format!("{text}\n").as_bytes());
    if ends.other_transforms > 0 {
        let text = format!(
            "{} done before with other transforms: `tidemill reprocess --changed-transforms` processes them again\n",
            ends.other_transforms
        );
        write_lines(text.as_bytes());
    }
}

fn summary(totals: &Totals, took: Duration, in_quarantine: u64, left: u64) -> String {
    let Totals { published, skipped, source_bytes, output_bytes, .. } = *totals;
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate and a ratio for people")]
    let (rate, ratio) =
        (published as f64 / seconds.max(0.001), source_bytes as f64 / (output_bytes.max(1)) as f64);
    let (read, written) = (ByteSize(source_bytes), ByteSize(output_bytes));
    let files = if published == 1 { "file" } else { "files" };
    let mut text = format!("{published} {files} published in {seconds:.1} s ({rate:.0}/s)");
    if published > 0 {
        text += &format!(", {read} → {written} (ratio {ratio:.2})");
    }
    if skipped > 0 {
        text += &format!(", {skipped} skipped: nothing to do");
    }
    if in_quarantine > 0 {
        text +=
            &format!(", {in_quarantine} in quarantine: see `tidemill history --state quarantined`");
    }
    if left > 0 {
        text += &format!(", {left} left for the next run");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_happened() {
        let totals = Totals {
            published: 10,
            skipped: 2,
            source_bytes: 4096,
            output_bytes: 1024,
            ..Totals::default()
        };
        let text = summary(&totals, Duration::from_secs(2), 1, 3);
        assert_eq!(
            text,
            "10 files published in 2.0 s (5/s), 4.0 KiB → 1.0 KiB (ratio 4.00), 2 skipped: nothing to do, 1 in quarantine: see `tidemill history --state quarantined`, 3 left for the next run"
        );
    }
}
