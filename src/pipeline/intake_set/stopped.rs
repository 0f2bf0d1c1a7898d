//! What stopped intakes leave: the unfinished files that count at the end.

use std::{collections::HashSet, path::PathBuf};

use crate::pipeline::intake::IntakeSummary;

/// What the stopped pipelines left.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    /// Panics of their threads.
    pub(super) panics: u64,
    /// Those that left a record which only the next start can finish.
    pub(super) with_unfinished: u64,
    /// Their inputs, with their unfinished files. A successor that begins finds these.
    pub(super) inputs: Vec<(PathBuf, IntakeSummary)>,
}

/// Returns the summaries without the files that a later intake of the same input found, and with at least
/// this number of unfinished files: those that have unfinished records are among them, or not.
pub(super) fn without_predecessors(
    inputs: Vec<(PathBuf, IntakeSummary)>,
    with_unfinished: u64,
) -> Vec<IntakeSummary> {
    let mut begun: HashSet<PathBuf> = HashSet::new();
    let mut summaries = Vec::with_capacity(inputs.len() + 1);
    for (input, mut summary) in inputs.into_iter().rev() {
        if begun.contains(&input) {
            summary.unfinished = 0;
        }
        if summary.has_begun {
            begun.insert(input);
        }
        summaries.push(summary);
    }
    let counted: u64 = summaries.iter().map(|summary| summary.unfinished).sum();
    let unfinished = with_unfinished.saturating_sub(counted);
    summaries.push(IntakeSummary { unfinished, ..IntakeSummary::default() });
    summaries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_stopped_intake_count_unless_a_successor_began() {
        let summary = |unfinished, has_begun| {
            (PathBuf::from("in"), IntakeSummary { unfinished, has_begun, gave_up: false })
        };
        let count = |inputs: &[(PathBuf, IntakeSummary)], with_unfinished| -> u64 {
            let summaries = without_predecessors(inputs.to_vec(), with_unfinished);
            summaries.iter().map(|summary| summary.unfinished).sum()
        };
        let stopped = summary(3, true);
        assert_eq!(count(std::slice::from_ref(&stopped), 0), 3);
        assert_eq!(count(&[stopped.clone(), summary(0, false)], 0), 3, "it only waited");
        assert_eq!(count(&[stopped.clone(), summary(1, true)], 0), 1);
        let other = (PathBuf::from("other"), summary(0, true).1);
        assert_eq!(count(&[stopped.clone(), other], 2), 3, "records are among the files");
        assert_eq!(count(&[stopped, summary(0, true)], 1), 1, "a record that recovery finishes");
    }
}
