//! The recovery: finishes the unfinished work of the previous run before the intake opens.

use std::{
    convert::Infallible,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    error::{ServiceError, blocking, chain, map_start_error},
    resources::RECOVERY_TIMEOUT,
};
use crate::{
    config::{self, Config},
    fs,
    ledger::{ErrorKind, Ledger, PreviousShutdown, Record, sqlite::Sqlite},
    lifecycle::{Lifecycle, StartError},
    limits,
    observe::{Observer, OutcomeKind},
    patience,
    protocol::SharedEvents,
    recovery::{self, Gathered, Quarantines, Summary},
};

/// Recovers and returns a summary.
pub async fn recovery(
    life: &mut Lifecycle,
    config: &Config,
    (ledger, events): (&Arc<Sqlite>, &SharedEvents),
    observer: &Arc<Observer>,
) -> Result<Summary, ServiceError> {
    let (ledger, events) = (Arc::clone(ledger), Arc::clone(events));
    let (config, observer) = (config.clone(), Arc::clone(observer));
    let stop = life.handle().closing();
    let open = blocking(move || {
        let count = |pipeline: &str, record: &Record| {
            count_quarantined(&observer, &config, pipeline, record);
        };
        let quarantines = Quarantines { events: &events, ledger: ledger.instance(), count: &count };
        recover(&*ledger, &quarantines, &config, &stop).map(|summary| ((), summary))
    });
    let recovered =
        life.start("recovery", RECOVERY_TIMEOUT, open, |()| async { Ok::<_, Infallible>(()) });
    recovered.await.map_err(|error| match &error {
        StartError::Failed { source, .. } if needs_restart(source.as_ref()) => {
            ServiceError::RestartRequired(chain(&error))
        }
        _ => map_start_error(ServiceError::Storage)(error),
    })
}

/// Returns whether a later start may succeed: no space for the events file, or a busy ledger.
fn needs_restart(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match error.downcast_ref() {
        Some(recovery::Error::NoSpace(_)) => true,
        Some(recovery::Error::Ledger(error)) => error.kind == ErrorKind::Busy,
        _ => false,
    }
}

/// Counts a file that recovery put into quarantine, as its pipeline would.
fn count_quarantined(observer: &Observer, config: &Config, pipeline: &str, record: &Record) {
    let index = config.pipelines.iter().position(|configured| &*configured.name == pipeline);
    if let Some(meter) = index.and_then(|index| observer.pipeline(index)) {
        meter.outcome(OutcomeKind::Quarantined, record.identity.size, 0);
    }
}

fn recover(
    ledger: &dyn Ledger,
    quarantines: &Quarantines<'_>,
    config: &Config,
    stop: &CancellationToken,
) -> Result<Summary, recovery::Error> {
    let events = quarantines.events;
    let previous = ledger.begin(&fs::boot_id())?;
    ledger.skip_ids(recovery::largest_id(ledger, events)?);
    let patience = patience(stop, config.once);
    let Gathered { roots, facts, deferred } = recovery::gather(ledger, events, &patience)?;
    let plans: Vec<_> = facts
        .into_iter()
        .map(|facts| {
            let action = recovery::plan(&facts);
            (facts, action)
        })
        .collect();
    let unfinished = !plans.is_empty();
    let context = recovery::RecoveryContext {
        ledger,
        events,
        roots: &roots,
        patience: &patience,
        quarantines,
        pipelines: &config.pipelines,
    };
    let mut summary = recovery::apply(&context, plans)?;
    summary.deferred += deferred;
    if previous == PreviousShutdown::Unclean || unfinished {
        recovery::sweep(ledger, quarantines, &config.pipelines, &mut summary)?;
    }
    if summary != Summary::default() {
        tracing::info!(event = "recovery.finished", ?summary, "recovery finished");
    }
    if summary.deferred == 0 {
        ledger.mark_recovered();
        record_inputs(ledger, config)?;
    }
    Ok(summary)
}

/// Records the identities of the inputs, which a later recovery checks. Nothing may be unfinished.
fn record_inputs(ledger: &dyn Ledger, config: &Config) -> Result<(), recovery::Error> {
    for config::Pipeline { name, input, output, .. } in &config.pipelines {
        let path = input.clone();
        let found = patience::within(input, move || fs::directory_at(&path));
        let Some(Ok(found)) = found else { continue };
        let id = ledger.pipeline(name, input, output)?;
        ledger.note_input_inode(id, found.identity.inode)?;
    }
    Ok(())
}

/// Returns a function that waits for space, and returns whether to retry: until the stop, and with
/// `--once` for at most [`limits::ONCE_STORAGE_TIMEOUT`].
fn patience(stop: &CancellationToken, once: bool) -> impl Fn(&io::Error) -> bool {
    const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
    let started_at = Instant::now();
    move |error| {
        tracing::warn!(event = "events.no_space", %error, "no space for the events file, recovery waiting");
        let until = Instant::now() + limits::BACKOFF;
        while Instant::now() < until && !stop.is_cancelled() {
            thread::park_timeout(STOP_CHECK_INTERVAL);
        }
        let is_timed_out = once && started_at.elapsed() > limits::ONCE_STORAGE_TIMEOUT;
        !(stop.is_cancelled() || is_timed_out)
    }
}
