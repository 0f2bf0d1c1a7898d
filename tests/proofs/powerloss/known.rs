//! What is known at an instant: what producers made, what was acknowledged, what was taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::powerloss::hands::STRANGE_LINES;

/// What producers and consumers did.
#[derive(Clone, Debug)]
pub enum Mark {
    /// From here on this version may be seen under the source's name.
    Begun { source: PathBuf, version: usize },
    /// The producer made this version durable.
    Durable { source: PathBuf, version: usize },
    /// A consumer is about to take the output of this line.
    Taken { id: i64 },
    /// An operator is about to have this source processed again.
    Requested { source: PathBuf },
    /// The service has stopped, and reported that nothing was left.
    Stopped,
}

/// The identity of a ledger that is not the service's.
pub const OTHER_LEDGER: &str = "0123456789abcdef";

/// A line of the events file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Line {
    pub id: i64,
    pub ledger: String,
    pub pipeline: String,
    pub outcome: String,
    pub source: PathBuf,
    pub output: Option<PathBuf>,
    pub source_hash: Option<String>,
    pub reason: Option<String>,
}

/// An events file up to the end of its last whole line.
pub fn whole(events: &[u8]) -> &[u8] {
    let end = events.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    &events[..end]
}

/// The lines of the pipeline that is judged, as far as they are whole.
pub fn lines(events: &[u8]) -> Vec<Line> {
    let mut lines = all_lines(events);
    lines.retain(|line| line.pipeline == "main");
    lines
}

/// The service's own lines of an events file, as far as they are whole.
pub fn all_lines(events: &[u8]) -> Vec<Line> {
    whole(events)
        .split(|byte| *byte == b'\n')
        .filter(|line| !STRANGE_LINES.iter().any(|strange| strange.starts_with(line)))
        .map(|line| serde_json::from_slice(line).expect("a line of JSON"))
        .filter(|line: &Line| line.ledger != OTHER_LEDGER)
        .collect()
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The newest version that may be seen, by source.
    pub begun: BTreeMap<PathBuf, usize>,
    /// The newest version that its producer made durable.
    pub durable: BTreeMap<PathBuf, usize>,
    /// Every line that anybody may have read, in order.
    pub lines: Vec<Line>,
    /// The lines whose output a consumer took, or was about to.
    pub taken: BTreeSet<i64>,
    /// The sources that an operator had processed again.
    pub requested: BTreeSet<PathBuf>,
}

impl Known {
    pub fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Begun { source, version } => {
                self.begun.insert(source.clone(), *version);
            }
            Mark::Durable { source, version } => {
                self.durable.insert(source.clone(), *version);
            }
            Mark::Taken { id } => {
                self.taken.insert(*id);
            }
            Mark::Requested { source } => {
                self.requested.insert(source.clone());
            }
            Mark::Stopped => {}
        }
    }

    /// The acknowledged outputs of a source, oldest first.
    pub fn published<'a>(&'a self, source: &'a Path) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.outcome == "published" && line.source == source)
    }

    /// The last line about each output.
    pub fn by_output(&self) -> BTreeMap<&Path, &Line> {
        let published = self.lines.iter().filter(|line| line.outcome == "published");
        published.filter_map(|line| Some((line.output.as_deref()?, line))).collect()
    }
}
