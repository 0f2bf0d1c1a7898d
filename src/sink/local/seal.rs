//! Makes the contents and temporary names of a batch durable.

use std::{io, sync::Arc};

use super::{
    Local,
    file::{Content, LocalFile},
    sync_pool::{DirectorySync, NO_RESULT, Synced},
};
use crate::{
    failpoint,
    fs::{Dir, Temp},
    policy::Durability,
    sink::{Error, ErrorKind, SealResult, Staged},
};

/// Seals a batch: by an `fsync` of each file, or by one `syncfs`.
pub fn seal(local: &Local, batch: &mut [&mut dyn Staged]) -> SealResult {
    if local.shared.durability == Durability::None {
        return SealResult { contents: batch.iter().map(|_| Ok(())).collect(), names: Ok(()) };
    }
    let (mut contents, unsynced, synced) = take_contents(batch);
    let root = local.root.dir();
    let is_grouped = match local.shared.durability {
        Durability::Fsync => local.group_sync.is_better_for(&unsynced, &root),
        _ => !unsynced.is_empty() && local.group_sync.may_replace_fsync(&unsynced, &root),
    };
    let (by_fsync, by_syncfs) =
        if is_grouped { (Vec::new(), unsynced) } else { (unsynced, Vec::new()) };
    let dirs = directories(by_fsync.iter().map(dir_of).chain(synced.iter().cloned()));
    let directory_sync = if by_fsync.len() + synced.len() == 1 {
        // Waking another thread takes longer than this sync.
        DirectorySync::finished(local.pool.directories(dirs))
    } else {
        // Concurrently with the files: the names exist already and need not wait for the
        // contents.
        local.pool.begin_directories(dirs)
    };
    let mut results = local.pool.files(by_fsync);
    let (grouped, failed) = split(local.group_sync.sync(by_syncfs, &root));
    results.extend(failed);
    let (grouped, failed) = split(local.pool.check(grouped));
    results.extend(failed);
    // After the `syncfs`: ext4 without a journal writes inodes after the flush that ends a
    // `syncfs`, and the directory's `fsync` flushes the disk again.
    let after = local.pool.directories(directories(grouped.iter().map(dir_of)));
    results.extend(grouped.into_iter().map(|content| (content, Ok(()))));
    for (Content { index, temp, .. }, result) in results {
        let path = |temp: &Temp| temp.dir().path().join(temp.name());
        let result = result.map_err(|error| ErrorKind::Sync.at(path(&temp))(error));
        let file = batch.get_mut(index).and_then(|staged| LocalFile::of_mut(*staged));
        if let (Some(file), Some(content)) = (file, contents.get_mut(index)) {
            *content = Some(result);
            file.end_sync(temp);
        }
    }
    // One that a panic took, or that another sink staged.
    let lost = || ErrorKind::Sync.at(local.root.path())(io::Error::other(NO_RESULT));
    let contents = contents.into_iter().map(|content| content.unwrap_or_else(|| Err(lost())));
    SealResult { contents: contents.collect(), names: directory_sync.wait().and(after) }
}

type Taken = (Vec<Option<Result<(), Error>>>, Vec<Content>, Vec<Arc<Dir>>);

/// Takes the contents that must be synced. Returns the results of the outputs that were synced before, in
/// the order of the batch; these contents; and the directories of the outputs that were synced before.
fn take_contents(batch: &mut [&mut dyn Staged]) -> Taken {
    let (mut unsynced, mut synced) = (Vec::with_capacity(batch.len()), Vec::new());
    let mut take = |index, staged: &mut dyn Staged| {
        let file = LocalFile::of_mut(staged)?;
        if file.is_synced() {
            synced.push(Arc::clone(file.dir()));
            return Some(Ok(()));
        }
        unsynced.extend(file.begin_sync(index));
        None
    };
    let contents = batch.iter_mut().enumerate();
    let contents = contents.map(|(index, staged)| take(index, *staged)).collect();
    (contents, unsynced, synced)
}

/// Returns the directories whose temporary names must be durable.
fn directories(dirs: impl Iterator<Item = Arc<Dir>>) -> impl Iterator<Item = Arc<Dir>> {
    let is_skipped = failpoint::is_skipped("barrier::temp_directory");
    dirs.filter(move |_| !is_skipped)
}

fn dir_of(content: &Content) -> Arc<Dir> {
    Arc::clone(content.temp.dir())
}

/// Splits contents into those that are durable and the others.
fn split(synced: Vec<Synced>) -> (Vec<Content>, Vec<Synced>) {
    let (mut durable, mut failed) = (Vec::with_capacity(synced.len()), Vec::new());
    for (content, result) in synced {
        match result {
            Ok(()) => durable.push(content),
            error => failed.push((content, error)),
        }
    }
    (durable, failed)
}
