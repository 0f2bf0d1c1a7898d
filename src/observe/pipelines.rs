//! The meters of the pipelines, which a reload changes.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::meters::PipelineMeter;

/// Each is there once: by its name.
#[derive(Debug)]
pub(super) struct Pipelines(RwLock<Meters>);

#[derive(Debug)]
struct Meters {
    /// In the order of the configuration.
    now: Arc<[Arc<PipelineMeter>]>,
    /// Of pipelines that were removed: what they counted is a part of the whole, and goes on if
    /// they are added again.
    removed: Arc<[Arc<PipelineMeter>]>,
}

impl Pipelines {
    pub fn new(now: Vec<Arc<PipelineMeter>>) -> Self {
        Self(RwLock::new(Meters { now: now.into(), removed: Arc::default() }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Meters> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Arc<[Arc<PipelineMeter>]> {
        Arc::clone(&self.read().now)
    }

    pub fn removed(&self) -> Arc<[Arc<PipelineMeter>]> {
        Arc::clone(&self.read().removed)
    }

    /// The one there is, or was.
    pub fn named(&self, name: &Arc<str>) -> Option<Arc<PipelineMeter>> {
        let meters = self.read();
        let mut all = meters.now.iter().chain(meters.removed.iter());
        all.find(|meter| meter.name == *name).map(Arc::clone)
    }

    pub fn set(&self, now: Vec<Arc<PipelineMeter>>) {
        let mut meters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |meter: &&Arc<PipelineMeter>| !now.iter().any(|one| one.name == meter.name);
        let before = meters.removed.iter().chain(meters.now.iter());
        meters.removed = before.filter(is_gone).map(Arc::clone).collect();
        for meter in &*meters.removed {
            meter.clear();
        }
        for meter in &now {
            meter.beat();
        }
        meters.now = now.into();
    }
}
