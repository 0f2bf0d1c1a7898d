//! What must be true of a state after a power loss, before and after the service recovers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tidemill::{
    ledger::{HistoryQuery, Ledger, Record, State as LedgerState, sqlite::Sqlite},
    queries::quarantined,
    transforms::Transformer,
};

use crate::{
    harness,
    powerloss::{
        known::{Known, Line, all_lines, lines},
        record::Recording,
        scenario::{Layout, MARKER, Places, marker_of},
        sums,
    },
};

/// A broken promise, in words.
pub type Violation = String;

/// Every user's file, by directory and path below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub input: BTreeMap<PathBuf, Vec<u8>>,
    /// The sources in the input that have a marker, or whose marker is left. One that is older than its
    /// file vouches for another one: btrfs can take back the move of a marker and not its source's.
    pub marked: BTreeSet<PathBuf>,
    /// Decoded; an error where that cannot be done.
    pub output: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    /// What the checksum file of each output has to hold, and all checksum files by the path of their output.
    pub expected_sums: BTreeMap<PathBuf, Vec<u8>>,
    pub sums: BTreeMap<PathBuf, Vec<u8>>,
    pub archive: BTreeMap<PathBuf, Vec<u8>>,
    pub quarantine: BTreeMap<PathBuf, Vec<u8>>,
    /// What waits for the pipeline that the consumer feeds, and what that has published; decoded.
    pub next: Vec<Result<Vec<u8>, String>>,
    pub last: Vec<Result<Vec<u8>, String>>,
    /// Mode and time of modification, by the whole path.
    pub attributes: BTreeMap<PathBuf, (u32, i64)>,
    /// Names of the service's own.
    pub ours: Vec<PathBuf>,
}

/// Whether the marker of a file is older than the file's content.
fn is_stale(input: &Path, source: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let times = |path: &Path| {
        let found = fs::metadata(input.join(path)).ok()?;
        Some(((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())))
    };
    let (Some(marker), Some(source)) = (times(&marker_of(source)), times(source)) else {
        return false;
    };
    marker.0.max(marker.1) < source.0.min(source.1)
}

impl Seen {
    pub fn look(places: &Places, foreign: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut seen = Self::default();
        let mut decoder = harness::decoder();
        for path in [&places.input, &places.archive, &places.quarantine] {
            let (mut files, ours) = files(path);
            seen.ours.extend(ours);
            let markers = files.extract_if(.., |path, _| path.to_string_lossy().ends_with(MARKER));
            let sources = markers.map(|(path, _)| path.with_extension(""));
            let marked = sources.filter(|of| !is_stale(path, of)).collect();
            if *path == places.input {
                seen.marked = marked;
            }
            let into = if *path == places.input {
                &mut seen.input
            } else if *path == places.archive {
                &mut seen.archive
            } else {
                &mut seen.quarantine
            };
            *into = files;
        }
        for (path, into) in [(&places.next, &mut seen.next), (&places.last, &mut seen.last)] {
            let (files, ours) = files(path);
            seen.ours.extend(ours);
            *into = files.values().map(|packed| decode(&mut decoder, packed)).collect();
        }
        let (mut outputs, ours) = files(&places.output);
        seen.ours.extend(ours);
        seen.sums = sums::split_off(&mut outputs);
        for (path, packed) in outputs {
            seen.expected_sums.insert(path.clone(), sums::line(&path, &packed));
            let content = if foreign.get(&path) == Some(&packed) {
                Ok(packed)
            } else {
                decode(&mut decoder, &packed)
            };
            seen.output.insert(path, content);
        }
        let sources = seen.input.keys().map(|path| places.input.join(path));
        let outputs = seen.output.keys().map(|path| places.output.join(path));
        let with_attributes = |path: PathBuf| attributes(&path).map(|found| (path, found));
        seen.attributes = sources.chain(outputs).filter_map(with_attributes).collect();
        seen
    }
}

/// The mode and the time that a producer gives to sources that are there already.
pub const TOUCHED: (u32, i64) = (0o640, 1_000_000_000_000_000_000);

/// Mode and time of modification in nanoseconds; `None` if there is no such file.
pub fn attributes(path: &Path) -> Option<(u32, i64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.mode() & 0o777, found.mtime() * 1_000_000_000 + found.mtime_nsec()))
}

/// The files below a directory, and the paths of those with names of the service's own.
fn files(root: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<PathBuf>) {
    let (mut found, mut ours) = (BTreeMap::new(), Vec::new());
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("list").map(|entry| entry.expect("entry")) {
            let path = entry.path();
            if entry.file_type().expect("type").is_dir() {
                pending.push(path);
            } else if entry.file_name().to_string_lossy().starts_with(".tidemill") {
                ours.push(path);
            } else {
                let content = fs::read(&path).expect("read");
                found.insert(path.strip_prefix(root).expect("below").to_path_buf(), content);
            }
        }
    }
    (found, ours)
}

fn decode(decoder: &mut Transformer, packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    decoder.start("a".as_ref());
    decoder
        .feed(packed, &mut content)
        .and_then(|()| decoder.finish(&mut content))
        .map(|()| content)
        .map_err(|error| error.to_string())
}

/// Judges one state. `Known` is what was known when power failed.
pub struct Examiner<'a> {
    pub recording: &'a Recording,
    pub known: &'a Known,
    pub before: Seen,
}

impl Examiner<'_> {
    fn version_of(&self, source: &Path, content: &[u8]) -> Option<usize> {
        self.recording.plan.contents.get(source)?.iter().position(|known| known == content)
    }

    /// All names of the source with this name.
    fn names<'a>(&'a self, source: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.recording.plan.names(source)
    }

    fn version_of_line(&self, line: &Line) -> Option<usize> {
        let hash = line.source_hash.as_deref()?;
        let contents = self.recording.plan.contents.get(&line.source)?;
        contents.iter().position(|content| blake3::hash(content).to_hex().as_str() == hash)
    }

    /// Before the service starts: nothing partial is visible, and what was acknowledged is there.
    pub fn before(&self) -> Vec<Violation> {
        let mut found = self.outputs_are_whole(&self.before);
        found.extend(self.acknowledged_are_there(&self.before));
        if self.recording.scenario.checksums {
            found.extend(sums::alone(&self.before, self.known.by_output().into_keys()));
        }
        found
    }

    /// After it ran to its end: the promise.
    pub fn after(&self, after: &Seen, code: i32, events: &[u8], places: &Places) -> Vec<Violation> {
        let mut found = self.outputs_are_whole(after);
        found.extend(self.acknowledged_are_there(after));
        if ![0, 65].contains(&code) {
            found.push(format!("the service ended with {code}"));
        }
        found.extend(after.ours.iter().map(|path| format!("left over: {}", path.display())));
        let records = match records(places) {
            Ok(records) => records,
            Err(error) => {
                found.push(format!("the ledger cannot be read: {error}"));
                return found;
            }
        };
        let unfinished = records.iter().filter(|record| record.state.is_unfinished());
        found.extend(unfinished.map(|record| format!("unfinished in the ledger: {record:?}")));
        let acknowledged = lines(events);
        found.extend(self.acknowledged_once(&acknowledged));
        found.extend(published_are_acknowledged(&records, &all_lines(events)));
        found.extend(self.what_was_moved_on_is_published(after));
        found.extend(self.taken_stay_away(after));
        found.extend(self.nothing_is_lost(after));
        found.extend(self.moved_are_whole(after));
        found.extend(self.archived_are_there(after));
        found.extend(self.each_is_there_once(after));
        found.extend(self.outputs_have_lines(after, &acknowledged));
        found.extend(code_agrees_with_the_quarantine(code, places));
        found.extend(self.durable_are_published(&records, &acknowledged));
        found.extend(self.disposed(after, &records));
        found.extend(self.markers_go_with_sources(after));
        if self.recording.scenario.checksums {
            found.extend(sums::wrong(after, &self.recording.plan.foreign));
        }
        found.extend(attributes_follow(after, &acknowledged, places));
        found
    }

    /// Every output has the whole content of a version that was delivered. One that the service
    /// made after the power loss may have what the power loss left of an unsynced source.
    fn outputs_are_whole(&self, seen: &Seen) -> Vec<Violation> {
        let mut found = Vec::new();
        for (path, content) in &seen.output {
            let content = match content {
                Ok(content) => content,
                Err(error) => {
                    found.push(format!("partial output {}: {error}", path.display()));
                    continue;
                }
            };
            let foreign = self.recording.plan.foreign.get(path) == Some(content);
            let source = source_of(path);
            let left =
                self.before.input.get(&source) == Some(content) && !self.was_acknowledged(&source);
            let left = left || self.recording.left.get(&source) == Some(content);
            if !foreign && !left && self.version_of(&source, content).is_none() {
                found.push(format!("output {} has the content of no source", path.display()));
            }
        }
        found
    }

    /// A version of this source that may be the newest was acknowledged.
    fn was_acknowledged(&self, source: &Path) -> bool {
        let newest = self.known.begun.get(source);
        self.known.published(source).any(|line| self.version_of_line(line) == newest.copied())
    }

    /// An acknowledged output is there, as it was or in a later version, or its consumer took it.
    fn acknowledged_are_there(&self, seen: &Seen) -> Vec<Violation> {
        let mut found = Vec::new();
        for (path, line) in self.known.by_output() {
            let version = self.version_of_line(line);
            let newer = |content: &Vec<u8>| {
                // What is newer than the last line may be anything that was delivered since.
                let left = !self.was_acknowledged(&line.source)
                    && self.before.input.get(&line.source) == Some(content);
                left || self.version_of(&line.source, content) >= version
            };
            match seen.output.get(path) {
                Some(Ok(content)) if newer(content) => {}
                None if self.known.taken.contains(&line.id) => {}
                None => found.push(format!("acknowledged and gone: {}", path.display())),
                Some(_) => found.push(format!("acknowledged and changed: {}", path.display())),
            }
        }
        found
    }

    /// No version is published twice under one name, by which consumer its first line was read. A line that
    /// did not survive may be written again. A source that was renamed may be published under both of its
    /// names: the power loss may have taken the rename back, and recovery finds what was renamed just
    /// before as another file.
    fn acknowledged_once(&self, acknowledged: &[Line]) -> Vec<Violation> {
        let mut ids: HashMap<(&Path, Option<&str>), BTreeSet<i64>> = HashMap::new();
        let mut surviving = BTreeSet::new();
        let mut found = Vec::new();
        for line in acknowledged.iter().filter(|line| line.outcome == "published") {
            if !surviving.insert(line.id) {
                found.push(format!("acknowledged twice: {line:?}"));
            }
        }
        let all = self.known.lines.iter().chain(acknowledged);
        for line in all.filter(|line| line.outcome == "published") {
            let key = (line.source.as_path(), line.source_hash.as_deref());
            ids.entry(key).or_default().insert(line.id);
        }
        for ((source, _), ids) in ids {
            let scenario = &self.recording.scenario;
            // With `replace`, and by the transforms of a reload, a new time makes a new output of the same
            // content, and so does a request.
            let differs = scenario.on_exists == "replace" || scenario.reloaded;
            let is_requested = self.known.requested.contains(source);
            let allowed =
                1 + usize::from(differs && scenario.touched) + usize::from(differs && is_requested);
            let versions = &self.recording.plan.contents[source];
            if ids.len() > allowed && !versions.is_empty() {
                found.push(format!("published {} times: {}", ids.len(), source.display()));
            }
        }
        found
    }

    /// What a consumer took does not come back.
    fn taken_stay_away(&self, after: &Seen) -> Vec<Violation> {
        let taken = self.known.by_output().into_iter().filter(|(path, line)| {
            self.known.taken.contains(&line.id) && !self.before.output.contains_key(*path)
        });
        taken
            .filter(|(path, line)| {
                let content = after.output.get(*path).and_then(|content| content.as_ref().ok());
                let version = content.and_then(|content| self.version_of(&line.source, content));
                version.is_some() && version == self.version_of_line(line)
            })
            .map(|(path, _)| format!("taken, and published again: {}", path.display()))
            .collect()
    }

    /// What a consumer moved into the input of the next pipeline is published by that, whole, unless the power
    /// loss took the move back.
    fn what_was_moved_on_is_published(&self, after: &Seen) -> Vec<Violation> {
        if !self.recording.scenario.fed {
            return Vec::new();
        }
        let mut found: Vec<Violation> =
            after.next.iter().map(|left| format!("left by the next pipeline: {left:?}")).collect();
        let whole: BTreeSet<&[u8]> = after.last.iter().flatten().map(Vec::as_slice).collect();
        if after.last.iter().any(Result::is_err) {
            found.push("the next pipeline published a part".to_owned());
        }
        let taken = self.known.lines.iter().filter(|line| self.known.taken.contains(&line.id));
        for line in taken {
            let Some(version) = self.version_of_line(line) else { continue };
            let content = &self.recording.plan.contents[&line.source][version];
            let is_back = line.output.as_ref().is_some_and(|path| after.output.contains_key(path));
            if !whole.contains(content.as_slice()) && !is_back {
                found.push(format!("moved on and gone: {}", line.source.display()));
            }
        }
        found
    }

    /// The content of each source that the power loss left is somewhere afterwards.
    fn nothing_is_lost(&self, after: &Seen) -> Vec<Violation> {
        let mut found = Vec::new();
        for (path, content) in &self.before.input {
            if path.extension().is_some_and(|extension| extension == "part") {
                continue;
            }
            let version = self.version_of(path, content);
            let mut published = self.names(path).flat_map(|name| self.known.published(name));
            let taken = published.any(|line| {
                self.known.taken.contains(&line.id) && self.version_of_line(line) == version
            });
            let kept = after.input.get(path) == Some(content)
                || after.archive.values().any(|other| other == content)
                || after.quarantine.values().any(|other| other == content)
                || after.output.values().any(|other| other.as_ref() == Ok(content));
            if !kept && !taken && !self.is_superseded(path, version) {
                found.push(format!("lost: {}", path.display()));
            }
        }
        found
    }

    /// An archived or quarantined source has its whole content: a copy always, and a source that was
    /// renamed if its producer had made it durable.
    fn moved_are_whole(&self, after: &Seen) -> Vec<Violation> {
        let scenario = &self.recording.scenario;
        if !scenario.producers_sync && scenario.layout != Layout::ArchiveWithOutput {
            return Vec::new();
        }
        let is_known = |content: &Vec<u8>| {
            let mut versions = self.recording.plan.contents.values().flatten();
            versions.any(|version| version == content)
                || self.before.input.values().any(|left| left == content)
                || self.recording.left.values().any(|left| left == content)
        };
        let is_reason = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
        let moved = after.archive.iter().chain(&after.quarantine);
        let broken = moved.filter(|(path, content)| !is_reason(path) && !is_known(content));
        broken.map(|(path, _)| format!("moved and not whole: {}", path.display())).collect()
    }

    /// The newest version of a source that was to be archived, and that its producer made durable, is in the
    /// archive or in quarantine, or is still a source: an output does not stand for it.
    fn archived_are_there(&self, after: &Seen) -> Vec<Violation> {
        let Recording { scenario, plan, .. } = self.recording;
        if scenario.on_success != "archive" {
            return Vec::new();
        }
        let newest = self.known.durable.iter().filter(|(source, version)| {
            self.known.begun.get(*source).is_none_or(|begun| begun == *version)
        });
        let is_there = |content: &Vec<u8>| {
            [&after.archive, &after.quarantine, &after.input]
                .into_iter()
                .any(|files| files.values().any(|other| other == content))
        };
        newest
            .filter(|(source, version)| !is_there(&plan.contents[*source][**version]))
            .map(|(source, _)| format!("not in the archive: {}", source.display()))
            .collect()
    }

    /// Input, archive and quarantine have each content once. An unfinished file is its producer's.
    fn each_is_there_once(&self, after: &Seen) -> Vec<Violation> {
        let mut places: HashMap<&[u8], &Path> = HashMap::new();
        // Nothing is what a power loss leaves of several.
        let is_delivered = |content: &[u8]| {
            let mut versions = self.recording.plan.contents.values().flatten();
            !content.is_empty() && versions.any(|version| version == content)
        };
        let is_final = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
        let input = after.input.iter().filter(|(path, _)| is_final(path));
        let all = input.chain(&after.archive).chain(&after.quarantine);
        let twice = all.filter_map(|(path, content)| {
            let first = places.insert(content, path)?;
            is_delivered(content)
                .then(|| format!("there twice: {} and {}", first.display(), path.display()))
        });
        twice.collect()
    }

    /// A later version of it was acknowledged: this one came back by the power loss.
    fn is_superseded(&self, source: &Path, version: Option<usize>) -> bool {
        self.known.published(source).any(|line| self.version_of_line(line) > version)
    }

    /// An output that is there was acknowledged: before the power loss or after it.
    fn outputs_have_lines(&self, after: &Seen, acknowledged: &[Line]) -> Vec<Violation> {
        let lines = acknowledged.iter().chain(&self.known.lines);
        let named: BTreeSet<_> = lines.filter_map(|line| line.output.as_deref()).collect();
        let is_foreign = |path: &Path| self.recording.plan.foreign.contains_key(path);
        let silent = after.output.keys().filter(|path| !named.contains(path.as_path()));
        let silent = silent.filter(|path| !is_foreign(path));
        silent.map(|path| format!("no line: {}", path.display())).collect()
    }

    /// A version that its producer made durable was published, or there is a reason why not.
    fn durable_are_published(&self, records: &[Record], acknowledged: &[Line]) -> Vec<Violation> {
        let mut found = Vec::new();
        for (source, version) in &self.known.durable {
            let is_of_it = |path: &Path| self.names(source).any(|name| name == path);
            let published = self.known.lines.iter().chain(acknowledged).any(|line| {
                is_of_it(&line.source)
                    && line.outcome == "published"
                    && self.version_of_line(line) >= Some(*version)
            });
            let reason = records.iter().find(|record| {
                is_of_it(&record.source)
                    && matches!(record.state, LedgerState::Skipped | LedgerState::Quarantined)
            });
            let reason = reason.and_then(|record| record.reason_text());
            if !published && !reason.is_some_and(|reason| self.is_good(source, reason)) {
                found.push(format!("not published: {} ({reason:?})", source.display()));
            }
        }
        found
    }

    /// Whether a source may stay unpublished for this reason: another file has the name of its output, of
    /// another program or an output of its own that the policy protects; or a consumer took the output.
    fn is_good(&self, source: &Path, reason: &str) -> bool {
        let plan = &self.recording.plan;
        let foreign = self.names(source).any(|name| {
            let output = format!("{}.zst", name.display());
            plan.foreign.contains_key(Path::new(&output))
        });
        let is_protected = ["fail", "skip"].contains(&self.recording.scenario.on_exists);
        let own = is_protected && plan.contents[source].len() > 1;
        let lines = || self.names(source).flat_map(|name| self.known.published(name));
        let policy = reason.contains("exists") || reason.contains("taken");
        policy && (foreign || own || is_protected && lines().next().is_some())
            || reason.contains("a consumer took")
                && lines().any(|line| self.known.taken.contains(&line.id))
    }

    /// A marker is there while its source is, and goes with it.
    fn markers_go_with_sources(&self, after: &Seen) -> Vec<Violation> {
        let were_there = self.before.marked.iter().filter(|of| self.before.input.contains_key(*of));
        let is_wrong = |of: &&PathBuf| after.input.contains_key(*of) != after.marked.contains(*of);
        were_there.filter(is_wrong).map(|of| format!("marker of {}", of.display())).collect()
    }

    /// Each source is where the disposition says, unless the ledger says why it stays.
    fn disposed(&self, after: &Seen, records: &[Record]) -> Vec<Violation> {
        let mut found = Vec::new();
        let keep = self.recording.scenario.on_success == "keep";
        for (path, content) in &after.input {
            if path.extension().is_some_and(|extension| extension == "part") {
                continue;
            }
            let stays = records.iter().any(|record| {
                record.source == *path
                    && matches!(record.state, LedgerState::Skipped | LedgerState::Quarantined)
            });
            let is_unmarked = self.recording.scenario.marked && !self.before.marked.contains(path);
            if !keep && !stays && !is_unmarked {
                found.push(format!("not disposed of: {}", path.display()));
            }
            if self.before.input.get(path).is_some_and(|before| before != content) {
                found.push(format!("source changed: {}", path.display()));
            }
        }
        if keep {
            let gone = self.before.input.keys().filter(|path| !after.input.contains_key(*path));
            found.extend(gone.map(|path| format!("was to be kept: {}", path.display())));
        }
        found
    }
}

/// What the ledger says was published has its line, however often power failed.
fn published_are_acknowledged(records: &[Record], acknowledged: &[Line]) -> Vec<Violation> {
    let ids: BTreeSet<i64> = acknowledged.iter().map(|line| line.id).collect();
    let published = |record: &&Record| {
        matches!(record.state, LedgerState::Published | LedgerState::Done)
            && record.reason.is_none()
    };
    let silent = records.iter().filter(published).filter(|record| !ids.contains(&record.id));
    silent.map(|record| format!("never acknowledged: {}", record.source.display())).collect()
}

/// The exit code is 65 while there are files in quarantine, and only then.
fn code_agrees_with_the_quarantine(code: i32, places: &Places) -> Option<Violation> {
    let ledger = Sqlite::open_read_only(&places.state.join("ledger.sqlite")).ok()?;
    let waiting = quarantined::all(&ledger).ok()?;
    (waiting.is_empty() == (code == 65))
        .then(|| format!("the service ended with {code}, and {} files wait", waiting.len()))
}

/// The output of a source that was kept has the mode and the time that the source has; or those that its
/// producer gave it and never made durable, which the power loss took back from the source alone.
fn attributes_follow(after: &Seen, acknowledged: &[Line], places: &Places) -> Vec<Violation> {
    let mut found = Vec::new();
    let newest: BTreeMap<&Path, &Line> = acknowledged
        .iter()
        .filter(|line| line.outcome == "published")
        .map(|line| (line.source.as_path(), line))
        .collect();
    for (source, line) in newest {
        let Some(output) = line.output.as_ref() else { continue };
        let (Some(content), Some(Ok(made))) = (after.input.get(source), after.output.get(output))
        else {
            continue;
        };
        let of = |path: PathBuf| after.attributes.get(&path).copied();
        let [is, of_output] = [of(places.input.join(source)), of(places.output.join(output))];
        if content == made && is != of_output && of_output != Some(TOUCHED) {
            found.push(format!(
                "mode and time of {}: {of_output:?}, of its source: {is:?}",
                output.display()
            ));
        }
    }
    found
}

/// `d/NAME.zst` and `d/NAME.1.zst` are of `d/NAME`, whose own name ends in `.log`.
fn source_of(output: &Path) -> PathBuf {
    let mut source = output.with_extension("");
    while source.extension().is_some_and(|extension| extension != "log") {
        source.set_extension("");
    }
    source
}

/// What the ledger says and which sources there are, for who looks into a violation.
pub fn evidence(places: &Places) -> Vec<String> {
    let mut found: Vec<String> = match records(places) {
        Ok(records) => records.iter().map(|record| format!("{record:?}")).collect(),
        Err(error) => vec![error],
    };
    for path in files(&places.input).0.keys() {
        let file = fs::File::open(places.input.join(path)).expect("open");
        let identity = tidemill::fs::identity_of(&file).expect("look");
        found.push(format!("{} is {identity:?}", path.display()));
    }
    found
}

fn records(places: &Places) -> Result<Vec<Record>, String> {
    let ledger = Sqlite::open_read_only(&places.state.join("ledger.sqlite"))
        .map_err(|e| format!("{e:?}"))?;
    ledger.history(&HistoryQuery::default()).map_err(|error| format!("{error:?}"))
}
