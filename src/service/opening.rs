//! Opens the pipelines concurrently, so that unresponsive directories delay only their own pipeline.

use std::{error::Error, path::Path, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{interval, sleep};

use super::{
    bootstrap::create_pipeline_directories,
    error::{ServiceError, blocking},
    probe,
    tasks::wait_until_excluded,
};
use crate::{
    config::{self, Config, Pipeline},
    fs::{self, SandboxScope},
    ledger::{Ledger, sqlite::Sqlite},
    limits,
    observe::{Observer, Pause, PipelineMeter, Tracer, display_path},
    patience,
    pipeline::{
        context::{Context, ContextParts},
        own_paths::OwnPaths,
    },
    protocol::SharedEvents,
};

pub type Failure = Box<dyn Error + Send + Sync>;
/// A pipeline's name, and its context or the failure to open it.
pub type Opened = (Arc<str>, Result<Arc<Context>, Failure>);

/// Dependencies of every pipeline context.
#[derive(Clone, Debug)]
pub struct PipelineOpener {
    pub ledger: Arc<Sqlite>,
    pub events: SharedEvents,
    pub tracer: Tracer,
    pub observer: Arc<Observer>,
    pub own: Arc<OwnPaths>,
    /// Directories of the sandbox, if one is in force.
    pub scope: Option<Arc<SandboxScope>>,
}

/// The pipelines whose directories have not responded. Dropping it abandons them; hanging threads
/// stay until the process exits.
pub struct PendingPipelines {
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    meters: Vec<(Arc<str>, Arc<PipelineMeter>)>,
}

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
        let Self { ledger, events, tracer, observer, own, scope: _ } = self;
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
        probe::pipeline(pipeline, &fs::NodeId::new(ledger.instance()))?;
        let parts = ContextParts {
            id: ledger.pipeline(&pipeline.name, &pipeline.input, &pipeline.output)?,
            ledger: Arc::clone(ledger) as Arc<dyn Ledger>,
            meter: observer.meter_of(&pipeline.name),
            tracer: tracer.clone(),
            events: Arc::clone(events),
            own_paths: Arc::clone(own),
        };
        Context::open(index, pipeline.clone(), parts).map(Arc::new).map_err(|error| {
            format!("cannot open the output {}: {error}", display_path(&pipeline.output)).into()
        })
    }

    /// Waits until the file systems of the directories respond, then opens the pipeline.
    async fn open_when_available(
        self,
        index: usize,
        pipeline: Pipeline,
        config: Arc<Config>,
    ) -> Result<Arc<Context>, Failure> {
        let (this, pipeline) = (Arc::new(self), Arc::new(pipeline));
        loop {
            let (this, pipeline) = (Arc::clone(&this), Arc::clone(&pipeline));
            let config = Arc::clone(&config);
            let opened = blocking(move || {
                let is_available = pipeline.directories().into_iter().all(patience::is_available);
                is_available.then(|| this.open_pipeline(index, &pipeline, &config)).transpose()
            });
            if let Some(opened) = opened.await? {
                return Ok(opened);
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
    /// A directory cannot do what the configuration needs, or the ledger failed.
    pub async fn open_all(
        &self,
        config: &Arc<Config>,
    ) -> Result<(Vec<Arc<Context>>, PendingPipelines), Failure> {
        let patience =
            if config.once { limits::ONCE_STORAGE_TIMEOUT } else { limits::START_TIMEOUT };
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
            // A task starts now, and not at the first poll.
            let opened = tokio::spawn(this.open_when_available(index, pipeline, config));
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
            tokio::select! {
                biased;
                opened = opening.next() => match opened {
                    Some((_, opened)) => contexts.push(opened?),
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        contexts.sort_by_key(|context| context.index);
        let is_pending =
            |pipeline: &&Pipeline| !contexts.iter().any(|context| *context.name() == pipeline.name);
        let pending = config.pipelines.iter().filter(is_pending);
        let meter = |pipeline: &Pipeline| {
            (Arc::clone(&pipeline.name), self.observer.meter_of(&pipeline.name))
        };
        let meters = pending.map(meter).collect();
        Ok((contexts, PendingPipelines { opening, meters }))
    }
}

impl PendingPipelines {
    /// Logs each pending pipeline, shows it as paused, and returns the names.
    pub fn announce(&self) -> Vec<Arc<str>> {
        let announce = |(name, meter): &(Arc<str>, Arc<PipelineMeter>)| {
            let reason = "its directories do not respond";
            tracing::warn!(event = "pipeline.waiting", pipeline = %name, "waiting for the directories of a pipeline");
            meter.paused(Pause::Input, Some(reason));
            Arc::clone(name)
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
                _ = heartbeat.tick() => for (_, meter) in &self.meters { meter.beat() },
            }
        }
    }
}
