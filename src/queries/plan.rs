//! What a run would do with each file of an input. It opens no file, takes no lock and writes nothing.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    config_of,
    left_alone::{self, waits_for},
    reprocess::has_other_transforms,
};
use crate::{
    config::{Pipeline, temporary_name},
    fingerprint::FileId,
    fs::{self, Dir, FileMetadata, Kind, NodeId, Walk},
    ledger::{self, Ledger, PipelineDirs, Record, State},
    limits,
    observe::display_path,
    policy::{OnExists, TemporaryNames, words},
    protocol::{
        earlier_output::is_same_source,
        prior_outcome::{PriorOutcome, classify, find_record, known_identity},
    },
    source,
};

words! {
    /// What becomes of a file.
    Fate {
        Publish = "publish",
        /// Its content decides whether it is published again.
        Compare = "compare",
        /// Its output is published: only its disposal is left.
        Dispose = "dispose",
        /// An earlier run left its record unfinished.
        Recover = "recover",
        Wait = "wait",
        Quarantine = "quarantine",
        Done = "done",
        Skip = "skip",
        Quarantined = "quarantined",
        /// No pipeline takes it.
        Ignore = "ignore",
    }
}

/// What a run would do with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Below the input.
    pub source: PathBuf,
    pub bytes: u64,
    pub fate: Fate,
    /// Below the output, where it is published.
    pub output: Option<PathBuf>,
    /// The reason, or what else is to be known.
    pub reason: Option<String>,
}

/// The plan of one pipeline.
#[derive(Debug)]
pub struct Plan<'a> {
    config: &'a Pipeline,
    roots: PipelineDirs,
    ledger: Option<&'a dyn Ledger>,
    /// Whether the ledger knows this pair of directories.
    is_known: bool,
    input: Arc<dyn source::Source>,
    /// Hashes of the outputs' names so far.
    outputs: HashSet<u64>,
}

impl<'a> Plan<'a> {
    /// `ledger`: none where no service has run with these directories.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read, or the input cannot be opened.
    pub fn new(config: &'a Pipeline, ledger: Option<&'a dyn Ledger>) -> anyhow::Result<Self> {
        let mut known = ledger.map(Ledger::roots).transpose()?.unwrap_or_default().into_iter();
        let roots = known.find(|roots| config_of(std::slice::from_ref(config), roots).is_some());
        let is_known = roots.is_some();
        let roots = roots.unwrap_or_else(|| PipelineDirs {
            id: 0,
            name: config.name.to_string(),
            input: config.input.clone(),
            output: config.output.clone(),
        });
        let instance = NodeId::new(ledger.map_or("", |ledger| ledger.instance()));
        let input = source::open(&config.input, &instance, Arc::default())?;
        let outputs = HashSet::new();
        Ok(Self { config, roots, ledger, is_known, input, outputs })
    }

    /// Walks the input; `each` gets each file. A directory that cannot be listed is an error among them.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn walk(
        &mut self,
        mut each: impl FnMut(Result<Planned, (PathBuf, io::Error)>),
    ) -> anyhow::Result<()> {
        let root = Arc::new(Dir::open(&self.config.input)?);
        let own = self.config.directories().into_iter().filter(|path| *path != self.config.input);
        let id = |path: &Path| Dir::open(path).and_then(|dir| dir.id()).ok();
        let own: Arc<[FileId]> = own.filter_map(id).collect();
        let mut walk = Walk::new(root, PathBuf::new()).avoiding(own);
        while let Some(found) = walk.next() {
            let entry = match found {
                Ok(entry) => entry,
                Err(failed) => {
                    each(Err(failed));
                    continue;
                }
            };
            if entry.kind == Kind::Directory {
                if self.is_left_out(&entry.path) {
                    walk.skip_directory();
                }
                continue;
            }
            match self.input.stat_beneath(&entry.path) {
                // It is gone.
                Ok(None) => {}
                Ok(Some(seen)) => each(Ok(self.unique(self.plan(&entry.path, &seen)?))),
                Err(error) => each(Err((entry.path, error.source))),
            }
        }
        Ok(())
    }

    /// Checks whether a directory has no files of this pipeline. Its own directories are avoided by
    /// their identity.
    fn is_left_out(&self, path: &Path) -> bool {
        let ignores = self.config.keys.temporary_names == TemporaryNames::Ignore;
        path.file_name().is_some_and(fs::is_internal_name)
            || ignores && temporary_name(path).is_some()
            || !self.config.filter.enters(path)
    }

    /// Notes the output's name; the second source with the same one does not get it.
    fn unique(&mut self, planned: Planned) -> Planned {
        let Some(output) = &planned.output else { return planned };
        let mut hasher = DefaultHasher::new();
        output.hash(&mut hasher);
        if self.outputs.insert(hasher.finish()) {
            return planned;
        }
        let fate = match self.config.keys.on_exists {
            OnExists::Skip => Fate::Skip,
            OnExists::Replace | OnExists::Suffix => Fate::Publish,
            OnExists::Update | OnExists::Fail => Fate::Quarantine,
        };
        let reason = format!("{} is another source's output in this plan", display_path(output));
        Planned { fate, output: None, reason: Some(reason), ..planned }
    }

    fn plan(&self, source: &Path, seen: &FileMetadata) -> ledger::Result<Planned> {
        let planned = |fate, reason| {
            let bytes = seen.identity.size;
            Planned { source: source.to_path_buf(), bytes, fate, output: None, reason }
        };
        if let Some(why) = left_alone::reason(Some(self.config), &*self.input, source, seen) {
            return Ok(planned(Fate::Ignore, Some(why)));
        }
        let record = self.record(source, seen)?;
        let found = known_identity(record.as_ref(), seen.identity, self.input.may_renumber());
        let born_ns = || self.input.born_ns(source).ok().flatten();
        let outcome = self.ledger.filter(|_| record.is_some()).map(|ledger| {
            classify(ledger, record.as_ref(), &found, &self.config.on_success, born_ns)
        });
        let reason = || record.as_ref().and_then(Record::reason_text).map(str::to_owned);
        Ok(match outcome.unwrap_or(PriorOutcome::New) {
            PriorOutcome::New => match waits_for(Some(self.config), &*self.input, seen) {
                Some(why) => planned(Fate::Wait, Some(why)),
                None => self.publish(planned(Fate::Publish, None), seen)?,
            },
            PriorOutcome::MetadataChanged => {
                planned(Fate::Compare, Some("its times, mode or owner changed".to_owned()))
            }
            PriorOutcome::RetryDispose => planned(Fate::Dispose, None),
            PriorOutcome::Unfinished => planned(Fate::Recover, None),
            PriorOutcome::Done => {
                let is_outdated = record
                    .as_ref()
                    .is_some_and(|record| has_other_transforms(record, Some(self.config)));
                let outdated =
                    "with other transforms: see `tidemill reprocess --changed-transforms`";
                planned(Fate::Done, is_outdated.then(|| outdated.to_owned()))
            }
            PriorOutcome::Skipped => planned(Fate::Skip, reason()),
            PriorOutcome::InQuarantine => planned(Fate::Quarantined, reason()),
            PriorOutcome::RetryQuarantine => planned(Fate::Quarantine, reason()),
            PriorOutcome::RolledBack => planned(
                Fate::Quarantine,
                Some("it is in an earlier state than the one that was processed".to_owned()),
            ),
        })
    }

    fn record(&self, source: &Path, seen: &FileMetadata) -> ledger::Result<Option<Record>> {
        match self.ledger {
            Some(ledger) if self.is_known => {
                let latest = ledger.latest(self.roots.id, source)?;
                find_record(ledger, latest, &seen.identity)
            }
            _ => Ok(None),
        }
    }

    /// Adds the output's name, and what has it. The content is not known: where that decides, the reason
    /// has it.
    fn publish(&self, planned: Planned, seen: &FileMetadata) -> ledger::Result<Planned> {
        let (parent, name) = fs::split(&planned.source);
        let name = self.config.transforms.output_name(name);
        let unusable = if name.is_empty() || name == "." || name == ".." {
            Some("its name without the extension is no name".to_owned())
        } else if name.len() > limits::NAME_BYTES_MAX {
            Some(format!("the output's name would have {} bytes", name.len()))
        } else {
            None
        };
        if unusable.is_some() {
            return Ok(Planned { fate: Fate::Quarantine, reason: unusable, ..planned });
        }
        let output = parent.join(name);
        let (parent, name) = fs::split(&output);
        let looked = Dir::open(&self.config.output)
            .and_then(|root| root.open_beneath(parent)?.stat(Path::new(name)));
        let taken = match looked {
            // The run creates the output.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Planned { output: Some(output), ..planned });
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let reason =
                    format!("a file has the name of a directory of {}", display_path(&output));
                return Ok(Planned { fate: Fate::Quarantine, reason: Some(reason), ..planned });
            }
            Ok(None) => return Ok(Planned { output: Some(output), ..planned }),
            // What denies the look denies the publication.
            Err(error) => {
                let reason = format!("cannot look at {}: {error}", display_path(&output));
                return Ok(Planned { fate: Fate::Wait, reason: Some(reason), ..planned });
            }
            Ok(Some(taken)) => taken,
        };
        let (fate, output, reason) = self.name_taken(&planned.source, seen, &output, &taken)?;
        Ok(Planned { fate, output, reason, ..planned })
    }

    fn name_taken(
        &self,
        source: &Path,
        seen: &FileMetadata,
        output: &Path,
        taken: &FileMetadata,
    ) -> ledger::Result<(Fate, Option<PathBuf>, Option<String>)> {
        let reason = |reason: &str| Some(format!("{} exists: {reason}", display_path(output)));
        let because = |fate, why: &str| {
            let output = (fate == Fate::Publish).then(|| output.to_path_buf());
            Ok((fate, output, reason(why)))
        };
        // Which number is free, the run decides.
        let numbered = |why: &str| Ok((Fate::Publish, None, reason(why)));
        let policy = self.config.keys.on_exists;
        if taken.kind != Kind::File && policy != OnExists::Skip {
            return because(Fate::Quarantine, "it is not a regular file");
        }
        let earlier = match self.ledger {
            Some(ledger) if self.is_known => ledger.latest_published(self.roots.id, source)?,
            _ => None,
        };
        let is_same = |record: &Record| is_same_source(record, &seen.identity, &*self.input, false);
        // An operator asked for its output: as with `update`.
        let is_requested = earlier.as_ref().is_some_and(|record| {
            record.state == State::Requeued && is_same(record).unwrap_or(false)
        });
        match policy {
            OnExists::Fail | OnExists::Skip | OnExists::Suffix if is_requested => {
                because(Fate::Publish, "it was requested again (if the content is the same)")
            }
            OnExists::Skip => because(Fate::Skip, "the policy is `skip`"),
            OnExists::Replace => because(Fate::Publish, "it is replaced"),
            OnExists::Suffix => numbered("the output gets a number"),
            OnExists::Fail => because(
                Fate::Quarantine,
                "the policy is `fail` (unless it is this source's output of the same content)",
            ),
            OnExists::Update => {
                let Some(record) = earlier else {
                    return because(
                        Fate::Quarantine,
                        "this service did not publish it from this source (unless it has the same content)",
                    );
                };
                if !is_same(&record).unwrap_or(false) {
                    return numbered("another source's: the output gets a number");
                }
                match record.output.as_ref() {
                    Some(ours) if ours.path != output => {
                        let path = display_path(&ours.path);
                        because(
                            Fate::Quarantine,
                            &format!(
                                "this source's output is {path} (unless that is a number of this name)"
                            ),
                        )
                    }
                    Some(ours) if ours.identity.matches_content(&taken.identity) => {
                        because(Fate::Publish, "this source's earlier output is replaced")
                    }
                    _ => because(
                        Fate::Quarantine,
                        "it was changed since it was published (unless it has the same content)",
                    ),
                }
            }
        }
    }
}
