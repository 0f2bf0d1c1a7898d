//! What the API reads from and controls the service with.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde::Serialize;
use tidemill_lifecycle::{Handle, Phase};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{guard::Token, problem::Problem};
use crate::{
    config::Config,
    ledger::{self, Ledger},
    limits,
    pipeline::Control,
    queries::quarantined,
    sandbox::SandboxState,
    sync::Mutex,
};

/// Reload requests to the service, each with the channel for its answer.
pub type Reloads = mpsc::Sender<oneshot::Sender<Result<Reloaded, ReloadRefused>>>;

/// Pipelines by the effect of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    pub changed: Vec<String>,
    pub unchanged: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

/// The reason why the old configuration stays in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// The reload is impossible now or without a restart.
    Conflict(String),
    /// The new configuration is wrong.
    Invalid(String),
}

/// Exists before the pipelines; [`Self::set_control`] connects them.
#[derive(Debug)]
pub struct ApiState {
    handle: Handle,
    /// The configuration in force. The service writes it at a reload.
    config: watch::Receiver<Arc<Config>>,
    pub(super) sandbox: SandboxState,
    token: Option<Token>,
    /// Changes records.
    ledger: Arc<dyn Ledger>,
    /// Only reads: a long query delays no pipeline.
    reader: Arc<dyn Ledger>,
    control: OnceLock<Control>,
    reloads: OnceLock<Reloads>,
    pub(super) streams: Arc<Semaphore>,
    /// One query of the ledger at a time.
    queries: Arc<Semaphore>,
    /// One query that examines a file at a time: a mount that hangs blocks these and no other query.
    file_queries: Arc<Semaphore>,
    /// One request that moves files at a time.
    moves: Arc<Semaphore>,
    quarantined: Mutex<Option<CachedCount>>,
}

/// Runs work in its turn, on a thread that may block. The thread has the turn, and not the request, which
/// ends when its client leaves: a mount that hangs costs one thread, however many ask.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let turn = timeout(limits::HTTP_TURN_TIMEOUT, Arc::clone(turns).acquire_owned());
    let turn = match turn.await {
        Ok(Ok(turn)) => turn,
        Ok(Err(_)) => return Err(Problem::busy("the service is stopping")),
        Err(_) => {
            let detail = "an earlier request has not ended: a file system may not respond";
            return Err(Problem::busy(detail));
        }
    };
    let worked = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    worked.await.map_err(|error| Problem::failed(&error))
}

/// The last count of the quarantine by pipeline.
#[derive(Clone, Debug)]
struct CachedCount {
    at: Instant,
    /// Files that had entered it by then.
    entered: u64,
    sizes: Arc<HashMap<String, u64>>,
    /// The duration of the count: a slow one is repeated less often.
    took: Duration,
}

impl CachedCount {
    fn still_stands(&self, entered: u64) -> bool {
        let age = self.at.elapsed();
        let is_slow = self.took >= SLOW_COUNT && age < self.took * 10;
        is_slow || (self.entered == entered && age < COUNT_AGAIN)
    }
}

/// An apparently unchanged count is repeated after this time: another program may have requeued files.
const COUNT_AGAIN: Duration = Duration::from_secs(15);
/// A count that takes this long is slow.
const SLOW_COUNT: Duration = Duration::from_millis(200);

impl ApiState {
    pub fn new(
        handle: Handle,
        (config, sandbox): (watch::Receiver<Arc<Config>>, SandboxState),
        token: Option<Token>,
        (ledger, reader): (Arc<dyn Ledger>, Arc<dyn Ledger>),
    ) -> Self {
        Self {
            handle,
            config,
            sandbox,
            token,
            ledger,
            reader,
            control: OnceLock::new(),
            reloads: OnceLock::new(),
            streams: Arc::new(Semaphore::new(limits::STREAMS_MAX)),
            queries: Arc::new(Semaphore::new(1)),
            file_queries: Arc::new(Semaphore::new(1)),
            moves: Arc::new(Semaphore::new(1)),
            quarantined: Mutex::new(None),
        }
    }

    /// Connects the running pipelines.
    pub fn set_control(&self, control: Control) {
        // The service's start calls it once.
        drop(self.control.set(control));
    }

    /// Enables reloads.
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

    /// Returns the control of the pipelines while they run.
    pub(super) fn control(&self) -> Result<&Control, Problem> {
        let phase = *self.handle.phase().borrow();
        match (self.control.get(), phase) {
            (Some(control), Phase::Ready) => Ok(control),
            _ if phase <= Phase::Ready => Err(Problem::conflict(
                "starting",
                "the service is starting: try again when it is ready",
            )),
            _ => Err(Problem::conflict("stopping", "the service is stopping")),
        }
    }

    /// Requests a reload of the configuration from the service.
    pub(super) async fn reload(&self) -> Result<Reloaded, Problem> {
        let not_available = || {
            let detail = "this service cannot reload its configuration: restart it";
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

    /// Queries the ledger on a thread that may block; one query at a time.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.query_in_turn(&self.queries, query).await
    }

    /// Queries the ledger and examines a file of a pipeline.
    pub(super) async fn query_with_file<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.query_in_turn(&self.file_queries, query).await
    }

    async fn query_in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        query: impl FnOnce(&dyn Ledger) -> ledger::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = Arc::clone(&self.reader);
        let answer = in_turn(turns, move || query(&*reader)).await?;
        answer.map_err(|error| Problem::failed(&error))
    }

    /// Moves files and changes their records, on a thread that may block; one request at a time.
    pub(super) async fn move_files<T: Send + 'static>(
        &self,
        moves: impl FnOnce(&dyn Ledger) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let ledger = Arc::clone(&self.ledger);
        in_turn(&self.moves, move || moves(&*ledger)).await?
    }

    /// Drops the cached count of the files in quarantine.
    pub fn refresh_count(&self) {
        *self.quarantined.lock() = None;
    }

    /// Counts the quarantined files of each pipeline; `entered` is the number that entered since the
    /// start. Where the ledger does not answer, returns the last count.
    pub(super) async fn quarantine_sizes(&self, entered: u64) -> Arc<HashMap<String, u64>> {
        let last = self.quarantined.lock().clone();
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
                *self.quarantined.lock() = Some(count);
                sizes
            }
            Err(_) => last.map(|count| count.sizes).unwrap_or_default(),
        }
    }
}
