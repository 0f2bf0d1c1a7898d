//! The whole life of Tidemill on one page.
//!
//! ```text
//! configuration → privileges, directories, sandbox → signals followed → hooks in order → READY
//!                              → run → drain → hooks in reverse → report → exit code
//! ```
//!
//! Every exit is safe, even a kill: the graceful way only saves the next start work.

mod bootstrap;
mod ended;
mod error;
mod exit;
mod listeners;
mod live_config;
mod opening;
pub mod probe;
mod recover;
mod reload;
mod resources;
mod status_line;
mod tasks;
mod watchdog;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use tokio::{sync::oneshot, time::timeout};

pub use self::ended::Ended;
use self::{
    bootstrap::Bootstrap,
    error::ServiceError,
    exit::{ExitReport, RunOutcome},
    live_config::LiveConfig,
    opening::PipelineOpener,
    reload::Reloader,
    resources::HeldLock,
};
use crate::{
    config::{Config, Http, Options},
    error::Exit,
    hooks::{HookService, Runner},
    http::Token,
    lifecycle::{Deadlines, Handle, Lifecycle, Signals},
    limits,
    observe::{self, Observer},
    patience,
    pipeline::{self, Control, DrainSummary, own_paths::OwnPlaces},
};

/// What is made ready before the first thread.
struct Bootstrapped {
    settings: LiveConfig,
    runner: Option<Runner>,
    /// For changes over HTTP.
    token: Option<Token>,
    signals: Signals,
}

/// Runs the service from its first hook to its last, and says how the process is to end. The options
/// are those that the configuration was loaded by: a reload loads it by them again.
///
/// Blocks. The signals are followed from here on; the third one, or the deadline, makes this
/// return at once, with threads still at work: the process must end then.
#[must_use]
pub fn run(config: Config, options: Options, signals: Signals) -> Exit {
    log_start(&config, &options);
    let ready = match make_ready(config, options, signals) {
        Ok(ready) => ready,
        Err(fault) => return exit::report_failed_start(&fault),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::report_failed_start(&ServiceError::Internal(format!(
                "cannot start the runtime: {error}"
            )));
        }
    };
    let exit = runtime.block_on(live(ready));
    // The process ends now. Threads that hang in a call may still use the runtime, and one that is
    // shut down under them makes them panic after the last word.
    std::mem::forget(runtime);
    exit
}

/// Which program runs by which configuration: the first line of the log.
fn log_start(config: &Config, options: &Options) {
    let file = options.config.as_deref().map(|file| observe::display_path(file).to_string());
    let hash = blake3::hash(config.to_string().as_bytes()).to_hex();
    tracing::info!(
        event = "service.starting",
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        config = file,
        config_hash = hash.get(..12),
        state_dir = %observe::display_path(&config.state_dir),
        "starting"
    );
}

/// Everything before the first thread: what the process gives up, all threads give up.
fn make_ready(
    config: Config,
    options: Options,
    mut signals: Signals,
) -> Result<Bootstrapped, ServiceError> {
    let token = listeners::token(&config)?;
    let Bootstrap { fence, runner } = bootstrap::prepare(&config, options.config.as_deref())?;
    patience::end_alone();
    // Nothing hangs in a place any more without a thread that follows the signals.
    signals
        .catch_stops()
        .map_err(|error| ServiceError::Internal(format!("cannot catch signals: {error}")))?;
    observe::detach_logs().map_err(|error| {
        ServiceError::Internal(format!("cannot start the thread of the log: {error}"))
    })?;
    let inside = fence.as_ref().map(|fence| (fence.inside.clone(), fence.reach.clone()));
    let settings = LiveConfig::new(config, options, inside);
    Ok(Bootstrapped { settings, runner, token, signals })
}

async fn live(ready: Bootstrapped) -> Exit {
    let Bootstrapped { settings, runner, token, signals } = ready;
    let (began, descriptors) = (Instant::now(), observe::open_descriptors());
    let config = settings.now();
    let stop = config.shutdown_deadline.max(limits::STOP_DEADLINE_MIN);
    let deadlines = Deadlines { stop, reserve: limits::COMMIT_RESERVE };
    let life = match Lifecycle::new(deadlines, signals) {
        Ok(life) => life,
        Err(error) => {
            return exit::report_failed_start(&ServiceError::Internal(format!(
                "cannot follow signals: {error}"
            )));
        }
    };
    let names: Vec<_> =
        config.pipelines.iter().map(|pipeline| Arc::clone(&pipeline.name)).collect();
    // Before the meters: they write to the recorder that is there when they are made. A failure is
    // told by the hook that needs it.
    if config.http != Http::Off {
        drop(observe::install_exporter());
    }
    let observer = Arc::new(Observer::new(&names, &pipeline::CHANNELS));
    let held = HeldLock::default();
    let hooked = runner.map(|runner| HookService::new(runner, config.hooks.clone()));
    let steered = Arc::new(OnceLock::new());
    let (of, lock, control) = (Arc::clone(&observer), Arc::clone(&held), Arc::clone(&steered));
    let parts = StartupInputs { observer: of, held: lock, control, token, hooked };

    let leave = life.handle().forced_stop();
    // A task of its own, so that nothing it does can hold up the look at `leave`.
    let mut whole = tokio::spawn(from_start_to_stop(life, settings.clone(), parts));
    let end = tokio::select! {
        end = &mut whole => Some(end),
        () = leave => timeout(limits::FORCED_STOP_WAIT, &mut whole).await.ok(),
    };
    let end = match end {
        Some(Ok(end)) => Some(end),
        Some(Err(panic)) => {
            return exit::report_failed_start(&ServiceError::Internal(panic.to_string()));
        }
        None => None,
    };
    let config = settings.now();
    let has_lock = held.get().is_some();
    // Also where the drain did not come to its end.
    let storage_failed = steered.get().is_some_and(|control| control.fatal_reason().is_some());
    let observer = &observer;
    ExitReport { config: &config, observer, end, storage_failed, has_lock, descriptors, began }
        .report()
}

/// What the hooks take.
struct StartupInputs {
    observer: Arc<Observer>,
    held: HeldLock,
    /// Set once the pipelines are started.
    control: Arc<OnceLock<Control>>,
    token: Option<Token>,
    hooked: Option<HookService>,
}

async fn from_start_to_stop(
    mut life: Lifecycle,
    settings: LiveConfig,
    parts: StartupInputs,
) -> RunOutcome {
    let (drained, was_drained) = oneshot::channel();
    let started = start(&mut life, &settings, parts, drained).await;
    let fault = match started {
        Ok(control) => {
            let fenced_off = tasks::wait_for_sandbox_miss(&settings);
            until_stop(life.handle(), &control, fenced_off).await
        }
        Err(ServiceError::Stopping) if life.handle().cut().is_cancelled() => {
            Some(ServiceError::StartCut)
        }
        Err(fault) => Some(fault),
    };
    let report = life.stop().await;
    let (drained, in_quarantine) = was_drained.await.ok().unzip();
    RunOutcome { report, drained, in_quarantine: in_quarantine.unwrap_or(0), fault }
}

/// The start-up hooks, in order. What each of them opened is closed by [`Lifecycle::stop`], in
/// reverse, also where a later one fails.
async fn start(
    life: &mut Lifecycle,
    settings: &LiveConfig,
    StartupInputs { observer, held, control: steered, token, hooked }: StartupInputs,
    drained: oneshot::Sender<(DrainSummary, u64)>,
) -> Result<Control, ServiceError> {
    let (config, observer) = (&*settings.now(), &observer);
    let hangups = reload::hangups(life.handle());
    resources::limits(life, config).await?;
    resources::lock(life, config, &held).await?;
    resources::settings(life, config).await?;
    let ledger = resources::ledger(life, config).await?;
    let listener = hooked.as_ref().map(HookService::listener);
    let events = resources::events(life, config, listener).await?;
    tasks::phase(life, observer);
    if let Some(hooked) = hooked {
        hooked.spawn(life, error::LIMIT, tasks::facts(config, observer));
    }
    watchdog::spawn(life, observer);
    status_line::spawn(life, observer);
    let desk = listeners::open(life, config, observer, &ledger, token).await?;
    let recovered = recover::recovery(life, config, (&ledger, &events), observer).await?;
    let tracer = tasks::traces(life, config);
    let observer_of = Arc::clone(observer);
    let known = settings.now();
    let own = error::blocking(move || OwnPlaces::new(known)).await;
    let reach = settings.reach();
    let opening = PipelineOpener {
        ledger: Arc::clone(&ledger),
        events,
        tracer,
        observer: observer_of,
        own,
        reach,
    };
    let (control, late) =
        resources::pipelines(life, settings, opening.clone(), (recovered.left, drained)).await?;
    drop(steered.set(control.clone()));
    if let Some(desk) = &desk {
        desk.set_control(control.clone());
    }
    tasks::flushes(life, &ledger, &control);
    tasks::background(life, config, observer, &control);
    let reloader = Reloader {
        settings: settings.clone(),
        opening,
        late,
        failed: Vec::new(),
        control: control.clone(),
        desk,
        index: config.pipelines.len(),
    };
    reload::spawn(life, reloader, hangups);
    resources::ready(life, config, &control.intakes().late());
    Ok(control)
}

/// Waits for what ends the service: a signal, `--once` being through, failed storage, a failed
/// task, a place that the sandbox keeps it out of. Asks for the stop, which drains.
async fn until_stop(
    handle: &Handle,
    control: &Control,
    fenced_off: impl Future<Output = ServiceError>,
) -> Option<ServiceError> {
    let fault = tokio::select! {
        () = handle.closing().cancelled_owned() => None,
        () = control.ended() => None,
        () = control.fatal() => {
            let reason = control.fatal_reason().unwrap_or_default();
            Some(ServiceError::Storage(format!("storage failed, so the service stopped: {reason}")))
        }
        failure = handle.failed() => Some(ServiceError::Internal(failure.to_string())),
        fault = fenced_off => Some(fault),
    };
    handle.request_stop();
    fault
}
