//! The tasks that run alongside the pipelines and watch or report, and the drain.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use serde_json::json;
use tidemill_lifecycle::{Handle, Lifecycle, Phase};

use super::{
    blocking::blocking,
    error::{LIMIT, ServiceError, chain},
    exit::{DrainLog, log_progress, log_unfinished},
    live_config::LiveConfig,
    manager::ServiceManager,
};
use crate::{
    config::{Config, Pipeline},
    failpoint,
    fs::SandboxScope,
    hooks::HookContext,
    ledger::Ledger,
    limits,
    observe::{self, Observer, Totals, Tracer, units::size},
    patience,
    phase::ProcessPhase,
    pipeline::Control,
    policy::HookKind,
};

/// Closes the intake and waits for the last job, and logs the files in flight every few seconds. The
/// cut makes the stages drop their files and the committer finish the staged ones.
pub async fn drain(
    handle: &Handle,
    control: &Control,
    live_config: &LiveConfig,
    (observer, manager): (&Observer, &ServiceManager),
) {
    handle.enter(Phase::Closing);
    observer.drain_started(live_config.now().keys.shutdown_deadline);
    control.close();
    manager.notify(&[
        sd_notify::NotifyState::Stopping,
        sd_notify::NotifyState::Status(&draining(observer)),
    ]);
    handle.enter(Phase::Draining);
    let cut = handle.cut();
    let mut log = DrainLog::new(observer);
    let mut hangups = handle.hangups();
    let mut every = tokio::time::interval(limits::DRAIN_LOG_INTERVAL);
    every.tick().await;
    loop {
        tokio::select! {
            () = control.ended() => break,
            () = cut.cancelled(), if !log.is_cut => {
                log.is_cut = true;
                log_unfinished(&live_config.now(), observer);
                control.cut();
            }
            Ok(()) = hangups.changed() => tracing::warn!(event = "service.signal_ignored", "SIGHUP ignored, service is stopping"),
            _ = every.tick() => {
                if log_progress(&mut log, observer) {
                    let extension = limits::DRAIN_LOG_INTERVAL.saturating_mul(3);
                    let micros = u32::try_from(extension.as_micros()).unwrap_or(u32::MAX);
                    manager.notify(&[
                        sd_notify::NotifyState::ExtendTimeoutUsec(micros),
                        sd_notify::NotifyState::Status(&draining(observer)),
                    ]);
                }
            }
        }
    }
    handle.enter(Phase::Committing);
}

/// Makes the status line of a drain, which each of its messages carries: the service manager reads few at once.
fn draining(observer: &Observer) -> String {
    format!("Draining, {} files in flight", observer.unfinished())
}

/// Makes the context of the user's `on_start` and `on_drained` hooks.
pub fn hook_context(config: &Config, observer: &Arc<Observer>) -> HookContext {
    let pipelines = config.pipelines.iter().map(|pipeline| {
        let Pipeline { name, input, output, .. } = pipeline;
        json!({ "name": &**name, "input": input, "output": output })
    });
    let start = json!({
        "hook": HookKind::OnStart.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "pipelines": pipelines.collect::<Vec<_>>(),
    });
    let observer = Arc::clone(observer);
    let drained = move || {
        let Totals { published, quarantined, source_bytes, output_bytes, .. } =
            observer.status().totals();
        json!({
            "hook": HookKind::OnDrained.as_str(),
            "published": published,
            "quarantined": quarantined,
            "unfinished": observer.unfinished(),
            "source_bytes": source_bytes,
            "output_bytes": output_bytes,
        })
        .to_string()
    };
    let deadline = config.keys.shutdown_deadline;
    // Half of the reserve of the stop.
    let drained_grace = limits::COMMIT_RESERVE.min(deadline / 2) / 2;
    HookContext { start: start.to_string(), drained: Box::new(drained), drained_grace, deadline }
}

/// Copies each phase to the observer. Started before the HTTP server, the task ends after it, so that
/// the probes always answer by the current phase.
pub fn phase(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let (mut phase, observer) = (life.handle().phase(), Arc::clone(observer));
    life.spawn("phase", LIMIT, |stop| async move {
        loop {
            let current = *phase.borrow_and_update();
            observer.set_phase(phase_of(current));
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                changed = phase.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    });
}

const fn phase_of(phase: Phase) -> ProcessPhase {
    match phase {
        Phase::Starting => ProcessPhase::Starting,
        Phase::Ready => ProcessPhase::Ready,
        Phase::Closing => ProcessPhase::Closing,
        Phase::Draining => ProcessPhase::Draining,
        Phase::Committing => ProcessPhase::Committing,
        Phase::Stopped => ProcessPhase::Stopped,
    }
}

/// Starts the OTLP exporter, if configured. Started before the pipelines, it ends after them and sends
/// their last traces, which delays the stop by at most [`limits::OTLP_FLUSH_TIMEOUT`].
#[cfg(feature = "otlp")]
pub fn traces(life: &mut Lifecycle, config: &Config) -> Tracer {
    let Some(otlp) = &config.otlp else { return Tracer::default() };
    let (tracer, sender) = Tracer::new(otlp);
    tracing::info!(event = "otlp.enabled", endpoint = %otlp, sampling = otlp.sampling, "OTLP export enabled");
    life.spawn("traces", LIMIT, |stop| sender.run(async move { stop.stopped().await }));
    tracer
}

/// Returns a tracer that does nothing: this build has no OTLP.
#[cfg(not(feature = "otlp"))]
pub fn traces(_life: &mut Lifecycle, _config: &Config) -> Tracer {
    Tracer::default()
}

/// Flushes deferred state updates of the ledger even if no commit follows: after a power loss,
/// recovery must not question an acknowledged output that a consumer took. Started before the pipelines,
/// it ends after the drain, in which a large file may delay the next commit. `control` is empty until
/// they run; a failure before that is reported at the next write.
pub fn flushes(life: &mut Lifecycle, ledger: &Arc<dyn Ledger>, control: &Arc<OnceLock<Control>>) {
    let (ledger, control) = (Arc::clone(ledger), Arc::clone(control));
    life.spawn("flush", LIMIT, |stop| async move {
        let mut every = tokio::time::interval(limits::LEDGER_FLUSH_INTERVAL);
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let ledger = Arc::clone(&ledger);
            let flush = move || ledger.flush(limits::LEDGER_FLUSH_INTERVAL);
            let flush = || failpoint::barrier("barrier::idle_flush", flush);
            let flushed = blocking(flush).await;
            if let (Err(source), Some(control)) = (flushed, control.get()) {
                control.storage_failed(source);
            }
        }
    });
}

/// Logs the outcomes of files, one line per [`limits::SUMMARY_INTERVAL`] with at least one.
fn summary(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let observer = Arc::clone(observer);
    life.spawn("summary", LIMIT, |stop| async move {
        let mut every = tokio::time::interval(limits::SUMMARY_INTERVAL);
        let mut before = Totals::default();
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let now = observer.status().totals();
            if now.ended > before.ended {
                tracing::info!(
                    event = "service.progress",
                    published = now.published.saturating_sub(before.published),
                    skipped = now.skipped.saturating_sub(before.skipped),
                    quarantined = now.quarantined.saturating_sub(before.quarantined),
                    source_size = size(now.source_bytes.saturating_sub(before.source_bytes)),
                    output_size = size(now.output_bytes.saturating_sub(before.output_bytes)),
                    in_flight = now.in_flight,
                    seconds = limits::SUMMARY_INTERVAL.as_secs(),
                    "progress"
                );
            }
            before = now;
        }
    });
}

/// Starts the tasks that only watch and report.
pub fn background(
    life: &mut Lifecycle,
    config: &Config,
    observer: &Arc<Observer>,
    control: &Control,
) {
    if config.once {
        let observer = Arc::clone(observer);
        life.spawn("progress", LIMIT, |stop| async move {
            observe::progress(observer, stop.stopped()).await;
            Ok::<_, Infallible>(())
        });
        return;
    }
    summary(life, observer);
    watch_control(life, &config.state_dir.join("control"), control.clone());
}

/// Watches `STATE/control`: `tidemill requeue` creates a file there to request a rescan of every input.
fn watch_control(life: &mut Lifecycle, dir: &Path, control: Control) {
    use crate::source::{event_queue::EventQueue, local::Watch};
    let (events, mut wake) = EventQueue::new();
    let watch = match Watch::start(dir, events.clone()) {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!(
                event = "service.requeue_polling",
                error = chain(&error),
                "cannot watch for requeue requests, using rescans"
            );
            return;
        }
    };
    life.spawn("control", LIMIT, |stop| async move {
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                Some(()) = wake.recv() => if !events.take(usize::MAX).0.paths.is_empty() { control.rescan() },
            }
        }
        drop(watch);
        Ok::<_, Infallible>(())
    });
}

/// Waits until a configured directory was created or mounted after the start: the sandbox excludes it
/// until a restart.
pub async fn wait_for_sandbox_miss(live_config: &LiveConfig) -> ServiceError {
    let Some(scope) = live_config.scope() else { return std::future::pending().await };
    let paths = || {
        let config = live_config.now();
        config.pipelines.iter().flat_map(Pipeline::directories).map(Path::to_path_buf).collect()
    };
    wait_until_excluded(&scope, paths).await
}

/// Waits until one of these directories responds and the sandbox excludes it.
pub async fn wait_until_excluded(
    scope: &Arc<SandboxScope>,
    paths: impl Fn() -> Vec<PathBuf>,
) -> ServiceError {
    let mut every = tokio::time::interval(limits::POLL_INTERVAL);
    loop {
        every.tick().await;
        let (mut paths, scope) = (paths().into_iter(), Arc::clone(scope));
        // An unresponsive file system blocks neither the runtime nor the other checks for long.
        let excluded = tokio::task::spawn_blocking(move || {
            paths.find(|path| {
                let (dir, scope) = (path.clone(), Arc::clone(&scope));
                patience::within(path, move || scope.excludes(&dir)).unwrap_or(false)
            })
        });
        if let Ok(Some(path)) = excluded.await {
            return ServiceError::RestartRequired(format!(
                "{} was created or mounted after the start, or did not respond then, and the sandbox excludes it; hint: restart the service, or set `sandbox = \"off\"`",
                observe::display_path(&path)
            ));
        }
    }
}
