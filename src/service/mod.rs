//! The life of the process on one page.
//!
//! ```text
//! configuration → privileges, directories, sandbox → signals → resources in order → READY
//!              → run → drain → resources in reverse → report → exit code
//! ```
//!
//! [`run`] calls the functions below it in the order in which they stand here. Every exit is safe,
//! even a kill: a graceful stop only saves work at the next start.

mod access;
mod blocking;
mod bootstrap;
mod error;
mod exit;
mod exit_record;
mod listeners;
mod live_config;
mod manager;
mod opening;
pub mod probe;
mod recover;
mod reload;
mod resources;
mod retention;
mod status_line;
mod storage_wait;
mod tasks;
mod watchdog;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tidemill_lifecycle::{Deadlines, Handle, Lifecycle, Signals};
use tokio::{runtime, sync::oneshot, time::timeout};

pub use self::exit_record::ExitRecord;
use self::{
    bootstrap::Bootstrapped,
    error::ServiceError,
    exit::{ExitReport, RunOutcome},
    live_config::LiveConfig,
    manager::ServiceManager,
    opening::PipelineOpener,
    reload::Reloader,
    resources::HeldLock,
};
use crate::{
    config::{Config, Http, Options},
    error::Exit,
    exec,
    hooks::HookService,
    http::Token,
    limits,
    observe::{self, Observer},
    pipeline::{self, Control, DrainSummary, in_commit::InCommitTables},
};

/// Runs the service from start to stop and returns the exit code. A reload loads the configuration
/// again with the same `options`.
///
/// Blocks and follows the signals. At the third one, or at the deadline, it returns at once with
/// threads still running: the process must exit then.
#[must_use]
pub fn run(config: Config, options: Options, signals: Signals) -> Exit {
    // Privileges, directories and the sandbox come before the first thread: all threads inherit them.
    let bootstrapped = match bootstrap::bootstrap(config, options, signals) {
        Ok(bootstrapped) => bootstrapped,
        Err(error) => return exit::report_failed_start(&error),
    };
    let runtime = match runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = ServiceError::Internal(format!("cannot start the runtime: {error}"));
            return exit::report_failed_start(&error);
        }
    };
    let exit = runtime
        .block_on(run_until_forced_stop(bootstrapped))
        .unwrap_or_else(|error| exit::report_failed_start(&error));
    // Threads that hang in a system call may still use the runtime. Shutting it down would make them
    // panic after the exit report.
    std::mem::forget(runtime);
    exit
}

/// Runs [`start_run_stop`], gives up on it at the forced stop, and reports the exit.
async fn run_until_forced_stop(bootstrapped: Bootstrapped) -> Result<Exit, ServiceError> {
    let Bootstrapped { live_config, runners, token, signals, sandbox: _sandbox } = bootstrapped;
    let (started_at, descriptors) = (Instant::now(), observe::open_descriptors());
    let config = live_config.now();
    let stop = config.keys.shutdown_deadline.max(limits::STOP_DEADLINE_MIN);
    let deadlines = Deadlines { stop, reserve: limits::COMMIT_RESERVE };
    let life = Lifecycle::new(deadlines, signals)
        .map_err(|error| ServiceError::Internal(format!("cannot follow signals: {error}")))?;
    // The recorder comes before the meters, which write to it. A failure is reported by the
    // listeners, which need it.
    if config.http != Http::Off {
        drop(observe::install_exporter());
    }
    let names: Vec<_> =
        config.pipelines.iter().map(|pipeline| Arc::clone(&pipeline.name)).collect();
    let inputs = StartupInputs {
        observer: Arc::new(Observer::new(&names, &pipeline::CHANNELS)),
        lock: HeldLock::default(),
        ledger_failed: Arc::default(),
        control: Arc::default(),
        token,
        hooks: runners.hooks.map(|runner| HookService::new(runner, config.hooks.clone())),
        program_runner: runners.programs,
    };
    let (observer, lock) = (Arc::clone(&inputs.observer), Arc::clone(&inputs.lock));
    let (control, ledger_failed) = (Arc::clone(&inputs.control), Arc::clone(&inputs.ledger_failed));

    let forced_stop = life.handle().forced_stop();
    // A separate task, so that nothing in it can delay the reaction to the forced stop.
    let mut service = tokio::spawn(start_run_stop(life, live_config.clone(), inputs));
    let joined = tokio::select! {
        joined = &mut service => Some(joined),
        () = forced_stop => timeout(limits::FORCED_STOP_WAIT, &mut service).await.ok(),
    };
    let outcome = joined.transpose().map_err(|panic| ServiceError::Internal(panic.to_string()))?;
    let report = ExitReport {
        config: &live_config.now(),
        observer: &observer,
        outcome,
        storage_failed: ledger_failed.load(Ordering::Relaxed)
            || control.get().is_some_and(|control| control.halt_reason().is_some()),
        has_lock: lock.get().is_some(),
        has_started: control.get().is_some(),
        descriptors,
        started_at,
    };
    Ok(report.report())
}

/// Opens the resources, waits for a reason to stop, and closes the resources in reverse order.
/// Closing the pipelines is the drain.
async fn start_run_stop(
    mut life: Lifecycle,
    live_config: LiveConfig,
    inputs: StartupInputs,
) -> RunOutcome {
    let (drained, drain_result) = oneshot::channel();
    let error = match start(&mut life, &live_config, inputs, drained).await {
        Ok(control) => wait_for_stop(life.handle(), &control, &live_config).await,
        Err(ServiceError::Stopping) if life.handle().cut().is_cancelled() => {
            Some(ServiceError::StartCut)
        }
        Err(error) => Some(error),
    };
    let report = life.stop().await;
    let (drained, in_quarantine) = drain_result.await.ok().unzip();
    RunOutcome { report, drained, in_quarantine: in_quarantine.unwrap_or(0), error }
}

/// Opens the resources in order. [`Lifecycle::stop`] closes them in reverse order, also when a later
/// one fails to open.
async fn start(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    inputs: StartupInputs,
    drained: oneshot::Sender<(DrainSummary, u64)>,
) -> Result<Control, ServiceError> {
    let StartupInputs {
        observer,
        lock,
        ledger_failed,
        control: control_cell,
        token,
        hooks,
        program_runner,
    } = inputs;
    let (config, observer) = (live_config.now(), &observer);
    let hangups = reload::hangups(life.handle());
    let manager = ServiceManager::spawn(life);
    resources::descriptor_limit(life, &config).await?;
    resources::lock(life, &config, &lock).await?;
    let ledger = resources::ledger(life, &config, &ledger_failed).await?;
    resources::config_snapshot(life, &config).await?;
    let listener = || hooks.as_ref().map(HookService::listener);
    let events = resources::events(life, &config, listener).await?;
    tasks::phase(life, observer);
    if let Some(hooks) = hooks {
        hooks.spawn(life, error::LIMIT, tasks::hook_context(&config, observer));
    }
    watchdog::spawn(life, observer, &manager);
    status_line::spawn(life, observer, &manager);
    let api_state = listeners::open(life, live_config, observer, &ledger, token).await?;
    let recovered = recover::recovery(life, &config, (&ledger, &events), observer).await?;
    let tracer = tasks::traces(life, &config);
    let programs = resources::programs(life, &config, program_runner).await?;
    let opener = PipelineOpener {
        ledger: Arc::clone(&ledger),
        events,
        tracer,
        observer: Arc::clone(observer),
        own: live_config.own_paths().await,
        in_commit: InCommitTables::default(),
        programs,
        scope: live_config.scope(),
    };
    tasks::flushes(life, &ledger, &control_cell);
    let (shared, end) = ((opener.clone(), &manager), (recovered.deferred, drained));
    let (control, pending) = resources::pipelines(life, live_config, shared, end).await?;
    drop(control_cell.set(control.clone()));
    if let Some(api_state) = &api_state {
        api_state.set_control(control.clone());
    }
    tasks::background(life, &config, observer, &control);
    retention::spawn(life, live_config, &ledger, observer, &control);
    let reloader = Reloader {
        live_config: live_config.clone(),
        opener,
        pending,
        manager: manager.clone(),
        failed: Vec::new(),
        control: control.clone(),
        api_state,
        next_index: config.pipelines.len(),
    };
    reload::spawn(life, reloader, hangups);
    resources::ready(life.handle().clone(), &config, control.intakes(), &manager).await;
    Ok(control)
}

/// Waits for a signal, a request, the end of `--once`, failed storage, a failed task, or a directory
/// that the sandbox excludes; then requests the stop. Returns the error, if one is the reason.
async fn wait_for_stop(
    handle: &Handle,
    control: &Control,
    live_config: &LiveConfig,
) -> Option<ServiceError> {
    let error = tokio::select! {
        () = handle.closing().cancelled_owned() => None,
        () = control.ended() => None,
        () = control.halted() => {
            let reason = control.halt_reason().unwrap_or_default();
            Some(ServiceError::Storage(format!("storage failed, service stopped: {reason}")))
        }
        failure = handle.failed() => Some(ServiceError::Internal(failure.to_string())),
        error = tasks::wait_for_sandbox_miss(live_config) => Some(error),
    };
    handle.request_stop();
    error
}

/// Inputs of the start.
struct StartupInputs {
    observer: Arc<Observer>,
    /// Lock on the state directory. The start fills it; the process keeps it until it exits.
    lock: HeldLock,
    /// Whether the ledger could not be closed. The exit report reads it.
    ledger_failed: Arc<AtomicBool>,
    /// Control of the pipelines. The start fills it once they run; the exit report reads it.
    control: Arc<OnceLock<Control>>,
    /// Token for changes over HTTP.
    token: Option<Token>,
    hooks: Option<HookService>,
    program_runner: Option<exec::RunnerProcess>,
}
