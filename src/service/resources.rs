//! The hooks of [`super::start`], one for each resource: how it is opened, and how it is closed.

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
        LEDGER, LIMIT, ServiceError, blocking, chain, map_io_start_error, map_start_error,
        sort_ledger,
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
    pipeline::{Control, DrainSummary, PipelineInputs, Pipelines, context::SharedEvents},
    queries::quarantined::{self, Quarantined},
};

/// Recovery may have much to do.
pub(super) const RECOVERY: Duration = Duration::from_hours(1);

/// The lock on the state directory, once it is taken.
pub type HeldLock = Arc<OnceLock<Lock>>;

/// As many descriptors as the system gives, and at least what the configuration needs.
pub async fn limits(life: &mut Lifecycle, config: &Config) -> Result<(), ServiceError> {
    let files = u64::from(config.limits.files);
    let open = async move {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, ..limit };
        setrlimit(Resource::Nofile, raised)?;
        let most = limit.maximum.unwrap_or(u64::MAX);
        let needed = 2 * files + 64;
        if most < needed {
            return Err(io::Error::other(format!(
                "the system gives at most {most} descriptors, and `limits.files = {files}` may need {needed}: raise `ulimit -n`, or lower `files` to {}",
                most.saturating_sub(64) / 2
            )));
        }
        Ok(((), ()))
    };
    life.start("limits", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_start_error(ServiceError::Config))
}

/// One process for one state directory.
///
/// It goes into `held`, which is the process's to the end: who waits for the lock finds the last word
/// ([`super::ended`]) written.
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

/// What the configuration came to, for `tidemill explain`, which tells by these rules what becomes of
/// a file. Only who has the lock writes it.
pub async fn settings(life: &mut Lifecycle, config: &Config) -> Result<(), ServiceError> {
    let config = config.clone();
    let open = blocking(move || write_settings(&config).map(|()| ((), ())));
    life.start("settings", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_io_start_error)
}

pub fn write_settings(config: &Config) -> io::Result<()> {
    let (dir, text) = (&config.state_dir, config.to_string());
    replace_own(dir, "config.toml", text.as_bytes()).map_err(|error| {
        let path = dir.join("config.toml");
        io::Error::new(error.kind(), format!("cannot write {}: {error}", display_path(&path)))
    })
}

/// As [`sort_ledger`]; one that says what it is stays that.
fn sort_pipelines(error: StartError) -> ServiceError {
    let sorted = sort_ledger(ServiceError::Config);
    match error {
        StartError::Failed { name, source } => match source.downcast() {
            Ok(fault) => *fault,
            Err(source) => sorted(StartError::Failed { name, source }),
        },
        error => sorted(error),
    }
}

/// The ledger, marked as in use; how the last use ended is recovery's to ask.
pub async fn ledger(life: &mut Lifecycle, config: &Config) -> Result<Arc<Sqlite>, ServiceError> {
    let path = config.state_dir.join("ledger.sqlite");
    let open = blocking(move || {
        let ledger = Arc::new(Sqlite::open(&path)?);
        Ok::<_, ledger::Error>((Arc::clone(&ledger), ledger))
    });
    let close = |ledger: Arc<Sqlite>| blocking(move || ledger.end(&fs::boot_id()));
    life.start(LEDGER, LIMIT, open, close).await.map_err(sort_ledger(ServiceError::Storage))
}

/// The events file, if one was asked for, and who listens.
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

/// The eight stages. Closing them is the drain.
pub async fn pipelines(
    life: &mut Lifecycle,
    settings: &LiveConfig,
    opening: PipelineOpener,
    (left_by_recovery, drained): (u64, oneshot::Sender<(DrainSummary, u64)>),
) -> Result<(Control, PendingPipelines), ServiceError> {
    let (config, observer) = (settings.now(), Arc::clone(&opening.observer));
    let (seen, counted) = (Arc::clone(&observer), Arc::clone(&opening.ledger));
    // The drain's own limit is the deadline of the whole stop.
    let limit = LIMIT.max(config.shutdown_deadline);
    let runtime = tokio::runtime::Handle::current();
    let open = async move {
        let (contexts, late) = opening.all(&config).await?;
        let Config { limits, once, .. } = *config;
        let start = PipelineInputs {
            contexts,
            late: late.announce(),
            limits,
            once,
            observer: seen,
            runtime,
        };
        let (pipelines, control) = blocking(move || Pipelines::start(start)).await?;
        Ok::<_, Failure>(((pipelines, control.clone()), (control, late)))
    };
    let handle = life.handle().clone();
    let settings = settings.clone();
    let close = move |(pipelines, control)| async move {
        drain(&handle, &control, &settings, &observer).await;
        // Every thread has ended: taking back what they returned does not wait.
        let mut ended = pipelines_drained(pipelines).await;
        ended.unfinished += left_by_recovery;
        observer.drained(ended.unfinished);
        let in_quarantine = in_quarantine(counted, settings.now()).await;
        let sent = drained.send((ended, in_quarantine.as_ref().copied().unwrap_or(0)));
        sent.map_err(|_| lifecycle::Error::from("nobody waits for the drain"))?;
        in_quarantine.map(drop)
    };
    life.start("pipelines", limit, open, close).await.map_err(sort_pipelines)
}

async fn pipelines_drained(pipelines: Pipelines) -> DrainSummary {
    blocking(move || pipelines.drained()).await
}

/// How many files of these pipelines are in quarantine, also those from before this start. Asked for
/// by `--once` alone, whose exit code says so.
async fn in_quarantine(ledger: Arc<Sqlite>, config: Arc<Config>) -> Result<u64, lifecycle::Error> {
    if !config.once {
        return Ok(0);
    }
    let all = blocking(move || {
        let all = quarantined::all(&*ledger)?;
        let is_ours = |file: &&Quarantined| {
            let of = |pipeline: &Pipeline| {
                pipeline.input == file.roots.input && pipeline.output == file.roots.output
            };
            // What does not answer has not gone.
            let is_there = |at: PathBuf| {
                let dir = at.parent().unwrap_or(&at).to_path_buf();
                patience::within(&dir, move || at.symlink_metadata().is_ok()).unwrap_or(true)
            };
            config.pipelines.iter().any(of) && is_there(file.kept_at())
        };
        Ok::<_, ledger::Error>(all.iter().filter(is_ours).count())
    });
    Ok(all.await? as u64)
}

/// The last hook: from here on the service says that it is ready.
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
