//! What a sink is opened with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{fs::NodeId, observe::PipelineMeter, policy::Durability};

/// The parts of a sink.
#[derive(Debug)]
pub struct SinkOptions {
    /// The pipeline's name, for the log.
    pub pipeline: Arc<str>,
    /// The output's root.
    pub path: PathBuf,
    /// The ledger's instance, a part of every temporary name.
    pub instance: NodeId,
    pub durability: Durability,
    /// Whether each output is read back before it is published.
    pub verify: bool,
    /// The bytes that stay free on its file system.
    pub min_free: Option<u64>,
    /// Counts the syncs; `None` for a pipeline that does not run.
    pub meter: Option<Arc<PipelineMeter>>,
}

impl SinkOptions {
    /// Returns the options for a pipeline that does not run, for recovery and queries.
    #[must_use]
    pub fn offline(pipeline: &str, path: &Path, instance: &str) -> Self {
        Self {
            pipeline: pipeline.into(),
            path: path.to_path_buf(),
            instance: NodeId::new(instance),
            durability: Durability::Fsync,
            verify: false,
            min_free: None,
            meter: None,
        }
    }
}
