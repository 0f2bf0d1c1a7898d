//! A disk that cannot take what the kernel has accepted: a real ext4 whose block bitmap is damaged.
//!
//! The kernel accepts every write, and finds no block for it later. It reports that to who began the
//! write, which may be its own flusher, and drops the content: the `fsync` after that succeeds.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::{
    harness::{LINKS, Tree, until},
    prove,
};

const BLOCK: usize = 4096;

/// A mounted image under a loop device. Dropping it unmounts it, and the device goes with that.
struct Damaged(PathBuf);

impl Drop for Damaged {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

fn succeeds(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Mounts such a file system at a directory; none where that is not possible here.
fn damaged(tree: &Tree, at: &Path) -> Option<Damaged> {
    let image = tree.path("image");
    let name = image.to_str().expect("UTF-8");
    fs::File::create_new(&image).and_then(|file| file.set_len(64 << 20)).expect("image");
    succeeds("mkfs.ext4", &["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0", name])?;
    let described = succeeds("dumpe2fs", &[name])?;
    let (_, bitmap) = described.split_once("Block bitmap at ").expect("a block bitmap");
    let bitmap: String = bitmap.chars().take_while(char::is_ascii_digit).collect();
    let bitmap: u64 = bitmap.parse().expect("a block");
    let file = fs::File::options().write(true).open(&image).expect("open");
    file.write_all_at(&[0xa5; BLOCK], bitmap * BLOCK as u64).expect("damage");
    let at = at.to_str().expect("UTF-8");
    succeeds("mount", &["-o", "loop", name, at])?;
    Some(Damaged(at.into()))
}

/// The directory that is on the disk.
#[derive(Clone, Copy, Default, PartialEq)]
enum Disk {
    #[default]
    Output,
    Archive,
}

/// What is tried on such a disk.
#[derive(Clone, Copy, Default)]
struct Case {
    small: usize,
    large: usize,
    /// The kernel writes everything before the service does, and takes the error.
    is_flushed: bool,
    syncfs: bool,
    links: bool,
    disk: Disk,
    failpoints: &'static str,
}

/// The sources without an output of their content; none where this cannot be tried here.
fn lost(case: Case) -> Option<Vec<PathBuf>> {
    let mut tree = Tree::new();
    let is_archive = case.disk == Disk::Archive;
    let at = tree.path(if is_archive { "archive" } else { "out" });
    let Some(disk) = damaged(&tree, &at) else {
        prove::skipped("late errors", "no loop device, or no ext4, can be mounted here");
        return None;
    };
    for number in 0..case.small {
        tree.put(&format!("{number}.log"), format!("{number:08}").repeat(450).as_bytes());
    }
    for number in 0..case.large {
        tree.put(&format!("{number}.bin"), format!("{number:08}").repeat(400_000).as_bytes());
    }
    let (gate, state) = (tree.path("gate"), tree.path("state"));
    fs::write(&gate, "").expect("gate");
    let durability = if case.syncfs { "syncfs" } else { "fsync" };
    let args = ["--state-dir", state.to_str().expect("UTF-8"), "--transform", "copy"];
    let more = ["--settle", "0s", "--durability", durability];
    let links = if case.links { LINKS } else { "" };
    // The copy to the archive is written, and not synced.
    let step = if is_archive { "move::chunk" } else { "commit::sync" };
    let failpoints = format!("{links};{step}=return(while:{});{}", gate.display(), case.failpoints);
    let on_success = if is_archive { "archive" } else { "delete" };
    let service = tree.start_with(&failpoints, on_success, &[args, more].concat());
    // With their content: what is written after the flush below is the service's to flush.
    let is_written = |path: &PathBuf| {
        let found = fs::metadata(at.join(path));
        let is_ours =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tidemill"));
        is_ours && found.is_ok_and(|found| found.len() > 0)
    };
    let dir = if is_archive { "archive" } else { "out" };
    let staged = |files: Vec<PathBuf>| files.iter().filter(|path| is_written(path)).count();
    // One source at a time is copied to the archive.
    let count = if is_archive { 1 } else { case.small };
    let all = || staged(tree.files(dir)) == count || tree.log().contains("storage unavailable");
    until("all are staged", all);
    if case.is_flushed {
        // It says that all is well, or not: the error is not the service's to hear.
        Command::new("sync").arg("-f").arg(&at).status().expect("sync");
    }
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(&gate).expect("gate");
    let ended = || tree.files("in").is_empty() || tree.log().contains("storage unavailable");
    until("all is done, or storage is unavailable", ended);
    service.signal(Signal::TERM);
    let code = service.wait();
    assert!([0, 74, 75].contains(&code), "{code}\n{}", tree.log());
    let is_lost = |(path, content): &(&PathBuf, &Vec<u8>)| {
        let has = |dir| fs::read(tree.path(dir).join(path)).ok().map(|found| found == **content);
        let (source, output) = (has("in"), has(dir));
        let source = source.or_else(|| has("state/quarantine/main"));
        output == Some(false) || (source, output) == (None, None) || source == Some(false)
    };
    let lost: Vec<_> = tree.contents.iter().filter(is_lost).map(|(path, _)| path.clone()).collect();
    for source in tree.acknowledged().keys() {
        assert!(tree.path("out").join(source).exists(), "{source:?}\n{}", tree.log());
    }
    drop(disk);
    Some(lost)
}

fn loses_nothing(case: Case) {
    if let Some(lost) = lost(case) {
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn outputs_without_a_block_are_not_acknowledged() {
    for small in [1, 2, 40] {
        for is_flushed in [false, true] {
            for syncfs in [false, true] {
                loses_nothing(Case { small, is_flushed, syncfs, ..Case::default() });
            }
        }
    }
    // The look at the content finds all that the start of the writes reports.
    let failpoints = "barrier::writeback=return(out)";
    loses_nothing(Case { small: 40, syncfs: true, failpoints, ..Case::default() });
}

#[test]
fn a_large_output_without_a_block_is_not_acknowledged() {
    for syncfs in [false, true] {
        loses_nothing(Case { large: 1, syncfs, ..Case::default() });
    }
}

#[test]
fn what_has_no_block_is_not_acknowledged_by_a_link_nor_archived() {
    for is_flushed in [false, true] {
        loses_nothing(Case { small: 40, links: true, is_flushed, ..Case::default() });
        for links in [false, true] {
            let case = Case { disk: Disk::Archive, links, is_flushed, ..Case::default() };
            loses_nothing(Case { small: 3, ..case });
        }
    }
}

/// The mutants: what this rests on is left out, and the loss is seen.
#[test]
fn an_output_that_is_not_looked_at_again_is_lost_where_the_kernel_wrote_it_first() {
    let failpoints = "barrier::content=return(out)";
    // One file by its own sync, and many by that of their group. On a busy machine the kernel may report its
    // error to the service, which pauses.
    let cases = [(1, false), (40, true)].map(|(small, syncfs)| {
        lost(Case { small, syncfs, is_flushed: true, failpoints, ..Case::default() })
    });
    let tried: Vec<_> = cases.into_iter().flatten().collect();
    let is_shown = tried.iter().any(|lost| !lost.is_empty());
    assert!(is_shown || tried.is_empty(), "the disk took what it was given");
}
