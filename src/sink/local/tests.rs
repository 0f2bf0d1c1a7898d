//! What only a directory does.

use super::*;
use crate::{
    fs::{ExtendedAttributes, Kind},
    sink::{Sealing, TakeBack},
};

const CONTENT: &[u8] = b"content";

fn open(root: &tempfile::TempDir) -> Local {
    Local::open(SinkOptions::offline("main", root.path(), "00000001")).expect("open")
}

fn metadata(mode: u32) -> FileMetadata {
    let identity = Fingerprint { mtime_ns: 1_000_000_000, ..Fingerprint::NONE };
    let own = fs::metadata_of(&std::fs::File::open("/proc/self").expect("open")).expect("stat");
    FileMetadata { kind: Kind::File, identity, mode, owner: own.owner, group: own.group, names: 1 }
}

/// Stages an output for this path and returns it with its intent.
fn stage(sink: &Local, target: &str, sealing: Sealing) -> (Box<dyn Staged>, Output) {
    let mut writer = sink.create(target.as_ref(), &|_| None).expect("create");
    writer.write(CONTENT).expect("write");
    let hash = *blake3::hash(CONTENT).as_bytes();
    let (metadata, extended) = (metadata(0o640), ExtendedAttributes::default());
    let attributes = Attributes { metadata: &metadata, extended: &extended };
    let staged = writer.finish(attributes, &hash, sealing).expect("finish");
    let output = Output {
        path: target.into(),
        temp: staged.staged_name().to_owned(),
        identity: staged.identity(),
        hash,
        source_hash: hash,
        replaces: None,
        transforms: String::new(),
        sha256: None,
    };
    (staged, output)
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).expect("list").count()
}

/// A consumer takes a directory between the look before the intents and the publication.
#[test]
fn an_output_is_taken_back_from_a_directory_that_was_moved() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    let (mut staged, output) = stage(&sink, "below/a", Sealing::Batch);
    let is_displaced = |staged: &dyn Staged| sink.are_displaced(&[(staged, &*output.path)]);
    assert_eq!(is_displaced(&*staged), [false]);
    staged.protect();
    let (below, moved) = (root.path().join("below"), root.path().join("moved"));
    rustix::fs::rename(&below, &moved).expect("rename");
    assert_eq!(is_displaced(&*staged), [true]);
    std::fs::create_dir(&below).expect("directory");
    assert_eq!(is_displaced(&*staged), [true], "another directory has its path");
    assert!(matches!(*sink.were_displaced(&[&output]), [Ok(true)]));
    staged.publish(&output.path, Precondition::Absent).expect("publish");
    assert!(moved.join("a").exists());
    assert_eq!(staged.take_back(&output).expect("take back"), TakeBack::TakenBack);
    assert_eq!((moved.join("a").exists(), count(&moved)), (false, 1));
    staged.unprotect();
    drop(staged);
    assert_eq!(count(&moved), 0, "the intent was withdrawn");
}

#[test]
fn an_output_that_a_consumer_took_is_not_taken_back() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    let (mut staged, output) = stage(&sink, "a", Sealing::Batch);
    staged.publish(&output.path, Precondition::Absent).expect("publish");
    sink.root.dir().unlink("a".as_ref()).expect("remove");
    assert_eq!(staged.take_back(&output).expect("look"), TakeBack::Taken);
}

#[test]
fn a_large_output_is_synced_once_and_one_of_another_sink_never() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    let (mut large, _) = stage(&sink, "a", Sealing::Single);
    assert!(LocalFile::of(&*large).is_some_and(LocalFile::is_synced));
    let store = crate::sink::memory::Store::default();
    let mut writer = store.open("00000001").create("b".as_ref(), &|_| None).expect("create");
    writer.write(CONTENT).expect("write");
    let (metadata, extended) = (metadata(0o640), ExtendedAttributes::default());
    let attributes = Attributes { metadata: &metadata, extended: &extended };
    let mut other = writer.finish(attributes, &[0; 32], Sealing::Batch).expect("finish");
    let sealed = sink.seal(&mut [&mut *large, &mut *other]);
    assert!(matches!(sealed.contents[..], [Ok(()), Err(_)]), "{sealed:?}");
}

#[test]
fn attributes_are_updated_only_of_the_published_output() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    let (mut staged, output) = stage(&sink, "a", Sealing::Batch);
    staged.publish(&output.path, Precondition::Absent).expect("publish");
    let extended = ExtendedAttributes::default();
    let update = |mode| {
        let metadata = metadata(mode);
        let attributes = Attributes { metadata: &metadata, extended: &extended };
        sink.update_attributes(&output, attributes).expect("update")
    };
    assert_eq!(update(0o640), None, "they are the same");
    assert!(update(0o600).is_some());
    let found = sink.root.dir().stat("a".as_ref()).expect("stat").expect("it exists");
    assert_eq!(found.mode & 0o777, 0o600);
    std::fs::write(root.path().join("a"), "another").expect("write");
    assert_eq!(update(0o640), None, "another program wrote it");
}

#[test]
fn a_file_with_the_name_of_a_directory_affects_only_the_outputs_below() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    std::fs::write(root.path().join("below"), "theirs").expect("write");
    let error = sink.create("below/a".as_ref(), &|_| None).expect_err("it is a file");
    assert_eq!(error.kind, ErrorKind::DirectoryTaken);
    assert!(error.path.ends_with("below/a"), "{error:?}");
    drop(sink.create("a".as_ref(), &|_| None).expect("create"));
    assert_eq!(count(root.path()), 1);
}

#[test]
fn another_root_without_files_is_not_mounted_whatever_a_state_directory_in_it_has() {
    let root = tempfile::tempdir().expect("temporary directory");
    let sink = open(&root);
    let inode = sink.root.dir().id().expect("look").inode;
    let is_unmounted = || sink.is_unmounted(inode + 1);
    assert!(!sink.is_unmounted(inode));
    std::fs::create_dir_all(root.path().join(".tidemill")).expect("directory");
    assert!(is_unmounted());
    for name in [fs::LEDGER_NAME, fs::LOCK_NAME] {
        std::fs::write(root.path().join(".tidemill").join(name), "").expect("write");
    }
    assert!(is_unmounted(), "a state directory");
    std::fs::create_dir(root.path().join("d")).expect("directory");
    assert!(is_unmounted(), "a mount point may have directories");
    std::fs::write(root.path().join("d/a"), "").expect("write");
    assert!(!is_unmounted());
}
