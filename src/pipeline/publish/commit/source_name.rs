//! The last look at the source's name, before its output gets one.

use crate::{
    limits,
    pipeline::job::{Cause, Outcome, Staged},
};

/// Whether the source still has the name that its output would be called by.
///
/// Where it has not, the job ends here without an output. A file that was renamed within the input
/// comes again under its new name, by its event or by the next scan; one that took the name is
/// looked at again. A look that fails says nothing of the name: the output is published.
#[must_use]
pub fn still_named(staged: Staged) -> Option<Staged> {
    let Staged { job, .. } = &staged;
    let found = match job.input.look_fresh(&job.path) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(source = %crate::observe::shown(&job.path), %error, "cannot look at the source once more");
            return Some(staged);
        }
    };
    let is_same =
        found.is_some_and(|found| found.identity.file_id() == job.seen.identity.file_id());
    if is_same {
        return Some(staged);
    }
    let Staged { job, temp, .. } = staged;
    drop(temp);
    let source = crate::observe::shown(&job.path).to_string();
    if found.is_some() {
        tracing::info!(source, "replaced before its output was published: looked at again");
        job.defer(limits::BUSY, Cause::Changed);
    } else {
        tracing::info!(
            source,
            "renamed or removed before its output was published: nothing is published"
        );
        job.end(Outcome::Skipped, 0);
    }
    None
}
