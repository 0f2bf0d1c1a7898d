//! The directories and files that the service writes to: none of them is a source, whatever path
//! below an input leads to it.
//!
//! All are looked at once before the first pipeline begins. From then on each pipeline looks at its own,
//! and at those of the whole service, and shares what it finds: another's may be on a file system that
//! does not respond.

use std::{
    collections::HashMap,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::{Config, Pipeline},
    fingerprint::FileId,
    fs, patience,
};

/// Shared by all pipelines.
#[derive(Debug)]
pub struct OwnPlaces {
    config: Mutex<Arc<Config>>,
    /// As each was found last.
    found: Mutex<HashMap<PathBuf, FileId>>,
}

impl OwnPlaces {
    /// Looks at those of all pipelines, before any of them begins: the output of one that begins later
    /// may be below the input of another. Blocks for a while where one does not answer.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Arc<Self> {
        let pipelines = config.pipelines.iter().flat_map(Pipeline::own_paths);
        let look = |path: &Path| {
            let looked = path.to_path_buf();
            let id = patience::within(path, move || fs::file_id(&looked).ok()).flatten()?;
            Some((path.to_path_buf(), id))
        };
        let found = Mutex::new(pipelines.filter_map(look).collect());
        Arc::new(Self { config: Mutex::new(config), found })
    }

    /// A reload changed what the service writes to.
    pub fn set(&self, config: Arc<Config>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Looks at those of one pipeline. Blocks as long as its file systems do.
    pub fn look(&self, pipeline: &Pipeline) {
        pipeline.own_paths().for_each(|path| self.look_at(path));
    }

    /// Looks at those of one pipeline and of the service, and gives what is known of all.
    #[must_use]
    pub fn all(&self, pipeline: &Pipeline) -> Vec<FileId> {
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        self.look(pipeline);
        config.own_paths().for_each(|path| self.look_at(path));
        let others = config.pipelines.iter().flat_map(Pipeline::own_paths);
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = others.chain(config.own_paths()).chain(pipeline.own_paths());
        paths.filter_map(|path| found.get(path).copied()).collect()
    }

    fn look_at(&self, path: &Path) {
        let looked = fs::file_id(path);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match looked {
            Ok(id) => drop(found.insert(path.to_path_buf(), id)),
            Err(error) if error.kind() == ErrorKind::NotFound => drop(found.remove(path)),
            // It is what it was, as far as anybody knows.
            Err(_) => {}
        }
    }
}
