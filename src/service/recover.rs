//! The recovery: finishes the unfinished work of the previous run before the intake opens.

use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tidemill_lifecycle::{Lifecycle, StartError};
use tokio_util::sync::CancellationToken;

use super::{
    blocking::blocking,
    error::{ServiceError, ledger_failure, map_start_error},
    resources::RECOVERY_TIMEOUT,
    storage_wait::StorageWait,
};
use crate::{
    config::{self, Config},
    fs,
    ledger::{Ledger, PipelineEnd, PreviousShutdown, Record, RecordId},
    limits,
    observe::{Observer, PipelineMeter},
    outcome::OutcomeKind,
    patience,
    protocol::SharedOutcomeLog,
    recovery::{self, Count, Gathered, OpenSink, Quarantines, Summary, SweepRequest},
    sink::{self, SinkOptions},
    sync::Mutex,
};

/// The acknowledged outputs that were counted. A repeated recovery acknowledges an output again if the
/// ledger could not be marked.
type Counted = Mutex<HashSet<RecordId>>;

/// Recovers and returns a summary. While the ledger has no space or is busy, it waits and begins
/// again: a recovery that was interrupted may be repeated.
pub async fn recovery(
    life: &mut Lifecycle,
    config: &Config,
    stores: (&Arc<dyn Ledger>, &SharedOutcomeLog),
    observer: &Arc<Observer>,
) -> Result<Summary, ServiceError> {
    let storage = StorageWait::new(life, config);
    let counted = Arc::default();
    loop {
        let recovered = recover_once(life, config, stores, (observer, &counted)).await;
        if !storage.repeats(&recovered).await {
            return recovered;
        }
    }
}

async fn recover_once(
    life: &mut Lifecycle,
    config: &Config,
    (ledger, events): (&Arc<dyn Ledger>, &SharedOutcomeLog),
    (observer, counted): (&Arc<Observer>, &Arc<Counted>),
) -> Result<Summary, ServiceError> {
    let (ledger, events) = (Arc::clone(ledger), Arc::clone(events));
    let (config, observer, counted) = (config.clone(), Arc::clone(observer), Arc::clone(counted));
    let stop = life.handle().closing();
    let open = blocking(move || {
        let count_quarantined = |pipeline: &str, record: &Record| {
            if let Some(meter) = meter_of(&observer, &config, pipeline) {
                meter.outcomes().ended(OutcomeKind::Quarantined, record.identity.size);
            }
        };
        let count_published = |pipeline: &str, record: &Record| {
            let is_first = counted.lock().insert(record.id);
            if let Some(meter) = meter_of(&observer, &config, pipeline).filter(|_| is_first) {
                meter.outcomes().published(record.identity.size, record.output_bytes());
            }
        };
        let quarantines =
            Quarantines { events: &events, ledger: ledger.instance(), count: &count_quarantined };
        recover(&*ledger, (&quarantines, &count_published), &config, &stop)
            .map(|summary| ((), summary))
    });
    let recovered =
        life.start("recovery", RECOVERY_TIMEOUT, open, |()| async { Ok::<_, Infallible>(()) });
    recovered.await.map_err(map_recovery_error)
}

/// Maps an events file that cannot be written to a restart: it has waited for it, and a later start may succeed.
fn map_recovery_error(error: StartError) -> ServiceError {
    let cause = match &error {
        StartError::Failed { source, .. } => source.downcast_ref::<recovery::Error>(),
        _ => None,
    };
    let map = match cause {
        Some(recovery::Error::EventsUnavailable(_)) => ServiceError::RestartRequired,
        Some(recovery::Error::Ledger(error)) => ledger_failure(error),
        _ => ServiceError::Storage,
    };
    map_start_error(map)(error)
}

/// Returns the meter of the pipeline of this name, if it is still configured.
fn meter_of(observer: &Observer, config: &Config, pipeline: &str) -> Option<Arc<PipelineMeter>> {
    let index = config.pipelines.iter().position(|configured| &*configured.name == pipeline)?;
    observer.pipeline(index)
}

fn recover(
    ledger: &dyn Ledger,
    (quarantines, count_published): (&Quarantines<'_>, &Count<'_>),
    config: &Config,
    stop: &CancellationToken,
) -> Result<Summary, recovery::Error> {
    let events = quarantines.events;
    let previous = ledger.join(&fs::boot_id())?;
    ledger.session().skip_ids(recovery::largest_id(ledger, events)?);
    let wait = wait_for_events(stop, config.once);
    let open_sink = |name: &str, output: &Path| {
        if !patience::responds(output) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sink::open(SinkOptions::offline(name, output, ledger.instance()))
    };
    let stores = (ledger, &open_sink as &OpenSink<'_>);
    let Gathered { roots, facts, deferred } = recovery::gather(stores, events, &wait)?;
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
        patience: &wait,
        quarantines,
        count_published,
        pipelines: &config.pipelines,
    };
    let (mut summary, unconfirmed) = recovery::apply(&context, plans)?;
    summary.deferred += deferred;
    if previous == PreviousShutdown::Unclean || unfinished {
        let (pipelines, unconfirmed) = (&*config.pipelines, &*unconfirmed);
        let request = SweepRequest { pipelines, unfinished: &roots, unconfirmed };
        let swept = recovery::sweep(stores, quarantines, request, &mut summary)?;
        recovery::confirm(&context, (unconfirmed, &swept))?;
    }
    if summary != Summary::default() {
        let Summary { published, disposed, withdrawn, quarantined, .. } = summary;
        let Summary { temps_removed, sources_returned, deferred, .. } = summary;
        tracing::info!(
            event = "recovery.finished",
            published,
            disposed,
            withdrawn,
            quarantined,
            temps_removed,
            sources_returned,
            deferred,
            "recovery finished"
        );
    }
    if summary.deferred == 0 {
        ledger.session().mark_recovered();
        record_roots(ledger, config)?;
    }
    Ok(summary)
}

/// Records the identities of the inputs and outputs, which a later recovery checks. Nothing may be
/// unfinished.
fn record_roots(ledger: &dyn Ledger, config: &Config) -> Result<(), recovery::Error> {
    for config::Pipeline { name, input, output, .. } in &config.pipelines {
        for (root, end) in [(input, PipelineEnd::Input), (output, PipelineEnd::Output)] {
            let path = root.clone();
            let found = patience::within(root, move || fs::directory_at(&path));
            let Some(Ok(found)) = found else { continue };
            let id = ledger.register_pipeline(name, input, output)?;
            ledger.set_root_inode(id, end, found.identity.inode)?;
        }
    }
    Ok(())
}

/// Returns a function that waits for the events file, and returns whether to retry: until the stop, and with
/// `--once` for at most [`limits::ONCE_STORAGE_TIMEOUT`].
fn wait_for_events(stop: &CancellationToken, once: bool) -> impl Fn(&io::Error) -> bool {
    const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
    let started_at = Instant::now();
    move |error| {
        tracing::warn!(event = "events.unavailable", %error, "cannot write the events file, recovery waiting");
        let until = Instant::now() + limits::BACKOFF;
        while Instant::now() < until && !stop.is_cancelled() {
            thread::park_timeout(STOP_CHECK_INTERVAL);
        }
        let is_timed_out = once && started_at.elapsed() > limits::ONCE_STORAGE_TIMEOUT;
        !(stop.is_cancelled() || is_timed_out)
    }
}
