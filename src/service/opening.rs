//! Opens the pipelines concurrently, so that unresponsive directories delay only their own pipeline.

use std::{error::Error, path::Path, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    blocking::blocking,
    bootstrap::create_pipeline_directories,
    error::{ServiceError, chain, ledger_failure},
    probe,
    storage_wait::log_wait,
    tasks::wait_until_excluded,
};
use crate::{
    config::{self, Config, Pipeline},
    exec,
    fs::{self, SandboxScope},
    ledger::{self, Ledger},
    limits,
    observe::{Observer, Pause, PauseReason, PipelineMeter, Tracer, display_path},
    patience,
    pipeline::{
        context::{Context, ContextParts},
        in_commit::InCommitTables,
        intake::discover,
        operator_pause::OperatorPause,
        own_paths::OwnPaths,
    },
    protocol::SharedOutcomeLog,
    sink::{self, SinkOptions},
    transforms::ProgramRunner,
};

pub type Failure = Box<dyn Error + Send + Sync>;
/// A pipeline's name, and its context or the failure to open it.
pub type Opened = (Arc<str>, Result<Arc<Context>, Failure>);

/// Dependencies of every pipeline context.
#[derive(Clone, Debug)]
pub struct PipelineOpener {
    pub ledger: Arc<dyn Ledger>,
    pub events: SharedOutcomeLog,
    pub tracer: Tracer,
    pub observer: Arc<Observer>,
    pub own: Arc<OwnPaths>,
    pub in_commit: InCommitTables,
    /// Runs the programs of `exec`, if any is configured.
    pub programs: Option<Arc<exec::Client>>,
    /// Directories of the sandbox, if one is in force.
    pub scope: Option<Arc<SandboxScope>>,
}

/// The pipelines whose directories have not responded. Dropping it abandons them; hanging threads
/// stay until the process exits.
pub struct PendingPipelines {
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    /// The meter of each, and the error that it waits to end, if it has one.
    meters: Vec<(Arc<str>, Arc<PipelineMeter>, Option<String>)>,
}

/// The pipelines that wait for a directory to be writable, each with its first error.
type Refusals = watch::Sender<Vec<(Arc<str>, ServiceError)>>;

impl std::fmt::Debug for PendingPipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingPipelines")
            .field("opening", &self.opening.len())
            .finish_non_exhaustive()
    }
}

impl PipelineOpener {
    /// Probes and opens one pipeline's directories. Blocks.
    pub fn open_pipeline(
        &self,
        index: usize,
        pipeline: &Pipeline,
        config: &Config,
    ) -> Result<Arc<Context>, Failure> {
        let Self { ledger, events, tracer, observer, own, in_commit, programs, scope: _ } = self;
        // The ledger identifies a pipeline by its real paths, which an unresponsive directory hides.
        for path in pipeline.directories() {
            let real = config::real_path(path);
            if path != real {
                return Err(ServiceError::RestartRequired(format!(
                    "{} did not respond when the configuration was loaded, and its real path is {}; hint: restart the service",
                    display_path(path),
                    display_path(&real)
                ))
                .into());
            }
        }
        // Directories that did not respond before the sandbox was entered do not exist yet.
        create_pipeline_directories(pipeline, &config.state_dir)?;
        // A probe that hangs or is killed leaves its temporary file.
        let work = ledger.session().begin_work();
        let probed = probe::pipeline(pipeline, &fs::NodeId::new(ledger.instance()));
        work.end();
        probed?;
        let id = ledger.register_pipeline(&pipeline.name, &pipeline.input, &pipeline.output)?;
        let meter = observer.meter_of(&pipeline.name);
        if let Some(client) = programs {
            let (client, meter) = (Arc::clone(client), Arc::clone(&meter));
            let runner: Arc<dyn ProgramRunner> = Arc::new(exec::PipelineRunner { client, meter });
            pipeline.transforms.connect(&runner);
        }
        let sink = sink::open(SinkOptions {
            pipeline: Arc::clone(&pipeline.name),
            path: pipeline.output.clone(),
            instance: fs::NodeId::new(ledger.instance()),
            durability: pipeline.keys.durability,
            verify: pipeline.keys.verify,
            min_free: pipeline.keys.min_free,
            meter: Some(Arc::clone(&meter)),
        });
        let sink = sink.map_err(|error| {
            format!("cannot open the output {}: {error}", display_path(&pipeline.output))
        })?;
        let parts = ContextParts {
            id,
            ledger: Arc::clone(ledger),
            sink,
            meter,
            tracer: tracer.clone(),
            events: Arc::clone(events),
            own_paths: Arc::clone(own),
            in_commit: in_commit.of(id),
            successions: discover::successions(pipeline, ledger),
        };
        Ok(Arc::new(Context::new(index, pipeline.clone(), parts)))
    }

    /// Waits until the file systems of the directories respond, then opens the pipeline. Where others
    /// may run, it also waits until they are writable, and adds itself to `refusals` meanwhile.
    async fn open_when_available(
        self,
        index: usize,
        pipeline: Pipeline,
        (config, refusals): (Arc<Config>, Refusals),
    ) -> Result<Arc<Context>, Failure> {
        let is_only = config.pipelines.len() == 1;
        let name = Arc::clone(&pipeline.name);
        let meter = self.observer.meter_of(&name);
        let (this, pipeline) = (Arc::new(self), Arc::new(pipeline));
        loop {
            let (this, pipeline) = (Arc::clone(&this), Arc::clone(&pipeline));
            let config = Arc::clone(&config);
            let opened = blocking(move || {
                let is_available = pipeline.directories().into_iter().all(patience::is_available);
                is_available.then(|| this.open_pipeline(index, &pipeline, &config)).transpose()
            });
            match opened.await {
                Ok(Some(opened)) => {
                    meter.paused(Pause::Input, None);
                    return Ok(opened);
                }
                Ok(None) => {}
                Err(error) => match (temporary(&*error), error.downcast::<ServiceError>()) {
                    (Some(error), _) => {
                        log_wait(&error);
                        let reason = error.to_string();
                        meter.paused(Pause::Input, Some(&reason));
                    }
                    (None, Ok(error)) if !is_only && error.may_end_later() => {
                        note_refusal(&refusals, &name, *error);
                    }
                    (None, Ok(error)) => return Err(error),
                    (None, Err(error)) => return Err(error),
                },
            }
            sleep(limits::POLL_INTERVAL).await;
        }
    }

    /// Returns the sandbox if it lacks an unresponsive directory of this pipeline.
    fn excluding_sandbox(&self, pipeline: &Pipeline) -> Option<Arc<SandboxScope>> {
        let is_excluded = |scope: &Arc<SandboxScope>| {
            pipeline.directories().into_iter().any(|path| scope.was_silent(path))
        };
        self.scope.clone().filter(is_excluded)
    }

    /// Opens all pipelines and returns those that respond in time, and the pending rest.
    ///
    /// # Errors
    ///
    /// A directory cannot do what the configuration needs, the ledger failed, or no pipeline has a
    /// writable output.
    pub async fn open_all(
        &self,
        config: &Arc<Config>,
    ) -> Result<(Vec<Arc<Context>>, PendingPipelines), Failure> {
        let patience =
            if config.once { limits::ONCE_STORAGE_TIMEOUT } else { limits::START_TIMEOUT };
        let (refusals, mut refused) = watch::channel(Vec::new());
        let open = |(index, pipeline): (usize, &Pipeline)| {
            let (this, config, name) =
                (self.clone(), Arc::clone(config), Arc::clone(&pipeline.name));
            let pipeline = pipeline.clone();
            if let Some(scope) = self.excluding_sandbox(&pipeline) {
                let paths =
                    move || pipeline.directories().into_iter().map(Path::to_path_buf).collect();
                return async move { (name, Err(wait_until_excluded(&scope, paths).await.into())) }
                    .boxed();
            }
            // A task starts now, and not at the first poll. It ends with its handle.
            let shared = (config, refusals.clone());
            let opened = tokio::spawn(this.open_when_available(index, pipeline, shared));
            let opened = AbortOnDropHandle::new(opened);
            async move {
                let opened = opened.await.unwrap_or_else(|error| Err(error.into()));
                (name, opened)
            }
            .boxed()
        };
        let mut opening: FuturesUnordered<_> =
            config.pipelines.iter().enumerate().map(open).collect();
        let mut contexts: Vec<Arc<Context>> = Vec::with_capacity(opening.len());
        let mut patience = std::pin::pin!(sleep(patience));
        loop {
            let waiting = opening.len();
            tokio::select! {
                biased;
                opened = opening.next() => match opened {
                    Some((_, opened)) => contexts.push(opened?),
                    None => break,
                },
                true = async { refused.wait_for(|those| those.len() == waiting).await.is_ok() } => break,
                () = &mut patience => break,
            }
        }
        let refused = refused.borrow().clone();
        if contexts.is_empty()
            && refused.len() == config.pipelines.len()
            && let Some((_, error)) = refused.first()
        {
            return Err(Box::new(error.clone()));
        }
        contexts.sort_by_key(|context| context.index);
        let is_pending =
            |pipeline: &&Pipeline| !contexts.iter().any(|context| *context.name() == pipeline.name);
        let pending = config.pipelines.iter().filter(is_pending);
        let meter = |pipeline: &Pipeline| {
            let name = &pipeline.name;
            let error = refused.iter().find(|(refused, _)| refused == name);
            let error = error.map(|(_, error)| error.to_string());
            (Arc::clone(name), self.observer.meter_of(name), error)
        };
        let meters = pending.map(meter).collect();
        Ok((contexts, PendingPipelines { opening, meters }))
    }
}

impl PendingPipelines {
    /// Logs each pending pipeline, shows it as paused, and returns the operator's pauses of them.
    pub fn announce(&self) -> Vec<OperatorPause> {
        let announce = |(name, meter, error): &(Arc<str>, Arc<PipelineMeter>, Option<String>)| {
            // What it waits for otherwise is shown already.
            let shown =
                meter.status().pause(PauseReason::Storage).and_then(|pause| pause.detail.clone());
            let reason = error.as_deref().or(shown.as_deref());
            let reason = reason.unwrap_or("its directories do not respond");
            tracing::warn!(event = "pipeline.waiting", pipeline = %name, reason, "waiting for the directories of a pipeline");
            meter.paused(Pause::Input, Some(reason));
            OperatorPause::new(name, Arc::clone(meter))
        };
        self.meters.iter().map(announce).collect()
    }

    /// Returns the next pipeline that opened or failed, or `None` if none is pending. Cancel-safe.
    pub async fn next(&mut self) -> Option<Opened> {
        let mut heartbeat = interval(limits::HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                opened = self.opening.next() => return opened,
                // A pending pipeline has no intake that reports a heartbeat.
                _ = heartbeat.tick() => for (_, meter, _) in &self.meters { meter.beat() },
            }
        }
    }
}

/// Returns what to wait for where the ledger cannot write a pipeline's row for now.
fn temporary(error: &(dyn Error + Send + Sync + 'static)) -> Option<ServiceError> {
    let failure = ledger_failure(error.downcast_ref::<ledger::Error>()?);
    Some(failure(chain(error))).filter(ServiceError::is_temporary)
}

/// Adds a pipeline that waits, with its first error.
fn note_refusal(refusals: &Refusals, name: &Arc<str>, error: ServiceError) {
    refusals.send_if_modified(|refused| {
        let is_new = !refused.iter().any(|(refused, _)| refused == name);
        if is_new {
            refused.push((Arc::clone(name), error));
        }
        is_new
    });
}
