//! Finds inputs and outputs that are not mounted.

use crate::{
    ledger::{self, Ledger, PipelineEnd, PipelineId},
    sink::Sink,
    source::Source,
};

/// What an operator can do about a directory that may not be mounted.
pub(super) const HINT: &str =
    "mount it; if it is meant to be another directory, put a file into it";

/// An opened end of a pipeline.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    Input(&'a dyn Source),
    Output(&'a dyn Sink),
}

/// Checks whether an end of a pipeline is not mounted: it is another directory than when none of the
/// pipeline's work was unfinished, and empty.
pub(super) fn is_unmounted(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    end: End<'_>,
) -> ledger::Result<bool> {
    let recorded = |end| ledger.root_inode(pipeline, end);
    Ok(match end {
        End::Input(input) => recorded(PipelineEnd::Input)?.is_some_and(|recorded| {
            let root = input.metadata();
            let is_another = root.is_ok_and(|root| root.identity.inode != recorded);
            is_another && !input.may_renumber() && input.is_empty()
        }),
        End::Output(sink) => {
            recorded(PipelineEnd::Output)?.is_some_and(|recorded| sink.is_unmounted(recorded))
        }
    })
}
