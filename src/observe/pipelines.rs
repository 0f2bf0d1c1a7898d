//! The meters of the pipelines, which a reload changes.

use std::sync::{Arc, RwLockReadGuard};

use crate::sync::RwLock;

use super::meters::PipelineMeter;

/// Meters by unique name.
#[derive(Debug)]
pub(super) struct Pipelines(RwLock<Meters>);

#[derive(Debug)]
struct Meters {
    /// In the order of the configuration.
    now: Arc<[Arc<PipelineMeter>]>,
    /// Meters of removed pipelines. Their counts are part of the totals, and continue if the pipeline is
    /// added again.
    removed: Arc<[Arc<PipelineMeter>]>,
}

impl Pipelines {
    pub fn new(now: Vec<Arc<PipelineMeter>>) -> Self {
        Self(RwLock::new(Meters { now: now.into(), removed: Arc::default() }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Meters> {
        self.0.read()
    }

    pub fn now(&self) -> Arc<[Arc<PipelineMeter>]> {
        Arc::clone(&self.read().now)
    }

    pub fn removed(&self) -> Arc<[Arc<PipelineMeter>]> {
        Arc::clone(&self.read().removed)
    }

    /// Returns the current or removed meter of this name.
    pub fn named(&self, name: &Arc<str>) -> Option<Arc<PipelineMeter>> {
        let meters = self.read();
        let mut all = meters.now.iter().chain(meters.removed.iter());
        all.find(|meter| meter.name == *name).map(Arc::clone)
    }

    pub fn set(&self, now: Vec<Arc<PipelineMeter>>) {
        let mut meters = self.0.write();
        let is_removed =
            |meter: &&Arc<PipelineMeter>| !now.iter().any(|current| current.name == meter.name);
        let previous = meters.removed.iter().chain(meters.now.iter());
        meters.removed = previous.filter(is_removed).map(Arc::clone).collect();
        for meter in &*meters.removed {
            meter.clear();
        }
        for meter in &now {
            meter.beat();
        }
        meters.now = now.into();
    }
}
