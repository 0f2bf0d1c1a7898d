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
    source::{Leftover, SourceError},
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
    let known = known_pipelines(ledger, &request)?;
    for (root, name) in &outputs {
        let sink = open_sink(name, root);
        if let Ok(sink) = &sink
            && is_away(ledger, &known, (root, End::Output(&**sink)))?
        {
            defer_unmounted(root, summary);
        } else {
            sweep_output(sink, root, &intended, summary);
        }
    }
    let mut temps: BTreeSet<(&Path, Root)> = pipelines
        .iter()
        .flat_map(|Pipeline { quarantine, on_success, .. }| {
            let archive = match on_success {
                OnSuccess::Archive(archive) => Some((archive.as_path(), Root::Configured)),
                OnSuccess::Keep | OnSuccess::Delete => None,
            };
            archive.into_iter().chain([quarantine_root(quarantine)])
        })
        .collect();
    let earlier = records.iter().filter_map(earlier_archive);
    let earlier = earlier.filter(|archive| !temps.contains(&(*archive, Root::Configured)));
    let earlier: Vec<_> = earlier.map(|archive| (archive, Root::Earlier)).collect();
    temps.extend(earlier);
    temps.retain(|(root, _)| !outputs.contains_key(root));
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
            Ok(input) if is_away(ledger, &known, (root, End::Input(&*input)))? => {
                defer_unmounted(root, summary);
            }
            Ok(input) => {
                let context = SweepContext { ledger, quarantines, pipelines, input: &*input };
                sweep_input(context, (&intended, &mut swept), summary)?;
            }
            Err(error) => defer_directory(root, &error, summary),
        }
    }
    Ok(swept)
}

/// Returns the pipelines of the ledger that are configured or have unfinished records. Of another one the
/// directories may have been replaced long ago.
fn known_pipelines(
    ledger: &dyn Ledger,
    request: &SweepRequest<'_>,
) -> ledger::Result<Vec<PipelineDirs>> {
    let is_configured = |dirs: &PipelineDirs| {
        let has_dirs = |one: &Pipeline| one.input == dirs.input && one.output == dirs.output;
        request.pipelines.iter().any(has_dirs)
    };
    let mut known = ledger.pipelines()?;
    known.retain(|dirs| request.unfinished.contains_key(&dirs.id) || is_configured(dirs));
    Ok(known)
}

/// Checks whether a directory is not mounted, by any of its pipelines.
fn is_away(
    ledger: &dyn Ledger,
    known: &[PipelineDirs],
    (root, end): (&Path, End<'_>),
) -> ledger::Result<bool> {
    let mut of_root = known.iter().filter(|dirs| match end {
        End::Input(_) => dirs.input == root,
        End::Output(_) => dirs.output == root,
    });
    of_root.try_fold(false, |is_away, dirs| Ok(is_away || is_unmounted(ledger, dirs.id, end)?))
}

fn defer_unmounted(root: &Path, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", path = %display_path(root), hint = mounts::HINT, "replaced by an empty directory, search deferred");
    summary.deferred += 1;
}

/// Returns the archive of an unfinished record, which may no longer be configured.
fn earlier_archive(record: &Record) -> Option<&Path> {
    match &record.on_success {
        OnSuccess::Archive(archive) => Some(archive),
        OnSuccess::Keep | OnSuccess::Delete => None,
    }
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
    (intended, swept): (&HashSet<OsString>, &mut SweptInputs),
    summary: &mut Summary,
) -> Result<(), Error> {
    let deferred_before = summary.deferred;
    let mut leftovers = context.input.leftovers();
    // The marker of a source that was taken is among the temps, and may be needed.
    leftovers.sort_by_key(|leftover| matches!(leftover, Ok(Leftover::Temp(_))));
    for leftover in leftovers {
        let resolved = match leftover {
            Ok(Leftover::Temp(path)) if !intended.contains(fs::split(&path).1) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{PipelineEnd, memory},
        source::memory::Store,
    };

    /// Those with the name of another program's temps stayed.
    #[test]
    fn every_temp_that_a_source_reports_is_removed_unless_it_has_an_intent() {
        let files = Store::default();
        let input = files.open("/in".as_ref(), &NodeId::new("0011"));
        for name in ["d/.tidemill-0011-1.tmp", ".tidemill-0011-2.tmp", "a"] {
            files.put(name.as_ref(), b"content");
        }
        let ledger = memory::Store::default().open();
        let quarantines =
            Quarantines { events: &Arc::default(), ledger: ledger.instance(), count: &|_, _| () };
        let context = SweepContext {
            ledger: &ledger,
            quarantines: &quarantines,
            pipelines: &[],
            input: &input,
        };
        let intended = HashSet::from([OsString::from(".tidemill-0011-2.tmp")]);
        let (mut swept, mut summary) = (SweptInputs::default(), Summary::default());
        sweep_input(context, (&intended, &mut swept), &mut summary).expect("sweep");
        assert_eq!(summary, Summary::default());
        let left: Vec<_> = files.content().into_keys().collect();
        assert_eq!(left, [Path::new(".tidemill-0011-2.tmp"), Path::new("a")]);
        assert!(swept.searched.contains(Path::new("/in")));
    }

    /// A pipeline whose output was changed left a row with the same input, of an earlier directory.
    #[test]
    fn only_configured_pipelines_know_which_directory_is_not_mounted() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| root.path().join(name);
        for dir in ["in", "out"] {
            std::fs::create_dir(path(dir)).expect("directory");
        }
        let text = "[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n";
        std::fs::write(path("tidemill.toml"), text).expect("write");
        let options =
            config::Options { config: Some(path("tidemill.toml")), ..config::Options::default() };
        let config = config::resolve(&options).expect("a configuration");
        let [pipeline] = &*config.pipelines else { panic!("one pipeline") };
        let ledger = memory::Store::default().open();
        let row =
            |output: &Path| ledger.register_pipeline("main", &pipeline.input, output).expect("row");
        let (old, new) = (row(&path("old")), row(&pipeline.output));
        let inode = |dir: &Path| fs::directory_at(dir).expect("stat").identity.inode;
        let note = |id, end, inode| ledger.set_root_inode(id, end, inode).expect("note");
        note(old, PipelineEnd::Input, 1);
        note(new, PipelineEnd::Input, inode(&pipeline.input));
        note(new, PipelineEnd::Output, inode(&pipeline.output));
        let sweep = || {
            let open_sink = |name: &str, path: &Path| {
                sink::open(sink::SinkOptions::offline(name, path, ledger.instance()))
            };
            let quarantines = Quarantines {
                events: &Arc::default(),
                ledger: ledger.instance(),
                count: &|_, _| (),
            };
            let request = SweepRequest {
                pipelines: &config.pipelines,
                unfinished: &HashMap::new(),
                unconfirmed: &[],
            };
            let mut summary = Summary::default();
            let swept = sweep((&ledger, &open_sink), &quarantines, request, &mut summary);
            (summary.deferred, swept.expect("sweep").searched.len())
        };
        assert_eq!(sweep(), (0, 1));
        note(new, PipelineEnd::Output, 1);
        assert_eq!(sweep(), (1, 1), "an empty output is not searched");
        note(new, PipelineEnd::Input, 1);
        assert_eq!(sweep(), (2, 0));
        std::fs::write(path("in/file"), "").expect("write");
        assert_eq!(sweep(), (1, 1), "it has a file");
    }
}
