//! The reload: the configuration is read and checked in full, everything new is made ready, and
//! only then the intakes that change are stopped, drained and started anew.
//!
//! N1: all or nothing. What can fail is done before the first intake is stopped.
//! N2: an unchanged pipeline notices nothing.
//! N3: a stop in the middle is an ordinary stop: what was stopped is drained with the rest, what was
//! to begin does not.

use std::{
    convert::Infallible,
    io::{IsTerminal, stderr, stdin},
    sync::Arc,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    error::{LIMIT, blocking, chain},
    live_config::{Kind, LiveConfig, ReloadError},
    opening::{Opened, PendingPipelines, PipelineOpener},
    resources::write_settings,
    tasks::notify,
};
use crate::{
    config::{Config, Difference},
    http::{ApiState, ReloadRefused, Reloaded},
    lifecycle::{Handle, Lifecycle, StopFlag},
    observe::Pause,
    pipeline::{Control, context::Context},
};

/// Reloads that may wait for the one that is carried out.
const WAITING: usize = 8;

type ReloadOutcome = Result<Reloaded, ReloadError>;
/// One who asked, and waits. Dropped, it is told that there is nobody to reload.
type ReloadRequest = oneshot::Sender<Result<Reloaded, ReloadRefused>>;

/// What a reload works on.
#[derive(Debug)]
pub struct Reloader {
    pub settings: LiveConfig,
    pub opening: PipelineOpener,
    pub late: PendingPipelines,
    /// Pipelines that did not start, when their directories answered at last: a reload tries again.
    pub failed: Vec<Arc<str>>,
    pub control: Control,
    /// Where an operator asks for a reload, if there is one.
    pub desk: Option<Arc<ApiState>>,
    /// Of the next context.
    pub index: usize,
}

/// Looks for hang-ups from the first one on.
pub fn hangups(handle: &Handle) -> watch::Receiver<u64> {
    let mut hangups = handle.hangups();
    if *hangups.borrow() > 0 {
        hangups.mark_changed();
    }
    hangups
}

/// Whether someone looks on at a terminal; one that was closed is none any more.
fn has_terminal() -> bool {
    stdin().is_terminal() || stderr().is_terminal()
}

/// Reloads at each SIGHUP and each request, one at a time, until the stop.
pub fn spawn(life: &mut Lifecycle, mut reloader: Reloader, mut hangups: watch::Receiver<u64>) {
    let (ask, mut requests) = mpsc::channel::<ReloadRequest>(WAITING);
    if let Some(desk) = &reloader.desk {
        desk.set_reloads(ask);
    }
    let (handle, had_terminal) = (life.handle().clone(), has_terminal());
    life.spawn("reload", LIMIT, move |stop| async move {
        loop {
            let asked = tokio::select! {
                () = stop.stopped() => break,
                Ok(()) = hangups.changed() => {
                    // Nothing could be read again, and who started it cannot see or stop it any more.
                    if had_terminal && !has_terminal() && !reloader.settings.has_file_to_read_again()
                    {
                        handle.request_stop();
                        tracing::info!(event = "service.hangup", "terminal closed (SIGHUP), stopping");
                        break;
                    }
                    None
                }
                Some(request) = requests.recv() => Some(request),
                Some(opened) = reloader.late.next() => {
                    reloader.begin_late(opened);
                    continue;
                }
            };
            // The file is read after this: it serves all hang-ups until now.
            hangups.mark_unchanged();
            let Some(outcome) = reloader.next_request(&stop).await else { break };
            // Who asked may have gone.
            asked.map(|asked| asked.send(outcome.map_err(Into::into)).ok());
        }
        Ok::<_, Infallible>(())
    });
}

impl Reloader {
    /// One reload, told to the log and the service manager; `None` where the stop came first.
    async fn next_request(&mut self, stop: &StopFlag) -> Option<ReloadOutcome> {
        use sd_notify::NotifyState;
        let began = NotifyState::monotonic_usec_now();
        notify(
            &[Some(NotifyState::Reloading), began.ok()].into_iter().flatten().collect::<Vec<_>>(),
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
        notify(&[NotifyState::Ready]);
        Some(outcome)
    }

    /// Lets a pipeline begin whose directories did not answer at the start. One that a reload has
    /// changed or removed meanwhile is none any more.
    fn begin_late(&mut self, (name, opened): Opened) {
        let (intakes, config) = (self.control.intakes(), self.settings.now());
        if !intakes.late().contains(&name) {
            return;
        }
        let count = config.pipelines.len();
        let begun = opened.and_then(|context| {
            context.meter.clear();
            intakes.begin(intakes.prepare(vec![context], count)?);
            Ok(())
        });
        match begun {
            Ok(()) => {
                tracing::info!(event = "pipeline.started", pipeline = %name, "directories responding, pipeline started");
            }
            Err(error) => {
                let reason = format!("cannot start: {}", chain(&*error));
                tracing::error!(event = "pipeline.failed", pipeline = %name, reason, hint = "reload or restart the service", "pipeline not started");
                let meter = self.opening.observer.meter_of(&name);
                meter.paused(Pause::Input, Some(&reason));
                self.failed.push(name);
            }
        }
    }

    async fn reload(&mut self) -> ReloadOutcome {
        let settings = self.settings.clone();
        let new = Arc::new(blocking(move || settings.read_again()).await?);
        let mut difference = self.settings.now().difference(&new);
        difference.change(&self.failed);
        let contexts = self.contexts(&new, &difference).await?;
        let intakes = self.control.intakes();
        let failed = |error: std::io::Error| ReloadError::new(Kind::Failed, error.to_string());
        let prepared = intakes.prepare(contexts.clone(), new.pipelines.len());
        let prepared = prepared.map_err(failed)?;
        // From here on nothing fails (N1).
        let stopped = [difference.changed.as_slice(), &difference.removed].concat();
        let pauses = intakes.pauses();
        intakes.stop(&stopped, new.shutdown_deadline).await;
        self.failed.clear();
        let meters = new.pipelines.iter().map(|pipeline| {
            let made = contexts.iter().find(|context| *context.name() == pipeline.name);
            made.map_or_else(
                || self.opening.observer.meter_of(&pipeline.name),
                |context| Arc::clone(&context.meter),
            )
        });
        self.opening.observer.set_pipelines(meters.collect());
        for context in &contexts {
            context.meter.clear();
            // The meter is the old one's, and may say so still.
            context.meter.set_held(false);
            context.operator_pause.set(pauses.is_paused(context.name()));
        }
        self.opening.own.set(Arc::clone(&new));
        intakes.begin(prepared);
        self.settings.set(Arc::clone(&new));
        if let Some(desk) = &self.desk {
            desk.set_config((*new).clone());
        }
        if let Err(error) = blocking(move || write_settings(&new)).await {
            tracing::warn!(event = "config.not_saved", %error, "cannot save the configuration, `tidemill explain` uses the old one");
        }
        Ok(report(&difference))
    }

    /// The contexts of what is changed or added, with their directories and their rows in the ledger.
    async fn contexts(
        &mut self,
        new: &Arc<Config>,
        difference: &Difference,
    ) -> Result<Vec<Arc<Context>>, ReloadError> {
        let names = [difference.changed.as_slice(), &difference.added].concat();
        let first = self.index;
        self.index += names.len();
        let (new, opening) = (Arc::clone(new), self.opening.clone());
        let asked = names.clone();
        let made = blocking(move || {
            let wanted = new.pipelines.iter().filter(|pipeline| asked.contains(&pipeline.name));
            let make = |(pipeline, index): (&crate::config::Pipeline, usize)| {
                opening.open_pipeline(index, pipeline, &new).map_err(|error| chain(&*error))
            };
            wanted.zip(first..).map(make).collect::<Result<Vec<_>, String>>()
        });
        let made = timeout(LIMIT, made).await.unwrap_or_else(|_| {
            let (names, seconds) = (names.join(", "), LIMIT.as_secs());
            Err(format!("the directories of {names} have not answered within {seconds} s"))
        });
        made.map_err(|error| ReloadError::new(Kind::Failed, error))
    }
}

fn report(difference: &Difference) -> Reloaded {
    let names = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    Reloaded {
        changed: names(&difference.changed),
        unchanged: names(&difference.unchanged),
        added: names(&difference.added),
        removed: names(&difference.removed),
    }
}
