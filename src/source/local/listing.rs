//! A resumable walk through a local source, or a part of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::super::{Listing, Page, SourceError};
use crate::{
    fingerprint::FileId,
    fs::{self, Dir, Kind, Walk},
};

#[derive(Debug)]
pub(super) struct LocalListing {
    root: Arc<Dir>,
    walk: Walk,
}

impl LocalListing {
    pub(super) fn new(root: &Arc<Dir>, below: PathBuf, own: &Arc<[FileId]>) -> Self {
        let walk = Walk::new(Arc::clone(root), below).avoiding(Arc::clone(own));
        Self { root: Arc::clone(root), walk }
    }
}

impl Listing for LocalListing {
    fn next_page(&mut self, limit: usize, enters: &dyn Fn(&Path) -> bool) -> Page {
        let mut page = Page::default();
        while page.files.len() < limit
            && let Some(entry) = self.walk.next()
        {
            match entry {
                Ok(entry) if entry.kind == Kind::File => page.files.push(entry.path),
                Ok(entry) if entry.kind == Kind::Directory && !enters(&entry.path) => {
                    self.walk.skip_directory();
                }
                // Where that cannot be queried, the look at each file does it again.
                Ok(entry)
                    if entry.kind == Kind::Directory
                        && fs::is_state_dir(&self.root, &entry.path).unwrap_or(false) =>
                {
                    self.walk.skip_directory();
                    page.state_directories.push(entry.path);
                }
                Ok(_) => {}
                Err((path, source)) => page.failed.push(SourceError { path, source }),
            }
        }
        page.own_directories = self.walk.take_avoided();
        page.gone = self.walk.take_gone();
        page
    }
}
