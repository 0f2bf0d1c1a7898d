//! The operating system's recursive watch on an input.

use std::path::{Path, PathBuf};

use notify::{
    Config, ErrorKind, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RemoveKind, RenameMode},
};

use super::super::event_queue::{EventQueue, NameEvent};
use crate::config;

/// A running watch. Dropping it ends its thread and closes its descriptors.
#[derive(Debug)]
pub struct Watch {
    _watcher: RecommendedWatcher,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel's table is full (`fs.inotify.max_user_watches` or `max_user_instances`).
    #[error("the kernel's watch limit is reached; hint: raise sysctl fs.inotify.max_user_watches")]
    Limit(#[source] notify::Error),
    #[error("cannot set up the inotify watch")]
    Other(#[source] notify::Error),
}

impl Watch {
    /// Watches a directory and its sub-directories; the events go into `queue`.
    ///
    /// It requests only events of finished, renamed, changed or vanished names, so that reading a file does
    /// not raise an event and the kernel's queue holds the events of twice as many files.
    pub fn start(root: &Path, queue: EventQueue) -> Result<Self, WatchError> {
        let mask = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::MODIFY_META
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_follow_symlinks(false).with_event_kinds(mask);
        let watched_root = root.to_path_buf();
        let mut from_temporary = None;
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => add_event(&queue, &watched_root, event, &mut from_temporary),
            Err(error) => {
                tracing::warn!(event = "intake.watch_failed", %error, "watch error, running a full scan");
                queue.overflow();
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
        ErrorKind::Io(ref io)
            if io.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
        {
            WatchError::Limit(error)
        }
        _ => WatchError::Other(error),
    }
}

/// `from_temporary`: the cookie of the latest rename from a temporary name.
fn add_event(queue: &EventQueue, root: &Path, event: Event, from_temporary: &mut Option<usize>) {
    crate::failpoint::pass("discover::event");
    // An overflow has no path, so it must be handled first.
    if event.need_rescan() {
        return queue.overflow();
    }
    let name_event = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => NameEvent::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            let is_temporary = event.paths.iter().any(|path| has_temporary_name(path));
            *from_temporary = event.tracker().filter(|_| is_temporary);
            NameEvent::Vacated
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            let is_finished = event.tracker().is_some() && event.tracker() == *from_temporary;
            if is_finished { NameEvent::Finished } else { NameEvent::RenamedHere }
        }
        EventKind::Remove(RemoveKind::File) => NameEvent::Vacated,
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            return add_rename(queue, root, &event.paths);
        }
        _ => NameEvent::Named,
    };
    for path in event.paths {
        match path.strip_prefix(root).map(PathBuf::from) {
            Ok(relative) if relative.as_os_str().is_empty() => queue.root(),
            Ok(relative) => queue.path(relative, name_event),
            Err(_) => {}
        }
    }
}

fn has_temporary_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| config::temporary_name(name.as_ref()).is_some())
}

/// Adds the event of a rename within the input. Each of both names has had an event of its own before.
/// The service's own renames do not count as a producer's.
fn add_rename(queue: &EventQueue, root: &Path, paths: &[PathBuf]) {
    let [from, to] = paths else { return };
    let is_internal = to.file_name().is_some_and(crate::fs::is_internal_name);
    if let Ok(from) = from.strip_prefix(root)
        && !is_internal
        && !from.as_os_str().is_empty()
    {
        queue.path(from.to_path_buf(), NameEvent::RenamedAway);
    }
}
