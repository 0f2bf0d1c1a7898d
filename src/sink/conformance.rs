//! What every [`Sink`] does: one suite, run on each implementation.

mod side_files;

use std::{
    fs,
    io::ErrorKind::{AlreadyExists, NotFound},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    Attributes, ErrorKind, Helpers, Occupant, Precondition, Remains, Sealing, Sink, SinkOptions,
    Staged, local::Local, memory::Store,
};
use crate::{
    fingerprint::Fingerprint,
    fs::{ExtendedAttributes, FileMetadata, Kind},
    ledger::{Output, Replaced},
};

use side_files::{
    a_side_file_is_removed_only_as_it_was_shown, a_side_file_is_written_next_to_its_output,
};

const INSTANCE: &str = "00000001";
/// The source's time of modification, which its output gets.
const MODIFIED_NS: i64 = 1_000_000_000;

/// A place of outputs, as the service and the other programs see it.
trait Bench {
    fn open(&self, instance: &str) -> Box<dyn Sink>;
    /// Writes a file as another program does: a new file, renamed to this name.
    fn put(&self, target: &str, content: &[u8]);
    /// Removes a file as a consumer does.
    fn take(&self, target: &str) -> Option<Vec<u8>>;
    fn read(&self, target: &str) -> Option<Vec<u8>>;
    /// Returns how many outputs are staged.
    fn staged(&self) -> usize;
}

impl Bench for Store {
    fn open(&self, instance: &str) -> Box<dyn Sink> {
        Box::new(self.open(instance))
    }

    fn put(&self, target: &str, content: &[u8]) {
        self.put(target.as_ref(), content);
    }

    fn take(&self, target: &str) -> Option<Vec<u8>> {
        self.take(target.as_ref())
    }

    fn read(&self, target: &str) -> Option<Vec<u8>> {
        self.read(target.as_ref())
    }

    fn staged(&self) -> usize {
        self.staged_names().len()
    }
}

impl Bench for tempfile::TempDir {
    fn open(&self, instance: &str) -> Box<dyn Sink> {
        Box::new(Local::open(SinkOptions::offline("main", self.path(), instance)).expect("open"))
    }

    fn put(&self, target: &str, content: &[u8]) {
        let path = self.path().join(target);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        let new = tempfile::NamedTempFile::new_in(self.path()).expect("create");
        fs::write(new.path(), content).expect("write");
        new.persist(path).expect("rename");
    }

    fn take(&self, target: &str) -> Option<Vec<u8>> {
        let content = Bench::read(self, target);
        crate::fs::Dir::open(self.path()).expect("open").unlink(target.as_ref()).ok()?;
        content
    }

    fn read(&self, target: &str) -> Option<Vec<u8>> {
        fs::read(self.path().join(target)).ok()
    }

    fn staged(&self) -> usize {
        let count = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten();
            let names = entries.map(|entry| entry.expect("entry").file_name());
            names.filter(|name| crate::fs::is_internal_name(name)).count()
        };
        count(self.path()) + count(&self.path().join("below"))
    }
}

conformance! {
    crate::sink::memory::Store, local:
    an_output_is_invisible_until_it_is_published
    a_taken_name_is_refused_and_the_output_stays_staged
    only_the_version_that_was_shown_is_replaced
    what_is_dropped_before_its_intent_leaves_nothing
    what_is_dropped_after_its_intent_stays_until_that_is_withdrawn
    an_inspection_distinguishes_staged_published_and_missing
    what_an_earlier_run_staged_is_published_once
    a_sweep_removes_only_what_is_not_live_and_no_other_ledgers
    a_batch_has_one_result_for_each_output_in_its_order
    a_published_output_is_recognized_by_identity_or_content
    a_probe_leaves_nothing
    an_error_carries_the_path
    a_side_file_is_written_next_to_its_output
    a_side_file_is_removed_only_as_it_was_shown
}

/// Stages an output for this path, in two chunks.
fn stage(sink: &dyn Sink, target: &str, content: &[u8]) -> Box<dyn Staged> {
    let mut writer = sink.create(target.as_ref(), &|_| None).expect("create");
    let (first, second) = content.split_at(content.len() / 2);
    writer.write(first).expect("write");
    writer.write(second).expect("write");
    let owner = fs::metadata("/proc/self").expect("own process");
    let identity = Fingerprint { mtime_ns: MODIFIED_NS, ..Fingerprint::NONE };
    let metadata = FileMetadata {
        kind: Kind::File,
        identity,
        mode: 0o640,
        owner: owner.uid(),
        group: owner.gid(),
        names: 1,
    };
    let attributes = Attributes { metadata: &metadata, extended: &ExtendedAttributes::default() };
    let hash = *blake3::hash(content).as_bytes();
    writer.finish(attributes, &hash, Sealing::Batch).expect("finish")
}

fn seal(sink: &dyn Sink, staged: &mut dyn Staged) {
    let sealed = sink.seal(&mut [staged]);
    sealed.names.expect("durable names");
    sealed.contents.into_iter().for_each(|content| content.expect("durable content"));
}

/// The intent of a staged output.
fn intent(staged: &dyn Staged, target: &str, content: &[u8]) -> Output {
    Output {
        path: target.into(),
        temp: staged.staged_name().to_owned(),
        identity: staged.identity(),
        hash: *blake3::hash(content).as_bytes(),
        source_hash: [0; 32],
        replaces: None,
        transforms: String::new(),
        sha256: None,
    }
}

/// Leaves an output with an intent, as a process that is killed does.
fn leave(sink: &dyn Sink, target: &str, content: &[u8]) -> Output {
    let mut staged = stage(sink, target, content);
    seal(sink, &mut *staged);
    staged.protect();
    intent(&*staged, target, content)
}

fn look(staged: &dyn Staged, target: &str) -> Occupant {
    staged.look(target.as_ref()).expect("look").expect("it exists")
}

fn an_output_is_invisible_until_it_is_published(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let mut staged = stage(&*sink, "below/a", b"content");
    assert_eq!((bench.read("below/a"), bench.staged()), (None, 1));
    assert_eq!(staged.look("below/a".as_ref()).expect("look"), None);
    seal(&*sink, &mut *staged);
    assert_eq!(bench.read("below/a"), None);
    assert_eq!(staged.identity().size, 7);
    assert_eq!(staged.identity().mtime_ns, MODIFIED_NS);
    staged.publish("below/a".as_ref(), Precondition::Absent).expect("publish");
    assert_eq!(bench.read("below/a").as_deref(), Some(&b"content"[..]));
    sink.sync_names(&mut [&mut *staged]).expect("durable names");
    assert_eq!(sink.are_displaced(&[(&*staged, Path::new("below/a"))]), [false]);
    drop(staged);
    assert_eq!(bench.read("below/a").as_deref(), Some(&b"content"[..]));
    assert_eq!(bench.staged(), 0);
}

fn a_taken_name_is_refused_and_the_output_stays_staged(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    bench.put("a", b"theirs");
    let mut staged = stage(&*sink, "a", b"ours");
    seal(&*sink, &mut *staged);
    let name = staged.staged_name().to_owned();
    let error = staged.publish("a".as_ref(), Precondition::Absent).expect_err("it is taken");
    assert_eq!((error.kind, error.source.kind()), (ErrorKind::Taken, AlreadyExists));
    assert_eq!(bench.read("a").as_deref(), Some(&b"theirs"[..]));
    assert_eq!((staged.staged_name(), bench.staged()), (&*name, 1));
    staged.publish("a.1".as_ref(), Precondition::Absent).expect("publish elsewhere");
    assert_eq!(bench.read("a.1").as_deref(), Some(&b"ours"[..]));
    assert_eq!(bench.read("a").as_deref(), Some(&b"theirs"[..]));
}

fn only_the_version_that_was_shown_is_replaced(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    bench.put("a", b"old");
    let mut staged = stage(&*sink, "a", b"ours");
    let shown = look(&*staged, "a").identity;
    bench.put("a", b"newer");
    let replace = |staged: &mut Box<dyn Staged>, shown| {
        staged.publish("a".as_ref(), Precondition::Unchanged(shown)).map_err(|error| error.kind)
    };
    assert_eq!(replace(&mut staged, shown), Err(ErrorKind::Taken));
    assert_eq!(bench.read("a").as_deref(), Some(&b"newer"[..]));
    let shown = look(&*staged, "a").identity;
    assert!(bench.take("a").is_some());
    assert_eq!(replace(&mut staged, shown), Err(ErrorKind::Taken), "a consumer took it");
    assert_eq!(bench.read("a"), None);
    bench.put("a", b"newest");
    let shown = look(&*staged, "a").identity;
    assert_eq!(replace(&mut staged, shown), Ok(()));
    assert_eq!(bench.read("a").as_deref(), Some(&b"ours"[..]));
}

fn what_is_dropped_before_its_intent_leaves_nothing(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let mut writer = sink.create("a".as_ref(), &|_| None).expect("create");
    writer.write(b"part").expect("write");
    drop(writer);
    assert_eq!(bench.staged(), 0);
    let mut staged = stage(&*sink, "a", b"content");
    seal(&*sink, &mut *staged);
    drop(staged);
    assert_eq!((bench.staged(), bench.read("a")), (0, None));
}

fn what_is_dropped_after_its_intent_stays_until_that_is_withdrawn(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let mut staged = stage(&*sink, "a", b"content");
    staged.protect();
    staged.unprotect();
    drop(staged);
    assert_eq!(bench.staged(), 0);
    let mut staged = stage(&*sink, "a", b"content");
    staged.protect();
    drop(staged);
    assert_eq!((bench.staged(), bench.read("a")), (1, None));
}

fn an_inspection_distinguishes_staged_published_and_missing(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let output = leave(&*sink, "below/a", b"content");
    let inspect = || bench.open(INSTANCE).inspect(&output).expect("inspect");
    let is_ours = |found: Option<Fingerprint>| {
        found.is_some_and(|found| found.matches_content(&output.identity))
    };
    let staged = inspect();
    assert!(is_ours(staged.staged) && staged.published.is_none(), "{staged:?}");
    assert!(!staged.is_published(&output));
    sink.resume(&output, Precondition::Absent).expect("publish");
    let published = inspect();
    assert!(published.staged.is_none() && is_ours(published.published), "{published:?}");
    assert!(published.is_published(&output));
    bench.take("below/a");
    assert_eq!(inspect(), Remains::default());
    bench.put("below/a", b"content");
    let copied = inspect();
    assert!(!is_ours(copied.published) && copied.same_content, "{copied:?}");
    bench.put("below/a", b"another");
    let another = inspect();
    assert!(another.published.is_some() && !another.same_content, "{another:?}");
    assert!(!another.is_published(&output));
    assert!(matches!(*sink.were_displaced(&[&output]), [Ok(false)]));
    let nowhere = Output { path: "missing/a".into(), ..output.clone() };
    assert_eq!(sink.inspect(&nowhere).expect("inspect"), Remains::default());
}

fn what_an_earlier_run_staged_is_published_once(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let output = leave(&*sink, "a", b"content");
    bench.put("a", b"theirs");
    let resume = |precondition| sink.resume(&output, precondition).map_err(|error| error.kind);
    assert_eq!(resume(Precondition::Absent), Err(ErrorKind::Taken));
    let shown = Replaced { identity: output.identity, hash: None, sha256: None };
    let other = Output { replaces: Some(shown), ..output.clone() };
    assert_eq!(resume(Precondition::of(&other)), Err(ErrorKind::Taken));
    assert_eq!(bench.take("a").as_deref(), Some(&b"theirs"[..]));
    assert_eq!(resume(Precondition::of(&output)), Ok(()));
    sink.sync_name(&output.path).expect("a durable name");
    assert_eq!(bench.take("a").as_deref(), Some(&b"content"[..]));
    let error = sink.resume(&output, Precondition::Absent).expect_err("a consumer took it");
    assert_eq!((error.kind, error.source.kind()), (ErrorKind::Publish, NotFound));
    assert_eq!((bench.read("a"), bench.staged()), (None, 0));
}

fn a_sweep_removes_only_what_is_not_live_and_no_other_ledgers(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let live = leave(&*sink, "a", b"live");
    let orphan = leave(&*sink, "below/b", b"orphan");
    let foreign = leave(&*bench.open("00000002"), "c", b"foreign");
    bench.put("d", b"theirs");
    let swept = sink.sweep(&|name| name == live.temp);
    assert_eq!((swept.removed, swept.deferred.len()), (1, 0), "{swept:?}");
    assert_eq!(bench.staged(), 2);
    let is_staged = |output| sink.inspect(output).expect("inspect").staged.is_some();
    assert!(is_staged(&live) && !is_staged(&orphan) && is_staged(&foreign));
    assert_eq!(bench.read("d").as_deref(), Some(&b"theirs"[..]));
    assert_eq!(sink.sweep(&|_| false).removed, 1);
    assert!(!is_staged(&live) && is_staged(&foreign));
}

/// With the sink's helpers and without, and in batches of which a directory syncs several files at
/// once.
fn a_batch_has_one_result_for_each_output_in_its_order(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let Helpers { threads, guard } = sink.helpers();
    let threads: Vec<_> = threads.into_iter().map(std::thread::spawn).collect();
    let publish = |count: usize, prefix: &str| {
        let target = |number: usize| PathBuf::from(format!("below/{prefix}{number}"));
        let content = |number: usize| format!("{prefix} {number}").into_bytes();
        let stage =
            |number| stage(&*sink, target(number).to_str().expect("UTF-8"), &content(number));
        let mut batch: Vec<_> = (0..count).map(stage).collect();
        let mut files: Vec<&mut dyn Staged> = batch.iter_mut().map(|file| &mut **file).collect();
        let sealed = sink.seal(&mut files);
        sealed.names.expect("durable names");
        assert_eq!(sealed.contents.iter().filter(|content| content.is_ok()).count(), count);
        for (number, file) in batch.iter_mut().enumerate() {
            file.publish(&target(number), Precondition::Absent).expect("publish");
        }
        let mut files: Vec<&mut dyn Staged> = batch.iter_mut().map(|file| &mut **file).collect();
        sink.sync_names(&mut files).expect("durable names");
        for number in 0..count {
            let found = bench.read(target(number).to_str().expect("UTF-8"));
            assert_eq!(found, Some(content(number)), "{prefix}");
        }
    };
    for count in [0, 1, 3, 40] {
        publish(count, &format!("helped-{count}-"));
    }
    drop(guard);
    for thread in threads {
        thread.join().expect("a helper ends with its guard");
    }
    publish(40, "alone-");
    assert_eq!(bench.staged(), 0);
}

fn a_published_output_is_recognized_by_identity_or_content(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let output = leave(&*sink, "a", b"content");
    sink.resume(&output, Precondition::Absent).expect("publish");
    let staged = stage(&*sink, "a", b"next");
    let is_output = || {
        let hash = || staged.hash_of("a".as_ref());
        look(&*staged, "a").is_output(&output, hash).expect("look")
    };
    assert!(is_output(), "by its identity");
    bench.put("a", b"content");
    assert!(is_output(), "by its content");
    bench.put("a", b"another");
    assert!(!is_output());
    bench.put("a", b"content and more");
    assert!(!is_output());
}

fn a_probe_leaves_nothing(bench: &impl Bench) {
    bench.open(INSTANCE).probe().expect("probe");
    assert_eq!(bench.staged(), 0);
}

fn an_error_carries_the_path(bench: &impl Bench) {
    let sink = bench.open(INSTANCE);
    let output = leave(&*sink, "a", b"content");
    bench.put("a", b"theirs");
    let mut staged = stage(&*sink, "a", b"ours");
    let taken = staged.publish("a".as_ref(), Precondition::Absent).expect_err("it is taken");
    let missing = staged.hash_of("missing".as_ref()).expect_err("it is missing");
    let resumed = sink.resume(&output, Precondition::Absent).expect_err("it is taken");
    for (error, path) in [(&taken, "a"), (&missing, "missing"), (&resumed, "a")] {
        assert!(error.path.ends_with(path), "{error:?}");
        assert!(error.to_string().ends_with(path), "{error}");
    }
    assert_eq!(missing.kind, ErrorKind::Look);
    assert_eq!(missing.source.kind(), NotFound);
}
