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
    ignore_reason::{self, waits_for},
    open_input,
    reprocess::has_other_transforms,
    retention::{Area, ExpiredFile, Scope},
};
use crate::{
    config::{Pipeline, Retention, temporary_name},
    fingerprint::FileId,
    fs::{self, Dir, FileMetadata, Kind},
    ledger::{self, Ledger, Output, PipelineDirs, Record, State},
    limits,
    observe::display_path,
    policy::{Checksum, OnExists, TemporaryNames, words},
    protocol::{
        conflict::{EarlierOutput, Resolution, decide, output_path, own_numbered_path},
        earlier_output::is_same_source,
        outcome::now_ns,
        prior_outcome::{PriorOutcome, classify, find_record, known_identity},
        side_file,
    },
    sink::Occupant,
    source::Source,
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
        /// It is no longer in the input, and a round of the retention removes it.
        Expire = "expire",
    }
}

/// What a run would do with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Below the input; the full path of a file that a retention removes.
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
    input: Arc<dyn Source>,
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
        let mut known = ledger.map(Ledger::pipelines).transpose()?.unwrap_or_default().into_iter();
        let roots = known.find(|roots| config_of(std::slice::from_ref(config), roots).is_some());
        let is_known = roots.is_some();
        let roots = roots.unwrap_or_else(|| PipelineDirs {
            id: 0,
            name: config.name.to_string(),
            input: config.input.clone(),
            output: config.output.clone(),
        });
        let instance = ledger.map_or("", |ledger| ledger.instance());
        let input = open_input(&config.input, instance)?;
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
        let own = self.config.directories().into_iter().filter(|path| *path != self.config.input);
        let id = |path: &Path| Dir::open(path).and_then(|dir| dir.id()).ok();
        let own: Arc<[FileId]> = own.filter_map(id).collect();
        let mut listing = self.input.list(PathBuf::new(), &own);
        loop {
            let enters = |path: &Path| !self.is_left_out(path);
            let page = listing.next_page(limits::LOOKS_PER_TURN_MAX, &enters);
            page.failed.into_iter().for_each(|error| each(Err((error.path, error.source))));
            if page.files.is_empty() {
                return Ok(());
            }
            for path in page.files {
                match self.input.stat_beneath(&path) {
                    // It is gone.
                    Ok(None) => {}
                    Ok(Some(seen)) => {
                        let planned = self.plan(&path, &seen)?;
                        each(Ok(self.unique(planned)));
                    }
                    Err(error) => each(Err((path, error.source))),
                }
            }
        }
    }

    /// Lists the files that the next rounds of the retention remove, at most those of one round for each area;
    /// `each` gets them, the oldest first.
    ///
    /// # Errors
    ///
    /// The ledger, an archive or a quarantine cannot be read.
    pub fn expired(&self, rules: Retention, mut each: impl FnMut(Planned)) -> anyhow::Result<()> {
        let Some(ledger) = self.ledger.filter(|_| self.is_known) else { return Ok(()) };
        let scope = Scope {
            config: self.config,
            rules,
            ledger,
            id: self.roots.id,
            now_ns: now_ns(),
            targets: &Arc::default(),
            is_stopped: &|| false,
        };
        for area in Area::ALL {
            let Some(found) = scope.find(*area)? else { continue };
            for ExpiredFile { record, file, .. } in &found.expired {
                let reason =
                    format!("{} expired, was {}", area.as_str(), display_path(&record.source));
                each(Planned {
                    source: scope.root(*area).join(&file.path),
                    bytes: file.identity.size,
                    fate: Fate::Expire,
                    output: None,
                    reason: Some(reason),
                });
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
        let side = side_file::path(output);
        let names = match self.config.keys.checksum {
            Checksum::Off => vec![output],
            Checksum::Sha256 => vec![output, &side],
        };
        let mut is_new = |path: &&&PathBuf| {
            let mut hasher = DefaultHasher::new();
            path.hash(&mut hasher);
            self.outputs.insert(hasher.finish())
        };
        let Some(taken) = names.iter().find(|path| !is_new(path)) else { return planned };
        let fate = match self.config.keys.on_exists {
            OnExists::Skip => Fate::Skip,
            OnExists::Replace | OnExists::Suffix => Fate::Publish,
            OnExists::Update | OnExists::Fail => Fate::Quarantine,
        };
        let reason = format!("{} is another source's output in this plan", display_path(taken));
        Planned { fate, output: None, reason: Some(reason), ..planned }
    }

    fn plan(&self, source: &Path, seen: &FileMetadata) -> ledger::Result<Planned> {
        let planned = |fate, reason| {
            let bytes = seen.identity.size;
            Planned { source: source.to_path_buf(), bytes, fate, output: None, reason }
        };
        if let Some(why) = ignore_reason::of(Some(self.config), &*self.input, source, seen) {
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
        let output = match output_path(
            &planned.source,
            (&self.config.transforms, self.config.keys.checksum),
        ) {
            Ok(output) => output,
            Err(error) => {
                let reason = Some(error.to_string());
                return Ok(Planned { fate: Fate::Quarantine, reason, ..planned });
            }
        };
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
            Ok(None) => return self.with_side_file(Planned { output: Some(output), ..planned }),
            // What denies the look denies the publication.
            Err(error) => {
                let reason = format!("cannot look at {}: {error}", display_path(&output));
                return Ok(Planned { fate: Fate::Wait, reason: Some(reason), ..planned });
            }
            Ok(Some(taken)) => taken,
        };
        let (fate, output, reason) = self.name_taken(&planned.source, seen, &output, &taken)?;
        self.with_side_file(Planned { fate, output, reason, ..planned })
    }

    /// Looks at the name of the output's checksum file. No file is opened: one that may be an earlier output's
    /// counts as that.
    fn with_side_file(&self, planned: Planned) -> ledger::Result<Planned> {
        let Some(output) = planned.output.as_ref().filter(|_| planned.fate == Fate::Publish) else {
            return Ok(planned);
        };
        if self.config.keys.checksum == Checksum::Off {
            return Ok(planned);
        }
        let side = side_file::path(output);
        let root = Dir::open(&self.config.output);
        if !root.and_then(|root| root.stat_beneath(&side)).is_ok_and(|found| found.is_some()) {
            return Ok(planned);
        }
        let earlier = match self.ledger {
            Some(ledger) if self.is_known => ledger.latest_for_output(self.roots.id, output)?,
            _ => None,
        };
        let has_digest = |output: &Output| output.sha256.is_some();
        if earlier.is_some_and(|earlier| earlier.output.as_ref().is_some_and(has_digest)) {
            return Ok(planned);
        }
        let fate = match self.config.keys.on_exists {
            OnExists::Skip => Fate::Skip,
            OnExists::Suffix => Fate::Publish,
            OnExists::Update | OnExists::Fail | OnExists::Replace => Fate::Quarantine,
        };
        let reason =
            format!("{} exists, and is no checksum file of this service", display_path(&side));
        Ok(Planned { fate, output: None, reason: Some(reason), ..planned })
    }

    fn name_taken(
        &self,
        source: &Path,
        seen: &FileMetadata,
        output: &Path,
        taken: &FileMetadata,
    ) -> ledger::Result<(Fate, Option<PathBuf>, Option<String>)> {
        let earlier = match self.ledger {
            Some(ledger) if self.is_known => ledger.latest_published(self.roots.id, source)?,
            _ => None,
        };
        let earlier = earlier.as_ref().map(|record| EarlierOutput {
            record,
            is_as_published: record.output.as_ref().is_some_and(|ours| {
                ours.path == output && ours.identity.matches_content(&taken.identity)
            }),
            is_same_source: is_same_source(record, &seen.identity, &*self.input, false)
                .unwrap_or(false),
        });
        let configured = self.config.keys.on_exists;
        // An operator asked for it: its own output is replaced as with `update`, if its content is the same.
        let is_requested = earlier.is_some_and(|earlier| {
            earlier.record.state == State::Requeued && earlier.is_same_source
        });
        let replaces_own =
            configured == OnExists::Update || is_requested && configured != OnExists::Replace;
        let extension = self.config.transforms.added_extension();
        let own = earlier.filter(|_| replaces_own);
        if let Some(path) = own.and_then(|own| own_numbered_path(own, output, extension)) {
            return Ok((Fate::Publish, Some(path), None));
        }
        let is_own = own.is_some_and(|own| own.is_as_published);
        let policy = if is_own { OnExists::Update } else { configured };
        let existing = Occupant { identity: taken.identity, is_file: taken.kind == Kind::File };
        // No file is opened, so no output's hash is known: the content is as if it differed.
        let path = || Some(output.to_path_buf());
        let (fate, path, why) = match decide(policy, &existing, earlier, output, &[0; 32]) {
            Resolution::Skip => (Fate::Skip, None, "the policy is `skip`"),
            Resolution::Replace(_) if is_own => {
                (Fate::Publish, path(), "this source's earlier output is replaced")
            }
            Resolution::Replace(_) => (Fate::Publish, path(), "it is replaced"),
            Resolution::Conflict(why) => (Fate::Quarantine, None, why),
            // Which number is free, the run decides.
            _ => (Fate::Publish, None, "the output gets a number"),
        };
        let unless = match fate {
            Fate::Quarantine if existing.is_file => " (unless it has the same content)",
            _ => "",
        };
        Ok((fate, path, Some(format!("{} exists: {why}{unless}", display_path(output)))))
    }
}
