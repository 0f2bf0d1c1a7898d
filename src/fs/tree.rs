//! Removes a directory with everything in it, whatever its directories permit.

use std::{
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, unlinkat},
    io::Errno,
};

use super::{Kind, Walk};

/// Deeper directories are not made writable.
const DEPTH_MAX: u32 = 128;

/// Removes a directory with everything in it; a missing one is no error. The directories in it may deny
/// that to their owner, who is this process's user. Paths that are longer than the kernel takes are an error:
/// a program can nest directories without end, and a recursion over them would end the process.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match remove_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Another user's directory stays as it is, and may be empty.
            drop(make_writable((CWD, path.as_os_str()), DEPTH_MAX));
            remove_all(path)
        }
        removed => removed,
    }
}

/// Removes a tree, one directory after the other. Goes on after an error, and returns the first one.
fn remove_all(path: &Path) -> io::Result<()> {
    let root = match super::Dir::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        root => Arc::new(root?),
    };
    let mut first = Ok(());
    let mut note = |result: io::Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    let mut dirs = Vec::new();
    for entry in Walk::new(Arc::clone(&root), PathBuf::new()) {
        match entry {
            Ok(entry) if entry.kind == Kind::Directory => dirs.push(entry.path),
            Ok(entry) => note(remove(&root, &entry.path, AtFlags::empty())),
            Err((_, error)) => note(Err(error)),
        }
    }
    // Those below come after those above.
    for dir in dirs.iter().rev() {
        note(remove(&root, dir, AtFlags::REMOVEDIR));
    }
    note(std::fs::remove_dir(path));
    first
}

fn remove(root: &super::Dir, path: &Path, flags: AtFlags) -> io::Result<()> {
    let (parent, name) = super::split(path);
    Ok(unlinkat(root.open_beneath(parent)?, name, flags)?)
}

/// Makes a directory writable, and those in it; anything else stays as it is, and no link is followed.
fn make_writable((parent, name): (impl AsFd, &OsStr), depth: u32) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match openat(parent, name, flags | OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::NOENT) => return Ok(()),
        dir => dir?,
    };
    // It cannot be opened for reading yet, and a name may lead elsewhere by now.
    let by_handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir));
    chmodat(CWD, by_handle, Mode::RWXU, AtFlags::empty())?;
    for entry in Dir::new(openat(&dir, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        let may_be_dir = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if may_be_dir && depth > 0 && name != c"." && name != c".." {
            use std::os::unix::ffi::OsStrExt;
            drop(make_writable((&dir, OsStr::from_bytes(name.to_bytes())), depth - 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, chown},
    };

    use rustix::{process::Uid, thread::set_thread_res_uid};

    use super::*;

    #[test]
    fn a_tree_that_denies_it_is_removed_and_no_link_is_followed() {
        const NOBODY: u32 = 65534;
        let outer = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| outer.path().join(name);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        mode(outer.path(), 0o777);
        fs::create_dir(path("elsewhere")).expect("directory");
        mode(&path("elsewhere"), 0o555);
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            chown(path("elsewhere"), Some(NOBODY), None).expect("chown");
        }
        let work = || {
            if is_root {
                // Of this thread alone: root may remove everything.
                let nobody = Uid::from_raw(NOBODY);
                set_thread_res_uid(nobody, nobody, nobody).expect("another user");
            }
            fs::create_dir_all(path("run/a/b/c")).expect("directories");
            fs::write(path("run/a/b/file"), "").expect("write");
            std::os::unix::fs::symlink(path("elsewhere"), path("run/a/link")).expect("link");
            mode(&path("run/a/b/c"), 0o000);
            mode(&path("run/a/b"), 0o555);
            mode(&path("run/a"), 0o500);
            remove_all(&path("run")).expect_err("it denies that");
            remove_tree(&path("run")).expect("removed");
            remove_tree(&path("run")).expect("it is gone");
        };
        std::thread::scope(|scope| scope.spawn(work).join()).expect("the thread");
        assert!(!path("run").exists());
        let found = fs::metadata(path("elsewhere")).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, 0o555);
    }
    /// A recursion over them ended the process, at each start.
    #[test]
    fn directories_that_are_nested_without_end_are_an_error() {
        let outer = tempfile::tempdir().expect("temporary directory");
        let top = outer.path().join("run");
        fs::create_dir(&top).expect("directory");
        let mut dir =
            openat(CWD, &top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&dir, c"d", Mode::RWXU).expect("directory");
            dir =
                openat(&dir, c"d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open");
        }
        drop(remove_tree(&top));
        // The test removes it from below.
        let mut removed = std::process::Command::new("rm");
        assert!(removed.arg("-rf").arg(&top).status().expect("rm").success());
    }
}
