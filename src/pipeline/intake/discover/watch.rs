//! The operating system's watch on an input, recursively.

use std::path::{Path, PathBuf};

use notify::{
    Config, ErrorKind, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};

use super::{EventQueue, NameEvent};

/// A running watch. Dropping it ends its thread and closes its descriptors.
#[derive(Debug)]
pub struct Watch {
    _watcher: RecommendedWatcher,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel's table is full (`fs.inotify.max_user_watches` or `max_user_instances`).
    #[error("the kernel's limit of watches is reached (sysctl fs.inotify.max_user_watches)")]
    Limit(#[source] notify::Error),
    #[error("cannot watch")]
    Other(#[source] notify::Error),
}

impl Watch {
    /// Watches a directory and all below it; what happens goes into `hints`.
    ///
    /// Only what tells of a finished or a vanished file is asked for, so that reading a file does
    /// not raise an event and the kernel's queue holds twice as many.
    pub fn start(root: &Path, hints: EventQueue) -> Result<Self, WatchError> {
        let mask = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_follow_symlinks(false).with_event_kinds(mask);
        let below = root.to_path_buf();
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => take_in(&hints, &below, event),
            Err(error) => {
                tracing::warn!(event = "intake.watch_failed", %error, "watch error, running a full scan");
                hints.overflow();
            }
        };
        let mut watcher = RecommendedWatcher::new(handler, config).map_err(classify)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(classify)?;
        Ok(Self { _watcher: watcher })
    }
}

fn classify(error: notify::Error) -> WatchError {
    match error.kind {
        ErrorKind::MaxFilesWatch => WatchError::Limit(error),
        ErrorKind::Io(ref io) if io.raw_os_error() == Some(libc::EMFILE) => {
            WatchError::Limit(error)
        }
        _ => WatchError::Other(error),
    }
}

fn take_in(hints: &EventQueue, root: &Path, event: Event) {
    crate::failpoint::pass("discover::event");
    // Has no path: it must be asked for before any path is looked at.
    if event.need_rescan() {
        return hints.overflow();
    }
    let told = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => NameEvent::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => NameEvent::RenamedHere,
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            return renamed(hints, root, &event.paths);
        }
        _ => NameEvent::Named,
    };
    for path in event.paths {
        match path.strip_prefix(root).map(PathBuf::from) {
            Ok(relative) if relative.as_os_str().is_empty() => hints.root(),
            Ok(relative) => hints.path(relative, told),
            Err(_) => {}
        }
    }
}

/// Both ends of a rename, after an event for each: that it stayed within the input is new. The
/// service's own renames are not a producer's.
fn renamed(hints: &EventQueue, root: &Path, paths: &[PathBuf]) {
    let [from, to] = paths else { return };
    let to_ours = to.file_name().is_some_and(crate::fs::is_internal_name);
    if let Ok(from) = from.strip_prefix(root)
        && !to_ours
        && !from.as_os_str().is_empty()
    {
        hints.path(from.to_path_buf(), NameEvent::RenamedAway);
    }
}
