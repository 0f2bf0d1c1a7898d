//! Slots in quarantine, and the way back from there.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
};

use super::{
    super::{Disposal, End, PutBack, QuarantinedSource, Source, SourceError},
    assert_files,
    bench::{Bench, QUARANTINE},
    disposal, identity, take,
};
use crate::{error, fingerprint::Fingerprint};

pub fn a_quarantined_source_has_its_slot_next_to_its_reason(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside(QUARANTINE));
    for content in ["first", "second"] {
        bench.put("d/a", content);
        let slot = source.quarantine_slot(&root, "d/a".as_ref(), &|_| false).expect("slot");
        source.write_reason(&slot, content.as_bytes(), &|_| false).expect("write");
        take(&*source, "d/a").finish(&disposal(End::Quarantined(&slot))).expect("finish");
    }
    assert_files(
        bench,
        &[
            ("/quarantine/d/a", "first"),
            ("/quarantine/d/a.1", "second"),
            ("/quarantine/d/a.1.json", "second"),
            ("/quarantine/d/a.json", "first"),
        ],
    );
    // Another file with the content of one that was moved is another source.
    bench.put("d/a", "second");
    assert!(!source.is_in_slot("d/a".as_ref(), &root.join("d/a.1")));
    take(&*source, "d/a").finish(&disposal(End::Removed)).expect("finish");
    // A reason file without its file is replaced, if it is this source's.
    let slot = source.quarantine_slot(&root, "b".as_ref(), &|_| false).expect("slot");
    source.write_reason(&slot, b"ours", &|_| false).expect("write");
    let again = |ours: &[u8]| {
        source.quarantine_slot(&root, "b".as_ref(), &|text| text == ours).expect("slot")
    };
    assert_eq!(again(b"ours"), slot);
    assert_ne!(again(b"theirs"), slot);
    source.write_reason(&slot, b"ours", &|text| text == b"ours").expect("write");
}

/// Another process may choose the same slot: a record names it, so that a number would mix up the files.
pub fn a_slot_that_was_taken_is_an_error_of_the_target(bench: &impl Bench) {
    let (source, root) = (bench.open(), bench.outside(QUARANTINE));
    bench.put("a", "first");
    let slot = source.quarantine_slot(&root, "a".as_ref(), &|_| false).expect("slot");
    source.write_reason(&slot, b"first", &|_| false).expect("write");
    let refused = source.write_reason(&slot, b"second", &|_| false).expect_err("a reason");
    assert!(is_taken(&refused), "{refused:?}");
    take(&*source, "a").finish(&disposal(End::Quarantined(&slot))).expect("finish");
    bench.put("a", "second");
    let (held, refused) =
        take(&*source, "a").finish(&disposal(End::Quarantined(&slot))).expect_err("a file");
    assert!(is_taken(&refused), "{refused:?}");
    held.put_back().expect("put back");
    assert_files(
        bench,
        &[("/quarantine/a", "first"), ("/quarantine/a.json", "first"), ("a", "second")],
    );
}

fn is_taken(error: &SourceError) -> bool {
    let target = error::target_error(&error.source);
    target.is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

/// Moves a source to its slot, after its reason and its marker, if it has one.
fn quarantine(bench: &impl Bench, source: &dyn Source, path: &str) -> PathBuf {
    let root = bench.outside(QUARANTINE);
    let slot = source.quarantine_slot(&root, path.as_ref(), &|_| false).expect("slot");
    source.write_reason(&slot, b"reason", &|_| false).expect("write");
    let end = End::Quarantined(&slot);
    let disposal = Disposal { marker: Some(".ok"), ..disposal(end) };
    take(source, path).finish(&disposal).expect("finish");
    slot
}

/// Puts a file back for which no record is to follow a copy.
fn put_back(kept: &dyn QuarantinedSource, wanted: &Fingerprint) -> PutBack {
    kept.put_back(wanted, &|_| Ok(()))
}

fn assert_is_back(put_back: &PutBack) {
    assert!(put_back.is_back && put_back.result.is_ok(), "{put_back:?}");
}

fn assert_not_back(put_back: PutBack, kind: io::ErrorKind, slot: &Path) {
    assert!(!put_back.is_back, "{put_back:?}");
    let error = put_back.result.expect_err("not back");
    assert_eq!((error.source.kind(), &*error.path), (kind, slot));
}

pub fn a_quarantined_source_is_put_back_without_its_reason(bench: &impl Bench) {
    let source = bench.open();
    bench.put("d/a", "content");
    let read = identity(&*source, "d/a");
    let slot = quarantine(bench, &*source, "d/a");
    for path in ["d/a", "missing/directories/a"] {
        let kept = source.quarantined(&slot, path.as_ref()).expect("open");
        assert_eq!(kept.in_input().expect("look"), None, "{path}");
    }
    let kept = source.quarantined(&slot, "d/a".as_ref()).expect("open");
    assert!(kept.in_slot().expect("look").expect("kept").matches_content(&read));
    assert_eq!(kept.content_hash().expect("read"), *blake3::hash(b"content").as_bytes());
    let recorded = Cell::new(read);
    assert_is_back(&kept.put_back(&read, &|copy| {
        assert!(!bench.files().contains_key(Path::new("d/a")), "its record follows it first");
        recorded.set(*copy);
        Ok(())
    }));
    assert_files(bench, &[("d/a", "content")]);
    assert!(identity(&*source, "d/a").matches_content(&recorded.get()));
    assert_eq!(kept.in_slot().expect("look"), None);
    assert_eq!(kept.in_input().expect("look"), Some(identity(&*source, "d/a")));
    assert!(kept.content_hash().is_err());
}

pub fn a_file_that_has_both_names_is_not_put_back_and_can_be_removed(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let read = identity(&*source, "a");
    let slot = quarantine(bench, &*source, "a");
    bench.put("a", "content");
    let kept = source.quarantined(&slot, "a".as_ref()).expect("open");
    assert!(kept.in_slot().expect("look").is_some() && kept.in_input().expect("look").is_some());
    assert_not_back(put_back(&*kept, &read), io::ErrorKind::AlreadyExists, &slot);
    assert_files(
        bench,
        &[("/quarantine/a", "content"), ("/quarantine/a.json", "reason"), ("a", "content")],
    );
    kept.remove().expect("remove");
    assert_files(bench, &[("a", "content")]);
}

pub fn an_interrupted_return_is_finished_by_the_next_one(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let slot = quarantine(bench, &*source, "a");
    let kept = source.quarantined(&slot, "a".as_ref()).expect("open");
    assert_is_back(&put_back(&*kept, &Fingerprint::NONE));
    let back = identity(&*source, "a");
    // As it is after the first step.
    source.write_reason(&slot, b"reason", &|_| false).expect("write");
    let other = Fingerprint { size: back.size + 1, ..back };
    assert_not_back(put_back(&*kept, &other), io::ErrorKind::NotFound, &slot);
    assert_files(bench, &[("/quarantine/a.json", "reason"), ("a", "content")]);
    assert_is_back(&kept.put_back(&back, &|_| panic!("nothing is copied")));
    assert_files(bench, &[("a", "content")]);
    bench.remove("a");
    assert_not_back(put_back(&*kept, &back), io::ErrorKind::NotFound, &slot);
}

pub fn a_records_error_leaves_a_copy_in_quarantine(bench: &impl Bench) {
    let source = bench.open();
    bench.put("a", "content");
    let read = identity(&*source, "a");
    let slot = quarantine(bench, &*source, "a");
    let kept = source.quarantined(&slot, "a".as_ref()).expect("open");
    let put_back = kept.put_back(&read, &|_| Err(io::ErrorKind::StorageFull.into()));
    if put_back.is_back {
        // It was renamed: its records have its identity already.
        assert!(identity(&*source, "a").matches_content(&read));
        return assert_is_back(&put_back);
    }
    assert_not_back(put_back, io::ErrorKind::StorageFull, &slot);
    assert_files(bench, &[("/quarantine/a", "content"), ("/quarantine/a.json", "reason")]);
}

pub fn a_marker_comes_back_with_its_source(bench: &impl Bench) {
    let source = bench.open();
    let restore = |path: &str| {
        let read = identity(&*source, path);
        let slot = quarantine(bench, &*source, path);
        let kept = source.quarantined(&slot, path.as_ref()).expect("open");
        assert_is_back(&put_back(&*kept, &read));
        kept
    };
    bench.put("kept", "");
    bench.put("kept.ok", "its producer's");
    restore("kept").restore_marker(".ok").expect("restore");
    bench.put("unmarked", "");
    restore("unmarked").restore_marker(".ok").expect("restore");
    bench.put("marked again", "");
    bench.put("marked again.ok", "earlier");
    let kept = restore("marked again");
    bench.put("marked again.ok", "later");
    kept.restore_marker(".ok").expect("restore");
    assert_files(
        bench,
        &[
            ("kept", ""),
            ("kept.ok", "its producer's"),
            ("marked again", ""),
            ("marked again.ok", "later"),
            ("unmarked", ""),
            ("unmarked.ok", ""),
        ],
    );
}
