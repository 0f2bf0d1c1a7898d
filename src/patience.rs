//! Work on a path whose file system may not answer: a server that is gone hangs a call for good.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use crate::limits;

/// The paths at which a call hangs, and whether it has ended since.
static SILENT: Mutex<Vec<(PathBuf, Arc<AtomicBool>)>> = Mutex::new(Vec::new());

fn silent() -> MutexGuard<'static, Vec<(PathBuf, Arc<AtomicBool>)>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a call at this path, or above it, hangs now.
#[must_use]
pub fn is_silent(path: &Path) -> bool {
    let mut silent = silent();
    silent.retain(|(_, ended)| !ended.load(Ordering::Acquire));
    silent.iter().any(|(silent, _)| path.starts_with(silent))
}

/// Does work at a path on a thread of its own, and waits for it; `None` where it does not end within
/// [`limits::START_PATIENCE`]. As long as it hangs, who asks for the same path is told so at once. A
/// thread that hangs stays until its call returns.
pub fn within<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if is_silent(path) {
        return None;
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
    let made = making.recv_timeout(limits::START_PATIENCE);
    if matches!(made, Err(mpsc::RecvTimeoutError::Timeout)) {
        silent().push((path.to_path_buf(), ended));
    }
    made.ok()
}

/// Whether a look at the path comes back, whatever it finds.
#[must_use]
pub fn answers(path: &Path) -> bool {
    let asked = path.to_path_buf();
    within(path, move || drop(asked.metadata())).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_told_at_once_the_second_time_until_it_ends() {
        let (release, released) = mpsc::channel::<()>();
        let hangs = Path::new("/hangs");
        assert_eq!(within(hangs, move || released.recv().is_ok()), None);
        assert!(is_silent(Path::new("/hangs/below")) && !is_silent(Path::new("/hangs-not")));
        assert_eq!(within(&hangs.join("below"), || panic!("not tried")), None::<()>);
        release.send(()).expect("it waits");
        while is_silent(hangs) {
            thread::yield_now();
        }
        assert_eq!(within(hangs, || 1), Some(1));
    }
}
