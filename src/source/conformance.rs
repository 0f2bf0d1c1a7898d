//! What every [`Source`] does: one suite, run on each implementation.

mod bench;
mod markers;
mod quarantine;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    bench::{ARCHIVE, Bench},
    markers::{
        a_marker_ends_like_its_source_unless_another_file_has_the_name,
        a_marker_made_since_the_source_was_taken_stays,
    },
    quarantine::{
        a_file_that_has_both_names_is_not_put_back_and_can_be_removed,
        a_marker_comes_back_with_its_source, a_quarantined_source_has_its_slot_next_to_its_reason,
        a_quarantined_source_is_put_back_without_its_reason,
        a_records_error_leaves_a_copy_in_quarantine,
        a_slot_that_was_taken_is_an_error_of_the_target,
        an_interrupted_return_is_finished_by_the_next_one,
    },
};
use super::{
    Disposal, End, HeldSource, Leftover, Look, NamedBy, Opened, Source, SourceFile, TakeRequest,
    TakeResult, Taken, event_queue::EventQueue,
};
use crate::{
    fingerprint::Fingerprint,
    fs::{Kind, Writers},
    ledger::RecordId,
};

const ID: RecordId = 0x2f;
conformance! {
    crate::source::memory::Store, local:
    a_listing_has_every_file_once_and_no_directory
    a_missing_file_is_no_error
    an_error_has_the_path
    a_read_file_is_one_state_or_its_identity_differs
    an_event_names_a_new_file
    a_source_is_taken_and_removed_alone
    a_file_that_replaced_the_source_is_ignore_reason
    a_source_with_other_content_under_the_same_identity_is_ignore_reason
    a_source_that_is_written_is_ignore_reason
    an_archived_source_has_its_path_in_the_archive
    a_quarantined_source_has_its_slot_next_to_its_reason
    a_slot_that_was_taken_is_an_error_of_the_target
    a_quarantined_source_is_put_back_without_its_reason
    a_file_that_has_both_names_is_not_put_back_and_can_be_removed
    an_interrupted_return_is_finished_by_the_next_one
    a_records_error_leaves_a_copy_in_quarantine
    a_marker_comes_back_with_its_source
    a_marker_ends_like_its_source_unless_another_file_has_the_name
    a_marker_made_since_the_source_was_taken_stays
    a_source_is_put_back_over_no_other_file
    a_failed_disposal_returns_the_source
    leftovers_are_what_this_instance_had_taken
    a_recovered_source_is_finished_only_if_it_is_the_file_that_was_read
}

fn paths(files: &BTreeMap<PathBuf, String>) -> Vec<&str> {
    files.keys().map(|path| path.to_str().expect("text")).collect()
}

fn assert_files(bench: &impl Bench, expected: &[(&str, &str)]) {
    let found = bench.files();
    let found: Vec<_> =
        found.iter().map(|(path, text)| (path.to_str().expect("text"), text.as_str())).collect();
    assert_eq!(found, expected);
}

fn identity(source: &dyn Source, path: &str) -> Fingerprint {
    source.stat(path.as_ref()).expect("stat").expect("exists").identity
}

fn request<'a>(path: &'a str, read: &'a Fingerprint) -> TakeRequest<'a> {
    TakeRequest {
        quiet_for: None,
        path: path.as_ref(),
        read,
        content: None,
        has_coarse_times: false,
        marker: None,
        id: ID,
        resumed: false,
    }
}

/// Takes the source that has this name now.
fn take(source: &dyn Source, path: &str) -> Box<dyn HeldSource> {
    let read = identity(source, path);
    match source.take(&request(path, &read)).expect("take") {
        TakeResult::Taken(held) => held,
        other => panic!("{other:?}"),
    }
}

fn disposal(end: End<'_>) -> Disposal<'_> {
    Disposal { end, marker: None, on_progress: &|| () }
}

fn list(source: &dyn Source, below: &str, limit: usize) -> Vec<PathBuf> {
    let own: Arc<[_]> = Arc::new([]);
    let mut listing = source.list(below.into(), &own);
    let mut found = Vec::new();
    loop {
        let page = listing.next_page(limit, &|directory| !directory.ends_with("left out"));
        assert!(page.files.len() <= limit && page.failed.is_empty(), "{page:?}");
        if page.files.is_empty() {
            found.sort();
            return found;
        }
        found.extend(page.files);
    }
}

fn a_listing_has_every_file_once_and_no_directory(bench: &impl Bench) {
    let source = bench.open();
    assert!(list(&*source, "", 3).is_empty());
    for path in ["a", "a.b", "d/1", "d/2", "d/e/3", "d/left out/4", "f/5", "left out/6"] {
        bench.put(path, "");
    }
    let all = ["a", "a.b", "d/1", "d/2", "d/e/3", "f/5"].map(PathBuf::from);
    for limit in [1, 3, all.len(), 100] {
        assert_eq!(list(&*source, "", limit), all, "pages of {limit}");
    }
    assert_eq!(list(&*source, "d", 2), ["d/1", "d/2", "d/e/3"].map(PathBuf::from));
}

fn a_missing_file_is_no_error(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let found = source.stat("a".as_ref()).expect("stat").expect("exists");
    assert_eq!((found.kind, found.identity.size), (Kind::File, 7));
    for path in ["b", "no/b", "a/b"] {
        let name = Path::new(path);
        assert!(source.stat(name).expect("stat").is_none(), "{path}");
        assert!(source.stat_fresh(name).expect("stat").is_none(), "{path}");
        assert!(matches!(source.open(name).expect("open"), Opened::Gone), "{path}");
        for named_by in [NamedBy::Event, NamedBy::Listing] {
            assert!(matches!(source.look(name, named_by, &[]).expect("look"), Look::Missing));
        }
    }
    let taken = source.take(&request("b", &found.identity)).expect("take");
    assert!(matches!(taken, TakeResult::Gone), "{taken:?}");
}

fn an_error_has_the_path(bench: &impl Bench) {
    let source = bench.open();
    let name = "n".repeat(300);
    let path = Path::new(&name);
    let read = Fingerprint::NONE;
    let errors = [
        source.stat(path).map(drop).expect_err("too long"),
        source.stat_fresh(path).map(drop).expect_err("too long"),
        source.look(path, NamedBy::Event, &[]).map(drop).expect_err("too long"),
        source.open(path).map(drop).expect_err("too long"),
        source.take(&request(&name, &read)).map(drop).expect_err("too long"),
    ];
    for error in errors {
        assert_eq!(error.path, source.path().join(path));
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidFilename, "{error}");
    }
}

fn open(source: &dyn Source, path: &str) -> Box<dyn SourceFile> {
    match source.open(path.as_ref()).expect("open") {
        Opened::File(file) => file,
        other => panic!("{other:?}"),
    }
}

fn a_read_file_is_one_state_or_its_identity_differs(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "0123456789");
    let file = open(&*source, "a");
    let before = file.metadata().expect("metadata").identity;
    assert_eq!(before, identity(&*source, "a"));
    let mut buffer = [0; 11];
    assert_eq!(file.read_at(&mut buffer[..4], 0).expect("read"), 4, "as many as fit");
    assert_eq!(&buffer[..4], b"0123");
    bench.put("a", "another state");
    let rest = file.read_at(&mut buffer[4..], 4).expect("read");
    let is_same = file.metadata().expect("metadata").identity == before;
    assert!(!is_same || (rest == 6 && &buffer[..10] == b"0123456789"));
    assert_eq!(file.read_at(&mut buffer, 100).expect("read"), 0, "beyond the end");
    assert_ne!(identity(&*source, "a"), before);
}

fn an_event_names_a_new_file(bench: &impl Bench) {
    let source = bench.open();
    let (queue, _wake) = EventQueue::new();
    let subscription = source.subscribe(queue.clone()).expect("subscribe");
    let subscription = subscription.expect("both have events");
    bench.put("a", "content");
    let until = Instant::now() + Duration::from_mins(1);
    while !queue.take(usize::MAX).0.paths.contains_key(Path::new("a")) {
        assert!(Instant::now() < until, "no event");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    drop(subscription);
}

fn a_source_is_taken_and_removed_alone(bench: &impl Bench) {
    let source = bench.open();
    bench.put("d/a", "content");
    bench.put("d/b", "other");
    let held = take(&*source, "d/a");
    assert!(source.stat_fresh("d/a".as_ref()).expect("stat").is_none());
    // Its producer delivers the next file.
    bench.put("d/a", "next");
    held.finish(&disposal(End::Removed)).expect("finish");
    assert_files(bench, &[("d/a", "next"), ("d/b", "other")]);
}

fn a_file_that_replaced_the_source_is_ignore_reason(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let read = identity(&*source, "a");
    bench.put("a", "replace");
    // A rewrite that resets the other times moves the change time.
    let reset = Fingerprint { ctime_ns: read.ctime_ns - 1, ..identity(&*source, "a") };
    for read in [read, reset] {
        let taken = source.take(&request("a", &read)).expect("take");
        assert!(matches!(taken, TakeResult::Replaced), "{taken:?}");
    }
    assert_files(bench, &[("a", "replace")]);
    assert!(source.leftovers().is_empty());
}

fn a_source_with_other_content_under_the_same_identity_is_ignore_reason(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let read = identity(&*source, "a");
    let with_hash = |content: &str| TakeRequest {
        content: Some(*blake3::hash(content.as_bytes()).as_bytes()),
        has_coarse_times: true,
        ..request("a", &read)
    };
    let taken = source.take(&with_hash("before")).expect("take");
    assert!(matches!(taken, TakeResult::Replaced), "{taken:?}");
    assert_files(bench, &[("a", "content")]);
    let read = identity(&*source, "a");
    let wanted = TakeRequest { read: &read, ..with_hash("content") };
    let taken = source.take(&wanted).expect("take");
    assert!(matches!(taken, TakeResult::Taken(_)), "{taken:?}");
}

fn a_source_that_is_written_is_ignore_reason(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let writer = bench.write("a");
    assert_eq!(open(&*source, "a").writers().expect("check"), Writers::Some);
    let read = identity(&*source, "a");
    let taken = source.take(&request("a", &read)).expect("take");
    assert!(matches!(taken, TakeResult::Busy), "{taken:?}");
    assert_files(bench, &[("a", "content")]);
    drop(writer);
    assert_eq!(open(&*source, "a").writers().expect("check"), Writers::None);
    drop(take(&*source, "a"));
}

fn an_archived_source_has_its_path_in_the_archive(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside(ARCHIVE));
    for content in ["first", "second"] {
        bench.put("d/a", content);
        let end = End::Archived { root: &root, path: "d/a".as_ref() };
        take(&*source, "d/a").finish(&disposal(end)).expect("finish");
    }
    assert_files(bench, &[("/archive/d/a", "first"), ("/archive/d/a.1", "second")]);
}

fn a_source_is_put_back_over_no_other_file(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let held = take(&*source, "a");
    bench.put("a", "next");
    let (held, error) = held.put_back().expect_err("the name is taken");
    assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(error.path, source.path().join("a"));
    bench.remove("a");
    held.put_back().expect("put back");
    assert_files(bench, &[("a", "content")]);
}

fn a_failed_disposal_returns_the_source(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside("/missing"));
    bench.put("d/a", "content");
    let end = End::Archived { root: &root, path: "d/a".as_ref() };
    let (held, error) = take(&*source, "d/a").finish(&disposal(end)).expect_err("no archive");
    assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.path, source.path().join("d/a"));
    held.put_back().expect("put back");
    assert_files(bench, &[("d/a", "content")]);
}

/// Returns what an unclean stop left, by the next run of this instance.
fn leftovers(source: &dyn Source) -> Vec<Taken> {
    let taken = |leftover| match leftover {
        Ok(Leftover::Taken(taken)) => taken,
        other => panic!("{other:?}"),
    };
    source.leftovers().into_iter().map(taken).collect()
}

fn leftovers_are_what_this_instance_had_taken(bench: &impl Bench) {
    let source = bench.open();
    for path in ["a", "d/b", "d/.tidemill-0011-2f.tmp.b", "d/.tidemill-0011-xx.del", "b.del"] {
        bench.put(path, path);
    }
    assert!(leftovers(&*source).is_empty());
    drop(take(&*source, "d/b"));
    drop(take(&*bench.open_as("0012"), "a"));
    let source = bench.open();
    let [taken] = leftovers(&*source).try_into().expect("one");
    assert_eq!(taken.id, ID);
    let held = source.recover(&taken, "d/b".as_ref()).expect("recover");
    held.put_back().expect("put back");
    assert_eq!(bench.files().get(Path::new("d/b")).map(String::as_str), Some("d/b"));
    assert!(leftovers(&*source).is_empty());
    assert_eq!(leftovers(&*bench.open_as("0012")).len(), 1);
}

fn a_recovered_source_is_finished_only_if_it_is_the_file_that_was_read(bench: &impl Bench) {
    let source = bench.open();
    bench.put("d/a", "content");
    let read = identity(&*source, "d/a");
    drop(take(&*source, "d/a"));
    let recover = || {
        let source = bench.open();
        let [taken] = leftovers(&*source).try_into().expect("one");
        source.recover(&taken, "d/a".as_ref()).expect("recover")
    };
    let held = recover();
    assert!(held.identity().expect("identity").expect("still taken").matches_content(&read));
    let other = Fingerprint { size: read.size + 1, ..read };
    let checked = held.check(&request("d/a", &other)).expect("check");
    assert!(matches!(checked, TakeResult::Replaced), "{checked:?}");
    assert_files(bench, &[("d/a", "content")]);
    drop(take(&*source, "d/a"));
    match recover().check(&request("d/a", &read)).expect("check") {
        TakeResult::Taken(held) => held.finish(&disposal(End::Removed)).expect("finish"),
        other => panic!("{other:?}"),
    }
    assert_files(bench, &[]);
    assert!(leftovers(&*source).is_empty());
}
