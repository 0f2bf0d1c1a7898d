//! The task that removes expired files and old records: once the service has run for a minute, then each
//! hour. Its first round only logs what the second one will remove.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidemill_lifecycle::Lifecycle;
use tokio::time::sleep;

use super::{
    blocking::blocking,
    error::{LIMIT, chain},
    live_config::LiveConfig,
};
use crate::{
    config::{Config, Pipeline, Retention},
    failpoint,
    ledger::{ErrorKind, Ledger, PipelineId, RecordId},
    limits,
    observe::{self, Observer, units::size},
    patience,
    pipeline::Control,
    policy::OnSuccess,
    protocol::outcome::now_ns,
    queries::{
        config_of,
        retention::{Area, Error, Found, History, Removed, Scope, remove},
    },
    source::Targets,
};

/// The rounds of a retention, and what one passes to the next.
struct Rounds {
    rules: Retention,
    ledger: Arc<dyn Ledger>,
    observer: Arc<Observer>,
    control: Control,
    targets: Arc<Targets>,
    is_stopped: Arc<AtomicBool>,
    /// Whether a round has logged what is to be removed.
    is_announced: bool,
    /// The record after which the next round searches the history.
    after: RecordId,
}

/// Starts the task, if a retention is configured and the service goes on.
pub fn spawn(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    ledger: &Arc<dyn Ledger>,
    observer: &Arc<Observer>,
    control: &Control,
) {
    let config = live_config.now();
    let rules = config.retention;
    let Retention { archive, archive_size, quarantine, history } = rules;
    let has_age = [archive, quarantine, history].iter().any(Option::is_some);
    if config.once || !has_age && archive_size.is_none() {
        return;
    }
    for pipeline in &config.pipelines {
        let meter = observer.meter_of(&pipeline.name);
        for area in Area::ALL {
            meter.expired(area.as_str(), 0, 0);
        }
    }
    observe::expired_records(0);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let mut rounds = Rounds {
        rules,
        ledger: Arc::clone(ledger),
        observer: Arc::clone(observer),
        control: control.clone(),
        targets: Arc::default(),
        is_stopped: Arc::clone(&is_stopped),
        is_announced: false,
        after: 0,
    };
    let live_config = live_config.clone();
    life.spawn("retention", LIMIT, |stop| async move {
        let mut wait = limits::RETENTION_DELAY;
        loop {
            tokio::select! {
                () = stop.stopped() => break,
                () = sleep(interval(wait)) => {}
            }
            wait = limits::RETENTION_INTERVAL;
            let config = live_config.now();
            let round = blocking(move || {
                rounds.run(&config);
                rounds
            });
            tokio::select! {
                // Its thread notices the stop before the next file.
                () = stop.stopped() => break,
                ended = round => rounds = ended,
            }
        }
        is_stopped.store(true, Ordering::Release);
        Ok::<_, Infallible>(())
    });
}

fn interval(wait: Duration) -> Duration {
    const OF_TESTS: Duration = Duration::from_millis(50);
    if failpoint::is_skipped("gate::retention_interval") { OF_TESTS } else { wait }
}

impl Rounds {
    fn run(&mut self, config: &Config) {
        let removes = std::mem::replace(&mut self.is_announced, true);
        let known = match self.ledger.pipelines() {
            Ok(known) => known,
            Err(error) => return self.report_history(error.into()),
        };
        let id_of = |pipeline: &Pipeline| {
            let is_it = |roots: &&_| config_of(std::slice::from_ref(pipeline), roots).is_some();
            known.iter().find(is_it).map(|roots| roots.id)
        };
        // The lowest numbers of the records of archived files; none of a pipeline that was not searched.
        let mut searched = HashMap::new();
        for pipeline in &config.pipelines {
            let Some(id) = id_of(pipeline) else { continue };
            let mut is_complete = true;
            for area in Area::ALL {
                match self.run_area(pipeline, id, *area, removes) {
                    Ok(Some(oldest)) if *area == Area::Archive => {
                        searched.insert(id, Some(oldest));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        is_complete &= *area != Area::Archive;
                        self.report(error, pipeline, area.as_str());
                    }
                }
                if self.is_stopped() {
                    return;
                }
            }
            if is_complete {
                searched.entry(id).or_insert(None);
            }
        }
        let pipelines: Vec<_> = config
            .pipelines
            .iter()
            .filter_map(|pipeline| {
                let id = id_of(pipeline)?;
                Some((pipeline, id, *searched.get(&id)?))
            })
            .collect();
        self.run_history(&pipelines, removes);
    }

    /// Removes the expired files of one area, or logs them. Returns the lowest number of a record whose file
    /// was found, or `None` for an area without a retention.
    fn run_area(
        &self,
        pipeline: &Pipeline,
        id: PipelineId,
        area: Area,
        removes: bool,
    ) -> Result<Option<RecordId>, Error> {
        let root = match (area, &pipeline.on_success) {
            (Area::Quarantine, _) => &pipeline.quarantine,
            (Area::Archive, OnSuccess::Archive(archive)) => archive,
            (Area::Archive, OnSuccess::Keep | OnSuccess::Delete) => return Ok(None),
        };
        let scope = Scope {
            config: pipeline,
            rules: self.rules,
            ledger: &*self.ledger,
            id,
            now_ns: now_ns(),
            targets: &self.targets,
            is_stopped: &|| self.is_stopped(),
        };
        if !patience::responds(root) {
            return Err(crate::source::SourceError {
                path: root.clone(),
                source: std::io::ErrorKind::TimedOut.into(),
            }
            .into());
        }
        let Some(mut found) = scope.find(area)? else { return Ok(None) };
        if let Some(error) = found.error.take() {
            self.report(error.into(), pipeline, area.as_str());
        }
        if removes {
            let removed = remove(&scope, &found)?;
            self.log_removed(pipeline, &found, removed);
        } else if !found.expired.is_empty() {
            tracing::info!(
                event = "retention.announced",
                pipeline = %pipeline.name,
                kind = found.area.as_str(),
                files = found.expired.len(),
                size = size(found.bytes()),
                has_more = found.has_more,
                "expired files found, next round removes them"
            );
        }
        Ok(Some(found.oldest))
    }

    fn log_removed(&self, pipeline: &Pipeline, found: &Found, removed: Removed) {
        let Removed { files, bytes, changed, failed, error } = removed;
        self.observer.meter_of(&pipeline.name).expired(found.area.as_str(), files, bytes);
        if let Some(error) = error {
            self.report(error.into(), pipeline, found.area.as_str());
        }
        if files + changed + failed > 0 {
            tracing::info!(
                event = "retention.removed",
                pipeline = %pipeline.name,
                kind = found.area.as_str(),
                files,
                size = size(bytes),
                changed,
                failed,
                has_more = found.has_more,
                "expired files removed"
            );
        }
    }

    /// Examines old records from where the last round ended, and removes those that nothing needs, or counts
    /// them.
    fn run_history(
        &mut self,
        pipelines: &[(&Pipeline, PipelineId, Option<RecordId>)],
        removes: bool,
    ) {
        let Some(age) = self.rules.history else { return };
        let ledger = Arc::clone(&self.ledger);
        let mut history = History::new(&*ledger, now_ns(), age);
        for (pipeline, id, oldest_archived) in pipelines {
            let directories = [&pipeline.input, &pipeline.output];
            if !directories.into_iter().all(|directory| patience::responds(directory)) {
                continue;
            }
            match history.add((pipeline, *id), *oldest_archived) {
                Ok(true) => {}
                Ok(false) => tracing::info!(
                    event = "retention.skipped",
                    pipeline = %pipeline.name,
                    "directories may not be mounted, history left as is"
                ),
                Err(error) => self.report(error, pipeline, "history"),
            }
        }
        let records = match self.examine(&history, removes) {
            Ok(records) => records,
            Err(error) => return self.report_history(error),
        };
        if removes {
            observe::expired_records(records);
        }
        if records > 0 && removes {
            tracing::info!(event = "retention.history_removed", records, "old records removed");
        } else if records > 0 {
            tracing::info!(
                event = "retention.history_announced",
                records,
                "old records found, next round removes them"
            );
        }
    }

    fn examine(&mut self, history: &History<'_>, removes: bool) -> Result<u64, Error> {
        let (mut count, mut found) = (0, 0);
        // The announcement counts from the beginning, and so does the round after it.
        let mut after = if removes { self.after } else { 0 };
        while count < limits::HISTORY_RECORDS_MAX && !self.is_stopped() {
            let examined = history.examine(after)?;
            count += examined.count;
            found += if removes && !examined.removable.is_empty() {
                let removed = self.ledger.remove_records(&examined.removable)?;
                failpoint::pass("retention::history");
                removed
            } else {
                examined.removable.len() as u64
            };
            after = examined.last.unwrap_or(0);
            if examined.last.is_none() {
                break;
            }
        }
        if removes {
            self.after = after;
        }
        Ok(found)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// A ledger whose durability is unknown ends the service.
    fn report_history(&self, error: Error) {
        match error {
            Error::Ledger(source) if source.kind == ErrorKind::Failed => {
                self.control.storage_failed(source);
            }
            Error::Stopped => {}
            error => tracing::warn!(
                event = "retention.failed",
                kind = "history",
                error = chain(&error),
                "retention failed, next round tries again"
            ),
        }
    }

    fn report(&self, error: Error, pipeline: &Pipeline, kind: &str) {
        match error {
            Error::Ledger(_) | Error::Stopped => self.report_history(error),
            Error::Source(error) => tracing::warn!(
                event = "retention.failed",
                pipeline = %pipeline.name,
                kind,
                error = chain(&error),
                "retention failed, next round tries again"
            ),
        }
    }
}
