//! The resources of [`super::start`]: one function opens each and registers its close.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidemill_lifecycle::{BoxError, Handle, Lifecycle, Phase, StartError};
use tokio::sync::oneshot;

use super::{
    blocking::{self, blocking},
    error::{
        LIMIT, ServiceError, chain, map_io_start_error, map_ledger_start_error, map_start_error,
    },
    live_config::LiveConfig,
    manager::ServiceManager,
    opening::{Failure, PendingPipelines, PipelineOpener},
    storage_wait::StorageWait,
    tasks::drain,
};
use crate::{
    config::{Config, Pipeline},
    error::is_of_disk,
    exec,
    fs::{self, Lock, LockError, replace_own},
    ledger::{self, Access, Ledger, OpenWork},
    limits,
    observe::{Listener, OutcomeLog, display_path, is_full, shell_quoted},
    pipeline::{Control, DrainSummary, Intakes, Peers, PipelineInputs, Pipelines},
    protocol::{SharedOutcomeLog, outcome},
    queries::quarantined::{self, Quarantined},
    sync::Mutex,
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

/// Takes the lock on the state directory, and waits for the space for its content.
///
/// `held` keeps the lock until the process exits: a process that waits for the lock then finds the
/// [`super::exit_record`].
pub async fn lock(
    life: &mut Lifecycle,
    config: &Config,
    held: &HeldLock,
) -> Result<(), ServiceError> {
    let storage = StorageWait::new(life, config);
    loop {
        let (dir, held) = (config.state_dir.clone(), Arc::clone(held));
        let open = blocking(move || {
            Lock::take(&dir, &command_line()).map(|lock| (drop(held.set(lock)), ()))
        });
        let close = |()| async { Ok::<_, Infallible>(()) };
        let taken = life.start("lock", LIMIT, open, close).await.map_err(map_lock_error);
        if !storage.repeats(&taken).await {
            return taken;
        }
    }
}

/// The command line of this process, one line of bounded length.
fn command_line() -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,+@%".contains(letter);
    let word = |word: OsString| match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        _ => shell_quoted(Path::new(&word)),
    };
    let arguments = std::env::args_os().skip(1).map(word);
    let words: Vec<_> = std::iter::once("tidemill".to_owned()).chain(arguments).collect();
    words.join(" ").chars().take(limits::COMMAND_CHARS_MAX).collect()
}

fn map_lock_error(error: StartError) -> ServiceError {
    let source = match &error {
        StartError::Failed { source, .. } => source.downcast_ref::<LockError>(),
        _ => None,
    };
    match source {
        Some(source @ LockError::Held { .. }) => ServiceError::Busy(chain(source)),
        Some(error @ LockError::Io { source, .. }) if is_full(source) => {
            ServiceError::NoSpace(chain(error))
        }
        Some(error @ LockError::Io { source, .. }) if is_of_disk(source) => {
            ServiceError::Storage(chain(error))
        }
        Some(source @ LockError::Io { .. }) => ServiceError::Config(chain(source)),
        None => map_start_error(ServiceError::Storage)(error),
    }
}

/// Saves the configuration for `tidemill explain`. The lock must be held.
pub async fn config_snapshot(life: &mut Lifecycle, config: &Config) -> Result<(), ServiceError> {
    let storage = StorageWait::new(life, config);
    loop {
        let config = config.clone();
        let open = blocking(move || save_config_snapshot(&config).map(|()| ((), ())));
        let close = |()| async { Ok::<_, Infallible>(()) };
        let saved = life.start("configuration snapshot", LIMIT, open, close).await;
        let saved = saved.map_err(map_io_start_error);
        if !storage.repeats(&saved).await {
            return saved;
        }
    }
}

/// Writes the configuration in force to the state directory.
pub fn save_config_snapshot(config: &Config) -> io::Result<()> {
    let (dir, text) = (&config.state_dir, config.to_string());
    replace_own(dir, "config.toml", text.as_bytes()).map_err(|error| {
        // Its number decides the exit code.
        if is_of_disk(&error) {
            return error;
        }
        let path = dir.join("config.toml");
        io::Error::new(error.kind(), format!("cannot write {}: {error}", display_path(&path)))
    })
}

/// Takes over the runner of the programs, if there is one. The lock must be held.
pub async fn programs(
    life: &mut Lifecycle,
    config: &Config,
    runner: Option<exec::RunnerProcess>,
) -> Result<Option<Arc<exec::Client>>, ServiceError> {
    let Some(runner) = runner else { return Ok(None) };
    let (state_dir, cut) = (config.state_dir.clone(), life.handle().cut());
    let open = blocking(move || {
        let client = exec::Client::new(runner, &state_dir, cut);
        Ok::<_, Infallible>((Arc::clone(&client), client))
    });
    let close = |client: Arc<exec::Client>| blocking(move || client.close());
    let client = life.start("program runner", LIMIT, open, close).await;
    client.map(Some).map_err(map_io_start_error)
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

/// Sets a flag when it is dropped, also by a panic, unless the work has ended.
struct SetUnlessEnded(Option<Arc<AtomicBool>>);

impl SetUnlessEnded {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for SetUnlessEnded {
    fn drop(&mut self) {
        if let Some(flag) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// Opens the ledger. Recovery queries how the previous run ended. `is_failed` is set if it cannot be closed.
pub async fn ledger(
    life: &mut Lifecycle,
    config: &Config,
    is_failed: &Arc<AtomicBool>,
) -> Result<Arc<dyn Ledger>, ServiceError> {
    let storage = StorageWait::new(life, config);
    loop {
        let path = config.state_dir.join(fs::LEDGER_NAME);
        let open = blocking(move || {
            let ledger = ledger::open(&path, Access::Service)?;
            Ok::<_, ledger::Error>((Arc::clone(&ledger), ledger))
        });
        let is_failed = Arc::clone(is_failed);
        let close = |ledger: Arc<dyn Ledger>| {
            blocking(move || {
                let failure = SetUnlessEnded(Some(is_failed));
                ledger.leave().inspect(|()| failure.ended())
            })
        };
        // It may have a long log to write again.
        let opened = life.start("ledger", RECOVERY_TIMEOUT, open, close).await;
        let opened = opened.map_err(map_ledger_start_error(ServiceError::Storage));
        if !storage.repeats(&opened).await {
            return opened;
        }
    }
}

/// Opens the events file, if one is configured, with its listener.
pub async fn events(
    life: &mut Lifecycle,
    config: &Config,
    listener: impl Fn() -> Option<Box<dyn Listener>>,
) -> Result<SharedOutcomeLog, ServiceError> {
    let storage = StorageWait::new(life, config);
    loop {
        let (path, listener) = (config.events.clone(), listener());
        let open = blocking(move || {
            let events = OutcomeLog::open_with(path.as_deref(), listener)?;
            let events = Arc::new(Mutex::new(events));
            Ok::<_, io::Error>((Arc::clone(&events), events))
        });
        let close = |events: SharedOutcomeLog| async {
            // It uses the events file and the ledger.
            blocking::abandoned_work().await;
            blocking(move || outcome::finish(&events)).await;
            Ok::<_, Infallible>(())
        };
        let opened = life.start("events", LIMIT, open, close).await.map_err(map_io_start_error);
        if !storage.repeats(&opened).await {
            return opened;
        }
    }
}

/// Starts the pipelines. Closing them is the drain.
pub async fn pipelines(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    (opener, manager): (PipelineOpener, &ServiceManager),
    (left_by_recovery, drained): (u64, oneshot::Sender<(DrainSummary, u64)>),
) -> Result<(Control, PendingPipelines), ServiceError> {
    let (config, observer) = (live_config.now(), Arc::clone(&opener.observer));
    let (start_observer, ledger) = (Arc::clone(&observer), Arc::clone(&opener.ledger));
    // The drain may take the time of the entire stop.
    let limit = LIMIT.max(config.keys.shutdown_deadline);
    let runtime = tokio::runtime::Handle::current();
    let open = async move {
        let (contexts, pending) = opener.open_all(&config).await?;
        let Config { limits, once, .. } = *config;
        let inputs = PipelineInputs {
            contexts,
            late: pending.announce(),
            peers: Peers::of(&config),
            limits,
            once,
            observer: start_observer,
            runtime,
        };
        // Threads that a cut start or drain leaves behind have temporary files and held sources.
        let work = opener.ledger.session().begin_work();
        let (pipelines, control) = blocking(move || Pipelines::start(inputs)).await?;
        Ok::<_, Failure>(((pipelines, control.clone(), work), (control, pending)))
    };
    let handle = life.handle().clone();
    let (live_config, manager) = (live_config.clone(), manager.clone());
    let close = move |(pipelines, control, work): (Pipelines, Control, OpenWork)| async move {
        drain(&handle, &control, &live_config, (&observer, &manager)).await;
        // Every thread has ended, so this does not wait.
        let mut summary = blocking(move || pipelines.drained()).await;
        work.end();
        summary.unfinished += left_by_recovery;
        observer.drain_finished(summary.unfinished);
        let in_quarantine = in_quarantine(ledger, live_config.now()).await;
        let sent = drained.send((summary, in_quarantine.as_ref().copied().unwrap_or(0)));
        sent.map_err(|_| BoxError::from("no receiver for the drain summary"))?;
        in_quarantine.map(drop)
    };
    life.start("pipelines", limit, open, close).await.map_err(map_pipelines_start_error)
}

/// Counts the files of these pipelines in quarantine, including those of earlier runs, for the exit
/// code of `--once`. Returns 0 without `--once`.
async fn in_quarantine(ledger: Arc<dyn Ledger>, config: Arc<Config>) -> Result<u64, BoxError> {
    if !config.once {
        return Ok(0);
    }
    let count = blocking(move || {
        let files = quarantined::all(&*ledger)?;
        let is_counted = |file: &&Quarantined| {
            let is_of = |pipeline: &Pipeline| {
                pipeline.input == file.roots.input && pipeline.output == file.roots.output
            };
            config.pipelines.iter().any(is_of)
        };
        Ok::<_, ledger::Error>(files.iter().filter(is_counted).count())
    });
    Ok(count.await? as u64)
}

/// Enters READY when the inputs are watched, and reports it to the log and the service manager: a close
/// after that is seen.
pub async fn ready(handle: Handle, config: &Config, intakes: &Intakes, manager: &ServiceManager) {
    let watching = intakes.watching(limits::START_TIMEOUT);
    handle.closing().run_until_cancelled(watching).await;
    for pipeline in config.pipelines.iter().filter(|pipeline| !intakes.is_late(&pipeline.name)) {
        tracing::info!(
            event = "pipeline.ready", pipeline = %pipeline.name,
            input = %display_path(&pipeline.input),
            output = %display_path(&pipeline.output),
            transforms = %pipeline.transforms,
            on_success = %pipeline.on_success,
            "ready"
        );
    }
    handle.enter(Phase::Ready);
    manager.notify(&[sd_notify::NotifyState::Ready]);
}
