//! The digests of published outputs.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::pages;
use crate::{
    ledger::{self, HistoryQuery, Ledger, Output, PipelineDirs, PipelineId, Record, State},
    protocol::side_file::line,
    sink::{self, Sink, SinkOptions},
};

/// An output's root, and its sink if that can be opened.
type Opened = (PathBuf, io::Result<Arc<dyn Sink>>);

/// Passes on a line of `sha256sum` for each published output that is still there, unchanged: of these files
/// and below these directories, or of all where there are none. Paths below `current` are relative to it.
/// It ends early when `each` returns false. Returns the number of outputs without a digest.
///
/// # Errors
///
/// The ledger cannot be read.
pub fn each_line(
    ledger: &dyn Ledger,
    (wanted, current): (&[PathBuf], Option<&Path>),
    mut each: impl FnMut(Vec<u8>) -> bool,
) -> ledger::Result<u64> {
    let open = |dirs: PipelineDirs| {
        let sink = sink::open(SinkOptions::offline(&dirs.name, &dirs.output, ""));
        (dirs.id, (dirs.output, sink))
    };
    let roots: HashMap<PipelineId, Opened> = ledger.pipelines()?.into_iter().map(open).collect();
    let is_wanted =
        |path: &Path| wanted.is_empty() || wanted.iter().any(|wanted| path.starts_with(wanted));
    let (mut without, mut seen) = (0, HashSet::new());
    for records in pages(ledger, HistoryQuery::default()) {
        for record in records? {
            let Some((root, Ok(sink))) = roots.get(&record.pipeline) else { continue };
            let Some(output) = published(&record) else { continue };
            let path = root.join(&output.path);
            if !is_wanted(&path) || !is_there(&**sink, output) {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            path.hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            let Some(sha256) = &output.sha256 else {
                without += 1;
                continue;
            };
            let shown = current.and_then(|current| path.strip_prefix(current).ok());
            if !each(line(sha256, shown.unwrap_or(&path).as_os_str())) {
                return Ok(without);
            }
        }
    }
    Ok(without)
}

/// Returns the output of a record that published it.
fn published(record: &Record) -> Option<&Output> {
    match record.state {
        State::Published | State::Done | State::Changed | State::Requeued => record.output.as_ref(),
        State::Intent | State::Withdrawn | State::Skipped | State::Quarantined => None,
    }
}

fn is_there(sink: &dyn Sink, output: &Output) -> bool {
    sink.inspect(output).is_ok_and(|remains| remains.is_published(output))
}
