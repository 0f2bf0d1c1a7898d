//! The operating system's recursive watch on an input.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use notify::{
    Config, ErrorKind, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};

use super::super::event_queue::{EventQueue, NameEvent};
use crate::fs;

/// The most renames whose second names may come.
const RENAMES_MAX: usize = 64;

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
        let mut renames = RecentRenames::default();
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => add_event(&queue, &watched_root, &event, &mut renames),
            Err(error) => {
                tracing::warn!(event = "intake.watch_failed", %error, "watch error, running a full scan");
                lose_events(&queue);
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

/// The first names of renames whose second names may come, by their cookies.
#[derive(Debug, Default)]
struct RecentRenames(VecDeque<(usize, PathBuf)>);

impl RecentRenames {
    fn add(&mut self, cookie: usize, from: PathBuf) {
        self.0.truncate(RENAMES_MAX - 1);
        self.0.push_front((cookie, from));
    }

    fn take(&mut self, cookie: usize) -> Option<PathBuf> {
        let position = self.0.iter().position(|(of, _)| *of == cookie)?;
        self.0.remove(position).map(|(_, from)| from)
    }
}

fn lose_events(queue: &EventQueue) {
    queue.successions().inspect(|all| all.overflow());
    queue.overflow();
}

fn add_event(queue: &EventQueue, root: &Path, event: &Event, renames: &mut RecentRenames) {
    crate::failpoint::pass("discover::event");
    // An overflow has no path, so it must be handled first.
    if event.need_rescan() {
        return lose_events(queue);
    }
    if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
        return add_rename(queue, root, &event.paths);
    }
    for path in &event.paths {
        match path.strip_prefix(root) {
            Ok(path) if path.as_os_str().is_empty() => queue.root(),
            Ok(path) => {
                let name_event = of_name(queue, event, path, renames);
                queue.path(path.to_path_buf(), name_event);
            }
            Err(_) => {}
        }
    }
}

/// Returns the event of a path below the input, and notes what it does to the name.
fn of_name(
    queue: &EventQueue,
    event: &Event,
    path: &Path,
    renames: &mut RecentRenames,
) -> NameEvent {
    let successions = queue.successions();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => NameEvent::Closed,
        EventKind::Modify(ModifyKind::Metadata(_)) => NameEvent::Attributes,
        EventKind::Create(CreateKind::File) => {
            successions.inspect(|all| all.created(path));
            NameEvent::Named
        }
        EventKind::Remove(RemoveKind::File) => {
            successions.inspect(|all| all.vacated(path));
            NameEvent::Named
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            successions.inspect(|all| all.vacated(path));
            if let Some(cookie) = event.tracker() {
                renames.add(cookie, path.to_path_buf());
            }
            NameEvent::Named
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            let from = event.tracker().and_then(|cookie| renames.take(cookie));
            // The service gives a source its name back: that is no sign that it is finished.
            let is_own = |from: &PathBuf| from.file_name().is_some_and(fs::is_internal_name);
            if from.as_ref().is_some_and(is_own) {
                successions.inspect(|all| all.returned(path));
                return NameEvent::Named;
            }
            successions.inspect(|all| all.renamed(from.as_deref(), path));
            NameEvent::RenamedHere
        }
        _ => NameEvent::Named,
    }
}

/// Adds the event of a rename within the input. Each of both names has had an event of its own before.
/// The service's own renames do not count as a producer's.
fn add_rename(queue: &EventQueue, root: &Path, paths: &[PathBuf]) {
    let [from, to] = paths else { return };
    let is_internal = to.file_name().is_some_and(fs::is_internal_name);
    if let Ok(from) = from.strip_prefix(root)
        && !is_internal
        && !from.as_os_str().is_empty()
    {
        queue.path(from.to_path_buf(), NameEvent::RenamedAway);
    }
}
