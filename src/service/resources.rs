//! The resources of [`super::start`]: one function opens each and registers its close.

use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    error::{
        LEDGER, LIMIT, ServiceError, blocking, chain, map_io_start_error, map_ledger_start_error,
        map_start_error,
    },
    live_config::LiveConfig,
    opening::{Failure, PendingPipelines, PipelineOpener},
    tasks::{drain, notify},
};
use crate::{
    config::{Config, Pipeline},
    fs::{self, Lock, LockError, replace_own},
    ledger::{self, Ledger, sqlite::Sqlite},
    lifecycle::{self, Lifecycle, Phase, StartError},
    observe::{Events, Listener, display_path},
    patience,
    pipeline::{Control, DrainSummary, PipelineInputs, Pipelines},
    protocol::SharedEvents,
    queries::quarantined::{self, Quarantined},
};

/// Time limit of the recovery.
pub(super) const RECOVERY_TIMEOUT: Duration = Duration::from_hours(1);

/// The lock on the state directory. Empty until it is taken; dropping the last clone releases it.
pub type HeldLock = Arc<OnceLock<Lock>>;

/// Raises the descriptor limit to the maximum, and checks that the configuration fits.
pub async fn descriptor_limit(life: &mut Lifecycle, config: &Config) -> Result<(), ServiceError> {
    let files = u64::from(config.limits.files);
    let open = async move {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, ..limit };
        setrlimit(Resource::Nofile, raised)?;
        let maximum = limit.maximum.unwrap_or(u64::MAX);
        let needed = 2 * files + 64;
        if maximum < needed {
            return Err(io::Error::other(format!(
                "`limits.files = {files}` may need {needed} descriptors, and the system allows {maximum}; hint: raise `ulimit -n`, or lower `files` to {}",
                maximum.saturating_sub(64) / 2
            )));
        }
        Ok(((), ()))
    };
    life.start("descriptor limit", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_start_error(ServiceError::Config))
}

/// Takes the lock on the state directory.
///
/// `held` keeps the lock until the process exits: a process that waits for the lock then finds the
/// [`super::exit_record`].
pub async fn lock(
    life: &mut Lifecycle,
    config: &Config,
    held: &HeldLock,
) -> Result<(), ServiceError> {
    let (dir, held) = (config.state_dir.clone(), Arc::clone(held));
    let open = blocking(move || Lock::take(&dir).map(|lock| (drop(held.set(lock)), ())));
    let close = |()| async { Ok::<_, Infallible>(()) };
    life.start("lock", LIMIT, open, close).await.map_err(|error| match error {
        StartError::Failed { source, .. } if is_held(source.as_ref()) => {
            ServiceError::Busy(chain(source.as_ref()))
        }
        StartError::Failed { source, .. } if source.is::<LockError>() => {
            ServiceError::Config(chain(source.as_ref()))
        }
        error => map_start_error(ServiceError::Storage)(error),
    })
}

fn is_held(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(LockError::Held { .. }))
}

/// Saves the configuration for `tidemill explain`. The lock must be held.
pub async fn config_snapshot(life: &mut Lifecycle, config: &Config) -> Result<(), ServiceError> {
    let config = config.clone();
    let open = blocking(move || save_config_snapshot(&config).map(|()| ((), ())));
    life.start("configuration snapshot", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_io_start_error)
}

/// Writes the configuration in force to the state directory.
pub fn save_config_snapshot(config: &Config) -> io::Result<()> {
    let (dir, text) = (&config.state_dir, config.to_string());
    replace_own(dir, "config.toml", text.as_bytes()).map_err(|error| {
        let path = dir.join("config.toml");
        io::Error::new(error.kind(), format!("cannot write {}: {error}", display_path(&path)))
    })
}

/// Maps as [`map_ledger_start_error`] does, but keeps a [`ServiceError`].
fn map_pipelines_start_error(error: StartError) -> ServiceError {
    let map = map_ledger_start_error(ServiceError::Config);
    match error {
        StartError::Failed { name, source } => match source.downcast() {
            Ok(error) => *error,
            Err(source) => map(StartError::Failed { name, source }),
        },
        error => map(error),
    }
}

/// Opens the ledger. Recovery queries how the previous run ended.
pub async fn ledger(life: &mut Lifecycle, config: &Config) -> Result<Arc<Sqlite>, ServiceError> {
    let path = config.state_dir.join("ledger.sqlite");
    let open = blocking(move || {
        let ledger = Arc::new(Sqlite::open(&path)?);
        Ok::<_, ledger::Error>((Arc::clone(&ledger), ledger))
    });
    let close = |ledger: Arc<Sqlite>| blocking(move || ledger.end(&fs::boot_id()));
    life.start(LEDGER, LIMIT, open, close)
        .await
        .map_err(map_ledger_start_error(ServiceError::Storage))
}

/// Opens the events file, if one is configured, with its listener.
pub async fn events(
    life: &mut Lifecycle,
    config: &Config,
    listener: Option<Box<dyn Listener>>,
) -> Result<SharedEvents, ServiceError> {
    let path = config.events.clone();
    let open = blocking(move || {
        let events = Events::open_with(path.as_deref(), listener)?;
        let events = Arc::new(Mutex::new(events));
        Ok::<_, io::Error>((Arc::clone(&events), events))
    });
    let close = |events: SharedEvents| async move {
        drop(events);
        Ok::<_, Infallible>(())
    };
    life.start("events", LIMIT, open, close).await.map_err(map_io_start_error)
}

/// Starts the pipelines. Closing them is the drain.
pub async fn pipelines(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    opener: PipelineOpener,
    (left_by_recovery, drained): (u64, oneshot::Sender<(DrainSummary, u64)>),
) -> Result<(Control, PendingPipelines), ServiceError> {
    let (config, observer) = (live_config.now(), Arc::clone(&opener.observer));
    let (start_observer, ledger) = (Arc::clone(&observer), Arc::clone(&opener.ledger));
    // The drain may take the time of the entire stop.
    let limit = LIMIT.max(config.shutdown_deadline);
    let runtime = tokio::runtime::Handle::current();
    let open = async move {
        let (contexts, pending) = opener.open_all(&config).await?;
        let Config { limits, once, .. } = *config;
        let inputs = PipelineInputs {
            contexts,
            late: pending.announce(),
            limits,
            once,
            observer: start_observer,
            runtime,
        };
        let (pipelines, control) = blocking(move || Pipelines::start(inputs)).await?;
        Ok::<_, Failure>(((pipelines, control.clone()), (control, pending)))
    };
    let handle = life.handle().clone();
    let live_config = live_config.clone();
    let close = move |(pipelines, control): (Pipelines, Control)| async move {
        drain(&handle, &control, &live_config, &observer).await;
        // Every thread has ended, so this does not wait.
        let mut summary = blocking(move || pipelines.drained()).await;
        summary.unfinished += left_by_recovery;
        observer.drain_finished(summary.unfinished);
        let in_quarantine = in_quarantine(ledger, live_config.now()).await;
        let sent = drained.send((summary, in_quarantine.as_ref().copied().unwrap_or(0)));
        sent.map_err(|_| lifecycle::Error::from("no receiver for the drain summary"))?;
        in_quarantine.map(drop)
    };
    life.start("pipelines", limit, open, close).await.map_err(map_pipelines_start_error)
}

/// Counts the files of these pipelines in quarantine, including those of earlier runs, for the exit
/// code of `--once`. Returns 0 without `--once`.
async fn in_quarantine(ledger: Arc<Sqlite>, config: Arc<Config>) -> Result<u64, lifecycle::Error> {
    if !config.once {
        return Ok(0);
    }
    let count = blocking(move || {
        let files = quarantined::all(&*ledger)?;
        let is_counted = |file: &&Quarantined| {
            let is_of = |pipeline: &Pipeline| {
                pipeline.input == file.roots.input && pipeline.output == file.roots.output
            };
            // An unresponsive directory counts as one that has the file.
            let exists = |path: PathBuf| {
                let dir = path.parent().unwrap_or(&path).to_path_buf();
                patience::within(&dir, move || path.symlink_metadata().is_ok()).unwrap_or(true)
            };
            config.pipelines.iter().any(is_of) && exists(file.kept_at())
        };
        Ok::<_, ledger::Error>(files.iter().filter(is_counted).count())
    });
    Ok(count.await? as u64)
}

/// Enters READY, and reports it to the log and the service manager.
pub fn ready(life: &Lifecycle, config: &Config, late: &[Arc<str>]) {
    for pipeline in config.pipelines.iter().filter(|pipeline| !late.contains(&pipeline.name)) {
        tracing::info!(
            event = "pipeline.ready", pipeline = %pipeline.name,
            input = %display_path(&pipeline.input),
            output = %display_path(&pipeline.output),
            transforms = %pipeline.transforms,
            on_success = %pipeline.on_success,
            "ready"
        );
    }
    life.handle().enter(Phase::Ready);
    notify(&[sd_notify::NotifyState::Ready]);
}
