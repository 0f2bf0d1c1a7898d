//! The operator's desk: what the API reads from, and what it steers by.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
};

use super::{guard::Token, problem::Problem};
use crate::{
    config::Config,
    ledger::{self, Ledger},
    lifecycle::{Handle, Phase},
    limits,
    pipeline::Control,
    queries::quarantined,
};

/// Who answers to a reload: the service itself.
pub type Reloads = mpsc::Sender<oneshot::Sender<Result<Reloaded, ReloadRefused>>>;

/// Pipelines by what a reload did to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
    pub unchanged: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

/// Why the old configuration goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// It cannot be done now, or without a restart.
    Conflict(String),
    /// The new configuration is wrong.
    Invalid(String),
}

/// Made before the pipelines, which it gets to know when they start.
#[derive(Debug)]
pub struct ApiState {
    handle: Handle,
    /// The configuration in force. The service writes it at a reload.
    config: watch::Receiver<Arc<Config>>,
    token: Option<Token>,
    /// To change records with.
    ledger: Arc<dyn Ledger>,
    /// To look with: a long look holds up no pipeline.
    reader: Arc<dyn Ledger>,
    control: OnceLock<Control>,
    reloads: OnceLock<Reloads>,
    pub(super) streams: Arc<Semaphore>,
    /// One look into the ledger at a time.
    looks: Semaphore,
    /// One look at a file as well: a mount that hangs holds up this turn and no answer of the ledger.
    looks_at_files: Semaphore,
    quarantined: Mutex<Option<CachedCount>>,
}

/// What is in quarantine, by pipeline, as it was counted last.
#[derive(Clone, Debug)]
struct CachedCount {
    at: Instant,
    /// Files that had gone into it by then.
    entered: u64,
    sizes: Arc<HashMap<String, u64>>,
    /// What counting took: where that is long, it is not done at each look.
    took: Duration,
}

impl CachedCount {
    fn still_stands(&self, entered: u64) -> bool {
        let age = self.at.elapsed();
        let is_dear = self.took >= DEAR && age < self.took * 10;
        is_dear || (self.entered == entered && age < COUNT_AGAIN)
    }
}

/// A count that nothing is known to have changed is taken again after this: another program may
/// have requeued some.
const COUNT_AGAIN: Duration = Duration::from_secs(15);
/// A count that takes so long is one of very many files.
const DEAR: Duration = Duration::from_millis(200);

impl ApiState {
    pub fn new(
        handle: Handle,
        config: watch::Receiver<Arc<Config>>,
        token: Option<Token>,
        (ledger, reader): (Arc<dyn Ledger>, Arc<dyn Ledger>),
    ) -> Self {
        Self {
            handle,
            config,
            token,
            ledger,
            reader,
            control: OnceLock::new(),
            reloads: OnceLock::new(),
            streams: Arc::new(Semaphore::new(limits::STREAMS_MAX)),
            looks: Semaphore::new(1),
            looks_at_files: Semaphore::new(1),
            quarantined: Mutex::new(None),
        }
    }

    /// The pipelines run from now on.
    pub fn set_control(&self, control: Control) {
        // Only the service's start calls it, once.
        drop(self.control.set(control));
    }

    /// A reload can be asked for from now on.
    pub fn set_reloads(&self, reloads: Reloads) {
        drop(self.reloads.set(reloads));
    }

    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    pub(super) const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) const fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// What steers the pipelines, while there is something to steer.
    pub(super) fn control(&self) -> Result<&Control, Problem> {
        let phase = *self.handle.phase().borrow();
        match (self.control.get(), phase) {
            (Some(control), Phase::Ready) => Ok(control),
            _ if phase <= Phase::Ready => {
                Err(Problem::conflict("starting", "the service starts: ask again when it is ready"))
            }
            _ => Err(Problem::conflict("stopping", "the service stops, and takes nothing new")),
        }
    }

    /// Has the service read its configuration again.
    pub(super) async fn reload(&self) -> Result<Reloaded, Problem> {
        let not_available = || {
            let detail =
                "this service cannot read its configuration again while it runs: restart it";
            Problem::conflict("not_available", detail)
        };
        let reloads = self.reloads.get().ok_or_else(not_available)?;
        let (answer, answered) = oneshot::channel();
        reloads.send(answer).await.map_err(|_| not_available())?;
        match answered.await {
            Ok(Ok(reloaded)) => Ok(reloaded),
            Ok(Err(ReloadRefused::Conflict(detail))) => Err(Problem::conflict("conflict", detail)),
            Ok(Err(ReloadRefused::Invalid(detail))) => {
                let status = axum::http::StatusCode::UNPROCESSABLE_ENTITY;
                Err(Problem::new(status, "invalid", detail))
            }
            Err(_) => Err(not_available()),
        }
    }

    /// Looks into the ledger on a thread that may wait; one look at a time.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.look_in_turn(&self.looks, look).await
    }

    /// Looks into the ledger and at a file of a pipeline.
    pub(super) async fn look_at_file<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.look_in_turn(&self.looks_at_files, look).await
    }

    async fn look_in_turn<T: Send + 'static>(
        &self,
        turns: &Semaphore,
        look: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(_turn) = turns.acquire().await else {
            return Err(Problem::busy("the service ends"));
        };
        let reader = Arc::clone(&self.reader);
        match spawn_blocking(move || look(&*reader)).await {
            Ok(looked) => looked.map_err(|error| Problem::failed(&error)),
            Err(error) => Err(Problem::failed(&error)),
        }
    }

    /// Drops the cached count of the files in quarantine.
    pub fn refresh_count(&self) {
        *self.quarantined.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many files of each pipeline are in quarantine; `entered` is how many went in since the
    /// start. Where the ledger does not answer, the last count stands.
    pub(super) async fn quarantine_sizes(&self, entered: u64) -> Arc<HashMap<String, u64>> {
        let last = self.quarantined.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(count) = &last
            && count.still_stands(entered)
        {
            return Arc::clone(&count.sizes);
        }
        let counted = self.query(|ledger| {
            let began = Instant::now();
            let mut sizes = HashMap::new();
            for file in quarantined::all(ledger)? {
                *sizes.entry(file.roots.name).or_default() += 1;
            }
            Ok((sizes, began.elapsed()))
        });
        match counted.await {
            Ok((sizes, took)) => {
                let (at, sizes) = (Instant::now(), Arc::new(sizes));
                let count = CachedCount { at, entered, sizes: Arc::clone(&sizes), took };
                *self.quarantined.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
                sizes
            }
            Err(_) => last.map(|count| count.sizes).unwrap_or_default(),
        }
    }
}
