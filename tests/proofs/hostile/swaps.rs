//! A producer that swaps its files and directories under the service's hands.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
};

use crate::{
    files::{Running, TestDir, decompressed, tree, until},
    hostile::{NOBODY, is_root, programs},
    prove,
};

const SECRET: &str = "the secret that only root may read";

/// A place whose input and staging directory are the producer's; what is outside is not.
fn place(producer: u32) -> TestDir {
    let place = TestDir::new();
    let root = place.root();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    for dir in ["staging", "in/dir", "outside", "outside/dir"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    for secret in ["outside/secret", "outside/dir/file"] {
        fs::write(root.join(secret), SECRET).unwrap();
        fs::set_permissions(root.join(secret), fs::Permissions::from_mode(0o600)).unwrap();
    }
    symlink(root.join("outside/dir"), root.join("staging/dir")).unwrap();
    for dir in ["in", "in/dir", "staging"] {
        chown(root.join(dir), Some(producer), Some(producer)).unwrap();
    }
    place
}

/// What a file is, and that nobody touched it.
type Untouched = (PathBuf, Vec<u8>, u32, u32, u64, i64, i64);

fn untouched(dir: &Path) -> Vec<Untouched> {
    let of = |path: PathBuf| {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = fs::read(&path).unwrap();
        let (mode, owner, names) = (found.mode(), found.uid(), found.nlink());
        (path, content, mode, owner, names, found.ctime(), found.ctime_nsec())
    };
    tree(dir).into_iter().map(of).collect()
}

/// Whether the binary that runs the tests can be run by everyone.
fn is_reachable(binary: &Path) -> bool {
    let all = |path: &Path| fs::metadata(path).is_ok_and(|found| found.mode() & 1 == 1);
    binary.ancestors().all(all)
}

/// The producer's swaps under a service that deletes, or archives, what it took.
fn swapped(name: &str, producer: u32, on_success: &str) {
    let place = place(producer);
    let root = place.root();
    let before = untouched(&root.join("outside"));
    // Without the sandbox: what is shown here is that no name is followed, whatever the sandbox would allow.
    let options = ["--sandbox", "off", "--settle", "0s", "--temporary-names", "take"];
    let running = place.watch(&[&options[..], &["--on-success", on_success]].concat());
    let mut swaps = programs::child("swaps");
    swaps.env(programs::ROOT, &root).uid(producer).gid(producer);
    let swaps = Running::start(&mut swaps);
    let wanted = prove::count(500);
    // Most have another name, or none, before their output is published.
    let taken = |log: &str| {
        log.matches("msg=published ").count() + log.matches(" before publishing, ").count()
    };
    until("files are read", || {
        let log = running.log();
        taken(&log) >= wanted && log.contains("msg=published ")
    });
    fs::write(root.join(programs::STOP), "").unwrap();
    let swapped = swaps.end();
    assert_eq!(swapped.code, 0, "{swapped:?}");
    let ended = running.stop();
    // What vanished under its hands may be left to be tried again.
    assert!([0, 75].contains(&ended.code), "{ended:?}");
    let outputs = tree(&place.output());
    assert!(!outputs.is_empty());
    for output in outputs {
        assert_eq!(String::from_utf8_lossy(&decompressed(&output)), "mine", "{}", output.display());
    }
    for kept in [place.state(), root.join("archive")].iter().flat_map(|dir| tree(dir)) {
        let kind = fs::symlink_metadata(&kept).unwrap();
        assert!(kind.is_file(), "{}", kept.display());
        let content = fs::read(&kept).unwrap();
        let secret = content.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
        assert!(!secret, "{}", kept.display());
    }
    assert_eq!(untouched(&root.join("outside")), before);
    let (_, count) = swapped.stdout.split_once("swaps: ").unwrap();
    let count = count.lines().next().unwrap();
    prove::report(
        name,
        &[("swaps", &count), ("published", &ended.stderr.matches("msg=published ").count())],
    );
}

#[test]
fn no_swap_of_an_unprivileged_producer_leads_root_to_what_it_may_not_read() {
    let name = "no_swap_of_an_unprivileged_producer_leads_root_to_what_it_may_not_read";
    if !is_root() {
        return prove::skipped(name, "this is not root");
    }
    if !is_reachable(&std::env::current_exe().unwrap()) {
        return prove::skipped(name, "the tests cannot be run by another user here");
    }
    for on_success in ["delete", "archive:archive", "keep"] {
        swapped(name, NOBODY, on_success);
    }
}

#[test]
fn devices_fifos_and_sockets_that_take_a_files_name_block_nothing() {
    let name = "devices_fifos_and_sockets_that_take_a_files_name_block_nothing";
    if !is_root() {
        return prove::skipped(name, "only root makes device nodes");
    }
    swapped(name, 0, "delete");
}
