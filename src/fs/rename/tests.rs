use std::sync::Arc;

use super::*;
use crate::fs::{NodeId, Temp, private_name};

/// Makes a directory on a file system without `RENAME_NOREPLACE`, as long as the scenario lives.
fn without_no_replace() -> (fail::FailScenario<'static>, tempfile::TempDir, Arc<Dir>) {
    let scenario = fail::FailScenario::setup();
    fail::cfg("gate::no_replace", "return(out)").expect("configure");
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = Arc::new(Dir::open(root.path()).expect("open"));
    (scenario, root, dir)
}

fn names(root: &tempfile::TempDir) -> Vec<OsString> {
    let entries = std::fs::read_dir(root.path()).expect("list");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    names
}

fn put(root: &tempfile::TempDir, name: &str, content: &str) {
    std::fs::write(root.path().join(name), content).expect("write");
}

#[test]
fn a_file_gets_its_name_by_a_link_and_keeps_no_other() {
    let (_scenario, root, dir) = without_no_replace();
    put(&root, "old", "ours");
    dir.rename("old".as_ref(), &dir, "new".as_ref(), Overwrite::Never).expect("rename");
    assert_eq!(names(&root), ["new"]);
}

#[test]
fn a_link_never_replaces_what_has_the_name() {
    let (_scenario, root, dir) = without_no_replace();
    put(&root, "old", "ours");
    put(&root, "new", "theirs");
    let error =
        dir.rename("old".as_ref(), &dir, "new".as_ref(), Overwrite::Never).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(names(&root), ["new", "old"]);
    assert_eq!(std::fs::read(root.path().join("new")).expect("read"), b"theirs");
}

#[test]
fn a_rename_interrupted_with_both_names_is_finished_by_the_same_call() {
    let (_scenario, root, dir) = without_no_replace();
    put(&root, "old", "ours");
    std::fs::hard_link(root.path().join("old"), root.path().join("new")).expect("link");
    dir.rename("old".as_ref(), &dir, "new".as_ref(), Overwrite::Never).expect("rename");
    assert_eq!(names(&root), ["new"]);
}

/// On NFS the kernel finds the name taken first, and returns `EEXIST` instead of `EINVAL`.
#[test]
fn two_names_of_one_file_are_detected_when_the_kernel_reports_the_name_as_taken() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = Arc::new(Dir::open(root.path()).expect("open"));
    put(&root, "old", "ours");
    std::fs::hard_link(root.path().join("old"), root.path().join("new")).expect("link");
    dir.rename("old".as_ref(), &dir, "new".as_ref(), Overwrite::Never).expect("rename");
    assert_eq!(names(&root), ["new"]);
}

#[test]
fn a_published_temp_keeps_its_name_until_the_final_one_is_durable() {
    let (_scenario, root, dir) = without_no_replace();
    let mut temp = Temp::create(&dir, &NodeId::new("0")).expect("create");
    temp.protect();
    let name = temp.name().to_owned();
    let second_name =
        temp.publish("final".as_ref(), Overwrite::Never).expect("publish").expect("linked");
    assert_eq!(names(&root), [name, "final".into()]);
    second_name.remove().expect("remove");
    assert_eq!(names(&root), ["final"]);
}

#[test]
fn a_private_name_needs_neither_the_flag_nor_links_and_never_replaces() {
    let (_scenario, root, dir) = without_no_replace();
    fail::cfg("gate::links", "return(out)").expect("configure");
    let own = private_name(&NodeId::new("0"), 7);
    put(&root, "source", "first");
    dir.rename_to_own("source".as_ref(), &own).expect("take");
    assert_eq!(names(&root), std::slice::from_ref(&own));
    put(&root, "source", "second");
    let error = dir.rename_to_own("source".as_ref(), &own).expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(root.path().join(&own)).expect("read"), b"first");
}

#[test]
fn a_file_system_with_neither_is_unavailable() {
    let (_scenario, root, dir) = without_no_replace();
    fail::cfg("gate::links", "return(out)").expect("configure");
    put(&root, "old", "ours");
    let error =
        dir.rename("old".as_ref(), &dir, "new".as_ref(), Overwrite::Never).expect_err("neither");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(crate::error::blames_output(&error));
    assert_eq!(names(&root), ["old"]);
}

/// The archive has another file of this name. Without the same number again the file would be there
/// twice.
#[test]
fn a_numbered_name_that_an_interrupted_call_gave_is_kept() {
    let (_scenario, root, dir) = without_no_replace();
    put(&root, "old", "ours");
    for name in ["new", "new.1", "new.2"] {
        put(&root, name, "theirs");
    }
    let number = std::fs::hard_link(root.path().join("old"), root.path().join("new.3"));
    number.expect("link");
    dir.rename_to_free("old".as_ref(), &dir, "new".as_ref()).expect("rename");
    assert_eq!(names(&root), ["new", "new.1", "new.2", "new.3"]);
    assert_eq!(std::fs::read(root.path().join("new.3")).expect("read"), b"ours");
}
