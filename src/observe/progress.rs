//! What `--once` shows to a person: a bar while it works, on a terminal, and a summary.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    observer::Observer,
    status::{Status, Totals},
};

const EVERY: Duration = Duration::from_millis(100);

/// Shows a bar until `stop` resolves; nothing where the standard error is no terminal.
pub async fn run(observer: &Observer, stop: impl Future<Output = ()>) {
    if !stderr().is_terminal() {
        return stop.await;
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
        bar.set_style(style);
    }
    tokio::pin!(stop);
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = every.tick() => {
                bar.set_message(line(&observer.status().totals()));
                bar.tick();
            }
        }
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

/// The last lines of a `--once`, on the standard error.
pub fn print_summary(status: &Status, took: Duration, other_steps: u64) {
    // A closed standard error leaves nobody to tell.
    drop(writeln!(stderr(), "{}", summary(&status.totals(), took)));
    if other_steps > 0 {
        drop(writeln!(
            stderr(),
            "{other_steps} done before with other steps: `tidemill reprocess --changed-steps` processes them again"
        ));
    }
}

fn summary(totals: &Totals, took: Duration) -> String {
    let Totals { published, skipped, quarantined, source_bytes, output_bytes, .. } = *totals;
    let seconds = took.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate and a ratio for people")]
    let (rate, ratio) =
        (published as f64 / seconds.max(0.001), source_bytes as f64 / (output_bytes.max(1)) as f64);
    let (read, written) = (ByteSize(source_bytes), ByteSize(output_bytes));
    let mut text = format!("{published} files published in {seconds:.1} s ({rate:.0}/s)");
    if published > 0 {
        text += &format!(", {read} → {written} (ratio {ratio:.2})");
    }
    if skipped > 0 {
        text += &format!(", {skipped} skipped: nothing to do");
    }
    if quarantined > 0 {
        text += &format!(", {quarantined} quarantined: see `tidemill history --state quarantined`");
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
            quarantined: 1,
            source_bytes: 4096,
            output_bytes: 1024,
            ..Totals::default()
        };
        let text = summary(&totals, Duration::from_secs(2));
        assert_eq!(
            text,
            "10 files published in 2.0 s (5/s), 4.0 KiB → 1.0 KiB (ratio 4.00), 2 skipped: nothing to do, 1 quarantined: see `tidemill history --state quarantined`"
        );
    }
}
