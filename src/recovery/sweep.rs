//! Cleans up after an unclean stop: temps without an intent, and sources under their private names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    Error, OpenSink, OpenedDirs, Quarantines, Summary, SweptInputs, Unconfirmed,
    inspect::open_input,
    mounts::{self, End, is_unmounted},
    search::{Root, defer, defer_directory, find_files, not_searched, quarantine_root, remove},
    taken::{SourceOutcome, SweepContext, resolve},
};
use crate::{
    config::{self, Pipeline},
    fs::{self, NodeId},
    ledger::{self, Ledger, PipelineDirs, PipelineId, Record},
    observe::display_path,
    policy::OnSuccess,
    sink::{self, Sink, Swept},
    source::{Leftover, Source, SourceError},
};

/// What to search.
#[derive(Clone, Copy, Debug)]
pub struct SweepRequest<'a> {
    pub pipelines: &'a [config::Pipeline],
    /// The directories of unfinished records.
    pub unfinished: &'a HashMap<PipelineId, OpenedDirs>,
    pub unconfirmed: &'a [Unconfirmed],
}

/// Walks the directories of the pipelines, and of those of the unfinished records, which may no longer be
/// configured (C4). Temps of this ledger that no unfinished record names are removed; a record may belong to a
/// pipeline whose directories could not be opened. Files and directories that cannot be inspected count as
/// deferred.
pub fn sweep(
    (ledger, open_sink): (&dyn Ledger, &OpenSink<'_>),
    quarantines: &Quarantines<'_>,
    request: SweepRequest<'_>,
    summary: &mut Summary,
) -> Result<SweptInputs, Error> {
    let SweepRequest { pipelines, unfinished, unconfirmed } = request;
    let instance = NodeId::new(ledger.instance());
    let records = ledger.unfinished()?;
    let intended = intended_temps(&records, unconfirmed);
    let configured = pipelines.iter().map(|pipeline| (&*pipeline.output, &*pipeline.name));
    let outputs: BTreeMap<&Path, &str> =
        unfinished.values().map(|dirs| (&*dirs.output, &*dirs.name)).chain(configured).collect();
    for (root, name) in &outputs {
        sweep_output(open_sink(name, root), root, &intended, summary);
    }
    let temps: BTreeSet<(&Path, Root)> = pipelines
        .iter()
        .flat_map(|Pipeline { quarantine, on_success, .. }| {
            let archive = match on_success {
                OnSuccess::Archive(archive) => Some((archive.as_path(), Root::Configured)),
                OnSuccess::Keep | OnSuccess::Delete => None,
            };
            archive.into_iter().chain([quarantine_root(quarantine)])
        })
        .filter(|(root, _)| !outputs.contains_key(root))
        .collect();
    let is_orphan = |name: &OsStr| instance.is_temp(name) && !intended.contains(name);
    for root in temps {
        for path in find_files(root, is_orphan, summary) {
            match remove(root.0, &path) {
                Ok(()) => summary.temps_removed += 1,
                Err(error) => defer(&error, summary),
            }
        }
    }
    let configured = pipelines.iter().map(|pipeline| pipeline.input.as_path());
    let inputs: BTreeSet<&Path> =
        unfinished.values().map(|dirs| dirs.input.path()).chain(configured).collect();
    let mut swept = SweptInputs::default();
    for root in inputs {
        match open_input(root, &instance) {
            Ok(input) if is_away(ledger, &*input)? => {
                tracing::warn!(event = "recovery.deferred", input = %display_path(root), hint = mounts::HINT, "input replaced by an empty directory, search deferred");
                summary.deferred += 1;
            }
            Ok(input) => {
                let context = SweepContext { ledger, quarantines, pipelines, input: &*input };
                sweep_input(context, (&is_orphan, &mut swept), summary)?;
            }
            Err(error) => defer_directory(root, &error, summary),
        }
    }
    Ok(swept)
}

/// Checks whether an input is not mounted, by any of its pipelines.
fn is_away(ledger: &dyn Ledger, input: &dyn Source) -> ledger::Result<bool> {
    let has_input = |roots: &PipelineDirs| roots.input == input.path();
    let mut pipelines = ledger.roots()?.into_iter().filter(has_input);
    pipelines.try_fold(false, |is_away, roots| {
        Ok(is_away || is_unmounted(ledger, roots.id, End::Input(input))?)
    })
}

/// Removes staged outputs without an intent.
fn sweep_output(
    sink: io::Result<Arc<dyn Sink>>,
    root: &Path,
    intended: &HashSet<OsString>,
    summary: &mut Summary,
) {
    let sink = match sink {
        Ok(sink) => sink,
        Err(error) => return defer_directory(root, &error, summary),
    };
    let Swept { removed, deferred } = sink.sweep(&|name| intended.contains(name));
    summary.temps_removed += removed;
    for error in deferred {
        if error.kind == sink::ErrorKind::List {
            defer_directory(&error.path, &error.source, summary);
        } else {
            defer(&error.into(), summary);
        }
    }
}

/// Resolves what was taken from an input, and removes temps without an intent.
fn sweep_input(
    context: SweepContext<'_>,
    (is_orphan, swept): (&dyn Fn(&OsStr) -> bool, &mut SweptInputs),
    summary: &mut Summary,
) -> Result<(), Error> {
    let deferred_before = summary.deferred;
    let mut leftovers = context.input.leftovers();
    // The marker of a source that was taken is among the temps, and may be needed.
    leftovers.sort_by_key(|leftover| matches!(leftover, Ok(Leftover::Temp(_))));
    for leftover in leftovers {
        let resolved = match leftover {
            Ok(Leftover::Temp(path)) if is_orphan(fs::split(&path).1) => {
                let removed = context.input.remove_temp(&path);
                removed.map(|()| None).map_err(|SourceError { path, source }| Error::Io {
                    path,
                    action: "remove the temporary file",
                    source,
                })
            }
            Ok(Leftover::Temp(_)) => Ok(None),
            Ok(Leftover::Taken(taken)) => resolve(context, &taken).map(|outcome| {
                swept.outcomes.insert(taken.id, outcome);
                Some(outcome)
            }),
            Err(SourceError { path, source }) => {
                not_searched(&path, &source, summary);
                continue;
            }
        };
        match resolved {
            Ok(Some(SourceOutcome::Returned)) => summary.sources_returned += 1,
            Ok(Some(SourceOutcome::Quarantined)) => summary.quarantined += 1,
            // The next start looks at it again.
            Ok(Some(SourceOutcome::Kept)) => drop(context.ledger.session().begin_work()),
            Ok(Some(SourceOutcome::Disposed) | None) => {}
            Err(error @ Error::Io { .. }) => defer(&error, summary),
            Err(error) => return Err(error),
        }
    }
    if summary.deferred == deferred_before {
        swept.searched.insert(context.input.path().to_path_buf());
    }
    Ok(())
}

/// Returns the temps that unfinished records name, without those whose outputs are acknowledged and whose
/// sources are gone.
fn intended_temps(records: &[Record], unconfirmed: &[Unconfirmed]) -> HashSet<OsString> {
    let unconfirmed: HashSet<_> = unconfirmed.iter().map(|disposal| disposal.id).collect();
    let records = records.iter().filter(|record| !unconfirmed.contains(&record.id));
    let outputs = records.filter_map(|record| record.output.as_ref());
    outputs.map(|output| output.temp.clone()).collect()
}
