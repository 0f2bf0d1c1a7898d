//! What goes on beside the pipelines: the tasks that watch and tell, and the drain at the end.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;

use super::{
    error::{LIMIT, ServiceError, blocking, chain},
    exit::{Progress, log_progress, log_unfinished},
    live_config::LiveConfig,
};
use crate::{
    config::{Config, Pipeline},
    fs::SandboxScope,
    hooks::HookContext,
    ledger::{Ledger, sqlite::Sqlite},
    lifecycle::{Handle, Lifecycle, Phase},
    limits,
    observe::{self, Observer, Totals, Tracer},
    patience,
    pipeline::Control,
    policy::HookKind,
};

/// Closes the intake and waits for the last job; says every few seconds who is left. The cut makes
/// the stages drop what they have and the committer finish what is staged.
pub async fn drain(handle: &Handle, control: &Control, settings: &LiveConfig, observer: &Observer) {
    handle.enter(Phase::Closing);
    observer.drains(settings.now().shutdown_deadline);
    notify(&[
        sd_notify::NotifyState::Stopping,
        sd_notify::NotifyState::Status(&draining(observer)),
    ]);
    control.close();
    handle.enter(Phase::Draining);
    let cut = handle.cut();
    let mut progress = Progress::new(observer);
    let mut hangups = handle.hangups();
    let mut every = tokio::time::interval(limits::DRAIN_LOG_INTERVAL);
    every.tick().await;
    loop {
        tokio::select! {
            () = control.ended() => break,
            () = cut.cancelled(), if !progress.is_cut => {
                progress.is_cut = true;
                log_unfinished(&settings.now(), observer);
                control.cut();
            }
            Ok(()) = hangups.changed() => tracing::warn!(event = "service.signal_ignored", "SIGHUP ignored, service is stopping"),
            _ = every.tick() => {
                if log_progress(&mut progress, observer) {
                    let more = limits::DRAIN_LOG_INTERVAL.saturating_mul(3);
                    let micros = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
                    notify(&[
                        sd_notify::NotifyState::ExtendTimeoutUsec(micros),
                        sd_notify::NotifyState::Status(&draining(observer)),
                    ]);
                }
            }
        }
    }
    handle.enter(Phase::Committing);
}

/// The status line of a drain, sent with each of its messages: the service manager reads few of them at once.
fn draining(observer: &Observer) -> String {
    format!("Draining, {} files in flight", observer.unfinished())
}

/// What the user's hooks are told of the start and the end.
pub fn facts(config: &Config, observer: &Arc<Observer>) -> HookContext {
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
            "left": observer.unfinished(),
            "source_bytes": source_bytes,
            "output_bytes": output_bytes,
        })
        .to_string()
    };
    let deadline = config.shutdown_deadline;
    // Half of what is kept for the end.
    let last = limits::COMMIT_RESERVE.min(deadline / 2) / 2;
    HookContext { start: start.to_string(), drained: Box::new(drained), last, deadline }
}

/// Tells the observer each phase. Started before the HTTP server, it ends after it: until then the
/// probes answer by the phase that is.
pub fn phase(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let (mut phase, seen) = (life.handle().phase(), Arc::clone(observer));
    life.spawn("phase", LIMIT, |stop| async move {
        loop {
            let now = *phase.borrow_and_update();
            seen.set_phase(now.as_str(), now == Phase::Ready);
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                changed = phase.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    });
}

/// Sends traces, where that is asked for. Started before the pipelines it ends after them, with what
/// they left. It is the last to hold up a stop: that is bounded by [`limits::OTLP_FLUSH_TIMEOUT`].
#[cfg(feature = "otlp")]
pub fn traces(life: &mut Lifecycle, config: &Config) -> Tracer {
    let Some(otlp) = &config.otlp else { return Tracer::default() };
    let (tracer, sender) = Tracer::new(otlp);
    tracing::info!(event = "otlp.enabled", endpoint = %otlp, sampling = otlp.sampling, "OTLP export enabled");
    life.spawn("traces", LIMIT, |stop| sender.run(async move { stop.stopped().await }));
    tracer
}

/// This build has none.
#[cfg(not(feature = "otlp"))]
pub fn traces(_life: &mut Lifecycle, _config: &Config) -> Tracer {
    Tracer::default()
}

/// Makes marks durable soon, also where no other commit comes: a power loss must not make recovery
/// doubt an output that was acknowledged and taken.
pub fn flushes(life: &mut Lifecycle, ledger: &Arc<Sqlite>, control: &Control) {
    let (ledger, control) = (Arc::clone(ledger), control.clone());
    life.spawn("flush", LIMIT, |stop| async move {
        let mut every = tokio::time::interval(limits::LEDGER_FLUSH_INTERVAL);
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let ledger = Arc::clone(&ledger);
            let flushed = blocking(move || ledger.flush(limits::LEDGER_FLUSH_INTERVAL)).await;
            if let Err(source) = flushed {
                control.storage_failed(source);
            }
        }
    });
}

/// Logs what came of the files, in one line for each [`limits::SUMMARY_INTERVAL`] in which any ended.
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
                    bytes_in = now.source_bytes.saturating_sub(before.source_bytes),
                    bytes_out = now.output_bytes.saturating_sub(before.output_bytes),
                    in_flight = now.in_work,
                    seconds = limits::SUMMARY_INTERVAL.as_secs(),
                    "progress"
                );
            }
            before = now;
        }
    });
}

/// Tasks that only watch and report.
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

/// `tidemill requeue` drops a file into `STATE/control` to have every input scanned now.
fn watch_control(life: &mut Lifecycle, dir: &Path, control: Control) {
    use crate::pipeline::intake::discover::{EventQueue, Watch};
    let (hints, mut bell) = EventQueue::new();
    let watch = match Watch::start(dir, hints.clone()) {
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
                Some(()) = bell.recv() => if !hints.take(usize::MAX).0.paths.is_empty() { control.rescan() },
            }
        }
        drop(watch);
        Ok::<_, Infallible>(())
    });
}

/// Waits until a place was made or mounted anew since the start: the sandbox keeps the service out
/// of it, and only a new start can let it in.
pub async fn wait_for_sandbox_miss(settings: &LiveConfig) -> ServiceError {
    let Some(reach) = settings.reach() else { return std::future::pending().await };
    let places = || {
        let config = settings.now();
        config.pipelines.iter().flat_map(Pipeline::places).map(Path::to_path_buf).collect()
    };
    wait_until_excluded(&reach, places).await
}

/// Waits until the sandbox keeps the service out of one of these places, and the place answers.
pub async fn wait_until_excluded(
    reach: &Arc<SandboxScope>,
    places: impl Fn() -> Vec<PathBuf>,
) -> ServiceError {
    let mut every = tokio::time::interval(limits::POLL_INTERVAL);
    loop {
        every.tick().await;
        let (mut places, reach) = (places().into_iter(), Arc::clone(reach));
        // A file system that does not answer holds up neither the runtime nor the other looks for long.
        let looked = tokio::task::spawn_blocking(move || {
            places.find(|place| {
                let (asked, reach) = (place.clone(), Arc::clone(&reach));
                patience::within(place, move || reach.excludes(&asked)).unwrap_or(false)
            })
        });
        if let Ok(Some(place)) = looked.await {
            return ServiceError::RestartRequired(format!(
                "{} was created or mounted after the start, or did not respond then, and the sandbox excludes it: restart the service (or set `sandbox = \"off\"`)",
                observe::display_path(&place)
            ));
        }
    }
}

/// Tells systemd, where it listens; without it, nothing happens.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(event = "service.notify_failed", %error, "cannot notify the service manager");
    }
}
