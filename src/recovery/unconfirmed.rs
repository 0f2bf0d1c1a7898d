//! Disposals that are known only once the input was searched: a source that does not have its name may
//! have its private one. Until then its record stays unfinished, and each start searches that input.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use super::taken::SourceOutcome;
use crate::ledger::{PipelineId, Record, RecordId, State, StateUpdate};

/// A disposal that the sweep confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    pub(super) id: RecordId,
    pub(super) pipeline: PipelineId,
    /// The state of its record if no source has its private name.
    state: State,
}

/// What the sweep found in the inputs.
#[derive(Debug, Default)]
pub struct SweptInputs {
    /// Those that were searched completely.
    pub(super) searched: BTreeSet<PathBuf>,
    /// The outcomes of the sources that had their private names.
    pub(super) outcomes: HashMap<RecordId, SourceOutcome>,
}

impl Unconfirmed {
    pub(super) const fn new(record: &Record, state: State) -> Self {
        Self { id: record.id, pipeline: record.pipeline, state }
    }

    pub(super) fn update(&self, swept: &SweptInputs) -> Option<StateUpdate> {
        let state = match swept.outcomes.get(&self.id) {
            Some(SourceOutcome::Kept) => return None,
            Some(SourceOutcome::Returned) => State::Changed,
            Some(SourceOutcome::Disposed | SourceOutcome::Quarantined) | None => self.state,
        };
        Some((self.id, state, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_was_found_under_its_private_name_decides_about_its_record() {
        let disposal = Unconfirmed { id: 1, pipeline: 1, state: State::Done };
        for (outcome, expected) in [
            (None, Some(State::Done)),
            (Some(SourceOutcome::Disposed), Some(State::Done)),
            (Some(SourceOutcome::Returned), Some(State::Changed)),
            (Some(SourceOutcome::Kept), None),
        ] {
            let outcomes = outcome.map(|outcome| (disposal.id, outcome)).into_iter().collect();
            let swept = SweptInputs { outcomes, ..SweptInputs::default() };
            let state = disposal.update(&swept).map(|(_, state, _)| state);
            assert_eq!(state, expected, "{outcome:?}");
        }
    }
}
