//! A real tree: 10,000 files of this machine, through `--once` and through a live watch.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::harness::{Tree, decode, decoder, until};

const FILES: usize = 10_000;
const ROOTS: [&str; 4] = ["/usr/share", "/usr/include", "/usr/lib", "/etc"];

/// Regular files that can be read, of at most a megabyte, in the order of their names.
fn files_of_this_machine() -> Vec<PathBuf> {
    let mut found = Vec::new();
    // A small machine has the sources of the crates at least: they were built just now.
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut pending: Vec<PathBuf> =
        cargo.map(|cargo| cargo.join("registry/src")).into_iter().collect();
    pending.extend(ROOTS.iter().rev().map(PathBuf::from));
    while let Some(dir) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            match entry.metadata() {
                Ok(seen) if seen.is_dir() => pending.push(entry.path()),
                Ok(seen) if seen.is_file() && seen.len() <= 1 << 20 => found.push(entry.path()),
                _ => {}
            }
            if found.len() == FILES {
                return found;
            }
        }
    }
    found
}

/// Copies them into the input, under the paths they have.
fn fill(tree: &Tree) -> BTreeMap<PathBuf, PathBuf> {
    let files = files_of_this_machine();
    assert_eq!(
        files.len(),
        FILES,
        "this machine has too few files below {ROOTS:?} and in cargo's registry"
    );
    let mut copies = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix("/").expect("absolute").to_path_buf();
        let copy = tree.path("in").join(&relative);
        fs::create_dir_all(copy.parent().expect("a parent")).expect("directory");
        fs::copy(&file, &copy).expect("copy");
        copies.insert(relative, copy);
    }
    copies
}

fn assert_each_output_is_its_source(tree: &Tree, sources: &BTreeMap<PathBuf, PathBuf>) {
    let mut unzstd = decoder();
    for (relative, source) in sources {
        let output = tree.path("out").join(format!("{}.zst", relative.display()));
        let packed = fs::read(&output).unwrap_or_else(|error| panic!("{output:?}: {error}"));
        let content = fs::read(source).expect("the source is kept");
        assert!(decode(&mut unzstd, &packed) == content, "{output:?}");
    }
    assert_eq!(tree.files("out").len(), sources.len());
    tree.assert_no_leftovers();
    let acknowledged = tree.acknowledged();
    assert_eq!(acknowledged.len(), sources.len());
    assert!(acknowledged.values().all(|count| *count == 1));
}

/// Every file is taken, whatever its name.
fn once(tree: &Tree) -> i32 {
    tree.start("keep", &["--temporary-names", "take", "--once"]).wait()
}

#[test]
fn ten_thousand_files_of_this_machine_go_through_once() {
    let tree = Tree::new();
    let sources = fill(&tree);
    assert_eq!(once(&tree), 0, "{}", tree.log());
    assert_each_output_is_its_source(&tree, &sources);
    assert_eq!(once(&tree), 0, "{}", tree.log());
    assert!(tree.log().contains(&format!("{FILES} skipped")), "nothing is done twice");
    assert_each_output_is_its_source(&tree, &sources);
}

#[test]
fn ten_thousand_files_of_this_machine_go_through_a_live_watch() {
    let tree = Tree::new();
    let service = tree.start("keep", &["--temporary-names", "take"]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    let sources = fill(&tree);
    until("all are published", || count_lines(&tree.path("events")) == FILES);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    assert_each_output_is_its_source(&tree, &sources);
}

fn count_lines(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().split(|byte| *byte == b'\n').count() - 1
}
