//! The directories and files that the service writes to: none of them is a source, whatever path
//! below an input leads to it.
//!
//! The service stats all of them before the first pipeline begins. From then on each pipeline stats its
//! own paths and those of the service, and shares the results: the paths of another pipeline may be on
//! a file system that does not respond.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    config::{Config, Pipeline},
    fingerprint::FileId,
    fs, patience,
    sync::Mutex,
};

/// The service's own paths, shared by all pipelines.
#[derive(Debug)]
pub struct OwnPaths {
    /// The configuration in force; it follows each reload.
    config: watch::Receiver<Arc<Config>>,
    /// The file ID of each path, from its latest `stat`.
    ids: Mutex<HashMap<PathBuf, FileId>>,
}

impl OwnPaths {
    /// Stats the paths of all pipelines before any of them begins: the output of one that begins later
    /// may be below the input of another. Blocks for a limited time if a file system does not respond.
    #[must_use]
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Arc<Self> {
        let now = Arc::clone(&config.borrow());
        let paths = now.pipelines.iter().flat_map(Pipeline::own_paths);
        let stat = |path: &Path| {
            let owned_path = path.to_path_buf();
            let id = patience::within(path, move || fs::file_id(&owned_path).ok()).flatten()?;
            Some((path.to_path_buf(), id))
        };
        let ids = Mutex::new(paths.filter_map(stat).collect());
        Arc::new(Self { config, ids })
    }

    /// Stats the paths of one pipeline. Blocks as long as its file systems do.
    pub fn refresh(&self, pipeline: &Pipeline) {
        pipeline.own_paths().for_each(|path| self.refresh_path(path));
    }

    /// Stats the paths of one pipeline and of the service, and returns the file IDs of all own paths.
    #[must_use]
    pub fn all(&self, pipeline: &Pipeline) -> Vec<FileId> {
        let config = Arc::clone(&self.config.borrow());
        self.refresh(pipeline);
        config.own_paths().for_each(|path| self.refresh_path(path));
        let others = config.pipelines.iter().flat_map(Pipeline::own_paths);
        let ids = self.ids.lock();
        let paths = others.chain(config.own_paths()).chain(pipeline.own_paths());
        paths.filter_map(|path| ids.get(path).copied()).collect()
    }

    fn refresh_path(&self, path: &Path) {
        let result = fs::file_id(path);
        let mut ids = self.ids.lock();
        match result {
            Ok(id) => drop(ids.insert(path.to_path_buf(), id)),
            Err(error) if error.kind() == ErrorKind::NotFound => drop(ids.remove(path)),
            // The earlier result stays.
            Err(_) => {}
        }
    }
}
