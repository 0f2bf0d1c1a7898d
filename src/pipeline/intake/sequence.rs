//! One file at a time (`in_order`): the next one begins after the acknowledgement of the one before it, and a
//! file that failed holds those after it until it succeeds, is quarantined or is gone.

use std::path::{Path, PathBuf};

use super::Intake;
use crate::{
    observe::display_path,
    pipeline::{
        context::Context,
        job::{DeferReason, JobEnd},
    },
};

/// The file that holds the others, if there is one.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    head: Option<PathBuf>,
}

impl Sequence {
    /// Takes the outcome of a file.
    pub fn on_outcome(&mut self, context: &Context, path: &Path, outcome: &JobEnd) {
        if !context.config.keys.in_order {
            return;
        }
        let failed = matches!(
            outcome,
            JobEnd::Deferred {
                cause: DeferReason::Failed | DeferReason::Storage | DeferReason::Unacknowledged,
                ..
            }
        );
        if failed && self.head.is_none() {
            tracing::warn!(event = "intake.blocked", pipeline = %context.name(), source = %display_path(path), "failed file holds the files after it");
        }
        self.head = failed.then(|| path.to_path_buf());
    }

    /// Notes that the order has no room for this file: it is not the first one any more.
    pub fn on_no_room(&mut self, path: &Path) {
        self.head.take_if(|head| *head == path);
    }
}

impl Intake {
    /// Returns the number of files that can be sent now.
    pub(super) fn sendable(&mut self) -> usize {
        let sendable = self.ready.sendable();
        if !self.context.config.keys.in_order || sendable == 0 {
            return sendable;
        }
        // Ready files count as in flight.
        if self.table.in_flight() > self.ready.len() {
            return 0;
        }
        // The head is gone, or it is ready, where the order decides again: it may have changed.
        self.sequence.head.take_if(|head| !self.table.is_waiting(head));
        usize::from(self.sequence.head.is_none())
    }
}
