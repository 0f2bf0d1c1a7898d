//! Calls on a path whose file system may not respond: an unreachable server blocks a call indefinitely,
//! or fails every call.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    error::{Exit, is_unavailable},
    limits,
    sync::Mutex,
};

/// Whether the process must have one thread only.
static SINGLE_THREADED: AtomicBool = AtomicBool::new(false);
/// The paths at which a child's check succeeded.
static RESPONDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The paths with a hanging call, each with a flag that the call sets when it ends.
static HANGING: Mutex<Vec<(PathBuf, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

fn hanging() -> MutexGuard<'static, Vec<(PathBuf, Arc<AtomicBool>)>> {
    HANGING.lock()
}

/// Checks whether a call at this path, or above it, hangs now.
#[must_use]
pub fn is_hanging(path: &Path) -> bool {
    let mut hanging = hanging();
    hanging.retain(|(_, has_ended)| !has_ended.load(Ordering::Acquire));
    hanging.iter().any(|(hanging_path, _)| path.starts_with(hanging_path))
}

/// Begins the single-threaded start of the process, until [`end_single_threaded`]: dropped privileges
/// and the sandbox hold for threads that start later, and not for a thread that hangs from before. So
/// a child checks each path first.
pub fn begin_single_threaded() {
    SINGLE_THREADED.store(true, Ordering::Release);
}

/// Ends the single-threaded start: from here on a thread runs each call, and paths that did not respond
/// are checked again.
pub fn end_single_threaded() {
    SINGLE_THREADED.store(false, Ordering::Release);
    hanging().clear();
}

/// Runs `work` on a path and waits for it; `None` if it does not end within
/// [`limits::START_TIMEOUT`]. As long as it hangs, later calls for the same path return at once. A
/// hanging thread or child remains until its call returns.
pub fn within<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if is_hanging(path) {
        return None;
    }
    if SINGLE_THREADED.load(Ordering::Acquire) {
        return responds_to_child(path).then(work);
    }
    let has_ended = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread_has_ended = Arc::clone(&has_ended);
    let spawned = thread::Builder::new().name("patience".to_owned()).spawn(move || {
        let result = work();
        thread_has_ended.store(true, Ordering::Release);
        // The receiver is gone after a timeout.
        drop(sender.send(result));
    });
    spawned.ok()?;
    let result = receiver.recv_timeout(limits::START_TIMEOUT);
    if matches!(result, Err(mpsc::RecvTimeoutError::Timeout)) {
        hanging().push((path.to_path_buf(), has_ended));
    }
    result.ok()
}

/// Checks a path in a child; a path that responded is not checked again.
fn responds_to_child(path: &Path) -> bool {
    let mut responding = RESPONDING.lock();
    if responding.contains(path) {
        return true;
    }
    // Without a child the caller's own call is the check.
    let responds = check_in_child(path).unwrap_or(true);
    if responds {
        responding.insert(path.to_path_buf());
    } else {
        hanging().push((path.to_path_buf(), Arc::default()));
    }
    responds
}

/// Checks whether the file system of a path works, whether or not the path exists.
#[must_use]
pub fn is_available(path: &Path) -> bool {
    !path.metadata().is_err_and(|error| is_unavailable(&error))
}

fn check_in_child(path: &Path) -> std::io::Result<bool> {
    let mut child = Command::new("/proc/self/exe")
        .args([OsStr::new("look"), OsStr::new("--"), path.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let deadline = Instant::now() + limits::START_TIMEOUT;
    loop {
        let timeout = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.ok().as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => {
                child.kill()?;
                return Ok(false);
            }
            // A child that was killed has no code, and counts as a response.
            Ok(_) => {
                let code = child.wait()?.code();
                return Ok(code != Some(Exit::Storage.code()));
            }
        }
    }
}

/// Checks whether a call on the path returns, and its file system works.
#[must_use]
pub fn responds(path: &Path) -> bool {
    let owned_path = path.to_path_buf();
    within(path, move || is_available(&owned_path)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_on_a_hanging_path_returns_at_once_until_the_first_one_ends() {
        let (release, wait_for_release) = mpsc::channel::<()>();
        let path = Path::new("/hangs");
        assert_eq!(within(path, move || wait_for_release.recv().is_ok()), None);
        assert!(is_hanging(Path::new("/hangs/below")) && !is_hanging(Path::new("/hangs-not")));
        assert_eq!(within(&path.join("below"), || panic!("it was called")), None::<()>);
        release.send(()).expect("the receiver waits");
        while is_hanging(path) {
            thread::yield_now();
        }
        assert_eq!(within(path, || 1), Some(1));
    }
}
