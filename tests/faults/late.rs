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
    harness::{Tree, until},
    prove,
};

const BLOCK: u64 = 4096;

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
    file.write_all_at(&[0xa5; BLOCK as usize], bitmap * BLOCK).expect("damage");
    let at = at.to_str().expect("UTF-8");
    succeeds("mount", &["-o", "loop", name, at])?;
    Some(Damaged(at.into()))
}

/// What was acknowledged has its content, and what has no output has its source.
fn loses_nothing(small: usize, large: usize, more: &[&str]) {
    let mut tree = Tree::new();
    let Some(disk) = damaged(&tree, &tree.path("out")) else {
        return prove::skipped("late errors", "no loop device, or no ext4, can be mounted here");
    };
    for number in 0..small {
        tree.put(&format!("{number}.log"), format!("{number:08}").repeat(450).as_bytes());
    }
    for number in 0..large {
        tree.put(&format!("{number}.bin"), format!("{number:08}").repeat(400_000).as_bytes());
    }
    let (gate, state) = (tree.path("gate"), tree.path("state"));
    fs::write(&gate, "").expect("gate");
    let state = state.to_str().expect("UTF-8");
    let args = ["--state-dir", state, "--steps", "copy", "--settle", "0s"];
    let failpoints = format!("commit::sync=return(while:{})", gate.display());
    let service = tree.start_with(&failpoints, "delete", &[&args, more].concat());
    let is_staged = |files: &[PathBuf]| {
        files.iter().filter(|path| path.to_string_lossy().ends_with(".tmp")).count() == small
    };
    until("all are staged", || is_staged(&tree.files("out")) || tree.log().contains("sick"));
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(&gate).expect("gate");
    let ended = |tree: &Tree| tree.files("in").is_empty() || tree.log().contains("sick");
    until("all is done, or the place is sick", || ended(&tree));
    service.signal(Signal::TERM);
    let code = service.wait();
    assert!([0, 74, 75].contains(&code), "{code}\n{}", tree.log());
    for (path, content) in &tree.contents {
        let source = fs::read(tree.path("in").join(path));
        let output = fs::read(tree.path("out").join(path));
        let whole =
            |found: &std::io::Result<Vec<u8>>| found.as_ref().is_ok_and(|found| found == content);
        assert!(output.is_err() || whole(&output), "{path:?} has another content\n{}", tree.log());
        assert!(whole(&source) || whole(&output), "{path:?} is lost\n{}", tree.log());
    }
    for source in tree.acknowledged().keys() {
        assert!(tree.path("out").join(source).exists(), "{source:?}\n{}", tree.log());
    }
    drop(disk);
}

#[test]
fn one_output_without_a_block_is_not_acknowledged() {
    loses_nothing(1, 0, &[]);
}

#[test]
fn two_outputs_without_a_block_are_not_acknowledged() {
    loses_nothing(2, 0, &[]);
}

#[test]
fn forty_outputs_without_a_block_are_not_acknowledged() {
    loses_nothing(40, 0, &[]);
}

#[test]
fn forty_outputs_without_a_block_are_not_acknowledged_by_one_call() {
    loses_nothing(40, 0, &["--durability", "syncfs"]);
}

#[test]
fn a_large_output_without_a_block_is_not_acknowledged() {
    loses_nothing(0, 1, &[]);
    loses_nothing(0, 1, &["--durability", "syncfs"]);
}
