//! What must be true: after each step, whatever happened, and at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tidemill::{
    ledger::{HistoryQuery, Ledger, Record, State, sqlite::Sqlite},
    policy::OnSuccess,
};

use crate::{
    harness::{decode, decoder},
    model::{
        steps::PATHS,
        world::{Figures, Hash, Holder, Line, World, hash, output_of, temporary_of},
    },
};

/// An output that is there: its name, and the source and content it is of.
struct Visible {
    output: String,
    source: &'static str,
    content: Hash,
}

impl World {
    /// What holds at every instant at which the service is down.
    pub fn assert_true(&mut self) {
        let lines = self.acknowledged();
        let visible = self.visible();
        self.assert_published_at_most_once(&lines, &visible);
        self.assert_what_was_acknowledged_stays(&lines, &visible);
        self.assert_what_is_foreign_stays(&visible);
        self.assert_nothing_is_lost(&lines);
        self.assert_what_is_not_finished_stays();
    }

    /// The outputs, each of which is a whole one of a content that its source had.
    fn visible(&self) -> Vec<Visible> {
        let mut unzstd = decoder();
        let mut visible = Vec::new();
        for path in self.tree.files("out") {
            let name = path.to_str().expect("UTF-8").to_owned();
            let packed = fs::read(self.whole("out", &name)).expect("read");
            if is_private(&path) || self.foreign.get(&name) == Some(&packed) {
                continue;
            }
            let content = hash(&decode(&mut unzstd, &packed));
            let source = PATHS.into_iter().find(|path| is_output_of(&name, path));
            let source = source.unwrap_or_else(|| panic!("{name} is of no source"));
            let known = self.appeared.contains_key(&(source, content.clone()));
            assert!(known, "{name} has a content that {source} never had\n{}", self.tree.log());
            visible.push(Visible { output: name, source, content });
        }
        visible
    }

    /// Each time a content appeared it was published once at most: acknowledged, and visible or
    /// taken.
    fn assert_published_at_most_once(&self, lines: &[Line], visible: &[Visible]) {
        let of = |line: &&Line, of: &(&str, Hash)| line.source == of.0 && line.source_hash == of.1;
        for (key, appeared) in &self.appeared {
            let count = lines.iter().filter(|line| of(line, key)).count();
            assert!(
                count <= *appeared,
                "{key:?} was acknowledged {count} times\n{}",
                self.tree.log()
            );
            let taken = lines.iter().filter(|line| self.taken.contains(&line.id));
            let taken = taken.filter(|line| of(line, key)).count();
            let seen = visible.iter().filter(|one| (one.source, &one.content) == (key.0, &key.1));
            let seen = seen.count();
            assert!(
                seen + taken <= *appeared,
                "{key:?} is there {seen} times, was taken {taken} times and appeared {appeared} times\n{}",
                self.tree.log()
            );
        }
        for line in lines {
            let source = PATHS.into_iter().find(|path| *path == line.source).expect("a source");
            let key = (source, line.source_hash.clone());
            assert!(self.appeared.contains_key(&key), "{line:?} is of no content");
        }
        let ids: BTreeSet<_> = lines.iter().map(|line| line.id).collect();
        assert_eq!(ids.len(), lines.len(), "a record was acknowledged twice: {lines:?}");
    }

    /// An acknowledged output stays as it was, until somebody takes it, or its source's newer
    /// content takes its place where the policy says so. What comes under the name of a source that
    /// was removed is another source: it takes no place unless the policy is `replace`.
    fn assert_what_was_acknowledged_stays(&self, lines: &[Line], visible: &[Visible]) {
        let last: BTreeMap<&str, &Line> =
            lines.iter().map(|line| (line.output.as_str(), line)).collect();
        let replaces = ["update", "replace"].contains(&self.on_exists);
        for line in last.values().filter(|line| !self.taken.contains(&line.id)) {
            if self.is_as_acknowledged(line) {
                continue;
            }
            let newer = visible.iter().find(|one| {
                one.output == line.output
                    && self.last_order(&one.content) > self.last_order(&line.source_hash)
            });
            let stayed = |by: &Visible| self.on_exists == "replace" || self.stayed(line, by);
            assert!(
                replaces && newer.is_some_and(stayed),
                "{line:?} is not as it was acknowledged\n{}",
                self.tree.log()
            );
        }
    }

    /// Whether the source of an output was kept, or left where it was because it changed, and has
    /// this content now.
    fn stayed(&self, line: &Line, now: &Visible) -> bool {
        let ledger = Sqlite::open_read_only(&self.ledger()).expect("open the ledger");
        let record = ledger.record(line.id).expect("read");
        let is_same = !self.redelivered.contains(&now.content);
        record.is_some_and(|record| {
            let kept = record.on_success == OnSuccess::Keep;
            record.state == State::Changed || (kept && is_same)
        })
    }

    fn last_order(&self, content: &Hash) -> Option<usize> {
        self.order.iter().rposition(|one| one == content)
    }

    /// What another program put there stays, unless the policy is to replace it.
    fn assert_what_is_foreign_stays(&mut self, visible: &[Visible]) {
        let replaced: Vec<String> = self
            .foreign
            .iter()
            .filter(|(name, content)| {
                fs::read(self.whole("out", name)).ok().as_ref() != Some(*content)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in replaced {
            let ours = visible.iter().any(|one| one.output == name);
            assert!(ours && self.on_exists == "replace", "{name} was another's");
            self.foreign.remove(&name);
        }
    }

    /// What a producer gave a path is there, or its output was acknowledged.
    fn assert_nothing_is_lost(&self, lines: &[Line]) {
        for (path, content) in &self.now {
            let hash = hash(content);
            let there = fs::read(self.whole("in", path)).is_ok_and(|found| found == *content);
            if self.on_success == "keep" {
                assert!(there, "{path} was to be kept\n{}", self.tree.log());
                continue;
            }
            let acknowledged =
                lines.iter().any(|line| line.source == *path && line.source_hash == hash);
            let among = |files: Vec<PathBuf>| {
                files.iter().any(|file| fs::read(file).is_ok_and(|found| found == *content))
            };
            let private = || self.private();
            assert!(
                there || acknowledged || among(private()) || among(self.quarantined(path)),
                "{path} is lost\n{}",
                self.tree.log()
            );
            let kept = there || among(private()) || among(self.quarantined(path));
            assert!(
                kept || self.on_success == "delete" || among(self.archived(path)),
                "{path} is not in the archive\n{}",
                self.tree.log()
            );
        }
    }

    /// A file under a temporary name is its producer's alone.
    fn assert_what_is_not_finished_stays(&self) {
        for (path, content) in &self.begun {
            let found = fs::read(self.whole("in", &temporary_of(path)));
            assert!(found.is_ok_and(|it| it == *content), "{path} was not finished");
        }
    }

    /// Sources under a name that only the service knows.
    fn private(&self) -> Vec<PathBuf> {
        let files = self.tree.files("in").into_iter().filter(|path| is_private(path));
        files.map(|path| self.tree.path("in").join(path)).collect()
    }

    fn archived(&self, path: &str) -> Vec<PathBuf> {
        numbered(&self.whole("archive", path))
    }

    fn quarantined(&self, path: &str) -> Vec<PathBuf> {
        numbered(&self.whole("state/quarantine/main", path))
    }

    /// Runs the service to its end, without anybody else: everything is done, as the policy says,
    /// and done for good.
    pub fn assert_done(&mut self) {
        // The first run meets what they hold.
        let code = self.once();
        self.assert_code(code, &[0, 65]);
        self.wait_for_others();
        self.observe();
        self.assert_true();
        self.assert_every_end_is_the_policys();
        self.assert_each_is_there_once();
        self.assert_no_leftovers();
        let (before, first) = (self.everything(), code);
        let code = self.once();
        // What is in quarantine stays there.
        self.assert_code(code, &[first]);
        self.assert_true();
        let after = self.everything();
        assert!(before == after, "a further run changed something\n{}", self.tree.log());
        self.figures.published += self.acknowledged().len() as u64;
    }

    pub fn figures(&self) -> Figures {
        self.figures
    }

    fn assert_every_end_is_the_policys(&mut self) {
        let lines = self.acknowledged();
        let ledger = Sqlite::open_read_only(&self.ledger()).expect("open the ledger");
        assert_eq!(ledger.unfinished().expect("read"), [], "{}", self.tree.log());
        let history = ledger.history(&HistoryQuery::default()).expect("read");
        for (path, content) in &self.now {
            let last = history.iter().find(|record| {
                record.source == Path::new(path) && record.state != State::Withdrawn
            });
            let last = last.unwrap_or_else(|| panic!("{path} has no record"));
            assert_eq!(last.identity.size, content.len() as u64, "{path}: {last:?}");
            let hash = hash(content);
            // Of what was processed again the last record counts.
            let acknowledged =
                lines.iter().any(|line| line.id == last.id && line.source_hash == hash);
            let holders = &self.holders[path];
            let allowed = match last.state {
                // Processed again, with nothing new to acknowledge.
                State::Done if last.reason_text() == Some("the output is unchanged") => {
                    lines.iter().any(|line| line.source == *path && line.source_hash == hash)
                }
                State::Done => acknowledged && may_publish(self.on_exists, holders),
                State::Skipped => {
                    !acknowledged && self.on_exists == "skip" && is_met(holders, &TAKEN)
                }
                State::Quarantined => {
                    !acknowledged && may_quarantine(self.on_exists, holders, last)
                }
                _ => false,
            };
            assert!(
                allowed,
                "{path} ended as {} ({:?}), {}acknowledged, with {holders:?}\n{}",
                last.state,
                last.reason,
                if acknowledged { "" } else { "not " },
                self.tree.log()
            );
            self.figures.quarantined += u64::from(last.state == State::Quarantined);
        }
    }

    /// A source is in one place: each content that was delivered is another.
    fn assert_each_is_there_once(&self) {
        let mut places: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
        let quarantine = "state/quarantine";
        for dir in ["in", "archive", quarantine] {
            let files =
                if self.tree.path(dir).is_dir() { self.tree.files(dir) } else { Vec::new() };
            let is_reason = |path: &Path| {
                dir == quarantine && path.extension().is_some_and(|extension| extension == "json")
            };
            for path in files.into_iter().filter(|path| !is_reason(path)) {
                let path = self.tree.path(dir).join(path);
                let content = fs::read(&path).expect("read");
                if let Some(first) = places.insert(content, path.clone()) {
                    panic!("{} is {} too\n{}", path.display(), first.display(), self.tree.log());
                }
            }
        }
    }

    fn assert_no_leftovers(&self) {
        self.tree.assert_no_leftovers();
        let left: Vec<_> = self.everything().into_keys().filter(|path| is_private(path)).collect();
        assert!(left.is_empty(), "left: {left:?}\n{}", self.tree.log());
    }

    /// Every file that is anybody's business, and what is in it.
    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for dir in ["in", "out", "archive", "state/quarantine"] {
            if self.tree.path(dir).is_dir() {
                let files = self.tree.files(dir).into_iter();
                let paths = files.map(|path| self.tree.path(dir).join(path));
                found.extend(paths.map(|path| (path.clone(), fs::read(path).expect("read"))));
            }
        }
        found.insert("events".into(), fs::read(self.tree.path("events")).unwrap_or_default());
        found
    }
}

const TAKEN: [Holder; 3] = [Holder::Ours, Holder::Foreign, Holder::Directory];

/// Whether any of these had the name since the content appeared.
fn is_met(holders: &BTreeSet<Holder>, any: &[Holder]) -> bool {
    any.iter().any(|holder| holders.contains(holder))
}

/// Whether the policy lets a content be published, by what had the name since it appeared.
fn may_publish(policy: &str, holders: &BTreeSet<Holder>) -> bool {
    match policy {
        // Next to what another program has, where its own earlier source was removed.
        "update" => is_met(holders, &[Holder::Nobody, Holder::Ours, Holder::Foreign]),
        // The same content again.
        "fail" => is_met(holders, &[Holder::Nobody, Holder::Ours]),
        "replace" => is_met(holders, &[Holder::Nobody, Holder::Ours, Holder::Foreign]),
        "suffix" => true,
        _ => is_met(holders, &[Holder::Nobody]),
    }
}

/// Whether the policy lets a source go to quarantine, and for this reason.
fn may_quarantine(policy: &str, holders: &BTreeSet<Holder>, record: &Record) -> bool {
    let reason = record.reason_text().unwrap_or_default();
    let directory =
        is_met(holders, &[Holder::Directory]) && reason.contains("is not a regular file");
    let named = reason.contains(&format!("the policy is `{policy}`"));
    directory
        || match policy {
            "update" => named && is_met(holders, &[Holder::Foreign]),
            "fail" => named && is_met(holders, &[Holder::Ours, Holder::Foreign]),
            _ => false,
        }
}

fn is_private(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tidemill"))
}

/// `SOURCE.zst`, or with a number before the extension.
fn is_output_of(name: &str, source: &str) -> bool {
    let number = name.strip_prefix(source).and_then(|rest| rest.strip_suffix(".zst"));
    name == output_of(source)
        || number.is_some_and(|number| {
            number.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
        })
}

/// `PATH`, `PATH.1`, …: those that are there.
fn numbered(path: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("entry").path());
    let is_it = |path: &PathBuf| {
        let found = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let rest = found.as_deref().and_then(|found| found.strip_prefix(&*name).map(str::to_owned));
        rest.is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u32>().is_ok())
    };
    paths.filter(is_it).collect()
}
