//! Work on a path whose file system may not answer: a server that is gone hangs a call for good, or makes
//! every call fail.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
};

static ALONE: AtomicBool = AtomicBool::new(false);
/// What a child found to answer.
static ANSWERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The paths at which a call hangs, and whether it has ended since.
static SILENT: Mutex<Vec<(PathBuf, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

fn silent() -> MutexGuard<'static, Vec<(PathBuf, Arc<AtomicBool>)>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a call at this path, or above it, hangs now.
#[must_use]
pub fn is_hanging(path: &Path) -> bool {
    let mut silent = silent();
    silent.retain(|(_, ended)| !ended.load(Ordering::Acquire));
    silent.iter().any(|(silent, _)| path.starts_with(silent))
}

/// From here to [`end_alone`] this process has one thread: what it gives up, or is kept out of, holds for
/// the threads that come after, and for none that hangs from before. So a child looks first.
pub fn begin_alone() {
    ALONE.store(true, Ordering::Release);
}

/// From here on each look has a thread. What did not answer is asked again.
pub fn end_alone() {
    ALONE.store(false, Ordering::Release);
    silent().clear();
}

/// Does work at a path, and waits for it; `None` where it does not end within
/// [`limits::START_TIMEOUT`]. As long as it hangs, later calls for the same path return at once. A
/// thread or a child that hangs stays until its call returns.
pub fn within<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if is_hanging(path) {
        return None;
    }
    if ALONE.load(Ordering::Acquire) {
        return answers_a_child(path).then(work);
    }
    let ended = Arc::new(AtomicBool::new(false));
    let (made, making) = mpsc::sync_channel(1);
    let has_ended = Arc::clone(&ended);
    let started = thread::Builder::new().name("patience".to_owned()).spawn(move || {
        let work = work();
        has_ended.store(true, Ordering::Release);
        // Who waited may have gone.
        drop(made.send(work));
    });
    started.ok()?;
    let made = making.recv_timeout(limits::START_TIMEOUT);
    if matches!(made, Err(mpsc::RecvTimeoutError::Timeout)) {
        silent().push((path.to_path_buf(), ended));
    }
    made.ok()
}

/// Asked once for each path.
fn answers_a_child(path: &Path) -> bool {
    let mut answered = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    if answered.contains(path) {
        return true;
    }
    // Where no child can be made, the caller's own look has to do.
    let responds = looked_at_by_a_child(path).unwrap_or(true);
    if responds {
        answered.insert(path.to_path_buf());
    } else {
        silent().push((path.to_path_buf(), Arc::default()));
    }
    responds
}

/// A look at a path: whether its file system works, whatever is there.
#[must_use]
pub fn is_available(path: &Path) -> bool {
    !path.metadata().is_err_and(|error| is_unavailable(&error))
}

fn looked_at_by_a_child(path: &Path) -> std::io::Result<bool> {
    let mut child = Command::new("/proc/self/exe")
        .args([OsStr::new("look"), OsStr::new("--"), path.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let until = Instant::now() + limits::START_TIMEOUT;
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], left.ok().as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) => {
                child.kill()?;
                return Ok(false);
            }
            // One that was killed found nothing out.
            Ok(_) => {
                let code = child.wait()?.code();
                return Ok(code != Some(Exit::Storage.code()));
            }
        }
    }
}

/// Whether a look at the path comes back, and from a file system that works.
#[must_use]
pub fn responds(path: &Path) -> bool {
    let asked = path.to_path_buf();
    within(path, move || is_available(&asked)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_told_at_once_the_second_time_until_it_ends() {
        let (release, released) = mpsc::channel::<()>();
        let hangs = Path::new("/hangs");
        assert_eq!(within(hangs, move || released.recv().is_ok()), None);
        assert!(is_hanging(Path::new("/hangs/below")) && !is_hanging(Path::new("/hangs-not")));
        assert_eq!(within(&hangs.join("below"), || panic!("not tried")), None::<()>);
        release.send(()).expect("it waits");
        while is_hanging(hangs) {
            thread::yield_now();
        }
        assert_eq!(within(hangs, || 1), Some(1));
    }
}
