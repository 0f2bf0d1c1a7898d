//! A listing of the store in memory.

use std::path::{Path, PathBuf};

use super::{
    super::{Listing, Page},
    Store,
};

/// A listing by keys, each page from the store as it is then.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) store: Store,
    pub(super) below: PathBuf,
    /// The last key of the previous page.
    pub(super) after: Option<PathBuf>,
}

impl Listing for Keys {
    fn next_page(&mut self, limit: usize, enters: &dyn Fn(&Path) -> bool) -> Page {
        let is_entered = |path: &Path| {
            let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
            parents.take_while(|parent| *parent != self.below).all(enters)
        };
        let objects = self.store.lock();
        let keys = objects.files.keys().filter(|path| {
            Some(*path) > self.after.as_ref() && path.starts_with(&self.below) && is_entered(path)
        });
        let files: Vec<PathBuf> = keys.take(limit).cloned().collect();
        drop(objects);
        self.after = files.last().cloned().or_else(|| self.after.take());
        Page { files, ..Page::default() }
    }
}
