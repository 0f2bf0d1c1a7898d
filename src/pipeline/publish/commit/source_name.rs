//! Checks the source's name a last time, before its output gets one.

use std::time::Duration;

use crate::{
    pipeline::job::{DeferReason, JobEnd, Staged},
    policy::OnSuccess,
    source::SourceError,
};

/// Checks whether the source still has the name that its output is called by.
///
/// If it does not, the job ends here without an output. A file that was renamed within the input
/// comes again under its new name, by its event or by the next scan. A file that took the name is
/// checked again, once: its next output is published, whatever happens to the name then. A check
/// that fails proves nothing about the name: the output is published.
#[must_use]
pub fn check_source_name(mut staged: Staged) -> Option<Staged> {
    let Staged { job, .. } = &mut staged;
    // A kept file with several names is published under each of them.
    let is_tracked = job.context.config.on_success != OnSuccess::Keep || job.metadata.names == 1;
    if is_tracked && job.commit.is_none() {
        // Before the check: a file that comes under a new name from now on finds it.
        job.commit = Some(job.context.in_commit.begin(job.metadata.identity));
    }
    job.succession = job.context.succession(&job.path);
    let found = match job.input.stat_fresh(&job.path) {
        Ok(found) => found,
        Err(SourceError { source: error, .. }) => {
            tracing::warn!(event = "file.check_failed", pipeline = %job.context.name(), source = %crate::observe::display_path(&job.path), %error, "cannot check the source before publishing");
            return Some(staged);
        }
    };
    let is_same =
        found.is_some_and(|found| found.identity.may_be_same_file(&job.metadata.identity));
    // One that came in between may be this file's.
    job.succession = job.context.succession(&job.path).or(job.succession);
    if is_same || (found.is_some() && job.was_replaced) {
        return Some(staged);
    }
    let Staged { job, file, .. } = staged;
    drop(file);
    let source = crate::observe::display_path(&job.path).to_string();
    if found.is_some() {
        tracing::debug!(
            event = "file.changed",
            pipeline = %job.context.name(),
            source,
            "source replaced before publishing, checking again"
        );
        job.defer(Duration::ZERO, DeferReason::Replaced);
    } else {
        tracing::debug!(
            event = "file.discarded",
            pipeline = %job.context.name(),
            source,
            "source renamed or removed before publishing, output discarded"
        );
        job.end(JobEnd::Gone, 0);
    }
    None
}
