//! The reload: it loads and checks the configuration, opens everything new, and only then stops,
//! drains and restarts the intakes that change.
//!
//! N1: all or nothing. Everything that can fail comes before the first intake is stopped.
//! N2: an unchanged pipeline is not affected.
//! N3: a stop during a reload is an ordinary stop: stopped intakes drain with the others, and new
//! intakes do not start.

use std::{
    convert::Infallible,
    io::{IsTerminal, stderr, stdin},
    sync::Arc,
};

use tidemill_lifecycle::{Handle, Lifecycle, StopFlag};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    blocking::blocking,
    error::{LIMIT, chain},
    live_config::{LiveConfig, ReloadError, ReloadErrorKind},
    manager::ServiceManager,
    opening::{Opened, PendingPipelines, PipelineOpener},
    resources::save_config_snapshot,
};
use crate::{
    config::{Config, Difference},
    http::{ApiState, ReloadRefused, Reloaded},
    observe::Pause,
    pipeline::{Control, Peers, context::Context},
};

/// Maximum number of requests that wait for the running reload.
const PENDING_REQUESTS_MAX: usize = 8;

type ReloadOutcome = Result<Reloaded, ReloadError>;
/// Channel for the result. Dropping it reports that the service cannot reload.
type ReloadRequest = oneshot::Sender<Result<Reloaded, ReloadRefused>>;

/// Everything that a reload changes.
#[derive(Debug)]
pub struct Reloader {
    pub live_config: LiveConfig,
    pub opener: PipelineOpener,
    pub pending: PendingPipelines,
    pub manager: ServiceManager,
    /// Pipelines that failed to start after their directories responded. A reload retries them.
    pub failed: Vec<Arc<str>>,
    pub control: Control,
    /// State of the API, if a listener is configured.
    pub api_state: Option<Arc<ApiState>>,
    /// Index of the next pipeline context.
    pub next_index: usize,
}

/// Returns a receiver of hang-ups that includes those before the call.
pub fn hangups(handle: &Handle) -> watch::Receiver<u64> {
    let mut hangups = handle.hangups();
    if *hangups.borrow() > 0 {
        hangups.mark_changed();
    }
    hangups
}

/// Returns whether standard input or standard error is an open terminal.
fn has_terminal() -> bool {
    stdin().is_terminal() || stderr().is_terminal()
}

/// Reloads at each SIGHUP and each request, one at a time, until the stop.
pub fn spawn(life: &mut Lifecycle, mut reloader: Reloader, mut hangups: watch::Receiver<u64>) {
    let (sender, mut requests) = mpsc::channel::<ReloadRequest>(PENDING_REQUESTS_MAX);
    if let Some(api_state) = &reloader.api_state {
        api_state.set_reloads(sender);
    }
    let (handle, had_terminal) = (life.handle().clone(), has_terminal());
    life.spawn("reload", LIMIT, move |stop| async move {
        loop {
            let request = tokio::select! {
                () = stop.stopped() => break,
                Ok(()) = hangups.changed() => {
                    // No reload is possible, and the user cannot see or stop the service any more.
                    if had_terminal && !has_terminal() && !reloader.live_config.can_reload() {
                        handle.request_stop();
                        tracing::info!(event = "service.hangup", "terminal closed (SIGHUP), stopping");
                        break;
                    }
                    None
                }
                Some(request) = requests.recv() => Some(request),
                Some(opened) = reloader.pending.next() => {
                    reloader.start_pending(opened);
                    continue;
                }
            };
            // The file is read after this, so this reload serves all hang-ups until now.
            hangups.mark_unchanged();
            let Some(outcome) = reloader.reload_and_report(&stop).await else { break };
            // The client may have disconnected.
            request.map(|request| request.send(outcome.map_err(Into::into)).ok());
        }
        Ok::<_, Infallible>(())
    });
}

impl Reloader {
    /// Reloads, and reports the outcome to the log and the service manager. Returns `None` if the stop
    /// came first.
    async fn reload_and_report(&mut self, stop: &StopFlag) -> Option<ReloadOutcome> {
        use sd_notify::NotifyState;
        let started_at = NotifyState::monotonic_usec_now();
        self.manager.notify(
            &[Some(NotifyState::Reloading), started_at.ok()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
        );
        let outcome = tokio::select! {
            () = stop.stopped() => return None,
            outcome = self.reload() => outcome,
        };
        match &outcome {
            Ok(Reloaded { changed, unchanged, added, removed }) => {
                tracing::info!(
                    event = "config.reloaded",
                    changed = changed.join(","),
                    added = added.join(","),
                    removed = removed.join(","),
                    unchanged = unchanged.join(","),
                    "configuration reloaded"
                );
            }
            Err(ReloadError { kind, detail }) => {
                tracing::error!(
                    event = "config.refused",
                    %kind,
                    detail,
                    "reload refused, keeping the old configuration"
                );
            }
        }
        self.manager.notify(&[NotifyState::Ready]);
        Some(outcome)
    }

    /// Starts a pipeline whose directories did not respond at the start, unless a reload has changed or
    /// removed it.
    fn start_pending(&mut self, (name, opened): Opened) {
        let (intakes, config) = (self.control.intakes(), self.live_config.now());
        if !intakes.is_late(&name) {
            return;
        }
        let peers = Peers::of(&config);
        let started = opened.and_then(|context| {
            context.meter.clear();
            intakes.begin(intakes.prepare(vec![context], peers)?);
            Ok(())
        });
        match started {
            Ok(()) => {
                tracing::info!(event = "pipeline.started", pipeline = %name, "directories responding, pipeline started");
            }
            Err(error) => {
                let reason = format!("cannot start: {}", chain(&*error));
                tracing::error!(event = "pipeline.failed", pipeline = %name, reason, hint = "reload or restart the service", "pipeline not started");
                let meter = self.opener.observer.meter_of(&name);
                meter.paused(Pause::Input, Some(&reason));
                self.failed.push(name);
            }
        }
    }

    async fn reload(&mut self) -> ReloadOutcome {
        let live_config = self.live_config.clone();
        let new = Arc::new(blocking(move || live_config.load()).await?);
        let mut difference = self.live_config.now().difference(&new);
        difference.change(&self.failed);
        let contexts = self.contexts(&new, &difference).await?;
        let intakes = self.control.intakes();
        let failed =
            |error: std::io::Error| ReloadError::new(ReloadErrorKind::Failed, error.to_string());
        let prepared = intakes.prepare(contexts.clone(), Peers::of(&new));
        let prepared = prepared.map_err(failed)?;
        // Nothing fails from here on (N1).
        let changed_or_removed = [difference.changed.as_slice(), &difference.removed].concat();
        intakes.begin_reload();
        intakes.stop(&changed_or_removed, new.keys.shutdown_deadline).await;
        self.failed.clear();
        let meters = new.pipelines.iter().map(|pipeline| {
            let new_context = contexts.iter().find(|context| *context.name() == pipeline.name);
            new_context.map_or_else(
                || self.opener.observer.meter_of(&pipeline.name),
                |context| Arc::clone(&context.meter),
            )
        });
        self.opener.observer.set_pipelines(meters.collect());
        for context in &contexts {
            context.meter.clear();
            // The meter of the old context may still show the operator's pause.
            context.meter.set_paused_by_operator(false);
        }
        // The new intakes leave alone the paths of this configuration.
        self.live_config.set(Arc::clone(&new));
        intakes.begin(prepared);
        if let Some(api_state) = &self.api_state {
            api_state.refresh_count();
        }
        if let Err(error) = blocking(move || save_config_snapshot(&new)).await {
            tracing::warn!(event = "config.not_saved", %error, "cannot save the configuration, `tidemill explain` uses the old one");
        }
        Ok(reloaded(&difference))
    }

    /// Opens the contexts of changed and added pipelines, with their directories and ledger rows.
    async fn contexts(
        &mut self,
        new: &Arc<Config>,
        difference: &Difference,
    ) -> Result<Vec<Arc<Context>>, ReloadError> {
        let names = [difference.changed.as_slice(), &difference.added].concat();
        let first_index = self.next_index;
        self.next_index += names.len();
        let (new, opener, opened_names) = (Arc::clone(new), self.opener.clone(), names.clone());
        let open_all = blocking(move || {
            let pipelines =
                new.pipelines.iter().filter(|pipeline| opened_names.contains(&pipeline.name));
            let open = |(pipeline, index): (&crate::config::Pipeline, usize)| {
                opener.open_pipeline(index, pipeline, &new).map_err(|error| chain(&*error))
            };
            pipelines.zip(first_index..).map(open).collect::<Result<Vec<_>, String>>()
        });
        let contexts = timeout(LIMIT, open_all).await.unwrap_or_else(|_| {
            let (names, seconds) = (names.join(", "), LIMIT.as_secs());
            Err(format!("the directories of {names} did not respond within {seconds} s"))
        });
        contexts.map_err(|error| ReloadError::new(ReloadErrorKind::Failed, error))
    }
}

/// Lists the pipelines by the effect of the reload.
fn reloaded(difference: &Difference) -> Reloaded {
    let names = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    Reloaded {
        changed: names(&difference.changed),
        unchanged: names(&difference.unchanged),
        added: names(&difference.added),
        removed: names(&difference.removed),
    }
}
