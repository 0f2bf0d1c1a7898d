//! Kept sources that their producer deleted or moved away. A file that comes under such a name later is
//! another source, whose output gets a name of its own. A new version that is put in place of a kept
//! file leaves the name free for an instant at most.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Instant,
};

use super::Intake;
use crate::{
    ledger::{self, ErrorKind, Flush, Ledger, PipelineId, Record, RecordId, State},
    limits,
    pipeline::context::Context,
    policy::OnSuccess,
    source::Source,
};

/// A name that an event reported and that no file had.
#[derive(Clone, Debug)]
struct AbsentName {
    due: Instant,
    path: PathBuf,
    /// The record to mark: the name was free for long enough.
    record: Option<RecordId>,
}

impl AbsentName {
    fn of(path: PathBuf) -> Self {
        Self { due: Instant::now(), path, record: None }
    }
}

/// At most [`limits::PENDING_FILES_MAX`] names.
#[derive(Debug, Default)]
pub(super) struct AbsentNames(VecDeque<AbsentName>);

impl AbsentNames {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the time at which the next name is to be looked at again.
    pub fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|name| name.due)
    }

    fn push(&mut self, name: AbsentName, now: Instant) {
        if self.0.len() < limits::PENDING_FILES_MAX {
            self.0.push_back(AbsentName { due: now + limits::ABSENCE_TIME, ..name });
        }
    }

    fn take_due(&mut self, now: Instant, limit: usize) -> Vec<AbsentName> {
        let due = self.0.iter().take(limit).take_while(|name| name.due <= now).count();
        self.0.drain(..due).collect()
    }
}

impl Intake {
    pub(super) fn note_absent(&mut self, path: PathBuf, now: Instant) {
        if self.context.config.on_success == OnSuccess::Keep {
            self.absent.push(AbsentName::of(path), now);
        }
    }

    /// As [`mark_succeeded`], for a name that is not in flight.
    pub(super) fn mark_succeeded(&self, path: &Path) {
        if let Some(input) = self.root.input().filter(|_| !self.table.is_in_flight(path)) {
            mark_succeeded(&self.context, &**input, path);
        }
    }

    /// Marks the records of the names that are still free.
    pub(super) fn mark_absent(&mut self, now: Instant) {
        let Some(input) = self.root.input() else { return };
        let due = self.absent.take_due(now, limits::LOOKS_PER_TURN_MAX);
        let (in_flight, mut due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|name| self.table.is_in_flight(&name.path));
        due.retain(|name| {
            name.record.is_some() || matches!(input.stat_fresh(&name.path), Ok(None))
        });
        let paths: Vec<PathBuf> = due.iter().map(|name| name.path.clone()).collect();
        let (mut again, error) = mark(&*self.context.ledger, self.context.id, due);
        let is_recorded = |path: &&PathBuf| again.iter().all(|name| name.path != **path);
        for path in paths.iter().filter(is_recorded) {
            self.context.successions.as_ref().inspect(|all| all.recorded(path));
        }
        // Another program may write to the ledger, or its disk may be full.
        if let Some(error) = error.filter(|error| error.kind == ErrorKind::Failed) {
            tracing::warn!(event = "intake.absence_not_recorded", pipeline = %self.context.name(), %error, "cannot record that kept sources were deleted");
            again.clear();
        }
        for name in in_flight.into_iter().chain(again) {
            self.absent.push(name, now);
        }
    }
}

/// Marks the records of all names that lost their file, at the end: the next intake did not see that.
pub(super) fn mark_all(context: &Context, input: &dyn Source) {
    let Some(successions) = &context.successions else { return };
    let (succeeded, free) = successions.unrecorded();
    for path in &succeeded {
        mark_succeeded(context, input, path);
    }
    let is_free = |path: &PathBuf| matches!(input.stat_fresh(path), Ok(None));
    let free = free.into_iter().filter(is_free).map(AbsentName::of).collect();
    // A ledger that cannot be written ends the service with a message of its own.
    drop(mark(&*context.ledger, context.id, free));
}

/// Marks the record of the file that had this name before another one succeeded it, and ends the succession.
/// If the ledger cannot be written, or the earlier output is not acknowledged yet, it goes on.
pub(super) fn mark_succeeded(context: &Context, input: &dyn Source, path: &Path) {
    let Some((all, succession)) = context.successions.as_ref().zip(context.succession(path)) else {
        return;
    };
    let ledger = &*context.ledger;
    let look = || Some((input.stat_fresh(path).ok()?, find(ledger, context.id, path, None).ok()?));
    let Some((found, record)) = look() else { return };
    // It was moved away and back.
    let is_back = |record: &Record| {
        found.is_some_and(|found| found.identity.matches_content(&record.identity))
    };
    let earlier = record.filter(|record| record.id < succession && !is_back(record));
    let is_marked = earlier.is_none_or(|record| {
        is_acknowledged(&record)
            && ledger.set_states(&[(record.id, State::Changed, None)], Flush::Deferred).is_ok()
    });
    if is_marked {
        all.end(path, succession);
    }
}

const fn is_acknowledged(record: &Record) -> bool {
    matches!(record.state, State::Done | State::Requeued)
}

/// Marks the newest published record of each name. Returns the names that are to be tried again: their
/// outputs are not acknowledged yet, or the ledger could not be written.
fn mark(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    names: Vec<AbsentName>,
) -> (Vec<AbsentName>, Option<ledger::Error>) {
    let (mut marked, mut again, mut failed) = (Vec::new(), Vec::new(), None);
    for name in names {
        match find(ledger, pipeline, &name.path, name.record) {
            Ok(None) => {}
            Ok(Some(record)) => {
                let name = AbsentName { record: Some(record.id), ..name };
                if is_acknowledged(&record) { marked.push(name) } else { again.push(name) }
            }
            Err(error) => {
                failed = Some(error);
                again.push(name);
            }
        }
    }
    let update = |name: &AbsentName| name.record.map(|id| (id, State::Changed, None));
    let updates: Vec<_> = marked.iter().filter_map(update).collect();
    if !updates.is_empty()
        && let Err(error) = ledger.set_states(&updates, Flush::Deferred)
    {
        failed = Some(error);
        again.append(&mut marked);
    }
    (again, failed)
}

/// Finds the record of the output that the name's file has, or is about to get.
fn find(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    path: &Path,
    record: Option<RecordId>,
) -> ledger::Result<Option<Record>> {
    let is_committing = |record: &Record| matches!(record.state, State::Intent | State::Published);
    let found = match record {
        Some(id) => ledger.record(id)?,
        None => match ledger.latest(pipeline, path)?.filter(is_committing) {
            None => ledger.latest_published(pipeline, path)?,
            latest => latest,
        },
    };
    // A file that was in quarantine and is requeued has no output yet.
    let was_published = |record: &Record| match record.state {
        State::Requeued => record.reason.is_none(),
        State::Done => true,
        _ => is_committing(record),
    };
    Ok(found.filter(|record| record.on_success == OnSuccess::Keep && was_published(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fingerprint::Fingerprint,
        ledger::{Output, memory::Store},
    };

    fn output() -> Output {
        Output {
            path: "a.zst".into(),
            temp: "temp".into(),
            identity: Fingerprint::NONE,
            hash: [1; 32],
            source_hash: [2; 32],
            replaces: None,
            transforms: String::new(),
            sha256: None,
        }
    }

    #[test]
    fn the_published_record_of_a_name_without_a_file_is_marked() {
        let (keep, delete) = (OnSuccess::Keep, OnSuccess::Delete);
        for (records, expected, is_again) in [
            (&[(&keep, State::Done)][..], State::Changed, false),
            (&[(&keep, State::Done), (&keep, State::Quarantined)], State::Changed, false),
            (&[(&keep, State::Requeued)], State::Changed, false),
            (&[(&keep, State::Done), (&keep, State::Intent)], State::Done, true),
            (&[(&keep, State::Published)], State::Published, true),
            (&[(&delete, State::Done)], State::Done, false),
        ] {
            let ledger = Store::default().open();
            let pipeline = ledger
                .register_pipeline("main", "/in".as_ref(), "/out".as_ref())
                .expect("register");
            let of = |(on_success, state): &(&OnSuccess, State)| Record {
                id: ledger.session().next_id(),
                pipeline,
                source: "a".into(),
                identity: Fingerprint::NONE,
                output: (*state != State::Quarantined).then(output),
                on_success: (*on_success).clone(),
                state: *state,
                reason: None,
                moved_to: None,
                at_ns: 0,
            };
            let records: Vec<Record> = records.iter().map(of).collect();
            ledger.append(&records, Flush::Now).expect("append");
            let name = AbsentName { due: Instant::now(), path: "a".into(), record: None };
            let (again, error) = mark(&ledger, pipeline, vec![name]);
            assert!(error.is_none());
            let last = records[records.len() - 1].id;
            let wanted = if is_again { vec![Some(last)] } else { Vec::new() };
            assert_eq!(again.iter().map(|name| name.record).collect::<Vec<_>>(), wanted);
            let first = ledger.record(records[0].id).expect("look up").expect("a record");
            assert_eq!(first.state, expected, "{records:?}");
            // The absence is known by now.
            ledger.set_states(&[(last, State::Done, None)], Flush::Now).expect("mark");
            assert!(mark(&ledger, pipeline, again).0.is_empty());
            let record = ledger.record(last).expect("look up").expect("a record");
            assert_eq!(record.state == State::Changed, is_again, "{records:?}");
        }
    }
}
